"""Scans: refused early, resumed without loss, split without overlap, reported without hiding a failure."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from launch import sweep
from launch.scans import grid, plots, runners, runs, statistics
from maro_jax.run.config import TrainConfig
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import parse

ROOT = Path(__file__).resolve().parents[2]
STUB = Path(__file__).with_name("stub_trainer.py")
RATES = "--grid=learning_rate=0.001,0.002"


class Scan:
    """A scan in a folder of its own, with the stub for a trainer."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.out = folder / "scan"
        self.journal = folder / "journal"
        self.trainer = (sys.executable, "-S", str(STUB), str(self.journal))

    def run(self, *arguments: str) -> int:
        return sweep.main([f"--out={self.out}", *arguments], self.trainer)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """The scan as a process of its own; what it prints goes to `said`."""
        code = (
            "import sys; from launch import sweep; sweep.grid.check_games = lambda trials: None; "
            f"sys.exit(sweep.main(sys.argv[1:], {self.trainer!r}))"
        )
        with (self.folder / "said").open("w") as said:
            command = [sys.executable, "-c", code, f"--out={self.out}", *arguments]
            return subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def lines(self, word: str) -> list[str]:
        text = self.journal.read_text() if self.journal.exists() else ""
        return [line.split(f" {word} ")[0] + " " + line.split(f" {word} ")[1] for line in text.splitlines()
                if f" {word} " in line]  # fmt: skip

    def steps(self) -> Counter[str]:
        return Counter(line.strip() for line in self.lines("step"))

    def results(self) -> dict:
        return json.loads((self.out / "results" / "results.json").read_text())


@pytest.fixture
def scan(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "check_games", lambda trials: None)  # loads JAX; has a test of its own
    return Scan(tmp_path)


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# What is refused, and when


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grid=learning_rat=1,2"], "no flag learning_rat (did you mean learning_rate?)"),
        (["--grid=learning_rate=1,fast"], "--learning_rate=fast is not allowed"),
        (["--grid=learning_rate"], "--grid=learning_rate is not of the form"),
        (["--grid=learning_rate=1,,2"], "not of the form key=value"),
        (["--grid=seed=1,2"], "use --seeds"),
        (["--grid=run_dir=a,b"], "use --out"),
        ([RATES, "--zip=learning_rate,beta=1:2"], "learning_rate is swept twice"),
        (["--grid=learning_rate=0.001,1e-3"], "are the same trial"),
        (["--zip=episodes,lanes=256:64,512"], "with a value for each key"),
        (["--zip=episodes,lane=256:64"], "no flag lane (did you mean lanes?)"),
        (["--grid=balance=role,role_label", "--grid=baseline=none,role"], "trial balance=role_label baseline=none"),
        ([RATES, "--", "--learning_rate=1"], "is swept as well"),
        ([RATES, "--", "--episode=64"], "no flag --episode (did you mean --episodes?)"),
        ([RATES, "--", "episodes=64"], "did you mean --episodes=64?"),
        ([RATES, "--", "--seed", "3"], "use --seeds"),
        ([RATES, "--", "--run_dir=x"], "use --out"),
        ([RATES, "--episodes=64"], "the trainer's flags stand after --"),
        ([RATES, "--sedes=1"], "did you mean --seeds?"),
        ([RATES, "--seeds=1,x"], "for example --seeds=0,1,2"),
        ([RATES, "--seeds=1,0-3"], "names a seed twice"),
        ([RATES, "--shard=0/2"], "for example --shard=1/2"),
        ([RATES, "--shard=3/2"], "for example --shard=1/2"),
        ([RATES, "--jobs=0"], "--jobs=0 is not allowed"),
        ([RATES, "--runner=clown"], "invalid choice"),
        ([RATES, "--baseline=learning_rate=7"], "fits 0 of the 2 trials"),
        ([RATES, "--baseline=beta=7"], "keys among learning_rate"),
        ([RATES, "--share_warm_start", "--", "--warm_start_games=0"], "no warm start to train"),
        ([RATES, "--metrics="], "for example --metrics=win_rate"),
    ],
)
def test_a_mistake_is_refused_in_one_sentence_before_anything_starts(scan, capsys, arguments, words):
    assert scan.run(*arguments) == 2
    message = capsys.readouterr().err
    assert words in message and message.startswith("error: ") and message.count("\n") == 1
    assert not scan.out.exists() and not scan.journal.exists()


@pytest.mark.parametrize("program", [["-m", "launch.sweep"], ["launch/sweep.py"]])
def test_a_typo_is_answered_before_any_framework_is_loaded(tmp_path, program):
    code = "import sys; sys.argv = sys.argv[1:]; import runpy; "
    code += "runpy.run_path('launch/sweep.py', run_name='__main__')" if len(program) == 1 else (
        "runpy.run_module('launch.sweep', run_name='__main__')"
    )  # fmt: skip
    loaded = "import atexit, sys; atexit.register(lambda: print(sorted({'jax', 'numpy'} & sys.modules.keys()))); "
    command = [sys.executable, "-c", loaded + code, "sweep", f"--out={tmp_path / 'scan'}", "--grid=learning_rat=1,2"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (2, "[]")
    assert "did you mean learning_rate?" in ended.stderr


def test_a_wrong_game_parameter_is_refused():
    trials = grid.make_trials([grid.read_grid("games=kuhn-v0:card=3|")], [], False)
    with pytest.raises(ConfigError, match="kuhn-v0 has no parameter 'card'"):
        grid.check_games(trials)


# Grids


def test_grids_multiply_and_zips_go_together():
    axes = [grid.read_grid("beta=0.1,0.2"), grid.read_zip("episodes,lanes=64:16,128:32")]
    swept = [dict(trial.swept) for trial in grid.make_trials(axes, ["--minibatches=2"], False)]
    assert swept == [
        {"beta": "0.1", "episodes": "64", "lanes": "16"},
        {"beta": "0.1", "episodes": "128", "lanes": "32"},
        {"beta": "0.2", "episodes": "64", "lanes": "16"},
        {"beta": "0.2", "episodes": "128", "lanes": "32"},
    ]


def test_values_may_hold_commas_and_colons():
    assert grid.read_grid(r"games=kuhn-v0|werewolf-v0:num_seats=6,max_days=5") == [
        {"games": "kuhn-v0"}, {"games": "werewolf-v0:num_seats=6,max_days=5"},
    ]  # fmt: skip
    assert grid.read_grid(r"games=a-v0,b-v0|") == [{"games": "a-v0,b-v0"}]
    assert grid.read_grid(r"games=a-v0\,b-v0,c-v0") == [{"games": "a-v0,b-v0"}, {"games": "c-v0"}]
    assert grid.read_zip(r"games,lanes=kuhn-v0:32|werewolf-v0\:num_seats=6,max_days=5:64")[1] == {
        "games": "werewolf-v0:num_seats=6,max_days=5", "lanes": "64",
    }  # fmt: skip


def test_a_trial_is_known_by_what_matters_alone():
    def identity(*base: str) -> str:
        return grid.make_trials([], list(base), False)[0].id

    assert identity() == identity("--preset=werewolf-tiny", "--iterations=20", "--keep_checkpoints=9")
    assert identity() != identity("--iterations=21")
    assert grid.make_trials([grid.read_grid("learning_rate=1e-3,2e-3")], [], False)[0].id == identity(
        "--learning_rate=0.001"
    )


def test_the_trainer_reads_back_what_it_is_given(tmp_path):
    flagfile = tmp_path / "flags"
    flagfile.write_text("--preset=werewolf-smoke\n--shuffle_outcomes\n--learning_rate=3e-4\n")
    [trial] = grid.make_trials([], [f"--flagfile={flagfile}"], False)
    [run] = runs.make_runs([trial], {trial.id: [7]}, tmp_path)
    config = parse(TrainConfig, run.flags)
    assert config == run.config
    assert (config.seed, config.shuffle_outcomes, config.learning_rate, config.iterations) == (7, True, 3e-4, 3)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
def test_shards_cover_the_grid_once(tmp_path, share, count):
    trials = grid.make_trials(
        [grid.read_grid("beta=0.1,0.2,0.3"), grid.read_grid("games=kuhn-v0,avalon-v0")], [], share
    )
    everything = runs.make_runs(trials, {trial.id: [0, 1, 2] for trial in trials}, tmp_path)
    shards = [runs.shard_of(everything, index, count) for index in range(1, count + 1)]
    assert Counter(run.name for shard in shards for run in shard) == Counter(run.name for run in everything)
    assert len({run.name for run in everything}) == 18
    if share:  # no warm start is trained in two places
        places = [{run.warm_start.name for run in shard} for shard in shards]
        assert sum(map(len, places)) == len(set.union(*places)) == 6
    else:
        assert max(map(len, shards)) - min(map(len, shards)) <= 1


# Statistics, against hand calculations


def test_means_and_intervals():
    found = statistics.describe([0.5, 0.6, 0.7])
    half = 4.303 * 0.1 / np.sqrt(3)
    assert found["n"] == 3 and found["mean"] == pytest.approx(0.6)
    assert found["student_95"] == pytest.approx([0.6 - half, 0.6 + half])
    # Of 27 equally likely resamples the lowest and highest, all alike, have 1/27 > 2.5 % each.
    assert found["mean_95"] == pytest.approx([0.5, 0.7])
    eight = statistics.describe([100, 1, 2, 3, 4, 5, 6, -100])
    assert eight["iqm"] == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert eight["mean"] == pytest.approx(21 / 8)
    assert statistics.describe([1, 2])["mean_95"] is None and statistics.describe([])["mean"] is None


def test_a_bootstrap_interval_covers_the_mean_about_as_often_as_it_says():
    draws = np.random.default_rng(1).normal(size=(50, 30))
    covered = sum(low <= 0 <= high for low, high in (statistics.describe(row)["mean_95"] for row in draws))
    assert 0.8 <= covered / 50 <= 1


def test_differences_are_taken_on_common_seeds():
    found = statistics.paired({0: 0.6, 1: 0.8, 3: 0.9, 4: 0.5}, {0: 0.5, 1: 0.6, 2: 0.0, 4: 0.2})
    assert found["seeds"] == [0, 1, 4] and found["mean"] == pytest.approx(0.2)
    assert found["mean_95"] == pytest.approx([0.1, 0.3])


# Whole scans


def test_a_scan_runs_once_and_says_what_it_found(scan, capsys):
    assert scan.run(RATES, "--seeds=0-2") == 0
    assert len(scan.steps()) == 18 and set(scan.steps().values()) == {1}
    assert scan.run(RATES, "--seeds=0-2") == 0
    assert set(scan.steps().values()) == {1} and len(scan.lines("start")) == 6
    first, second = scan.results()["trials"].values()
    assert first["metrics"]["win_rate"]["mean"] == pytest.approx(0.52)
    assert second["metrics"]["win_rate"]["difference"]["mean"] == pytest.approx(0.01)
    assert second["metrics"]["win_rate"]["difference"]["mean_95"] == pytest.approx([0.01, 0.01])
    with (scan.out / "results" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["learning_rate"], row["seed"], row["status"]) for row in rows[:2]] == [
        ("0.001", "0", "done"), ("0.002", "0", "done"),
    ]  # fmt: skip
    assert float(rows[5]["win_rate"]) == pytest.approx(0.54)
    assert "| learning_rate=0.002 | 3 | 0 | 0 | 0.53 |" in (scan.out / "results" / "results.md").read_text()
    assert scan.run(RATES, "--seeds=0-2", "--metrics=win_rat") == 2
    assert "did you mean win_rate?" in capsys.readouterr().err


def test_more_seeds_and_values_are_added_without_repeating(scan):
    assert scan.run(RATES, "--seeds=0") == 0
    assert scan.run("--grid=learning_rate=0.001,0.002,0.003", "--seeds=0,1") == 0
    assert len(scan.lines("start")) == 6 and scan.results()["done"] == 6


def test_too_few_seeds_have_no_interval(scan):
    assert scan.run(RATES, "--seeds=0,1") == 0
    assert "n too small" in (scan.out / "results" / "results.md").read_text()


def test_a_failure_is_shown_and_tried_again_only_if_asked(scan, capsys):
    (scan.folder / "fail-0.002-1").touch()
    assert scan.run(RATES, "--seeds=0-2") == 1
    assert "FAILED with exit code 3" in capsys.readouterr().out
    text = (scan.out / "results" / "results.md").read_text()
    assert "5 of 6 runs are done, 1 failed" in text and "| learning_rate=0.002 | 2 | 1 | 0 |" in text
    assert r"exit code 3, the loss \| is &lt;b>not finite" in text and "--seed=1" in text
    assert scan.results()["trials"].popitem()[1]["metrics"]["win_rate"]["difference"]["seeds"] == [0, 2]
    (scan.folder / "fail-0.002-1").unlink()
    assert scan.run(RATES, "--seeds=0-2") == 1 and len(scan.lines("start")) == 6
    assert scan.run(RATES, "--seeds=0-2", "--retry_failed") == 0 and len(scan.lines("start")) == 7


def test_a_preempted_run_is_started_again_and_goes_on(scan):
    (scan.folder / "preempt-0.002-0").touch()
    assert scan.run(RATES, "--seeds=0") == 0
    assert set(scan.steps().values()) == {1} and len(scan.lines("start")) == 3


def test_a_run_that_is_preempted_for_ever_fails_in_the_end(scan, monkeypatch):
    monkeypatch.setattr(runners, "MAX_RESTARTS", 2)
    trainer = (sys.executable, "-c", "raise SystemExit(75)")
    assert sweep.main([f"--out={scan.out}", "--seeds=0"], trainer) == 1
    assert scan.results()["runs"][0]["exit_code"] == 75


def test_exit_code_0_without_a_summary_is_a_failure(scan):
    assert sweep.main([f"--out={scan.out}", "--seeds=0"], (sys.executable, "-c", "print('bye')")) == 1
    assert scan.results()["runs"][0]["reason"] == "no summary.json was written: bye"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_started_again_it_repeats_nothing_and_loses_nothing(scan, number):
    arguments = (RATES, "--seeds=0,1", "--jobs=2")
    (scan.folder / "hold").touch()  # trainers wait after their first step
    killed = scan.start(*arguments)
    wait_until(lambda: len(scan.steps()) == 2)
    killed.send_signal(number)
    assert killed.wait(timeout=30) == (75 if number == signal.SIGTERM else -9), scan.said
    if number == signal.SIGTERM:
        (scan.folder / "hold").unlink()
    again = scan.start(*arguments)
    if number == signal.SIGKILL:
        # The trainers have lived on: they keep their runs, and the second scan waits for them.
        wait_until(lambda: scan.said.count("another process is at it") == 2)
        (scan.folder / "hold").unlink()
    assert again.wait(timeout=30) == 0, scan.said
    assert len(scan.steps()) == 12 and set(scan.steps().values()) == {1}
    assert len(scan.lines("start")) == (4 if number == signal.SIGKILL else 6)
    assert scan.results()["done"] == 4


def test_two_scans_at_once_share_the_work(scan):
    both = [scan.start(RATES, "--seeds=0,1,2") for _ in range(2)]
    assert [one.wait(timeout=30) for one in both] == [0, 0], scan.said
    assert len(scan.lines("start")) == 6 and set(scan.steps().values()) == {1}


def test_two_shards_make_one_scan(scan):
    assert scan.run(RATES, "--seeds=0,1,2", "--shard=1/2") == 0
    assert (scan.results()["done"], scan.results()["pending"]) == (3, 3)
    assert scan.run(RATES, "--seeds=0,1,2", "--shard=2/2") == 0
    assert scan.results()["done"] == 6 and len(scan.lines("start")) == 6


def test_records_alone_carry_a_scan_to_another_machine(scan):
    results = f"--results={scan.folder / 'committed'}"
    assert scan.run(RATES, "--seeds=0,1", results) == 0
    before = (scan.folder / "committed" / "results.json").read_text()
    shutil.rmtree(scan.out)
    assert scan.run(RATES, "--seeds=0,1", results) == 0
    assert (scan.folder / "committed" / "results.json").read_text() == before
    assert scan.run(RATES, "--seeds=0,1,2", results) == 0
    assert len(scan.lines("start")) == 6


def test_a_damaged_record_is_refused(scan, capsys):
    assert scan.run(RATES, "--seeds=0") == 0
    record = next((scan.out / "results").glob("*-seed0.json"))
    record.write_text(record.read_text().replace("0.51", "0.91").replace("0.52", "0.92"))
    assert scan.run(RATES, "--seeds=0") == 2
    assert f"{record} is damaged" in capsys.readouterr().err


def test_a_record_from_before_a_default_changed_is_not_taken_for_this_trial(scan, capsys):
    assert scan.run(RATES, "--seeds=0") == 0
    path = next((scan.out / "results").glob("*-seed0.json"))
    record = json.loads(path.read_text())
    del record["digest"]
    record["config"]["beta"] = 0.5
    path.write_text(json.dumps(record | {"digest": grid.digest(record)}))
    assert scan.run(RATES, "--seeds=0") == 2
    assert "--beta was 0.5 by default, and here it is 0.1" in capsys.readouterr().err
    del record["config"]["beta"]  # a flag that did not exist then is no difference
    path.write_text(json.dumps(record | {"digest": grid.digest(record)}))
    assert scan.run(RATES, "--seeds=0") == 0


def test_tables_do_not_tell_where_the_scan_lay(scan, monkeypatch):
    monkeypatch.chdir(scan.folder)
    (scan.folder / "fail-0.002-1").touch()
    assert scan.run(RATES, "--seeds=0,1", "--share_warm_start") == 1
    for path in (scan.out / "results").iterdir():
        assert str(scan.folder).encode() not in path.read_bytes(), path.name
    assert "--run_dir=scan/" in (scan.out / "results" / "results.md").read_text()


def test_a_shared_warm_start_clones_the_datasets_and_its_trials_do_not(scan, capsys):
    data = (f"--warm_start_data={scan.folder}", "--warm_start_holders=api")
    assert scan.run(RATES, "--seeds=0", "--share_warm_start", "--runner=print", "--", *data) == 0
    warm, *trials = capsys.readouterr().out.splitlines()
    assert all(flag in warm for flag in data) and "--iterations=0" in warm
    assert trials and all("--warm_start_from=" in line and "_data" not in line and "api" not in line for line in trials)
    assert scan.run("--grid=warm_start_holders=api,person", "--seeds=0", "--share_warm_start", "--", data[0]) == 0
    warm = [line for line in scan.lines("start") if line.startswith("warm-")]
    assert sorted(re.findall(r"--warm_start_holders=(\w+)", " ".join(warm))) == ["api", "person"]


def test_trials_of_a_seed_share_a_warm_start(scan):
    assert scan.run(RATES, "--seeds=0,1", "--share_warm_start", "--jobs=2") == 0
    started = scan.lines("start")
    warm = [line for line in started if line.startswith("warm-")]
    assert len(started) == 6 and len(warm) == 2
    assert all("--iterations=0" in line and "--learning_rate" not in line for line in warm)
    for line in started:
        if line not in warm:
            source = Path(re.search(r"--warm_start_from=(\S+)", line)[1])
            assert source.parent.parent == scan.out and source.name == line.split()[0].split("/")[1]
            assert started.index(line) > next(i for i, w in enumerate(started) if w.split()[0].endswith(source.name))


def test_trials_of_a_failed_warm_start_fail_with_it(scan):
    (scan.folder / "fail-0.0015-0").touch()
    assert scan.run(RATES, "--seeds=0,1", "--share_warm_start") == 1
    assert scan.results()["failed"] == 2
    assert scan.results()["runs"][0]["reason"].startswith("its warm start failed")
    (scan.folder / "fail-0.0015-0").unlink()
    assert scan.run(RATES, "--seeds=0,1", "--share_warm_start", "--retry_failed") == 0


def test_each_job_has_its_own_gpus(scan):
    assert scan.run(RATES, "--seeds=0", "--gpus=0|2,3") == 0
    assert {line.split()[-1] for line in scan.lines("step")} <= {"0", "2,3"}


def test_printed_commands_are_those_that_would_run(scan, capsys):
    assert scan.run(RATES, "--seeds=0,1", "--share_warm_start", "--runner=print") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and not scan.out.exists()
    assert "--iterations=0" in lines[0] and "--warm_start_from=" in lines[1]
    for line in lines:
        assert subprocess.run([*scan.trainer, *line.split()[3:]], check=False).returncode == 0
    assert scan.run(RATES, "--seeds=0,1", "--share_warm_start", "--runner=report") == 0
    assert scan.results()["done"] == 4


def test_a_slurm_array_does_each_shard_and_queues_again_when_stopped(scan, capsys):
    arguments = [RATES, "--seeds=0,1", "--runner", "slurm", "--jobs=3", "--", "--games=kuhn-v0"]
    assert scan.run(*arguments) == 0
    script = scan.out / "slurm" / "array.sh"
    assert f"sbatch {script}" in capsys.readouterr().out
    text = script.read_text()
    assert "#SBATCH --array=1-4%3" in text and "slurm --" not in text
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    # With `python` and `scontrol` replaced: what a task starts, and what it does when it is stopped.
    tools = scan.folder / "tools"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {scan.folder}/queued\n')
    (tools / "python").write_text(
        "#!/bin/bash\ntrap 'sleep 0.3; exit 75' TERM\n"
        f'printf "%s\\n" "$@" > {scan.folder}/called.part\nmv {scan.folder}/called.part {scan.folder}/called\n'
        "while :; do sleep 0.05; done\n"
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    script.write_text(text.replace(sys.executable, str(tools / "python")))
    task = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_JOB_ID": "17", "PATH": f"{tools}:{os.environ['PATH']}"}
    running = subprocess.Popen(["bash", str(script)], env=os.environ | task)
    wait_until(lambda: (scan.folder / "called").exists())
    running.terminate()
    assert running.wait(timeout=20) == 75
    assert (scan.folder / "queued").read_text() == "requeue 17_2\n"
    called = (scan.folder / "called").read_text().splitlines()
    assert called[-4:] == ["--runner=local", "--shard=2/4", "--", "--games=kuhn-v0"]


def test_curves_are_drawn_or_said_to_be_skipped(scan, capsys, monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)
    assert scan.run(RATES, "--seeds=0-2") == 0
    assert "curves: skipped, as matplotlib is not installed" in capsys.readouterr().out
    monkeypatch.undo()
    if not plots.available():
        pytest.skip("matplotlib is not installed")
    monkeypatch.setattr(grid, "check_games", lambda trials: None)
    assert scan.run(RATES, "--seeds=0-2") == 0
    assert (scan.out / "results" / "curve-win_rate.png").read_bytes().startswith(b"\x89PNG")


def test_bands_of_curves():
    rows = statistics.band([{1: 0.4, 2: 0.5}, {1: 0.5, 2: 0.6}, {1: 0.6, 2: 0.7, 3: 1.0}])
    assert [row[:2] for row in rows] == [(1, pytest.approx(0.5)), (2, pytest.approx(0.6))]
    assert rows[0][2:] == (pytest.approx(0.4), pytest.approx(0.6))


def test_a_secret_in_the_environment_is_written_nowhere(scan, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary-7f3a")
    assert scan.run(RATES, "--seeds=0") == 0
    assert scan.run(RATES, "--seeds=0", "--runner=slurm") == 0
    everything = capsys.readouterr().out + "".join(
        path.read_text(errors="replace") for path in scan.out.rglob("*") if path.is_file()
    )
    assert "canary" not in everything
