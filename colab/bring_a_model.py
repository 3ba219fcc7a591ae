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
# # Bring a model of your own
#
# An ordinary Hugging Face model (Qwen2, Qwen2.5, Qwen3 or Llama 3) plays Werewolf against itself, with words and
# thoughts of its own, and learns from how the games end. Only a small adapter is trained; the model stays as it is.
# Meant for a runtime with a GPU: before it starts, the run says what the device will hold, and refuses what cannot fit.

# %% tags=["parameters"]
REPOSITORY = ""  # where to get maro-jax if it is not installed here, for example "https://example.org/maro-jax.git"
MODEL = "Qwen/Qwen2.5-0.5B-Instruct"  # a name on the Hugging Face Hub, or a folder
GAMES = "werewolf-v0:num_seats=5,max_days=2,speech_tokens=24,thought_tokens=32"
CHANGES = {"iterations": 20, "episodes": 32, "minibatches": 4, "learning_rate": 1e-4, "lora_rank": 16}
RUN_DIR = "runs/bring-a-model"

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
# ## The model
# Weights are read from safetensors alone, and no code comes with them.

# %%
from pathlib import Path

import jax

if Path(MODEL).is_dir():
    folder = Path(MODEL)
else:
    from huggingface_hub import snapshot_download

    wanted = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.md", "LICENSE*", "NOTICE*"]
    folder = Path(snapshot_download(MODEL, allow_patterns=wanted, ignore_patterns=["original/*"]))
print(f"JAX {jax.__version__} on {jax.device_count()} x {jax.devices()[0].device_kind}")
print("\n".join(f"{path.stat().st_size:>14,} {path.name}" for path in sorted(folder.iterdir())))

# %% [markdown]
# ## Train
# It begins as the model is (`warm_start_games=0`): nothing is cloned first. Stop the cell at any moment: the run
# saves, and running the cell again goes on. `lanes=0` lets as many games run at once as memory has room for.

# %%
from maro_jax.run.config import make_config
from maro_jax.train import Stopped, train

settings = {"model": str(folder), "games": GAMES, "run_dir": RUN_DIR, "warm_start_games": 0, "lanes": 0}
config = make_config("werewolf-tiny", {**settings, **CHANGES})
try:
    summary = train(config)
except Stopped:
    print("Stopped and saved; run the cell again to go on.")

# %% [markdown]
# The first row of the table is the model with its adapter against the model without: the same deals, each with the
# sides swapped. A few iterations of a few games prove little; the interval says how little.

# %% [markdown]
# ## What it says and thinks
# Thoughts are private: nobody in the game reads them. Choose an iteration and a game.

# %%
import html

from IPython.display import HTML

from maro_jax.replay import write_replay

page = write_replay(Path(RUN_DIR), Path(RUN_DIR, "replay.html"))  # also of a run that was stopped
replay = html.escape(page.read_text())
HTML(f'<div><iframe width="100%" height="700" srcdoc="{replay}"></iframe></div>')

# %% [markdown]
# ## Keep it
# Two ways: the adapter alone, as PEFT reads it, or the model with the adapter added to its weights, which
# transformers, vLLM and lm-evaluation-harness read like any other.

# %%
from maro_jax.export import export
from maro_jax.run.export_config import ExportConfig

for name, adapter in (("adapter", True), ("merged", False)):
    out = Path(f"{RUN_DIR}-{name}")
    if not out.exists():
        export(ExportConfig(run=RUN_DIR, out=str(out), adapter=adapter))
    print("\n".join(f"{path.stat().st_size:>14,} {out.name}/{path.name}" for path in sorted(out.iterdir())))

# %% [markdown]
# ## Ask it something else
# With transformers and torch, which this runtime may have.

# %%
try:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError:
    print("transformers and torch are not both installed here")
else:
    tokenizer = AutoTokenizer.from_pretrained(f"{RUN_DIR}-merged")
    language_model = AutoModelForCausalLM.from_pretrained(f"{RUN_DIR}-merged", dtype=torch.float32)
    chat = [{"role": "user", "content": "Three players each accuse another one. Who do you believe, and why?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = language_model.generate(**prompt, max_new_tokens=64, do_sample=False)
    print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
