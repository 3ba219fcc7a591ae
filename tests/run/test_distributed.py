"""What several processes tell each other, refuse together, and do when one of them is gone."""

import json
import signal
import time

import pytest

from maro_jax.run import distributed, exit_codes
from maro_jax.run.fields import ConfigError
from tests.processes import started

WORKER = ("-m", "tests.run.distributed_worker")


def test_a_process_that_was_not_joined_is_alone():
    assert distributed.is_first() and distributed.num_processes() == 1
    assert distributed.gathered({"a": 1}) == [{"a": 1}]

    def refused():
        raise ConfigError("a sentence")

    with pytest.raises(ConfigError, match="a sentence") as error, distributed.alone_at_once():
        distributed.together(refused)
    assert not isinstance(error.value, distributed.AgreedError)


def test_two_processes_agree(tmp_path):
    with started(2, tmp_path / "outputs", *WORKER, "agree", str(tmp_path)) as both:
        assert both.exit_codes() == [0, 0], both.complained(0) + both.complained(1)
    found = [json.loads((tmp_path / f"{index}.json").read_text()) for index in range(2)]
    assert [one.pop("first") for one in found] == [True, False]
    assert [one.pop("done") for one in found] == [0, 1]
    assert found[0] == found[1]
    assert found[0]["count"] == 2
    assert found[0]["gathered"] == [["", {"index": 0}], ["é" * 100, {"index": 1}]]
    assert found[0]["in one"] == "in process 1 of 2: no such file"
    assert found[0]["other command"].startswith(
        "process 1 was started with seed 1 and the first with 0; start the same"
    )
    assert found[0]["equal"] == [True] * 9 and found[0]["moved"] == [True] * 9 and found[0]["drawn"]
    assert found[0]["checkpoint"] == {"step": 1, "same": True, "steps": [1]}
    assert len(list((tmp_path / "steps").glob("2.bad-*"))) == 1
    assert found[0]["folder"]["seen"] == ""
    assert f"--run_dir={tmp_path}/elsewhere is not the folder" in found[0]["folder"]["elsewhere"]


def test_what_strikes_one_process_ends_all(tmp_path):
    with started(2, tmp_path / "outputs", *WORKER, "crash", str(tmp_path)) as both:
        assert both.exit_codes() == [exit_codes.LOST, 1]
        assert "ArithmeticError: something unforeseen" in both.complained(1)
        assert both.complained(0).splitlines()[-1].startswith("error: process 0 of 2 lost another one")


def test_a_process_whose_others_do_not_come_gives_up(tmp_path):
    flags = ("--coordinator=localhost:1", "--num_processes=2", "--process_id=1", "--join_minutes=0.02")
    with started(1, tmp_path / "outputs", *WORKER, "agree", str(tmp_path), *flags, named=False) as one:
        assert one.exit_codes() == [exit_codes.LOST]
        said = one.complained().splitlines()
    assert said[0] == "process 1 of 2: looking for the others at localhost:1, for up to 0.02 min"
    assert said[-1].startswith("error: --coordinator=localhost:1: the other processes did not come within 0.02 min")


def test_where_no_cluster_is_found_the_processes_must_be_named(tmp_path, monkeypatch):
    for name in ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    command = ("-m", "maro_jax.train", f"--run_dir={tmp_path / 'run'}", "--distributed=auto")
    with started(1, tmp_path / "outputs", *command, named=False) as one:
        assert one.exit_codes() == [exit_codes.USAGE]
        assert "error: --distributed=auto found no job of Cloud TPU" in one.complained()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_process_that_waits_for_nobody_notices_within_the_heartbeat(tmp_path):
    flags = ("--heartbeat_seconds=10",)
    with started(2, tmp_path / "outputs", *WORKER, "sleep", str(tmp_path), *flags) as both:
        for index in range(2):
            both.wait_for("joined", index)
        both.processes[1].send_signal(signal.SIGKILL)
        begun = time.monotonic()
        assert both.exit_codes() == [-signal.SIGABRT, -signal.SIGKILL]
        assert time.monotonic() - begun < 60
        assert "another task died" in both.complained(0)
