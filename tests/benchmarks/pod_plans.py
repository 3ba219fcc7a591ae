"""What a run of a pod's preset holds in a chip's memory, and how fast it could play.

`python -m tests.benchmarks.pod_plans --folder=NEW`. Nothing is run and no weight is made: the trainer is laid out for
Qwen2.5's shapes on virtual devices, and `plan_memory` counts. The tokenizer is a small byte-level one, which needs more
tokens for a role's text than Qwen's.

Decoding is bound by bytes: a step of all lanes of a chip reads the weights once and, of every lane, the stream of the
seat that acts, here 1,024 tokens: s = (W + lanes · 1024 · κ) / bandwidth, κ the bytes of keys and values of a token.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from games.registry import make
from maro_jax.league.arena import Arena
from maro_jax.league.memory import MemoryPlan, most_lanes, plan_memory
from maro_jax.league.trainer import ACCELERATOR_TOKENS, Trainer
from maro_jax.policy.config import DecoderConfig
from maro_jax.policy.decoder import Policy
from maro_jax.policy.sharding import MESH_AXES
from maro_jax.policy.tokenizer import load_tokenizer
from maro_jax.run.config import TrainConfig, make_config
from maro_jax.run.console import table
from maro_jax.run.inputs import parse_games
from maro_jax.selfplay.table import Table
from tests.policy.hf_fixture import make_model_folder

GIB = 2**30
STREAM = 1024  # tokens of a stream that a step reads, on average
# Chips; GB of a chip, of which nine tenths are counted on; GB/s.
PODS = {
    "pod-v5e-16": (16, 16, 819),
    "pod-v5p-16": (8, 95, 2765),
    "pod-v6e-16": (16, 32, 1638),
    "pod-h200-8": (8, 141, 4800),
}
_QWEN: dict[str, Any] = {
    "rope_theta": 1e6, "rms_norm_eps": 1e-6, "qkv_bias": True, "max_positions": 32768, "family": "qwen2",
}  # fmt: skip
MODELS = {
    "Qwen2.5-0.5B": DecoderConfig(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_layers=24, num_heads=14, num_kv_heads=2,
        head_dim=64, tie_embeddings=True, **_QWEN,
    ),
    "Qwen2.5-1.5B": DecoderConfig(
        vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_layers=28, num_heads=12, num_kv_heads=2,
        head_dim=128, tie_embeddings=True, **_QWEN,
    ),
    "Qwen2.5-7B": DecoderConfig(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_layers=28, num_heads=28, num_kv_heads=4,
        head_dim=128, tie_embeddings=False, **_QWEN,
    ),
}  # fmt: skip


def trainer_of(config: TrainConfig, model: DecoderConfig, tokenizer: object, chips: int, lanes: int) -> Trainer:
    """The trainer of a configuration, laid out but not started."""
    devices = np.array(jax.devices()[:chips]).reshape(config.mesh_shape(chips))
    mesh = Mesh(devices, MESH_AXES, axis_types=(AxisType.Auto,) * 3)
    [(name, parameters)] = parse_games(config.games)
    policy = Policy(model, dtype="bfloat16", remat=config.remat)
    laid = Table.lay(make(name, **parameters), policy, tokenizer)
    sizes = {"lanes": lanes, "episodes": config.episodes, "capacity": config.capacity}
    return Trainer([Arena(laid, mesh, **sizes, seed=0)], config, tokens=ACCELERATOR_TOKENS)


def planned(preset: str, model: str, folder: Path) -> tuple[int, MemoryPlan]:
    """Lanes of all chips, 0 if not one a chip fits, and the plan with them."""
    chips, memory, _ = PODS[preset]
    config, tokenizer = make_config(preset, {"model": str(folder)}), load_tokenizer(folder)
    trainer = trainer_of(config, MODELS[model], tokenizer, chips, config.episodes // 4)
    plan = plan_memory(trainer)
    lanes = most_lanes(trainer, plan, int(0.9 * memory * 1e9))
    if lanes in (0, trainer.arenas[0].lanes):
        return lanes, plan
    return lanes, plan_memory(trainer_of(config, MODELS[model], tokenizer, chips, lanes))


def bound(preset: str, model: str, lanes: int) -> float:
    """Tokens a second of all chips at the bandwidth's limit."""
    chips, _, bandwidth = PODS[preset]
    config = MODELS[model]
    token = 2 * 2 * config.num_layers * config.num_kv_heads * config.head_dim
    weights = 2 * sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(Policy(config).abstract_trained()))
    return lanes / ((weights + lanes / chips * STREAM * token) / (bandwidth * 1e9))


def row(preset: str, model: str, folder: Path) -> dict[str, object]:
    """A line of the table."""
    lanes, plan = planned(preset, model, folder)
    sizes = {"always": plan.resident, "weights to play": {"": plan.playing["weights"]}, "learning": plan.learning,
             "caches": {"": plan.playing["caches"]}}  # fmt: skip
    found = {name: sum(of.values()) / GIB for name, of in sizes.items()}
    return {
        "preset": preset, "model": model, "lanes": lanes, "peak": plan.peak / GIB, **found,
        "tokens_per_second": bound(preset, model, lanes) if lanes else 0.0,
    }  # fmt: skip


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where a folder with the tokenizer is to be made")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(chips for chips, _, _ in PODS.values()))
    make_model_folder(options.folder)
    rows = [row(preset, model, options.folder) for preset in PODS for model in MODELS]
    sizes = ("peak", "always", "weights to play", "caches", "learning")
    print(table(
        ["preset", "model", "lanes", *(f"{name}, GiB a chip" for name in sizes), "tokens/s at the limit"],
        [[r["preset"], r["model"], r["lanes"] or "none fits", *(f"{r[name]:.1f}" for name in sizes),
          f"{r['tokens_per_second']:,.0f}"] for r in rows],
    ))  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
