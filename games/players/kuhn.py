"""A scripted Kuhn poker player that no opponent can beat.

It plays one of the equilibria of H. W. Kuhn, A simplified two-person poker, Contributions to the Theory of Games I,
1950. The first player's equilibria form a line: bet a jack with probability a, a king with 3a, call with a queen with
a + 1/3, for a between 0 and 1/3. This one has a = 1/3, where a king always bets. The second player has only one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from games.core import SeatView
from games.kuhn import ANSWER, BET, KIND, PASS

# Probability of a bet by [role, whether it answers a bet, card].
BET_PROBABILITY = np.array(
    [
        [[1 / 3, 0.0, 1.0], [0.0, 2 / 3, 1.0]],
        [[1 / 3, 0.0, 1.0], [0.0, 1 / 3, 1.0]],
    ],
    np.float32,
)


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: pass or bet as the equilibrium demands with the card that `view` shows."""
    dealt = (view.rows[:, 0] == KIND["card"]) & (view.rows[:, 1] == view.seat)
    card = jnp.max(jnp.where(dealt, view.rows[:, 3], 0))
    answers = (view.phase == ANSWER).astype(jnp.int32)
    bets = jax.random.uniform(key) < jnp.asarray(BET_PROBABILITY)[view.role, answers, card]
    return jnp.where(bets, BET, PASS).astype(jnp.int32)
