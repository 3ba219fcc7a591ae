"""The trainer, struck by a fault at a chosen place: `python -m tests.faulty_trainer FAULT NUMBER FLAGS`.

rollout, update   dies of SIGKILL in the midst of the rollout or the optimizer step of this number
save              dies of SIGKILL while the checkpoint of this number is being written
time              dies of SIGKILL so many milliseconds after the first iteration has begun
size              no file may grow beyond so many bytes, as on a disk that is full
"""

import functools
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maro_jax.league.arena import Arena
from maro_jax.league.trainer import Trainer
from maro_jax.learner.update import Learner
from maro_jax.run.checkpoint import Checkpoints
from maro_jax.run.config import TrainConfig
from maro_jax.run.flags import from_args, run_cli
from maro_jax.train import _main

WITHIN_SECONDS = 0.01  # of a rollout or an update that a fault strikes in


def die() -> None:
    """Ends this process as the kernel does when memory is short: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def strike_within(owner: type, name: str, number: int) -> None:
    """Dies while a method is at work for the `number`-th time, at the latest before it returns."""
    untouched, calls = getattr(owner, name), [0]

    @functools.wraps(untouched)
    def struck(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] < number:
            return untouched(*arguments, **keywords)
        threading.Timer(WITHIN_SECONDS, die).start()
        untouched(*arguments, **keywords)
        return die()

    setattr(owner, name, struck)


def strike_before(owner: type, name: str, number: int, strike: Callable[[], None]) -> None:
    """Does `strike` before a method goes to work for the `number`-th time."""
    untouched, calls = getattr(owner, name), [0]

    @functools.wraps(untouched)
    def struck(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            strike()
        return untouched(*arguments, **keywords)

    setattr(owner, name, struck)


def die_while_saving(folder: Path) -> None:
    """Dies as soon as there is a checkpoint that has been begun and not been finished."""

    def watch() -> None:
        while not any(path.name.endswith("-tmp") for path in folder.iterdir()):
            time.sleep(0.0002)
        die()

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    fault, number, flags = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    run = from_args(TrainConfig, flags).resolved_run_dir()
    if fault == "rollout":
        strike_within(Arena, "play", number)
    elif fault == "update":
        strike_within(Learner, "step", number)
    elif fault == "save":
        strike_before(Checkpoints, "save", number, lambda: die_while_saving(run / "checkpoints"))
    elif fault == "time":
        strike_before(Trainer, "iterate", 1, threading.Timer(number / 1000, die).start)
    elif fault == "size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
    run_cli(TrainConfig, _main, flags)


if __name__ == "__main__":
    main()
