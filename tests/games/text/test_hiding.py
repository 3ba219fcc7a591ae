"""Nothing leaks: what a seat must not know changes nothing that it can observe.

Three readings of this. A state whose hidden parts are altered looks the same to the seat. A whole game lived through a
second time with other roles and other night acts, as far as they are secret, gives the seat the same stream, bit for
bit. And in many games of the real rollout, any two that a seat may not tell apart up to its k-th turn have given it the
same tokens up to there.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import Game, view_of_actor
from games.players.scripted import random_legal
from games.registry import make
from games.text.lexicon import build_lexicon, render_delta
from games.werewolf import DOCTOR, KIND, OVER, SEER, SPEAK, VILLAGER, VOTE, WOLF
from maro_jax.policy.config import tiny_config
from maro_jax.policy.decoder import Policy
from maro_jax.selfplay.episodes import RANDOM, RolloutPlan
from maro_jax.selfplay.rollout import ROLLOUT_AXES, build_rollout
from maro_jax.selfplay.table import RolloutSizes, Table
from tests.games.recording import QUICKLY
from tests.games.text import host

VARIANTS: list[dict[str, Any]] = [
    {"num_seats": 6, "speech_tokens": 3, "max_days": 4},
    {"num_seats": 8, "night_order": "seer,doctor,wolf", "max_days": 4},
]


class Room:
    """A game on the host with what its text layer shows to the acting seat."""

    def __init__(self, parameters: dict[str, Any]):
        self.game: Game = make("werewolf-v0", **parameters)
        self.spec = self.game.spec
        tokenizer = host.tokenizer_of("tiny")
        self.lexicon = build_lexicon(self.spec, tokenizer, vocab_size=tokenizer.vocab_size, brief=True)
        self.step = jax.jit(self.game.step, compiler_options=QUICKLY)
        self.init = jax.jit(self.game.init, compiler_options=QUICKLY)
        self.observe = jax.jit(self._observe, compiler_options=QUICKLY)
        chance = np.random.default_rng(0)
        shape = (self.spec.max_decisions, self.spec.speech_tokens)
        self.speeches = jnp.asarray(chance.choice(np.flatnonzero(self.lexicon.speech_mask), shape), jnp.int32)

    def _observe(self, state: Any, seat: jax.Array, cursor: jax.Array, speeches: jax.Array) -> dict[str, jax.Array]:
        """All that the stream and the scripted player of a seat are made from, were it to act now."""
        window = jnp.minimum(cursor + jnp.arange(self.spec.max_new_events), self.spec.max_events - 1)
        new = cursor + jnp.arange(self.spec.max_new_events) < state.log.size
        visible = state.log.visible_to(seat)[window] & new
        lengths = jnp.full((speeches.shape[0],), self.spec.speech_tokens)
        tokens, count = render_delta(self.lexicon, state.log.rows[window], visible, state.phase, speeches, lengths)
        known = state.log.known_to(seat)
        return {
            "tokens": tokens,
            "count": count,
            "rows": jnp.where(known[:, None], state.log.rows, -1),
            "known": known,
            "legal": self.game.legal_action_mask(dataclasses.replace(state, actor=seat.astype(jnp.int8))),
            "view": view_of_actor(self.game, dataclasses.replace(state, actor=seat.astype(jnp.int8))).rows,
        }


@functools.cache
def room(variant: int) -> Room:
    return Room(VARIANTS[variant])


def random_game(place: Room, seed: int) -> Iterator[tuple[Any, int]]:
    """Yields each state of a random game and the action taken there (-1 at the end)."""
    key = jax.random.key(seed)
    chance = np.random.default_rng(seed)
    state = place.init(jax.random.fold_in(key, 0))
    legal_of = jax.jit(place.game.legal_action_mask, compiler_options=QUICKLY)
    while not state.over:
        action = int(chance.choice(np.flatnonzero(legal_of(state))))
        yield state, action
        state = place.step(state, jnp.int32(action), jax.random.fold_in(key, 1 + int(state.step)))
    yield state, -1


def secret_roles(state: Any, seat: int, chance: np.random.Generator) -> np.ndarray:
    """Roles as they may be for all that `seat` knows: a random rearrangement among those it knows nothing certain of."""
    roles = np.asarray(state.roles).copy()
    known = np.asarray(state.log.known_to(seat))
    certain = {seat}
    for kind, _, target, _ in np.asarray(state.log.rows)[known].tolist():
        if kind in (KIND["fellow"], KIND["check_result"], KIND["death"], KIND["expelled"]):
            certain.add(target)
    open_seats = [other for other in range(len(roles)) if other not in certain]
    roles[open_seats] = chance.permutation(roles[open_seats])
    return roles


def altered(state: Any, seat: int, chance: np.random.Generator) -> Any:
    """The state with all that `seat` must not know replaced by something else."""
    num_seats = len(state.roles)

    def others(field: np.ndarray) -> jnp.ndarray:
        changed = chance.integers(-1, num_seats, num_seats).astype(np.int8)
        changed[seat] = field[seat]
        return jnp.asarray(changed)

    rows, known = np.asarray(state.log.rows).copy(), np.asarray(state.log.known_to(seat))
    secret = ~known & (np.arange(len(rows)) < int(state.log.size))
    rows[secret] = chance.integers(0, num_seats, (secret.sum(), 4))
    rows[secret, 1] = (seat + 1 + chance.integers(0, num_seats - 1, secret.sum())) % num_seats  # another's act
    role = int(state.roles[seat])
    mine = {"doctor": role == DOCTOR, "seer": role == SEER}
    return dataclasses.replace(
        state,
        roles=jnp.asarray(secret_roles(state, seat, chance)),
        log=dataclasses.replace(state.log, rows=jnp.asarray(rows)),
        picks=state.picks if role == WOLF else others(np.asarray(state.picks)),
        protected=state.protected if mine["doctor"] else jnp.int8(chance.integers(-1, num_seats)),
        check=state.check if mine["seer"] else jnp.int8(chance.integers(-1, num_seats)),
        checked=state.checked if mine["seer"] else jnp.asarray(chance.random(num_seats) < 0.5),
        votes=others(np.asarray(state.votes)),
    )


def assert_same(one: Any, other: Any, where: str) -> None:
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=f"{where}, {name}")


@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_a_seat_sees_the_same_whatever_is_secret(variant: int):
    place, chance, differing = room(variant), np.random.default_rng(5), 0
    for seed in range(2):
        cursor = [0] * place.spec.num_seats
        for state, action in random_game(place, seed):
            if action < 0:
                break
            for seat in range(place.spec.num_seats):
                # Only to the seat that acts can its legal actions be known; others are asked in a public phase.
                if seat != state.actor and int(state.phase) not in (SPEAK, VOTE):
                    continue
                other = altered(state, seat, chance)
                seen = place.observe(state, jnp.int32(seat), jnp.int32(cursor[seat]), place.speeches)
                again = place.observe(other, jnp.int32(seat), jnp.int32(cursor[seat]), place.speeches)
                assert_same(seen, again, f"game {seed}, step {int(state.step)}, seat {seat}")
                differing += not np.array_equal(state.roles, other.roles)
            cursor[int(state.actor)] = int(state.log.size)
    assert differing > 50


def test_the_order_of_public_turns_depends_on_nothing_secret():
    """Given the same chance, who speaks and votes next is the same in every world that looks alike."""
    place, chance = room(0), np.random.default_rng(6)
    compared = 0
    for seed in range(2):
        for state, action in random_game(place, seed):
            if action < 0 or int(state.phase) not in (SPEAK, VOTE):
                continue
            seat, key = int(state.actor), jax.random.key(seed)
            other = altered(state, seat, chance)
            one, two = (place.step(world, jnp.int32(action), key) for world in (state, other))
            if int(one.phase) in (SPEAK, VOTE):  # the vote goes on: nothing is revealed yet
                assert (int(one.phase), int(one.actor)) == (int(two.phase), int(two.actor))
                np.testing.assert_array_equal(place.game.acting_mask(one)[seat], place.game.acting_mask(two)[seat])
                compared += 1
    assert compared > 20


# The same life twice.


@dataclasses.dataclass
class Life:
    """A game as one seat has lived it: its stream, its legal masks, its actions; and the final state."""

    stream: list[int]
    legal: list[np.ndarray]
    hidden: list[tuple[int, ...]]
    last: Any


def live(place: Room, key: jax.Array, roles: np.ndarray | None, seat: int, choose: Any) -> Life:
    """Plays a game, with given roles or as dealt, and keeps what `seat` gets to see."""
    state = place.init(jax.random.fold_in(key, 0))
    if roles is not None:
        state = dealt(place, jax.random.fold_in(key, 0), roles)
    cursor, life = 0, Life([], [], [], state)
    while not state.over:
        seen = jax.device_get(place.observe(state, state.actor.astype(jnp.int32), jnp.int32(cursor), place.speeches))
        action = choose(state, seen["legal"])
        assert seen["legal"][action]
        if int(state.actor) == seat:
            life.stream += [*seen["tokens"][: seen["count"]].tolist(), -action]
            life.legal.append(seen["legal"])
            cursor = int(state.log.size)
        else:
            life.hidden.append((int(state.phase), int(state.actor), action))
        state = place.step(state, jnp.int32(action), jax.random.fold_in(key, 1 + int(state.step)))
    life.last = state
    return life


def dealt(place: Room, key: jax.Array, roles: np.ndarray) -> Any:
    """The opening of a game with given roles; `init` reads them from its one draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "permutation", lambda *_: jnp.asarray(roles, jnp.int8))
        return place.game.init(key)


def nights_of(place: Room, state: Any) -> dict[int, tuple[int, int, dict[int, int]]]:
    """What each night of a finished game led to: the seat that died or -1, whom the doctor protected, who was checked."""
    nights: dict[int, tuple[int, int, dict[int, int]]] = {}
    day, protected, checks = 0, -1, {}
    for kind, actor, target, value in np.asarray(state.log.rows)[: int(state.log.size)].tolist():
        if kind == KIND["night"]:
            day, protected, checks = value, -1, {}
        elif kind == KIND["protect"]:
            protected = target
        elif kind == KIND["check"]:
            checks[actor] = target
        elif kind in (KIND["death"], KIND["no_death"]):
            nights[day] = (target, protected, checks)
    return nights


def secret_life(place: Room, first: Life, seat: int, key: jax.Array, chance: np.random.Generator) -> Life:
    """Lives `first` again with other secrets: other roles where `seat` cannot know them, other night acts as far as they
    lead to the same dawn; all that is public stays as it was."""
    roles = secret_roles(first.last, seat, chance)
    nights, role = nights_of(place, first.last), int(first.last.roles[seat])
    public = defaultdict(list)
    for kind, actor, target, value in np.asarray(first.last.log.rows)[: int(first.last.log.size)].tolist():
        if kind == KIND["vote"]:
            public[VOTE, actor].append(target)
        elif kind in (KIND["accuse"], KIND["defend"], KIND["claim"], KIND["report"], KIND["pass"]):
            public[SPEAK, actor].append(speech_action(place, kind, target, value))
    mine = [-token for token in first.stream if token <= 0]
    own = iter(mine_by_turn(place, first))
    assert len(mine) == len(first.legal)
    shared_pick: dict[int, int] = {}

    def choose(state: Any, legal: np.ndarray) -> int:
        phase, actor, day = int(state.phase), int(state.actor), int(state.day)
        if actor == seat:
            action = next(own)
            if phase in (SPEAK, VOTE):
                public[phase, actor].pop(0)
            return action
        if phase in (SPEAK, VOTE):
            return public[phase, actor].pop(0)
        died, protected, _ = nights[day]
        doctor_lives = bool(np.any(np.asarray(state.alive) & (np.asarray(state.roles) == DOCTOR)))
        if phase == SEER - SEER + 2:  # the seer checks anybody
            return int(chance.choice(np.flatnonzero(legal)))
        if day not in shared_pick:  # whom all wolves pick tonight
            alive = np.asarray(state.alive)
            targets = np.flatnonzero(alive & (np.asarray(state.roles) != WOLF))
            shared_pick[day] = died if died >= 0 else protected if role == DOCTOR else int(chance.choice(targets))
            assert died >= 0 or doctor_lives
        if phase == 0:
            return shared_pick[day]
        options = np.flatnonzero(legal & (np.arange(len(legal)) != shared_pick[day]))
        return int(chance.choice(options)) if died >= 0 else shared_pick[day]

    return live(place, key, roles, seat, choose)


def mine_by_turn(place: Room, life: Life) -> list[int]:
    return [-token for token in life.stream if token <= 0]


def speech_action(place: Room, kind: int, target: int, value: int) -> int:
    """The action index of a logged speech act."""
    n = place.spec.num_seats
    if kind == KIND["report"]:
        return (3 * n + 4 if value else 4 * n + 4) + target
    return {KIND["accuse"]: n + target, KIND["defend"]: 2 * n + target, KIND["claim"]: 3 * n + value,
            KIND["pass"]: 5 * n + 4}[kind]  # fmt: skip
