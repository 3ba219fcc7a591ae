"""How much of a gradient is signal, by credit: `python -m tests.benchmarks.gradient_signal RUN`.

The weights of a finished run, or of its warm start, play many iterations of self-play without learning, and each
credit's gradient of every iteration is kept. From products of different iterations, which noise does not bias, follow

  signal      |E g|² / E|g|², the part of an iteration's gradient that another iteration's would share;
  direction   cos(E g, t), how far what a credit asks for on average is what raises the outcome: t is the gradient of
              the expected outcome itself, by REINFORCE with a baseline, from games that no row has seen;
  cosine      cos(g, t) = √signal · direction, of one iteration's gradient, and how much more it is than the first
              row's, with jackknife intervals over iterations, the same left out of both; the noise of the truth, which
              all rows share, is not in them;
  games       that the credit needs for as little noise as the first row has, as a multiple of that row's, forks not
              counted.

All rows without a deal baseline see the same games. What credit rests on (the means of balance, the value function)
comes to know the games in some iterations before the first. At the weights that played, KTO's gradient is REINFORCE's
times a constant, and so is PPO's (tests/credit): the utilities need no rows of their own. Gradients of finished rows
are kept under `--out`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from maro_jax.run.config import MEETING_PAST_SELVES, TrainConfig, make_config
from maro_jax.run.console import table
from maro_jax.run.devices import arrange_cpu_devices, keep_freed_memory
from maro_jax.run.directory import recorded_config, write_json

ALWAYS = {"utility": "reinforce", "entropy": 0.0, "warm_start_games": 0, "eval_every": 0}
TRUTH = {"decompose": "outcome", "baseline": "cell", "balance": "none"}
ROWS: dict[str, dict[str, Any]] = {
    "RAE-REINFORCE": {"decompose": "outcome", "baseline": "role", "balance": "none"},
    "terminal only": {"decompose": "none", "baseline": "cell", "balance": "none"},
    "outcome": TRUTH,
    "outcome, balanced": {"decompose": "outcome", "baseline": "cell", "balance": "role_label"},
    "value, lambda 1": {"decompose": "value", "value_decay": 1.0, "baseline": "cell", "balance": "none"},
    "value": {"decompose": "value", "baseline": "cell", "balance": "none"},
    "value, balanced (MARO)": {"decompose": "value", "baseline": "cell", "balance": "role_label"},
    "rules": {"decompose": "rules", "baseline": "cell", "balance": "none"},
    "rules, balanced": {"decompose": "rules", "baseline": "cell", "balance": "role_label"},
    "rules, weight 2": {"decompose": "rules", "rules_weight": 2.0, "baseline": "cell", "balance": "none"},
    "fork_dr": {"decompose": "fork_dr", "baseline": "cell", "balance": "none"},
    "GRPO": {"decompose": "outcome", "baseline": "deal", "balance": "deal", "deal_group": 8},
    "winner cloning": {"decompose": "outcome", "baseline": "none", "balance": "none", "utility": "clone"},
    "shuffled outcomes": {"decompose": "outcome", "baseline": "cell", "balance": "none", "shuffle_outcomes": True},
}
KEPT = ("seed", "games", "model", "episodes", "lanes", "capacity", "overflow", "opponents")  # settings of the run


@dataclasses.dataclass(frozen=True)
class Agreement:
    """What a credit's gradients have in common with each other and with the truth; see the module's text."""

    signal: float
    direction: float
    cosine: float
    left_out: tuple[float, ...] = ()  # the cosine without each iteration in turn

    @property
    def error(self) -> float:
        """Standard error of the cosine."""
        return _jackknife(np.array(self.left_out))

    def more(self, first: Agreement) -> tuple[float, float]:
        """How much larger the cosine is than that of `first`, of as many iterations, and its standard error."""
        return self.cosine - first.cosine, _jackknife(np.array(self.left_out) - np.array(first.left_out))

    def games(self, first: Agreement) -> float:
        """How many times the games of `first` are needed for as little noise; NaN where one of them has no signal."""
        if min(self.signal, first.signal) <= 0:
            return math.nan
        return first.signal / (1 - first.signal) * (1 - self.signal) / self.signal


def agreement(gradients: np.ndarray, truth: np.ndarray) -> Agreement:
    """Compares gradients of iterations.

    Args:
      gradients: float[K, P] of a credit, an iteration a row, from different games.
      truth: float[M, P] of the expected outcome, from other games than those.

    Returns:
      What they have in common; without direction and cosine where the truth is lost in its noise.
    """
    count = len(gradients)
    everything = np.concatenate([gradients, truth]).astype(np.float64)
    products = everything @ everything.T
    own, along = products[:count, :count], products[:count, count:].mean(1)
    length = math.sqrt(max(_shared(products[count:, count:]), 0.0)) or math.nan

    def of(chosen: np.ndarray) -> Agreement:
        part = own[np.ix_(chosen, chosen)]
        shared, power = _shared(part), float(np.trace(part)) / len(chosen)
        projected = float(along[chosen].mean()) / length
        direction = projected / math.sqrt(shared) if shared > 0 else math.nan
        return Agreement(shared / power, direction, projected / math.sqrt(power))

    indices = np.arange(count)
    left_out = tuple(of(np.delete(indices, index)).cosine for index in indices)
    return dataclasses.replace(of(indices), left_out=left_out)


def _jackknife(left_out: np.ndarray) -> float:
    """Standard error of a statistic from its values without each of the samples in turn."""
    return math.sqrt((len(left_out) - 1) * float(left_out.var()))


def _shared(products: np.ndarray) -> float:
    """|E g|² from the products of independent gradients."""
    count = len(products)
    return float(products.sum() - np.trace(products)) / (count * (count - 1))


def play(
    session: Any, config: TrainConfig, weights: Any, opponent: Any, iterations: range, settling: int, name: str
) -> np.ndarray:
    """float32[iterations, P], the gradients of some iterations at the same weights, after `settling` others."""
    import jax
    import jax.numpy as jnp
    import optax
    from jax.flatten_util import ravel_pytree

    from maro_jax.league.played import Played
    from maro_jax.league.trainer import Trainer, TrainState

    found: list[np.ndarray] = []

    class Onlooker(Trainer):
        """Keeps the gradient in place of a step."""

        def _learn(self, state: TrainState, played: list[Played], iteration: int) -> Any:
            signs, weights, total = self._shares(played)
            whole = (np.arange(self.config.episodes),) * len(played)
            batches = self._packed(self.learner, played, signs, weights, whole)
            grads, sums = self.learner.gradients(state.learner.params, batches, total, None, self.no_point())
            found.append(np.asarray(ravel_pytree(grads)[0], np.float32))
            nothing = dict.fromkeys(("skipped", "spikes", "learning_rate"), jnp.float32(0))
            return state.learner, [sums | nothing | {"grad_norm": optax.tree.norm(grads)}]

    trainer, clock = Onlooker(session.arenas, config), time.perf_counter()
    state = trainer.start(jax.tree.map(jnp.copy, weights))
    state = dataclasses.replace(state, opponent=opponent)
    for number in range(iterations.start - settling, iterations.stop):
        state, report, _ = trainer.iterate(state, number)
        seconds, explained = time.perf_counter() - clock, report.get("value_explained", math.nan)
        place = f"iteration {number - iterations.start + 1} of {len(iterations)}"
        told = "" if math.isnan(explained) else f", value explains {explained:.1%}"
        print(f"{name}: {place}, {seconds:.0f} s{told}", flush=True)
    return np.stack(found[settling:])


def measure(
    run: Path, out: Path, which: str, names: list[str], rows: int, truth: int, settling: int
) -> dict[str, Agreement]:
    """Plays what is missing and compares it."""
    import jax

    from maro_jax.league.session import run_session, stored_params

    recorded = recorded_config(run) or {}
    preset = {"run_dir": str(run)} | {name: recorded[name] for name in KEPT}
    # The truth comes from games behind those of all rows.
    behind = rows + 2 * settling
    plans = {name: (ROWS[name], range(settling, settling + rows)) for name in names}
    plans["truth"] = TRUTH, range(behind, behind + truth)
    configs = {name: make_config(recorded["preset"], preset | ALWAYS | changes) for name, (changes, _) in plans.items()}
    session = run_session(configs["truth"], mesh_shape=configs["truth"].mesh_shape(jax.device_count()))
    opponent = stored_params(session, str(run), "opponent")[0]
    trained, step = stored_params(session, str(run), "learner.params")
    weights = opponent if which == "warm_start" else trained
    found = {}
    for name, (changes, iterations) in plans.items():
        made_of = [recorded, step, which, settling, ALWAYS | changes, iterations.start, iterations.stop]
        path = out / f"{hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]}.npy"
        if not path.exists():
            gradients = play(session, configs[name], weights, opponent, iterations, settling, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with (out / "part").open("wb") as file:
                np.save(file, gradients, allow_pickle=False)
            (out / "part").rename(path)
        found[name] = np.load(path, allow_pickle=False)
    return {name: agreement(found[name], found["truth"]) for name in names}


def main() -> None:
    """Plays what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished run, say that of launch/local.sh")
    parser.add_argument("--weights", choices=("warm_start", "trained"), default="warm_start")
    parser.add_argument("--rows", default=",".join(name.replace(",", ";") for name in ROWS),
                        help="credits to compare, the first of which is the measure of games; a comma within a name "
                        "is written as a semicolon")  # fmt: skip
    parser.add_argument("--iterations", type=int, default=24, help="gradients of each row, at least 3")
    parser.add_argument("--truth", type=int, default=48, help="gradients that the truth is the mean of, at least 2")
    parser.add_argument("--settling", type=int, default=8, help="iterations before the first gradient of a row")
    parser.add_argument("--out", type=Path, default=Path("runs/gradient_signal"))
    options = parser.parse_args()
    names = [name.replace(";", ",") for name in options.rows.split(",")]
    if unknown := set(names) - set(ROWS):
        parser.error(f"--rows names {'; '.join(sorted(unknown))}; there are {'; '.join(ROWS)}")
    if options.iterations < 3 or options.truth < 2 or options.settling < 0:
        parser.error("--iterations must be at least 3, --truth 2, --settling 0; for example --iterations=24 --truth=48")
    recorded = recorded_config(options.run) or {}
    if not (options.run / "summary.json").exists():
        parser.error(f"{options.run} is no finished run; launch/local.sh makes one, runs/werewolf-tiny")
    if recorded["lora_rank"] or recorded["opponents"] in MEETING_PAST_SELVES:
        parser.error(f"{options.run} trained an adapter or met past selves; take a run of --opponents=mix without LoRA")
    keep_freed_memory()
    arrange_cpu_devices(make_config("werewolf-tiny", {}).num_cpu_devices())
    sizes = options.iterations, options.truth, options.settling
    found = measure(options.run, options.out, options.weights, names, *sizes)
    write_json(options.out / f"{options.weights}.json", {name: dataclasses.asdict(row) for name, row in found.items()})
    first, lines = found[names[0]], []
    for name, row in found.items():
        more = [] if row is first else row.more(first)
        lines.append([
            name, f"{row.signal:.3f}", f"{row.direction:.2f}", f"{row.cosine:.3f} ± {1.96 * row.error:.3f}",
            f"{more[0]:+.3f} ± {1.96 * more[1]:.3f}" if more else "", f"{row.games(first):.2f}",
        ])  # fmt: skip
    print(table(["credit", "signal", "direction", "cosine", "more than the first", "games"], lines))


if __name__ == "__main__":
    main()
