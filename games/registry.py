"""Games by their versioned name."""

from __future__ import annotations

import difflib
import inspect
import operator
from collections.abc import Callable
from typing import Any

from games.avalon import Avalon
from games.bargaining import Bargaining
from games.core import Game, GameError
from games.kuhn import Kuhn
from games.liars_dice import LiarsDice
from games.mystery import Mystery
from games.negotiation import Negotiation
from games.persuasion import Persuasion
from games.shopping import Shopping
from games.social_deduction import SocialDeduction
from games.werewolf import Werewolf

GAMES: dict[str, Callable[..., Game]] = {
    "werewolf-v0": Werewolf,
    "avalon-v0": Avalon,
    "bargaining-v0": Bargaining,
    "kuhn-v0": Kuhn,
    "liars_dice-v0": LiarsDice,
    "persuasion-v0": Persuasion,
    "shopping-v0": Shopping,
    "negotiation-v0": Negotiation,
    "social_deduction-v0": SocialDeduction,
    "mystery-v0": Mystery,
}


def make(name: str, **parameters: Any) -> Game:
    """Builds a game.

    Args:
      name: versioned name, for example `werewolf-v0`.
      **parameters: rule parameters as the game's page lists them; strings are accepted for any type.

    Raises:
      GameError: if there is no such game or parameter, or a value is not allowed.
    """
    if name not in GAMES:
        near = difflib.get_close_matches(name, GAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise GameError(f"There is no game {name!r}; there are: {', '.join(sorted(GAMES))}{hint}")
    constructor = GAMES[name]
    known = inspect.signature(constructor).parameters
    for parameter in parameters:
        if parameter not in known:
            raise GameError(f"{name} has no parameter {parameter!r}; it has: {', '.join(known)}")
    defaults = {key: known[key].default for key in parameters}
    if None in defaults.values():  # what follows from other parameters: the game without any has a value for it
        usual = constructor()
        defaults = {key: getattr(usual, key) if value is None else value for key, value in defaults.items()}
    return constructor(**{key: parse(name, key, value, defaults[key]) for key, value in parameters.items()})


def parse(game: str, parameter: str, value: Any, default: Any) -> Any:
    """A parameter's value in the type of its default, read from a string or taken as it is.

    Raises:
      GameError: if the value is of another type or the string does not spell one of this type.
    """
    if isinstance(default, str):
        if not isinstance(value, str):
            raise GameError(f"{game}: {parameter} is text, for example {default}, not {value!r}")
        return value
    if isinstance(default, bool):
        if str(value).lower() not in ("true", "false"):
            raise GameError(f"{game}: {parameter} is true or false, not {value!r}")
        return str(value).lower() == "true"
    try:
        if not isinstance(value, bool):
            return int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        pass
    raise GameError(f"{game}: {parameter} is a whole number, for example {default}, not {value!r}")
