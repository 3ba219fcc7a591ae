"""A run's folder: what is needed to go on, to compare and to reproduce, in plain files.

config.json     the configuration, versions, commit and devices it began with
code.diff       uncommitted changes of the code it began with (absent if none)
metrics.jsonl   one JSON object a line; every step at most once
matches.json    results of the final matches played so far
summary.json    written last: the run is finished
checkpoints/    see checkpoint.py
games/          recorded games for the replay
tensorboard/    event files, with --tensorboard
episodes/       datasets of episodes, with --record_episodes
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maro_jax.run.fields import ConfigError
from maro_jax.run.provenance import code, differences, environment
from maro_jax.run.tensorboard import TensorBoard

# What may change between the sessions of a run: nothing that its results depend on.
_FREE_KEYS = frozenset({
    "run_dir", "save_every_minutes", "save_every", "keep_checkpoints", "profile", "tensorboard", "distributed",
    "coordinator", "num_processes", "process_id", "join_minutes", "heartbeat_seconds",
})  # fmt: skip
_MARK = ".first-process"


class RunDirectory:
    """An opened run folder, locked against a second process.

    Attributes:
      path: absolute path.
      is_new: whether it held no run yet when it was opened.
    """

    def __init__(self, path: Path, config: dict[str, Any], recorded: dict[str, Any] | None, lock: int):
        self.path = path
        self.is_new = recorded is None
        self._config = config
        self._recorded = recorded
        self._lock = lock

    @classmethod
    def open(cls, path: str | Path, config: Any) -> RunDirectory:
        """Creates the run's folder, or opens it if it holds a run of the same configuration.

        Nothing is recorded in it before `record`, so that a configuration which turns out to be unusable leaves no run.

        Args:
          path: the folder.
          config: the configuration, a dataclass of plain values.

        Raises:
          ConfigError: the folder cannot be written, holds something else or a run of another
            configuration (key by key), or is in use. Nothing in it was changed.
        """
        folder = Path(path).expanduser().resolve()
        values = dataclasses.asdict(config)
        recorded = _read_json(folder / "config.json")
        if recorded is None:
            _refuse_foreign(folder)
        else:
            # What a run does not know yet was added since; defaults of additions keep what was before.
            defaults = {field.name: field.default for field in dataclasses.fields(config)}
            _refuse_other_config(folder, recorded, values, defaults)
        return cls(folder, values, recorded, _lock(folder))

    @property
    def fixed_config(self) -> dict[str, Any]:
        """The configuration that the run began with, less what may change between sessions, as JSON has it."""
        config = self._config if self._recorded is None else self._recorded["config"]
        return json.loads(json.dumps({name: value for name, value in config.items() if name not in _FREE_KEYS}))

    def record(self, devices: Mapping[str, Any]) -> list[str]:
        """Records how a new run begins; for one that goes on, compares.

        Args:
          devices: plain facts about the devices, recorded as they are.

        Returns:
          Differences of code, versions or devices to the session that began the run, one sentence each.

        Raises:
          ConfigError: the folder cannot be written.
        """
        today = environment(devices)
        if self._recorded is not None:
            return differences(self._recorded, today)
        try:
            if diff := code().diff:
                _replace(self.path / "code.diff", diff)
            write_json(self.path / "config.json", {"config": self._config, **today})
        except OSError as error:
            raise _not_writable(self.path, error) from None
        return []

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints live."""
        return self.path / "checkpoints"

    @property
    def episodes(self) -> Path:
        """Where datasets of episodes are kept."""
        return self.path / "episodes"

    @property
    def replay(self) -> Path:
        """Where the HTML replay is written unless another file is named."""
        return self.path / "replay.html"

    @property
    def not_finite(self) -> Path:
        """Where a run that ended by steps that are not finite tells of them."""
        return self.path / "not_finite.json"

    def write_not_finite(self, diagnosis: Mapping[str, Any]) -> None:
        """Writes what `maro_jax.league.diagnosis` found; what is not finite is null."""
        write_json(self.not_finite, diagnosis)

    def summary(self) -> dict[str, Any] | None:
        """The summary of a finished run, else None."""
        return _read_json(self.path / "summary.json")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes `summary.json`, which marks the run as finished."""
        write_json(self.path / "summary.json", summary)

    def matches(self) -> dict[str, Any]:
        """Results of the final matches played so far."""
        return read_matches(self.path)

    def write_matches(self, results: Mapping[str, Any]) -> None:
        """Replaces `matches`, so that a run stopped between two of them need not play them again."""
        write_json(self.path / "matches.json", results)

    def metrics(self, resumed_step: int = 0, tensorboard: bool = False) -> Metrics:
        """Opens `metrics.jsonl`, without the rows newer than `resumed_step`; event files beside it if asked for."""
        metrics = Metrics(self.path / "metrics.jsonl", resumed_step)
        if tensorboard:
            metrics.told_again = TensorBoard(self.path / "tensorboard", metrics.rows())
        return metrics

    def write_games(self, name: str, games: Sequence[Mapping[str, Any]]) -> None:
        """Stores recorded games (the schema of `replay_html`) under `name`, replacing it."""
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
            raise ValueError(f"a name of recorded games holds letters, digits, _ and - only: {name!r}")
        lines = ",\n".join(json.dumps(_plain(game), allow_nan=False, separators=(",", ":")) for game in games)
        (self.path / "games").mkdir(parents=True, exist_ok=True)
        _replace(self.path / "games" / f"{name}.json", f"[\n{lines}\n]\n")

    def read_games(self) -> list[dict[str, Any]]:
        """All recorded games, in the order of their files' names."""
        return read_games(self.path)

    def mark(self, text: str) -> None:
        """Leaves a text for the run's other processes, see `check_mark`."""
        _replace(self.path / _MARK, text)

    def check_mark(self, text: str, seconds: float = 60.0) -> None:
        """Makes sure that this process sees the folder of the first.

        Args:
          text: that the first has given to `mark`.
          seconds: until a network's file system must show it.

        Raises:
          ConfigError: it does not.
        """
        end = time.monotonic() + seconds
        while not (self.path / _MARK).is_file() or (self.path / _MARK).read_text() != text:
            if time.monotonic() > end:
                raise ConfigError(
                    f"--run_dir={self.path} is not the folder that the first process writes to; all processes need "
                    "one that they share, for example --run_dir=/mnt/shared/runs/my-run"
                )
            time.sleep(0.1)

    def close(self) -> None:
        """Gives the folder free for another process."""
        os.close(self._lock)


class FollowedDirectory(RunDirectory):
    """A run's folder to all processes of a run but the first, which alone writes: here nothing is kept or found."""

    def __init__(self, path: str | Path):
        super().__init__(Path(path).expanduser().resolve(), {}, None, -1)

    def mark(self, text: str) -> None:
        """Leaves nothing."""

    def record(self, devices: Mapping[str, Any]) -> list[str]:
        """Records nothing."""
        return []

    def summary(self) -> dict[str, Any] | None:
        """None."""
        return None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def matches(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def write_matches(self, results: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def metrics(self, resumed_step: int = 0, tensorboard: bool = False) -> Metrics:
        """Metrics that are not written."""
        return _UnwrittenMetrics(Path(os.devnull))

    def write_games(self, name: str, games: Sequence[Mapping[str, Any]]) -> None:
        """Writes nothing."""

    def close(self) -> None:
        """Does nothing: there is no lock."""


def recorded_config(folder: str | Path) -> dict[str, Any] | None:
    """The configuration of the run in a folder; None where there is no run (a model's folder, say).

    Raises:
      ConfigError: its config.json is damaged.
    """
    config = (_read_json(Path(folder) / "config.json") or {}).get("config")
    return config if isinstance(config, dict) else None


def read_games(folder: str | Path) -> list[dict[str, Any]]:
    """All games recorded in a run's folder, in the order of their files' names.

    Raises:
      ConfigError: a file is not what `RunDirectory.write_games` writes.
    """
    games: list[dict[str, Any]] = []
    for file in sorted((Path(folder) / "games").glob("*.json")):
        content = _read_json(file, kind=list)
        games += content or []
    return games


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics so far, one that is being written left out; none where nothing was measured yet.

    Raises:
      ConfigError: the file is not what `Metrics` writes.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    if lines and _step(lines[-1]) == math.inf:
        lines.pop()
    if any(_step(line) == math.inf for line in lines):
        raise ConfigError(f"{path} is damaged; restore it, or move it away to go without curves")
    return [json.loads(line) for line in lines]


def read_matches(folder: str | Path) -> dict[str, Any]:
    """Results of a run's final matches played so far, by game."""
    return _read_json(Path(folder) / "matches.json") or {}


class Metrics:
    """Appends to `metrics.jsonl`; a step that is played again replaces its row.

    A resumed run repeats the steps since its checkpoint, so rows beyond it are cut off first,
    and with them a last line that a kill left half written.

    Attributes:
      told_again: event files that hold the same; None if there are none.
    """

    told_again: TensorBoard | None = None

    def __init__(self, path: Path, resumed_step: int = 0):
        self._path = path
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step(line) <= resumed_step]
            _replace(path, "".join(line + "\n" for line in kept))

    def write(self, step: int, **values: Any) -> None:
        """Appends a row; arrays become lists, and numbers that are not finite become null."""
        row = {"step": int(step), **{name: _plain(value) for name, value in values.items()}}
        with self._path.open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        if self.told_again:
            self.told_again.write(**row)

    def close(self) -> None:
        """Writes to the end what is still in memory."""
        if self.told_again:
            self.told_again.close()

    def rows(self) -> list[dict[str, Any]]:
        """All rows so far."""
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines()]


class _UnwrittenMetrics(Metrics):
    def __init__(self, path: Path):
        self._path = path

    def write(self, step: int, **values: Any) -> None:
        pass


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file that is either the old or the new one, whenever the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _plain(value: Any) -> Any:
    """`value` as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and JAX, neither of which is imported here
        return _plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


def _read_json(path: Path, kind: type = dict) -> Any:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise ConfigError(f"{path} cannot be read: permission denied") from None
    except ValueError:
        content = None
    if not isinstance(content, kind):
        raise ConfigError(f"{path} is damaged; restore it, or choose another --run_dir")
    return content


def _refuse_foreign(folder: Path) -> None:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return
    except OSError as error:
        raise _not_writable(folder, error) from None
    # Hidden files and code.diff may come from a run that was killed before its first write.
    foreign = [name for name in sorted(names) if not name.startswith(".") and name != "code.diff"]
    if foreign:
        raise ConfigError(
            f"--run_dir={folder} holds other files ({foreign[0]}) and no run; choose an empty or "
            "new folder, for example --run_dir=runs/my-run"
        )


def _refuse_other_config(
    folder: Path, recorded: Mapping[str, Any], values: dict[str, Any], defaults: Mapping[str, Any]
) -> None:
    old = recorded.get("config")
    if not isinstance(old, dict):
        raise ConfigError(f"{folder / 'config.json'} is damaged; choose another --run_dir")
    old = {**defaults, **old}
    missing = "(absent)"
    differing = [
        f"{key} is {old.get(key, missing)} there and {values.get(key, missing)} here"
        for key in sorted((old.keys() | values.keys()) - _FREE_KEYS)
        if old.get(key, missing) != values.get(key, missing)
    ]
    if differing:
        raise ConfigError(
            f"--run_dir={folder} holds a run of another configuration: {'; '.join(differing)}. "
            "Use the same values to go on, or another folder, for example --run_dir=runs/my-run"
        )


def _lock(folder: Path) -> int:
    """Takes the folder's lock, which the system drops when the process ends in any way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _not_writable(folder, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(
            f"--run_dir={folder} is in use by another process; wait for it or choose another "
            "folder, for example --run_dir=runs/my-run"
        ) from None
    return descriptor


def _not_writable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"--run_dir={folder} cannot be written ({error.strerror}); choose another folder, for "
        "example --run_dir=runs/my-run"
    )
