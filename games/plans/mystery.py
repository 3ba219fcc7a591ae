"""Plans in the murder mystery: what to find out and from whom, what to tell, and how the culprit stays unseen."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import SeatView
from games.mystery_spec import ABOUT, ANSWER, CULPRIT, KIND, NOTHING, OPINION, ROOMS, SHOW, layout
from games.plans.plan import Plans, first_of
from games.players.mystery import Evidence

TEXTS = (
    " question whom I suspect",
    " hear what others know",
    " look for clues",
    " tell the truth",
    " tell a lie",
    " stand by my alibi",
    " hide what I know",
    " share what I found",
    " go after whom I suspect",
    " go after somebody at random",
    " speak up for whom I trust",
    " wait and listen",
    " hide what I am",
    " turn them against an innocent",
)
(QUESTION_SUSPECT, HEAR, LOOK, TRUTH, LIE, ALIBI, KEEP, SHARE, GO_AFTER, AT_RANDOM, SPEAK_UP, LISTEN, HIDE,
 TURN_AGAINST) = range(len(TEXTS))  # fmt: skip
ALIKE = 0.01  # suspicion may differ by so much from that of somebody of whom nothing is known


def plan_of(view: SeatView, action: jax.Array) -> jax.Array:
    """int32[]: the plan that an action serves, see `Plans.of`."""
    n = view.spec.num_seats
    first, evidence = layout(n), Evidence(view, n)
    stop = dict(zip(first, [*first.values(), view.spec.num_actions][1:], strict=True))

    def among(block: str) -> jax.Array:
        """bool[]: the action is one of a block."""
        return (action >= first[block]) & (action < stop[block])

    def named(block: str) -> jax.Array:
        """int32[]: the seat that an action of a block names."""
        return jnp.clip(action - first[block], 0, n - 1)

    # Whom it asks: apart from itself the only seat that it cannot ask about.
    asked = jnp.argmax(~view.legal[first["question"] + ABOUT : first["answer"]] & ~evidence.me)
    asked = jnp.where(among("ask"), named("ask"), asked)
    asks_of_self = among("ask") | (among("question") & (action < first["question"] + ABOUT))
    suspects = evidence.suspicion > 1 / (n - 1) + ALIKE
    against = among("suspect") | among("vote")
    accused = jnp.where(among("suspect"), named("suspect"), named("vote"))
    guilty = view.role == CULPRIT
    tells = first_of(
        (action - first["answer"] == NOTHING, KEEP),
        (_is_true(view, evidence, action - first["answer"]), TRUTH),
        (guilty & _is_alibi(evidence, action - first["answer"]), ALIBI),
        otherwise=LIE,
    )
    return first_of(
        (view.phase == ANSWER, tells),
        ((view.phase == SHOW) & among("keep"), KEEP),
        (guilty & against, TURN_AGAINST),
        (guilty, HIDE),
        (view.phase == SHOW, SHARE),
        (asks_of_self & suspects[asked], QUESTION_SUSPECT),
        (among("ask") | among("question"), HEAR),
        (among("search"), LOOK),
        (against & suspects[accused], GO_AFTER),
        (against, AT_RANDOM),
        ((view.phase == OPINION) & among("trust"), SPEAK_UP),
        otherwise=LISTEN,
    )


def _is_true(view: SeatView, evidence: Evidence, fact: jax.Array) -> jax.Array:
    """bool[]: the fact int32[] is told of whom the question was about, or was seen or found by all."""
    kind, _, target, value = (column.astype(jnp.int32) for column in view.rows.T)
    about = evidence.subject[jnp.maximum(target, 0)] > 0

    def told(*names: str) -> jax.Array:
        """bool[M]: rows of these kinds about the subject."""
        return jnp.isin(kind, jnp.array([KIND[name] for name in names])) & about

    room = jnp.max(jnp.where(kind == KIND["was"], value, -1))
    of_others = jnp.any(told("object_of", "drive_of", "trace") & (value == fact)) | (
        jnp.any(told("saw")) & (fact == room)
    )
    of_itself = evidence.own[jnp.clip(fact, 0, len(evidence.own) - 1)] > 0
    return jnp.where(evidence.question < ABOUT, of_itself, of_others)


def _is_alibi(evidence: Evidence, fact: jax.Array) -> jax.Array:
    """bool[]: of itself the culprit says that it was in the empty room."""
    return (evidence.question < ABOUT) & (fact < len(ROOMS)) & (evidence.empty[jnp.clip(fact, 0, len(ROOMS) - 1)] > 0)


PLANS = Plans(TEXTS, plan_of)
