"""Plain generation beside that of others, on the same weights and prompts: `python -m tests.benchmarks.engine`.

All read prompts of equal length and write as many greedy tokens in float32, end to end with prefill, by turns in one
run. The others are transformers, and Tunix where `pip install google-tunix` has put it beside us. The floor is what
the work takes at the rates the machine reached in the same run: a prompt's tokens are matrix products; each further
token of all rows multiplies the weights or reads them and the caches, whichever takes longer. What games add to this
(many turns, a tokenizer on the host, history sent again) is in tests/benchmarks/selfplay.py.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports jax: the other side computes there too

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from maro_jax.harness.generation import Sampling, generate  # noqa: E402
from maro_jax.league.floor import MachineRates, measure_rates  # noqa: E402
from maro_jax.policy.config import DecoderConfig  # noqa: E402
from maro_jax.policy.decoder import Params, Policy  # noqa: E402
from maro_jax.policy.hf_folder import load_model  # noqa: E402
from maro_jax.policy.sharding import make_mesh  # noqa: E402
from maro_jax.run.console import table  # noqa: E402
from tests.benchmarks.peers import Generate, transformers_peer, tunix_peer  # noqa: E402
from tests.policy.hf_fixture import make_model_folder  # noqa: E402

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 96, "intermediate_size": 256, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2,
             "vocab_padding": 400},
    "50M": {"hidden_size": 512, "intermediate_size": 1536, "num_layers": 12, "num_heads": 8, "num_kv_heads": 4,
            "vocab_padding": 32000},
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_layers": 24, "num_heads": 14, "num_kv_heads": 2,
             "vocab_padding": 151_000},
}  # fmt: skip
SIDES = ("ours", "transformers", "Tunix")
GOAL, MANY, GOAL_MANY = 1.0, 8, 1.5  # times the better of the others; from so many rows on, so many times


def ours(policy: Policy, params: Params, prompts: np.ndarray, new: int) -> np.ndarray:
    """int[B, new]: greedy tokens."""
    written = generate(
        policy, params, prompts.tolist(), keys=jax.random.split(jax.random.key(0), len(prompts)),
        sampling=Sampling(), ends=(), max_new=new, stop_at=lambda reply: None,
    )  # fmt: skip
    return np.array(written)


def floor_seconds(config: DecoderConfig, rates: MachineRates, rows: int, prompt: int, new: int) -> float:
    """The least time of prefill and decode, see above; the embedding is a table and only the head is multiplied."""
    head = config.vocab_size * config.hidden_size
    kernels = config.num_params - head * (1 if config.tie_embeddings else 2)
    entry = 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4  # bytes that a cache holds of a token
    of_pair = 4 * config.num_layers * config.num_heads * config.head_dim
    reading = rows * (2 * kernels * prompt + 2 * head + of_pair * prompt * (prompt + 1) // 2)
    total = reading / rates.gflops
    for length in range(prompt + 1, prompt + new):  # the last token is written, not read
        flops = rows * (2 * (kernels + head) + of_pair * length)
        total += max(flops / rates.gflops, (4 * (kernels + head) + rows * entry * length) / rates.gigabytes)
    return total / 1e9


def compare(shape: str, batches: list[int], prompt: int, new: int, rounds: int) -> list[dict[str, Any]]:
    """Seconds of all sides for each batch, by turns."""
    rates = measure_rates(make_mesh(jax.device_count(), 1, 1), mebibytes=64)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model_folder(Path(folder) / "model", **SHAPES[shape])
        policy, params, _ = load_model(Path(folder) / "model")
        tunix = tunix_peer(Path(folder) / "model", policy.config, prompt + new)
    sides: dict[str, Generate] = {"ours": functools.partial(ours, policy, params)}
    sides["transformers"] = transformers_peer(model)
    if tunix:
        sides["Tunix"] = tunix
    results = []
    for batch in batches:
        prompts = np.random.default_rng(batch).integers(0, policy.config.vocab_size, (batch, prompt))
        written = {name: side(prompts, new) for name, side in sides.items()}
        same = {name: float((tokens == written["ours"]).mean()) for name, tokens in written.items() if name != "ours"}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                begun = time.perf_counter()
                side(prompts, new)
                seconds[name].append(time.perf_counter() - begun)
        floor = floor_seconds(policy.config, rates, batch, prompt, new)
        results.append({"shape": shape, "parameters": policy.num_params(), "batch": batch, "same_tokens": same,
                        "floor": floor, "seconds": seconds})  # fmt: skip
    return results


def row_of(result: dict[str, Any], new: int) -> list[Any]:
    """A line of the table; a side that is not there is a dash, and the better of the others has the least median."""
    median = {name: statistics.median(seconds) for name, seconds in result["seconds"].items()}
    better = min((name for name in median if name != "ours"), key=lambda name: median[name])
    turns = zip(result["seconds"]["ours"], result["seconds"][better], strict=True)
    ratios = [others / mine for mine, others in turns]
    goal = GOAL_MANY if result["batch"] >= MANY else GOAL
    rates = [f"{result['batch'] * new / median[name]:,.0f}" if name in median else "–" for name in SIDES]
    return [
        f"{result['shape']} ({result['parameters'] / 1e6:.1f} M)", result["batch"], *rates,
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", f"{goal:g}",
        f"{result['floor'] / median['ours']:.2f}", f"{min(result['same_tokens'].values()):.1%}",
    ]  # fmt: skip


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="tiny,50M", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--batches", default="1,8,32,128", help="rows")
    parser.add_argument("--prompt", type=int, default=64, help="tokens that every row reads first")
    parser.add_argument("--new", type=int, default=64, help="tokens that every row writes")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side, after one that is not counted")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    shapes, batches = options.shapes.split(","), [int(batch) for batch in options.batches.split(",")]
    unknown = [shape for shape in shapes if shape not in SHAPES]
    if unknown:
        parser.error(f"there is no shape {unknown[0]!r}; there are: {', '.join(SHAPES)}")
    torch.set_num_threads(os.cpu_count() or 1)  # the tests' fixture asks for one
    results = [
        result for shape in shapes for result in compare(shape, batches, options.prompt, options.new, options.rounds)
    ]
    headers = ["shape", "rows", *SIDES, "times the better (range)", "goal", "of the floor", "same tokens"]
    print(table(headers, [row_of(result, options.new) for result in results]))
    print(f"tokens/s: {options.prompt} tokens read, {options.new} written, float32, {os.cpu_count()} cores")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
