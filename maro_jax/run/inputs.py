"""Settings that name something outside the program: a game, a model folder, a player."""

from __future__ import annotations

import os
import re
from pathlib import Path

from maro_jax.run.directory import recorded_config
from maro_jax.run.fields import ConfigError, nearest

GameParameters = dict[str, bool | int | float | str]

EXAMPLE_GAME = "werewolf-v0:num_seats=6,max_days=5"
HOLDERS = ("learner", "opponent", "heuristic", "random", "person", "api")  # who decides for a seat, by number
LAYER_MATRICES = ("query", "key", "value", "output", "gate", "up", "down")  # of a model, which an adapter may change


def parse_games(text: str) -> list[tuple[str, GameParameters]]:
    """Reads games as `name[:key=value,...]`, one after the other; a value may hold commas (`night_order=wolf,doctor`).

    A comma or semicolon followed by a versioned name (`avalon-v0`) begins the next game.

    Returns:
      Each game's name and its parameters, as `bool`, `int`, `float` or `str`.

    Raises:
      ConfigError: the text has another form, or names a game twice with the same parameters.
    """
    games = [_parse_game(part, text) for part in split_games(text)]
    if any(games.count(game) > 1 for game in games):
        raise ConfigError(f"--games={text} names a game twice, for example --games={EXAMPLE_GAME}")
    return games


def split_games(text: str) -> list[str]:
    """The text of each game in `--games`."""
    return re.split(r"[,;](?=[a-z][a-z0-9_]*-v\d+(?:[:,;]|$))", text)


def _parse_game(text: str, whole: str) -> tuple[str, GameParameters]:
    name, _, rest = text.partition(":")
    example = f"for example --games={EXAMPLE_GAME}"
    if not name or not re.fullmatch(r"[\w-]+", name) or (":" in text and not rest) or ":" in rest:
        raise ConfigError(f"--games={whole} is not of the form name:key=value,key=value, {example}")
    pairs: list[list[str]] = []
    for part in rest.split(",") if rest else []:
        key, equals, value = part.partition("=")
        if equals and key.isidentifier() and value:
            pairs.append([key, value])
        elif not equals and part and pairs:
            pairs[-1][1] += "," + part
        else:
            raise ConfigError(f"--games={whole}: {part!r} is not of the form key=value, {example}")
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ConfigError(f"--games={whole} sets a parameter twice, {example}")
    return name, {key: _literal(value) for key, value in pairs}


def check_model(model: str, flag: str = "--model") -> None:
    """Checks that `model` is `tiny` or a folder from which weights can be read safely.

    Raises:
      ConfigError: it is missing, no model folder, or holds pickled weights only.
    """
    if model == "tiny":
        return
    path = Path(model).expanduser()
    example = f"for example {flag}=tiny or {flag}=/models/Qwen2.5-0.5B-Instruct"
    if not path.exists():
        raise ConfigError(f"{flag}={model} does not exist; it must be 'tiny' or a folder, {example}")
    if not path.is_dir():
        raise ConfigError(
            f"{flag}={model} is a file; it must be 'tiny' or a folder with config.json and "
            f"*.safetensors (pickled weights are never loaded), {example}"
        )
    if not any(path.glob("*.safetensors")):
        pickles = sorted(p.name for s in ("bin", "pt", "pth", "pkl", "ckpt") for p in path.glob(f"*.{s}"))
        why = (
            f"holds only pickled weights ({pickles[0]}), which can run code and are never loaded; "
            "convert them to safetensors"
            if pickles
            else "holds no *.safetensors"
        )
        raise ConfigError(f"{flag}={model} {why}, {example}")
    if not (path / "config.json").is_file():
        raise ConfigError(f"{flag}={model} has no config.json, {example}")


def check_targets(flag: str, targets: str) -> None:
    """Checks a regular expression that says which matrices of a layer an adapter changes.

    Raises:
      ConfigError: it is none, or matches the whole name of no matrix.
    """
    example = f"for example {flag}='query|value'"
    try:
        found = any(re.fullmatch(targets, name) for name in LAYER_MATRICES)
    except re.error as error:
        raise ConfigError(f"{flag}={targets} is no regular expression ({error}), {example}") from None
    if not found:
        raise ConfigError(f"{flag}={targets} matches none of {', '.join(LAYER_MATRICES)}, {example}")


def check_processes(distributed: str, coordinator: str, num_processes: int, process_id: int, cpu_devices: int) -> None:
    """Checks how the processes of a run are to find each other: in no way, by the first one's address, or `auto`.

    Raises:
      ConfigError: the settings are given in part, or cannot be.
    """
    example = "for example --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=0"
    given = {"coordinator": bool(coordinator), "num_processes": num_processes > 0, "process_id": process_id >= 0}
    if distributed == "auto":
        if any(given.values()):
            name = next(name for name in given if given[name])
            raise ConfigError(
                f"--{name} says what --distributed=auto finds out by itself; leave out one or the other, {example}"
            )
        if cpu_devices:
            raise ConfigError(
                f"--cpu_devices={cpu_devices} is shared out among all processes, whose number --distributed=auto does "
                f"not tell in time; leave it out, or name the processes, {example}"
            )
        return
    if not any(given.values()):
        return
    if not all(given.values()):
        missing = ", ".join(f"--{name}" for name in given if not given[name])
        raise ConfigError(f"several processes need --coordinator, --num_processes and --process_id: {missing} is "
                          f"missing, {example}")  # fmt: skip
    host, _, port = coordinator.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
        raise ConfigError(f"--coordinator={coordinator} is not of the form HOST:PORT, {example}")
    if process_id >= num_processes:
        raise ConfigError(
            f"--process_id={process_id} must lie below --num_processes={num_processes}: they count from 0, {example}"
        )
    if cpu_devices % num_processes:
        raise ConfigError(
            f"--cpu_devices={cpu_devices} does not divide by --num_processes={num_processes}, for example "
            f"--cpu_devices={num_processes * max(1, cpu_devices // num_processes)}"
        )


def check_player(name: str, value: str, words: tuple[str, ...]) -> None:
    """Checks that `value` is one of `words`, `tiny`, the folder of a run with a checkpoint, or that of a model.

    Raises:
      ConfigError: it is none of these.
    """
    if value in words or value == "tiny":
        return
    path = Path(value).expanduser()
    if is_run(value):
        if not has_checkpoint(value):
            raise ConfigError(
                f"--{name}={value} is a run without a checkpoint so far; train on with the command that began it, for "
                f"example python -m maro_jax.train --run_dir={value}"
            )
    elif path.exists():
        check_model(value, f"--{name}")
    else:
        allowed = ", ".join((*words, "tiny"))
        raise ConfigError(
            f"--{name}={value} is neither {allowed} nor a folder of a run or a model"
            f"{nearest(value, (*words, 'tiny'))}, for example --{name}=runs/werewolf-tiny"
        )


def is_run(folder: str) -> bool:
    """Whether training has begun in a folder; a model's folder has a config.json too, of another kind."""
    return folder != "tiny" and recorded_config(Path(folder).expanduser()) is not None


def has_checkpoint(run: str) -> bool:
    """Whether a run's folder holds weights."""
    return any(step.name.isdigit() for step in (Path(run).expanduser() / "checkpoints").glob("*"))


def check_new_folder(name: str, value: str) -> None:
    """Checks that a folder can be made, before the work it is to hold is done.

    Raises:
      ConfigError: there is something already, or folders cannot be made there.
    """
    path = Path(value).expanduser().resolve()
    if path.exists():
        raise ConfigError(
            f"--{name}={value} exists already and is never overwritten; name a new folder, for example "
            f"--{name}={value.rstrip('/')}-2"
        )
    there = next(parent for parent in path.parents if parent.exists())
    if not there.is_dir():
        raise ConfigError(f"--{name}={value} cannot be made: {there} is a file; name another folder")
    if not os.access(there, os.W_OK):
        raise ConfigError(f"--{name}={value} cannot be written: permission denied; name another folder")


def check_output(name: str, value: str) -> None:
    """Checks that a file can be written, before the work it is to hold is done.

    Raises:
      ConfigError: it is a folder, or lies in one that is missing or cannot be written.
    """
    path = Path(value).expanduser().resolve()
    if path.is_dir():
        raise ConfigError(f"--{name}={value} is a folder; name a file in it, for example --{name}={path / name}")
    if not path.parent.is_dir():
        raise ConfigError(f"--{name}={value} lies in a folder that does not exist; make it, or name another file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"--{name}={value} cannot be written: permission denied; name another file")


def _literal(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
