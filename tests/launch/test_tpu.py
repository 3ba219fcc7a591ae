"""`launch/tpu.sh` against a stand-in for gcloud: no TPU, no network, no JAX."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GOLDEN = HERE / "golden"
SCRIPTS = ("launch/tpu.sh", "launch/tpu_worker.sh")
UV = """#!/bin/sh
if [ "$1" = venv ]; then
  for last; do :; done
  mkdir -p "$last/bin"
  printf '#!/bin/sh\\nexec {python} "$@"\\n' >"$last/bin/python"
  chmod +x "$last/bin/python"
fi
echo "$@" >>"$HOME/uv.log"
"""


class Desk:
    """A user's desk: a small repository with the launcher, a fake cloud, and a clean environment."""

    def __init__(self, folder: Path, python: str = f"{sys.executable} -S"):
        self.folder = folder
        self.repository, self.cloud, self.home = folder / "repository", folder / "cloud", folder / "home"
        bin_folder = folder / "bin"
        for made in (self.repository / "launch", self.repository / "maro_jax", self.cloud, self.home, bin_folder):
            made.mkdir(parents=True)
        for script in SCRIPTS:
            shutil.copy(ROOT / script, self.repository / script)
        shutil.copy(HERE / "fake_trainer.py", self.repository / "maro_jax/train.py")
        (self.repository / "maro_jax/__init__.py").touch()
        (self.repository / "pyproject.toml").write_text("[project]\n")
        (self.repository / "launch/constraints.txt").write_text("jax==0\n")
        (self.repository / ".gitignore").write_text("/runs/\n__pycache__/\n")
        programs = {"gcloud": f'#!/bin/sh\nexec {sys.executable} -I -S {HERE / "fake_gcloud.py"} "$@"\n'}
        programs["uv"] = UV.replace("{python}", python)
        for name, text in programs.items():
            (bin_folder / name).write_text(text)
            (bin_folder / name).chmod(0o755)
        path = f"{bin_folder}:/usr/bin:/bin"
        self.environment = {"PATH": path, "FAKE_PATH": path, "FAKE_CLOUD": str(self.cloud), "HOME": str(self.home)}

    def git(self, *arguments: str) -> str:
        """Runs git in the repository."""
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.check_output(["git", *who, *arguments], cwd=self.repository, env=self.environment, text=True)

    def program(self, name: str, text: str) -> None:
        """Puts a shell script before what the system has of that name, here and on the workers."""
        file = self.folder / "bin" / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def commit(self) -> None:
        """Makes the repository."""
        for arguments in (["init", "-q", "--template="], ["add", "-A"], ["commit", "-qm", "."]):
            self.git(*arguments)

    def clean_up(self) -> None:
        """Ends what still runs on fake workers."""
        for file in self.cloud.glob("worker-*/maro/*/supervisor.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(file.read_text()), signal.SIGKILL)

    def tpu(self, *arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the launcher, with --zone, --type and no pauses."""
        verb, *rest = arguments
        defaults = {"MARO_TPU_ZONE": "us-east5-b", "MARO_TPU_TYPE": "v6e-8", "MARO_TPU_POLL": "0"}
        return subprocess.run(
            ["bash", str(self.repository / "launch/tpu.sh"), verb, *rest],
            env=self.environment | defaults | environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip

    def order(self, **plan: Any) -> None:
        """Tells the fake cloud what to play."""
        (self.cloud / "plan.json").write_text(json.dumps(plan))

    def ready(self, hosts: int = 1) -> None:
        """A slice that is there already."""
        for name, text in (("queued", "ACTIVE"), ("vm", "READY"), ("accelerator", "v6e-8")):
            (self.cloud / name).write_text(text)
        for index in range(hosts):
            (self.cloud / f"worker-{index}").mkdir()

    def calls(self, *words: str) -> list[list[str]]:
        """Calls of gcloud whose arguments contain all of these."""
        file = self.cloud / "calls.jsonl"
        calls = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [call for call in calls if all(any(word in argument for argument in call) for word in words)]

    def attempts(self, where: str = "buckets/my-bucket/maro/run") -> list[dict[str, Any]]:
        """What the stub trainer wrote down, one entry an attempt."""
        return [json.loads(line) for line in (self.cloud / where / "attempts.jsonl").read_text().splitlines()]

    def pulled(self, worker: int) -> set[str]:
        """Names in the archive that came home from a worker."""
        archive = self.repository / f"runs/tpu/maro/worker-{worker}.tar.gz"
        return set(subprocess.check_output(["tar", "-tf", archive], text=True).split())


@pytest.fixture(scope="module")
def quiet_desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """For tests that leave everything as it was."""
    made = Desk(tmp_path_factory.mktemp("quiet"))
    made.commit()
    return made


@pytest.fixture
def desk(tmp_path: Path, quiet_desk: Desk) -> Iterator[Desk]:
    made = Desk(tmp_path)
    shutil.copytree(quiet_desk.repository / ".git", made.repository / ".git")
    yield made
    made.clean_up()


def flags(*given: str) -> list[str]:
    return ["--", *given]


# -- Dry runs ---------------------------------------------------------------------------------------------------------

JOURNEY = ["babysit", "--bucket=gs://my-bucket", "--project=my-project", *flags("--seed=1", '--games=it\'s 5 "seats"')]
DRY_RUNS = {
    "v4": [*JOURNEY[:1], "--type=v4-8", *JOURNEY[1:]],
    "v5e": [*JOURNEY[:1], "--type=v5litepod-8", *JOURNEY[1:]],
    "v5p": [*JOURNEY[:1], "--type=v5p-8", *JOURNEY[1:]],
    "v6e": [*JOURNEY[:1], "--type=v6e-8", "--network=n", "--service-account=s@example.org", *JOURNEY[1:]],
    "spot": ["create", "--type=v5litepod-16", "--spot"],
    "reserved": ["create", "--type", "v5p-32", "--reserved"],
    "several-hosts": [
        *("babysit", "--type=v6e-16", "--shared=/mnt/shared", "--mount=sudo mount -t nfs 10.0.0.2:/maro /mnt/shared"),
        *flags("--seed=1"),
    ],
    "train-without-bucket": ["train", "--type=v4-8", *flags("--seed=1")],
    "logs": ["logs", "--worker=3", "--follow", "--lines=5"],
    "stop": ["stop", "--stop-seconds=60"],
    "delete": ["delete"],
    "pull": ["pull", "--type=v4-16"],
    "doctor": ["doctor", "--bucket=gs://my-bucket/runs"],
}


@pytest.mark.parametrize("case", DRY_RUNS)
def test_a_dry_run_prints_the_commands_and_runs_none(quiet_desk, case):
    """Golden files; after a change that is meant, UPDATE_GOLDEN=1 writes them anew."""
    before = sorted(quiet_desk.repository.rglob("*"))
    ran = quiet_desk.tpu(DRY_RUNS[case][0], "--dry-run", *DRY_RUNS[case][1:])
    assert ran.returncode == 0, ran.stderr
    assert quiet_desk.calls() == [] and sorted(quiet_desk.repository.rglob("*")) == before
    commit = quiet_desk.git("rev-parse", "HEAD").strip()
    text = ran.stdout.replace(str(quiet_desk.repository), "ROOT")
    text = text.replace(commit, "COMMIT").replace(commit[:12], "COMMIT")
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / f"{case}.txt").write_text(text)
    assert text == (GOLDEN / f"{case}.txt").read_text()


# -- The slice --------------------------------------------------------------------------------------------------------


def test_create_does_nothing_the_second_time(desk):
    for _ in range(2):
        assert desk.tpu("create").returncode == 0
    assert len(desk.calls("queued-resources", "create")) == 1


@pytest.mark.parametrize(("queued", "vm"), [("SUSPENDED", ""), ("FAILED", ""), ("ACTIVE", "PREEMPTED")])
def test_create_replaces_what_is_lost(desk, queued, vm):
    (desk.cloud / "queued").write_text(queued)
    if vm:
        (desk.cloud / "vm").write_text(vm)
    assert desk.tpu("create").returncode == 0
    assert [call[3] for call in desk.calls("queued-resources") if call[3] != "describe"] == ["delete", "create"]
    assert (desk.cloud / "vm").read_text() == "READY"


def test_a_request_that_failed_says_why_and_is_not_repeated_for_ever(desk):
    (desk.cloud / "queued").write_text("FAILED")
    desk.order(reason="There is no more capacity in the zone")
    ran = desk.tpu("create")
    assert ran.returncode == 0 and "maro is FAILED (There is no more capacity in the zone)" in ran.stderr


@pytest.mark.parametrize("refusal", ["You have no active account: gcloud auth login", "PERMISSION_DENIED: no"])
def test_what_asking_again_cannot_mend_is_asked_once(desk, refusal):
    desk.order(refusal=refusal)
    ran = desk.tpu("create")
    assert ran.returncode == 1 and len(desk.calls("queued-resources")) == 1
    assert ran.stderr == f"ERROR: (gcloud) {refusal}\nto mend it, read on\n"


def test_delete_needs_a_yes_and_is_idempotent(desk):
    desk.tpu("create")
    refused = desk.tpu("delete")
    assert refused.returncode == 2 and "--yes" in refused.stderr and (desk.cloud / "vm").exists()
    for _ in range(2):
        assert desk.tpu("delete", "--yes").returncode == 0
    assert len(desk.calls("queued-resources", "delete")) == 1 and not (desk.cloud / "vm").exists()


# -- Training ---------------------------------------------------------------------------------------------------------


def test_a_run_that_is_preempted_five_times_is_finished(desk):
    desk.order(events={"1": "PREEMPTED", "3": "SUSPENDED", "5": "PREEMPTED"})
    plan = "--plan=hang,75,hang,kill,hang,0"
    ran = desk.tpu("babysit", "--spot", "--bucket=gs://my-bucket", *flags(plan, '--games=it\'s 5 "seats" $HOME'))
    assert ran.returncode == 0, ran.stderr
    attempts = desk.attempts()
    assert [attempt["step"] for attempt in attempts] == [1, 2, 3, 4, 5, 6]
    assert all(attempt["flags"][1:] == [plan, '--games=it\'s 5 "seats" $HOME'] for attempt in attempts)
    requests = desk.calls("queued-resources", "create")
    assert len(requests) == 4 and all("--spot" in call for call in requests)
    assert len(desk.calls("queued-resources", "delete")) == 3
    # Of six attempts, one built the environment on each new machine.
    assert (desk.cloud / "worker-0/uv.log").read_text().count("venv --quiet") == 1
    assert "still there and paid for" in ran.stderr


def test_the_slice_is_given_back_when_done(desk):
    ran = desk.tpu("babysit", "--delete-when-done", "--bucket=gs://my-bucket", *flags("--plan=0"))
    assert ran.returncode == 0, ran.stderr
    assert not (desk.cloud / "vm").exists() and len(desk.attempts()) == 1


@pytest.mark.parametrize("code", [2, 3, 74])
def test_what_trying_again_cannot_mend_is_not_tried_again(desk, code):
    desk.ready()
    ran = desk.tpu("babysit", "--bucket=gs://my-bucket", *flags(f"--plan={code}"))
    assert ran.returncode == code and len(desk.attempts()) == 1
    assert f"worker-0 | step 1: {code}" in ran.stderr


def test_attempts_without_progress_end(desk):
    desk.ready()
    ran = desk.tpu("babysit", "--bucket=gs://my-bucket", *flags("--plan=idle"))
    assert ran.returncode == 1 and "without a new step" in ran.stderr
    assert len(desk.attempts()) == 3


def test_ssh_that_fails_twice_is_tried_again(desk):
    desk.ready()
    desk.order(ssh_failures=2)
    ran = desk.tpu("train", *flags("--plan=hang"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("that failed (exit code 255)") == 2
    again = desk.tpu("train", *flags("--plan=hang"))
    assert again.returncode == 0 and "going on already" in again.stderr
    assert len(desk.attempts("worker-0/maro/maro/run")) == 1


def test_train_shows_why_it_failed(desk):
    desk.ready()
    ran = desk.tpu("train", "--poll=1", *flags("--plan=2"))
    assert ran.returncode == 2 and "worker-0 | step 1: 2" in ran.stderr


def test_stop_lets_the_trainer_save_and_stays_stopped(desk):
    desk.ready()
    desk.tpu("train", "--bucket=gs://my-bucket", *flags("--plan=hang"))
    (desk.cloud / "worker-0/lockfile").touch()
    assert desk.tpu("stop").returncode == 0
    report = desk.tpu("status").stdout
    assert "state=ended code=75 step=1 stopped=yes" in report
    assert not (desk.cloud / "worker-0/lockfile").exists()
    assert (desk.cloud / "buckets/my-bucket/maro/run/metrics.jsonl").exists()


def test_stop_reaches_a_run_that_is_still_being_restored(desk):
    desk.ready()
    desk.order(slow={"ls": 3})
    desk.tpu("train", "--bucket=gs://my-bucket", *flags("--plan=hang"))
    ran = desk.tpu("stop", "--stop-seconds=30")
    assert ran.returncode == 0 and "was killed" not in ran.stdout
    assert "state=ended code=75 step=-1 stopped=yes" in desk.tpu("status").stdout
    assert not (desk.cloud / "worker-0/maro/maro/run").exists()


def test_stop_waits_for_a_trainer_that_is_about_to_start(desk):
    desk.ready()
    there = desk.cloud / "worker-0/maro/maro"
    desk.tpu("train", *flags("--plan=hang"))
    pid = there / "trainer.pid"
    pid.rename(there / "later")
    stop = ["bash", there / "code/launch/tpu_worker.sh", "stop", "maro", "30"]
    with subprocess.Popen(stop, env=desk.environment | {"HOME": str(desk.cloud / "worker-0")}) as stopping:
        while not (there / "stopped").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        (there / "later").rename(pid)
        assert stopping.wait(timeout=60) == 0
    assert "state=ended code=75 step=1 stopped=yes" in desk.tpu("status").stdout


def test_the_last_upload_begins_when_the_one_before_has_ended(desk):
    """Which would else delete what is new."""
    desk.ready()
    desk.order(slow={"rsync": 1.5})
    desk.tpu("train", "--bucket=gs://my-bucket", *flags("--plan=hang"))
    journal = desk.cloud / "rsync.txt"
    while not journal.exists():
        time.sleep(0.05)
    (desk.cloud / "worker-0/maro/maro/run/late.txt").touch()
    assert desk.tpu("stop").returncode == 0
    time.sleep(2)
    events = journal.read_text().split()
    assert events == ["begin", "end"] * (len(events) // 2) and len(events) >= 4
    assert (desk.cloud / "buckets/my-bucket/maro/run/late.txt").exists()


def test_babysit_takes_over_a_run_and_leaves_one_that_was_stopped(desk):
    desk.ready()
    desk.tpu("train", "--bucket=gs://my-bucket", *flags("--plan=hang"))
    command = ["bash", desk.repository / "launch/tpu.sh", "babysit", "--zone=us-east5-b", "--type=v6e-8", "--poll=0"]
    arguments = ["--bucket=gs://my-bucket", *flags("--plan=hang")]
    with subprocess.Popen(
        [*command, *arguments], env=desk.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as babysitter:
        assert babysitter.stderr is not None
        assert any("running, step 1" in line for line in babysitter.stderr)
        assert desk.tpu("stop").returncode == 0
        babysitter.stderr.read()
        assert babysitter.wait(timeout=300) == 75
    assert len(desk.attempts()) == 1


def test_the_type_of_a_slice_that_is_there_need_not_be_said(desk):
    desk.ready()
    ran = desk.tpu("status", MARO_TPU_TYPE="")
    assert ran.returncode == 0 and ran.stdout == "maro: READY\nno training was started as run maro\n"


def test_stop_kills_what_does_not_end(desk):
    desk.ready()
    desk.tpu("train", *flags("--plan=stubborn"))
    ran = desk.tpu("stop", "--stop-seconds=1")
    assert ran.returncode == 0 and "was killed" in ran.stdout
    assert "state=ended code=137" in desk.tpu("status").stdout


def test_several_hosts_train_one_run_in_a_folder_that_they_share(desk):
    shared = desk.folder / "shared"
    shared.mkdir()
    plan = "--plan=lost,hang,lame,0"
    arguments = ["--type=v4-16", "--bucket=gs://my-bucket", *flags(plan)]
    refused = desk.tpu("babysit", *arguments)
    assert refused.returncode == 2 and "--shared=/mnt/shared" in refused.stderr and desk.calls() == []
    desk.order(hosts=2, events={"2": "PREEMPTED"})
    ran = desk.tpu("babysit", f"--shared={shared}", "--mount=echo mounted >>mounts", *arguments)
    assert ran.returncode == 0, ran.stderr
    assert "worker-1 | step 1: lost" in ran.stderr and "worker-0 | step 1: lost" not in ran.stderr
    assert "worker-1 | step 3: 1" in ran.stderr  # the one that failed, while the other waited for it
    assert len(desk.calls("queued-resources", "create")) == 2
    for index in range(2):
        lines = (shared / f"maro/run/attempts-{index}.jsonl").read_text().splitlines()
        there = f"--run_dir={desk.cloud}/worker-{index}/maro/maro/run"
        assert [json.loads(line)["flags"] for line in lines] == [[there, "--distributed=auto", plan]] * 4
        assert (desk.cloud / f"buckets/my-bucket/maro/logs/worker-{index}.log").exists()
        # On the machine that is there now, for each of the attempts it saw.
        assert (desk.cloud / f"worker-{index}/mounts").read_text() == "mounted\n" * 2
    metrics = (shared / "maro/run/metrics.jsonl").read_text()
    assert len(metrics.splitlines()) == 4
    assert (desk.cloud / "buckets/my-bucket/maro/run/metrics.jsonl").read_text() == metrics


def test_a_shared_folder_that_is_not_there_fails_the_attempt(desk):
    desk.ready(hosts=2)
    ran = desk.tpu("babysit", f"--shared={desk.folder}/none", "--type=v4-16", *flags("--plan=0"))
    assert ran.returncode == 1 and "there is no folder" in ran.stderr


def test_logs_and_pull_bring_the_run_home(desk):
    desk.ready()
    desk.tpu("train", *flags("--plan=hang"))
    assert "worker-0 | step 1: hang" in desk.tpu("logs").stdout
    assert desk.tpu("pull").returncode == 0
    assert {"worker.log", "code.txt", "run/metrics.jsonl"} <= desk.pulled(0)


def test_pull_follows_the_link_to_a_shared_folder(desk):
    desk.ready(hosts=2)
    (desk.folder / "shared").mkdir()
    slice_of_two = ("--type=v4-16", f"--shared={desk.folder}/shared")
    assert desk.tpu("train", *slice_of_two, *flags("--plan=hang")).returncode == 0
    assert desk.tpu("pull", *slice_of_two).returncode == 0
    assert {"worker.log", "run/metrics.jsonl"} <= desk.pulled(0)
    assert desk.pulled(1) == {"worker.log", "code.txt", "code.diff"}


# Answers from the given call on.
METADATA = """
echo . >>"$HOME/asked"
[ "$(wc -l <"$HOME/asked")" -ge {first} ] || exit 28
echo 0
"""


def test_a_worker_asks_for_its_number_until_it_is_told(desk):
    """Neither the first failure nor what an older version left makes it forget that it is the one who uploads."""
    desk.program("curl", METADATA.format(first=2))
    home = desk.home / "maro"
    home.mkdir()
    (home / ".worker").touch()
    command = ["bash", desk.repository / "launch/tpu_worker.sh", "report", "maro"]
    for _ in range(2):
        report = subprocess.check_output(command, env=desk.environment, text=True)
        assert report.startswith("maro-report worker=0 state=absent")
    assert (home / ".worker").read_text() == "0\n" and (desk.home / "asked").read_text().split() == [".", "."]


def test_a_worker_that_is_not_told_its_number_is_tried_again_and_loses_nothing(desk):
    desk.ready()
    desk.order(unnumbered=True)
    desk.program("sleep", "exec /bin/sleep 0.1")
    desk.program("curl", METADATA.format(first=9))
    ran = desk.tpu("babysit", "--bucket=gs://my-bucket", *flags("--plan=75,0"))
    assert ran.returncode == 0, ran.stderr
    assert "does not tell this worker's number" in ran.stderr
    assert [attempt["step"] for attempt in desk.attempts()] == [1, 2]


# -- Code -------------------------------------------------------------------------------------------------------------


def test_uncommitted_changes_are_shipped_only_when_asked_for(desk):
    desk.ready()
    with (desk.repository / "maro_jax/train.py").open("a") as file:
        file.write("# changed\n")
    (desk.repository / "untracked.txt").write_text("mine")
    refused = desk.tpu("setup")
    assert refused.returncode == 2 and "--dirty" in refused.stderr and not (desk.cloud / "worker-0/maro").exists()
    ran = desk.tpu("setup", "--dirty")
    assert ran.returncode == 0, ran.stderr
    there = desk.cloud / "worker-0/maro/maro"
    assert (there / "code/maro_jax/train.py").read_text().endswith("# changed\n")
    assert "+# changed" in (there / "code/code.diff").read_text()
    assert not (there / "code/untracked.txt").exists()
    assert desk.git("status", "--porcelain").split() == ["M", "maro_jax/train.py", "??", "untracked.txt"]


def test_the_run_keeps_the_code_that_it_began_with(desk):
    with (desk.repository / "maro_jax/train.py").open("a") as file:
        file.write("# changed\n")
    desk.order(events={"1": "PREEMPTED"})
    arguments = ("--dirty", "--bucket=gs://my-bucket", *flags("--plan=hang,hang,0"))
    with subprocess.Popen(
        ["bash", desk.repository / "launch/tpu.sh", "babysit", "--zone=us-east5-b", "--type=v6e-8", "--poll=0"]
        + list(arguments), env=desk.environment, stderr=subprocess.PIPE, text=True,
    ) as babysitter:  # fmt: skip
        assert babysitter.stderr is not None
        assert any("running, step 2" in line for line in babysitter.stderr)
        babysitter.kill()
    assert desk.tpu("stop").returncode == 0
    desk.git("commit", "-qam", "another")
    assert desk.tpu("babysit", *arguments).returncode == 0
    assert len(desk.attempts()) == 3
    run, first = desk.cloud / "buckets/my-bucket/maro/run", desk.git("rev-parse", "HEAD~").strip()
    assert (run / "code.txt").read_text() == f"{first} with uncommitted changes, see code.diff\n"
    assert "+# changed" in (run / "code.diff").read_text()
    code = desk.cloud / "worker-0/maro/maro/code"
    assert (code / "code.txt").read_text() == desk.git("rev-parse", "HEAD") and not (code / "code.diff").read_text()


def test_a_run_without_uncommitted_changes_keeps_its_commit_alone(desk):
    desk.ready()
    assert desk.tpu("babysit", "--bucket=gs://my-bucket", *flags("--plan=0")).returncode == 0
    run = desk.cloud / "buckets/my-bucket/maro/run"
    assert (run / "code.txt").read_text() == desk.git("rev-parse", "HEAD") and not (run / "code.diff").exists()


# -- Secrets ----------------------------------------------------------------------------------------------------------

CANARIES = {"HF_TOKEN": "hf_canaryCANARY12345", "WANDB_API_KEY": "wandb-canary-67890abc"}


def test_secrets_reach_the_trainer_and_nothing_else(desk, tmp_path):
    secrets = desk.home / "secrets.env"
    secrets.write_text("# for the trainer\n" + "".join(f"{name}={value}\n" for name, value in CANARIES.items()))
    secrets.chmod(0o600)
    arguments = (f"--env-file={secrets}", "--bucket=gs://my-bucket", *flags("--plan=75,0"))
    outputs = [
        desk.tpu(*call, **CANARIES)
        for call in (
            ("babysit", "--dry-run", *arguments),
            ("babysit", *arguments),
            ("status",), ("logs",), ("pull", "--bucket=gs://my-bucket"), ("doctor",),
        )
    ]  # fmt: skip
    assert [ran.returncode for ran in outputs] == [0] * len(outputs), [ran.stderr for ran in outputs]
    assert "HF_TOKEN WANDB_API_KEY" in outputs[1].stderr  # names are shown
    digest = hashlib.sha256(CANARIES["HF_TOKEN"].encode()).hexdigest()
    assert [attempt["token_digest"] for attempt in desk.attempts()] == [digest, digest]
    holders = {
        str(file.relative_to(tmp_path))
        for file in tmp_path.rglob("*")
        if file.is_file() and any(value.encode() in file.read_bytes() for value in CANARIES.values())
    }
    there = "cloud/worker-0/maro/maro/env"
    assert holders == {"home/secrets.env", there}
    assert (tmp_path / there).stat().st_mode & 0o777 == 0o600
    for ran in outputs:
        assert not any(value in ran.stdout + ran.stderr for value in CANARIES.values())


@pytest.mark.parametrize(
    "argument", ["--hf_token=hf_canaryCANARY12345", "--api_key=wandb-canary-67890abc", "--note=hf_canaryCANARY12345"]
)
def test_a_secret_on_the_command_line_is_refused_unseen(quiet_desk, argument):
    for arguments in (("train", argument), ("train", "--dry-run", *flags(argument)), (argument,)):
        ran = quiet_desk.tpu(*arguments, **CANARIES)
        assert ran.returncode == 2 and "--env-file" in ran.stderr and quiet_desk.calls() == []
        assert "canary" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ("HF_TOKEN=hf_canary12345\n", 0o644, "chmod 600"),
        ("export HF_TOKEN=hf_canary12345\n", 0o600, "line 1"),
        ("A=1\nHF_TOKEN='hf_canary12345'\n", 0o600, "line 2"),
    ],
)
def test_a_careless_file_of_secrets_is_refused(desk, content, mode, reason):
    secrets = desk.home / "secrets.env"
    secrets.write_text(content)
    secrets.chmod(mode)
    ran = desk.tpu("train", f"--env-file={secrets}", *flags("--seed=1"))
    assert ran.returncode == 2 and reason in ran.stderr and desk.calls() == []
    assert "canary" not in ran.stdout + ran.stderr


# -- Mistakes, doctor, help -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["launch"], "allowed: create, status"),
        (["create", "--zon=x"], "no option --zon"),
        (["create", "v6e-8"], "--name=value"),
        (["create", "--type=v6x-8"], "v2-alpha-tpuv6e"),
        (["create", "--type=v5e-8"], "v5litepod-8"),
        (["create", "--type=tpu7x-8"], "GKE"),
        (["create", "--type=v6e"], "not known"),
        (["create", "--type=v6e-x"], "its size"),
        (["create", "--spot", "--reserved"], "exclude one another"),
        (["create", "--zone="], "--zone=us-east5-b"),
        (["create", "--name=My TPU"], "small letters"),
        (["create", "--", "--seed=1"], "nothing after --"),
        (["babysit", "--", "--seed=1"], "--bucket=gs://my-bucket"),
        (["train", "--type=v6e-16", "--", "--seed=1"], "has 4 hosts, which need a folder that all of them see"),
        (["train", "--shared=folder"], "whole path"),
        (["train", "--mount=true"], "--shared=/mnt/shared"),
        (["babysit", "--bucket=my-bucket"], "gs://"),
        (["train", "--retries=many"], "whole number"),
        (["train", "--", "--run_dir=runs/a"], "--run-id"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(quiet_desk, arguments, reason):
    ran = quiet_desk.tpu(*arguments)
    assert ran.returncode == 2 and ran.stdout == "" and quiet_desk.calls() == []
    assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1 and reason in ran.stderr


@pytest.mark.parametrize(
    ("variable", "value"), [("SPOT", "true"), ("YES", "no"), ("DELETE_WHEN_DONE", "2"), ("DRY_RUN", " ")]
)
def test_a_switch_that_is_set_as_a_variable_is_on_or_off(quiet_desk, variable, value):
    ran = quiet_desk.tpu("create", **{f"MARO_TPU_{variable}": value})
    assert ran.returncode == 2 and quiet_desk.calls() == []
    assert ran.stderr == f"error: MARO_TPU_{variable}={value} must be 1 (on), or 0 or empty (off)\n"
    assert quiet_desk.tpu("help", **{f"MARO_TPU_{variable}": value}).returncode == 0


def test_a_variable_that_says_no_does_not_say_yes(desk):
    desk.ready()
    refused = desk.tpu("delete", MARO_TPU_YES="0")
    assert refused.returncode == 2 and "--yes" in refused.stderr and (desk.cloud / "vm").exists()


@pytest.mark.parametrize(
    ("arguments", "variables", "kind"),
    [
        ([], {"SPOT": "1"}, "--spot"),
        ([], {"SPOT": "0", "RESERVED": "1"}, "--reserved"),
        (["--on-demand"], {"SPOT": "1"}, None),
        (["--reserved"], {"SPOT": "1", "ON_DEMAND": "1"}, "--reserved"),
    ],
)
def test_options_count_before_variables(quiet_desk, arguments, variables, kind):
    named = {f"MARO_TPU_{name}": value for name, value in variables.items()}
    ran = quiet_desk.tpu("create", "--dry-run", *arguments, **named)
    assert ran.returncode == 0, ran.stderr
    asked = set(ran.stdout.split()) & {"--spot", "--reserved", "--on-demand"}
    assert asked == ({kind} if kind else set())


def test_two_kinds_of_capacity_are_refused_as_variables_too(quiet_desk):
    ran = quiet_desk.tpu("create", "--dry-run", MARO_TPU_SPOT="1", MARO_TPU_RESERVED="1")
    assert ran.returncode == 2 and "exclude one another" in ran.stderr


def test_doctor_says_what_is_wrong(desk):
    well = desk.tpu("doctor", "--bucket=gs://my-bucket")
    assert well.returncode == 0 and "FAIL" not in well.stdout, well.stdout
    (desk.repository / "untracked.txt").touch()
    ill = desk.tpu("doctor", "--bucket=gs://my-bucket", "--zone=europe-west4-a")
    assert ill.returncode == 1
    wrong = [line.split(":")[0] for line in ill.stdout.splitlines() if line.startswith("FAIL")]
    assert wrong == ["FAIL  gs", "FAIL  the working tree is clean"]


def test_doctor_looks_for_the_key_in_an_agent_that_holds_others(desk):
    """As gcloud does before it reaches several workers."""
    desk.program("ssh-add", 'cat "$HOME/agent"')
    desk.program("ssh-keygen", "echo 3072 SHA256:mine a@b")
    key = desk.home / ".ssh/google_compute_engine"
    key.parent.mkdir()
    key.touch()
    for held, code in (("3072 SHA256:other a@c", 1), ("3072 SHA256:other a@c\n3072 SHA256:mine a@b", 0)):
        (desk.home / "agent").write_text(held)
        ran = desk.tpu("doctor")
        assert ran.returncode == code and ("FAIL  the ssh key" in ran.stdout) == bool(code), ran.stdout


def test_the_help_names_every_verb_and_option_and_what_was_not_tried(quiet_desk):
    text = quiet_desk.tpu("help").stdout
    assert "never on a real TPU" in text
    script = (ROOT / "launch/tpu.sh").read_text()
    for kind, mark in (("VERBS", "  "), ("VALUES", "--"), ("SWITCHES", "--")):
        words = re.search(rf'readonly {kind}="([^"]*)"', script)
        assert words and [word for word in words[1].split() if mark + word not in text] == []


def test_only_one_function_calls_the_provider():
    """Beside `cloud`, the word stands in texts and in what workers are told to run."""
    script = (ROOT / "launch/tpu.sh").read_text()
    body = re.search(r"^cloud\(\) \{\n.*?^\}\n", script, re.M | re.S)
    assert body and 'gcloud "$@"' in body[0]
    outside = re.sub(r"#.*|\"[^\"\n]*\"", "", script.replace(body[0], ""))
    assert re.findall(r"\bgcloud\b(?!'s)", outside) == ["gcloud"]  # doctor: command -v gcloud


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script):
    subprocess.run(["shellcheck", ROOT / script], check=True)
