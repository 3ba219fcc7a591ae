"""What tests of the replay page share: games made up in bulk, and a second reading of what a page holds."""

import html.parser
import json
import math
import random
from pathlib import Path
from typing import Any

ROLES = {"wolf": "wolves", "seer": "village", "doctor": "village", "villager": "village"}
SENTENCE = "I think that Player 2 hides something because nobody else would vote so early and quietly on day one"
WORDS = SENTENCE.split()
PHASES = {"speak": "public", "vote": "private", "night": "private"}


def made_up_games(count: int, seats: int = 6, days: int = 6, seed: int = 0) -> list[dict[str, Any]]:
    """Games in the schema of `replay_html` with free speech and thought; with six seats and days about 110 decisions.

    No two speeches are alike, so that a page of them is as large as a page of games between real language models.
    """
    draw = random.Random(seed)
    return [_game(draw, number, seats, days) for number in range(count)]


def _game(draw: random.Random, number: int, seats: int, days: int) -> dict[str, Any]:
    roles = ["wolf", "seer", "doctor", *["villager"] * (seats - 3)][:seats]
    draw.shuffle(roles)
    won = draw.choice(["wolves", "village", ""])
    holders = {side: draw.choice(["learner", "opponent", "heuristic"]) for side in ("wolves", "village")}
    table = [
        {
            "name": f"Player {seat + 1}", "role": role, "side": ROLES[role], "holder": holders[ROLES[role]],
            "outcome": 0.0 if not won else 1.0 if ROLES[role] == won else -1.0,
        }
        for seat, role in enumerate(roles)
    ]  # fmt: skip
    items = [_event("seat", f"You are Player {seat + 1}", seat, [seat], "private") for seat in range(seats)]
    everybody = list(range(seats))
    for day in range(1, days + 1):
        items.append(_event("day", f"Day {day}", None, everybody, "public"))
        for phase, channel in PHASES.items():
            for seat in everybody:
                said = " ".join(draw.choices(WORDS, k=draw.randrange(6, 30))) if phase == "speak" else ""
                items.append(_behaviour(draw, table, seat, phase, said))
                heard = [other for other in everybody if other != seat] if channel == "public" else []
                text = f"Player {seat + 1} says: {said}" if said else f"Player {seat + 1} chooses {items[-1]['action']}"
                items.append(_event(phase, text, seat, heard, channel))
    return {
        "game": "werewolf-v0" if number % 3 else "avalon-v0", "iteration": 1 + number // 12, "episode": number % 12,
        "seed": 7, "seats": table, "terminated": bool(won) or number % 2 == 0,
        "truncated": not won and number % 2 == 1, "winner": won, "items": items,
    }  # fmt: skip


def _event(kind: str, text: str, actor: int | None, audience: list[int], channel: str) -> dict[str, Any]:
    return {"type": "event", "kind": kind, "text": text, "channel": channel, "actor": actor, "audience": audience}


def _behaviour(draw: random.Random, table: list[dict[str, Any]], seat: int, phase: str, said: str) -> dict[str, Any]:
    others = [other["name"] for other in table if other is not table[seat]]
    legal = others if phase != "speak" else [f"{verb} {name}" for verb in ("accuse", "defend") for name in others]
    holder = table[seat]["holder"]
    learnt = holder == "learner"
    odds = math.log(draw.uniform(0.02, 1)) if holder != "heuristic" else 0.0
    return {
        "type": "behaviour", "seat": seat, "role": table[seat]["role"], "phase": phase, "holder": holder,
        "thought": " ".join(draw.choices(WORDS, k=12)) if said else "", "speech": said, "action": draw.choice(legal),
        "legal": legal, "log_prob": odds * (3 if said else 1), "action_log_prob": odds,
        "return": draw.uniform(-1, 1) if learnt else None, "advantage": draw.gauss(0, 0.4) if learnt else None,
        "weight": draw.expovariate(2) if learnt else None, "sign": draw.choice([-1.0, 1.0]) if learnt else None,
    }  # fmt: skip


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


def embedded(page: str | Path) -> dict[str, Any]:
    """The data that a page holds."""
    text = page.read_text() if isinstance(page, Path) else page
    [(_, data), _] = Page(text).blocks("script")
    return json.loads(data)


def games_in(page: str | Path) -> list[dict[str, Any]]:
    """The games that a page holds, in the schema they were recorded in."""
    data = embedded(page)

    def row(kind: str, values: list[Any]) -> dict[str, Any]:
        read = {
            "plain": lambda value: value,
            "text": lambda number: data["texts"][number],
            "list": lambda number: [data["texts"][text] for text in data["lists"][number]],
        }
        pairs = zip(data["columns"][kind], values, strict=True)
        return {name: None if value is None else read[holds](value) for (name, holds), value in pairs}

    games = []
    for facts, seats, items in data["games"]:
        game = row("game", facts) | {"seats": [row("seat", seat) for seat in seats]}
        del game["decisions"], game["strongest"]
        kinds = [("event", "behaviour")[item[0]] for item in items]
        game["items"] = [{"type": kind} | row(kind, item[1:]) for kind, item in zip(kinds, items, strict=True)]
        games.append(game)
    return games


def assert_same(left: Any, right: Any, place: str = "") -> None:
    """Asserts that two pieces of plain data are equal, numbers to five digits."""
    if isinstance(right, dict):
        assert left.keys() == right.keys(), place
        for key in right:
            assert_same(left[key], right[key], f"{place}.{key}")
    elif isinstance(right, list):
        assert len(left) == len(right), place
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{place}[{index}]")
    elif isinstance(right, float):
        assert isinstance(left, (int, float)) and math.isclose(left, right, rel_tol=6e-5), place
    else:
        assert left == right and type(left) is type(right), place
