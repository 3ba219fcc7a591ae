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
# # Play a game and see it
#
# A scripted game of Werewolf as everybody saw it, the same as one player saw it, thousands of games side by side, and
# one with you in a seat, with its replay. A minute on a CPU core; 2 GB of memory; nothing is downloaded but the
# package.

# %% tags=["parameters"]
REPOSITORY = ""  # where to get maro-jax if it is not installed here, for example "https://example.org/maro-jax.git"
GAME = "werewolf-v0"  # any name of docs/games
SEED = 3
SEAT = 6  # yours; 0: drawn from the seed
ANSWER = None  # None: you are asked for your moves; or the answer to every question, for example "1"
GAMES_AT_ONCE = 4096

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

# %%
import jax

print(f"JAX {jax.__version__} on {jax.device_count()} x {jax.devices()[0].device_kind}")

# %% [markdown]
# ## A game as everybody saw it
# The players are scripted. The notes on the right tell who knows of a line: a villager does not read what a wolf does
# at night.

# %%
from games.show import main as show

show([GAME, "--seed", str(SEED)])

# %% [markdown]
# ## The same game as Player 1 saw it
# This text, as tokens, is all that a model in that seat is given.

# %%
show([GAME, "--seed", str(SEED), "--seat", "1"])

# %% [markdown]
# ## Thousands at once
# A game is a handful of pure functions on small arrays, so that a batch of games is one compiled program.

# %%
import time

import jax.numpy as jnp

from games.core import view_of_actor
from games.players.scripted import random_legal
from games.registry import make

game = make(GAME)


@jax.jit
@jax.vmap
def final_state(key):
    """A game of random players, from the deal to its end."""

    def turn(carry):
        state, key = carry
        key, act_key, step_key = jax.random.split(key, 3)
        action = random_legal(view_of_actor(game, state), act_key)
        return game.step(state, action, step_key), key

    return jax.lax.while_loop(lambda carry: ~carry[0].over, turn, (game.init(key), key))[0]


keys = jax.random.split(jax.random.key(SEED), GAMES_AT_ONCE)
jax.block_until_ready(final_state(keys))  # compiles
begun = time.perf_counter()
ended = jax.block_until_ready(final_state(keys))
rate, turns = GAMES_AT_ONCE / (time.perf_counter() - begun), float(jnp.mean(ended.step))
print(f"{GAMES_AT_ONCE:,} games of {turns:.0f} turns on average: {rate:,.0f} games a second")

# %% [markdown]
# ## Your turn
# You hold one seat, scripted players the others. Answer with the number of a choice or its first letters.

# %%
from maro_jax.play import play
from maro_jax.run.play_config import PlayConfig


def answer(question):
    """Answers for you, if the parameters say how."""
    print(question, ANSWER)
    return ANSWER


record = play(PlayConfig(game=GAME, seat=SEAT, seed=SEED, output="game.html"), input if ANSWER is None else answer)

# %% [markdown]
# ## The replay
# With all roles and private channels laid open. The file `game.html` is self-contained: keep it, send it to somebody.

# %%
import html
from pathlib import Path

from IPython.display import HTML

replay = html.escape(Path("game.html").read_text())
HTML(f'<div><iframe width="100%" height="700" srcdoc="{replay}"></iframe></div>')
