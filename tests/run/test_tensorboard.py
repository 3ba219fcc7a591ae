"""Event files hold what metrics.jsonl holds, also after a run went on from an earlier step."""

import importlib.util
import struct

import pytest

from maro_jax.run.config import make_config
from maro_jax.run.directory import RunDirectory
from maro_jax.run.fields import ConfigError
from maro_jax.train import train


def told(folder) -> dict[str, dict[int, float]]:
    """The values of a folder's event files, by name and step, read by the format's description."""
    from tensorboardX.proto.event_pb2 import Event

    values: dict[str, dict[int, float]] = {}
    for file in folder.glob("events.out.tfevents.*"):
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4
            for value in event.summary.value:
                of = values.setdefault(value.tag, {})
                assert event.step not in of
                of[event.step] = value.simple_value
    return values


def test_event_files_hold_the_rows_that_count(tmp_path):
    config = make_config("werewolf-smoke", {"run_dir": str(tmp_path / "run"), "tensorboard": True})
    directory = RunDirectory.open(tmp_path / "run", config)
    metrics = directory.metrics(0, tensorboard=True)
    for step in (1, 2, 3):
        metrics.write(step, loss=0.5 * step, shapes=[1, 2], note="said", **{"win_rate/village": 0.25})
    metrics.close()
    again = directory.metrics(1, tensorboard=True)  # steps 2 and 3 are played again
    again.write(2, loss=7.0, kl=float("nan"))
    again.close()
    directory.close()
    assert told(tmp_path / "run" / "tensorboard") == {
        "run/loss": {1: 0.5, 2: 7.0}, "win_rate/village": {1: 0.25},
    }  # fmt: skip
    assert [row["loss"] for row in again.rows()] == [0.5, 7.0]


def test_without_the_extra_the_flag_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--tensorboard needs tensorboardX: pip install 'maro-jax\[tensorboard\]'"):
        train(make_config("werewolf-smoke", {"run_dir": str(tmp_path / "run"), "tensorboard": True}))
    assert not (tmp_path / "run").exists()
