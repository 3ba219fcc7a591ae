"""What every game is made of: a static spec, a state, an append-only event log and four pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

NO_ONE = -1  # an event field that is not used, and the actor of a game that is over


class GameError(ValueError):
    """A game was asked for something it does not offer; the message is one sentence for the user."""


def check_ranges(name: str, game: Any, **ranges: tuple[int, int]) -> None:
    """Checks parameters that are numbers.

    Args:
      name: of the game, for the message.
      game: has the parameters as attributes.
      ranges: the lowest and highest value allowed of each.

    Raises:
      GameError: a parameter lies outside.
    """
    for parameter, (low, high) in ranges.items():
        value = getattr(game, parameter)
        if not low <= value <= high:
            raise GameError(f"{name}: {parameter} is between {low} and {high}, not {value}")


def check_choices(name: str, game: Any, **choices: Sequence[str]) -> None:
    """Checks parameters that are one of some words; arguments and errors as in `check_ranges`."""
    for parameter, allowed in choices.items():
        value = getattr(game, parameter)
        if value not in allowed:
            raise GameError(f"{name}: {parameter} is one of {', '.join(allowed)}, not {value!r}")


@dataclasses.dataclass(frozen=True)
class Role:
    """A secret identity and the side whose outcome it shares."""

    name: str
    side: str


@dataclasses.dataclass(frozen=True)
class Phase:
    """A kind of decision and the parts its reply has.

    Attributes:
      name: what the phase is called in records.
      prompt: line that tells the acting seat what is asked of it.
      thought_tokens: most tokens of a private thought, 0 for none.
      speech_tokens: most tokens of a free speech, 0 for none.
      action: whether the reply ends in one of the legal labels.
    """

    name: str
    prompt: str = ""
    thought_tokens: int = 0
    speech_tokens: int = 0
    action: bool = True


@dataclasses.dataclass(frozen=True)
class EventKind:
    """A row of the log and its wording.

    Attributes:
      name: what the kind is called in records.
      template: text with slots `{table:field}`: word number `field` (actor, target or value) of the game's word table
        `table`; or `{utterance}`, the tokens of the utterance that `value` points to.
    """

    name: str
    template: str


@dataclasses.dataclass(frozen=True)
class GameSpec:
    """All that is static about a game: hashable, so that it may be an argument of a compiled program.

    Attributes:
      name: versioned name; a change of rules bumps it.
      num_seats: N.
      roles: roles that may be dealt, in the order of `State.roles`' values.
      sides: names of the sides.
      phases: kinds of decision, in the order of `State.phase`'s values; the last one is the game that is over.
      action_labels: label of each of the A actions, each with its leading space.
      event_kinds: kinds of the log's rows.
      words: named word tables that templates refer to.
      introduction: role-independent opening of a role's prefix, in full and in brief.
      role_texts: what a seat of each role is told, in full and in brief.
      max_decisions: B, no episode has more.
      max_events: M, no log has more rows.
      max_new_events: no more rows are appended between two turns of one seat (or before its first).
      scripted_speech: what a scripted player says with each action when speech is free.
      visible_events: (kinds that exclude each other, most rows of them that one seat can ever be shown): bounds a
        stream's length.
      turns: (phases that exclude each other, most replies of one seat in them).
      parameters: rule parameters as sorted (name, value) pairs.
    """

    name: str
    num_seats: int
    roles: tuple[Role, ...]
    sides: tuple[str, ...]
    phases: tuple[Phase, ...]
    action_labels: tuple[str, ...]
    event_kinds: tuple[EventKind, ...]
    words: tuple[tuple[str, tuple[str, ...]], ...]
    introduction: tuple[str, str]
    role_texts: tuple[tuple[str, str], ...]
    max_decisions: int
    max_events: int
    max_new_events: int
    scripted_speech: tuple[str, ...]
    visible_events: tuple[tuple[tuple[str, ...], int], ...]
    turns: tuple[tuple[tuple[str, ...], int], ...]
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def num_actions(self) -> int:
        """A, the size of the action space."""
        return len(self.action_labels)

    @property
    def speech_tokens(self) -> int:
        """U, the most tokens of any speech."""
        return max(phase.speech_tokens for phase in self.phases)

    @property
    def thought_tokens(self) -> int:
        """The most tokens of any thought."""
        return max(phase.thought_tokens for phase in self.phases)

    @property
    def side_of_role(self) -> tuple[int, ...]:
        """Index of each role's side."""
        return tuple(self.sides.index(role.side) for role in self.roles)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EventLog:
    """Everything that has happened; what a seat may know is a mask over it.

    Attributes:
      rows: int16[M, 4], (kind, actor, target, value), -1 where a field is not used.
      audience: uint16[M], bit i is set if seat i may see the row.
      size: int16[], number of rows in use.
    """

    rows: jax.Array
    audience: jax.Array
    size: jax.Array

    @staticmethod
    def empty(max_events: int) -> EventLog:
        """A log without rows and room for `max_events`."""
        return EventLog(
            rows=jnp.full((max_events, 4), NO_ONE, jnp.int16),
            audience=jnp.zeros((max_events,), jnp.uint16),
            size=jnp.int16(0),
        )

    def append(self, rows: jax.Array, audience: jax.Array, present: jax.Array) -> EventLog:
        """Appends the rows that are present, in order.

        Args:
          rows: int[K, 4].
          audience: uint16[K].
          present: bool[K], which of the rows really happened.
        """
        place = self.size.astype(jnp.int32) + jnp.cumsum(present.astype(jnp.int32)) - 1
        place = jnp.where(present, place, self.rows.shape[0])
        return EventLog(
            rows=self.rows.at[place].set(rows.astype(jnp.int16), mode="drop"),
            audience=self.audience.at[place].set(audience.astype(jnp.uint16), mode="drop"),
            size=(self.size + jnp.sum(present)).astype(jnp.int16),
        )

    def visible_to(self, seat: jax.Array | int) -> jax.Array:
        """bool[M]: the rows in use that `seat` may see. The one place where hiding is decided."""
        used = jnp.arange(self.rows.shape[0]) < self.size
        bit = (self.audience.astype(jnp.int32) >> jnp.asarray(seat, jnp.int32)) & 1
        return used & (bit == 1)

    def known_to(self, seat: jax.Array | int) -> jax.Array:
        """bool[M]: the rows `seat` may see and its own acts (of which it is never shown the echo)."""
        used = jnp.arange(self.rows.shape[0]) < self.size
        return self.visible_to(seat) | (used & (self.rows[:, 1] == seat))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The fields that every game's state has; a game's own class adds its fields after them.

    Attributes:
      phase: int8[], index into `GameSpec.phases`.
      actor: int8[], the seat to act, -1 when the game is over.
      step: int16[], decisions made so far.
      roles: int8[N], index into `GameSpec.roles`.
      outcome: float32[N] in [-1, 1], 0 until the game is over.
      terminated: bool[], ended by its rules.
      truncated: bool[], cut off.
      log: the event log.
    """

    phase: jax.Array
    actor: jax.Array
    step: jax.Array
    roles: jax.Array
    outcome: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    log: EventLog

    @property
    def over(self) -> jax.Array:
        """bool[]: nothing more happens."""
        return self.terminated | self.truncated


class Game(Protocol):
    """A game: rules as pure functions of one episode's state, to be `vmap`ped."""

    @property
    def spec(self) -> GameSpec:
        """The static description."""

    def init(self, key: jax.Array) -> Any:
        """Deals a new episode."""

    def step(self, state: Any, action: jax.Array, key: jax.Array) -> Any:
        """Plays `action` int32[] for the acting seat; no-op once over, lowest legal action if it is illegal."""

    def legal_action_mask(self, state: Any) -> jax.Array:
        """bool[A]: what the acting seat may do; all True once over."""

    def acting_mask(self, state: Any) -> jax.Array:
        """bool[N]: the seats that may act now without seeing what the others choose; all False once over."""


def audience_of(mask: jax.Array) -> jax.Array:
    """uint16[...]: the bit mask of the seats in `mask` bool[..., N]."""
    bits = jnp.asarray(1 << np.arange(mask.shape[-1]), jnp.int32)
    return jnp.sum(jnp.where(mask, bits, 0), axis=-1).astype(jnp.uint16)


def event(kind: Any, actor: Any = NO_ONE, target: Any = NO_ONE, value: Any = NO_ONE) -> jax.Array:
    """int16[4]: one row of the log."""
    return jnp.stack([jnp.asarray(x, jnp.int16) for x in (kind, actor, target, value)])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SeatView:
    """All that a scripted player may base its choice on.

    Attributes:
      rows: int16[M, 4], the log with every row that the seat does not know set to -1.
      seat: int8[], its own index.
      role: int8[], its own role.
      phase: int8[], the kind of decision.
      legal: bool[A], what it may do.
      spec: the game's static description, which holds the words that rows stand for.
    """

    rows: jax.Array
    seat: jax.Array
    role: jax.Array
    phase: jax.Array
    legal: jax.Array
    spec: GameSpec = dataclasses.field(metadata={"static": True})


def view_of_actor(game: Game, state: State) -> SeatView:
    """What the acting seat knows."""
    known = state.log.known_to(state.actor)
    return SeatView(
        rows=jnp.where(known[:, None], state.log.rows, NO_ONE),
        seat=state.actor,
        role=state.roles[state.actor],
        phase=state.phase,
        legal=game.legal_action_mask(state),
        spec=game.spec,
    )
