"""The replay page in a real browser, where a Chromium is installed."""

import shutil
from collections import Counter

import pytest

from maro_jax.run.replay_html import render
from tests.benchmarks.viewer import open_page
from tests.run.replay_pages import Page
from tests.run.test_replay_html import ATTACKS, _game

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed to open the page in")


def _opened(tmp_path, text):
    file = tmp_path / "page.html"
    file.write_text(text, encoding="utf-8")
    return Page(open_page(BROWSER, file, 1280, "#curves"))


def _written(*texts):
    """A page on which players, labels and metrics wrote each of these texts, as many of them as there are attacks."""
    game = _game(texts[0]) | {"items": [item for text in texts for item in _game(text)["items"]]}
    sections = []
    for text in texts:
        line = {"name": text, "x": [1, 2], "y": [0.1, 0.9], "mean": None, "low": None, "high": None, "band": text}
        sections.append({"title": text, "charts": [{"title": text, "reference": 0.5, "lines": [line]}]})
    rate = {"name": texts[0], "mean": 0.5, "low": 0.4, "high": 0.6}
    matches = [{"game": texts[0], "title": text, "games": 2, "rates": [rate]} for text in texts]
    return render([game, _game()], texts[0], {"sections": sections, "matches": matches})


@needs_browser
def test_a_game_is_drawn_and_what_players_wrote_stays_text(tmp_path):
    page = _opened(tmp_path, _written(*ATTACKS))
    plain = _opened(tmp_path, _written(*(f"text {number}" for number in range(len(ATTACKS)))))
    assert Counter(tag for tag, _ in page.elements) == Counter(tag for tag, _ in plain.elements)
    listed = [attributes for _, attributes in page.elements if "data-index" in attributes]
    assert [attributes["aria-current"] for attributes in listed] == ["true", "false"]
    drawn = [attributes["id"] for tag, attributes in page.elements if tag == "details"]
    assert drawn == ["chooser", *(f"item-{2 * number + 1}" for number in range(len(ATTACKS)))]
    assert len(page.blocks("figure")) == len(ATTACKS)
    assert page.elements[0][1]["data-drawn"]  # the script ran to its end
    [(_, title)] = page.blocks("h1")
    assert title == ATTACKS[0]
