"""A stand-in for gcloud: plays a slice, its workers and a bucket in the folder `$FAKE_CLOUD`, and records the calls.

The folder holds what the test sets beforehand and looks at afterwards:

plan.json       ssh_failures: how many calls of ssh fail first; hosts; events: {step: state the slice then gets};
                refusal: what every call of the API is answered; reason: why a request failed;
                unnumbered: workers must ask for their number; slow: {verb of storage: seconds that a call takes}
                (what rsync copies it looks for beforehand); preemptions: so many strike, each once the bucket has a
                newer checkpoint than at the one before
struck.txt      those checkpoints
queued, vm      states of the request and of its machine; absent: there is none
worker-N/       home of worker N
buckets/        object store
calls.jsonl     the arguments of every call
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CLOUD = Path(os.environ["FAKE_CLOUD"])

# What the Google Cloud CLI (528.0.0) takes, of what the launcher uses, after the words of the command.
COMMON = {"zone", "project", "quiet"}
KNOWN = {
    "compute tpus queued-resources create": COMMON
    | {"node-id", "accelerator-type", "runtime-version", "spot", "reserved", "network", "service-account"},
    "compute tpus queued-resources describe": COMMON | {"format"},
    "compute tpus queued-resources delete": COMMON | {"force"},
    "compute tpus tpu-vm describe": COMMON | {"format"},
    "compute tpus tpu-vm ssh": COMMON | {"worker", "command", "ssh-flag"},
    "compute tpus tpu-vm scp": COMMON | {"worker", "scp-flag"},
    "compute tpus accelerator-types describe": COMMON,
    "storage rsync": {"recursive", "exclude", "delete-unmatched-destination-objects"},
    "storage cp": set(),
    "storage ls": set(),
    "storage rm": set(),
    "storage buckets describe": {"format"},
    "auth list": {"filter", "format"},
    "config get-value": set(),
    "services list": {"enabled", "filter", "format", "project"},
}


def main(arguments: list[str]) -> int:
    """Plays one call; returns its exit code."""
    with (CLOUD / "calls.jsonl").open("a") as file:
        file.write(json.dumps(arguments) + "\n")
    line = " ".join(arguments) + " "
    [known] = [flags for words, flags in KNOWN.items() if line.startswith(words + " ")]
    if unknown := set(options(arguments)) - known:
        print(f"ERROR: (gcloud) unrecognized arguments: --{min(unknown)}", file=sys.stderr)
        return 2
    if arguments[0] == "storage":
        return storage(arguments[1], *[a for a in arguments[2:] if not a.startswith("--")], options=options(arguments))
    if arguments[:2] != ["compute", "tpus"]:
        print({"auth": "someone@example.org", "config": "my-project"}.get(arguments[0], "tpu.googleapis.com"))
        return 0
    group, verb, *operands = [a for a in arguments[2:] if not a.startswith("--")]
    chosen = options(arguments)
    if refusal := plan().get("refusal"):
        print(f"WARNING: news of gcloud\nERROR: (gcloud) {refusal}\nto mend it, read on", file=sys.stderr)
        return 1
    if group == "queued-resources":
        return request(verb, chosen)
    if group == "tpu-vm" and verb == "describe":
        return describe("vm" if chosen["format"] == "value(state)" else "accelerator")
    if group == "tpu-vm" and verb == "ssh":
        return ssh(chosen["worker"], chosen["command"])
    if group == "tpu-vm" and verb == "scp":
        return scp(*operands, worker=chosen["worker"])
    return 0


def options(arguments: list[str]) -> dict[str, str]:
    """The options of a call; those without a value are empty."""
    pairs = [a[2:].partition("=") for a in arguments if a.startswith("--")]
    return {name: value for name, _, value in pairs}


def plan() -> dict[str, object]:
    """What the test ordered."""
    file = CLOUD / "plan.json"
    return json.loads(file.read_text()) if file.exists() else {}


def request(verb: str, chosen: dict[str, str]) -> int:
    """Queued resources: a new one waits for one look, then is active."""
    queued, vm = CLOUD / "queued", CLOUD / "vm"
    if verb == "create":
        if queued.exists():
            print("ALREADY_EXISTS", file=sys.stderr)
            return 1
        queued.write_text("WAITING_FOR_RESOURCES")
        (CLOUD / "accelerator").write_text(chosen["accelerator-type"])
        return 0
    if verb == "delete":
        kill_workers()
        for file in (queued, vm):
            file.unlink(missing_ok=True)
        return 0
    if "failedData" in chosen["format"]:
        print(plan().get("reason", ""))
        return 0
    code = describe("queued")
    if code == 0 and queued.read_text() == "WAITING_FOR_RESOURCES":
        queued.write_text("ACTIVE")
        vm.write_text("READY")
        for index in range(int(plan().get("hosts", 1))):
            (CLOUD / f"worker-{index}").mkdir()
    return code


def describe(name: str) -> int:
    """Prints a state, or says that there is nothing to describe."""
    if not (CLOUD / name).exists():
        print("ERROR: (gcloud) NOT_FOUND: it was not found", file=sys.stderr)
        return 1
    print((CLOUD / name).read_text())
    return 0


def homes(worker: str) -> list[Path]:
    """The homes of the workers that a call is meant for."""
    return sorted(CLOUD.glob("worker-*")) if worker == "all" else [CLOUD / f"worker-{worker}"]


def ssh(worker: str, command: str) -> int:
    """Runs a command as each worker would, without any of the caller's environment."""
    orders = plan()
    failures = int(orders.get("ssh_failures", 0))
    if failures:
        (CLOUD / "plan.json").write_text(json.dumps(orders | {"ssh_failures": failures - 1}))
        print("ssh: connect to host port 22: Connection refused", file=sys.stderr)
        return 255
    if " report " in command:
        time.sleep(0.2)
        let_things_happen()
    if not (CLOUD / "vm").exists() or (CLOUD / "vm").read_text() != "READY":
        print("ssh: the machine is gone", file=sys.stderr)
        return 255
    worst = 0
    for home in homes(worker):
        environment = {
            "PATH": os.environ["FAKE_PATH"],
            "FAKE_PATH": os.environ["FAKE_PATH"],
            "FAKE_CLOUD": str(CLOUD),
            "HOME": str(home),
            "MARO_WORKER_INDEX": home.name.removeprefix("worker-"),
            "MARO_UPLOAD_SECONDS": "0.3",
            "MARO_LIBTPU_LOCKFILE": str(home / "lockfile"),
        }
        if orders.get("unnumbered"):
            del environment["MARO_WORKER_INDEX"]
        ran = subprocess.run(["bash", "-c", command], cwd=home, env=environment, stdin=subprocess.DEVNULL, check=False)
        worst = worst or ran.returncode
    return worst


def let_things_happen() -> None:
    """A preemption that was ordered for a step strikes once that step is in the bucket."""
    metrics = list(CLOUD.glob("buckets/*/*/run/metrics.jsonl"))
    orders = plan()
    events = orders.get("events", {})
    assert isinstance(events, dict)
    steps = [str(json.loads(line)["step"]) for file in metrics for line in file.read_text().splitlines()]
    due = [step for step in steps if step in events]
    left = int(orders.get("preemptions", 0))
    saved, struck = newest_checkpoint(), CLOUD / "struck.txt"
    before = [int(line) for line in struck.read_text().split()] if struck.exists() else [0]
    if left and saved > before[-1]:
        with struck.open("a") as file:
            file.write(f"{saved}\n")
        (CLOUD / "plan.json").write_text(json.dumps(orders | {"preemptions": left - 1}))
        preempt("ACTIVE")
    elif due:
        state = events.pop(due[0])
        (CLOUD / "plan.json").write_text(json.dumps(orders | {"events": events}))
        preempt("SUSPENDED" if state == "SUSPENDED" else "ACTIVE")


def newest_checkpoint() -> int:
    """The step of the newest checkpoint that has begun to arrive in the bucket; 0: none."""
    return max((int(f.name) for f in CLOUD.glob("buckets/*/*/run/checkpoints/*") if f.name.isdigit()), default=0)


def preempt(queued: str) -> None:
    """Takes the machine away; the request for it is then as given."""
    (CLOUD / "queued").write_text(queued)
    (CLOUD / "vm").write_text("PREEMPTED")
    kill_workers()


def kill_workers() -> None:
    """A preempted machine: its processes and its disk are gone."""
    for home in CLOUD.glob("worker-*"):
        for file in home.glob("maro/*/supervisor.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(file.read_text()), signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def scp(source: str, target: str, worker: str) -> int:
    """Copies to all workers, or from one."""
    for home in homes(worker):
        if ":" in target:
            shutil.copy(source, home / target.partition(":")[2])
        else:
            shutil.copy(home / source.partition(":")[2], target)
    return 0


def place(name: str) -> Path:
    """A file or a folder here, or in the object store."""
    return CLOUD / "buckets" / name.removeprefix("gs://") if name.startswith("gs://") else Path(name)


def storage(verb: str, *names: str, options: dict[str, str]) -> int:
    """ls, cp, rm, rsync and buckets describe."""
    slow = plan().get("slow", {})
    assert isinstance(slow, dict)
    if verb != "rsync":
        time.sleep(slow.get(verb, 0))
    if verb == "buckets":
        print("US-EAST5")
    elif verb == "ls":
        if not place(names[0]).exists():
            print("ERROR: (gcloud.storage.ls) One or more URLs matched no objects.", file=sys.stderr)
            return 1
    elif verb == "cp":
        place(names[1]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place(names[0]), place(names[1]))
    elif verb == "rm":
        place(names[0]).unlink()
    elif verb == "rsync":
        if place(names[0]).is_symlink():
            print(f"WARNING: Skipping symlink {names[0]}\nERROR: Did not find existing container", file=sys.stderr)
            return 1
        rsync(place(names[0]), place(names[1]), options, slow.get(verb, 0))
    return 0


def rsync(source: Path, target: Path, options: dict[str, str], seconds: float) -> None:
    """Makes `target` a copy of `source`, but for excluded names."""
    assert source.is_dir()
    excluded = re.compile(options.get("exclude") or "(?!)")
    names = {str(f.relative_to(source)) for f in source.rglob("*") if f.is_file()}
    names = {name for name in names if not excluded.match(name)}
    journal = CLOUD / "rsync.txt"
    with journal.open("a") as file:
        file.write("begin\n")
    time.sleep(seconds)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        part = target / f"{name}.part"
        shutil.copyfile(source / name, part)
        part.replace(target / name)
    if "delete-unmatched-destination-objects" in options:
        for file in [f for f in target.rglob("*") if f.is_file() and str(f.relative_to(target)) not in names]:
            file.unlink()
    with journal.open("a") as file:
        file.write("end\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
