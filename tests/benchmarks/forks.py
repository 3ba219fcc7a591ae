"""What forks cost: `python -m tests.benchmarks.forks`.

Iterations of self-play with the same random weights, by turns with `--decompose=value` and with `fork_dr` at some
numbers of forked behaviours: tokens that branches sampled, their part of all, and seconds, each the median over the
rounds (the first round, which compiles, is left out). The machine's load falls on all turns alike.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np

from maro_jax.run.config import make_config
from maro_jax.run.console import table
from maro_jax.run.devices import arrange_cpu_devices, keep_freed_memory

GAMES = {
    "kuhn": {"games": "kuhn-v0", "opponents": "mirror", "episodes": 1024, "lanes": 256},
    "werewolf": {},
}
SHOWN = ("forked_behaviours", "forked_tokens", "forked_share", "rollout_seconds", "fork_seconds", "seconds")


def measure(name: str, forks: list[int], pairs: int, rounds: int, devices: int) -> list[list[str]]:
    """Rows of the table: how it was credited, then the medians."""
    import jax
    import jax.numpy as jnp

    from maro_jax.league.session import run_session
    from maro_jax.league.trainer import Trainer

    changes = GAMES[name] | {"warm_start_games": 0, "eval_every": 0, "iterations": rounds + 1, "cpu_devices": devices}
    ways = {"value": {"decompose": "value"}}
    for count in forks:
        ways[f"fork_dr, {count}"] = {"decompose": "fork_dr", "fork_behaviours": count, "fork_pairs": pairs}
    configs = {way: make_config("werewolf-tiny", changes | more) for way, more in ways.items()}
    session = run_session(configs["value"], mesh_shape=configs["value"].mesh_shape(jax.device_count()))
    trainers = {way: Trainer(session.arenas, config) for way, config in configs.items()}
    told: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, trainer in trainers.items():
            state = trainer.start(jax.tree.map(jnp.copy, session.params))
            told[way].append(trainer.iterate(state, number)[1])
            print(f"{name}, round {number}, {way}: {told[way][-1]['seconds']:.1f} s", flush=True)
    rows, base = [], statistics.median(report["seconds"] for report in told["value"][1:])
    for way, reports in told.items():
        middle = {key: float(np.median([report.get(key, 0.0) for report in reports[1:]])) for key in SHOWN}
        rows.append([
            name, way, f"{middle['forked_tokens']:,.0f}", f"{middle['forked_share']:.0%}",
            *(f"{middle[key]:.1f}" for key in ("rollout_seconds", "fork_seconds", "seconds")),
            f"{middle['seconds'] / base:.2f}",
        ])  # fmt: skip
    return rows


def main() -> None:
    """Measures the games and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--games", default="kuhn,werewolf", help=f"of {', '.join(GAMES)}")
    parser.add_argument("--forks", default="256,1024", help="numbers of behaviours forked in an iteration")
    parser.add_argument("--pairs", type=int, default=1, help="other replies tried of each")
    parser.add_argument("--rounds", type=int, default=5, help="iterations measured of each")
    parser.add_argument("--devices", type=int, default=1, help="virtual CPU devices")
    options = parser.parse_args()
    if unknown := set(options.games.split(",")) - set(GAMES):
        parser.error(f"--games={options.games} names {', '.join(sorted(unknown))}; there are {', '.join(GAMES)}")
    keep_freed_memory()
    arrange_cpu_devices(options.devices)
    forks, rows = [int(count) for count in options.forks.split(",")], []
    for name in options.games.split(","):
        rows += measure(name, forks, options.pairs, options.rounds, options.devices)
    print(table(["game", "credit", "forked tokens", "of all", "playing s", "forks s", "iteration s", "to value"], rows))


if __name__ == "__main__":
    main()
