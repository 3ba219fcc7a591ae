"""Scripted player of social deduction: it reads only its own view of the log.

The heuristic player sums up what signals and words say of every seat. An innocent accuses and votes for whom it
suspects most; an impostor goes along with that, except against its fellows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import SeatView
from games.social_deduction import IMPOSTOR, KIND, SPEAK

NOISE = 0.3  # scale of the Gumbel noise that keeps equal choices apart
SIGNAL, WORD, BANDWAGON = 2.0, 0.3, 0.5  # what a signal, a message and a vote of this round add to suspicion


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the action of a sensible player with what `view` shows."""
    num_seats = (view.legal.shape[0] - 2) // 3
    suspicion, votes, me, fellow = evidence_of(view, num_seats)
    suspected = jnp.sum(jnp.where(me, suspicion, 0.0))
    target = jnp.where(fellow, -10.0, suspicion)
    never = jnp.where(me, -100.0, 0.0)
    messages = jnp.stack([jnp.float32(0.0), 0.5 + jnp.maximum(suspected, 0.0)])  # pass, claim
    speech = jnp.concatenate([jnp.zeros(num_seats), messages, target + never, -1.0 - suspicion + never])
    vote = jnp.concatenate([target + BANDWAGON * votes, jnp.zeros(2 * num_seats + 2)])
    scores = jnp.where(view.phase == SPEAK, speech, vote) + NOISE * jax.random.gumbel(key, view.legal.shape)
    return jnp.argmax(jnp.where(view.legal, scores, -jnp.inf)).astype(jnp.int32)


def evidence_of(view: SeatView, num_seats: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """By seat: f32[N] suspicion, f32[N] this round's votes against it, bool[N] myself, bool[N] my fellows."""
    kind, actor, target, value = (view.rows[:, column] for column in range(4))
    seats, place = jnp.arange(num_seats), jnp.arange(kind.shape[0])
    by, about = actor[:, None] == seats, target[:, None] == seats

    def count(rows: jax.Array) -> jax.Array:
        return jnp.sum(rows[:, None] & about, axis=0).astype(jnp.float32)

    signal = kind == KIND["signal"]
    looks = SIGNAL * (count(signal & (value == 1)) - count(signal & (value == 0)))
    # Whoever looks suspicious is not listened to.
    heard = jnp.any(by & (looks <= 0), axis=1) & (actor != view.seat) & (actor != target)
    words = WORD * (count(heard & (kind == KIND["accuse"])) - count(heard & (kind == KIND["defend"])))
    this_round = place > jnp.max(jnp.where(kind == KIND["round"], place, -1))
    votes = count((kind == KIND["vote"]) & this_round)
    fellow = (count(kind == KIND["fellow"]) > 0) & (view.role == IMPOSTOR)
    return looks + words, votes, seats == view.seat, fellow
