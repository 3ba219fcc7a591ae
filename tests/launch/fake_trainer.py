"""Stands in for maro_jax.train on a fake worker: one step an attempt, then whatever `--plan` says for that step.

plan: words with commas between, the first for step 1; an exit code, or
hang      until terminated, then 75
stubborn  never ends
kill      dies of SIGKILL
lame      exit code 1 on worker 1, hang elsewhere
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
metrics = run / "metrics.jsonl"
step = len(metrics.read_text().splitlines()) + 1 if metrics.exists() else 1
word = flags["plan"].split(",")[step - 1]
token = os.environ.get("HF_TOKEN", "")
with (run / "attempts.jsonl").open("a") as file:
    digest = hashlib.sha256(token.encode()).hexdigest()
    file.write(json.dumps({"step": step, "flags": sys.argv[1:], "token_digest": digest}) + "\n")
signal.signal(signal.SIGTERM, signal.SIG_IGN if word == "stubborn" else lambda *_: sys.exit(75))
if word == "lame":
    word = "1" if os.environ["MARO_WORKER_INDEX"] == "1" else "hang"
print(f"step {step}: {word}", flush=True)
if word == "idle":
    sys.exit(1)
with metrics.open("a") as file:
    file.write(json.dumps({"step": step}) + "\n")
if word == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
while word in ("hang", "stubborn"):
    time.sleep(0.05)
sys.exit(int(word))
