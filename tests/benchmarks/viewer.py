"""How fast a page of 500 games opens: `python -m tests.benchmarks.viewer --browser=/usr/bin/chromium`.

Made-up games with free speech are written as one page, which a headless Chromium opens from disk, each time with an
empty profile. The page itself notes when its first game stood on the screen, in ms since the navigation began.
"""

import argparse
import html.parser
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from maro_jax.run.replay_html import render
from tests.run.replay_pages import made_up_games

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom",
)  # fmt: skip
MOST_TRIES = 5


class _Opened(html.parser.HTMLParser):
    """Reads what the page noted on its root element, and counts the games listed and the decisions drawn."""

    def __init__(self, text: str):
        super().__init__()
        self.milliseconds: float | None = None
        self.entries = self.decisions = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "html" and (noted := attributes.get("data-opened")):
            self.milliseconds = float(noted)
        self.entries += "data-index" in attributes
        self.decisions += (attributes.get("id") or "").startswith("item-")


def open_page(browser: str, page: Path, width: int, place: str = "") -> str:
    """Opens a page in a fresh browser; returns its elements as they are when its script has run, as HTML."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *FLAGS, f"--window-size={width},900", f"--user-data-dir={profile}"]
        command.append(page.resolve().as_uri() + place)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def _opening_time(browser: str, page: Path, width: int, games: int) -> float:
    """Milliseconds until the first game stood on the screen."""
    for _ in range(MOST_TRIES):
        opened = _Opened(open_page(browser, page, width))
        if opened.entries != games or not opened.decisions:
            raise SystemExit(f"the page drew {opened.entries} of {games} games; open it in a window and look")
        if opened.milliseconds is not None:  # else the browser was done before it had painted
            return opened.milliseconds
    raise SystemExit(f"{browser} painted nothing in {MOST_TRIES} tries")


def measure(browser: str, games: int, repeats: int) -> dict[str, Any]:
    """Writes a page of `games` games and opens it `repeats` times at two widths."""
    made = made_up_games(games)
    begun = time.perf_counter()
    text = render(made, f"{games} made-up games")
    figures: dict[str, Any] = {"games": games, "seconds_to_write": time.perf_counter() - begun}
    figures["decisions"] = sum(item["type"] == "behaviour" for game in made for item in game["items"])
    figures["page_bytes"], figures["bytes_a_game"] = len(text), len(text) / games
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "games.html")
        page.write_text(text, encoding="utf-8")
        for name, width in (("wide", 1280), ("phone", 375)):
            times = [_opening_time(browser, page, width, games) for _ in range(repeats)]
            figures[f"{name}_ms"], figures[f"{name}_ms_median"] = times, statistics.median(times)
    return figures


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--browser", default=shutil.which("chromium") or "chromium", help="a Chromium")
    parser.add_argument("--games", type=int, default=500, help="games of the page")
    parser.add_argument("--repeats", type=int, default=5, help="times it is opened at each width")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if shutil.which(options.browser) is None:
        parser.error(f"--browser={options.browser} is not a program, for example --browser=/usr/bin/chromium")
    figures = measure(options.browser, options.games, options.repeats)
    print(
        f"{figures['games']} games, {figures['decisions']:,} decisions: {figures['page_bytes'] / 1e6:.1f} MB, "
        f"{figures['bytes_a_game']:,.0f} bytes a game, written in {figures['seconds_to_write']:.1f} s"
    )
    for name in ("wide", "phone"):
        times = figures[f"{name}_ms"]
        print(
            f"first game drawn, {name:<5} {figures[f'{name}_ms_median']:6.0f} ms ({min(times):.0f} to {max(times):.0f})"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
