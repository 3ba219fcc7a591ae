"""Several processes on this machine that train one run, as tests start them; none outlives its test."""

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compiling import FASTER_FLAGS
from tests.entry_points import ROOT

# The sums of XLA's matrix products depend on how many workers share them; by default that follows from the devices.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "NPROC": "8",
    "XLA_FLAGS": FASTER_FLAGS,
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
}
PATIENCE = 600.0  # seconds that a test waits before it fails


@dataclasses.dataclass
class Started:
    """Processes that were started together, and what they write.

    Attributes:
      processes: by their number.
      folder: holds their outputs.
      deadline: on `time.monotonic`; nothing is waited for any longer.
    """

    processes: list[subprocess.Popen[bytes]]
    folder: Path
    deadline: float

    def said(self, index: int = 0) -> str:
        """What a process has written to its standard output so far."""
        return (self.folder / f"{index}.out").read_text()

    def complained(self, index: int = 0) -> str:
        """What it has written to its standard error so far."""
        return (self.folder / f"{index}.err").read_text()

    def wait_for(self, start: str, index: int = 0) -> None:
        """Waits until a process has written a line that begins so."""
        while not any(line.startswith(start) for line in self.said(index).splitlines()):
            ended = self.processes[index].poll()
            assert ended is None and time.monotonic() < self.deadline, (ended, self.said(index), self.complained(index))
            time.sleep(0.05)

    def exit_codes(self) -> list[int]:
        """Waits until all have ended."""
        try:
            return [process.wait(max(0.0, self.deadline - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired:
            pytest.fail("\n".join(self.complained(index) for index in range(len(self.processes))))


@contextlib.contextmanager
def started(count: int, folder: Path, *command: str, named: bool = True) -> Iterator[Started]:
    """Starts a Python command `count` times, each told who it is; those that are left at the end are killed.

    Args:
      count: how many processes.
      folder: for their outputs; made if need be.
      *command: arguments of Python.
      named: whether the command takes the flags that say who it is.
    """
    folder.mkdir(exist_ok=True)
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index in range(count):
            flags = [f"--coordinator=localhost:{port}", f"--num_processes={count}", f"--process_id={index}"]
            with (folder / f"{index}.out").open("wb") as out, (folder / f"{index}.err").open("wb") as err:
                arguments = [sys.executable, *command, *(flags if named else [])]
                processes.append(
                    subprocess.Popen(arguments, cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=out, stderr=err)
                )
        yield Started(processes, folder, time.monotonic() + PATIENCE)
    finally:
        for process in processes:
            process.kill()
            process.wait()
