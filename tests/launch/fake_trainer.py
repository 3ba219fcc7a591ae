"""Stands in for maro_jax.train on a fake worker: one step an attempt, then whatever `--plan` says for that step.

plan: words with commas between, the first for step 1; an exit code, or
hang      until terminated, then 75
stubborn  never ends
kill      dies of SIGKILL
lame      exit code 1 on worker 1, hang elsewhere
lost      dies of SIGKILL on worker 1, and soon after as JAX ends who has lost another elsewhere
idle      exit code 1 without having done a step
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

flags = dict(argument[2:].partition("=")[::2] for argument in sys.argv[1:])
run = Path(flags["run_dir"])
run.mkdir(exist_ok=True)
config = run / "config.json"
metrics = run / "metrics.jsonl"
worker = os.environ.get("MARO_WORKER_INDEX", "0")
together = flags.get("distributed") == "auto"
if not config.exists() and (worker == "0" or not together):
    foreign = {file.name for file in run.iterdir()} - {"code.diff"}
    assert together or not foreign, foreign  # as the trainer does
    config.write_text("{}")
journal = run / (f"attempts-{worker}.jsonl" if together else "attempts.jsonl")
steps = journal if together else metrics  # of several workers only the first writes metrics
step = len(steps.read_text().splitlines()) + 1 if steps.exists() else 1
word = flags["plan"].split(",")[step - 1]
token = os.environ.get("HF_TOKEN", "")
with journal.open("a") as file:
    digest = hashlib.sha256(token.encode()).hexdigest()
    file.write(json.dumps({"step": step, "flags": sys.argv[1:], "token_digest": digest}) + "\n")
signal.signal(signal.SIGTERM, signal.SIG_IGN if word == "stubborn" else lambda *_: sys.exit(75))
if word == "lame":
    word = "1" if worker == "1" else "hang"
print(f"step {step}: {word}", flush=True)
if word == "idle":
    sys.exit(1)
if worker == "0" or not together:
    with metrics.open("a") as file:
        file.write(json.dumps({"step": step}) + "\n")
if word == "lost" and worker != "1":
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGABRT)
if word in ("kill", "lost"):
    os.kill(os.getpid(), signal.SIGKILL)
while word in ("hang", "stubborn"):
    time.sleep(0.05)
sys.exit(int(word))
