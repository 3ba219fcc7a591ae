"""What the tests of the commands share: small runs, their contents, and commands as a shell would start them."""

import contextlib
import dataclasses
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from maro_jax.league import record
from maro_jax.league.trainer import Trainer
from maro_jax.run.config import TrainConfig, make_config
from maro_jax.run.directory import Metrics
from maro_jax.train import Stopped, train

ROOT = Path(__file__).resolve().parents[1]

# Two warm-start and two self-play iterations of every kind of step.
SMALL: dict[str, Any] = {
    "games": "werewolf-v0:num_seats=5,max_days=2",
    "iterations": 2,
    "episodes": 16,
    "lanes": 8,
    "minibatches": 2,
    "warm_start_games": 32,
    "warm_start_batch": 8,
    "eval_every": 2,
    "eval_games": 16,
    "final_games": 16,
    "record_episodes": 6,
}
ITERATIONS = 4

# A wrong flag must be answered without any of these.
HEAVY = ("jax", "flax", "optax", "orbax", "transformers", "numpy")
_LIGHT = f"""
import runpy, sys
try:
    runpy.run_module(sys.argv.pop(1), run_name="__main__")
finally:
    print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""


@contextlib.contextmanager
def compiled_programs_kept(folder: Path) -> Iterator[None]:
    """Keeps compiled programs on disk, for this process and those it starts: runs of one shape compile once.

    To compile takes longer than small runs take, so it is done with few optimizations.
    """
    settings = {
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in settings}
    environment = {name.upper(): str(value) for name, value in settings.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), environment[name.upper()])
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def small_config(run_dir: Path, **changes: Any) -> TrainConfig:
    """A run of seconds, once its programs are compiled."""
    return make_config("werewolf-smoke", SMALL | {"run_dir": str(run_dir)} | changes)


class FinishedRun(NamedTuple):
    """A small run trained to its end.

    Attributes:
      folder: of the run.
      lines: that it printed.
      recorded: for each time that games were recorded, the arguments of `game_records` and what it returned.
    """

    folder: Path
    lines: list[str]
    recorded: list[tuple[tuple[Any, ...], list[dict[str, Any]]]]


def finish_run(folder: Path) -> FinishedRun:
    """Trains a small run, looking on while games are recorded."""
    recorded = []
    untouched = record.game_records

    def watched(*arguments: Any) -> list[dict[str, Any]]:
        records = untouched(*arguments)
        recorded.append((arguments, records))
        return records

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "game_records", watched)
        _, lines = train_quietly(small_config(folder, save_every=3))
    return FinishedRun(folder, lines, recorded)


def train_quietly(config: TrainConfig) -> tuple[dict[str, Any], list[str]]:
    """Trains to the end; returns the summary and the lines printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        summary = train(config)
    return summary, printed.getvalue().splitlines()


def train_until(config: TrainConfig, iteration: int) -> None:
    """Trains until Ctrl-C comes in the middle of the iteration of this number."""
    untouched = Trainer.iterate

    def interrupted(self: Trainer, state: Any, number: int) -> Any:
        if number == iteration:
            signal.raise_signal(signal.SIGINT)
        return untouched(self, state, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "iterate", interrupted)
        with pytest.raises(Stopped, match="SIGINT"):
            train_quietly(config)


def checkpoint(run_dir: Path, step: int) -> dict[str, np.ndarray]:
    """All arrays of a run's checkpoint, read by Orbax alone; whatever devices they were saved from."""
    folder = run_dir / "checkpoints" / str(step) / "state"
    with ocp.PyTreeCheckpointer() as checkpointer:
        names = checkpointer.metadata(folder).item_metadata.tree
        plain = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
        return checkpointer.restore(folder, restore_args=plain)


def assert_equal(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    """Asserts that two checkpoints hold the same arrays, bit for bit."""
    assert left.keys() == right.keys() and any(name.startswith("learner.params.") for name in left)
    for name in left:
        assert left[name].dtype == right[name].dtype
        np.testing.assert_array_equal(np.asarray(left[name]), np.asarray(right[name]), err_msg=name)


def metrics(run_dir: Path, iterations: int = ITERATIONS) -> list[dict[str, Any]]:
    """A run's metrics without what a clock measured."""
    rows = Metrics(run_dir / "metrics.jsonl", resumed_step=iterations).rows()
    clocked = ("rollout_of_floor", "mfu")
    return [
        {name: value for name, value in row.items() if "second" not in name and name not in clocked} for row in rows
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flags_of(config: TrainConfig) -> list[str]:
    """The command line that asks for a configuration."""
    return [f"--{name}={value}" for name, value in dataclasses.asdict(config).items()]


def run_lightly(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; the last line it prints names the frameworks that it has imported."""
    return subprocess.run(
        [sys.executable, "-c", _LIGHT, module, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
