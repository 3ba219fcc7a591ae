"""Plans in persuasion: the persuader's strategy in words, and what the persuadee makes of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games import persuasion as rules
from games.core import NO_ONE, SeatView
from games.persuasion import ASK, CREDIBILITY, DONATE, PERSONAL, PERSUADER, SOURCE, TELL
from games.plans.plan import Plans, first_of
from games.players.persuasion import Rows

TEXTS = (
    " find out what moves them",
    " find out where they stand",
    " speak to what they care for",
    " try what may move them",
    " win their trust",
    " go on with what they like",
    " insist on what they dislike",
    " ask at once",
    " ask now that they like it",
    " tell the truth",
    " hide what I think",
    " give what it is worth",
    " give more than it is worth",
    " keep my money",
)
(FIND_OUT, WHERE_THEY_STAND, SPEAK_TO_CARE, TRY_OUT, WIN_TRUST, GO_ON, INSIST, ASK_AT_ONCE, ASK_WILLING, TELL_TRUTH,
 HIDE, GIVE_WORTH, GIVE_MORE, KEEP) = range(len(TEXTS))  # fmt: skip
POSITIVE, NEGATIVE = 0, 2  # replies to an appeal


def plan_of(view: SeatView, action: jax.Array) -> jax.Array:
    """int32[]: the plan that an action serves, see `Plans.of`."""
    rows = Rows(view)
    return jnp.where(view.role == PERSUADER, _persuade(rows, action), _answer(view, rows, action))


def _persuade(rows: Rows, act: jax.Array) -> jax.Array:
    """What is known: the answers to each act, and what the persuadee said it cares for."""
    replied, made = rows.are("reply"), rows.are("act")
    told = _latest(rows, replied & (rows.act == PERSONAL)) - len(rules.CARES)  # below 0 as long as nothing is told
    speaks_to = jnp.asarray(rules.SPEAKS_TO)[jnp.minimum(act, len(rules.APPEALS) - 1)]
    answer = _latest(rows, replied & (rows.act == act))
    repeats = jnp.any(made & (rows.value == act))
    liked = jnp.any(replied & (rows.act < SOURCE) & (rows.value == POSITIVE))
    return first_of(
        ((act == ASK) & liked, ASK_WILLING),
        (act == ASK, ASK_AT_ONCE),
        (repeats & ((answer == NEGATIVE) | (act >= SOURCE)), INSIST),
        (repeats, GO_ON),
        (act == PERSONAL, FIND_OUT),
        (act >= SOURCE, WHERE_THEY_STAND),
        (act == CREDIBILITY, WIN_TRUST),
        ((told >= 0) & (told == speaks_to), SPEAK_TO_CARE),
        otherwise=TRY_OUT,
    )


def _answer(view: SeatView, rows: Rows, action: jax.Array) -> jax.Array:
    """An answer is true unless it is the opposite of how it is, or names something else than is cared for."""
    act, use, phase = rows.act[-1], rows.use[-1], view.phase
    interest, trust, budget, leaning = (rows.latest(name) for name in ("interest", "trust", "budget", "leaning"))
    weight = jnp.sum(jnp.where(rows.are("weight") & (rows.target == act), rows.value, 0))
    reaction = 2 - jnp.maximum(weight - use, 0)
    trusting = 2 - (trust >= rules.TRUSTING).astype(jnp.int32) - (trust >= rules.HALF_TRUSTING)
    interested = 2 - (interest >= rules.INTERESTED).astype(jnp.int32) - (interest >= rules.HALF_INTERESTED)
    truth = jnp.where(act < SOURCE, reaction, jnp.where(act == SOURCE, trusting, interested))
    said = action - rules.ACTS
    is_true = jnp.where(phase == TELL, said - len(rules.CARES) == leaning, jnp.abs(said - truth) < 2)
    worth = jnp.minimum(interest * trust // 4, budget)
    gives, agrees = action - rules.GIVE, said == rules.AGREE
    keeps = (phase != DONATE) & (said == rules.REFUSE)
    return first_of(
        (keeps | ((phase == DONATE) & (gives < worth)), KEEP),
        ((phase == DONATE) & (gives > worth), GIVE_MORE),
        (agrees | (phase == DONATE), GIVE_WORTH),
        (is_true, TELL_TRUTH),
        otherwise=HIDE,
    )


def _latest(rows: Rows, where: jax.Array) -> jax.Array:
    """int32[]: the value of the latest row among `where` bool[M]; -1 without one."""
    last = jnp.max(jnp.where(where, jnp.arange(where.size), NO_ONE))
    return jnp.where(last >= 0, rows.value[last], NO_ONE)


PLANS = Plans(TEXTS, plan_of)
