"""One game that the host leads, turn by turn, so that a person may hold a seat: the rollout's functions on one lane."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.policy.lora import stack
from maro_jax.selfplay.episodes import LEARNER, PERSON, Episodes, RolloutPlan
from maro_jax.selfplay.lanes import IDLE, REPLIED, WAITING, LaneState, advance, write_reply
from maro_jax.selfplay.rollout import Usage, prefilled_cache, take_step
from maro_jax.selfplay.table import RolloutSizes, Table


@dataclasses.dataclass(frozen=True)
class _Programs:
    """The rollout's functions for one lane, compiled at their first use."""

    advance: Callable[..., Any]
    write: Callable[..., Any]
    step: Callable[..., Any]
    prefill: Callable[..., Any]


@functools.cache
def _compiled(table: Table, sizes: RolloutSizes) -> _Programs:
    def advance_one(scripted_rows: int, plan: RolloutPlan, key: jax.Array, *state: Any) -> tuple:
        return advance(table, plan, key, scripted_rows, *state)

    return _Programs(
        advance=jax.jit(advance_one, static_argnums=0),
        write=jax.jit(functools.partial(write_reply, table)),
        step=jax.jit(functools.partial(take_step, table, sizes, 1)),
        prefill=jax.jit(functools.partial(prefilled_cache, table, sizes, 1)),
    )


class HostedGame:
    """A game in progress.

    Attributes:
      table: the game laid out for a policy.
      lanes: the one lane.
      records: what has been said and done; complete once the game is over.
    """

    table: Table
    lanes: LaneState
    records: Episodes

    def __init__(
        self,
        table: Table,
        capacity: int,
        holders: Sequence[int],
        seed: int,
        params: Any = None,
        temperature: float = 1.0,
    ):
        """Deals the game.

        Args:
          table: the game laid out for a policy.
          capacity: stream tokens of a seat after its role prefix; a game that needs more is cut off.
          holders: who decides for each seat: `PERSON`, `LEARNER` (which needs `params`), `HEURISTIC` or `RANDOM`.
          seed: of the deal and of all chance.
          params: the policy's parameters.
          temperature: of its sampling.
        """
        self.table = table
        spec, zero = table.spec, jnp.zeros(1, jnp.int32)
        sizes = RolloutSizes.fit(table, 1, capacity)
        self._programs = _compiled(table, sizes)
        self._plan = RolloutPlan(episode=zero, deal=zero, holders=jnp.zeros((1, len(spec.sides)), jnp.int8))
        self._key = jax.random.key(seed)
        lanes, records = LaneState.idle(table, 1, 1), Episodes.empty(spec, 1, sizes.capacity)
        # Deals the game; nobody can reply yet.
        lanes, records, self._next = self._programs.advance(0, self._plan, self._key, lanes, records, jnp.int32(0))
        self.lanes = dataclasses.replace(lanes, holder=jnp.asarray([holders], jnp.int8))
        self.records = records
        if params is not None:
            self._params = stack([params]), jnp.full((1,), temperature, jnp.float32)
            self._cache, self._usage = self._programs.prefill(self._params[0]), Usage.zero()

    def run(self) -> int | None:
        """Plays on until a person must reply; returns that seat, or None once the game is over."""
        while True:
            mode = int(self.lanes.mode[0])
            if mode == WAITING:
                seat = int(self.lanes.game.actor[0])
                holder = int(self.lanes.holder[0, seat])
                if holder == PERSON:
                    return seat
                if holder == LEARNER:
                    self.lanes, self.records, self._cache, self._usage = self._programs.step(
                        self._plan, self._key, *self._params, self.lanes, self.records, self._cache, self._usage
                    )
                    continue
            elif mode == IDLE:
                return None
            self.lanes, self.records, self._next = self._programs.advance(
                1, self._plan, self._key, self.lanes, self.records, self._next
            )

    def reply(self, action: int, speech: Sequence[int] = ()) -> None:
        """Replies for the seat that is due.

        Args:
          action: a legal action (any number where the phase asks for none).
          speech: tokens to say where speech is free; those that nobody may say are left out.
        """
        assert int(self.lanes.mode[0]) not in (IDLE, REPLIED)
        said = [token for token in speech if self.table.lexicon.speech_mask[token]]
        room = max(1, self.table.spec.speech_tokens)
        tokens = np.zeros((1, room), np.int32)
        tokens[0, : len(said[:room])] = said[:room]
        count = np.array([min(len(said), room)], np.int32)
        speaking = np.ones(1, bool)
        self.lanes, self.records = self._programs.write(
            self.lanes, self.records, speaking, jnp.asarray([action], jnp.int32), (jnp.asarray(tokens), count)
        )

    def legal(self) -> list[int]:
        """The legal actions of the seat that is due."""
        return [int(action) for action in np.flatnonzero(np.asarray(self.lanes.legal[0]))]

    def said(self, decision: int) -> str:
        """What was said at a decision, as text."""
        length = int(self.lanes.utterance_lengths[0, decision])
        return self.table.tokenizer.decode(np.asarray(self.lanes.utterances[0, decision, :length]).tolist()).strip()
