"""How near a critic comes to exact chances: `python -m tests.benchmarks.pnlc_worlds --seeds=3`.

Critics are trained on sampled episodes of the two worlds of `tests.pnlc.worlds`, a seed for each sample and training,
and held against the exact values in all states in which somebody decides, for all thoughts and goals.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np

from maro_jax.pnlc.value import train
from tests.pnlc import worlds

CASES = (
    ("grid", {}, 0.5),
    ("chain", {}, 0.5),
    ("chain", {"expectile": 0.8}, 0.8),
    ("chain", {"expectile": 0.8}, 0.5),
    ("chain", {"stop_at_goal": False}, 0.5),
    ("chain", {"future_goals": 0.5}, 0.5),
    ("chain", {"future_goals": 1.0}, 0.5),
    ("chain", {"discount": 0.9}, 0.5),
)
WORLDS = {
    "chain": (worlds.chain, worlds.CHAIN_EPISODES, worlds.CHAIN),
    "grid": (worlds.grid, worlds.GRID_EPISODES, worlds.GRID),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=3, help="how many samples and trainings")
    seeds = parser.parse_args().seeds
    trained = {}
    print("| world | options | against | largest error of Q, each seed | mean error of Q |\n|---|---|---|---|---|")
    for name, changes, tau in CASES:
        make, episodes, usual = WORLDS[name]
        world, largest, mean = make(), [], []
        for seed in range(seeds):
            case = name, str(changes), seed
            if case not in trained:
                data = worlds.sample(world, episodes, seed).data
                options = dataclasses.replace(usual, seed=seed, **changes)
                trained[case] = train(data, np.arange(len(data.done), dtype=np.int32), options)[0]
            error, _ = worlds.errors(world, trained[case], tau)
            largest.append(error.max())
            mean.append(error.mean())
        said = ", ".join(f"{key} {value}" for key, value in changes.items()) or "defaults"
        against = "probability" if tau == 0.5 else f"fixed point of {tau}"
        figures = " ".join(f"{value:.3f}" for value in largest), " ".join(f"{value:.3f}" for value in mean)
        print("| " + " | ".join([name, said, against, *figures]) + " |", flush=True)


if __name__ == "__main__":
    main()
