"""The replay page as its script draws it: in Node, and in a real browser where a Chromium is installed."""

import shutil
from collections import Counter

import pytest

from maro_jax.run.replay_html import render
from tests.benchmarks.viewer import open_page
from tests.run.node_page import NODE, drawn
from tests.run.replay_pages import Page, made_up_games
from tests.run.test_replay_html import ATTACKS, _game

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_node = pytest.mark.skipif(NODE is None, reason="Node is not installed to draw the page in")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed to open the page in")


def _in_a_browser(tmp_path, text):
    file = tmp_path / "page.html"
    file.write_text(text, encoding="utf-8")
    return Page(open_page(BROWSER, file, 1280, "#curves"))


def _in_node(tmp_path, text):
    return Page(drawn(text, "#curves"))


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


@pytest.mark.parametrize(
    "opened", [pytest.param(_in_node, marks=needs_node), pytest.param(_in_a_browser, marks=needs_browser)]
)
def test_a_game_is_drawn_and_what_players_wrote_stays_text(tmp_path, opened):
    page = opened(tmp_path, _written(*ATTACKS))
    plain = opened(tmp_path, _written(*(f"text {number}" for number in range(len(ATTACKS)))))
    assert Counter(tag for tag, _ in page.elements) == Counter(tag for tag, _ in plain.elements)
    listed = [attributes for _, attributes in page.elements if "data-index" in attributes]
    assert [attributes["aria-current"] for attributes in listed] == ["true", "false"]
    drawn = [attributes["id"] for tag, attributes in page.elements if tag == "details"]
    assert drawn == ["chooser", *(f"item-{2 * number + 1}" for number in range(len(ATTACKS)))]
    assert len(page.blocks("figure")) == len(ATTACKS)
    assert page.elements[0][1]["data-drawn"]  # the script ran to its end
    [(_, title)] = page.blocks("h1")
    assert title == ATTACKS[0]


@needs_node
@needs_browser
def test_node_draws_what_a_browser_draws(tmp_path):
    text = _written(*ATTACKS)
    pages = [opened(tmp_path, text) for opened in (_in_node, _in_a_browser)]
    for page in pages:
        page.elements[0] = page.elements[0][0], {}  # tells how long drawing took
        page.texts = {place: text for place, text in page.texts.items() if text.strip()}
    assert pages[0].elements == pages[1].elements and pages[0].texts == pages[1].texts


def _box(game, then):
    """The box of numbers after something was done on the page of a game, as (name, text) of each figure, and labels."""
    page = Page(drawn(render([game], "run"), then=then))
    start = next(place for place, (_, attributes) in enumerate(page.elements) if attributes.get("id") == "tip")
    hidden = "hidden" in page.elements[start][1]
    texts = [(tag, attributes.get("class"), page.texts.get(place, ""))
             for place, (tag, attributes) in enumerate(page.elements) if place > start]  # fmt: skip
    names, figures = ([text for tag, _, text in texts if tag == kind] for kind in ("dt", "dd"))
    return hidden, dict(zip(names, figures, strict=True)), [text for _, kind, text in texts if kind == "label"]


@needs_node
def test_pointing_at_a_decision_shows_its_numbers():
    games = [game for game in made_up_games(8, days=2, seed=3) if any(each.get("weight") for each in game["items"])]
    game = games[0]
    place, item = next(
        (place, each) for place, each in enumerate(game["items"]) if each.get("weight") and not each["speech"]
    )
    cell = f'[...document.querySelectorAll(".rows button")].find((node) => node.dataset.place === "{place}")'
    point = f'{cell}.tell("pointerenter", {{ pointerType: "mouse" }});'
    hidden, figures, labels = _box(game, point)
    assert not hidden
    signed = {"utility": item["weight"] * item["sign"], "advantage": item["advantage"], "return": item["return"]}
    for name, value in ({"weight": item["weight"], "log-prob": item["log_prob"]} | signed).items():
        shown = figures[name].replace("\N{MINUS SIGN}", "-")
        assert float(shown) == pytest.approx(value, abs=6e-4) and (shown[0] == "+") == (name in signed and value > 5e-4)
    assert [label for label in labels if label.startswith("✓")] == [f"✓ {item['action']}"]
    assert [label.removeprefix("✓ ") for label in labels] == item["legal"]  # fewer than are shown at most
    assert _box(game, point + f'{cell}.tell("pointerleave");')[0]
    assert _box(game, point.replace("mouse", "touch"))[0]
    assert _box(game, f"{cell}.focus();") == (False, figures, labels)


@needs_node
def test_filters_and_views_draw_what_they_promise():
    games = made_up_games(6, days=2)
    text = render(games, "run")
    chosen = 'byId("filter-role").value = "seer"; byId("filter-outcome").value = "seat:won";'
    choose = f'{chosen} byId("filter-role").tell("input");'
    listed = [attributes for _, attributes in Page(drawn(text, then=choose)).elements if "data-index" in attributes]
    wanted = [game for game in games if any(seat["role"] == "seer" and seat["outcome"] > 0 for seat in game["seats"])]
    assert 0 < len(listed) == len(wanted) < len(games)
    public = 'byId("view").value = "public"; byId("view").tell("change");'
    page = Page(drawn(text, "#game-0", public))
    lanes = {attributes.get("data-channel") for _, attributes in page.elements} - {None}
    assert lanes == {"public"} < {a.get("data-channel") for _, a in Page(drawn(text, "#game-0")).elements}
