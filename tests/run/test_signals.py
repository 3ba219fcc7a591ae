"""One signal asks, a second ends at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from maro_jax.run import exit_codes
from maro_jax.run.signals import StopSignal

LOOP = """
import time
from maro_jax.run import exit_codes
from maro_jax.run.signals import StopSignal
with StopSignal() as stop:
    print("ready", flush=True)
    while not stop.requested or {stuck}:
        time.sleep(0.01)
print("saved", stop.name, flush=True)
raise SystemExit(exit_codes.PREEMPTED)
"""


def _start(stuck: bool) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP.format(stuck=stuck)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_lets_the_loop_save(number):
    process = _start(stuck=False)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == exit_codes.PREEMPTED == 75
    assert out == f"saved {number.name}\n"
    assert "saving" in err and "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_at_once(number):
    process = _start(stuck=True)
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "saved" not in out


def test_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignal() as stop:
        assert not stop.requested and stop.name == ""
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested and stop.name == "SIGTERM"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_signal_leaves_a_notebooks_kernel_alive(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with pytest.raises(KeyboardInterrupt), StopSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        signal.raise_signal(signal.SIGINT)
