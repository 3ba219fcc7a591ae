"""Stands in for the trainer: `python stub_trainer.py JOURNAL FLAGS...` works in steps, saves them, and may fail.

Each step is noted in the journal, so that a test can see work that was repeated or lost.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

journal = Path(sys.argv[1])
flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[2:])
folder, seed, rate = Path(flags["run_dir"]), int(flags.get("seed", 0)), float(flags.get("learning_rate", 1.5e-3))
folder.mkdir(parents=True, exist_ok=True)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))


def note(what: str) -> None:
    """One write, so that several trainers may share the journal."""
    with journal.open("a") as file:
        file.write(f"{folder.parent.name}/{folder.name} {what}\n")


note("start " + " ".join(sys.argv[2:]))
if (journal.parent / f"fail-{rate}-{seed}").exists():
    print("the loss | is <b>not finite</b>")
    sys.exit(3)
preempted = journal.parent / f"preempt-{rate}-{seed}"
progress = folder / "progress"
for step in range(int(progress.read_text()) if progress.exists() else 0, 3):
    while step and (journal.parent / "hold").exists() and not stopped:
        time.sleep(0.02)
    if stopped:
        sys.exit(75)
    note(f"step {step} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}")
    progress.write_text(str(step + 1))
    if step == 1 and preempted.exists():
        preempted.unlink()
        sys.exit(75)
rows = [{"step": step, "win_rate": 0.5 + rate * step + seed / 100} for step in (1, 2, 3)]
(folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
(folder / "config.json").write_text(json.dumps({"config": flags, "commit": "abc"}))
(folder / "summary.json").write_text(json.dumps({"win_rate": 0.5 + 10 * rate + seed / 100, "seed": seed}))
