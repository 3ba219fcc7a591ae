"""A finished episode as rules look back on it: its decisions, its log, and all that was hidden."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from games.core import NO_ONE


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hindsight:
    """One episode of N seats, with room for B decisions among A actions and M rows of the log.

    Attributes:
      seat: int32[B], who decided, in order; -1 where there was no decision.
      phase: int32[B], the kind of decision.
      legal: bool[B, A].
      action: int32[B].
      roles: int32[N].
      outcome: float32[N].
      kind, actor, target, value: int32[M], the log; -1 where a field or the row is not used.
      step: int32[M], decisions made when the row was logged.
    """

    seat: jax.Array
    phase: jax.Array
    legal: jax.Array
    action: jax.Array
    roles: jax.Array
    outcome: jax.Array
    kind: jax.Array
    actor: jax.Array
    target: jax.Array
    value: jax.Array
    step: jax.Array

    @staticmethod
    def of(
        seat: jax.Array, phase: jax.Array, legal: jax.Array, action: jax.Array, roles: jax.Array, outcome: jax.Array,
        rows: jax.Array, count: jax.Array, step: jax.Array,
    ) -> Hindsight:  # fmt: skip
        """One episode of `Episodes`: rows int[M, 4] is the final event log, of which `count` int[] are in use."""
        log = jnp.where((jnp.arange(len(rows)) < count)[:, None], rows, NO_ONE).astype(jnp.int32)
        seat, phase, action, roles, step = (each.astype(jnp.int32) for each in (seat, phase, action, roles, step))
        kind, actor, target, value = log.T
        return Hindsight(seat, phase, legal, action, roles, outcome, kind, actor, target, value, step)

    @property
    def role(self) -> jax.Array:
        """int32[B], of who decided."""
        return self.roles[self.seat]

    @property
    def result(self) -> jax.Array:
        """float32[B], the outcome of who decided."""
        return self.outcome[self.seat]

    @property
    def chooses(self) -> jax.Array:
        """bool[B]: more than one action was legal."""
        return jnp.sum(self.legal, axis=1) > 1

    @property
    def role_picked(self) -> jax.Array:
        """int32[B], role of the seat that an action below N names; -1 for other actions."""
        seats = len(self.roles)
        return jnp.where(self.action < seats, self.roles[jnp.clip(self.action, 0, seats - 1)], NO_ONE)

    def logged(self, *kinds: int) -> jax.Array:
        """bool[M]: rows of these kinds."""
        return jnp.isin(self.kind, jnp.asarray(kinds))

    def before(self, *kinds: int) -> jax.Array:
        """int32[B]: how many rows of these kinds each decision was preceded by."""
        return jnp.sum(self.logged(*kinds) & (self.step <= self._decisions), axis=1)

    def latest(self, kind: int, *, after: bool = False) -> jax.Array:
        """int32[B]: the value of the last row of a kind before each decision, or once it was made; 0 without one."""
        rows = self.logged(kind) & (self.step <= self._decisions + after)
        last = jnp.max(jnp.where(rows, jnp.arange(rows.shape[1]), NO_ONE), axis=1)
        return jnp.where(last >= 0, self.value[last], 0)

    def so_far(self, rows: jax.Array) -> jax.Array:
        """int32[M]: the value of the last of some rows bool[M] up to each row, itself included; 0 without one."""
        last = jax.lax.cummax(jnp.where(rows, jnp.arange(len(rows)), NO_ONE))
        return jnp.where(last >= 0, self.value[last], 0)

    def told(self, kind: int, target: int | None = None) -> jax.Array:
        """int32[N]: the value of each seat's last row of a kind, as its actor (and about `target`); 0 without one."""
        rows = self.logged(kind) & (self.actor == jnp.arange(len(self.roles))[:, None])
        if target is not None:
            rows &= self.target == target
        last = jnp.max(jnp.where(rows, jnp.arange(rows.shape[1]), NO_ONE), axis=1)
        return jnp.where(last >= 0, self.value[last], 0)

    def alike(self, mark: jax.Array, among: jax.Array) -> jax.Array:
        """bool[B, B]: the decisions `among` bool[B] whose mark int[B] is that of each decision."""
        return (mark[:, None] == mark) & among & (self.seat >= 0)

    def tally(self, group: jax.Array) -> jax.Array:
        """int32[B, N]: how often each seat is picked in each decision's `group` bool[B, B]."""
        picked = self.action[:, None] == jnp.arange(len(self.roles))
        # Exact in any matrix precision: factors are 0 and 1, and sums are kept in float32.
        return jnp.round(group.astype(jnp.float32) @ picked.astype(jnp.float32)).astype(jnp.int32)

    @property
    def _decisions(self) -> jax.Array:
        return jnp.arange(len(self.seat))[:, None]
