"""Scans that are written down: named trials, seeds of their own, and contrasts that were named before."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from launch import sweep
from launch.scans import grid, plan, statistics
from maro_jax.run.fields import ConfigError

SHIPPED = Path(plan.__file__).parent
STUB = Path(__file__).with_name("stub_trainer.py")
PLAN = """
base = ["--preset=werewolf-tiny"]
seeds = "0-1"
baseline = "slow"

[trials]
slow = {learning_rate = 0.001}
fast = {learning_rate = 0.002}
none = {learning_rate = 0.003, shuffle_outcomes = true}

[[contrasts]]
name = "speed"
plus = ["fast", "none"]
minus = ["slow"]
seeds = "0-3"
margin = 0.02
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


def test_a_plan_is_read(file):
    found = plan.read_plan(file, ["--iterations=3"], share_warm_start=False)
    assert [trial.label for trial in found.trials] == ["slow", "fast", "none"] and found.baseline.name == "slow"
    slow, fast, none = found.trials
    assert [trial.config.learning_rate for trial in found.trials] == [0.001, 0.002, 0.003]
    assert none.config.shuffle_outcomes and not slow.config.shuffle_outcomes and fast.config.iterations == 3
    assert fast.swept == {"learning_rate": "0.002", "shuffle_outcomes": "False"}
    assert all(list(found.seeds[trial.id]) == [0, 1, 2, 3] for trial in found.trials)
    assert found.contrasts == (plan.Contrast("speed", (fast.id, none.id), (slow.id,), (0, 1, 2, 3), 0.02),)
    file.write_text(PLAN.replace('minus = ["slow"]', 'minus = ["fast"]'))
    again = plan.read_plan(file, [], share_warm_start=False)
    assert list(again.seeds[again.baseline.id]) == [0, 1]  # in no contrast now


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[trials]", "[trial]", "has an entry trial (did you mean trials?)"),
        ('seeds = "0-1"', "seeds = 3", "seeds = 3 is not a text in quotes"),
        ("0.02", '"wide"', "margin = 'wide' is not a number"),
        ('baseline = "slow"', 'baseline = "slo"', "baseline names a trial 'slo' (did you mean slow?)"),
        ('baseline = "slow"', "", "has no baseline"),
        ('"fast", "none"', '"fast", "nine"', "the contrast 'speed' names a trial 'nine'"),
        ('"0-3"', '"0-x"', "is not a list of numbers"),
        ("{learning_rate = 0.002}", "7", "the trial 'fast' is not a table of flags"),
        ("learning_rate = 0.002", "learning_rat = 0.002", "no flag learning_rat (did you mean learning_rate?)"),
        ("0.002", "0.001", "slow and fast are the same trial"),
        ("werewolf-tiny", 'werewolf-tiny", "--learning_rate=1', "is swept as well"),
        ("[trials]", "[trials", "is no TOML file"),
    ],
)
def test_a_mistake_in_a_plan_is_refused(file, old, new, words):
    assert old in PLAN
    file.write_text(PLAN.replace(old, new))
    with pytest.raises(ConfigError) as refused:
        plan.read_plan(file, [], share_warm_start=False)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_plan_stands_alone(file, tmp_path, capsys):
    for arguments in (["--grid=beta=0.1,0.2"], ["--seeds=0"], ["--baseline=beta=1"]):
        assert sweep.main([f"--plan={file}", f"--out={tmp_path}/out", *arguments]) == 2
        assert "stands in the file that --plan names" in capsys.readouterr().err
    assert sweep.main([f"--plan={tmp_path}/other.toml", f"--out={tmp_path}/out"]) == 2
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err


def test_a_planned_scan_judges_its_contrasts(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grid, "check_games", lambda trials: None)
    trainer = (sys.executable, "-S", str(STUB), str(tmp_path / "journal"))
    assert sweep.main([f"--out={tmp_path}/scan", f"--plan={file}"], trainer) == 0
    results = json.loads((tmp_path / "scan" / "results" / "results.json").read_text())
    assert [trial["name"] for trial in results["trials"].values()] == ["slow", "fast", "none"]
    values = {trial["name"]: trial["metrics"]["win_rate"]["seeds"] for trial in results["trials"].values()}
    (speed,) = results["contrasts"]["win_rate"]
    wanted = [np.mean([values["fast"][seed], values["none"][seed]]) - values["slow"][seed] for seed in "0123"]
    assert speed["mean"] == pytest.approx(np.mean(wanted)) and speed["n"] == 4
    text = (tmp_path / "scan" / "results" / "results.md").read_text()
    assert "| speed | 4 | +0.015 |" in text and "Holm's correction for the 1 of them" in text
    assert "12 runs" in capsys.readouterr().out


def test_a_contrast_is_student_s_test_of_paired_means():
    generator = np.random.default_rng(0)
    a, b, c = generator.normal(0.55, 0.02, (3, 6))
    of = [dict(enumerate(values)) for values in (a, b, c)]
    found = statistics.contrast(of[:2], of[2:], [0, 1, 2, 3, 5, 9])
    chosen = [0, 1, 2, 3, 5]
    means = ((a + b) / 2)[chosen]
    test = stats.ttest_rel(means, c[chosen])
    assert found["seeds"] == chosen and found["mean"] == pytest.approx(np.mean(means - c[chosen]))
    assert found["p"] == pytest.approx(test.pvalue)
    assert found["student_90"] == pytest.approx(list(test.confidence_interval(0.9)))
    assert found["student_95"] == pytest.approx(list(test.confidence_interval(0.95)), rel=1e-3)
    assert statistics.contrast(of[:1], of[1:], [0, 1])["p"] is None


def test_holm_multiplies_the_smallest_most_and_never_falls():
    # Worked by hand: 0.01 · 4, 0.02 · 3 = 0.06, 0.03 · 2 = 0.06, 0.04 · 1 raised to 0.06.
    assert statistics.holm([0.04, 0.01, None, 0.03, 0.02]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])
    assert statistics.holm([0.6, 0.9]) == [1.0, 1.0] and statistics.holm([]) == []


def test_two_seem_alike_only_from_sixteen_seeds_on():
    def judged(count: int, spread: float, shift: float = 0.0) -> bool | None:
        values = shift + spread * np.resize([-1.0, 1.0], count)
        found = statistics.contrast([dict(enumerate(values))], [dict.fromkeys(range(count), 0.0)], range(count))
        return statistics.equivalent(found, 0.02)

    assert judged(15, 0.001) is None
    assert judged(16, 0.001) is True
    assert judged(16, 0.1) is False and judged(16, 0.001, shift=0.03) is False
    assert statistics.equivalent({"n": 16, "student_90": [0, 0]}, None) is None


UNEQUAL = ("more_games",)  # plans that compare numbers of games


@pytest.mark.parametrize("shipped", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_the_plans_that_ship_can_be_run(shipped, tmp_path, monkeypatch):
    (tmp_path / "critics/werewolf").mkdir(parents=True)  # that critic.toml has one train before
    monkeypatch.chdir(tmp_path)
    found = plan.read_plan(shipped, [], share_warm_start=True)
    labels = [trial.label for trial in found.trials]
    assert found.baseline.label in labels and len(set(labels)) == len(labels) >= 2
    for contrast in found.contrasts:
        for name in (*contrast.plus, *contrast.minus):
            assert set(contrast.seeds) <= set(found.seeds[name])
    matched = {(trial.config.iterations, trial.config.episodes, trial.config.final_games) for trial in found.trials}
    assert len(matched) == 1 + (shipped.stem in UNEQUAL)
