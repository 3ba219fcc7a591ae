"""What an iteration played, and the figures that are told of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.credit.decomposition import Forked
from maro_jax.credit.objective import BehaviourCredit
from maro_jax.credit.objective import metrics as credit_metrics
from maro_jax.league.arena import Arena
from maro_jax.league.forking import fork_metrics
from maro_jax.league.match import measured
from maro_jax.learner.value import Judged
from maro_jax.selfplay.episodes import LEARNER, Episodes, RolloutPlan


@dataclasses.dataclass(frozen=True)
class Played:
    """What an iteration played of one game.

    Attributes:
      arena: where.
      plan: who held which side; of recorded games that are cloned the episodes tell, and not the plan.
      episodes: on the host.
      credit: what each behaviour was given; None in the warm start.
      cloned: float32[E, B], 1 for behaviours that the warm start clones; None in self-play.
      judged: what was expected before each behaviour; None without a value function.
      rules: what the game's rules say of each behaviour, and of which they say something; None if they are not asked.
      forked: what other replies would have brought; None if none were tried.
    """

    arena: Arena
    plan: RolloutPlan
    episodes: Episodes
    credit: BehaviourCredit | None
    cloned: np.ndarray | None = None
    judged: Judged | None = None
    rules: tuple[jax.Array, jax.Array] | None = None
    forked: Forked | None = None


def outcome_metrics(played: Played) -> dict[str, float]:
    """Win rate of each side and how it was played in mirror games, and how games went."""
    spec, episodes = played.arena.table.spec, played.episodes
    mirror = (np.asarray(played.plan.holders) == LEARNER).all(1) & episodes.finished
    side = np.asarray(spec.side_of_role)[episodes.roles]
    report = {
        f"mirror_win_rate/{name}": mean((episodes.outcome[mirror] + 1)[side[mirror] == index] / 2)
        for index, name in enumerate(spec.sides)
    }
    for name, (hits, chances) in measured(played.arena, episodes).items():
        if chances[mirror].any():
            report[f"play/{name}"] = float(hits[mirror].sum() / chances[mirror].sum())
    decisions = (episodes.behaviours.seat >= 0).sum(1)
    return report | {
        "truncated": float(episodes.truncated.mean()),
        "overflowed": float(episodes.overflowed.mean()),
        "decisions_per_game": float(decisions.mean()),
    }


def balance_metrics(played: Played) -> dict[str, float]:
    """How credit was spread over the roles."""
    roles = played.arena.table.spec.roles
    assert played.credit is not None
    values = credit_metrics(played.credit, jnp.asarray(played.episodes.behaviours.role), len(roles))
    report = {
        f"{name}/{role.name}": float(value[index]) for name, value in values.items() for index, role in enumerate(roles)
    }
    if played.judged:
        report["value_explained"] = played.judged.explained
    if played.forked:
        report |= fork_metrics(played.forked)
    if played.rules:
        score, spoken_of = (np.asarray(each)[np.asarray(played.credit.eligible)] for each in played.rules)
        report |= {"rules_share": mean(spoken_of), "rules_score": mean(score[spoken_of])}
    return report


def choice_metrics(played: Played, sums: list[dict[str, Any]], first_phase: int) -> dict[str, float]:
    """Of each phase with a choice: how open its actions were, and how much they followed what was seen; both in nats.

    `action_entropy/PHASE` is H(A|O), the entropy of a behaviour's action given what its seat had seen, under the
    weights that learn. `mutual_information/PHASE` is I(A;O) = H(A) − H(A|O), with H(A) that of the actions played
    whoever saw what (Miller and Madow's estimate): near 0 the policy has stopped looking.

    Args:
      played: of one game, in self-play.
      sums: of the optimizer steps.
      first_phase: where the game's phases begin among those of all games.
    """
    assert played.credit is not None
    made, learnt = played.episodes.behaviours, np.asarray(played.credit.eligible)
    report = {}
    for index, phase in enumerate(played.arena.table.spec.phases):
        names, at = ("action_entropy", "phase_behaviours"), first_phase + index
        entropy, count = (sum(float(step[name][at]) for step in sums) for name in names)
        here = learnt & (made.phase == index)
        if count and (made.legal[here].sum(-1) > 1).any():
            report[f"action_entropy/{phase.name}"] = given = entropy / count
            report[f"mutual_information/{phase.name}"] = entropy_of(made.action[here]) - given
    return report


def entropy_of(values: np.ndarray) -> float:
    """Entropy in nats of what int[n], n > 0, were drawn from; Miller and Madow's estimate, plug-in + (kinds − 1)/2n."""
    count = np.unique(values, return_counts=True)[1]
    share = count / count.sum()
    return float(-(share * np.log(share)).sum() + (len(count) - 1) / (2 * count.sum()))


def mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def step_metrics(sums: list[dict[str, Any]]) -> dict[str, float]:
    """Means over an iteration's optimizer steps, what was skipped, and the most that were not finite in a row."""
    steps = [{name: np.asarray(value, np.float64) for name, value in step.items()} for step in sums]
    total = {name: sum(step[name].sum() for step in steps) for name in steps[0]}
    behaviours, tokens = max(total["behaviours"], 1.0), max(total["tokens"], 1.0)
    return {
        "loss": total["loss"] / len(steps),
        "entropy": total["entropy"] / tokens,
        "magnet_kl": total["magnet_kl"] / tokens,
        "negative_log_prob": -total["log_prob"] / behaviours,
        "kl": total["kl"] / behaviours,
        "log_ratio_rms": float(np.sqrt(total["log_ratio_squared"] / behaviours)),
        "gradient_scale": total["gradient_scale"] / behaviours,
        "saturated": total["saturated"] / behaviours,
        "clipped": total["clipped"] / behaviours,
        "reply_tokens": total["tokens"] / behaviours,
        "grad_norm": total["grad_norm"] / len(steps),
        "skipped": total["skipped"],
        "spikes": total["spikes"],
        "bad_steps": max(step["bad_steps"].item() for step in steps),
        "learning_rate": steps[-1]["learning_rate"].item(),
        "learnt_behaviours": total["behaviours"],
    }
