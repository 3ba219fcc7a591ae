"""Sums by group, as plain reductions."""

import jax
import jax.numpy as jnp


def sum_by_group(values: jax.Array, group: jax.Array, num_groups: int) -> jax.Array:
    """Adds up `values` by the group each belongs to.

    Written as compare, select and sum, not as a scatter or a matrix product: a scatter adds
    in no fixed order on accelerators, a product may round to bfloat16 there, and this form
    splits over a sharded axis into one all-reduce.

    Args:
      values: `float32[...]`.
      group: `int[...]`, same shape; values outside `[0, num_groups)` are left out.
      num_groups: number of groups (static).

    Returns:
      `float32[num_groups]`.
    """
    member = group[..., None] == jnp.arange(num_groups)
    return jnp.sum(jnp.where(member, values[..., None], 0.0), axis=tuple(range(values.ndim)))


def safe_ratio(numerator: jax.Array, denominator: jax.Array, otherwise: float) -> jax.Array:
    """`numerator / denominator` where the denominator is positive, else `otherwise`."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1.0), otherwise)
