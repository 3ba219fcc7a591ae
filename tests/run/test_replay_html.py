"""The replay page: self-contained, and deaf to what models write."""

import base64
import hashlib
import math
import re

import pytest

from maro_jax.run.replay_html import render
from tests.run.replay_pages import Page, assert_same, embedded, games_in, made_up_games

ATTACKS = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- <script>",
    "]]>&lt;&amp;\u2028\u2029\x00\x1b[31m",
    "{{data}} {{script}} {{nothing}}",
    "\\u003c/script\\u003e \\1 \\g<0>",
]


def _game(text: str = "hello", weight: float | None = 0.5) -> dict:
    seats = [
        {"name": "Player 1", "role": text, "side": "village", "holder": "learner", "outcome": 1.0},
        {"name": text, "role": "wolf", "side": "wolves", "holder": "opponent", "outcome": -1.0},
    ]
    event = {"type": "event", "kind": "day", "text": text, "channel": "public", "actor": None, "audience": [0, 1]}
    behaviour = {
        "type": "behaviour", "seat": 0, "role": "seer", "phase": "vote", "thought": text,
        "speech": text, "action": text, "legal": [text, " pass"], "log_prob": -0.5, "action_log_prob": -0.25,
        "return": 1.0, "advantage": 0.5, "weight": weight, "sign": 1, "holder": "learner",
    }  # fmt: skip
    return {
        "game": text, "iteration": 1, "episode": 2, "seed": 3, "seats": seats, "terminated": True,
        "truncated": False, "winner": "village", "items": [event, behaviour],
    }  # fmt: skip


def test_data_survives_and_no_text_becomes_markup():
    games = [_game(attack) for attack in ATTACKS]
    hostile = Page(render(games, "title " + ATTACKS[0]))
    harmless = Page(render([_game() for _ in ATTACKS], "title"))
    assert hostile.elements[5:] == harmless.elements[5:]
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in harmless.elements]
    [(_, data), _] = hostile.blocks("script")
    assert not set("<>&\u2028\u2029\x00") & set(data)
    page = render(games, "title " + ATTACKS[0])
    assert embedded(page)["title"] == "title " + ATTACKS[0]
    assert games_in(page) == games


def test_nothing_is_loaded_and_the_policy_admits_only_our_script_and_style():
    text = render([_game()], "run")
    page = Page(text)
    [policy] = [a["content"] for _, a in page.elements if "http-equiv" in a]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    [(data_attributes, _), (code_attributes, code)] = page.blocks("script")
    [(_, style)] = page.blocks("style")
    assert data_attributes["type"] == "application/json" and code_attributes == {}
    for directive, content in (("script-src", code), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert not [a for _, a in page.elements if {"src", "href", "style"} & set(a)]
    assert not [n for _, a in page.elements for n in a if n.startswith("on")]
    assert not re.search(r"https?://|@import|url\(", text)


def test_the_script_inserts_text_only():
    [_, (_, code)] = Page(render([], "run")).blocks("script")
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|fetch\("
    assert not re.search(markup, code)


def test_missing_and_infinite_numbers_are_null():
    games = [_game(weight=None), _game(weight=math.nan), _game(weight=math.inf)]
    page = render(games, "run")
    assert [game["items"][1]["weight"] for game in games_in(page)] == [None] * 3


def test_games_are_stored_once_over_and_come_back_whole():
    games = made_up_games(40)
    page = render(games, "run")
    assert_same(games_in(page), games)
    data = embedded(page)
    for stored in (data["texts"], [tuple(of) for of in data["lists"]]):
        assert len(set(stored)) == len(stored)
    assert len(page) < 0.35 * len(str(games))
    for (facts, _, items), game in zip(data["games"], games, strict=True):
        credits = [abs(of["weight"] * of["sign"]) for of in game["items"] if of.get("weight") is not None]
        decisions, strongest = facts[-2:]
        assert decisions == sum(kind for kind, *_ in items) == sum(of["type"] == "behaviour" for of in game["items"])
        assert strongest == pytest.approx(max(credits, default=0), rel=1e-4)


def test_what_older_records_lack_is_null():
    game = _game()
    del game["items"][0]["actor"], game["items"][1]["action_log_prob"]
    [shown] = games_in(render([game], "run"))
    assert shown["items"][0]["actor"] is None and shown["items"][1]["action_log_prob"] is None
    assert shown["items"][1]["log_prob"] == -0.5
