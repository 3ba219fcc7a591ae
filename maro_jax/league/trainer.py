"""The trainer: iterations of play and learning, as functions of a state that a checkpoint holds whole."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from maro_jax.credit import balance
from maro_jax.credit.objective import BehaviourCredit, CreditOptions, credit
from maro_jax.credit.objective import metrics as credit_metrics
from maro_jax.league.arena import Arena, Tally
from maro_jax.league.plans import training_plan, warm_start_plan
from maro_jax.learner.packing import pack, packing_shapes
from maro_jax.learner.update import Learner, LearnerState
from maro_jax.run.config import TrainConfig
from maro_jax.selfplay.episodes import LEARNER, Episodes

# Purposes that keep the randomness of a run's parts apart.
PLAY, CLONE, SHUFFLE, MATCH = range(4)

CONTEXT_WEIGHT = 1.0  # of language modelling in the warm start, per reply token
MICRO_BATCH_TOKENS = {"self-play": 8192, "warm start": 2048}  # about


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a run carries from one iteration to the next.

    Attributes:
      learner: parameters, optimizer state and counters.
      opponent: parameters of the frozen opponent: the warm start.
      statistics: running statistics of the balance.
    """

    learner: LearnerState
    opponent: Any
    statistics: balance.BalanceStatistics


class Trainer:
    """Warm start by cloning, then self-play iterations."""

    def __init__(self, arena: Arena, config: TrainConfig):
        """Prepares both learners; nothing is compiled yet.

        Args:
          arena: where to play.
          config: a validated configuration.
        """
        self.arena, self.config = arena, config
        self.table, mesh = arena.table, arena.mesh
        shards = mesh.shape["data"] * mesh.shape["fsdp"]
        capacity = arena.sizes.capacity

        def learner(
            kind: str, credit: CreditOptions, rate: float, final: float, steps: int, **weights: float
        ) -> Learner:
            shapes = packing_shapes(self.table, capacity, MICRO_BATCH_TOKENS[kind], shards)
            schedule = optax.linear_schedule(rate, rate * final, max(1, steps))
            return Learner(
                self.table, shapes, mesh, credit, schedule,
                optimizer=config.optimizer, max_grad_norm=config.max_grad_norm, **weights,
            )  # fmt: skip

        self.warm_iterations = config.warm_iterations
        clone_steps = self.warm_iterations * -(-config.episodes // config.warm_start_batch)
        cloning = CreditOptions(utility="reinforce", baseline="none", balance="none")
        self.cloner = learner(
            "warm start", cloning, config.warm_start_learning_rate, 0.1, clone_steps,
            entropy_weight=0.0, context_weight=CONTEXT_WEIGHT,
        )  # fmt: skip
        steps = config.iterations * config.epochs * config.minibatches
        self.learner = learner(
            "self-play", credit_options(config), config.learning_rate, config.learning_rate_final, steps,
            entropy_weight=config.entropy,
        )  # fmt: skip
        self.total_iterations = self.warm_iterations + config.iterations
        self._credit = jax.jit(
            functools.partial(credit, self.learner.options, side_of_role=self.table.spec.side_of_role)
        )

    def start(self, params: Any) -> TrainState:
        """The state before the first iteration."""
        spec = self.table.spec
        state = self.cloner.init(params)
        return TrainState(
            learner=state,
            opponent=jax.tree.map(jnp.copy, state.params),
            statistics=jax.device_put(balance.init(len(spec.roles), len(spec.phases)), self.learner.replicated),
        )

    def iterate(
        self, state: TrainState, iteration: int
    ) -> tuple[TrainState, dict[str, float], Episodes, BehaviourCredit | None]:
        """Plays and learns from iteration number `iteration` (warm start first).

        Returns:
          The next state, metrics, the episodes, and the credit given (None in the warm start).
        """
        if iteration < self.warm_iterations:
            return self._clone(state, iteration)
        return self._self_play(state, iteration - self.warm_iterations)

    # ------------------------------------------------------------------ warm start

    def _clone(self, state: TrainState, iteration: int) -> tuple[TrainState, dict[str, float], Episodes, None]:
        """Clones scripted games; the last iteration makes the result the frozen opponent and resets the optimizer."""
        config = self.config
        plan = warm_start_plan(iteration * config.episodes, config.episodes, len(self.table.spec.sides))
        tally, clock = Tally(), time.perf_counter()
        episodes = self.arena.play([], plan, CLONE, scripted=True, tally=tally)
        made = (episodes.behaviours.seat >= 0) & ~episodes.overflowed[:, None]
        weight = made.astype(np.float32)
        learner, sums = state.learner, []
        for chosen in _batches(len(made), config.warm_start_batch, (config.seed, CLONE, iteration)):
            batches = pack(self.table, self.cloner.shapes, episodes, weight, weight, chosen)
            learner, step = self.cloner.step(learner, batches, max(1.0, weight[chosen].sum()), None, self._no_point())
            sums.append(step)
        opponent = state.opponent
        if iteration + 1 == self.warm_iterations:
            opponent = jax.tree.map(jnp.copy, learner.params)
            learner = self.learner.init(learner.params)
        report = _report(sums) | tally.rates() | self._times(tally, clock)
        return dataclasses.replace(state, learner=learner, opponent=opponent), report, episodes, None

    # ------------------------------------------------------------------ self-play

    def _self_play(
        self, state: TrainState, iteration: int
    ) -> tuple[TrainState, dict[str, float], Episodes, BehaviourCredit]:
        config, spec = self.config, self.table.spec
        plan = training_plan(config.opponents, iteration * config.episodes, config.episodes, len(spec.sides))
        tally, clock = Tally(), time.perf_counter()
        params = [state.learner.params, state.opponent]
        scripted = config.opponents in ("mix", "scripted")
        episodes = self.arena.play(params, plan, PLAY, scripted=scripted, tally=tally)
        outcome = self._shuffled(episodes, iteration) if config.shuffle_outcomes else episodes.outcome
        made = episodes.behaviours
        eligible = (made.holder == LEARNER) & episodes.finished[:, None] & (made.seat >= 0)
        given, statistics = self._credit(
            state.statistics, seat=made.seat, role=made.role, phase=made.phase, eligible=eligible, outcome=outcome
        )
        learner, sums = self._learn(state.learner, episodes, given, iteration)
        report = _report(sums) | tally.rates() | self._times(tally, clock)
        report |= self._outcomes(episodes, plan) | self._balance(given, made)
        return TrainState(learner, state.opponent, statistics), report, episodes, given

    def _learn(
        self, learner: LearnerState, episodes: Episodes, given: BehaviourCredit, iteration: int
    ) -> tuple[LearnerState, list[dict]]:
        """Some optimizer steps on the iteration's episodes; KTO's reference is the weights they begin with."""
        config, sums = self.config, []
        sign, weight = np.asarray(given.signs), np.asarray(given.weights)
        normaliser = float(given.normaliser) / config.minibatches
        reference = jax.tree.map(jnp.copy, learner.params) if self.learner.uses_reference else None
        point = self._no_point()
        for epoch in range(config.epochs):
            size = config.episodes // config.minibatches
            for chosen in _batches(config.episodes, size, (config.seed, PLAY, iteration, epoch)):
                batches = pack(self.table, self.learner.shapes, episodes, sign, weight, chosen)
                learner, step = self.learner.step(learner, batches, normaliser, reference, point)
                # The exact KL of the step just measured is the next step's reference point; at first it is 0.
                point = step["kl"] / jnp.maximum(step["phase_behaviours"], 1.0)
                sums.append(step)
        return learner, sums

    def _no_point(self) -> jax.Array:
        return jax.device_put(jnp.zeros((len(self.table.spec.phases),), jnp.float32), self.learner.replicated)

    def _shuffled(self, episodes: Episodes, iteration: int) -> np.ndarray:
        """Each finished episode gets the result of another one: sides keep their win rates, nothing else remains."""
        generator = np.random.default_rng((self.config.seed, SHUFFLE, iteration))
        finished = np.flatnonzero(episodes.finished)
        side = np.asarray(self.table.spec.side_of_role)[episodes.roles]
        of_side = np.stack(
            [np.where(side == s, episodes.outcome, 0).sum(1) / np.maximum((side == s).sum(1), 1)
             for s in range(len(self.table.spec.sides))], axis=1,
        )  # fmt: skip
        of_side[finished] = of_side[generator.permutation(finished)]
        return np.take_along_axis(of_side, side, axis=1).astype(np.float32)

    # ------------------------------------------------------------------ reports

    def _outcomes(self, episodes: Episodes, plan: Any) -> dict[str, float]:
        """Win rate of each side in mirror games, and how games went."""
        spec = self.table.spec
        mirror = (np.asarray(plan.holders) == LEARNER).all(1) & episodes.finished
        side = np.asarray(spec.side_of_role)[episodes.roles]
        report = {
            f"mirror_win_rate/{name}": _mean((episodes.outcome[mirror] + 1)[side[mirror] == index] / 2)
            for index, name in enumerate(spec.sides)
        }
        decisions = (episodes.behaviours.seat >= 0).sum(1)
        return report | {
            "truncated": float(episodes.truncated.mean()),
            "overflowed": float(episodes.overflowed.mean()),
            "decisions_per_game": float(decisions.mean()),
        }

    def _balance(self, given: BehaviourCredit, made: Any) -> dict[str, float]:
        roles = self.table.spec.roles
        values = credit_metrics(given, jnp.asarray(made.role), len(roles))
        return {
            f"{name}/{role.name}": float(value[index])
            for name, value in values.items()
            for index, role in enumerate(roles)
        }

    @staticmethod
    def _times(tally: Tally, clock: float) -> dict[str, float]:
        total = time.perf_counter() - clock
        return {"seconds": total, "rollout_seconds": tally.seconds, "learner_seconds": total - tally.seconds}


def credit_options(config: TrainConfig) -> CreditOptions:
    """Credit's switches as the configuration sets them."""
    return CreditOptions(
        decompose=config.decompose,
        discount=config.discount,
        baseline=config.baseline,
        balance=config.balance,
        utility=config.utility,
        beta=config.beta,
        reference_point=config.reference_point,
    )


def _batches(count: int, size: int, seed: tuple[int, ...]) -> list[np.ndarray]:
    """Random batches that together hold every index once."""
    order = np.random.default_rng(seed).permutation(count)
    return [np.sort(order[first : first + size]) for first in range(0, count, size)]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _report(sums: list[dict[str, Any]]) -> dict[str, float]:
    """Means over an iteration's optimizer steps."""
    steps = [{name: np.asarray(value, np.float64) for name, value in step.items()} for step in sums]
    total = {name: sum(step[name].sum() for step in steps) for name in steps[0]}
    behaviours, tokens = max(total["behaviours"], 1.0), max(total["tokens"], 1.0)
    return {
        "loss": total["loss"] / len(steps),
        "entropy": total["entropy"] / tokens,
        "negative_log_prob": -total["log_prob"] / behaviours,
        "kl": total["kl"] / behaviours,
        "log_ratio_rms": float(np.sqrt(total["log_ratio_squared"] / behaviours)),
        "gradient_scale": total["gradient_scale"] / behaviours,
        "grad_norm": total["grad_norm"] / len(steps),
        "skipped": total["skipped"],
        "learning_rate": steps[-1]["learning_rate"].item(),
        "learnt_behaviours": total["behaviours"],
    }
