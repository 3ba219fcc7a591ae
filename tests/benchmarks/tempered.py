"""What sharper sampling alone gives: a warm start at its best temperature against itself at 1.

`python -m tests.benchmarks.tempered runs/ablation/warm-*` takes the folder of warm starts that `launch.sweep
--share_warm_start` leaves. It is the row "tempered warm start" beside the ablation's: self-play that gains no more than
this has only made the policy surer of what it did already.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from maro_jax.run.console import table
from maro_jax.run.evaluate_config import EvaluateConfig
from tests.benchmarks.learning import STUDENT_95, TEMPERATURES, interval


def tempered(folder: Path, seed: int, games: int) -> dict[str, Any]:
    """The temperature below 1 that suits a warm start best, chosen on deals of its own, and its win rate on others."""
    from maro_jax.evaluate import evaluate

    match: dict[str, Any] = {"policy": str(folder), "opponent": "warm_start", "num_games": games}
    rates = {
        heat: evaluate(EvaluateConfig(**match, temperature=heat, seed=1000 + seed))["total"]["mean"]
        for heat in TEMPERATURES
        if heat < 1
    }
    best = max(rates, key=lambda heat: rates[heat])
    final = evaluate(EvaluateConfig(**match, temperature=best, seed=2000 + seed))["total"]
    return {"seed": seed, "temperature": best, "tried": rates, "win_rate": final["mean"]}


def main() -> None:
    """Plays what no file beside the warm start tells yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="holds seed0, seed1, ...: runs that have only cloned")
    parser.add_argument("--games", type=int, default=1024, help="games of a match (four a seed)")
    options = parser.parse_args()
    found = {int(path.name[4:]): path for path in options.folder.glob("seed*") if re.fullmatch(r"seed\d+", path.name)}
    if not found:
        parser.error(f"{options.folder} has no folders seed0, seed1, ..., for example runs/ablation/warm-0ac3a38f81a8")
    results = []
    for seed, path in sorted(found.items()):
        kept = path / f"tempered-{options.games}.json"
        if not kept.exists():
            kept.write_text(json.dumps(tempered(path, seed, options.games)) + "\n")
        results.append(json.loads(kept.read_text()))
    rows = [
        [
            each["seed"],
            *(f"{rate:.3f}" for rate in each["tried"].values()),
            each["temperature"],
            f"{each['win_rate']:.3f}",
        ]
        for each in results
    ]
    print(table(["seed", *(f"at {heat}" for heat in TEMPERATURES if heat < 1), "best", "win rate at the best"], rows))
    if len(results) in STUDENT_95:
        mean, low, high = interval(np.array([each["win_rate"] for each in results]))
        print(f"mean {mean:.3f}, Student's 95 % interval over seeds {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
