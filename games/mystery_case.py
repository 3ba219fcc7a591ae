"""The case of a murder mystery: what happened, which clues lie where, and the script that each seat is dealt."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.core import EventLog
from games.mystery_spec import FIRST_MOTIVE, FIRST_OBJECT, KIND, MysteryRules

NO_CLUE = -1  # other clues: seat i is a trace of seat i, then follow the weapon and the motive


@dataclasses.dataclass(frozen=True)
class Case:
    """What happened; N seats.

    Attributes:
      at: int8[N], room at the hour of the crime.
      empty: int8[], room in which nobody was, as the culprit knows.
      carried: int8[N], object.
      driven: int8[N], motive.
      friend: int8[N], the seat of which each seat knows one thing.
      knows_motive: bool[N], whether that is the motive, else the object.
      leaves_trace: bool[N].
    """

    at: jax.Array
    empty: jax.Array
    carried: jax.Array
    driven: jax.Array
    friend: jax.Array
    knows_motive: jax.Array
    leaves_trace: jax.Array


def make_up(rules: MysteryRules, is_culprit: jax.Array, key: jax.Array) -> Case:
    """Makes up what everybody did; a trace clears each innocent whom no other innocent's script clears."""
    n, culprit = rules.num_seats, jnp.argmax(is_culprit)
    scene_key, empty_key, room_key, object_key, drive_key, ring_key, know_key, trace_key = jax.random.split(key, 8)
    scene = jax.random.randint(scene_key, (), 0, rules.rooms)
    empty = jax.random.randint(empty_key, (), 1, rules.rooms)  # this many rooms after the scene
    away = jax.random.randint(room_key, (n,), 1, rules.rooms - 1)
    away = jnp.where(is_culprit, 0, away + (away >= empty))
    at = ((scene + away) % rules.rooms).astype(jnp.int8)
    carried = jax.random.randint(object_key, (n,), 0, rules.objects).astype(jnp.int8)
    driven = jax.random.randint(drive_key, (n,), 0, rules.motives).astype(jnp.int8)
    # In a ring of all seats each knows one thing of the next one.
    ring = jax.random.permutation(ring_key, jnp.arange(n, dtype=jnp.int8))
    friend, witness = (jnp.zeros((n,), jnp.int8).at[ring].set(jnp.roll(ring, by)) for by in (-1, 1))
    knows_motive = jax.random.bernoulli(know_key, 0.5, (n,))
    differs = jnp.where(knows_motive[witness], driven != driven[culprit], carried != carried[culprit])
    seen = jnp.sum(at[:, None] == at, axis=1) > 1
    cleared = seen | (differs & ~is_culprit[witness])
    leaves = jax.random.randint(trace_key, (n,), 0, 100) < rules.trace_percent
    return Case(
        at=at,
        empty=((scene + empty) % rules.rooms).astype(jnp.int8),
        carried=carried,
        driven=driven,
        friend=friend,
        knows_motive=knows_motive,
        leaves_trace=~is_culprit & (leaves | ~cleared),
    )


def shuffle_clues(rules: MysteryRules, case: Case, key: jax.Array) -> jax.Array:
    """int8[rooms, N + 2]: traces where they were left, weapon and motive anywhere, each stack shuffled."""
    n = rules.num_seats
    hide_key, order_key = jax.random.split(key)
    hidden = jax.random.randint(hide_key, (2,), 0, rules.rooms, jnp.int8)
    room, present = jnp.append(case.at, hidden), jnp.append(case.leaves_trace, np.ones(2, bool))
    order = jax.random.permutation(order_key, n + 2)
    above = (room[:, None] == room) & present & (order < order[:, None])
    depth = jnp.where(present, jnp.sum(above, axis=1), n + 2)
    stacks = jnp.full((rules.rooms, n + 2), NO_CLUE, jnp.int8)
    return stacks.at[room, depth].set(jnp.arange(n + 2, dtype=jnp.int8), mode="drop")


def log_deal(rules: MysteryRules, case: Case, is_culprit: jax.Array) -> EventLog:
    """Deals each seat its script, then tells everybody the room of the crime; opens the first round."""
    n = rules.num_seats
    seats, everybody = np.arange(n), (1 << n) - 1
    together = (case.at[:, None] == case.at) & ~np.eye(n, dtype=bool)
    alone = ~jnp.any(together, axis=1)
    myself = np.eye(n, dtype=bool)
    sightings = rows_of(n * n, np.where(myself, KIND["alone"], KIND["saw"]).ravel(), np.repeat(seats, n),
                        np.where(myself, core.NO_ONE, seats).ravel())  # fmt: skip
    friend, knows_motive = case.friend, case.knows_motive
    fact = jnp.where(knows_motive, FIRST_MOTIVE + case.driven[friend], FIRST_OBJECT + case.carried[friend])
    knows = jnp.where(knows_motive, KIND["drive_of"], KIND["object_of"])
    script = [
        rows_of(n, KIND["seat"], seats),
        rows_of(n, KIND["was"], seats, value=case.at),
        sightings,
        rows_of(n, KIND["carried"], seats, value=FIRST_OBJECT + case.carried),
        rows_of(n, KIND["driven"], seats, value=FIRST_MOTIVE + case.driven),
        rows_of(n, knows, seats, friend, fact),
        rows_of(n, KIND["empty"], seats, value=case.empty),
    ]
    rows = jnp.concatenate([part.reshape(n, -1, 4) for part in script], axis=1)
    seen = together | (myself & alone[:, None])
    present = jnp.concatenate([np.ones((n, 2), bool), seen, np.ones((n, 3), bool), is_culprit[:, None]], axis=1)
    audience = np.repeat(1 << seats, rows.shape[1])
    public = [rows_of(1, KIND["scene"], value=case.at[jnp.argmax(is_culprit)]), rows_of(1, KIND["round"], value=0)]
    return EventLog.empty(rules.spec.max_events).append(
        jnp.concatenate([rows.reshape(-1, 4), *public]),
        jnp.asarray(np.append(audience, [everybody] * 2).astype(np.uint16)),
        jnp.append(present.reshape(-1), np.ones(2, bool)),
    )


def rows_of(
    count: int, kind: Any, actor: Any = core.NO_ONE, target: Any = core.NO_ONE, value: Any = core.NO_ONE
) -> jax.Array:
    """int16[count, 4]: rows of the log from columns, each one number or `count` of them."""
    columns = [jnp.broadcast_to(jnp.asarray(x, jnp.int16), (count,)) for x in (kind, actor, target, value)]
    return jnp.stack(columns, axis=1)
