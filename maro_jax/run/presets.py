"""Named sets of settings for training."""

from collections.abc import Mapping
from typing import Any

# So near to the reference both reference points agree, and this one needs no forward pass of it.
TINY_CREDIT: Mapping[str, Any] = {"reference_point": "sampled_kl"}

FOR_PODS = "pod-"
# A Hugging Face model (--model) that thinks and speaks, on all devices of a slice; lanes follow from their memory.
# Nothing of this has run on such a slice: docs/pods.md has the memory it plans.
_POD: Mapping[str, Any] = {
    "games": "werewolf-v0:num_seats=6,max_days=3,speech_tokens=32,thought_tokens=64",
    "capacity": 2048,
    "overflow": "truncate",
    "warm_start_games": 0,
    "opponents": "past",
    "lanes": 0,
    "optimizer": "adam",
    "learning_rate": 2e-6,
    "remat": "full",
    "eval_games": 1024,  # as an iteration has: fewer would be played, and thrown away
    "final_games": 1024,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The quickstart; else the defaults of `TrainConfig` are its values.
    "werewolf-tiny": TINY_CREDIT,
    # The same model and game, just enough steps to run every part of the program.
    "werewolf-smoke": {
        "iterations": 3,
        "episodes": 32,
        "lanes": 16,
        "minibatches": 2,
        "warm_start_games": 48,
        "eval_every": 2,
        "eval_games": 32,
        "final_games": 64,
    },
    # The quickstart with other games: more of what is short, less of what is long.
    "bargaining-tiny": {**TINY_CREDIT, "games": "bargaining-v0", "episodes": 1024, "lanes": 256, "eval_games": 1024},
    "shopping-tiny": {**TINY_CREDIT, "games": "shopping-v0", "episodes": 1024, "lanes": 256, "eval_games": 1024},
    # At the quickstart's learning rate a seed of three lost to its warm start: a game has 60 decisions for one outcome.
    "avalon-tiny": {
        **TINY_CREDIT,
        "games": "avalon-v0",
        "learning_rate": 5e-4,
        "episodes": 384,
        "lanes": 96,
        "warm_start_games": 2688,
        "iterations": 10,
        "eval_games": 256,
        "final_games": 1024,
    },
    "pod-v5e-16": {**_POD, "episodes": 1024, "fsdp": 16, "distributed": "auto"},
    "pod-v5p-16": {**_POD, "episodes": 1024, "fsdp": 8, "distributed": "auto"},  # 8 chips: its name counts cores
    "pod-v6e-16": {**_POD, "episodes": 1024, "fsdp": 16, "distributed": "auto"},
    "pod-h200-8": {**_POD, "episodes": 1024, "fsdp": 8},
}
