"""Dividing books, hats and balls: what the games of that kind have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from games.core import GameError

ITEMS = ("book", "hat", "ball")
MOST_WORTH = 10  # of one item, and the last of the numbers that amounts are told in
MOST_TURNS = 20

Instance = tuple[tuple[int, ...], ...]


def words() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Word tables of the templates."""
    names = [f"Player {seat + 1}" for seat in range(2)]
    return (
        ("seat", tuple(f" {name}" for name in names)),
        ("line", tuple(f"\n{name}" for name in names)),
        ("keeper", tuple(f"\n{name} keeps" for name in names)),
        ("items", tuple(f" of the {item}s" for item in ITEMS)),
        ("pool", tuple(f"\n{item.capitalize()}s in the pool:" for item in ITEMS)),
        ("worth", tuple(f"\nTo you a {item} is worth" for item in ITEMS)),
        ("number", tuple(f" {number}" for number in range(MOST_WORTH + 1))),
        ("turns", tuple(f" {number}" for number in range(MOST_TURNS + 1))),  # indexed by the number itself
    )


def total(items: tuple[int, ...], values: tuple[int, ...]) -> int:
    """What some items are worth together."""
    return sum(count * value for count, value in zip(items, values, strict=True))


def read_instances(
    game: str, text: str, form: str, example: str, broken_rule: Callable[..., str | None]
) -> Iterator[Instance]:
    """Yields the instances that a text spells, each as groups of numbers.

    Args:
      game: its name, for the message.
      text: instances with ';' between them.
      form: what an instance is, in words.
      example: an instance, as which all others are laid out.
      broken_rule: says of an instance's groups which rule they break, if any.

    Raises:
      GameError: if the text is malformed or an instance breaks a rule.
    """
    groups = [",".join(["[0-9]{1,2}"] * len(group.split(","))) for group in example.split("/")]
    for number, part in enumerate(text.split(";"), start=1):
        if not re.fullmatch("/".join(groups), part.strip()):
            raise GameError(
                f"{game}: instances are of the form {form}, for example {example}, with ';' between them, "
                f"which number {number}, {part!r}, is not"
            )
        instance = tuple(tuple(int(word) for word in group.split(",")) for group in part.split("/"))
        rule = broken_rule(*instance)
        if rule is not None:
            raise GameError(f"{game}: instances: {rule}, unlike in number {number}, {part.strip()!r}")
        yield instance
