"""Does it truly learn? Training seeds against shuffled-outcome controls: `python -m tests.benchmarks.learning`.

The unit is the training seed: a game-level interval ignores that another seed would have trained another policy. A
control begins with the warm start of its seed. Every run is a run directory under `--out`, so the benchmark resumes
where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from maro_jax.run.config import make_config
from maro_jax.run.console import table
from maro_jax.run.evaluate_config import EvaluateConfig

STUDENT_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
TEMPERATURES = (0.25, 0.5, 0.75, 1.0)
FIGURES = (
    "win_rate", "win_rate_best_temperature", "scripted_before", "scripted_after", "scripted_change",
    "warm_start_against_random", "trained_against_random",
)  # fmt: skip


def run_one(out: Path, preset: str, seed: int, shuffled: bool, games: int) -> dict[str, Any]:
    """Trains (or resumes) one seed and measures it; the result is kept beside the run."""
    from maro_jax.evaluate import evaluate
    from maro_jax.train import train

    folder = out / f"{'control' if shuffled else 'seed'}-{seed}"
    kept = folder / "learning.json"
    if kept.exists():
        return json.loads(kept.read_text())
    changes: dict[str, Any] = {"run_dir": str(folder), "seed": seed, "final_games": games, "eval_every": 0}
    if shuffled:  # the same warm start, and the same deals and draws from there
        changes |= {"shuffle_outcomes": True, "warm_start_from": str(out / f"seed-{seed}")}
    summary = train(make_config(preset, changes))
    result = {
        "win_rate": summary["win_rate"],
        "scripted_before": summary["win_rate_scripted_before"],
        "scripted_after": summary["win_rate_scripted_after"],
        "scripted_change": summary["win_rate_scripted_after"] - summary["win_rate_scripted_before"],
        "warm_start_against_random": summary["win_rate_random_before"],
        "trained_against_random": summary["win_rate_random_after"],
        "seconds": summary["seconds_total"],
    }
    if not shuffled:
        # The warm start's best temperature is chosen on deals that nothing else uses.
        match = {"policy": str(folder), "opponent": "warm_start", "num_games": games}
        against = {
            heat: evaluate(EvaluateConfig(**match, opponent_temperature=heat, seed=1000 + seed))["total"]["mean"]
            for heat in TEMPERATURES
        }
        best = min(against, key=lambda heat: against[heat])
        final = evaluate(EvaluateConfig(**match, opponent_temperature=best, seed=2000 + seed))["total"]["mean"]
        result |= {"best_temperature": best, "win_rate_best_temperature": final}
    kept.write_text(json.dumps(result, indent=2) + "\n")
    return result


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval over seeds."""
    half = STUDENT_95[len(values)] * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    mean = float(np.mean(values))
    return mean, mean - half, mean + half


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--preset", default="werewolf-tiny")
    parser.add_argument("--seeds", type=int, default=5, help="training seeds, and as many controls (2 to 10)")
    parser.add_argument("--games", type=int, default=2048, help="games of a match; half against scripted players")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if not 2 <= options.seeds <= 10:
        parser.error(f"--seeds is between 2 and 10, for example --seeds=5, not {options.seeds}")
    runs: dict[str, list[dict[str, Any]]] = {"trained": [], "control": []}
    for seed in range(options.seeds):
        for kind, results in runs.items():
            results.append(run_one(options.out, options.preset, seed, kind == "control", options.games))
    rows: list[list[Any]] = []
    figures: dict[str, Any] = {"runs": runs}
    for name in FIGURES:
        values = {kind: np.array([run[name] for run in results if name in run]) for kind, results in runs.items()}
        if len(values["control"]):
            values["trained - control"] = values["trained"] - values["control"]
        for kind, numbers in values.items():
            if not len(numbers):
                continue
            mean, low, high = interval(numbers)
            figures[f"{name}/{kind}"] = {"mean": mean, "low": low, "high": high}
            rows.append([name, kind, f"{mean:.3f}", f"{low:.3f} to {high:.3f}", " ".join(f"{x:.3f}" for x in numbers)])
    print(table(["figure", "runs", "mean", "95 % over seeds", "each seed"], rows))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
