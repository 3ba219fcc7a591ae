"""Part 1, decomposition: the outcome of a seat becomes a return for each of its behaviours.

Seat i with outcome R in [-1, 1] has behaviours k = 1..n in an episode. A decomposition says
what return G_k each of them gets, and which of them carry a return at all:

============  ==================================  =======================================
name          G_k                                 carried by
============  ==================================  =======================================
`none`        R                                   the last behaviour (k = n) alone
`outcome`     R                                   every behaviour
`discounted`  discount^(n − k) · R                every behaviour
`value`       Σ_{l ≥ k} λ^(l − k) δ_l             every behaviour that is judged
`pnlc`        the same, with another Φ            every behaviour that is judged
`rules`       R + μ (s_k − s̄_c)                   every behaviour; R where no rule speaks
`fork`        U_k                                 every behaviour that was forked
`fork_dr`     A_k + (1[forked]/q) (U_k − A_k)     every behaviour that is judged
============  ==================================  =======================================

`value` is told by Φ(x_k), an estimate of R from what the seat knew before its behaviour k, how
the prospects moved: δ_k = Φ(x_{k+1}) − Φ(x_k), and δ_n = R − Φ(x_n). All δ of a seat sum up to
R − Φ(x_1). λ = 1 gives R − Φ(x_k), unbiased whatever Φ is; λ = 0 the change over the one
behaviour, unbiased only if Φ is the policy's value (generalized advantage estimation,
arXiv:1506.02438, with behaviours as steps and no discount). Φ reads the policy's hidden states
(`maro_jax.learner.value`); for `pnlc` it reads a critic's chances (`maro_jax.pnlc.expectation`).

`rules` adds what the game's rules of thumb say of a behaviour in hindsight, its score s_k
(`games.credit_rules`), less s̄_c, the batch's mean score of the behaviours that the rules speak of
in the same cell c of role and phase. So scores have mean 0 in each cell, and move neither a
baseline nor the return of any other behaviour. What is climbed is E[R] + μ E[Σ s], each score by
its own behaviour alone: another optimum, where rules and outcome disagree.

`fork` is told by play: from the true state before behaviour k the episode was played on with the
recorded reply and with replies drawn anew, and U_k is how much more the recorded one brought
(`maro_jax.selfplay.forks`). Its mean is the advantage Q − V itself, with the luck of what the seat
could not see in it. Each candidate is forked with probability q, so a batch's forked behaviours
stand for a qth part of its episodes.

`fork_dr` corrects with it the return A_k that `value` gives: E[1[forked]] = q makes its mean that
of U whatever Φ and λ are, and where A_k foretells U the correction is small (doubly robust
estimation, arXiv:1103.4601, with the value function as its model).

That a behaviour carries nothing is told by a mask and never by a return of 0: a return of 0
is a draw, which a baseline may turn into a good or a bad result.

A baseline is subtracted *after* discounting, G_k − b. The other order,
discount^(n − k) · (R − b), is biased: n is chosen in part by the behaviour itself, so the
term discount^(n − k) · b no longer is independent of it.

The idea of splitting the outcome onto each behaviour is MARO's (arXiv:2601.12323); these
formulas are our reading of it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from maro_jax.credit.grouping import safe_ratio, sum_by_group


def remaining_behaviours(seat: jax.Array) -> jax.Array:
    """Counts the later behaviours of the same seat in the same episode, n − k.

    Args:
      seat: `int[E, B]`, the deciding seat in decision order, -1 for an empty slot.

    Returns:
      `int32[E, B]`; 0 for a seat's last behaviour and for empty slots.
    """
    num_slots = seat.shape[-1]
    # Compared pairwise: XLA fuses the comparison into the sum, nothing [E, B, B] is stored.
    later = jnp.arange(num_slots)[None, :] > jnp.arange(num_slots)[:, None]
    same = seat[..., :, None] == seat[..., None, :]
    return jnp.where(seat >= 0, jnp.sum(same & later, axis=-1, dtype=jnp.int32), 0)


def outcome_of_behaviour(seat: jax.Array, outcome: jax.Array) -> jax.Array:
    """Looks up each behaviour's outcome: `float32[E, B]`, 0 in empty slots.

    Args:
      seat: `int[E, B]`, -1 for an empty slot.
      outcome: `float32[E, N]`, one for each seat, in [-1, 1].
    """
    found = jnp.take_along_axis(outcome, jnp.maximum(seat, 0).astype(jnp.int32), axis=-1)
    return jnp.where(seat >= 0, found, 0.0)


def none(seat: jax.Array, outcome: jax.Array, discount: float) -> tuple[jax.Array, jax.Array]:
    """No decomposition: only the seat's last behaviour carries the outcome."""
    del discount
    carried = (seat >= 0) & (remaining_behaviours(seat) == 0)
    return jnp.where(carried, outcome_of_behaviour(seat, outcome), 0.0), carried


def whole_outcome(seat: jax.Array, outcome: jax.Array, discount: float) -> tuple[jax.Array, jax.Array]:
    """Every behaviour of the seat carries the outcome, G_k = R."""
    del discount
    return outcome_of_behaviour(seat, outcome), seat >= 0


def discounted(seat: jax.Array, outcome: jax.Array, discount: float) -> tuple[jax.Array, jax.Array]:
    """Earlier behaviours carry less, G_k = discount^(n − k) · R."""
    factor = jnp.float32(discount) ** remaining_behaviours(seat)
    return factor * outcome_of_behaviour(seat, outcome), seat >= 0


def by_value(seat: jax.Array, outcome: jax.Array, values: jax.Array, judged: jax.Array, decay: float) -> jax.Array:
    """How the prospects of its seat moved from each behaviour on, Σ_{l ≥ k} λ^(l − k) δ_l.

    Args:
      seat: `int[E, B]`, the deciding seat in decision order, -1 for an empty slot.
      outcome: `float32[E, N]`, one for each seat, in [-1, 1].
      values: `float32[E, B]`, Φ(x_k): what was to be expected before each behaviour.
      judged: `bool[E, B]`, behaviours that have a value; the others are passed over.
      decay: λ, in [0, 1].

    Returns:
      `float32[E, B]`, 0 where nothing is judged.
    """
    seats = jnp.arange(outcome.shape[-1])

    def one_earlier(carry: tuple[jax.Array, jax.Array], slot: tuple) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        # float32[E, N]: of each seat's next behaviour the expectation (after its last one the outcome), and the credit.
        expected, ahead = carry
        who, value, counts = slot
        mine = (who[:, None] == seats) & counts[:, None]
        given = value[:, None] * mine
        credited = jnp.where(mine, expected - given + decay * ahead, ahead)
        return (jnp.where(mine, given, expected), credited), jnp.sum(jnp.where(mine, credited, 0.0), axis=1)

    slots = (seat.T, values.T, judged.T)
    _, credited = jax.lax.scan(one_earlier, (outcome, jnp.zeros_like(outcome)), slots, reverse=True)
    return credited.T


def by_rules(
    seat: jax.Array,
    outcome: jax.Array,
    scores: jax.Array,
    judged: jax.Array,
    cell: jax.Array,
    num_cells: int,
    weight: float,
) -> jax.Array:
    """The outcome and what rules say beside it, R + μ (s_k − s̄_c).

    s̄_c is of the batch itself: n behaviours of a cell lose 1/n of what their scores say, and nothing else.

    Args:
      seat: `int[E, B]`, -1 for an empty slot.
      outcome: `float32[E, N]`, one for each seat, in [-1, 1].
      scores: `float32[E, B]`, s.
      judged: `bool[E, B]`, behaviours learnt from that a rule speaks of.
      cell: `int[E, B]` in [0, `num_cells`) where `judged` holds.
      num_cells: static.
      weight: μ.

    Returns:
      `float32[E, B]`; R where nothing is judged, 0 in empty slots.
    """
    group = jnp.where(judged, cell, -1)
    count = sum_by_group(jnp.ones_like(scores), group, num_cells)
    mean = safe_ratio(sum_by_group(scores, group, num_cells), count, 0.0)
    said = jnp.where(judged, scores - mean[jnp.maximum(group, 0)], 0.0)
    return outcome_of_behaviour(seat, outcome) + weight * said


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Forked:
    """What forks have shown of a batch's behaviours."""

    differences: Any  # `float32[E, B]` U: what the reply brought beyond another one
    known: Any  # `bool[E, B]` where that was tried; U means nothing elsewhere
    share: Any  # `float32[]` q, in (0, 1]: the probability of a behaviour to be forked


def doubly_robust(expected: jax.Array, forked: Forked) -> jax.Array:
    """An estimate for every behaviour, corrected where it was forked: A + (1[forked]/q) (U − A).

    Args:
      expected: `float32[E, B]`, A, from `by_value`.
      forked: what forks have shown of these behaviours.

    Returns:
      `float32[E, B]`.
    """
    return expected + jnp.where(forked.known, forked.differences - expected, 0.0) / forked.share


Decomposition = Callable[[jax.Array, jax.Array, float], tuple[jax.Array, jax.Array]]

DECOMPOSITIONS: dict[str, Decomposition] = {
    "none": none,
    "outcome": whole_outcome,
    "discounted": discounted,
}


def decompose(name: str, seat: jax.Array, outcome: jax.Array, *, discount: float = 0.9) -> tuple[jax.Array, jax.Array]:
    """Gives each behaviour its return.

    Args:
      name: one of `DECOMPOSITIONS`.
      seat: `int[E, B]`, the deciding seat in decision order, -1 for an empty slot. All
        behaviours of a seat are counted, whether they will be learnt from or not.
      outcome: `float32[E, N]`, in [-1, 1].
      discount: factor for each later behaviour of the seat, in (0, 1]; `discounted` only.

    Returns:
      returns `float32[E, B]` (0 where nothing is carried) and carried `bool[E, B]`.

    Raises:
      ValueError: no decomposition has this name.
    """
    if name not in DECOMPOSITIONS:
        raise ValueError(
            f"decompose must be one of {', '.join(DECOMPOSITIONS)}, not {name!r}; for example decompose='outcome'."
        )
    return DECOMPOSITIONS[name](seat, outcome, discount)
