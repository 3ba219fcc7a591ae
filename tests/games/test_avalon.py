"""The compiled Avalon against the referee, its bounds, what it hides, and how its players fare."""

import dataclasses
import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.avalon import Avalon
from games.avalon_spec import (
    ASSASSIN,
    EVIL,
    FAILS_NEEDED,
    IS_EVIL,
    KIND,
    KNOWS,
    MERLIN,
    MERLIN_OR_MORGANA,
    PERCIVAL,
    QUEST,
    ROLES,
    SHOOT,
    TEAM_SIZES,
    VOTE,
)
from games.core import GameError, view_of_actor
from games.players.avalon import heuristic
from games.players.scripted import random_legal
from tests.games.avalon_referee import PHASES, TABLE, Referee, deck, replay, told
from tests.games.recording import BEYOND, QUICKLY, init_key, step_key

STATE_FIELDS = ("phase", "actor", "step", "outcome", "terminated", "truncated")
TIMED_FIELDS = (*STATE_FIELDS, "legal", "acting", "log_size")

# What the fast tier compiles: the ends of the ranges, all roles, both fifth rejections, with and without speech.
PRESETS: list[dict[str, Any]] = [
    {},
    {"num_seats": 7, "roles": "percival,morgana,oberon", "fifth_rejection": "approved", "discussion_rounds": 1,
     "speech_tokens": 4},
    {"num_seats": 10, "roles": "percival,morgana,mordred,oberon", "discussion_rounds": 2},
]  # fmt: skip
GAMES = (260, 140, 100)  # of each preset

EVERY: list[dict[str, Any]] = [
    {"num_seats": seats, "fifth_rejection": fifth, "roles": roles, "discussion_rounds": rounds, "speech_tokens": speech}
    for (seats, roles), (fifth, rounds, speech) in zip(
        [(seats, roles) for seats, roles in [
            (5, "merlin,assassin"), (6, "percival,morgana"), (7, "percival,oberon"), (8, "mordred"),
            (9, "percival,mordred,morgana"), (10, "percival,morgana,mordred,oberon")] for _ in range(2)],
        [("evil_wins", 0, 0), ("approved", 0, 0), ("evil_wins", 1, 4), ("approved", 2, 4), ("evil_wins", 2, 0),
         ("approved", 1, 0)] * 2,
        strict=True,
    )
]  # fmt: skip


def name(parameters: Any) -> str:
    if isinstance(parameters, int):
        return f"{parameters},000"
    return ",".join(f"{key}={value}" for key, value in parameters.items()) or "default"


def snapshot(game: Avalon, state: Any) -> dict[str, jax.Array]:
    masks = {"legal": game.legal_action_mask(state), "acting": game.acting_mask(state), "log_size": state.log.size}
    return {field: getattr(state, field) for field in STATE_FIELDS} | masks


def play(game: Avalon, scripted: bool, keys: jax.Array, wild: jax.Array, sensible: jax.Array) -> dict[str, jax.Array]:
    """Records games until the last one is over.

    Args:
      game: the rules.
      scripted: whether heuristic players take part (static).
      keys: one for each game.
      wild: float[games], share of actions that are any number, most of them illegal.
      sensible: bool[games, 2], whether the good and the evil play by the heuristic.
    """
    steps, see = game.spec.max_decisions + BEYOND, jax.vmap(functools.partial(snapshot, game))
    start = jax.vmap(lambda key: game.init(init_key(key)))(keys)

    def one(state: Any, key: jax.Array, time: jax.Array, wild: jax.Array, sensible: jax.Array) -> tuple:
        which, act_key, any_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 1), time), 3)
        view = view_of_actor(game, state)
        action = random_legal(view, act_key)
        if scripted:
            side = jnp.asarray(IS_EVIL)[view.role].astype(jnp.int32)
            action = jnp.where(sensible[side], heuristic(view, act_key), action)
        anything = jax.random.randint(any_key, (), -3, game.spec.num_actions + 5)
        action = jnp.where(jax.random.uniform(which) < wild, anything, action)
        return game.step(state, action, step_key(key, time)), action

    def body(carry: tuple) -> tuple:
        state, time, beyond, actions, seen = carry
        state, action = jax.vmap(one, (0, 0, None, 0, 0))(state, keys, time, wild, sensible)
        seen = jax.tree.map(lambda kept, new: kept.at[:, time + 1].set(new), seen, see(state))
        return state, time + 1, beyond + jnp.all(state.over), actions.at[:, time].set(action), seen

    first = see(start)
    seen = jax.tree.map(lambda leaf: jnp.zeros((leaf.shape[0], steps + 1, *leaf.shape[1:]), leaf.dtype), first)
    seen = jax.tree.map(lambda kept, new: kept.at[:, 0].set(new), seen, first)
    actions = jnp.zeros((keys.shape[0], steps), jnp.int32)
    last, time, _, actions, seen = jax.lax.while_loop(
        lambda carry: (carry[2] < BEYOND) & (carry[1] < steps), body, (start, jnp.int32(0), jnp.int32(0), actions, seen)
    )
    log = {"log_rows": last.log.rows, "log_audience": last.log.audience}
    return seen | log | {"actions": actions, "roles": last.roles, "steps": time}


@functools.cache
def compiled(game: Avalon, scripted: bool) -> Any:
    return jax.jit(functools.partial(play, game, scripted), compiler_options=QUICKLY)


def record_games(game: Avalon, count: int, seed: int, scripted: bool = False) -> dict[str, np.ndarray]:
    """Records games.

    Of random ones every fifth has 30 % arbitrary actions. Of scripted ones, in turn, both sides play by the heuristic,
    the good alone and the evil alone.
    """
    number = np.arange(count)
    wild = np.where(number % 5 == 4, 0.3, 0.0) * (not scripted)
    sensible = np.array([[True, True], [True, False], [False, True]])[number % 3] & scripted
    keys = jax.random.split(jax.random.key(seed), count)
    games = jax.device_get(compiled(game, scripted)(keys, wild.astype(np.float32), sensible))
    steps = int(games.pop("steps"))
    timed = {field: games[field][:, : steps + 1] for field in TIMED_FIELDS}
    return games | timed | {"actions": games["actions"][:, :steps]}


def single_records(games: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Cuts a batch into games, each with the steps up to its end and `BEYOND` ones after it."""
    for index in range(len(games["actions"])):
        game = {field: values[index] for field, values in games.items()}
        steps = min(int(game["step"][-1]) + BEYOND, len(game["actions"]))
        timed = {field: game[field][: steps + 1] for field in TIMED_FIELDS}
        yield game | timed | {"actions": game["actions"][:steps]}


@functools.cache
def recorded(preset: int, scripted: bool = False) -> dict[str, np.ndarray]:
    return record_games(Avalon(**PRESETS[preset]), GAMES[preset], seed=7, scripted=scripted)


def judge(parameters: dict[str, Any], games: dict[str, np.ndarray]) -> Counter[str]:
    """Has the referee replay all games; returns how often each kind of row was logged."""
    kinds: Counter[str] = Counter()
    names = [kind.name for kind in Avalon(**parameters).spec.event_kinds]
    for game in single_records(games):
        referee = replay(parameters, {field: values.tolist() for field, values in game.items()})
        assert referee.decision is None
        kinds.update(names[event[0]] for event in referee.log)
    return kinds


@pytest.mark.parametrize("preset", range(3))
def test_the_referee_agrees_with_every_step(preset: int):
    kinds = judge(PRESETS[preset], recorded(preset))
    assert bool(kinds["unvoted"]) == (preset == 1)
    assert bool(kinds["utterance"]) == (preset == 1)
    assert bool(kinds["claim"]) == (preset > 0)
    for kind in ("evil", "pick", "vote", "approved", "rejected", "choice", "quest_succeeded", "quest_failed", "shot"):
        assert kinds[kind] > 0, kind
    assert kinds["win"] == GAMES[preset]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "thousands"), [*((preset, 10) for preset in PRESETS), *((each, 1) for each in EVERY)], ids=name
)
def test_the_referee_agrees_with_thousands_of_games(parameters: dict[str, Any], thousands: int):
    game = Avalon(**parameters)
    for seed in range(thousands):
        judge(parameters, record_games(game, 700, 100 + seed))
        judge(parameters, record_games(game, 300, 200 + seed, scripted=True))


def test_every_number_of_seats_and_both_fifth_rejections_are_recorded_somewhere():
    assert {(each["num_seats"], each["fifth_rejection"]) for each in EVERY} == {
        (seats, fifth) for seats in TABLE for fifth in ("evil_wins", "approved")
    }


@pytest.mark.parametrize("parameters", EVERY, ids=name)
def test_tables_and_decks_are_those_of_the_rules_page(parameters: dict[str, Any]):
    game, seats = Avalon(**parameters), parameters["num_seats"]
    assert sorted(ROLES[role].name for role in game.deck) == sorted(deck(seats, parameters["roles"]))
    assert TEAM_SIZES[seats] == tuple(TABLE[seats][1])
    assert sum(IS_EVIL[list(game.deck)]) == TABLE[seats][0]
    assert FAILS_NEEDED[seats] == tuple(TABLE[seats][2])
    for viewer in range(len(ROLES)):
        for other in range(len(ROLES)):
            mark = {EVIL: "evil", MERLIN_OR_MORGANA: "M"}.get(int(KNOWS[viewer, other]), "")
            assert mark == told(ROLES[viewer].name, ROLES[other].name)


def good_wins(games: dict[str, np.ndarray]) -> np.ndarray:
    """bool[games]."""
    return (games["outcome"][:, -1] * np.where(IS_EVIL[games["roles"]], -1, 1)).mean(axis=1) > 0


def chance_that_good_wins_random_play(parameters: dict[str, Any]) -> float:
    """From the rules alone: random picks, coins for votes and for the evil's choices, a random shot."""
    seats, fifth = parameters.get("num_seats", 5), parameters.get("fifth_rejection", "evil_wins")
    evil, sizes, losing = TABLE[seats]
    approved = sum(math.comb(seats, votes) for votes in range(seats // 2 + 1, seats + 1)) / 2**seats
    goes = 1 - (1 - approved) ** 5 if fifth == "evil_wins" else 1.0

    def succeeds(quest: int) -> float:
        total, size = 0.0, sizes[quest]
        for bad in range(min(evil, size) + 1):
            teams = math.comb(evil, bad) * math.comb(seats - evil, size - bad) / math.comb(seats, size)
            total += teams * sum(math.comb(bad, fails) for fails in range(min(losing[quest], bad + 1))) / 2**bad
        return total

    def reaches(quest: int, won: int, lost: int) -> float:
        if won == 3 or lost == 3:
            return float(won == 3)
        share = succeeds(quest)
        return goes * (share * reaches(quest + 1, won + 1, lost) + (1 - share) * reaches(quest + 1, won, lost + 1))

    oberon = "oberon" in parameters.get("roles", "")
    targets = seats - evil + oberon
    return reaches(0, 0, 0) * (1 - 1 / targets)


@pytest.mark.parametrize("preset", range(3))
def test_random_play_wins_as_often_as_reckoned(preset: int):
    games, expected = recorded(preset), chance_that_good_wins_random_play(PRESETS[preset])
    won = good_wins(games)[np.arange(GAMES[preset]) % 5 != 4]
    assert abs(won.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(won))


def test_scripted_players_beat_random_ones_on_both_sides():
    games = recorded(0, scripted=True)
    judge({}, games)
    both, good_alone, evil_alone = (good_wins(games)[start::3].mean() for start in range(3))
    by_chance = chance_that_good_wins_random_play({})
    assert good_alone > by_chance + 0.2
    assert evil_alone < by_chance - 0.2
    assert 0.2 < both < 0.7


def test_deals_and_first_leaders_are_uniform():
    games = recorded(0)
    roles, count = games["roles"], len(games["roles"])
    for index, role in enumerate(ROLES):
        found = (roles == index).sum(axis=0)
        share = deck(5, "merlin,assassin").count(role.name) / 5
        assert np.all(np.abs(found - share * count) <= 4 * np.sqrt(count * share * (1 - share))), role.name
    leaders = np.bincount(games["actor"][:, 0], minlength=5)
    assert np.all(np.abs(leaders - count / 5) <= 4 * np.sqrt(count * 0.16))


# Bounds.


@pytest.mark.parametrize("preset", range(3))
def test_no_game_exceeds_what_its_spec_states(preset: int):
    for game in single_records(recorded(preset)):
        assert_within_bounds(Avalon(**PRESETS[preset]), game)


def usage(game: Avalon, record: dict[str, Any]) -> dict[str, int]:
    """What a game used of each bound: the most over its seats, up to the last turn of each."""
    spec = game.spec
    kinds, phases = [kind.name for kind in spec.event_kinds], [phase.name for phase in spec.phases]
    used = Counter({"decisions": int(record["step"][-1]), "events": int(record["log_size"][-1])})
    for seat in range(spec.num_seats):
        times = [time for time, actor in enumerate(record["actor"]) if actor == seat]
        sizes = [0, *(int(record["log_size"][time]) for time in times)]
        used["new_events"] = max(used["new_events"], *np.diff(sizes).tolist())
        shown = zip(record["log_rows"][: sizes[-1]], record["log_audience"], strict=False)
        seen = [kinds[row[0]] for row, mask in shown if int(mask) >> seat & 1]
        done = [phases[record["phase"][time]] for time in times]
        for what, found, bounds in (("shown", seen, spec.visible_events), ("turns", done, spec.turns)):
            assert set(found) <= {each for names, _ in bounds for each in names}
            for names, _ in bounds:
                label = " ".join((what, *names))
                used[label] = max(used[label], sum(found.count(each) for each in names))
    return used


def bounds_of(game: Avalon) -> dict[str, int]:
    spec = game.spec
    shown = {" ".join(("shown", *names)): most for names, most in spec.visible_events}
    turns = {" ".join(("turns", *names)): most for names, most in spec.turns}
    totals = {"decisions": spec.max_decisions, "events": spec.max_events, "new_events": spec.max_new_events}
    return shown | turns | totals


def assert_within_bounds(game: Avalon, record: dict[str, Any]) -> None:
    bounds = bounds_of(game)
    for what, count in usage(game, record).items():
        assert count <= bounds[what], what


@functools.cache
def extreme_picks(seats: int) -> tuple[tuple[int, tuple[int, ...], int], tuple[int, tuple[int, ...], int]]:
    """Most picks of others, and of its own, of one seat: how many, the quests' proposals, its place after the first."""
    shown, led = (0, (), 0), (0, (), 0)
    for proposals in itertools.product(range(1, 6), repeat=5):
        teams = [size for size, times in zip(TABLE[seats][1], proposals, strict=True) for _ in range(times)]
        for place in range(seats):
            own = sum(teams[place::seats])
            shown, led = max(shown, (sum(teams) - own, proposals, place)), max(led, (own, proposals, place))
    return shown, led


def long_game(parameters: dict[str, Any], proposals: Sequence[int], place: int, seed: int) -> dict[str, Any]:
    """A game of the referee's in which the first two quests fail and the others succeed.

    Args:
      parameters: the game's.
      proposals: how many each quest takes.
      place: the assassin's, after the first leader; he is on every team.
      seed: of all that is left open.
    """
    chance = np.random.default_rng(seed)
    seats = parameters["num_seats"]
    roles = chance.permutation(deck(seats, parameters["roles"])).tolist()
    assassin = roles.index("assassin")
    referee = Referee(parameters, roles, (assassin - place) % seats)
    record: dict[str, Any] = {"actor": [], "phase": [], "log_size": [], "step": []}
    while True:
        record["actor"].append(referee.actor)
        record["phase"].append(PHASES.index(referee.phase))
        record["log_size"].append(len(referee.log))
        record["step"].append(referee.step_index)
        if referee.decision is None:
            break
        quest, proposal = (int(part.split()[1]) for part in referee.where.split(", "))
        legal = sorted(referee.legal)
        if referee.phase == "propose":
            referee.step(assassin if assassin in legal else int(chance.choice(legal)))
        elif referee.phase == "vote":
            referee.step(legal[0] if proposal + 1 == proposals[quest] else legal[1])
        elif referee.phase == "quest":
            referee.step(legal[-1] if quest < 2 else legal[0])
        else:
            referee.step(int(chance.choice(legal)))
    record["log_rows"] = [event[:4] for event in referee.log]
    record["log_audience"] = [sum(1 << seat for seat in event[4]) for event in referee.log]
    return record


@pytest.mark.parametrize("parameters", EVERY, ids=name)
def test_the_longest_games_reach_the_bounds_and_none_exceeds_them(parameters: dict[str, Any]):
    game, most, seats = Avalon(**parameters), Counter[str](), parameters["num_seats"]
    (_, most_shown, place_shown), (_, most_led, place_led) = extreme_picks(seats)
    chance = np.random.default_rng(1)
    games = [(most_shown, place_shown), (most_led, place_led)]
    games += [([5] * 5, seed % seats) for seed in range(20)]
    games += [(chance.integers(1, 6, 5).tolist(), seed % seats) for seed in range(4)]
    for seed, (proposals, place) in enumerate(games):
        most |= usage(game, long_game(parameters, proposals, place, seed))
    assert dict(most) == {what: bound for what, bound in bounds_of(game).items() if bound}


# Hiding.


def with_other_secrets(state: Any, seat: int, chance: np.random.Generator) -> Any:
    """The state as it may be for all that `seat` knows, in all parts that bear on it later."""
    roles = np.asarray(state.roles)
    seen = np.asarray(state.log.rows)[np.asarray(state.log.visible_to(seat))]
    private = (KIND["evil"], KIND["merlin_or_morgana"])
    before = [(kind, target) for kind, _, target, _ in seen.tolist() if kind in private]
    for _ in range(200):
        other = chance.permutation(roles)
        if other[seat] == roles[seat] and before == [
            (KIND["evil"] if mark == "evil" else KIND["merlin_or_morgana"], target)
            for target in range(len(roles))
            if target != seat and (mark := told(ROLES[other[seat]].name, ROLES[other[target]].name))
        ]:
            break
    else:
        other = roles

    def others(field: Any, low: int) -> jax.Array:
        values = np.asarray(field)
        changed = np.where(values >= 0, chance.integers(low, 2, len(roles)), values).astype(np.int8)
        changed[seat] = values[seat]
        return jnp.asarray(changed)

    # Others' choices may only be fails where the others are evil; own ones stay.
    choices = np.asarray(others(state.choices, 0))
    choices = np.where((choices == 0) & ~IS_EVIL[other] & (np.arange(len(roles)) != seat), 1, choices).astype(np.int8)
    return dataclasses.replace(
        state, roles=jnp.asarray(other), ballots=others(state.ballots, 0), choices=jnp.asarray(choices)
    )


def test_hidden_roles_votes_and_choices_change_nothing_that_a_seat_can_observe():
    game, chance = Avalon(**PRESETS[1]), np.random.default_rng(5)
    step = jax.jit(game.step, compiler_options=QUICKLY)
    legal = jax.jit(game.legal_action_mask, compiler_options=QUICKLY)
    visible = jax.jit(lambda log: jax.vmap(log.visible_to)(jnp.arange(7)), compiler_options=QUICKLY)
    compared: Counter[str] = Counter()
    for seed in range(6):
        key = jax.random.key(seed)
        state = game.init(key)
        while not state.over:
            seat = int(chance.integers(7))
            other = with_other_secrets(state, seat, chance)
            asked = dataclasses.replace(state, actor=jnp.int8(seat))
            again = dataclasses.replace(other, actor=jnp.int8(seat))
            if int(state.phase) != SHOOT:  # who is asked to shoot is the assassin
                np.testing.assert_array_equal(legal(asked), legal(again))
                np.testing.assert_array_equal(game.acting_mask(state), game.acting_mask(other))
            choices = np.flatnonzero(legal(state))
            action = jnp.int32(chance.choice(choices))
            if other is not state and int(state.phase) != SHOOT and bool(legal(other)[action]):
                one, two = step(state, action, key), step(other, action, key)
                assert_same_view(one, two, seat, visible, compared)
                compared["worlds"] += not np.array_equal(state.roles, other.roles)
            state = step(state, action, key)
    assert compared["goes on"] > 300
    assert compared["worlds"] > 200


def assert_same_view(one: Any, two: Any, seat: int, visible: Any, compared: Counter[str]) -> None:
    """Unless the step revealed something, the seat sees the same rows, and the same seat is next in the same phase."""
    shown = [np.asarray(state.log.rows)[np.asarray(visible(state.log))[seat]].tolist() for state in (one, two)]
    revealed = {KIND["vote"], KIND["quest_succeeded"], KIND["quest_failed"], KIND["win"]}
    if all(shown[0][-back][0] not in revealed for back in range(1, min(5, len(shown[0])))):
        assert shown[0] == shown[1]
        assert (int(one.phase), int(one.actor)) == (int(two.phase), int(two.actor))
        compared["goes on"] += 1


@pytest.mark.parametrize("preset", range(3))
def test_who_voted_and_who_failed_what_is_told_only_as_it_may_be(preset: int):
    """Within a vote and a quest no row is logged; who played what is in nobody's audience, ever."""
    games = recorded(preset)
    for record in single_records(games):
        phases, sizes = record["phase"], record["log_size"]
        inside = (phases[1:] == phases[:-1]) & np.isin(phases[1:], [VOTE, QUEST]) & (record["step"][1:] > 0)
        assert np.all(np.diff(sizes)[inside] == 0)
        rows, audience = record["log_rows"][: sizes[-1]], record["log_audience"][: sizes[-1]]
        assert np.all(audience[rows[:, 0] == KIND["choice"]] == 0)
        private = np.isin(rows[:, 0], [KIND[kind] for kind in ("seat", "evil", "merlin", "merlin_or_morgana")])
        assert np.array_equal(audience[private], 1 << rows[private, 1])


def test_what_good_members_play_is_forced_and_evil_ones_may_choose():
    game = Avalon()
    fail = game.spec.action_labels.index(" fail")
    success = game.spec.action_labels.index(" success")
    for record in single_records(recorded(0)):
        for time in np.flatnonzero(record["phase"] == QUEST):
            evil = IS_EVIL[record["roles"][record["actor"][time]]]
            assert np.flatnonzero(record["legal"][time]).tolist() == ([success, fail] if evil else [success])


# What else is promised of a game's functions.


def test_one_game_step_by_step_equals_the_batch_compiled_or_not():
    game, batch = Avalon(), recorded(0)
    index = int(np.argmin([len(each["actions"]) for each in single_records(batch)]))
    one = list(single_records(batch))[index]
    key = jax.random.split(jax.random.key(7), GAMES[0])[index]
    step = jax.jit(game.step, compiler_options=QUICKLY)
    state = eager = game.init(init_key(key))
    for time, action in enumerate(one["actions"]):
        for field, value in snapshot(game, state).items():
            np.testing.assert_array_equal(value, one[field][time], err_msg=field)
        state = step(state, jnp.int32(action), step_key(key, time))
        if time < 8:  # picks, a vote and what follows
            eager = game.step(eager, jnp.int32(action), step_key(key, time))
            jax.tree.map(np.testing.assert_array_equal, eager, state)
    np.testing.assert_array_equal(state.log.rows, one["log_rows"])
    for action in (-1, 0, 3, game.spec.num_actions - 1, 10_000):  # the game is over and stays as it is
        jax.tree.map(np.testing.assert_array_equal, step(state, jnp.int32(action), key), state)
    assert state.over and state.actor == -1 and not state.truncated
    assert not game.acting_mask(state).any() and game.legal_action_mask(state).all()


def test_an_illegal_action_becomes_the_lowest_legal_one():
    game, key = Avalon(), jax.random.key(0)
    step = jax.jit(game.step, compiler_options=QUICKLY)
    state = step(game.init(key), jnp.int32(0), key)
    for action in (0, -1, 7, game.spec.num_actions, 10_000):  # seat 0 is on the team already
        jax.tree.map(np.testing.assert_array_equal, step(state, jnp.int32(action), key), step(state, jnp.int32(1), key))


def test_labels_stand_where_the_rules_page_puts_them():
    labels = Avalon(num_seats=6).spec.action_labels
    assert len(labels) == 3 * 6 + 8 + 5
    assert (labels[2], labels[6 + 2], labels[12 + 2]) == (" Player 3", " accuse Player 3", " defend Player 3")
    assert labels[18:26] == tuple(f" claim {title}" for title in (
        "Merlin", "Percival", "Morgana", "Mordred", "Oberon", "servant", "minion", "assassin"))  # fmt: skip
    assert labels[26:] == (" pass", " approve", " reject", " success", " fail")


def test_the_role_prefix_names_what_the_role_knows():
    texts = Avalon(num_seats=10, roles="percival,morgana,mordred,oberon").spec.role_texts
    assert "but not Mordred" in texts[MERLIN][0]
    assert "Morgana" in texts[PERCIVAL][0]
    assert "but not Oberon" in texts[ASSASSIN][0]
    assert [brief for _, brief in Avalon().spec.role_texts][MERLIN] == "You are Merlin"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_seats": 4}, "avalon-v0: num_seats is between 5 and 10, not 4"),
        ({"num_seats": 11}, "avalon-v0: num_seats is between 5 and 10, not 11"),
        ({"fifth_rejection": "random"}, "avalon-v0: fifth_rejection is one of evil_wins, approved, not 'random'"),
        ({"roles": "merlin,lancelot"}, "avalon-v0: roles names each of merlin, assassin, percival, morgana, mordred"),
        ({"roles": "percival,percival"}, "avalon-v0: roles names each of merlin, assassin, percival, morgana, mordred"),
        ({"roles": "servant"}, "avalon-v0: roles names each of merlin, assassin, percival, morgana, mordred, oberon"),
        ({"roles": "morgana,mordred"}, "avalon-v0: roles names at most 2 evil ones, the assassin included, with num_"),
        ({"discussion_rounds": 3}, "avalon-v0: discussion_rounds is between 0 and 2, not 3"),
        ({"speech_tokens": 8}, "avalon-v0: speech_tokens is 0 while discussion_rounds is 0, not 8"),
        ({"discussion_rounds": 1, "speech_tokens": -1}, "avalon-v0: speech_tokens is between 0 and 4096, not -1"),
        ({"thought_tokens": 5000}, "avalon-v0: thought_tokens is between 0 and 4096, not 5000"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(parameters: dict[str, Any], message: str):
    with pytest.raises(GameError) as refusal:
        Avalon(**parameters)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
