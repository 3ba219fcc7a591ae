"""`launch/slurm.sbatch` with stand-ins for SLURM's commands."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "slurm.sbatch"


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (2, False), (3, False), (75, True), (76, True)])
def test_a_job_that_was_stopped_or_lost_a_process_is_queued_again(tmp_path, code, again):
    for name, ending in (("srun", f"exit {code}"), ("scontrol", "")):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >>"$CALLS"\n{ending}\n')
        program.chmod(0o755)
    calls = tmp_path / "calls"
    slurm = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NAME": "a b", "SLURM_JOB_ID": "7", "CALLS": str(calls)}
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | slurm
    ran = subprocess.run(["bash", SCRIPT, "--seed=1", "--games=it's"], env=environment, check=False, timeout=60)
    assert ran.returncode == code
    said = calls.read_text().splitlines()
    assert said[3:9] == ["-P", "-m", "maro_jax.train", "--run_dir=runs/slurm-a b", "--distributed=auto", "--seed=1"]
    assert said[9] == "--games=it's"
    assert said[10:] == (["scontrol", "requeue", "7"] if again else [])


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    subprocess.run(["shellcheck", SCRIPT], check=True)
