"""How a configuration declares its fields: default, help, group and what is allowed.

`check` and `ConfigError` make each refusal one sentence: the name, the value, what is allowed, an
example.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
    """A setting, file or combination that a person has to correct; the message is one sentence."""


def setting(
    default: Any,
    help: str,
    *,
    group: str,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    positive: bool = False,
    positional: bool = False,
    example: str = "",
) -> Any:
    """A dataclass field that is also a flag.

    Args:
      default: value; its type is the flag's type (`bool`, `int`, `float` or `str`).
      help: one line.
      group: heading under which `--help` lists it.
      choices: the allowed values of a string, if they are few.
      low: least allowed number.
      high: largest allowed number.
      positive: whether a number must lie above 0.
      positional: whether a command takes it without `--name=`.
      example: shown when a value is refused; default: the default.
    """
    metadata = {
        "help": help,
        "group": group,
        "choices": choices,
        "low": low,
        "high": high,
        "positive": positive,
        "positional": positional,
        "example": example or str(default),
    }
    return dataclasses.field(default=default, metadata=metadata)


def nearest(name: str, allowed: Iterable[str], prefix: str = "") -> str:
    """` (did you mean …?)` for the allowed name closest to `name`, or an empty string."""
    matches = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" (did you mean {prefix}{matches[0]}?)" if matches else ""


def check_choice(name: str, value: str, allowed: Iterable[str], flag: str = "") -> None:
    """Raises `ConfigError` unless `value` is among `allowed`; `flag` is how it is set."""
    names = list(allowed)
    if value not in names:
        raise ConfigError(f"{flag or '--' + name}={value} is not one of {', '.join(names)}{nearest(value, names)}")


def _range_text(metadata: Any, kind: str) -> str:
    low, high = metadata["low"], metadata["high"]
    if metadata["positive"]:
        return f"{kind} above 0" + ("" if high is None else f" and at most {high:g}")
    if low is not None and high is not None:
        return f"{kind} from {low:g} to {high:g}"
    return f"{kind} of at least {low:g}" if low is not None else kind


def describe(field: dataclasses.Field[Any]) -> str:
    """What a field's value must be, in words: `an integer of at least 1`."""
    if field.metadata["choices"]:
        return "one of " + ", ".join(field.metadata["choices"])
    kind = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    return _range_text(field.metadata, kind[type(field.default)])


def check(config: Any) -> None:
    """Checks each field of `config` by itself.

    Raises:
      ConfigError: naming the first field of a wrong type, range or choice.
    """
    for field in dataclasses.fields(config):
        value, expected = getattr(config, field.name), type(field.default)
        if expected is float and type(value) is int:
            value = float(value)
        wrong = type(value) is not expected
        if not wrong and expected in (int, float):
            low, high = field.metadata["low"], field.metadata["high"]
            wrong = (
                not math.isfinite(value)
                or (low is not None and value < low)
                or (high is not None and value > high)
                or (field.metadata["positive"] and value <= 0)
            )
        if wrong:
            raise ConfigError(
                f"--{field.name}={value} is not allowed: it must be {describe(field)}, "
                f"for example --{field.name}={field.metadata['example']}"
            )
        if field.metadata["choices"]:
            check_choice(field.name, value, field.metadata["choices"])
