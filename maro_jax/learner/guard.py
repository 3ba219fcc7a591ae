"""Optimizer steps that are not taken because their gradient stands out from the last ones.

A gradient stands out if its norm is more than so many standard deviations above the mean of the norms before it. Only
finite norms are remembered: one NaN among them would make every later comparison false. A norm that stands out is
remembered too, so that a training that has changed for good is not stopped by it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

WINDOW = 128  # norms that are remembered
ENOUGH = WINDOW // 2  # of them, before anything stands out


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Norms:
    """The last finite gradient norms.

    Attributes:
      last: float32[WINDOW], written in a circle.
      count: int32[], how many were remembered so far.
    """

    last: jax.Array
    count: jax.Array

    @staticmethod
    def none() -> Norms:
        """Nothing remembered."""
        return Norms(jnp.zeros((WINDOW,), jnp.float32), jnp.int32(0))

    def remember(self, norm: jax.Array) -> Norms:
        """These norms and one more, unless it is not finite."""
        finite = jnp.isfinite(norm)
        place = jnp.where(finite, self.count % WINDOW, WINDOW)
        return Norms(self.last.at[place].set(norm, mode="drop"), self.count + finite)

    def stands_out(self, norm: jax.Array, deviations: float) -> jax.Array:
        """bool[]: whether a norm is more than `deviations` standard deviations above the mean of these; 0: never."""
        known = jnp.arange(WINDOW) < self.count
        number = jnp.maximum(jnp.sum(known), 1)
        mean = jnp.sum(self.last, where=known) / number
        spread = jnp.sqrt(jnp.sum(jnp.square(self.last - mean), where=known) / number)
        return (deviations > 0) & (self.count >= ENOUGH) & (norm > mean + deviations * spread)
