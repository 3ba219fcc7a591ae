"""Recorded games as compact JSON: texts and lists of labels stored once, rows instead of objects.

The page's script takes a game apart again only when it is chosen (`openGame` in viewer/data.js), by the columns that
travel with the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What a column holds: a plain value, the number of a text, or the number of a list of texts.
PLAIN, TEXT, LIST = "plain", "text", "list"
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "game": {
        "game": TEXT, "iteration": PLAIN, "episode": PLAIN, "seed": PLAIN, "terminated": PLAIN, "truncated": PLAIN,
        "winner": TEXT, "decisions": PLAIN, "strongest": PLAIN,
    },
    "seat": {"name": TEXT, "role": TEXT, "side": TEXT, "holder": TEXT, "outcome": PLAIN},
    "event": {"kind": TEXT, "text": TEXT, "channel": TEXT, "actor": PLAIN, "audience": PLAIN},
    "behaviour": {
        "seat": PLAIN, "role": TEXT, "phase": TEXT, "holder": TEXT, "thought": TEXT, "speech": TEXT, "action": TEXT,
        "legal": LIST, "log_prob": PLAIN, "action_log_prob": PLAIN, "return": PLAIN, "advantage": PLAIN,
        "weight": PLAIN, "sign": PLAIN,
    },
}  # fmt: skip
DIGITS = 5  # of a number that are kept: more than anybody reads


def pack(games: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Packs recorded games.

    Args:
      games: in the schema of `replay_html`; what a record lacks is null.

    Returns:
      `texts` and `lists` (of numbers of texts), the `columns` of each kind of row, and `games`: for each one its row,
      the rows of its seats, and its items, where an event is `[0, ...]` and a behaviour `[1, ...]`.
    """
    numbers: tuple[dict[Any, int], dict[Any, int]] = ({}, {})
    packed = [_game(game, numbers) for game in games]
    return {
        "columns": {kind: list(columns.items()) for kind, columns in COLUMNS.items()},
        "texts": list(numbers[0]),
        "lists": [list(of) for of in numbers[1]],
        "games": packed,
    }


def plain(value: Any) -> Any:
    """A number as it is embedded: rounded to `DIGITS` digits, null if it is not finite; anything else as it is."""
    if isinstance(value, float):
        return _short(value) if math.isfinite(value) else None
    return value


def _short(value: float) -> float | int:
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded == int(rounded) else rounded


def _game(game: Mapping[str, Any], numbers: tuple[dict[Any, int], dict[Any, int]]) -> list[Any]:
    items = game["items"]
    behaviours = [item for item in items if item["type"] == "behaviour"]
    facts = {**game, "decisions": len(behaviours), "strongest": max(map(_strength, behaviours), default=0.0)}
    return [
        _row("game", facts, numbers),
        [_row("seat", seat, numbers) for seat in game["seats"]],
        [[int(item["type"] == "behaviour"), *_row(item["type"], item, numbers)] for item in items],
    ]


def _strength(behaviour: Mapping[str, Any]) -> float:
    """How much credit a behaviour was given, in either direction."""
    weight, sign = plain(behaviour.get("weight")), plain(behaviour.get("sign"))
    return 0.0 if weight is None or sign is None else abs(weight * sign)


def _row(kind: str, values: Mapping[str, Any], numbers: tuple[dict[Any, int], dict[Any, int]]) -> list[Any]:
    texts, lists = numbers

    def number(text: Any) -> int:
        return texts.setdefault(str(text), len(texts))

    row: list[Any] = []
    for name, holds in COLUMNS[kind].items():
        value = values.get(name)
        if value is None:
            row.append(None)
        elif holds == TEXT:
            row.append(number(value))
        elif holds == LIST:
            row.append(lists.setdefault(tuple(number(text) for text in value), len(lists)))
        else:
            row.append([plain(part) for part in value] if _is_list(value) else plain(value))
    return row


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)
