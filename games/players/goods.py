"""What scripted players of the games about books, hats and balls read in their log."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import SeatView
from games.goods import ITEMS


class Rows:
    """The rows a seat knows, by kind of event and type of item."""

    def __init__(self, view: SeatView, kinds: dict[str, int]):
        self.kinds = kinds
        self.kind, self.actor, self.target, self.value = (view.rows[:, c].astype(jnp.int32) for c in range(4))

    def are(self, name: str, by: jax.Array | None) -> jax.Array:
        """bool[M]: the rows of a kind, by one actor only if one is given."""
        are = self.kind == self.kinds[name]
        return are if by is None else are & (self.actor == by)

    def by_item(self, name: str, by: jax.Array | None) -> jax.Array:
        """bool[3, M]."""
        return self.are(name, by) & (self.target == jnp.arange(len(ITEMS))[:, None])

    def latest(self, name: str, by: jax.Array | None = None) -> jax.Array:
        """int32[3]: the value of the latest such row of each item, 0 if there is none."""
        are = self.by_item(name, by)
        last = jnp.max(jnp.where(are, jnp.arange(are.shape[1]), -1), axis=1)
        return jnp.where(last < 0, 0, self.value[last])

    def total_kept(self, seat: jax.Array) -> jax.Array:
        """int32[3]: items of each type that a seat has asked for, summed over its offers."""
        return jnp.sum(jnp.where(self.by_item("keep", seat), self.value, 0), axis=1)

    def value_of(self, name: str) -> jax.Array:
        """int32[]: the value of the only row of a kind."""
        return jnp.sum(jnp.where(self.are(name, None), self.value, 0))

    def count(self, name: str, by: jax.Array | None = None) -> jax.Array:
        """int32[]: how many such rows there are."""
        return jnp.sum(self.are(name, by))
