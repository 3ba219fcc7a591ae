"""Credit within a deal: the same deal is played several times, and each result is held against the others of its seat.

What a deal and a seat are worth by themselves cancels, with no statistics to learn: the group baseline of GRPO (Shao et
al., arXiv:2402.03300) for games, where "the same prompt" is the same deal with the same players. With M the mean of a
seat's g results, R − M is (g − 1)/g times the difference to the mean of the *others*, so it is unbiased up to a factor.
"""

import dataclasses

import jax
import jax.numpy as jnp

from maro_jax.credit.grouping import safe_ratio

# Where all results agree, what rounding leaves of R − M must not be blown up to an advantage.
MINIMUM_DEVIATION = 1e-3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DealStatistics:
    """Of the results of a behaviour's seat over the episodes of its deal; `float32[E, B]` each."""

    mean: jax.Array
    deviation: jax.Array  # population standard deviation, at least `MINIMUM_DEVIATION`


def of_deals(size: int, seat: jax.Array, eligible: jax.Array, outcome: jax.Array) -> DealStatistics:
    """Compares the episodes of each deal.

    Args:
      size: g, episodes of a deal, which follow each other (static).
      seat: `int[E, B]`, the deciding seat, -1 for an empty slot; E a multiple of g.
      eligible: `bool[E, B]`, behaviours that may be learnt from; a seat without any in an episode does not count there.
      outcome: `float32[E, N]`, of each seat.

    Returns:
      The statistics of each behaviour; they mean nothing where it is not eligible.
    """
    seats = outcome.shape[1]
    of_seat = seat[..., None] == jnp.arange(seats)
    counts = jnp.any(of_seat & eligible[..., None], axis=1).reshape(-1, size, seats)
    results = outcome.reshape(counts.shape)

    def mean(values: jax.Array) -> jax.Array:
        return safe_ratio(jnp.sum(jnp.where(counts, values, 0.0), axis=1), jnp.sum(counts, axis=1), 0.0)

    means = mean(results)
    deviation = jnp.sqrt(mean((results - means[:, None]) ** 2))

    def per_behaviour(values: jax.Array) -> jax.Array:
        return jnp.take_along_axis(jnp.repeat(values, size, axis=0), jnp.maximum(seat, 0).astype(jnp.int32), axis=1)

    return DealStatistics(per_behaviour(means), per_behaviour(jnp.maximum(deviation, MINIMUM_DEVIATION)))
