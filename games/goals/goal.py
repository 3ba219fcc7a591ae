"""What a goal is: something that may come true for a seat later, in words and as a predicate over the event log."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from games.core import GameSpec
from games.hindsight import Hindsight

# What came true in one episode, by the names of goals: of those about the end bool[N], of others bool[N, M] by row of
# the log, or bool[M] if it is the same for all seats.
Events = Callable[[GameSpec, Hindsight], Mapping[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Goal:
    """Something that an actor may reach or suffer.

    Attributes:
      name: what it is called in tables.
      texts: at least three wordings of it, by the actor in the first person.
      utility: what reaching it is worth to the actor, in the unit of the game's measure. The sum of utility × reached
        over a game's goals is what the seat is paid, as the game's page says, up to a constant.
      events: tells when it came true.
      final: whether it is about how the episode ended.
    """

    name: str
    texts: tuple[str, ...]
    utility: float
    events: Events
    final: bool

    def occurs(self, spec: GameSpec, episode: Hindsight) -> jax.Array:
        """bool[N, M + 1]: for each seat, whether the goal came true with each row of the log, or (last) at the end."""
        seats, rows = len(episode.roles), len(episode.kind)
        came = self.events(spec, episode)[self.name]
        if self.final:
            return jnp.zeros((seats, rows + 1), bool).at[:, rows].set(came)
        used = episode.kind >= 0
        return jnp.pad(jnp.broadcast_to(came & used, (seats, rows)), ((0, 0), (0, 1)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def reached(
    spec: GameSpec,
    goals: tuple[Goal, ...],
    seat: jax.Array,
    phase: jax.Array,
    legal: jax.Array,
    action: jax.Array,
    roles: jax.Array,
    outcome: jax.Array,
    rows: jax.Array,
    count: jax.Array,
    steps: jax.Array,
) -> jax.Array:
    """Which goals came true after each behaviour, and before the same seat decided again or the episode ended.

    Args:
      spec: of the game (static).
      goals: G goals of the game (static), as `goals_of` has them.
      seat, phase, legal, action, roles, outcome, rows, count, steps: finished episodes, as in
        `games.credit_rules.judge`.

    Returns:
      bool[E, B, G], for the seat that decided; False where there was no decision. What its decision brought about at
      once counts, and so does all that follows until it is asked again; what its next decision brings about does not.
    """

    def of_one(*arrays: jax.Array) -> jax.Array:
        episode = Hindsight.of(*arrays)
        occurs = jnp.stack([goal.occurs(spec, episode) for goal in goals], axis=-1)  # bool[N, M + 1, G]
        decisions = len(episode.seat)
        # A row that decision k brought about is logged at step k + 1; the end comes after all decisions.
        when = jnp.append(jnp.clip(episode.step, 0, decisions), decisions)
        by_step = jnp.zeros((occurs.shape[0], decisions + 1, len(goals)), jnp.int32).at[:, when].add(occurs)
        until = jnp.cumsum(by_step, axis=1)
        number = jnp.arange(decisions)
        again = (episode.seat == episode.seat[:, None]) & (number > number[:, None])
        following = jnp.min(jnp.where(again, number, decisions), axis=1)
        return (until[episode.seat, following] > until[episode.seat, number]) & (episode.seat >= 0)[:, None]

    return jax.vmap(of_one)(*map(jnp.asarray, (seat, phase, legal, action, roles, outcome, rows, count, steps)))


@dataclasses.dataclass(frozen=True)
class Wording:
    """A goal without its predicate: what a game's file lists."""

    name: str
    texts: tuple[str, ...]
    utility: float
    final: bool


def during(name: str, *texts: str, utility: float = 0.0) -> Wording:
    """A goal that comes true with a row of the log, see `Goal`."""
    return Wording(name, texts, utility, final=False)


def at_end(name: str, *texts: str, utility: float = 0.0) -> Wording:
    """A goal that comes true at the end, see `Goal`."""
    return Wording(name, texts, utility, final=True)


def told_by(events: Events, *wordings: Wording) -> tuple[Goal, ...]:
    """The goals of a game, whose predicates `events` tells."""
    return tuple(Goal(each.name, each.texts, each.utility, events, each.final) for each in wordings)
