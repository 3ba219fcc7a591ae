"""Does a long run stay as it began? Trains for an hour and watches it: `python -m tests.benchmarks.soak --out=DIR`.

A process trains until the time is up, then gets SIGTERM, saves and leaves. Meanwhile its memory and its folder are
measured every few seconds, and the programs that JAX compiles are counted as it logs them. The table tells it by parts
of the time: resident memory should be flat, nothing compiled after the first iterations, and the folder grow by the
lines of `metrics.jsonl` alone, as checkpoints and recorded games are kept up to a number. Flags of the training
command may follow.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maro_jax.run import exit_codes
from maro_jax.run.console import Phase, table

# Short iterations, so that there are many; more than there is time for.
FLAGS = (
    "--preset=werewolf-tiny", "--opponents=league", "--iterations=1000000", "--episodes=128", "--eval_every=10",
    "--eval_games=128", "--save_every_minutes=0.5", "--warm_start_games=2560",
)  # fmt: skip
COMPILED = re.compile(r"Finished XLA compilation of (\S+)")
MIB = 2**20


@dataclasses.dataclass
class Reading:
    """One look at the run.

    Attributes:
      second: since the process was started.
      resident: bytes of memory.
      checkpoints, games, metrics, other: bytes in the run's folder.
      files: in it.
      iterations: done so far.
    """

    second: float
    resident: int
    checkpoints: int
    games: int
    metrics: int
    other: int
    files: int
    iterations: int


def read(pid: int, folder: Path, second: float) -> Reading:
    """Measures a process and its folder."""
    resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    sizes = {"checkpoints": 0, "games": 0, "metrics.jsonl": 0, "": 0}
    files = 0
    for path, _, names in os.walk(folder):
        part = os.path.relpath(path, folder).split(os.sep)[0]
        for name in names:
            key = name if part == "." else part
            try:
                sizes[key if key in sizes else ""] += (Path(path) / name).stat().st_size
            except FileNotFoundError:  # a checkpoint that went while we looked
                continue
            files += 1
    metrics = folder / "metrics.jsonl"
    iterations = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
    of_resident = int(resident[1]) * 1024 if resident else 0
    return Reading(second, of_resident, *sizes.values(), files, iterations)


def soak(folder: Path, minutes: float, every: float, flags: Sequence[str]) -> tuple[list[Reading], list[Any], int, str]:
    """Trains for a while.

    Args:
      folder: of the run; must not exist.
      minutes: until it is told to stop.
      every: seconds between two readings.
      flags: of the training command.

    Returns:
      The readings; the compiled programs, each as its second and its name; the exit code; what the run last wrote.
    """
    command = [sys.executable, "-m", "maro_jax.train", f"--run_dir={folder}", *FLAGS, *flags]
    begun, programs, tail = time.monotonic(), [], [""]
    environment = os.environ | {"JAX_LOG_COMPILES": "1", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if found := COMPILED.search(line):
                programs.append((time.monotonic() - begun, found[1]))
            elif line.startswith(("error", "Traceback")) or tail[0].startswith("Traceback"):
                tail[0] += line

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    readings: list[Reading] = []
    phase = Phase("soaking, minutes", round(minutes), sys.stderr, time.monotonic)
    while (second := time.monotonic() - begun) < 60 * minutes and process.poll() is None:
        readings.append(read(process.pid, folder, second))
        phase.update(int(second / 60))
        time.sleep(every)
    process.send_signal(signal.SIGTERM)
    code = process.wait(600)
    listener.join(60)
    return readings, programs, code, tail[0]


def by_parts(readings: Sequence[Reading], programs: Sequence[Any], parts: int) -> list[list[Any]]:
    """Rows of the table: each part of the time with its largest values."""
    rows, end = [], readings[-1].second
    for number in range(parts):
        low, high = end * number / parts, end * (number + 1) / parts
        inside = [each for each in readings if low <= each.second <= high]
        rows.append([
            f"{low / 60:.0f} to {high / 60:.0f}",
            inside[-1].iterations,
            f"{max(each.resident for each in inside) / MIB:,.0f}",
            sum(low <= second <= high for second, _ in programs),
            max(each.files for each in inside),
            *(f"{max(getattr(each, name) for each in inside) / MIB:.2f}" for name in PLACES),
        ])  # fmt: skip
    return rows


PLACES = ("checkpoints", "games", "metrics", "other")


def slope(readings: Sequence[Reading], after: float) -> float:
    """MiB of resident memory an hour, by least squares over the readings after a share of the time."""
    later = [each for each in readings if each.second >= after * readings[-1].second]
    mean = sum(each.second for each in later) / len(later)
    spread = sum((each.second - mean) ** 2 for each in later)
    return 3600 * sum((each.second - mean) * each.resident for each in later) / spread / MIB


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", allow_abbrev=False)
    parser.add_argument("--out", required=True, help="folder of the run; must not exist")
    parser.add_argument("--minutes", type=float, default=65.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two readings")
    parser.add_argument("--parts", type=int, default=6, help="rows of the table")
    parser.add_argument("--json", help="file for all readings")
    options, flags = parser.parse_known_args(arguments)
    folder = Path(options.out).resolve()
    if folder.exists():
        parser.error(f"--out={options.out} exists; name a new folder, for example --out=runs/soak")
    readings, programs, code, tail = soak(folder, options.minutes, options.every, flags)
    if not readings or code != exit_codes.PREEMPTED:
        sys.exit(f"error: the run ended by itself with exit code {code}: {tail}")
    headers = ("minutes", "iterations", "memory MiB", "programs", "files", *(f"{name} MiB" for name in PLACES))
    print(table(headers, by_parts(readings, programs, options.parts)))
    last = programs[-1]
    done = max((each.iterations for each in readings if each.second <= last[0]), default=0)
    print(f"{len(programs)} programs compiled, the last ({last[1]}) at {last[0]:.0f} s, after iteration {done}")
    for share in (0.25, 0.5):
        print(f"memory grew by {slope(readings, share):+.1f} MiB an hour in the last {1 - share:.0%} of the time")
    print(f"left with exit code {code}, as it was told")
    if options.json:
        content = {"readings": [dataclasses.asdict(each) for each in readings], "programs": programs}
        Path(options.json).write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
