"""The run directory: what it records, what it refuses, what survives a kill."""

import dataclasses
import json
import math
import os

import numpy as np
import pytest

from maro_jax.run.config import make_config
from maro_jax.run.directory import RunDirectory, read_games, recorded_config, write_json
from maro_jax.run.fields import ConfigError


def _contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _begin(folder, config, devices=None):
    run = RunDirectory.open(folder, config)
    run.record(devices or {})
    return run


def test_new_run_records_what_is_needed_to_reproduce_it(tmp_path):
    config = make_config(overrides={"seed": 3})
    run = _begin(tmp_path / "a" / "run", config, {"kind": "cpu", "count": 8})
    assert run.is_new and run.path.is_absolute() and run.summary() is None
    recorded = json.loads((run.path / "config.json").read_text())
    assert recorded["config"] == dataclasses.asdict(config)
    assert recorded["devices"] == {"kind": "cpu", "count": 8}
    assert {"python", "jax", "flax", "orbax-checkpoint"} <= set(recorded["versions"])
    assert "commit" in recorded and "uncommitted_changes" in recorded
    run.close()


def test_same_config_goes_on_and_another_is_refused_key_by_key(tmp_path):
    config = make_config()
    _begin(tmp_path, config).close()
    free = {"save_every_minutes": 1.0, "keep_checkpoints": 9, "profile": True, "run_dir": str(tmp_path)}
    again = RunDirectory.open(tmp_path, dataclasses.replace(config, **free))
    assert not again.is_new and again.record({}) == []
    again.close()
    before = _contents(tmp_path)
    other = dataclasses.replace(config, seed=1, utility="reinforce", keep_checkpoints=5)
    with pytest.raises(ConfigError) as refusal:
        RunDirectory.open(tmp_path, other)
    assert "seed is 0 there and 1 here" in str(refusal.value)
    assert "utility is kto there and reinforce here" in str(refusal.value)
    assert "keep_checkpoints" not in str(refusal.value)
    assert _contents(tmp_path) == before


def test_a_run_from_before_a_flag_existed_goes_on_with_its_default(tmp_path):
    config = make_config()
    _begin(tmp_path, config).close()
    recorded = json.loads((tmp_path / "config.json").read_text())
    del recorded["config"]["clip"]
    write_json(tmp_path / "config.json", recorded)
    RunDirectory.open(tmp_path, config).close()
    with pytest.raises(ConfigError, match=r"another configuration: clip is 0.2 there and 0.3 here"):
        RunDirectory.open(tmp_path, dataclasses.replace(config, clip=0.3))
    recorded["config"]["bygone"] = 7
    write_json(tmp_path / "config.json", recorded)
    with pytest.raises(ConfigError, match=r"bygone is 7 there and \(absent\) here"):
        RunDirectory.open(tmp_path, config)


def test_nothing_is_recorded_before_it_is_known_to_be_usable(tmp_path):
    RunDirectory.open(tmp_path, make_config(overrides={"seed": 1})).close()
    assert recorded_config(tmp_path) is None
    run = _begin(tmp_path, make_config())
    assert run.is_new and recorded_config(tmp_path) == dataclasses.asdict(make_config())
    run.close()


def test_other_versions_and_devices_are_noted(tmp_path):
    _begin(tmp_path, make_config(), {"kind": "cpu", "count": 8}).close()
    recorded = json.loads((tmp_path / "config.json").read_text())
    recorded["versions"]["jax"] = "0.1.0"
    recorded["commit"] = "abc"
    write_json(tmp_path / "config.json", recorded)
    run = RunDirectory.open(tmp_path, make_config())
    notes = run.record({"kind": "cpu", "count": 2})
    assert any("began with jax 0.1.0" in note for note in notes)
    assert any("began at commit abc" in note for note in notes)
    assert any("began on kind cpu count 8, this is kind cpu count 2" in note for note in notes)
    run.close()


def test_foreign_and_damaged_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        RunDirectory.open(tmp_path, make_config())
    with pytest.raises(ConfigError, match="cannot be written"):
        RunDirectory.open(tmp_path / "thesis.tex" / "run", make_config())
    with pytest.raises(ConfigError, match="cannot be written"):
        RunDirectory.open(tmp_path / "thesis.tex", make_config())
    assert _contents(tmp_path) == {"thesis.tex": b"years of work"}
    for text in ("{", "[]", '{"config": 3}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConfigError, match="damaged"):
            RunDirectory.open(tmp_path, make_config())
        assert (tmp_path / "config.json").read_text() == text


def test_folder_of_a_run_killed_before_its_first_write_is_usable(tmp_path):
    for name in (".lock", ".config.json.part", "code.diff"):
        (tmp_path / name).write_text("")
    run = RunDirectory.open(tmp_path, make_config())
    assert run.is_new
    run.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be written"):
        RunDirectory.open(tmp_path / "run", make_config())


def test_one_process_at_a_time(tmp_path):
    run = RunDirectory.open(tmp_path, make_config())
    with pytest.raises(ConfigError, match="in use"):
        RunDirectory.open(tmp_path, make_config())
    run.close()
    RunDirectory.open(tmp_path, make_config()).close()


def test_summary_and_games_roundtrip(tmp_path):
    run = RunDirectory.open(tmp_path, make_config())
    run.write_summary({"win_rate": np.float32(0.5), "bad": math.inf, "where": tmp_path})
    assert run.summary() == {"win_rate": 0.5, "bad": None, "where": str(tmp_path)}
    run.write_games("iteration-000002", [{"episode": 2}])
    run.write_games("iteration-000001", [{"episode": 0}])
    run.write_games("iteration-000001", [{"episode": 1}])
    assert run.read_games() == [{"episode": 1}, {"episode": 2}] == read_games(tmp_path)
    for name in ("../out", "a/b", ""):
        with pytest.raises(ValueError, match="letters"):
            run.write_games(name, [])
    assert not list(tmp_path.rglob("*.part"))
    run.close()


def test_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_metrics_stay_single_valued_over_resumes(tmp_path):
    run = RunDirectory.open(tmp_path, make_config())
    metrics = run.metrics()
    for step in range(1, 6):
        metrics.write(step, loss=np.float32(step), note="first", bad=math.nan)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # a kill in the middle of a line
    metrics = run.metrics(resumed_step=3)
    metrics.write(4, loss=40.0)
    assert [row["step"] for row in metrics.rows()] == [1, 2, 3, 4]
    assert metrics.rows()[3] == {"step": 4, "loss": 40.0}
    assert metrics.rows()[0] == {"step": 1, "loss": 1.0, "note": "first", "bad": None}
    assert run.metrics(resumed_step=0).rows() == []
    run.close()
