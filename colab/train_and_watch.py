# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train a tiny model by self-play and watch it improve
#
# A model of 379 thousand parameters learns the language of Werewolf from scripted games, then gets better by playing
# itself. Ten minutes on a CPU core; 3 GB of memory; nothing is downloaded but the package.

# %% tags=["parameters"]
REPOSITORY = ""  # where to get maro-jax if it is not installed here, for example "https://example.org/maro-jax.git"
PRESET = "werewolf-tiny"
CHANGES = {}  # other settings, for example {"seed": 1, "utility": "reinforce"}; python -m maro_jax.train --help has all
RUN_DIR = "runs/notebook"

# %% tags=["setup"]
# Installs maro-jax where it is missing. JAX and its accelerator plugin must be of one version, so both are brought to
# the one that maro-jax needs; if another JAX or numpy is loaded, the kernel restarts once: then begin at the top again.
import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import version

if importlib.util.find_spec("maro_jax") is None:
    if not REPOSITORY:
        raise SystemExit("maro-jax is not installed here: set REPOSITORY in the cell above")
    if not os.path.isdir("maro-jax"):
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, "maro-jax"], check=True)
    tpu = any(os.path.exists(path) for path in ("/dev/accel0", "/dev/vfio/0"))
    plugin = "jax[tpu]" if tpu else "jax[cuda12]" if shutil.which("nvidia-smi") else "jax"
    floor = f"{plugin}>=0.10.2,!=0.11.1,!=0.11.2"
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", floor, "--editable", "./maro-jax[plots]"], check=True)
    if any(name in sys.modules and sys.modules[name].__version__ != version(name) for name in ("jax", "numpy")):
        os.kill(os.getpid(), 9)
    sys.path.insert(0, os.path.abspath("maro-jax"))

# %% [markdown]
# ## Train
# Stop the cell at any moment: the run saves, and running the cell again goes on where it was. A finished run prints its
# table again.

# %%
from maro_jax.run.config import make_config
from maro_jax.train import Stopped, train

config = make_config(PRESET, {"run_dir": RUN_DIR, **CHANGES})
try:
    summary = train(config)
except Stopped:
    print("Stopped and saved; run the cell again to go on.")

# %% [markdown]
# ## How it went
# On the left the loss of cloning: how surprising the model finds what players do. On the right the learner against the
# policy it began self-play with, on common deals with the sides swapped, with 95 % intervals over games.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt

rows = [json.loads(line) for line in Path(RUN_DIR, "metrics.jsonl").read_text().splitlines()]
cloned = [row for row in rows if row["step"] <= config.warm_iterations]
matches = [row for row in rows if "win_rate" in row]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.5))
left.plot([row["step"] for row in cloned], [row["negative_log_prob"] for row in cloned])
left.set(xlabel="iteration of cloning", ylabel="negative log-probability of a behaviour")
steps = [row["step"] - config.warm_iterations for row in matches]
right.plot(steps, [row["win_rate"] for row in matches], marker="o")
right.fill_between(
    steps, [row["win_rate_low"] for row in matches], [row["win_rate_high"] for row in matches], alpha=0.2
)
right.axhline(0.5, color="grey", linewidth=0.8)
right.set(xlabel="iteration of self-play", ylabel="win rate against the warm start")
figure.tight_layout()

# %% [markdown]
# One run says little: another seed would have trained another policy. `python -m tests.benchmarks.learning` in the
# repository trains five of them, and five controls whose outcomes were shuffled.

# %% [markdown]
# ## Recorded games
# Choose an iteration and a game; the colour of a behaviour tells how much credit it was given.

# %%
import html

from IPython.display import HTML

from maro_jax.replay import write_replay

page = write_replay(Path(RUN_DIR), Path(RUN_DIR, "replay.html"))  # also of a run that was stopped
replay = html.escape(page.read_text())
HTML(f'<div><iframe width="100%" height="700" srcdoc="{replay}"></iframe></div>')

# %% [markdown]
# ## Keep it
# As a Hugging Face folder that transformers reads. To take a seat yourself, see the notebook `play_and_see` and set
# `others=RUN_DIR` in its `PlayConfig`.

# %%
from maro_jax.export import export
from maro_jax.run.export_config import ExportConfig

folder = Path(f"{RUN_DIR}-export")
if not folder.exists():
    export(ExportConfig(run=RUN_DIR, out=str(folder)))
print("\n".join(f"{path.stat().st_size:>12,} {path.name}" for path in sorted(folder.iterdir())))
