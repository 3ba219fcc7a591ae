"""Nothing leaks: what a seat must not know changes nothing that it can observe.

Three readings of this. A state whose hidden parts are altered looks the same to the seat. A whole game lived through a
second time with other roles and other night acts, as far as they are secret, gives the seat the same stream, bit for
bit. And in many games of the real rollout, any two that a seat may not tell apart up to its k-th turn have given it the
same tokens up to there.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import Game, view_of_actor
from games.registry import make
from games.text.lexicon import build_lexicon, render_delta
from games.werewolf_spec import DOCTOR, DOCTOR_PHASE, KIND, SEER, SEER_PHASE, SPEAK, VILLAGER, VOTE, WOLF, WOLF_PHASE
from maro_jax.policy.config import tiny_config
from maro_jax.policy.decoder import Policy
from maro_jax.selfplay.episodes import RANDOM, RolloutPlan
from maro_jax.selfplay.rollout import ROLLOUT_AXES, build_rollout
from maro_jax.selfplay.table import RolloutSizes, Table
from tests.games.recording import QUICKLY
from tests.games.text import host

VARIANTS: list[dict[str, Any]] = [
    {"num_seats": 6, "speech_tokens": 3, "max_days": 2},
    {"num_seats": 8, "night_order": "seer,doctor,wolf", "max_days": 3},
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
        self.legal = jax.jit(self.game.legal_action_mask, compiler_options=QUICKLY)
        self.deal = jax.jit(self._deal, compiler_options=QUICKLY)
        self.observe = jax.jit(self._observe, compiler_options=QUICKLY)
        chance = np.random.default_rng(0)
        shape = (self.spec.max_decisions, self.spec.speech_tokens)
        self.speeches = jnp.asarray(chance.choice(np.flatnonzero(self.lexicon.speech_mask), shape), jnp.int32)

    def _deal(self, roles: jax.Array) -> Any:
        """The opening of a game with given roles, put in the place of the only draw of `init`."""
        with mock.patch.object(jax.random, "permutation", lambda *_: roles):
            return self.game.init(jax.random.key(0))

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
    while not state.over:
        action = int(chance.choice(np.flatnonzero(place.legal(state))))
        yield state, action
        state = place.step(state, jnp.int32(action), jax.random.fold_in(key, 1 + int(state.step)))
    yield state, -1


def secret_roles(state: Any, seat: int, chance: np.random.Generator) -> np.ndarray:
    """Roles as they may be for all that `seat` knows: rearranged among those it knows nothing certain of."""
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

Turn = tuple[tuple[int, ...], tuple[bool, ...], int]  # tokens shown, legal mask, action
Choose = Callable[[Any, np.ndarray], int]


@dataclasses.dataclass
class Life:
    """A game as one seat has lived it, and what was kept from it.

    Attributes:
      turns: all that the seat has observed and done.
      secrets: (phase, seat, action) of the others' night acts.
      last: the final state.
    """

    turns: list[Turn]
    secrets: list[tuple[int, int, int]]
    last: Any


def live(place: Room, key: jax.Array, roles: np.ndarray, seat: int, choose: Choose) -> Life:
    """Plays a game from a given deal; everybody acts by `choose(state, legal)`."""
    state, cursor = place.deal(jnp.asarray(roles, jnp.int8)), 0
    life = Life([], [], state)
    while not state.over:
        actor = int(state.actor)
        seen = jax.device_get(place.observe(state, jnp.int32(actor), jnp.int32(cursor), place.speeches))
        action = choose(state, seen["legal"])
        assert seen["legal"][action]
        if actor == seat:
            shown = tuple(seen["tokens"][: seen["count"]].tolist())
            life.turns.append((shown, tuple(seen["legal"].tolist()), action))
            cursor = int(state.log.size)
        elif int(state.phase) <= SEER_PHASE:
            life.secrets.append((int(state.phase), actor, action))
        state = place.step(state, jnp.int32(action), jax.random.fold_in(key, int(state.step)))
    life.last = jax.device_get(state)
    return life


def agreeing_wolves(chance: np.random.Generator) -> Choose:
    """Random play, except that the wolves agree, so that no tie among their picks is left to chance."""
    picks: dict[int, int] = {}

    def choose(state: Any, legal: np.ndarray) -> int:
        action = int(chance.choice(np.flatnonzero(legal)))
        return picks.setdefault(int(state.day), action) if int(state.phase) == WOLF_PHASE else action

    return choose


def with_other_secrets(place: Room, life: Life, seat: int, chance: np.random.Generator) -> Choose:
    """Plays a game again: the same acts of `seat`, the same public acts and dawns, other acts at night."""
    role, own = int(life.last.roles[seat]), iter([action for *_, action in life.turns])
    public: dict[tuple[int, int], list[int]] = defaultdict(list)
    dawns: dict[int, tuple[int, int]] = {}  # who died (-1: nobody) and whom the doctor protected
    night, protected = 0, -1
    for kind, actor, target, value in life.last.log.rows[: life.last.log.size].tolist():
        name = place.spec.event_kinds[kind].name
        if name == "night":
            night, protected = value, -1
        elif name == "protect":
            protected = target
        elif name in ("death", "no_death"):
            dawns[night] = (target, protected)
        elif name == "vote":
            public[VOTE, actor].append(target)
        elif name in ("accuse", "defend", "claim", "report", "pass"):
            public[SPEAK, actor].append(speech_action(place, name, target, value))
    prey: dict[int, int] = {}  # whom the wolves pick, by night

    def choose(state: Any, legal: np.ndarray) -> int:
        phase, actor, day = int(state.phase), int(state.actor), int(state.day)
        if phase in (SPEAK, VOTE):
            action = public[phase, actor].pop(0)
            assert actor != seat or action == next(own)
            return action
        if actor == seat:
            return next(own)
        died, saved = dawns[day]
        if day not in prey:
            huntable = np.flatnonzero(np.asarray(state.alive) & (np.asarray(state.roles) != WOLF))
            known = died if died >= 0 else saved if role in (WOLF, DOCTOR) else int(chance.choice(huntable))
            prey[day] = known
        if phase == SEER_PHASE:
            return int(chance.choice(np.flatnonzero(legal)))
        if phase == DOCTOR_PHASE and died >= 0:
            return int(chance.choice(np.setdiff1d(np.flatnonzero(legal), prey[day])))
        return prey[day]

    return choose


def speech_action(place: Room, kind: str, target: int, value: int) -> int:
    """The action index of a logged speech act."""
    label = {
        "accuse": f" accuse Player {target + 1}",
        "defend": f" defend Player {target + 1}",
        "claim": f" claim {place.spec.roles[value].name}",
        "report": f" report {'wolf' if value else 'good'} Player {target + 1}",
        "pass": " pass",
    }[kind]
    return place.spec.action_labels.index(label)


@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_a_seat_lives_the_same_life_whatever_is_secret(variant: int):
    place, chance = room(variant), np.random.default_rng(9)
    wolves = 2 if place.spec.num_seats >= 7 else 1
    deck = np.array([WOLF] * wolves + [SEER, DOCTOR] + [VILLAGER] * (place.spec.num_seats - wolves - 2), np.int8)
    other_roles, other_nights, roles_seen, turns = 0, 0, set(), 0
    for number in range(24):
        seat, key, roles = number % place.spec.num_seats, jax.random.key(number), chance.permutation(deck)
        first = live(place, key, roles, seat, agreeing_wolves(chance))
        quiet = {target for kind, actor, target, _ in first.last.log.rows.tolist() if kind == KIND["protect"]}
        candidates = [secret_roles(first.last, seat, chance) for _ in range(20)]
        # Whoever a doctor has protected may be someone the wolves went for, so no wolf.
        worlds = [world for world in candidates if roles[seat] != DOCTOR or not any(world[list(quiet)] == WOLF)]
        secret = next((world for world in worlds if not np.array_equal(world, roles)), roles)
        second = live(place, key, secret, seat, with_other_secrets(place, first, seat, chance))
        assert first.turns == second.turns, f"game {number}, seat {seat}"
        assert bool(first.last.terminated) == bool(second.last.terminated)
        roles_seen.add(int(roles[seat]))
        turns += len(first.turns)
        other_roles += not np.array_equal(roles, secret)
        other_nights += first.secrets != second.secrets
    assert roles_seen == {WOLF, SEER, DOCTOR, VILLAGER}
    assert turns > 60
    assert other_roles > 14
    assert other_nights > 14


# The real rollout.


def test_what_a_seat_cannot_tell_apart_has_the_same_tokens_in_the_rollout():
    game = make("werewolf-v0", num_seats=5, max_days=2, speech_acts=False)
    tokenizer = host.tokenizer_of("tiny")
    table = Table.lay(game, Policy(tiny_config(tokenizer.vocab_size)), tokenizer)
    episodes = 1500
    sizes = RolloutSizes.fit(table, lanes=250, capacity=table.stream_capacity(0, "refuse"))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1, 1), ROLLOUT_AXES)
    rollout = build_rollout(table, sizes, mesh, models=0, scripted=True)
    plan = RolloutPlan(
        episode=jnp.arange(episodes),
        deal=jnp.arange(episodes),
        holders=jnp.full((episodes, len(table.spec.sides)), RANDOM, jnp.int8),
    )
    inputs = ({}, jnp.zeros((0,)), jax.random.key(3), plan)
    played, _ = jax.device_get(jax.jit(rollout).lower(*inputs).compile(compiler_options=QUICKLY)(*inputs))
    assert not played.overflowed.any()
    acts = played.behaviours
    # By all that a seat may know when it is asked: what it was asked with, and which secret worlds that befell.
    asked: dict[tuple, tuple] = {}
    worlds: dict[tuple, set[tuple]] = defaultdict(set)
    for episode in range(episodes):
        rows, count = played.event_rows[episode], int(played.event_count[episode])
        audience, logged = played.event_audience[episode], played.event_step[episode]
        own: dict[int, list[int]] = defaultdict(list)
        for decision, seat in enumerate(acts.seat[episode].tolist()):
            if seat < 0:
                break
            before = (np.arange(len(rows)) < count) & (logged <= decision)
            visible = before & ((audience >> seat & 1) == 1)
            role, phase = int(acts.role[episode, decision]), int(acts.phase[episode, decision])
            knows = (seat, role, phase, tuple(own[seat]), tuple(rows[visible].ravel().tolist()))
            shown = tuple(played.tokens[episode, seat, : acts.start[episode, decision]].tolist())
            told = (shown, tuple(acts.legal[episode, decision].tolist()))
            assert asked.setdefault(knows, told) == told, knows
            worlds[knows].add((*played.roles[episode].tolist(), *rows[before & ~visible].ravel().tolist()))
            own[seat].append(int(acts.action[episode, decision]))
    # The comparison had something to compare, beyond the first turns too.
    assert sum(len(secret) > 1 for secret in worlds.values()) > 300
    assert sum(len(secret) > 1 for (*_, own, _), secret in worlds.items() if own) > 100
