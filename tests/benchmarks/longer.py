"""Does strength last? Runs four times as long as the quickstart: `python -m tests.benchmarks.longer`.

For each way to find opponents a run goes on for four times the quickstart's iterations, from the same warm start. Its
weights after each quarter meet a fixed pool: the warm start, heuristic and random players, and a stranger, which is
the quickstart's own policy of another seed. In self-play `mirror` meets none of them, `past` the warm start beside its
own past selves. Deals are common to all matches against one opponent; intervals are over deals, of one training seed a
way. The learning rate falls over the whole of a run. Runs and matches are kept under `--out`: the benchmark resumes
where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from maro_jax.run.config import TrainConfig, make_config
from maro_jax.run.console import table
from maro_jax.run.devices import arrange_cpu_devices, keep_freed_memory
from maro_jax.run.directory import recorded_config, write_json

QUARTERS = 4
PURPOSE = 4_000_000  # keeps the deals apart from those of training and of `evaluate`
POOL = ("warm start", "stranger", "heuristic", "random")
KEY = ("way", "iterations", "against", "games", "stranger")  # of a match
KEEP_ALL = 10_000
ALWAYS = {"eval_every": 0, "final_games": 64}


def train_all(out: Path, preset: str, ways: list[str], seed: int, final_rate: float) -> None:
    """Trains what is missing of the long runs, all from the warm start of the first of them."""
    from maro_jax.train import train

    iterations = QUARTERS * make_config(preset, {}).iterations
    for way in ways:
        changes: dict[str, Any] = ALWAYS | {
            "run_dir": str(out / way), "seed": seed, "opponents": way, "iterations": iterations,
            "learning_rate_final": final_rate, "save_every_minutes": 0.0, "keep_checkpoints": KEEP_ALL,
        }  # fmt: skip
        if way != ways[0]:
            changes["warm_start_from"] = str(out / ways[0])
        train(make_config(preset, changes))


def at_step(out: Path, way: str, step: int) -> str:
    """A run folder whose newest checkpoint is the one of a step."""
    folder = out / "steps" / f"{way}-{step}"
    kept = folder / "checkpoints" / str(step)
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(out / way / "config.json", folder)
        shutil.copytree(out / way / "checkpoints" / str(step), folder / "part", dirs_exist_ok=True)
        kept.parent.mkdir(exist_ok=True)
        (folder / "part").rename(kept)
    return str(folder)


def measure(out: Path, config: TrainConfig, ways: list[str], stranger: str, games: int) -> list[dict[str, Any]]:
    """Win rates of each way after each quarter against each of the pool; played ones are read from `matches.json`."""
    import jax

    from maro_jax.league.match import play_match
    from maro_jax.league.session import run_session, stored_params

    kept = out / "matches.json"
    known = json.loads(kept.read_text()) if kept.exists() else []
    done = {tuple(each[name] for name in KEY) for each in known}
    lanes = config.lanes
    shape = config.mesh_shape(jax.device_count())
    session = run_session(config, lanes=lanes, episodes=min(games, 4 * lanes), mesh_shape=shape)
    pool: dict[str, Any] = {
        "warm start": stored_params(session, str(out / ways[0]), "opponent")[0],
        "stranger": stored_params(session, stranger, "learner.params")[0],
        "heuristic": "heuristic",
        "random": "random",
    }
    quarter = config.iterations
    for way in ways:
        for iterations in range(0, QUARTERS * quarter + 1, quarter):
            if iterations == 0:
                player = pool["warm start"]
            else:
                step = iterations + (config.warm_iterations if way == ways[0] else 0)  # others take its warm start
                player = stored_params(session, at_step(out, way, step), "learner.params")[0]
            for number, name in enumerate(POOL):
                found = dict(zip(KEY, (way, iterations, name, games, stranger), strict=True))
                if (iterations == 0 and name == "warm start") or tuple(found.values()) in done:
                    continue
                result = play_match(session.arena, player, pool[name], games, purpose=PURPOSE + number)
                sides = {side: rate.mean for side, rate in result.sides.items()}
                known.append(found | dataclasses.asdict(result.total) | {"sides": sides})
                write_json(kept, known)
                print(f"{way} after {iterations} iterations against {name}: {result.total.mean:.3f}", flush=True)
    return [each for each in known if each["way"] in ways and (each["games"], each["stranger"]) == (games, stranger)]


def plot(rows: list[dict[str, Any]], ways: list[str], path: Path) -> None:
    """Win rate against iterations, a panel a way and a line with its interval an opponent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (4.5 * len(ways), 4)
    figure, panels = pyplot.subplots(1, len(ways), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axes, way in zip(panels[0], ways, strict=True):
        for name in POOL:
            mine = sorted((row for row in rows if row["way"] == way and row["against"] == name), key=_iterations)
            x = [row["iterations"] for row in mine]
            line = axes.plot(x, [row["mean"] for row in mine], marker="o", label=name)[0]
            low, high = ([row[edge] for row in mine] for edge in ("low", "high"))
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.axhline(0.5, color="grey", linewidth=0.8)
        axes.set(xlabel="iterations of self-play", title=f"--opponents={way}")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("win rate")
    panels[0][0].legend(title="against")
    figure.savefig(path, dpi=150)


def _iterations(row: dict[str, Any]) -> int:
    return row["iterations"]


def _cell(row: dict[str, Any] | None) -> str:
    return f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})" if row else ""


def main() -> None:
    """Trains and measures what is missing, prints the table and draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--preset", default="werewolf-tiny")
    parser.add_argument("--ways", default="mirror,past", help="values of the trainer's --opponents")
    parser.add_argument("--seed", type=int, default=1, help="of the long runs")
    parser.add_argument("--stranger", default="runs/werewolf-tiny",
                        help="a finished run of the preset with another seed, say that of launch/local.sh")  # fmt: skip
    parser.add_argument("--learning_rate_final", type=float, default=TrainConfig().learning_rate_final,
                        help="of the long runs; their rate falls to this share of its first value")  # fmt: skip
    parser.add_argument("--games", type=int, default=2048, help="games of a match, on half as many deals")
    parser.add_argument("--out", type=Path, default=Path("runs/longer"))
    options = parser.parse_args()
    ways = options.ways.split(",")
    stranger = Path(options.stranger).expanduser().resolve()
    recorded = recorded_config(stranger) or {}
    finished = (stranger / "summary.json").exists()
    if recorded.get("preset") != options.preset or recorded["seed"] == options.seed or not finished:
        parser.error(f"--stranger={options.stranger} is no finished run of the preset with another seed; train one: "
                     f"python -m maro_jax.train --preset={options.preset} --seed={options.seed + 1} --run_dir=NEW")
    keep_freed_memory()
    config = make_config(options.preset, {"seed": options.seed})
    arrange_cpu_devices(config.num_cpu_devices())
    train_all(options.out, options.preset, ways, options.seed, options.learning_rate_final)
    rows = measure(options.out, config, ways, str(stranger), options.games)
    quarters = sorted({row["iterations"] for row in rows})
    found = {(row["way"], row["against"], row["iterations"]): row for row in rows}
    lines = [[way, name, *(_cell(found.get((way, name, at))) for at in quarters)] for way in ways for name in POOL]
    print(table(["opponents", "against", *(f"after {at}" for at in quarters)], lines))
    plot(rows, ways, options.out / "longer.png")
    print(f"plot: {options.out / 'longer.png'}")


if __name__ == "__main__":
    main()
