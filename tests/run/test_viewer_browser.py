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


def _opened(tmp_path, text, width=1280):
    file = tmp_path / "page.html"
    file.write_text(text, encoding="utf-8")
    return Page(open_page(BROWSER, file, width))


@needs_browser
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_game_is_drawn_and_what_players_wrote_stays_text(tmp_path, attack):
    line = {"name": attack, "x": [1, 2], "y": [0.1, 0.9], "mean": None, "low": None, "high": None, "band": attack}
    rate = {"name": attack, "mean": 0.5, "low": 0.4, "high": 0.6}
    curves = {
        "sections": [{"title": attack, "charts": [{"title": attack, "reference": 0.5, "lines": [line]}]}],
        "matches": [{"game": attack, "title": attack, "games": 2, "rates": [rate]}],
    }
    page = _opened(tmp_path, render([_game(attack), _game()], attack, curves))
    plain = _opened(tmp_path, render([_game("a"), _game()], "a", curves))
    assert Counter(tag for tag, _ in page.elements) == Counter(tag for tag, _ in plain.elements)
    listed = [attributes for _, attributes in page.elements if "data-index" in attributes]
    assert [attributes["aria-current"] for attributes in listed] == ["true", "false"]
    drawn = [attributes["id"] for tag, attributes in page.elements if tag == "details"]
    assert drawn == ["chooser", "item-1"]
    assert page.elements[0][1]["data-drawn"]  # the script ran to its end
    [(_, title)] = page.blocks("h1")
    assert title == attack
