"""From `--grid` and `--zip` to trials: configurations that are checked before anything starts."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maro_jax.run.config import TrainConfig
from maro_jax.run.fields import ConfigError, nearest
from maro_jax.run.flags import parse
from maro_jax.run.presets import PRESETS

# Nothing that a run's results depend on, or what differs between the runs of a trial.
_NOT_OF_A_TRIAL = ("run_dir", "seed", "save_every_minutes", "save_every", "keep_checkpoints")
# Swept fields in which trials that share a warm start cannot differ, or differ on purpose.
_OF_A_WARM_START = (
    "preset", "model", "games", "capacity", "overflow", "warm_start_games", "warm_start_batch",
    "warm_start_learning_rate", "warm_start_data", "warm_start_holders",
)  # fmt: skip
_SEEDS_EXAMPLE = "for example --seeds=0,1,2 or --seeds=0-4"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One cell of the scan.

    Attributes:
      id: digest of everything its results depend on but the seed; names its folder.
      swept: the fields the scan varies, as this trial has them.
      config: the configuration, without folder and seed.
      warm_start: the configuration of the warm start it shares, if it does.
      name: that a plan gives it; empty in a grid.
    """

    id: str
    swept: Mapping[str, str]
    config: TrainConfig
    warm_start: TrainConfig | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """What sets it apart, for people."""
        return self.name or " ".join(f"{name}={value}" for name, value in self.swept.items()) or "(no flag swept)"


def split(text: str, separator: str) -> list[str]:
    """Parts between separators; one after a backslash is part of the text."""
    parts = [""]
    escaped = False
    for letter in text:
        if letter == separator and not escaped:
            parts.append("")
        else:
            parts[-1] += letter
        escaped = letter == "\\" and not escaped
    return parts


def read_grid(text: str) -> list[dict[str, str]]:
    """`key=v1,v2` as one setting for each value."""
    key, equals, values = text.partition("=")
    parts = _values(values)
    if not key or not equals or not all(parts):
        raise ConfigError(
            f"--grid={text} is not of the form key=value,value, for example --grid=learning_rate=1e-3,3e-3"
        )
    _check_keys("grid", [key])
    return [{key: _literal(value)} for value in parts]


def read_zip(text: str) -> list[dict[str, str]]:
    """`k1,k2=a:b,c:d` as one setting for each tuple."""
    names, equals, values = text.partition("=")
    keys = names.split(",")
    tuples = [split(part, ":") for part in _values(values)]
    if not equals or not all(keys) or any(len(part) != len(keys) or not all(part) for part in tuples):
        raise ConfigError(
            f"--zip={text} is not of the form key,key=a:b,c:d with a value for each key, for example "
            "--zip=episodes,lanes=256:64,512:128 (a colon in a value is written \\:)"
        )
    _check_keys("zip", keys)
    return [dict(zip(keys, map(_literal, part), strict=True)) for part in tuples]


def read_seeds(text: str) -> list[int]:
    """`0,1,2` or `0-4` as numbers."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) < int(first):
            raise ConfigError(f"--seeds={text} is not a list of numbers, {_SEEDS_EXAMPLE}")
        if int(last or first) - int(first) > 10_000:
            raise ConfigError(f"--seeds={text} are too many, {_SEEDS_EXAMPLE}")
        seeds += range(int(first), int(last or first) + 1)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds={text} names a seed twice, {_SEEDS_EXAMPLE}")
    if max(seeds) >= 2**31:
        raise ConfigError(f"--seeds={text} exceeds {2**31 - 1}, {_SEEDS_EXAMPLE}")
    return seeds


def make_trials(axes: Sequence[list[dict[str, str]]], base: Sequence[str], share_warm_start: bool) -> list[Trial]:
    """The product of the axes over the trainer's flags `base`, every cell checked.

    Raises:
      ConfigError: a key is swept twice, two cells are the same, or the trainer would refuse one.
    """
    keys = [key for axis in axes for key in axis[0]]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{key} is swept twice: name it in one --grid or --zip only")
    _check_base(base, keys)
    cells = ({key: value for part in cell for key, value in part.items()} for cell in itertools.product(*axes))
    return _different([_trial(cell, base, share_warm_start) for cell in cells])


def make_named_trials(
    flags: Mapping[str, Mapping[str, str]], swept: Sequence[str], base: Sequence[str], share_warm_start: bool
) -> list[Trial]:
    """A trial for each name, every one checked.

    Args:
      flags: of each name its own flags of the trainer.
      swept: all flags that any of them has.
      base: the trainer's flags for all.
      share_warm_start: whether the trials of a seed begin with one warm start.

    Raises:
      ConfigError: two trials are the same, or the trainer would refuse one.
    """
    _check_keys("plan", swept)
    trials = []
    for name, own in flags.items():
        _check_base(base, list(own))
        trial = _trial(own, base, share_warm_start)
        everything = {key: str(getattr(trial.config, key)) for key in swept}
        trials.append(dataclasses.replace(trial, swept=everything, name=name))
    return _different(trials)


def _different(trials: Sequence[Trial]) -> list[Trial]:
    """The trials, once no two are the same."""
    known: dict[str, Trial] = {}
    for trial in trials:
        if trial.id in known:
            raise ConfigError(f"{known[trial.id].label} and {trial.label} are the same trial: leave one out")
        known[trial.id] = trial
    return list(trials)


def find_baseline(trials: Sequence[Trial], text: str) -> Trial:
    """The trial others are compared with: the one whose swept flags hold `key=value,...`; if empty, the first.

    Raises:
      ConfigError: none or several fit.
    """
    wanted: dict[str, str] = {}
    for part in _values(text) if text else []:
        key, equals, value = part.partition("=")
        if not equals or key not in trials[0].swept:
            known = ", ".join(trials[0].swept) or "nothing"
            raise ConfigError(f"--baseline={text} is not of the form key=value,key=value with keys among {known}")
        value = _literal(value)
        # Compared as the trainer reads it, so that 1e-3 is 0.001.
        wanted[key] = next((t.swept[key] for t in trials if _reads_as(t, key, value)), value)
    fitting = [t for t in trials if all(t.swept[key] == value for key, value in wanted.items())]
    if text and len(fitting) != 1:
        raise ConfigError(
            f"--baseline={text} fits {len(fitting)} of the {len(trials)} trials; it must fit one, for example "
            f"--baseline='{','.join(f'{k}={v}' for k, v in trials[0].swept.items())}'"
        )
    return fitting[0]


def check_games(trials: Iterable[Trial]) -> None:
    """Builds every game that the trials name, so that a wrong parameter shows now.

    Raises:
      ConfigError: there is no such game or parameter.
    """
    from games.core import GameError
    from games.registry import make
    from maro_jax.run.inputs import parse_games

    for text in {trial.config.games for trial in trials}:
        for name, parameters in parse_games(text):
            try:
                make(name, **{key: str(value) for key, value in parameters.items()})
            except GameError as error:
                raise ConfigError(f"--games={text}: {error}") from None


def trainer_flags(config: TrainConfig) -> list[str]:
    """The flags that make the trainer run `config`, whatever flag files or presets it came from."""
    usual = dataclasses.asdict(TrainConfig(**{"preset": config.preset, **PRESETS[config.preset]}))
    return [f"--preset={config.preset}"] + [
        f"--{name}={str(value).lower() if type(value) is bool else value}"
        for name, value in dataclasses.asdict(config).items()
        if value != usual[name]
    ]


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """What is not at its default and matters to results, the seed aside."""
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in _NOT_OF_A_TRIAL and getattr(config, field.name) != field.default
    }


def recorded_settings(config: TrainConfig) -> dict[str, Any]:
    """Everything that matters to results, the seed aside, defaults too."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in _NOT_OF_A_TRIAL}


def digest(content: Any) -> str:
    """A short name for plain content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _trial(swept: Mapping[str, str], base: Sequence[str], share_warm_start: bool) -> Trial:
    where = "".join(f" {key}={value}" for key, value in swept.items())
    flags = [*base, *(f"--{key}={value}" for key, value in swept.items())]
    try:
        config = parse(TrainConfig, flags)
    except ConfigError as error:
        raise ConfigError(f"{error} (trial{where})" if where else str(error)) from None
    for name in ("seed", "run_dir"):  # however they were written
        if getattr(config, name) != getattr(TrainConfig, name):
            _refuse_reserved(f"--{name} after --", name)
    settings = settings_of(config)
    warm_start = None
    if share_warm_start:
        warm_start = _warm_start(swept, base, config)
        settings["share_warm_start"] = settings_of(warm_start)
    read = {key: str(getattr(config, key)) for key in swept}
    return Trial(digest(settings), read, config, warm_start)


def _warm_start(swept: Mapping[str, str], base: Sequence[str], config: TrainConfig) -> TrainConfig:
    """A run that only clones: what comes after cloning is as the flags outside the grid say."""
    if config.warm_start_from or not config.warm_start_games:
        taken = "--warm_start_from" if config.warm_start_from else "--warm_start_games=0"
        raise ConfigError(f"--share_warm_start with {taken} has no warm start to train; leave one of them out")
    flags = [f"--{key}={value}" for key, value in swept.items() if key in _OF_A_WARM_START]
    try:
        warm_start = parse(TrainConfig, [*base, *flags, "--iterations=0"])
    except ConfigError as error:
        raise ConfigError(f"{error} (the warm start that trials share has the flags outside the grid)") from None
    # Its final matches say nothing about the trials; --lanes is a number of games that every layout can play.
    few = min(warm_start.final_games, max(8, warm_start.lanes))
    return dataclasses.replace(warm_start, final_games=few)


def _check_base(base: Sequence[str], keys: Sequence[str]) -> None:
    for argument in base:
        name, _, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name in keys:
            raise ConfigError(f"--{name}={value} after -- is swept as well: leave one of the two out")


def _check_keys(flag: str, keys: Sequence[str]) -> None:
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    for key in keys:
        if key in ("seed", "run_dir"):
            _refuse_reserved(f"--{flag} with {key}", key)
        if key not in names:
            raise ConfigError(
                f"--{flag}: the trainer has no flag {key}{nearest(key, names)}; see python -m maro_jax.train --help"
            )


def _refuse_reserved(what: str, name: str) -> None:
    instead = {"seed": "--seeds, for example --seeds=0,1,2", "run_dir": "--out, for example --out=runs/my-scan"}
    raise ConfigError(f"{what} is not possible: use {instead[name]}")


def _reads_as(trial: Trial, key: str, value: str) -> bool:
    own = getattr(trial.config, key)
    if type(own) is bool:
        return str(own).lower() == value.lower()
    try:
        return type(own)(value) == own
    except ValueError:
        return False


def _values(text: str) -> list[str]:
    """Values between commas, or between bars if there are any; a last bar may stand alone."""
    parts = split(text, "|")
    if len(parts) == 1:
        return split(text, ",")
    return parts[:-1] if not parts[-1] else parts


def _literal(text: str) -> str:
    """`text` without the backslashes that protect separators."""
    for separator in ",|:":
        text = text.replace(f"\\{separator}", separator)
    return text
