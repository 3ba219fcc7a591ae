"""Does what is learnt in one game help in another? `python -m tests.benchmarks.transfer --pair=werewolf-5`.

For each seed a policy clones scripted players of both games of a pair, then learns the first by self-play: once from
the outcomes, and once, as a control, from outcomes that were shuffled among the episodes. Both then meet their common
warm start in either game, on the same deals. Transfer is the win rate in the game that was not learnt from, less that
of the control: practice and drift without knowledge are in both. Seeds are the unit. What a folder holds is not made
again, so that more seeds may be added later; records in --results are read in place of runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from launch.scans.statistics import MIN_FOR_INTERVAL, describe, paired
from maro_jax.run.console import table
from maro_jax.run.directory import write_json


class Pair(NamedTuple):
    """Games of a pair.

    Attributes:
      learnt: the one that is played to learn.
      other: the one that is only cloned.
      preset: of the training.
    """

    learnt: str
    other: str
    preset: str = "werewolf-tiny"


SIX = "werewolf-v0:num_seats=6,max_days=5"
PAIRS = {
    "werewolf-5": Pair(SIX, "werewolf-v0:num_seats=5,max_days=5"),
    "werewolf-7": Pair(SIX, "werewolf-v0:num_seats=7,num_wolves=2,max_days=5"),
    "avalon": Pair(SIX, "avalon-v0"),
}
WAYS = {"outcomes": [], "shuffled outcomes": ["--shuffle_outcomes"]}
GAMES = ("learnt", "other")


def run(*command: str) -> None:
    """Runs a module, showing the command."""
    print("$ python -m", *command, flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True)


def seed_of(pair: Pair, seed: int, out: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Win rates of a seed against the warm start, by way and game."""
    warm = out / f"warm-{seed}"
    common = [f"--preset={pair.preset}", f"--seed={seed}", "--eval_every=0", "--final_games=64"]
    if not (warm / "summary.json").exists():
        both = [f"--games={pair.learnt},{pair.other}", f"--warm_start_games={options.warm_start_games}"]
        run("maro_jax.train", *common, *both, "--iterations=0", f"--run_dir={warm}")
    found: dict[str, dict[str, float]] = {}
    for way, flags in WAYS.items():
        folder = out / f"{way.replace(' ', '-')}-{seed}"
        if not (folder / "summary.json").exists():
            learning = [f"--games={pair.learnt}", f"--iterations={options.iterations}", f"--warm_start_from={warm}"]
            run("maro_jax.train", *common, *learning, *flags, f"--run_dir={folder}")
        found[way] = {}
        for game in GAMES:
            match = folder / f"match-{game}-{options.num_games}.json"
            if not match.exists():
                meeting = [f"--games={getattr(pair, game)}", f"--num_games={options.num_games}", f"--seed={seed}"]
                run("maro_jax.evaluate", str(folder), "--opponent=warm_start", *meeting, f"--json={match}")
            found[way][game] = json.loads(match.read_text())["total"]["mean"]
    return found


def rows_of(records: dict[int, dict[str, dict[str, float]]]) -> list[list[Any]]:
    """A line for each way and game, and one for the transfer in either."""
    rates = {(way, game): {seed: found[way][game] for seed, found in records.items()} for way in WAYS for game in GAMES}
    lines = [[f"{way}, {game} game", *_figures(describe(list(of.values())))] for (way, game), of in rates.items()]
    knowing, control = WAYS
    return lines + [
        [f"difference, {game} game", *_figures(paired(rates[knowing, game], rates[control, game]))] for game in GAMES
    ]


def _figures(found: dict[str, Any]) -> Sequence[Any]:
    interval = found["student_95"]
    between = f"{interval[0]:+.3f} to {interval[1]:+.3f}" if interval else f"from {MIN_FOR_INTERVAL} seeds on"
    return found["n"], f"{found['mean']:+.3f}", between


def main() -> None:
    """Makes what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="werewolf-5", choices=PAIRS)
    parser.add_argument("--seeds", default="0-9", help="first and last, or one")
    parser.add_argument("--iterations", type=int, default=10, help="of self-play in the game that is learnt")
    parser.add_argument("--warm_start_games", type=int, default=5120, help="cloned of each game")
    parser.add_argument("--num_games", type=int, default=2048, help="of a match")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--results", type=Path, default=Path("tests/benchmarks/results/transfer"))
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    settings = {name: getattr(options, name) for name in ("iterations", "warm_start_games", "num_games")}
    records: dict[int, dict[str, dict[str, float]]] = {}
    for seed in range(int(first), int(last or first) + 1):
        kept = options.results / f"{options.pair}-seed{seed}.json"
        if not kept.exists():
            found = seed_of(PAIRS[options.pair], seed, options.out / options.pair, options)
            write_json(kept, {"settings": settings, "win_rates": found})
        content = json.loads(kept.read_text())
        if content["settings"] != settings:
            parser.error(f"{kept} is of other settings, {content['settings']}; name them, or another --results")
        records[seed] = content["win_rates"]
    print(f"\n{options.pair}: {PAIRS[options.pair].learnt} learnt, {PAIRS[options.pair].other} not")
    print(table(["win rate against the warm start", "seeds", "mean", "95 % (Student)"], rows_of(records)))


if __name__ == "__main__":
    main()
