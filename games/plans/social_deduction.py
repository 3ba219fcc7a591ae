"""Plans in social deduction: whom signals and words point at, and how an impostor stays unseen."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import SeatView
from games.plans.plan import Plans, first_of
from games.players.social_deduction import evidence_of
from games.social_deduction import IMPOSTOR, SPEAK, VOTE

TEXTS = (
    " go after whom I suspect",
    " go with the others",
    " go after somebody at random",
    " speak up for whom I trust",
    " show that I am innocent",
    " wait and listen",
    " hide what I am",
    " turn them against an innocent",
    " give up a fellow",
    " cover a fellow",
)
(GO_AFTER, GO_WITH, AT_RANDOM, SPEAK_UP, SHOW_INNOCENT, LISTEN, HIDE, TURN_AGAINST, GIVE_UP, COVER) = range(len(TEXTS))


def plan_of(view: SeatView, action: jax.Array) -> jax.Array:
    """int32[]: the plan that an action serves, see `Plans.of`."""
    n = view.spec.num_seats
    suspicion, votes, _, fellow = evidence_of(view, n)
    votes_for, speaks = view.phase == VOTE, view.phase == SPEAK
    accuses = speaks & (action >= n + 2) & (action < 2 * n + 2)
    defends = speaks & (action >= 2 * n + 2)
    named = jnp.where(votes_for, action, (action - 2) % n)
    against, of_us = votes_for | accuses, fellow[named]
    innocent = first_of(
        (against & (suspicion[named] > 0), GO_AFTER),
        (votes_for & (votes[named] > 0), GO_WITH),
        (against, AT_RANDOM),
        (defends, SPEAK_UP),
        (action == n + 1, SHOW_INNOCENT),
        otherwise=LISTEN,
    )
    impostor = first_of(
        (against & of_us, GIVE_UP),
        (defends & of_us, COVER),
        (votes_for & (votes[named] > 0), GO_WITH),
        (against, TURN_AGAINST),
        otherwise=HIDE,
    )
    return jnp.where(view.role == IMPOSTOR, impostor, innocent)


PLANS = Plans(TEXTS, plan_of)
