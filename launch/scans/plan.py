"""A scan written down: named trials with flags of their own, and the contrasts to be judged, in one TOML file.

base = ["--preset=werewolf-tiny", "--iterations=16"]     # flags of all trials
seeds = "0-4"                                            # of trials in no contrast that asks for more
baseline = "outcome"                                     # the trial that the others are compared with

[trials]
outcome = {decompose = "outcome"}
terminal = {decompose = "none"}

[[contrasts]]                                            # named before anything is run
name = "decomposition"
plus = ["outcome"]                                       # means over these trials, seed by seed,
minus = ["terminal"]                                     # less means over those
seeds = "0-15"
margin = 0.02                                            # optional: differences within it count as none
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.scans import grid
from launch.scans.grid import Trial
from maro_jax.run.fields import ConfigError, nearest

_KEYS = {"base": list, "seeds": str, "baseline": str, "trials": dict, "contrasts": list}
_OF_A_CONTRAST = {"name": str, "plus": list, "minus": list, "seeds": str, "margin": float}


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A difference that was named before anything was run.

    Attributes:
      name: of what differs.
      plus, minus: ids of the trials whose means are compared.
      seeds: on which.
      margin: half the width of what counts as no difference; None if equivalence is not asked about.
    """

    name: str
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    seeds: tuple[int, ...]
    margin: float | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a scan is to run and to judge.

    Attributes:
      trials: in the order of the file.
      seeds: of each trial, by its id.
      baseline: the trial that others are compared with.
      contrasts: in the order of the file.
    """

    trials: list[Trial]
    seeds: Mapping[str, Sequence[int]]
    baseline: Trial
    contrasts: tuple[Contrast, ...] = ()


def read_plan(path: str | Path, further: Sequence[str], share_warm_start: bool) -> Plan:
    """Reads and checks a plan.

    Args:
      path: of the TOML file.
      further: flags of the trainer for all trials, after those of the file.
      share_warm_start: whether the trials of a seed begin with one warm start.

    Raises:
      ConfigError: the file cannot be read, or holds something that is not allowed.
    """
    content = _read(Path(path).expanduser())
    where = f"--plan={path}"
    _check(where, content, _KEYS, needed=("trials", "baseline"))
    trials = _trials(where, content, further, share_warm_start)
    by_name = {trial.name: trial for trial in trials}
    contrasts = tuple(_contrast(where, each, by_name) for each in content.get("contrasts", []))
    usual = grid.read_seeds(content.get("seeds", "0-2"))
    seeds = {trial.id: set(usual) for trial in trials}
    for contrast in contrasts:
        for trial in contrast.plus + contrast.minus:
            seeds[trial] |= set(contrast.seeds)
    baseline = _named(where, "baseline", content["baseline"], by_name)
    return Plan(trials, {trial: sorted(of) for trial, of in seeds.items()}, baseline, contrasts)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--plan={path} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--plan={path} is no TOML file: {error}") from None


def _check(where: str, content: Any, kinds: Mapping[str, type], needed: Sequence[str]) -> None:
    """Refuses keys that are not known, missing, or of another kind."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: {content!r} is not a table of {', '.join(kinds)}")
    for key, value in content.items():
        if key not in kinds:
            raise ConfigError(f"{where} has an entry {key}{nearest(key, kinds)}; there are {', '.join(kinds)}")
        if not isinstance(value, (int, float) if kinds[key] is float else kinds[key]) or isinstance(value, bool):
            raise ConfigError(f"{where}: {key} = {value!r} is not a {_IN_WORDS[kinds[key]]}")
    for key in needed:
        if not content.get(key):
            raise ConfigError(f"{where} has no {key}; launch/scans/plan.py shows a whole file")


_IN_WORDS = {list: "list", str: "text in quotes", dict: "table", float: "number"}


def _trials(where: str, content: Mapping[str, Any], further: Sequence[str], share: bool) -> list[Trial]:
    base = [*content.get("base", []), *further]
    for name, flags in content["trials"].items():
        if not isinstance(flags, dict):
            raise ConfigError(f'{where}: the trial {name!r} is not a table of flags, for example {{utility = "kto"}}')
    swept = list(dict.fromkeys(key for flags in content["trials"].values() for key in flags))
    return grid.make_named_trials(
        {name: {key: _text(value) for key, value in flags.items()} for name, flags in content["trials"].items()},
        swept, base, share,
    )  # fmt: skip


def _contrast(where: str, content: Any, trials: Mapping[str, Trial]) -> Contrast:
    _check(f"{where}, a contrast", content, _OF_A_CONTRAST, needed=("name", "plus", "minus", "seeds"))
    name = content["name"]
    plus, minus = (
        tuple(_named(where, f"the contrast {name!r}", trial, trials).id for trial in content[side])
        for side in ("plus", "minus")
    )
    return Contrast(name, plus, minus, tuple(grid.read_seeds(content["seeds"])), content.get("margin"))


def _named(where: str, what: str, name: Any, trials: Mapping[str, Trial]) -> Trial:
    if name not in trials:
        raise ConfigError(f"{where}: {what} names a trial {name!r}{nearest(str(name), trials)}, which is not there")
    return trials[name]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
