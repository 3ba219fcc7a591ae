"""Does a critic's choice of thoughts help? `python -m tests.benchmarks.pnlc_agents --out=runs/pnlc-agents`.

In shopping, Avalon and persuasion an actor plays the same deals by itself, as controls, and guided by a critic; by one
without goals (of the outcome alone); and by one trained as the paper does (goals from the future, expectile 0.8), whose
values are no probabilities. Critics learn from games of the actor: of plans of random acts, or, with --actor=policy, of
a tiny policy that has cloned heuristic players. With --actor=novice, a tiny policy that has cloned games of the random
player, they learn from these games.

What a command makes lies in a folder that is named after all flags that led to it, so that it is made once, and never
taken for that of other flags. The tables also go to --out as results.md and results.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from games.registry import make
from maro_jax.run import exit_codes
from maro_jax.run.console import table
from maro_jax.run.directory import write_json
from maro_jax.run.inputs import parse_games

OWN_AGENTS = {  # beside those that a critic guides
    "random": ("plain", "no_thought", "react", "random"),
    "novice": ("plain", "no_thought", "react", "self_rated", "random"),
    "policy": ("plain", "no_thought", "react", "self_rated", "random"),
}
CRITICS = {  # of `rerank`: flags of python -m maro_jax.pnlc train, and of evaluate
    "rerank": ((), ()),
    "rerank, no goals": (("--goals=outcome",), ("--ignore_calibration",)),
    "rerank, as the paper trains": (("--expectile=0.8", "--future_goals=1"), ("--ignore_calibration",)),
}
HEADERS = ("agent", "{}", "more than plain", "ms a decision", "times", "games/s", "deals")


@dataclasses.dataclass(frozen=True)
class Task:
    """A game and who plays it.

    Attributes:
      game: with a budget for thoughts.
      preset: of a policy's warm start.
      warm_start_games: that it clones.
      temperature: of a policy, at which its thoughts differ.
      opponent: of the actor in the games of the critic; empty: the other side is held by one too.
      met: opponent of the agents.
      sides: that agents hold; empty: all.
    """

    game: str
    preset: str
    warm_start_games: int = 6144
    temperature: float = 1.0
    opponent: str = ""
    met: str = ""
    sides: str = ""


TASKS = {
    "shopping": Task("shopping-v0:thought_tokens=12", "shopping-tiny"),
    # Whoever plays at random as good wins no game of heuristic players; their games tell what comes of evil's thoughts.
    "avalon": Task("avalon-v0:thought_tokens=12", "avalon-tiny", 2688, 2.0, opponent="heuristic", sides="evil"),
    "persuasion": Task("persuasion-v0:thought_tokens=12", "werewolf-tiny", 6144, 2.0),
}
# Among heuristic players a clone of random evil ones wins no more by any of its thoughts (docs/pnlc.md).
OF_NOVICE = {name: dataclasses.replace(task, temperature=1.0) for name, task in TASKS.items()}
OF_NOVICE["avalon"] = dataclasses.replace(OF_NOVICE["avalon"], opponent="", met="random", sides="")


class Refused(Exception):
    """A command could not use what it was given; it has said why."""


def made(folder: Path, kind: str, place: str, module: Sequence[str], flags: Sequence[str]) -> Path:
    """Runs a command, unless what it makes is there.

    Args:
      folder: of the game.
      kind: of what is made; its name begins with it and ends with a digest of the flags.
      place: the flag that takes where it goes.
      module: what Python runs.
      flags: all others.

    Returns:
      Where it is.

    Raises:
      Refused: the command ended with exit code 2.
    """
    digest = hashlib.sha256(json.dumps([*module, *flags]).encode()).hexdigest()[:8]
    made = folder / f"{kind}-{digest}{'.json' if place == '--json' else ''}"
    if (made / "summary.json" if place == "--run_dir" else made).exists():
        return made
    command, begun = [*module, *flags, f"{place}={made}"], time.monotonic()
    print("$ python -m", *command, flush=True)
    code = subprocess.run([sys.executable, "-m", *command], check=False).returncode
    if code == exit_codes.USAGE:
        raise Refused
    if code:
        raise SystemExit(f"the command above ended with {code}")
    print(f"({time.monotonic() - begun:.0f} s)", flush=True)
    return made


def play(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What every agent of one game reached: `measure`, `agents` by name, and `refused`, agents without a critic."""
    task = (OF_NOVICE if options.actor == "novice" else TASKS)[name]
    folder, seed = options.out / name, f"--seed={options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    pnlc = ["maro_jax.pnlc"]

    def policy(*learning: str) -> str:
        warm = [f"--warm_start_games={task.warm_start_games}", "--iterations=0", "--final_games=64"]
        training = [f"--preset={task.preset}", f"--games={task.game}", *warm, seed, *learning]
        return str(made(folder, options.actor, "--run_dir", ["maro_jax.train"], training))

    def games(player: str, *heat: str) -> Path:
        others = [f"--opponent={task.opponent}"] if task.opponent else []
        source = [f"--game={task.game}", f"--player={player}", *heat, f"--episodes={options.episodes}", seed, *others]
        return made(folder, "data", "--out", [*pnlc, "collect"], source)

    heat = [] if options.actor == "random" else [f"--temperature={task.temperature}"]
    if options.actor == "policy":
        actor, holder = policy(), "learner"
        data = games(actor, *heat)
    else:
        holder, data = "random", games("random")
        actor = "random" if options.actor == "random" else policy(f"--warm_start_data={data}")
    found: dict[str, Any] = {"measure": "", "agents": {}, "refused": []}

    def contest(label: str, critic: list[str], *agents: str) -> None:
        [(game, parameters)] = parse_games(task.game)
        sides = task.sides.split(",") if task.sides else make(game, **parameters).spec.sides
        flags = [f"--num_games={options.num_deals * len(sides)}", f"--num_thoughts={options.num_thoughts}", *heat]
        flags += [f"--sides={task.sides}"] if task.sides else []
        flags += [f"--opponent={task.met}"] if task.met else []
        names = [f"--actor={actor}", f"--agents={','.join(agents)}", f"--game={task.game}"]
        try:
            result = made(folder, "agents", "--json", [*pnlc, "evaluate"], [*names, *critic, *flags, seed])
        except Refused:
            found["refused"].append(label)
            return
        content = json.loads(result.read_text())
        found["measure"] = content["measure"]
        plain = content["agents"][0]["seconds_per_decision"]  # times of one call are compared
        for standing in content["agents"]:
            guided = standing["agent"] == "rerank"
            standing["times"] = standing["seconds_per_decision"] / plain
            found["agents"].setdefault(label if guided else standing["agent"], standing)

    contest("", [], *OWN_AGENTS[options.actor])
    for label, (learning, playing) in CRITICS.items():
        of = [f"--holders={holder}"] if task.opponent else []
        critic = made(folder, "critic", "--out", [*pnlc, "train"], [str(data), *of, *learning, seed])
        controls = ["shuffled"] if label == "rerank" else []
        contest(label, [f"--critic={critic}", *playing], "plain", *controls, "rerank")
    return found


def lines_of(found: Mapping[str, Any]) -> list[list[Any]]:
    """A line for each agent: its measure, what it has more than `plain` deal by deal, and its time."""
    lines = []
    for name, standing in found["agents"].items():
        own, gap = standing["measure"], standing["difference"]
        line = [name, f"{own['mean']:.3f} ({own['low']:.3f} to {own['high']:.3f})"]
        line.append("" if gap is None else f"{gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})")
        line += [f"{1000 * standing['seconds_per_decision']:.1f}", f"{standing['times']:.2f}"]
        line += [f"{standing['games_per_second']:.1f}", own["deals"]]
        lines.append(line)
    return lines + [[name, "refused: its critic knows nothing", "", "", "", "", ""] for name in found["refused"]]


def markdown(game: str, found: Mapping[str, Any]) -> str:
    """A game's table as Markdown."""
    rows = [[header.format(found["measure"]) for header in HEADERS], ["---"] * len(HEADERS), *lines_of(found)]
    return f"## {game}\n\n" + "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows) + "\n"


def main() -> None:
    """Makes what is missing, and prints a table for each game."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", default=",".join(TASKS), help=f"some of {', '.join(TASKS)}, with commas")
    parser.add_argument("--out", type=Path, default=Path("runs/pnlc-agents"))
    parser.add_argument("--actor", default="random", choices=list(OWN_AGENTS))
    parser.add_argument("--episodes", type=int, default=2500, help="games that teach each critic")
    parser.add_argument("--num_deals", type=int, default=1536, help="that each agent plays")
    parser.add_argument("--num_thoughts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = options.games.split(",")
    for name in names:
        if name not in TASKS:
            parser.error(f"--games names {name!r}, which is not one of {', '.join(TASKS)}")
    results = {name: play(name, options) for name in names}
    for name, found in results.items():
        print(f"\n{TASKS[name].game}, {options.actor} actor")
        print(table([header.format(found["measure"]) for header in HEADERS], lines_of(found)))
    said = {name: str(value) for name, value in vars(options).items()}
    write_json(options.out / f"results-{options.actor}.json", {"flags": said, "games": results})
    text = "\n".join(markdown(TASKS[name].game, found) for name, found in results.items())
    (options.out / f"results-{options.actor}.md").write_text(f"{' '.join(sys.argv[1:])}\n\n{text}")


if __name__ == "__main__":
    main()
