"""What becomes of the runs: started here, printed as commands, or laid out for SLURM."""

from __future__ import annotations

import collections
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from launch.scans.runs import PENDING, Records, Run, last_words
from maro_jax.run import exit_codes

ROOT = Path(__file__).resolve().parents[2]
# -P: a folder named games in the current directory must not shadow ours.
TRAINER = (sys.executable, "-P", "-m", "maro_jax.train")
MAX_RESTARTS = 20
POLL_SECONDS = 0.1

Say = Callable[[str], None]


class Stop:
    """Notes the first SIGINT, SIGTERM or SIGHUP; a second one kills the trainers and ends the process."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.requested = False
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        self._previous = {number: signal.signal(number, self._handle) for number in self._SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            for child in self.children.values():
                child.kill()
            os._exit(128 + number)
        self.requested = True
        for child in self.children.values():
            child.terminate()
        os.write(2, b"\nstopping: every run in progress saves and leaves; once more stops at once\n")


@dataclasses.dataclass
class _Started:
    run: Run
    child: subprocess.Popen[bytes]
    lock: int
    slot: int
    since: float


class Local:
    """Trains runs on this machine, several side by side if wanted."""

    def __init__(
        self,
        records: Records,
        say: Say,
        *,
        jobs: int = 1,
        gpus: Sequence[str] = (),
        metric: str = "",
        trainer: Sequence[str] = TRAINER,
    ):
        """Prepares to train.

        Args:
          records: where the outcome of each run is kept.
          say: prints a line.
          jobs: runs at a time.
          gpus: the devices of each job, as CUDA_VISIBLE_DEVICES wants them; empty: all see all.
          metric: shown when a run is finished.
          trainer: the command that takes the trainer's flags.
        """
        self._records = records
        self._say = say
        self._gpus = list(gpus)
        self._free = list(range(len(gpus) or jobs))
        self._metric = metric
        self._trainer = list(trainer)
        self._restarts: collections.Counter[str] = collections.Counter()
        self._failed_warm_starts: dict[str, tuple[int, str]] = {}
        self._waited_for: set[str] = set()

    def train(self, runs: Sequence[Run]) -> None:
        """Brings every run that has no record to its end, unless a signal asks to stop."""
        waiting = _with_warm_starts([run for run in runs if self._records.status(run) == PENDING])
        self._total = self._left = len(waiting)
        started: dict[str, _Started] = {}
        with Stop() as stop:
            while (waiting and not stop.requested) or started:
                if not stop.requested:
                    self._start_some(waiting, started, stop)
                time.sleep(POLL_SECONDS)
                for one in [one for one in started.values() if one.child.poll() is not None]:
                    del started[one.run.name], stop.children[one.child.pid]
                    self._free.append(one.slot)
                    if not self._finish(one, stop):
                        waiting.append(one.run)
                    os.close(one.lock)

    def _start_some(self, waiting: list[Run], started: dict[str, _Started], stop: Stop) -> None:
        """Gives each free slot the first run that can begin."""
        blocked = {run.name for run in waiting} | started.keys()
        for run in list(waiting):
            if not self._free or stop.requested:
                return
            if run.warm_start and run.warm_start.name in blocked:
                continue
            lock = run.claim()
            if lock is None:
                if run.name not in self._waited_for:
                    self._waited_for.add(run.name)
                    self._say(f"{run.label}: another process is at it; waiting for that to end")
                continue
            waiting.remove(run)
            if self._settled(run):
                blocked.discard(run.name)
                os.close(lock)
                continue
            started[run.name] = self._start(run, lock, stop)

    def _settled(self, run: Run) -> bool:
        """Whether nothing is left to do, as others finished the run or its warm start failed."""
        summary = run.summary()
        if run.trial and self._records.read(run):
            self._left -= 1
        elif summary is not None:
            self._done(run, summary, "finished before")
        elif run.warm_start and run.warm_start.name in self._failed_warm_starts:
            code, reason = self._failed_warm_starts[run.warm_start.name]
            self._failed(run, code, f"its warm start failed: {reason}")
        else:
            return False
        return True

    def _start(self, run: Run, lock: int, stop: Stop) -> _Started:
        slot = self._free.pop(0)
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot]
        with run.log.open("ab") as log:
            # In a session of its own: Ctrl-C reaches the scan alone, which passes it on once.
            child = subprocess.Popen(
                [*self._trainer, *run.flags], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=environment, pass_fds=(lock,), start_new_session=True,
            )  # fmt: skip
        stop.children[child.pid] = child
        if stop.requested:  # the signal came while the child was being made
            child.terminate()
        self._say(f"{run.label}: started, log {run.log}")
        return _Started(run, child, lock, slot, time.monotonic())

    def _finish(self, one: _Started, stop: Stop) -> bool:
        """Records how a trainer ended; False if it has to be started again."""
        run, code = one.run, one.child.returncode
        summary = run.summary()
        took = f"{time.monotonic() - one.since:.0f} s"
        if code == exit_codes.DONE and summary is not None:
            self._done(run, summary, took)
        elif stop.requested and code not in (exit_codes.USAGE, exit_codes.NOT_FINITE):
            self._say(f"{run.label}: stopped; the same command goes on")
        elif code == exit_codes.PREEMPTED and self._restarts[run.name] < MAX_RESTARTS:
            self._restarts[run.name] += 1
            self._say(f"{run.label}: was stopped and saved; starting it again")
            return False
        else:
            reason = last_words(run.log) or "nothing was printed"
            self._failed(run, code, reason if code else f"no summary.json was written: {reason}")
        return True

    def _done(self, run: Run, summary: dict[str, Any], how: str) -> None:
        if run.trial:
            self._records.write_done(run, summary)
        value = summary.get(self._metric) if run.trial else None
        shown = f", {self._metric} {value:.4g}" if isinstance(value, (int, float)) else ""
        self._count(f"{run.label}: done ({how}){shown}")

    def _failed(self, run: Run, code: int, reason: str) -> None:
        if run.trial:
            self._records.write_failed(run, code, reason)
        else:
            self._failed_warm_starts[run.name] = (code, reason)
        self._count(f"{run.label}: FAILED with exit code {code}: {reason}")

    def _count(self, line: str) -> None:
        self._left -= 1
        self._say(f"[{self._total - self._left}/{self._total}] {line}")


def commands(runs: Sequence[Run], records: Records) -> list[str]:
    """Shell commands of the runs without a record, in an order that respects warm starts."""
    pending = _with_warm_starts([run for run in runs if records.status(run) == PENDING])
    return [shlex.join(["python", "-m", "maro_jax.train", *run.flags]) for run in pending if run.summary() is None]


def collect(runs: Sequence[Run], records: Records) -> None:
    """Records runs that others have finished, so that printed commands find their way into the tables."""
    for run in runs:
        if run.summary() is None or records.read(run):
            continue
        lock = run.claim()
        summary = run.summary()
        if lock is not None:
            if summary is not None and not records.read(run):
                records.write_done(run, summary)
            os.close(lock)


def write_slurm(folder: Path, arguments: Sequence[str], tasks: int, jobs: int) -> Path:
    """Writes an array job in which each task works at one shard of the scan.

    Args:
      folder: of the scan.
      arguments: of this program, without `--runner` and `--shard`.
      tasks: shards.
      jobs: tasks at a time.
    """
    (folder / "slurm").mkdir(parents=True, exist_ok=True)
    dash = list(arguments).index("--") if "--" in arguments else len(arguments)
    before, after = arguments[:dash], arguments[dash:]
    words = shlex.join([sys.executable, "-m", "launch.sweep", *before])
    command = f'{words} --runner=local --shard="$SLURM_ARRAY_TASK_ID/{tasks}" {shlex.join(after)}'.rstrip()
    script = folder / "slurm" / "array.sh"
    script.write_text(_SLURM.format(
        name=folder.name, tasks=tasks, jobs=jobs, logs=folder / "slurm", here=shlex.quote(os.getcwd()),
        root=shlex.quote(str(ROOT)), command=command, preempted=exit_codes.PREEMPTED,
    ))  # fmt: skip
    script.chmod(0o755)
    return script


_SLURM = """\
#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --array=1-{tasks}%{jobs}
#SBATCH --output={logs}/%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@300
# Partition, time and devices are for sbatch's command line. A task that runs out of time saves and queues again.
set -euo pipefail
cd {here}
export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}
{command} &
sweep=$!
stopped=yes
trap 'stopped=yes; kill -TERM "$sweep"' TERM
# A trapped signal ends `wait` before the program ends.
while [[ -n "$stopped" ]]; do
  stopped=
  code=0
  wait "$sweep" || code=$?
done
if [[ "$code" == {preempted} ]]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""


def _with_warm_starts(runs: Sequence[Run]) -> list[Run]:
    """The runs, each warm start once and before the first that needs it."""
    ordered: dict[str, Run] = {}
    for run in runs:
        if run.warm_start:
            ordered.setdefault(run.warm_start.name, run.warm_start)
        ordered[run.name] = run
    return list(ordered.values())
