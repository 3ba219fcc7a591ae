"""Does a critic's choice of thoughts help? `python -m tests.benchmarks.pnlc_agents`.

For each game a tiny policy is cloned from scripted players (half of them play at random), who think the plan of what
they do. Games of such players teach critics, and then the agents play the same deals: the policy by itself, controls,
and the policy guided by the critic, by one without goals (of the outcome alone), and by one trained as the paper does
(goals from the future, expectile 0.8), whose values are no probabilities. What a folder holds is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from maro_jax.run.console import table

AGENTS = "plain,random,shuffled,rerank"


@dataclasses.dataclass(frozen=True)
class Task:
    """A game and who plays it.

    Attributes:
      game: with a budget for thoughts.
      preset: of the policy's training.
      sides: that the agents hold; empty: all.
      warm_start_games: that the policy is cloned from.
    """

    game: str
    preset: str
    sides: str = ""
    warm_start_games: int = 6144


TASKS = {
    "shopping": Task("shopping-v0:thought_tokens=12", "shopping-tiny"),
    "avalon": Task("avalon-v0:thought_tokens=12", "avalon-tiny", warm_start_games=4224),
    "persuasion": Task("persuasion-v0:thought_tokens=12", "werewolf-tiny"),
}
CRITICS = {  # flags of python -m maro_jax.pnlc train, and of evaluate
    "rerank": ([], []),
    "rerank, no goals": (["--goals=outcome"], ["--ignore_calibration"]),
    "rerank, not calibrated": (["--expectile=0.8", "--future_goals=1"], ["--ignore_calibration"]),
}


def made(folder: Path, *command: str) -> None:
    """Runs a command that leaves a folder, unless it is there."""
    if not folder.exists():
        begun = time.monotonic()
        print("$ python -m", *command, flush=True)
        subprocess.run([sys.executable, "-m", *command], check=True)
        print(f"({time.monotonic() - begun:.0f} s)", flush=True)


def play(task: Task, name: str, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All agents of one game, by name."""
    place = out / name
    place.mkdir(parents=True, exist_ok=True)
    actor, data = place / "actor", place / "data"
    if not (actor / "summary.json").exists():
        made(
            actor / "summary.json", "maro_jax.train", f"--preset={task.preset}", f"--games={task.game}",
            f"--warm_start_games={task.warm_start_games}", "--iterations=0", "--final_games=256",
            f"--run_dir={actor}", f"--seed={options.seed}",
        )  # fmt: skip
    player = str(actor) if options.player == "actor" else options.player
    weaker = [f"--temperature={options.data_temperature}"] if options.player == "actor" else []
    made(
        data, "maro_jax.pnlc", "collect", f"--game={task.game}", f"--player={player}", *weaker,
        f"--episodes={options.episodes}", f"--out={data}", f"--seed={options.seed}",
    )  # fmt: skip
    found: dict[str, Any] = {}
    for label, (training, playing) in CRITICS.items():
        slug = label.replace(",", "").replace(" ", "-")
        critic, result = place / f"critic-{slug}", place / f"{slug}.json"
        made(critic, "maro_jax.pnlc", "train", str(data), f"--out={critic}", f"--seed={options.seed}", *training)
        agents = AGENTS if not found else "plain,rerank"
        made(
            result, "maro_jax.pnlc", "evaluate", f"--actor={actor}", f"--critic={critic}", f"--agents={agents}",
            f"--num_games={options.num_games}", f"--num_thoughts={options.num_thoughts}", f"--json={result}",
            f"--temperature={options.temperature}", f"--seed={options.seed}", *playing,
            *([f"--sides={task.sides}"] if task.sides else []),
        )  # fmt: skip
        content = json.loads(result.read_text())
        for standing in content["agents"]:
            if standing["agent"] == "rerank":
                found[label] = standing
            else:
                found.setdefault(standing["agent"], standing)
        found["measure"] = content["measure"]
    return found


def lines_of(found: dict[str, Any]) -> list[list[Any]]:
    """A line for each agent: its measure, what it has more than `plain` deal by deal, and its time."""
    lines, plain = [], found["plain"]
    for name, standing in found.items():
        if name == "measure":
            continue
        own, gap = standing["measure"], standing["difference"]
        line = [name, f"{own['mean']:.3f} ({own['low']:.3f} to {own['high']:.3f})"]
        line.append("" if gap is None else f"{gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})")
        taken, usual = standing["seconds_per_decision"], plain["seconds_per_decision"]
        line += [f"{1000 * taken:.1f}", f"{taken / usual:.2f}", f"{standing['games_per_second']:.1f}", own["deals"]]
        lines.append(line)
    return lines


def main() -> None:
    """Makes what is missing and prints a table for each game."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--games", default=",".join(TASKS), help=f"some of {', '.join(TASKS)}, with commas")
    parser.add_argument("--out", type=Path, default=Path("runs/pnlc-agents"))
    parser.add_argument("--player", default="either", help="whose games teach: random, heuristic, either, or the actor")
    parser.add_argument("--data_temperature", type=float, default=1.5, help="of the actor, if its games teach")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the agents")
    parser.add_argument("--episodes", type=int, default=2500, help="games that teach")
    parser.add_argument("--num_games", type=int, default=3072, help="games of each agent, a deal for each side")
    parser.add_argument("--num_thoughts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = options.games.split(",")
    for name in names:
        if name not in TASKS:
            parser.error(f"--games names {name!r}, which is not one of {', '.join(TASKS)}")
    results = {name: play(TASKS[name], name, options.out, options) for name in names}
    headers = ["agent", "", "more than plain", "ms a decision", "times", "games/s", "deals"]
    for name, found in results.items():
        print(f"\n{TASKS[name].game}: {found['measure']}")
        print(table(headers, lines_of(found)))


if __name__ == "__main__":
    main()
