"""A scripted player of liar's dice: it reckons with its own dice and takes the other's for unknown."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import SeatView
from games.liars_dice import KIND

NOISE = 0.01  # scale of the Gumbel noise that decides between equally probable bids


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: calls if the last bid is more probably a lie than any raise is true, else the most probable raise."""
    num_bids = view.legal.shape[0] - 1
    true = probabilities(view, num_bids)
    kind, value = view.rows[:, 0], view.rows[:, 3]
    made = (kind == KIND["bid"])[:, None] & (value[:, None] == jnp.arange(num_bids))
    # Bids are logged in order and each is a new one, so the last of them stands in the latest row.
    latest = jnp.argmax(jnp.where(jnp.any(made, axis=0), jnp.argmax(made, axis=0), -1))
    scores = jnp.concatenate([true, 1.0 - true[latest][None]])
    scores = scores + NOISE * jax.random.gumbel(key, scores.shape)
    return jnp.argmax(jnp.where(view.legal, scores, -jnp.inf)).astype(jnp.int32)


def probabilities(view: SeatView, num_bids: int) -> jax.Array:
    """f32[bids]: how probable each bid is with the seat's own dice; their row also tells how many dice there are."""
    told = (view.rows[:, 0] == KIND["dice"]) & (view.rows[:, 1] == view.seat)
    dice = jnp.max(jnp.where(told[:, None], view.rows[:, 2:], -1), axis=0)  # the lower one is -1 if there is only one
    num_dice = jnp.sum(dice >= 0)
    sides = num_bids // (2 * num_dice)
    quantity, face = jnp.arange(num_bids) // sides + 1, jnp.arange(num_bids) % sides
    mine = jnp.sum((dice[:, None] == face) | (dice[:, None] == sides - 1), axis=0)
    lacking = quantity - mine
    match = jnp.where(face == sides - 1, 1, 2) / sides  # of one unknown die: its face or the wild one
    one = 1.0 - (1.0 - match) ** num_dice
    both = jnp.where(num_dice == 2, match**2, 0.0)
    return jnp.where(lacking <= 0, 1.0, jnp.where(lacking == 1, one, jnp.where(lacking == 2, both, 0.0)))
