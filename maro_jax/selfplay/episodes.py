"""What is asked of a rollout (`RolloutPlan`) and what comes back (`Episodes`): flat arrays, the same for every game."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from games.core import GameSpec
from maro_jax.run.inputs import HOLDERS

LEARNER, OPPONENT, HEURISTIC, RANDOM, PERSON, API = range(len(HOLDERS))
Array = Any  # a JAX array on the device, a NumPy array once fetched


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RolloutPlan:
    """A fixed list of episodes, all to be played to their ends.

    Attributes:
      episode: int32[E], global number; seeds everything that is sampled in the episode.
      deal: int32[E], seeds all chance of the game; mirrored matches share deals.
      holders: int8[E, sides], who decides for the seats of each side.
      past: episodes that are to be repeated before they go on (`maro_jax.selfplay.forks`): the replies in it are given
        once more; None where all begin anew.
      fork: int32[E], with a past: from this decision on chance is new, up to it that of the deal.
    """

    episode: Array
    deal: Array
    holders: Array
    past: Episodes | None = None
    fork: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Behaviours:
    """One row a decision, in the order they were made; rows of decisions that never came have seat -1.

    Attributes:
      seat: int8[E, B].
      role: int8[E, B].
      phase: int8[E, B].
      holder: int8[E, B], `LEARNER`, `OPPONENT`, `HEURISTIC`, `RANDOM`, `PERSON` or `API`.
      legal: bool[E, B, A].
      action: int16[E, B].
      start: int32[E, B], position in the seat's stream where the reply begins.
      end: int32[E, B], position after its last token.
    """

    seat: Array
    role: Array
    phase: Array
    holder: Array
    legal: Array
    action: Array
    start: Array
    end: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Episodes:
    """A batch of finished episodes.

    Attributes:
      tokens: int32[E, N, S], each seat's stream after its role prefix.
      log_probs: float32[E, N, S], of sampled tokens under the masked, renormalised distribution at temperature.
      node: int16[E, N, S], how the token came about (`games.text.grammar`): 0 given, else sampled and from what.
      decision: int16[E, N, S], index of the behaviour a sampled token belongs to.
      lengths: int32[E, N].
      roles: int8[E, N].
      outcome: float32[E, N].
      terminated: bool[E].
      truncated: bool[E].
      overflowed: bool[E], ended because a stream was full.
      behaviours: see `Behaviours`.
      event_rows: int16[E, M, 4], the final event log.
      event_audience: uint16[E, M].
      event_count: int16[E].
      event_step: int16[E, M], decisions made when the row was logged (for viewers).
    """

    tokens: Array
    log_probs: Array
    node: Array
    decision: Array
    lengths: Array
    roles: Array
    outcome: Array
    terminated: Array
    truncated: Array
    overflowed: Array
    behaviours: Behaviours
    event_rows: Array
    event_audience: Array
    event_count: Array
    event_step: Array

    @staticmethod
    def empty(spec: GameSpec, episodes: int, capacity: int) -> Episodes:
        """Room for `episodes` episodes with streams of `capacity` tokens."""
        seats, decisions, events = spec.num_seats, spec.max_decisions, spec.max_events

        def full(shape: tuple[int, ...], dtype: jnp.dtype, value: int = 0) -> jax.Array:
            return jnp.full((episodes, *shape), value, dtype)

        return Episodes(
            tokens=full((seats, capacity), jnp.int32),
            log_probs=full((seats, capacity), jnp.float32),
            node=full((seats, capacity), jnp.int16),
            decision=full((seats, capacity), jnp.int16),
            lengths=full((seats,), jnp.int32),
            roles=full((seats,), jnp.int8),
            outcome=full((seats,), jnp.float32),
            terminated=full((), jnp.bool_),
            truncated=full((), jnp.bool_),
            overflowed=full((), jnp.bool_),
            behaviours=Behaviours(
                seat=full((decisions,), jnp.int8, -1),
                role=full((decisions,), jnp.int8),
                phase=full((decisions,), jnp.int8),
                holder=full((decisions,), jnp.int8, -1),
                legal=full((decisions, spec.num_actions), jnp.bool_),
                action=full((decisions,), jnp.int16),
                start=full((decisions,), jnp.int32),
                end=full((decisions,), jnp.int32),
            ),
            event_rows=full((events, 4), jnp.int16, -1),
            event_audience=full((events,), jnp.uint16),
            event_count=full((), jnp.int16),
            event_step=full((events,), jnp.int16),
        )

    @property
    def finished(self) -> jax.Array:
        """bool[E]: ended by the rules; only these have an outcome to learn from."""
        return self.terminated & ~self.overflowed
