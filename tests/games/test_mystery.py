"""The compiled murder mystery against the referee, its cases, its bounds, what it hides, and how its players fare."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import GameError, view_of_actor
from games.mystery import Mystery
from games.mystery_spec import CULPRIT, KIND, ROLES, SHOW, TURN, VOTE, layout
from games.players.mystery import heuristic
from games.players.scripted import random_legal
from tests.benchmarks.pairings import side_wins
from tests.games.mystery_referee import Case, Referee, case_of, replay, suspects

SOLUTION = ("weapon", "motive")
BEYOND = 2  # steps recorded after the longest game that the spec allows
QUICKLY = {"xla_backend_optimization_level": 0}  # compiling takes longer than running
STATE_FIELDS = ("phase", "actor", "step", "outcome", "terminated", "truncated")
TIMED_FIELDS = (*STATE_FIELDS, "legal", "acting", "log_size")

# What the fast tier compiles: the default, and everything else that can be switched on.
EVERYTHING: dict[str, Any] = {
    "num_seats": 4, "rounds": 2, "acts": 2, "rooms": 4, "objects": 2, "motives": 4, "trace_percent": 20,
    "clues": "finder", "verdict": "doubt", "ties": "lot", "speech_tokens": 4,
}  # fmt: skip
PRESETS: list[dict[str, Any]] = [{}, EVERYTHING]
GAMES = (500, 300)  # of each preset

MORE: list[dict[str, Any]] = [
    {"num_seats": 3, "rounds": 1, "ties": "lot"},
    {"num_seats": 3, "rounds": 6, "opinions": False, "rooms": 6, "objects": 4},
    {"num_seats": 6, "rounds": 2, "verdict": "doubt", "speech_tokens": 2},
    {"num_seats": 7, "rounds": 1, "acts": 3, "clues": "finder", "trace_percent": 0},
    {"num_seats": 8, "rounds": 4, "rooms": 6, "objects": 4, "motives": 4, "trace_percent": 100},
    {"num_seats": 8, "rounds": 2, "rooms": 4, "clues": "finder", "opinions": False, "ties": "lot"},
]


def name(parameters: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in parameters.items()) or "default"


def init_key(key: jax.Array) -> jax.Array:
    return jax.random.fold_in(key, 0)


def step_key(key: jax.Array, time: jax.Array | int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, 2), time)


def snapshot(game: Mystery, state: Any) -> dict[str, jax.Array]:
    masks = {"legal": game.legal_action_mask(state), "acting": game.acting_mask(state), "log_size": state.log.size}
    return {field: getattr(state, field) for field in STATE_FIELDS} | masks


def play(game: Mystery, scripted: bool, key: jax.Array, wild: jax.Array, sensible: jax.Array) -> dict[str, jax.Array]:
    """Records one game.

    Args:
      game: the rules.
      scripted: whether heuristic players take part (static).
      key: of all chance.
      wild: float[], share of actions that are any number, most of them illegal.
      sensible: bool[2], whether the innocents and the culprit play by the heuristic.
    """
    start = game.init(init_key(key))

    def turn(state: Any, time: jax.Array) -> tuple[Any, tuple[jax.Array, dict[str, jax.Array]]]:
        which, act_key, any_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 1), time), 3)
        view = view_of_actor(game, state)
        action = random_legal(view, act_key)
        if scripted:
            action = jnp.where(sensible[view.role], heuristic(view, act_key), action)
        anything = jax.random.randint(any_key, (), -3, game.spec.num_actions + 5)
        action = jnp.where(jax.random.uniform(which) < wild, anything, action)
        state = game.step(state, action, step_key(key, time))
        return state, (action, snapshot(game, state))

    last, (actions, seen) = jax.lax.scan(turn, start, jnp.arange(game.spec.max_decisions + BEYOND))
    seen = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), snapshot(game, start), seen)
    log = {"log_rows": last.log.rows, "log_audience": last.log.audience}
    return seen | log | {"actions": actions, "roles": last.roles, "stacks": start.stacks}


@functools.cache
def compiled(game: Mystery, scripted: bool) -> Callable[..., dict[str, jax.Array]]:
    return jax.jit(jax.vmap(functools.partial(play, game, scripted)), compiler_options=QUICKLY)


def record_games(game: Mystery, count: int, seed: int, scripted: bool = False) -> dict[str, np.ndarray]:
    """Records games.

    Of random ones every fifth has 30 % arbitrary actions. Of scripted ones, in turn, both sides play by the heuristic,
    the innocents alone and the culprit alone.
    """
    number = np.arange(count)
    wild = np.where(number % 5 == 4, 0.3, 0.0) * (not scripted)
    sensible = np.array([[True, True], [True, False], [False, True]])[number % 3] & scripted
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.device_get(compiled(game, scripted)(keys, wild.astype(np.float32), sensible))


def single_records(games: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Cuts a batch into games, each with the steps up to its end and `BEYOND` ones after it."""
    for index in range(len(games["actions"])):
        game = {field: values[index] for field, values in games.items()}
        steps = min(int(game["step"][-1]) + BEYOND, len(game["actions"]))
        timed = {field: game[field][: steps + 1] for field in TIMED_FIELDS}
        yield game | timed | {"actions": game["actions"][:steps]}


@functools.cache
def recorded(preset: int) -> dict[str, np.ndarray]:
    return record_games(Mystery(**PRESETS[preset]), GAMES[preset], seed=7)


def judge(parameters: dict[str, Any], games: dict[str, np.ndarray]) -> Counter[str]:
    """Has the referee replay all games; returns how often each kind of row was logged, and ties and lots."""
    seen: Counter[str] = Counter()
    names = [kind.name for kind in Mystery(**parameters).spec.event_kinds]
    for game in single_records(games):
        referee = replay(parameters, {field: values.tolist() for field, values in game.items()})
        assert referee.decision is None
        seen.update(names[event[0]] for event in referee.log)
        seen["tie"] += len(referee.tied) > 1
    return seen


@pytest.mark.parametrize("preset", range(2))
def test_the_referee_agrees_with_every_step(preset: int):
    seen = judge(PRESETS[preset], recorded(preset))
    for kind in ("saw", "alone", "trace", "weapon", "motive", "no_clue", "ask", "answer", "suspect", "trust", "pass",
                 "convicted", "tie"):  # fmt: skip
        assert seen[kind] > 0, kind
    assert bool(seen["utterance"]) == (preset == 1)
    assert bool(seen["acquitted"]) == (preset == 0)
    assert seen["win"] == GAMES[preset]


@pytest.mark.slow
@pytest.mark.parametrize("parameters", PRESETS + MORE, ids=name)
def test_the_referee_agrees_with_ten_thousand_games(parameters: dict[str, Any]):
    game = Mystery(**parameters)
    for seed in range(10):
        judge(parameters, record_games(game, 700, 100 + seed))
        judge(parameters, record_games(game, 300, 200 + seed, scripted=True))


# The case.


def cases(parameters: dict[str, Any], count: int, seed: int) -> list[Case]:
    """Cases as the game makes them up."""
    game = Mystery(**parameters)
    states = jax.jit(jax.vmap(game.init), compiler_options=QUICKLY)(jax.random.split(jax.random.key(seed), count))
    states = jax.device_get(states)
    fields = {"roles": states.roles, "log_rows": states.log.rows, "stacks": states.stacks}
    return [case_of({field: values[index].tolist() for field, values in fields.items()}) for index in range(count)]


def test_the_evidence_always_determines_the_culprit_and_less_of_it_does_not():
    made = cases({}, 400, seed=3)
    alone = [suspects({}, case) for case in made]
    assert all(left == {case.culprit} for left, case in zip(alone, made, strict=True))
    without_traces = sum(len(suspects({}, case, traces=False)) == 1 for case in made)
    scripts_only = sum(len(suspects({}, case, traces=False, clues=False)) == 1 for case in made)
    assert 0.3 * len(made) > scripts_only
    assert scripts_only < without_traces < 0.95 * len(made)


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [{}, *MORE], ids=name)
def test_the_evidence_determines_the_culprit_in_ten_thousand_cases(parameters: dict[str, Any]):
    count = 10_000 if Mystery(**parameters).num_seats <= 6 else 1_000  # the lies grow as two to the seats
    for case in cases(parameters, count, seed=4):
        case.check(Referee(parameters, case).parameters)
        assert suspects(parameters, case) == {case.culprit}


def assert_uniform(found: Any, count: int, sigmas: float = 4.5) -> None:
    """Each of `count` values comes up as often as the others, as far as chance allows."""
    times, share = np.bincount(np.asarray(found), minlength=count), 1 / count
    assert len(times) == count
    assert np.all(np.abs(times - share * len(found)) < sigmas * np.sqrt(len(found) * share * (1 - share))), times


def test_every_draw_of_a_case_is_as_likely_as_the_rules_say():
    made = cases({}, 4000, seed=11)
    innocents = [(case, seat) for case in made for seat in case.seats if seat != case.culprit]
    assert_uniform([case.culprit for case in made], 5)
    assert_uniform([case.scene for case in made], 6)
    assert_uniform([(case.empty - case.scene) % 6 - 1 for case in made], 5)
    assert_uniform([9 * case.scene + 3 * case.carried[case.culprit] + case.driven[case.culprit] for case in made], 54)
    free = [sorted({*range(6)} - {case.scene, case.empty}).index(case.at[seat]) for case, seat in innocents]
    assert_uniform(free, 4)
    assert_uniform([3 * case.carried[seat] + case.driven[seat] for case, seat in innocents], 9)
    assert_uniform([case.friend[0] - 1 for case in made], 4)
    assert_uniform([case.friend.index(case.culprit) for case in made], 5)
    assert_uniform([knows for case in made for knows in case.knows_motive], 2)
    rooms = [[room for room, stack in enumerate(case.stacks) if clue in stack] for case in made for clue in SOLUTION]
    assert_uniform([room for (room,) in rooms], 6)
    stacks = [stack for case in made for stack in case.stacks if len(stack) == 2]
    assert_uniform([stack.index(min(stack, key=str)) for stack in stacks], 2)
    traced = [seat in case.traced for case, seat in innocents if case.cleared(seat)]
    assert abs(np.mean(traced) - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / len(traced))
    assert all(seat in case.traced for case, seat in innocents if not case.cleared(seat))


def test_a_lot_draws_the_tied_equally_often_and_nobody_else():
    game = Mystery(num_seats=4, rounds=1, ties="lot", opinions=False)
    state, first = game.init(jax.random.key(0)), layout(4)
    ready = dataclasses.replace(
        state, phase=jnp.int8(VOTE), actor=jnp.int8(3), ballots=jnp.asarray([2, 0, 0, -1], jnp.int8)
    )
    step = jax.jit(jax.vmap(game.step, (None, None, 0)), compiler_options=QUICKLY)
    after = step(ready, jnp.int32(first["vote"] + 2), jax.random.split(jax.random.key(1), 2000))
    size = int(after.log.size[0])
    assert np.all(np.asarray(after.log.rows[:, size - 2, 0]) == KIND["convicted"])
    convicted = np.asarray(after.log.rows[:, size - 2, 2])
    assert set(convicted.tolist()) == {0, 2}
    assert_uniform(convicted // 2, 2)


# How players fare.


def innocents_win(games: dict[str, np.ndarray]) -> np.ndarray:
    """bool[games]."""
    return (games["outcome"][:, -1] * np.where(games["roles"] == CULPRIT, -1, 1)).mean(axis=1) > 0


def chance_that_random_votes_convict(seats: int) -> float:
    """From the rules alone: everybody votes for any other seat; a tie acquits."""
    votes = np.indices((seats - 1,) * seats).reshape(seats, -1)
    votes = votes + (votes >= np.arange(seats)[:, None])  # nobody votes for itself
    sums = np.stack([np.sum(votes == seat, axis=0) for seat in range(seats)])
    return float(np.mean((sums[0] == sums.max(axis=0)) & (np.sum(sums == sums.max(axis=0), axis=0) == 1)))


def test_random_play_convicts_as_often_as_reckoned():
    games, expected = recorded(0), chance_that_random_votes_convict(5)
    won = innocents_win(games)[np.arange(GAMES[0]) % 5 != 4]
    assert abs(won.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(won))


def test_each_side_fares_better_with_the_scripted_player_than_with_the_random_one():
    games = record_games(Mystery(), 1500, seed=7, scripted=True)
    judge({}, {field: values[:300] for field, values in games.items()})
    both, innocents_alone, culprit_alone = (innocents_win(games)[start::3].mean() for start in range(3))
    by_chance = chance_that_random_votes_convict(5)
    assert abs(culprit_alone - by_chance) < 0.05
    assert 0.4 < both < 0.65
    assert innocents_alone > both + 0.1


@pytest.mark.slow
def test_the_scripted_players_are_as_good_as_the_page_says():
    """Shares of 4,000 games each; the 95 % interval of a difference is 0.022 wide to either side."""
    game, games = Mystery(), 4000
    alone, both, neither = (side_wins(game, held, games, 0)[:, 0].mean() for held in ((1, 0), (1, 1), (0, 1)))
    assert alone - both >= 0.15
    assert 0.35 < both < 0.65
    assert both - neither > 0.3


# Bounds.


def usage(game: Mystery, record: dict[str, Any]) -> dict[str, int]:
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


def bounds_of(game: Mystery) -> dict[str, int]:
    spec = game.spec
    shown = {" ".join(("shown", *names)): most for names, most in spec.visible_events}
    turns = {" ".join(("turns", *names)): most for names, most in spec.turns}
    totals = {"decisions": spec.max_decisions, "events": spec.max_events, "new_events": spec.max_new_events}
    return shown | turns | totals


@pytest.mark.parametrize("preset", range(2))
def test_no_game_exceeds_what_its_spec_states(preset: int):
    game = Mystery(**PRESETS[preset])
    for record in single_records(recorded(preset)):
        bounds = bounds_of(game)
        for what, count in usage(game, record).items():
            assert count <= bounds[what], what


def crowded_case(parameters: dict[str, Any]) -> Case:
    """All innocents were in one room and left a trace there."""
    game = Mystery(**parameters)
    seats = list(range(game.num_seats))
    return Case(
        culprit=0,
        at=[0] + [1] * (len(seats) - 1),
        empty=2,
        carried=[0] * len(seats),
        driven=[0] * len(seats),
        friend=[*seats[1:], 0],
        knows_motive=[False] * len(seats),
        stacks=[list(SOLUTION), seats[1:] if game.trace_percent else [], *([] for _ in range(game.rooms - 2))],
    )


def referees_game(parameters: dict[str, Any], everybody: str) -> dict[str, Any]:
    """A game of the referee's in which everybody asks the first other seat, or searches and shows what it finds."""
    referee = Referee(parameters, crowded_case(parameters), lot=0)
    record: dict[str, Any] = {"actor": [], "phase": [], "log_size": [], "step": []}
    phases = [phase.name for phase in Mystery(**parameters).spec.phases]
    while True:
        record["actor"].append(referee.actor)
        record["phase"].append(phases.index(referee.phase))
        record["log_size"].append(len(referee.log))
        record["step"].append(referee.step_index)
        if referee.decision is None:
            break
        first = referee.first["search"] if everybody == "searches" and referee.phase == "turn" else 0
        referee.step(min(action for action in referee.legal if action >= first))
    record["log_rows"] = [event[:4] for event in referee.log]
    record["log_audience"] = [sum(1 << seat for seat in event[4]) for event in referee.log]
    return record


@pytest.mark.parametrize("parameters", PRESETS + MORE, ids=name)
def test_the_longest_games_reach_the_bounds_and_none_exceeds_them(parameters: dict[str, Any]):
    game, most = Mystery(**parameters), Counter[str]()
    for everybody in ("asks", "searches"):
        most |= usage(game, referees_game(parameters, everybody))
    assert dict(most) == {what: bound for what, bound in bounds_of(game).items() if bound}


# Hiding.


def test_hidden_roles_ballots_and_clues_change_nothing_that_a_seat_can_observe():
    game, chance = Mystery(**EVERYTHING), np.random.default_rng(5)
    step = jax.jit(game.step, compiler_options=QUICKLY)
    legal = jax.jit(game.legal_action_mask, compiler_options=QUICKLY)
    clues = [KIND[kind] for kind in ("trace", "weapon", "motive", "no_clue")]
    compared = 0
    for seed in range(8):
        key = jax.random.key(seed)
        state = game.init(key)
        while not state.over:
            seat = int(chance.integers(game.num_seats))
            roles, stacks, ballots = np.array(state.roles), np.array(state.stacks), np.array(state.ballots)
            others = np.flatnonzero(np.arange(game.num_seats) != seat)
            roles[others] = chance.permutation(roles[others])
            ballots[others] = np.where(ballots[others] >= 0, chance.integers(0, game.num_seats, len(others)), -1)
            other = dataclasses.replace(
                state, roles=jnp.asarray(roles), ballots=jnp.asarray(ballots), stacks=jnp.asarray(stacks[:, ::-1])
            )
            np.testing.assert_array_equal(legal(state), legal(other))
            np.testing.assert_array_equal(game.acting_mask(state), game.acting_mask(other))
            action = jnp.int32(chance.choice(np.flatnonzero(legal(state))))
            one, two = step(state, action, key), step(other, action, key)
            views = [np.asarray(s.log.rows)[np.asarray(s.log.visible_to(seat))].tolist() for s in (one, two)]
            if not one.over and (not views[0] or views[0][-1][0] not in clues):
                assert views[0] == views[1]
                assert (int(one.phase), int(one.actor)) == (int(two.phase), int(two.actor))
                compared += 1
            state = one
    assert compared > 200


def alike(states: Any, num_seats: int) -> list[tuple[int, int, int]]:
    """Pairs of deals, and a seat that is told the same in both while another one is dealt something else."""
    first: dict[Any, int] = {}
    found = []
    for deal in range(len(states.roles)):
        size = states.log.size[deal]
        rows, audience = states.log.rows[deal, :size], states.log.audience[deal, :size]
        for seat in range(num_seats):
            told = (seat, rows[(audience >> seat & 1) == 1].tobytes())
            other = first.setdefault(told, deal)
            if rows.tobytes() != states.log.rows[other, : states.log.size[other]].tobytes():
                found.append((other, deal, seat))
    return found


def same_to_both(game: Mystery, one: Any, two: Any, seats: np.ndarray, legal: np.ndarray) -> np.ndarray:
    """bool[pairs, A]: what can be done without telling `seats` of a clue that only one of two states has."""
    first, allowed = layout(game.num_seats), legal.copy()
    tops = [np.take_along_axis(each.stacks, each.drawn[..., None].astype(int), axis=2)[..., 0] for each in (one, two)]
    searches = slice(first["search"], first["search"] + game.rooms)
    mine = ((one.actor == seats) & (one.phase == TURN))[:, None]
    same = tops[0] == tops[1]
    for clue, told in enumerate(("weapon", "motive")):
        same &= (tops[0] != game.num_seats + clue) | (getattr(one, told) == getattr(two, told))[:, None]
    allowed[:, searches] &= ~mine | same
    differs = (one.clue != two.clue).any(axis=1) & (one.phase == SHOW)
    allowed[:, first["show"]] &= ~differs
    return allowed


def test_cases_that_a_seat_cannot_tell_apart_stay_alike_until_the_verdict():
    """Whoever did it and whatever the others' scripts are, the same acts show a seat the same and leave it the same."""
    game = Mystery(num_seats=4, rooms=4, objects=2, motives=2, clues="finder", speech_tokens=2)
    chance, keys = np.random.default_rng(5), jax.random.split(jax.random.key(21), 3000)
    deals = jax.device_get(jax.jit(jax.vmap(game.init), compiler_options=QUICKLY)(keys))
    pairs = np.array(alike(deals, game.num_seats))
    others_did_it = (deals.roles[pairs[:, 0]] != deals.roles[pairs[:, 1]]).any(axis=1)
    pairs = np.concatenate([pairs[others_did_it][:150], pairs[~others_did_it][:50]])
    assert len(pairs) == 200
    seats = pairs[:, 2]
    states = [jax.tree.map(lambda leaf, side=side: leaf[pairs[:, side]], deals) for side in range(2)]
    step = jax.jit(jax.vmap(game.step, (0, 0, None)), compiler_options=QUICKLY)
    look = jax.jit(jax.vmap(lambda s: (game.legal_action_mask(s), game.acting_mask(s))), compiler_options=QUICKLY)
    for _ in range(game.spec.max_decisions):
        facts = [(*jax.device_get(look(state)), state.phase, state.actor) for state in states]
        for found, expected in zip(*facts, strict=True):
            np.testing.assert_array_equal(found, expected)
        for pair in np.flatnonzero(~states[0].terminated):
            views = [state.log.rows[pair][(state.log.audience[pair] >> seats[pair] & 1 == 1)
                     & (np.arange(game.spec.max_events) < state.log.size[pair])] for state in states]  # fmt: skip
            np.testing.assert_array_equal(*views)
        allowed = same_to_both(game, *states, seats, facts[0][0])
        action = np.argmax(np.where(allowed, chance.random(allowed.shape), -1), axis=1).astype(np.int32)
        states = [jax.device_get(step(state, action, keys[0])) for state in states]
    assert states[0].terminated.all() and (states[0].outcome != states[1].outcome).any()


@pytest.mark.parametrize("preset", range(2))
def test_scripts_ballots_and_found_clues_are_told_only_as_they_may_be(preset: int):
    """Private rows reach their seat alone; no row is logged within the vote; a kept clue stays with its finder."""
    private = [
        KIND[kind] for kind in ("seat", "was", "saw", "alone", "carried", "driven", "object_of", "drive_of", "empty")
    ]
    clues = [KIND[kind] for kind in ("trace", "weapon", "motive", "no_clue")]
    everybody = (1 << Mystery(**PRESETS[preset]).num_seats) - 1
    for record in single_records(recorded(preset)):
        size = record["log_size"][-1]
        rows, audience = record["log_rows"][:size], record["log_audience"][:size].astype(int)
        mine = np.isin(rows[:, 0], private)
        assert np.array_equal(audience[mine], 1 << rows[mine, 1])
        inside = (record["phase"][:-1] == VOTE) & (record["phase"][1:] == VOTE)
        assert np.all(np.diff(record["log_size"])[inside] == 0)
        found = np.isin(rows[:, 0], clues)
        finder = 1 << rows[found, 1].astype(int)
        to_all = audience[found] == everybody
        assert np.all(to_all if preset == 0 else (audience[found] == finder) | (audience[found] == everybody - finder))


# What else is promised of a game's functions.


def test_one_game_step_by_step_equals_the_batch_compiled_or_not():
    game, batch = Mystery(), recorded(0)
    one = next(single_records(batch))
    key = jax.random.split(jax.random.key(7), GAMES[0])[0]
    step = jax.jit(game.step, compiler_options=QUICKLY)
    state = eager = game.init(init_key(key))
    for time, action in enumerate(one["actions"]):
        for field, value in snapshot(game, state).items():
            np.testing.assert_array_equal(value, one[field][time], err_msg=field)
        state = step(state, jnp.int32(action), step_key(key, time))
        if time < 4:
            eager = game.step(eager, jnp.int32(action), step_key(key, time))
            jax.tree.map(np.testing.assert_array_equal, eager, state)
    np.testing.assert_array_equal(state.log.rows, one["log_rows"])
    for action in (-1, 0, 3, game.spec.num_actions - 1, 10_000):  # the game is over and stays as it is
        jax.tree.map(np.testing.assert_array_equal, step(state, jnp.int32(action), key), state)
    assert state.over and state.actor == -1 and not state.truncated
    assert not game.acting_mask(state).any() and game.legal_action_mask(state).all()


def test_labels_stand_where_the_rules_page_puts_them():
    labels = Mystery(num_seats=4).spec.action_labels
    assert len(labels) == 5 * 4 + 27
    assert (labels[2], labels[4], labels[9]) == (" ask Player 3", " search the library", " search the study")
    assert labels[10:13] == (" where they were", " what they carried", " what drives them")
    assert (labels[13], labels[17], labels[23], labels[27]) == (" about Player 1", " the library", " a knife", " greed")
    assert labels[31:34] == (" nothing", " show", " keep")
    assert (labels[34], labels[38], labels[42]) == (" suspect Player 1", " trust Player 1", " pass")
    assert labels[43:] == (" Player 1", " Player 2", " Player 3", " Player 4")


def test_speech_and_thought_have_the_budgets_that_are_asked_for():
    quiet, loud = Mystery().spec, Mystery(speech_tokens=6, thought_tokens=9).spec
    assert (quiet.speech_tokens, quiet.thought_tokens) == (0, 0)
    assert {phase.name: phase.speech_tokens for phase in loud.phases if phase.speech_tokens} == {
        "question": 6, "answer": 6, "opinion": 6,
    }  # fmt: skip
    assert [phase.thought_tokens for phase in loud.phases] == [9] * 6 + [0]
    first = layout(5)
    assert loud.scripted_speech[first["ask"]] == loud.scripted_speech[first["vote"]] == ""
    assert loud.scripted_speech[first["question"]] == " I ask where they were"
    assert loud.scripted_speech[first["answer"] + 1] == " I say the kitchen"
    assert loud.scripted_speech[first["suspect"] + 2] == " I suspect Player 3"
    assert loud.scripted_speech[first["pass"]] == " I pass"


def test_the_role_prefix_tells_who_did_it_and_no_more():
    spec = Mystery(clues="finder", verdict="doubt", ties="lot").spec
    assert [role.name for role in ROLES] == ["innocent", "culprit"]
    assert [brief for _, brief in spec.role_texts] == ["You are innocent", "You are the culprit"]
    assert "may show or keep" in spec.introduction[0]
    assert "a vote counts 5" in spec.introduction[0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_seats": 2}, "mystery-v0: num_seats is between 3 and 8, not 2"),
        ({"num_seats": 9}, "mystery-v0: num_seats is between 3 and 8, not 9"),
        ({"rounds": 0}, "mystery-v0: rounds is between 1 and 6, not 0"),
        ({"acts": 4}, "mystery-v0: acts is between 1 and 3, not 4"),
        ({"rooms": 3}, "mystery-v0: rooms is between 4 and 6, not 3"),
        ({"objects": 1}, "mystery-v0: objects is between 2 and 4, not 1"),
        ({"motives": 5}, "mystery-v0: motives is between 2 and 4, not 5"),
        ({"trace_percent": 101}, "mystery-v0: trace_percent is between 0 and 100, not 101"),
        ({"clues": "secret"}, "mystery-v0: clues is one of public, finder, not 'secret'"),
        ({"verdict": "jury"}, "mystery-v0: verdict is one of votes, doubt, not 'jury'"),
        ({"ties": "hang"}, "mystery-v0: ties is one of acquit, lot, not 'hang'"),
        ({"verdict": "doubt", "opinions": False}, "mystery-v0: verdict is votes while opinions is false, not 'doubt'"),
        ({"speech_tokens": -1}, "mystery-v0: speech_tokens is between 0 and 4096, not -1"),
        ({"thought_tokens": 5000}, "mystery-v0: thought_tokens is between 0 and 4096, not 5000"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(parameters: dict[str, Any], message: str):
    with pytest.raises(GameError) as refusal:
        Mystery(**parameters)
    assert str(refusal.value) == message
