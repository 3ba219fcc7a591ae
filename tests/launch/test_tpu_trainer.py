"""`launch/tpu.sh` against a stand-in for gcloud whose workers run the real trainer."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.entry_points import assert_equal, checkpoint, metrics
from tests.launch.test_tpu import ROOT, Desk

SMALL = {
    "preset": "werewolf-smoke",
    "games": "werewolf-v0:num_seats=5,max_days=2",
    "iterations": 16,
    "episodes": 16,
    "lanes": 8,
    "minibatches": 2,
    "warm_start_games": 32,
    "warm_start_batch": 8,
    "eval_every": 0,
    "final_games": 16,
    "save_every": 1,
}
FLAGS = [f"--{name}={value}" for name, value in SMALL.items()]
STEPS = 18  # with those of the warm start
PREEMPTIONS = 5
HOURS = 3600.0


def environment(cache: str) -> dict[str, str]:
    """Of every trainer here: to compile takes longer than all the rest, so it is done once."""
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "True",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def desk_with_the_trainer(folder) -> Desk:
    """A desk whose repository holds this code."""
    desk = Desk(folder, python=sys.executable)
    for package in ("games", "maro_jax"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, desk.repository / package, dirs_exist_ok=True, ignore=ignored)
    desk.commit()
    return desk


@pytest.mark.slow
def test_a_run_that_is_preempted_five_times_ends_as_the_undisturbed_one(tmp_path):
    desk = desk_with_the_trainer(tmp_path / "desk")
    variables = environment(os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(tmp_path / "cache"))
    plain = tmp_path / "plain"
    subprocess.run(
        [sys.executable, "-P", "-m", "maro_jax.train", f"--run_dir={plain}", *FLAGS],
        env=desk.environment | variables | {"PYTHONPATH": str(desk.repository)}, cwd=tmp_path, check=True,
    )  # fmt: skip
    settings = desk.home / "trainer.env"
    settings.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    settings.chmod(0o600)
    desk.order(preemptions=PREEMPTIONS)
    try:
        ran = desk.tpu(
            "babysit", "--spot", "--bucket=gs://my-bucket", f"--env-file={settings}", "--", *FLAGS,
            timeout=HOURS, MARO_TPU_POLL="1",
        )  # fmt: skip
    finally:
        desk.clean_up()
    assert ran.returncode == 0, ran.stderr
    struck = [int(line) for line in (desk.cloud / "struck.txt").read_text().split()]
    assert len(struck) == PREEMPTIONS and struck[0] > 0 and struck[-1] < STEPS, struck
    assert len(desk.calls("queued-resources", "create")) == 1 + PREEMPTIONS
    run = desk.cloud / "buckets/my-bucket/maro/run"
    rows = metrics(run, STEPS)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1)) and rows == metrics(plain, STEPS)
    assert_equal(checkpoint(run, STEPS), checkpoint(plain, STEPS))
    assert json.loads((run / "matches.json").read_text()) == json.loads((plain / "matches.json").read_text())
