"""Several processes train one run: as one process does, through the loss and the stop of one of them."""

import functools
import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from maro_jax.run import exit_codes
from maro_jax.run.directory import read_games
from tests.entry_points import assert_equal, checkpoint, contents, flags_of, metrics, small_config
from tests.processes import started

pytestmark = pytest.mark.usefixtures("kept_programs")


def _command(run: Path, devices: int, **changes) -> list[str]:
    """A run of one iteration of cloning and two of self-play on virtual devices; every iteration is kept."""
    settings = {"games": "kuhn-v0", "warm_start_games": 16, "save_every_minutes": 0.0, "keep_checkpoints": 3}
    config = small_config(run, cpu_devices=devices, join_minutes=5.0, **(settings | changes))
    return ["-m", "maro_jax.train", *flags_of(config)]


def _train(processes: int, run: Path, *command: str) -> None:
    with started(processes, run.with_suffix(".outputs"), *command) as run_by:
        assert run_by.exit_codes() == [exit_codes.DONE] * processes, run_by.complained()


def _summary(run: Path) -> dict:
    """Results in a run's summary; what else is there tells of its last session alone."""
    summary = json.loads((run / "summary.json").read_text())
    return {name: value for name, value in summary.items() if name.startswith("win_rate")}


def _assert_same_run(run: Path, other: Path, step: int) -> None:
    assert_equal(checkpoint(run, step), checkpoint(other, step))
    assert metrics(run) == metrics(other) and len(metrics(run)) == step
    assert read_games(run) == read_games(other) != []
    assert _summary(run) == _summary(other)


@pytest.fixture(scope="module")
def straight_on(kept_programs, tmp_path_factory):
    """A run by one process, never interrupted; its devices exchange what they compute as those of several do."""

    @functools.cache
    def run_on(devices: int) -> Path:
        run = tmp_path_factory.mktemp("straight") / "run"
        _train(1, run, *_command(run, devices))
        return run

    return run_on


@pytest.fixture(scope="module")
def straight(straight_on):
    """Such a run on four devices."""
    return straight_on(4)


@pytest.mark.parametrize("devices", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_a_run_loses_a_process_and_is_stopped_and_ends_as_the_straight_one(straight_on, tmp_path, devices):
    run = tmp_path / "run"
    command = _command(run, devices)
    with started(2, tmp_path / "lost", *command) as first:
        first.wait_for("1/3")
        while not (run / "checkpoints" / "1").is_dir():
            assert time.monotonic() < first.deadline
            time.sleep(0.02)
        first.processes[1].send_signal(signal.SIGKILL)
        # A broken connection is noticed when the other is next asked for something; where compiling takes longer than
        # the heartbeat, JAX notices first.
        left, killed = first.exit_codes()
        assert killed == -signal.SIGKILL and left in (exit_codes.LOST, -signal.SIGABRT)
        sentence = "the same command goes on from the last checkpoint" if left == exit_codes.LOST else "task died"
        assert sentence in first.complained()
        assert re.search(rf"devices +{devices} x cpu of 2 processes", first.said())
        assert "iteration" not in first.said(1)  # the first alone tells
    with started(2, tmp_path / "stopped", *command) as second:
        second.wait_for("2/3")
        assert re.search(r"state +resumed after iteration 1", second.said())
        second.processes[1].send_signal(signal.SIGTERM)
        assert second.exit_codes() == [exit_codes.PREEMPTED] * 2
        assert all("SIGTERM: saved; the same command goes on" in second.complained(index) for index in range(2))
    _train(1, run, *command)
    _assert_same_run(run, straight_on(devices), 3)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--episodes=32"], "holds a run of another configuration: episodes is 16 there and 32 here"),  # the first says
        (["--games=kuhn-v0:seats=6", "--run_dir={new}"], "kuhn-v0 has no parameter 'seats'"),  # all say
    ],
)
def test_what_is_refused_ends_all_processes(straight, tmp_path, flags, sentence):
    before, new = contents(straight), tmp_path / "new"
    flags = [flag.format(new=new) for flag in flags]
    with started(2, tmp_path / "outputs", *_command(straight, 4), *flags) as refused:
        assert refused.exit_codes() == [exit_codes.USAGE] * 2
        for index in range(2):
            (line,) = [line for line in refused.complained(index).splitlines() if line.startswith("error: ")]
            assert sentence in line and "Traceback" not in refused.complained(index)
    assert contents(straight) == before and not (new / "config.json").exists()


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    one, two, plain = (tmp_path / name for name in ("one", "two", "plain"))
    for processes, run in ((1, one), (2, two)):
        _train(processes, run, *_command(run, 8))
    _assert_same_run(two, one, 3)
    # Devices that are not joined add up in another order; from the first difference in rounding on, runs part slowly.
    with started(1, tmp_path / "outputs", *_command(plain, 8), named=False) as run_by:
        assert run_by.exit_codes() == [exit_codes.DONE]
    first, other = metrics(two)[0], metrics(plain)[0]
    assert first.keys() == other.keys()
    for name, value in first.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_processes_train_an_adapter_with_a_value_function_on_split_parameters(tmp_path):
    from tests.policy.hf_fixture import make_model_folder

    make_model_folder(tmp_path / "model", "qwen3", num_layers=1)
    settings = {"model": str(tmp_path / "model"), "lora_rank": 2, "fsdp": 2, "decompose": "value", "iterations": 1}
    settings |= {"opponents": "league", "pool_size": 1, "pool_every": 1, "reference_point": "token_kl"}
    one, two = tmp_path / "one", tmp_path / "two"
    for processes, run in ((1, one), (2, two)):
        _train(processes, run, *_command(run, 4, **settings))
    _assert_same_run(two, one, 2)
