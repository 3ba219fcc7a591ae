"""Plans in Werewolf: what the village finds out and protects, and how the wolves stay unseen."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import SeatView
from games.plans.plan import Plans, first_of
from games.players.werewolf import Evidence
from games.werewolf_spec import (
    DOCTOR_PHASE,
    GUARD_PHASE,
    HUNTER_PHASE,
    SEER_PHASE,
    SPEAK,
    VOTE,
    WITCH_PHASE,
    WOLF,
    WOLF_PHASE,
    layout,
)

TEXTS = (
    " kill who endangers us",
    " kill somebody at random",
    " hide what I am",
    " turn them against an innocent",
    " give up a fellow",
    " cover a fellow",
    " protect whom we need",
    " protect somebody at random",
    " find out who is evil",
    " go after whom I suspect",
    " go after somebody at random",
    " speak up for whom I trust",
    " show what I am",
    " wait and listen",
)
(KILL_DANGER, KILL_ANY, HIDE, TURN_AGAINST, GIVE_UP, COVER, PROTECT_NEEDED, PROTECT_ANY, FIND_OUT, GO_AFTER, AT_RANDOM,
 SPEAK_UP, SHOW, LISTEN) = range(len(TEXTS))  # fmt: skip


def plan_of(view: SeatView, action: jax.Array) -> jax.Array:
    """int32[]: the plan that an action serves, see `Plans.of`."""
    n, num_roles = layout(view.spec.num_actions)
    evidence = Evidence(view, n, num_roles)
    after_claims = 3 * n + num_roles
    reports = 4 + (action - after_claims) // n
    block = jnp.where(action < 3 * n, action // n, jnp.where(action < after_claims, 3, reports))
    named = jnp.where(action < 3 * n, action, action - after_claims) % n
    picks = (block == 0) & (view.phase != SPEAK)
    against = (block == 1) | (block == 4) | (picks & jnp.isin(view.phase, jnp.array([VOTE, WITCH_PHASE, HUNTER_PHASE])))
    in_favour = (block == 2) | (block == 5)
    saves = action == after_claims + 2 * n + 1
    claims = block == 3
    owns_up = claims & (action == 3 * n + view.role)
    return jnp.where(
        view.role == WOLF,
        _wolf(view, evidence, named, picks, against, in_favour),
        _village(view, evidence, named, picks, against, in_favour, saves, claims, owns_up),
    )


def _wolf(
    view: SeatView, evidence: Evidence, named: jax.Array, picks: jax.Array, against: jax.Array, in_favour: jax.Array
) -> jax.Array:
    """Whoever claims to know, or has accused this wolf, endangers it."""
    accuser = (evidence.accused + evidence.reported_wolf) @ evidence.me > 0
    danger, kills = accuser | (evidence.worth > 0), (view.phase == WOLF_PHASE) & picks
    fellow = evidence.fellow[named]
    return first_of(
        (kills & danger[named], KILL_DANGER),
        (kills, KILL_ANY),
        (against & fellow, GIVE_UP),
        (against, TURN_AGAINST),
        (in_favour & fellow, COVER),
        otherwise=HIDE,
    )


def _village(
    view: SeatView, evidence: Evidence, named: jax.Array, picks: jax.Array, against: jax.Array, in_favour: jax.Array,
    saves: jax.Array, claims: jax.Array, owns_up: jax.Array,
) -> jax.Array:  # fmt: skip
    """The village needs whoever claims to know something, and whom the wolves have chosen."""
    protects = picks & ((view.phase == DOCTOR_PHASE) | (view.phase == GUARD_PHASE))
    return first_of(
        (saves | (protects & (evidence.worth[named] > 0)), PROTECT_NEEDED),
        (protects, PROTECT_ANY),
        (picks & (view.phase == SEER_PHASE), FIND_OUT),
        (against & (evidence.suspicion()[named] > 0), GO_AFTER),
        (against, AT_RANDOM),
        (in_favour, SPEAK_UP),
        (owns_up, SHOW),
        (claims, HIDE),
        otherwise=LISTEN,
    )


PLANS = Plans(TEXTS, plan_of)
