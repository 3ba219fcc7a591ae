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
# # Scan a setting
#
# What does a part of the method buy? The same training runs with and without it, several seeds each, from the same
# warm starts and judged on the same deals. Here: the outcome decomposed onto every behaviour, or given to the last
# one alone. Ten minutes on a CPU core; 3 GB of memory.

# %% tags=["parameters"]
REPOSITORY = ""  # where to get maro-jax if it is not installed here, for example "https://example.org/maro-jax.git"
GRID = "decompose=outcome,none"  # a flag of python -m maro_jax.train and its values; the first is compared to
SEEDS = "0-2"
SETTINGS = ["--games=kuhn-v0"]  # of all trials
OUT = "runs/scan"

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
# ## Run it
# Each trial is a process of its own. Stop the cell at any moment and run it again: what is finished is not repeated,
# and a trial that was cut off goes on where it was. The same command scans on a SLURM cluster (`--runner=slurm`), or
# on several machines (`--shard=1/4`).

# %%
command = [
    sys.executable, "-m", "launch.sweep", f"--out={OUT}", f"--grid={GRID}", f"--seeds={SEEDS}", "--share_warm_start",
    "--", *SETTINGS,
]  # fmt: skip
print(" ".join(command[1:]))
source = os.path.dirname(os.path.dirname(importlib.util.find_spec("maro_jax").origin))
where = {**os.environ, "PYTHONPATH": source}
# A session of its own: stopping the cell would else stop the scan twice over, and twice means at once, without a save.
apart = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
with subprocess.Popen(command, env=where, **apart) as scan:
    try:
        for line in scan.stdout:
            print(line, end="")
    except KeyboardInterrupt:
        scan.terminate()
        print("stopped; run the cell again to go on")

# %% [markdown]
# ## What it says
# Means over seeds with 95 % intervals by bootstrap, and the difference to the first trial, seed by seed. Below three
# seeds there is no interval, and below ten none to build on.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt

results = json.loads(Path(OUT, "results", "results.json").read_text())
figure, axis = plt.subplots(figsize=(7, 3.5))
for place, trial in enumerate(results["trials"].values()):
    metric, values = next(iter(trial["metrics"].items()))
    of_seed = list(values["seeds"].values())
    axis.plot([place] * len(of_seed), of_seed, "o", alpha=0.6)
    axis.plot([place - 0.2, place + 0.2], [values["mean"]] * 2, color="black")
names = [" ".join(f"{key}={value}" for key, value in trial["swept"].items()) for trial in results["trials"].values()]
axis.set(xticks=range(len(names)), xticklabels=names, ylabel=metric)
axis.axhline(0.5, color="grey", linewidth=0.8)
figure.tight_layout()
print(Path(OUT, "results", "results.md").read_text())
