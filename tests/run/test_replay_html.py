"""The replay page: self-contained, and deaf to what models write."""

import base64
import hashlib
import html.parser
import json
import math
import re

from maro_jax.run.replay_html import render

ATTACKS = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- <script>",
    "]]>&lt;&amp;\u2028\u2029\x00\x1b[31m",
    "{{data}} {{script}} {{nothing}}",
    "\\u003c/script\\u003e \\1 \\g<0>",
]


class Page(html.parser.HTMLParser):
    """Collects the elements of a page and the text of its scripts and style."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self.is_open = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.is_open = True

    def handle_endtag(self, tag):
        self.is_open = False

    def handle_data(self, data):
        if self.is_open:
            index = len(self.elements) - 1
            self.texts[index] = self.texts.get(index, "") + data

    def blocks(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attributes, self.texts.get(index, ""))
            for index, (name, attributes) in enumerate(self.elements)
            if name == tag
        ]


def _game(text: str = "hello", weight: float | None = 0.5) -> dict:
    seats = [
        {"name": "Player 1", "role": text, "side": "village", "holder": "learner", "outcome": 1.0},
        {"name": text, "role": "wolf", "side": "wolves", "holder": "opponent", "outcome": -1.0},
    ]
    event = {"type": "event", "kind": "day", "text": text, "channel": "public", "audience": [0, 1]}
    behaviour = {
        "type": "behaviour", "seat": 0, "role": "seer", "phase": "vote", "thought": text,
        "speech": text, "action": text, "legal": [text, " pass"], "log_prob": -0.5, "return": 1.0,
        "advantage": 0.5, "weight": weight, "sign": 1, "holder": "learner",
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
    assert json.loads(data) == {"title": "title " + ATTACKS[0], "games": games}
    assert not set("<>&") & set(data)


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
    [(_, data), _] = Page(render(games, "run")).blocks("script")
    for game in json.loads(data)["games"]:
        assert game["items"][1]["weight"] is None
