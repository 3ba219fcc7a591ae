"""How cost grows: `python -m tests.benchmarks.cost_growth`.

Three curves, each beside what it must be. The time of a decoding step against the context: a line whose slope is the
bytes that a cache holds of a token, once for each row. The same against the rows of the batch: flat as long as reading
the weights takes longer than multiplying by them. The learner's time against the tokens it learns from: a line.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.harness import generation
from maro_jax.league.floor import MachineRates, measure_rates
from maro_jax.league.session import run_session
from maro_jax.league.trainer import Trainer
from maro_jax.policy.attention import init_cache
from maro_jax.policy.config import TINY, DecoderConfig
from maro_jax.policy.decoder import Policy
from maro_jax.policy.sharding import make_mesh
from maro_jax.run.config import make_config
from maro_jax.run.console import table
from maro_jax.run.devices import keep_freed_memory
from maro_jax.selfplay.episodes import LEARNER

SHAPES: dict[str, DecoderConfig] = {
    "tiny": TINY,
    "50M": dataclasses.replace(
        TINY, vocab_size=32_000, hidden_size=512, intermediate_size=1536, num_layers=12, num_heads=8, num_kv_heads=4,
        head_dim=64,
    ),
}  # fmt: skip
IN_CACHES = ("tiny",)  # the processor's: the rate of the main memory does not bind
CONTEXTS = (64, 256, 512, 1024, 2048)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
FEW_ROWS, SHORT = 8, 64  # of a batch while the context grows; context while the batch grows
BLOCK = 64  # of a cache that is read at a time; room for the steps
EPISODES = (32, 64, 128, 256, 512)


def step_seconds(policy: Policy, params: Any, rows: int, context: int, rounds: int) -> float:
    """Seconds of a decoding step of a batch, least of some rounds of `generation.STEPS` steps each.

    What the cache holds does not matter for that: it is empty, and said to hold `context` tokens of each row.
    """
    settings = jax.tree.map(jnp.float32, dataclasses.asdict(generation.Sampling()))
    none, keys, seconds = jnp.zeros((0,), jnp.int32), jax.random.split(jax.random.key(0), rows), []
    config = policy.config
    for _ in range(rounds + 1):  # the first compiles
        replies = jax.block_until_ready(generation._Replies(
            cache=init_cache(config, rows, context + BLOCK, 1, 0, policy.dtype),
            lengths=jnp.full(rows, context, jnp.int32),
            logits=jnp.zeros((rows, config.vocab_size), jnp.float32),
            seen=jnp.zeros((rows, config.vocab_size), bool),
            done=jnp.zeros(rows, bool),
        ))  # fmt: skip
        start = time.perf_counter()
        jax.block_until_ready(
            generation._write(policy, False, params, replies, keys, settings, none, generation.STEPS)
        )
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:]) / generation.STEPS


def floor_seconds(config: DecoderConfig, rates: MachineRates, rows: int, context: int) -> float:
    """The least time of a step, float32: weights and caches are read, and multiplied by every row."""
    head = config.vocab_size * config.hidden_size
    weights = config.num_params - (0 if config.tie_embeddings else head)
    flops = rows * (2 * weights + 4 * config.num_layers * config.num_heads * config.head_dim * context)
    return max(flops / rates.gflops, (4 * weights + rows * entry_bytes(config) * context) / rates.gigabytes) / 1e9


def entry_bytes(config: DecoderConfig) -> int:
    """What a cache holds of a token, float32."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4


def decoding(rates: MachineRates, rounds: int) -> list[dict[str, Any]]:
    """A point a shape, context and number of rows."""
    points = []
    for shape, config in SHAPES.items():
        policy = Policy(config)
        params = policy.init(jax.random.key(0))
        asked = [(FEW_ROWS, context) for context in CONTEXTS] + [(rows, SHORT) for rows in ROWS if rows != FEW_ROWS]
        for rows, context in asked:
            seconds = step_seconds(policy, params, rows, context, rounds)
            middle = context + generation.STEPS // 2
            floor = floor_seconds(config, rates, rows, middle)
            points.append({"shape": shape, "rows": rows, "context": middle, "seconds": seconds, "floor": floor})
            print(f"{shape}, {rows} rows, context {middle}: {1e3 * seconds:.2f} ms a step", flush=True)
    return points


def learning(rounds: int) -> list[dict[str, Any]]:
    """Seconds to pack episodes and take one optimizer step on them with the quickstart's learner, and their tokens."""
    config = make_config("werewolf-tiny", {"episodes": max(EPISODES), "warm_start_games": 0})
    session = run_session(config, mesh_shape=config.mesh_shape(jax.device_count()))
    trainer = Trainer(session.arenas, config)
    state = trainer.start(session.params)
    state, _, [played] = trainer.iterate(state, 0)
    made = played.episodes.behaviours
    weight = ((made.seat >= 0) & (made.holder == LEARNER)).astype(np.float32)
    points = []
    for count in EPISODES:
        given = [played], [weight], [weight], (np.arange(count),)
        tokens = sum(int((np.asarray(s.segment) >= 0).sum()) for s in trainer._packed(trainer.learner, *given))

        seconds = []
        for _ in range(rounds + 1):  # the first compiles
            learner = jax.block_until_ready(jax.tree.map(jnp.copy, state.learner))  # a step takes its state
            start = time.perf_counter()
            batches = trainer._packed(trainer.learner, *given)
            jax.block_until_ready(trainer.learner.step(learner, batches, 1.0, None, trainer.no_point()))
            seconds.append(time.perf_counter() - start)
        points.append({"episodes": count, "tokens": tokens, "seconds": min(seconds[1:])})
        print(f"{count} episodes, {tokens} tokens: {points[-1]['seconds']:.2f} s", flush=True)
    return points


def slopes(x: list[float], y: list[float]) -> list[float]:
    """Of the lines from each point to the next."""
    return (np.diff(y) / np.diff(x)).tolist()


def power(x: list[float], y: list[float]) -> float:
    """The power of x with which y grows from the first point to the last: 1 for a line through the origin."""
    return float(np.log(y[-1] / y[0]) / np.log(x[-1] / x[0]))


def plot(points: list[dict[str, Any]], learnt: list[dict[str, Any]], path: Path) -> None:
    """A panel a curve; grey is the least time at the main memory's rate, of the model that no cache can hold."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for shape in SHAPES:
        by_context = [of for of in points if of["shape"] == shape and of["rows"] == FEW_ROWS]
        by_rows = sorted((of for of in points if of["shape"] == shape and of["context"] < 2 * SHORT), key=_rows)
        for panel, found, name in ((axes[0], by_context, "context"), (axes[1], by_rows, "rows")):
            x = [of[name] for of in found]
            panel.plot(x, [1e3 * of["seconds"] for of in found], marker="o", label=shape)
            if shape not in IN_CACHES:
                panel.plot(x, [1e3 * of["floor"] for of in found], color="grey", linewidth=0.8)
    axes[0].set(xlabel=f"context in tokens ({FEW_ROWS} rows)", ylabel="ms a decoding step", yscale="log")
    axes[1].set(xlabel="rows", ylabel="ms a decoding step", xscale="log", yscale="log")
    axes[2].plot([of["tokens"] for of in learnt], [of["seconds"] for of in learnt], marker="o")
    axes[2].set(xlabel="tokens learnt from", ylabel="s an optimizer step", xlim=(0, None), ylim=(0, None))
    for panel in axes:
        panel.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=150)


def _rows(point: dict[str, Any]) -> int:
    return point["rows"]


def main() -> None:
    """Measures, prints the tables and draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="timed repetitions; the least counts")
    parser.add_argument("--plot", type=Path, default=Path("cost_growth.png"))
    parser.add_argument("--json", type=Path, help="also write the points to this file")
    options = parser.parse_args()
    keep_freed_memory()
    rates = measure_rates(make_mesh(1, 1, 1))
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {rates.gflops:.0f} GFLOP/s, "
          f"{rates.gigabytes:.1f} GB/s")  # fmt: skip
    points = decoding(rates, options.rounds)
    learnt = learning(options.rounds)
    cells = [
        [of["shape"], of["rows"], of["context"], f"{1e3 * of['seconds']:.2f}",
         "" if of["shape"] in IN_CACHES else f"{of['floor'] / of['seconds']:.2f}", f"{of['rows'] / of['seconds']:,.0f}"]
        for of in points
    ]  # fmt: skip
    print(table(["shape", "rows", "context", "ms a step", "of the floor", "tokens/s"], cells))
    for shape, config in SHAPES.items():
        mine = [of for of in points if of["shape"] == shape and of["rows"] == FEW_ROWS]
        each = slopes([of["context"] for of in mine], [of["seconds"] for of in mine])
        moved = ", ".join(f"{slope * rates.gigabytes * 1e9 / FEW_ROWS:,.0f}" for slope in each)
        print(f"{shape}: from one context to the next a token more costs each row as long as the main memory takes for "
              f"{moved} bytes; the cache holds {entry_bytes(config):,} of it")  # fmt: skip
    tokens, seconds = [of["tokens"] for of in learnt], [of["seconds"] for of in learnt]
    each = ", ".join(f"{1e6 * slope:.1f}" for slope in slopes(tokens, seconds))
    print(f"learner: {each} s a million tokens more; time grows as tokens to the power of {power(tokens, seconds):.2f}")
    plot(points, learnt, options.plot)
    print(f"plot: {options.plot}")
    if options.json:
        found = {"rates": dataclasses.asdict(rates), "decoding": points, "learning": learnt}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
