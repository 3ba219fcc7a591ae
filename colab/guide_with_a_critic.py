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
# # Guide a player with a critic of its thoughts
#
# A player thinks before it acts. From recorded games a small network learns how likely each goal is after a thought
# (PNLC, arXiv:2505.18098). Then the player thinks of four things, and follows the one that the critic expects most of.
# Two minutes on a CPU core; 2 GB of memory; nothing is downloaded but the package.

# %% tags=["parameters"]
REPOSITORY = ""  # where to get maro-jax if it is not installed here, for example "https://example.org/maro-jax.git"
GAME = "persuasion-v0:thought_tokens=12"
ACTOR = "random"  # or heuristic, a run's folder, a model's folder; whose games teach the critic, and whom it guides
EPISODES, STEPS, GAMES = 2500, 4000, 1024
IGNORE_CALIBRATION = False  # let a critic guide that does not know anything
OUT = "runs/pnlc"

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
# ## Plans and goals
# What scripted players may think, and what may come of it. A goal has a utility: what reaching it is worth in the
# game's own measure, here dollars.

# %%
from games.goals import goals_of
from games.plans import plans_of
from games.registry import make
from maro_jax.run.inputs import parse_games

[(name, parameters)] = parse_games(GAME)
spec = make(name, **{key: str(value) for key, value in parameters.items()}).spec
print("plans:", *(f"\n  {text.strip()}" for text in plans_of(spec).texts))
print("goals:", *(f"\n  {goal.utility:+.2f}  {goal.texts[0]}" for goal in goals_of(spec)))

# %% [markdown]
# ## Games to learn from
# Every decision with its thought, as a dataset that TFDS reads.

# %%
from pathlib import Path

from maro_jax.pnlc import collect, training
from maro_jax.run.console import Console
from maro_jax.run.pnlc_config import CollectConfig, CriticConfig

data, critic = f"{OUT}/data", f"{OUT}/critic"
if not Path(data).exists():
    collect.run(CollectConfig(out=data, game=GAME, player=ACTOR, episodes=EPISODES), Console())

# %% [markdown]
# ## The critic
# A fifth of the games is held out. There the critic must show that a thought tells it something: its gain is how much
# better it foretells what came with the thought than without. If not all of the interval is above 0, it may not guide.

# %%
import matplotlib.pyplot as plt

from maro_jax.pnlc.storage import load

if not Path(critic).exists():
    training.run(CriticConfig(data=data, out=critic, steps=STEPS), Console())
saved = load(critic)
judged = saved.calibration
print(f"gain {judged.gain:.4f} ({judged.gain_low:.4f} to {judged.gain_high:.4f})")
bins = [each for each in judged.bins if each.forecasts]
figure, axis = plt.subplots(figsize=(4, 4))
axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
axis.plot([each.forecast for each in bins], [each.frequency for each in bins], marker="o")
axis.set(xlabel="chance foretold", ylabel="how often it came true", title=f"calibration error {judged.error:.3f}")
figure.tight_layout()

# %% [markdown]
# ## What it says of a thought
# The first state of a held-out kind of game, and every plan in it.

# %%
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.retell import text_table
from maro_jax.pnlc.critic import Guide
from maro_jax.pnlc.embedders import embedder_of
from maro_jax.pnlc.states import state_of_record

table = text_table(name, {key: str(value) for key, value in parameters.items()}, "tiny")
state = state_of_record(table, EpisodeSource(data)[0], 0)
guide = Guide(saved, embedder_of(saved.embedder), whatever_it_knows=IGNORE_CALIBRATION)
plans = [text.strip() for text in plans_of(spec).texts]
chances = guide.chances([state], [plans])[0]
print(state, "\n")
for plan, worth, row in sorted(zip(plans, guide.scores(chances), chances, strict=True), key=lambda line: -line[1]):
    likeliest = row.argmax()
    print(f"{worth:+.3f}  {plan:<40} most likely: {guide.goals[likeliest]} ({row[likeliest]:.0%})")

# %% [markdown]
# ## In play
# The same deals for everybody. Two controls: any of the four thoughts, and the critic's scores dealt to the wrong ones.

# %%
from maro_jax.pnlc.evaluate import report, run
from maro_jax.run.pnlc_evaluate_config import PnlcEvaluateConfig

result = run(
    PnlcEvaluateConfig(
        actor=ACTOR, critic=critic, num_games=GAMES, agents="plain,random,shuffled,rerank", timed_decisions=0,
        ignore_calibration=IGNORE_CALIBRATION,
    ),
    Console(),
)  # fmt: skip
print(report(result))
figure, axis = plt.subplots(figsize=(5, 3.2))
for place, standing in enumerate(result["agents"]):
    own = standing["measure"]
    axis.errorbar([place], [own["mean"]], yerr=[[own["mean"] - own["low"]], [own["high"] - own["mean"]]], marker="o")
axis.set(xticks=range(len(result["agents"])), xticklabels=[each["agent"] for each in result["agents"]])
axis.set(ylabel=result["measure"])
figure.tight_layout()
