"""`launch/slurm.sbatch` with stand-ins for SLURM's commands and the trainer."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "slurm.sbatch"
# Starts a task for each of $CODES and ends with the highest exit code, as srun does.
SRUN = """while case "$1" in --*) true ;; *) false ;; esac; do echo "$1" >>"$CALLS"; shift; done
worst=0 task=0
for code in $CODES; do
  SLURM_PROCID="$task" CODE="$code" "$@" || { code="$?"; [ "$code" -le "$worst" ] || worst="$code"; }
  task=$((task + 1))
done
exit "$worst"
"""


def run(folder: Path, codes: str, **slurm: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Runs the script; returns what became of it and what was called."""
    programs = {
        "srun": SRUN,
        "scontrol": 'echo scontrol "$@" >>"$CALLS"',
        ".venv/bin/python": 'printf "%s\\n" "$@" >>"$CALLS"; exit "$CODE"',
    }
    for name, text in programs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    calls = folder / "calls"
    calls.unlink(missing_ok=True)
    given = {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_NAME": "a b", "SLURM_JOB_ID": "7", "CALLS": str(calls)}
    given |= {"PATH": f"{folder}:{os.environ['PATH']}", "CODES": codes, "SLURM_CPUS_PER_TASK": "8"} | slurm
    ran = subprocess.run(
        ["bash", SCRIPT, "--seed=1", "--games=it's"], env=given, check=False, timeout=60, capture_output=True, text=True
    )
    return ran, calls.read_text().splitlines()


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (2, False), (3, False), (75, True), (76, True)])
def test_a_job_that_was_stopped_or_lost_a_process_is_queued_again(tmp_path, code, again):
    ran, said = run(tmp_path, str(code))
    assert ran.returncode == code, ran.stderr
    assert said[:2] == ["--kill-on-bad-exit=0", "--cpus-per-task=8"]
    assert said[2:7] == ["-P", "-m", "maro_jax.train", "--run_dir=runs/slurm-a b", "--distributed=auto"]
    assert said[7:9] == ["--seed=1", "--games=it's"]
    assert said[9:] == (["scontrol requeue 7"] if again else [])


def test_a_process_that_failed_for_good_is_not_hidden_by_those_that_lost_it(tmp_path):
    ran, said = run(tmp_path, "76 74 134")
    assert ran.returncode == 134 and "ended with exit code 74: not queued again" in ran.stdout
    assert "scontrol requeue 7" not in said
    assert "scontrol requeue 7" in run(tmp_path, "76 75")[1]  # the next job starts afresh


def test_a_job_is_not_queued_again_for_ever(tmp_path):
    assert "scontrol requeue 7" in run(tmp_path, "75", SLURM_RESTART_COUNT="99")[1]
    assert "scontrol requeue 7" not in run(tmp_path, "75", SLURM_RESTART_COUNT="100")[1]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    subprocess.run(["shellcheck", SCRIPT], check=True)
