"""The runs of a scan on disk: where each one lives, what is kept of it, and who is at it.

A scan's folder:

  <trial>/seed<k>/       the run directory
  <trial>/seed<k>.log    what the trainer printed, all sessions
  warm-<id>/seed<k>/     a warm start that trials of one seed share
  results/               a small JSON record for each finished or failed run, the tables and the curves

A record is all that the scan needs to know of a run: with the records in place, runs are neither started again nor
looked for, so a scan goes on on a machine that has nothing but them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.scans.grid import Trial, digest, recorded_settings, settings_of, trainer_flags
from maro_jax.run.config import TrainConfig
from maro_jax.run.directory import write_json
from maro_jax.run.fields import ConfigError

DONE, FAILED, PENDING = "done", "failed", "pending"


@dataclasses.dataclass(frozen=True)
class Run:
    """One seed of a trial, or a warm start for it.

    Attributes:
      name: unique in the scan; names the folder and the record.
      label: for people.
      config: as the trainer gets it, folder and seed included.
      trial: None for a warm start.
      warm_start: the run that has to be finished first.
    """

    name: str
    label: str
    config: TrainConfig
    trial: Trial | None = None
    warm_start: Run | None = None

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.config.seed

    @property
    def flags(self) -> list[str]:
        """The trainer's command line after its name."""
        return trainer_flags(self.config)

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.config.run_dir)

    @property
    def log(self) -> Path:
        """What the trainer printed."""
        return self.folder.with_name(self.folder.name + ".log")

    def claim(self) -> int | None:
        """Takes the run for this process and the children that inherit the descriptor; None if another has it.

        The system frees it when the last of them ends, in whatever way: a trainer that outlives a killed scan keeps its
        run, and a scan that is started again waits for it.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder.with_name(f".{self.folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def summary(self) -> dict[str, Any] | None:
        """The trainer's summary once the run is finished."""
        try:
            content = json.loads((self.folder / "summary.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            raise ConfigError(f"{self.folder / 'summary.json'} is damaged; move the run's folder away") from None
        return content if isinstance(content, dict) else None


def make_runs(trials: Sequence[Trial], seeds: Mapping[str, Sequence[int]], out: Path) -> list[Run]:
    """Every trial with its seeds, by its id; seed after seed, so that an unfinished scan has pairs to compare."""
    runs = []
    for seed in sorted({seed for of_trial in seeds.values() for seed in of_trial}):
        for trial in (trial for trial in trials if seed in seeds[trial.id]):
            warm_start = None
            config = dataclasses.replace(trial.config, seed=seed, run_dir=str(out / trial.id / f"seed{seed}"))
            if trial.warm_start is not None:
                warm_start = _warm_run(trial.warm_start, seed, out)
                config = config.with_warm_start_of(warm_start.config.run_dir)
            runs.append(Run(f"{trial.id}-seed{seed}", f"{trial.label} seed {seed}", config, trial, warm_start))
    return runs


def shard_of(runs: Sequence[Run], index: int, count: int) -> list[Run]:
    """Every `count`-th run from the `index`-th (1-based); runs that share a warm start stay together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.warm_start.name if run.warm_start else run.name, []).append(run)
    return [run for number, group in enumerate(groups.values()) if number % count == index - 1 for run in group]


class Records:
    """The folder of records; `read` gives what is known of a run."""

    def __init__(self, folder: Path, curves: Sequence[str] = ()):
        self.folder = folder
        self._curves = tuple(curves)

    def read(self, run: Run) -> dict[str, Any] | None:
        """The run's record, None if it has none.

        Raises:
          ConfigError: the file is not as it was written, or the flags that nobody gave meant something else then.
        """
        path = self._path(run)
        try:
            record = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.pop("digest", None) != digest(record):
            raise ConfigError(f"{path} is damaged; restore it, or remove it to run {run.label} again")
        here = recorded_settings(run.trial.config) if run.trial else {}
        differing = [name for name, value in record["config"].items() if here.get(name, value) != value]
        if differing:
            name = differing[0]
            raise ConfigError(
                f"{path} was made when --{name} was {record['config'][name]} by default, and here it is {here[name]}: "
                f"give the flag, for example -- --{name}={record['config'][name]}, or choose another --out or --results"
            )
        return record

    def status(self, run: Run) -> str:
        """`done`, `failed` or `pending`."""
        record = self.read(run)
        return record["status"] if record else PENDING

    def write_done(self, run: Run, summary: dict[str, Any]) -> None:
        """Records a finished run."""
        self._write(run, DONE, {"summary": summary, "curves": self._read_curves(run), "made_by": _made_by(run)})

    def write_failed(self, run: Run, exit_code: int, reason: str) -> None:
        """Records a run that cannot go on."""
        self._write(run, FAILED, {"exit_code": exit_code, "reason": reason, "made_by": _made_by(run)})

    def forget_failure(self, run: Run) -> None:
        """Lets a failed run start again."""
        if self.status(run) == FAILED:
            self._path(run).unlink(missing_ok=True)

    def _write(self, run: Run, status: str, content: dict[str, Any]) -> None:
        assert run.trial is not None, "a warm start has no record: its folder is all that others need of it"
        config = recorded_settings(run.trial.config)
        record = {"trial": run.trial.id, "seed": run.seed, "status": status, "config": config, **content}
        record = json.loads(json.dumps(record))  # as it will be read
        write_json(self._path(run), record | {"digest": digest(record)})

    def _path(self, run: Run) -> Path:
        return self.folder / f"{run.name}.json"

    def _read_curves(self, run: Run) -> dict[str, list[list[float]]]:
        """Step and value of the columns that curves are drawn of."""
        path = run.folder / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return {
            name: [[row["step"], row[name]] for row in rows if isinstance(row.get(name), (int, float))]
            for name in self._curves
        }


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Shards that end together write the tables one after the other."""
    with (folder / ".tables.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def last_words(log: Path) -> str:
    """The last line the trainer printed."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][-300:] if said else ""


def _warm_run(config: TrainConfig, seed: int, out: Path) -> Run:
    name = f"warm-{digest(settings_of(config))}"
    config = dataclasses.replace(config, seed=seed, run_dir=str(out / name / f"seed{seed}"))
    return Run(f"{name}-seed{seed}", f"warm start of seed {seed}", config)


def _made_by(run: Run) -> dict[str, Any]:
    """Code, versions and devices, as the run directory recorded them."""
    try:
        recorded = json.loads((run.folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: recorded.get(name) for name in ("commit", "uncommitted_changes", "versions", "devices")}
