"""The compiled game against the referee, and what else is promised of a game's functions."""

import dataclasses
import functools
import os
import subprocess
import sys
from collections import Counter, defaultdict
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import GameError, view_of_actor
from games.players.scripted import heuristic_player, random_legal
from games.registry import GAMES, make
from games.testing import check_game, check_hiding, check_text
from games.werewolf_spec import (
    CLASSIC_ROLES,
    HUNTER,
    RULE_SETS,
    VILLAGER,
    VOTE_TIES,
    WIN_RULES,
    WOLF,
    WOLF_TIES,
)
from tests.games.recording import (
    QUICKLY,
    Peaceful,
    init_key,
    play,
    record_games,
    single_records,
    snapshot,
    step_key,
)
from tests.games.replay_werewolf import replay
from tests.games.text import host
from tests.games.werewolf_referee import Referee

NINE: dict[str, Any] = {"num_seats": 9, "witch": True, "hunter": True}
MAKTO: dict[str, Any] = {"num_seats": 9, "rules": "makto"}

PRESETS: list[dict[str, Any]] = [{"num_seats": 5}, {"num_seats": 6}, {"num_seats": 9}, NINE]
MORE_PRESETS: list[dict[str, Any]] = [
    *({"num_seats": seats} for seats in (7, 8, 10, 11, 12)),
    MAKTO,
    {"num_seats": 9, "rules": "makto", "guard": True},
    {"num_seats": 7, "rules": "makto"},
    {"num_seats": 7, "rules": "makto", "guard": True},
    {"num_seats": 12, "rules": "makto", "hunter": True, "guard": True},
]

# Together with the defaults: every value of every parameter that has a list, the ends of every range.
VARIANTS: list[dict[str, Any]] = [
    {"num_seats": 5, "night_order": "wolf,seer,doctor", "vote_tie": "random", "win_rule": "extinction",
     "speech_acts": False, "max_days": 20},
    {"num_seats": 6, "night_order": "doctor,wolf,seer", "reveal_roles": False, "speech_tokens": 4, "max_days": 2},
    {"num_seats": 7, "night_order": "doctor,seer,wolf", "wolf_tie": "last", "win_rule": "sides", "speech_rounds": 2},
    {"num_seats": 8, "night_order": "seer,wolf,doctor", "wolf_tie": "none", "speech_rounds": 3, "thought_tokens": 4},
    {"num_seats": 9, "night_order": "seer,doctor,wolf", "speech_acts": False, "speech_tokens": 4,
     "vote_tie": "random", "max_days": 1},
    MAKTO,
    {"num_seats": 11, "witch": True, "hunter": True, "guard": True, "night_order": "guard,wolf,witch,seer",
     "vote_tie": "runoff", "win_rule": "extinction", "speech_tokens": 4, "max_days": 3},
    {"num_seats": 10, "hunter": True, "vote_tie": "random", "wolf_tie": "last", "speech_acts": False},
]  # fmt: skip

# Rules that depend on one role alone.
RARE: list[dict[str, Any]] = [
    {"num_seats": 8, "guard": True, "vote_tie": "runoff", "speech_acts": False},
    {"num_seats": 12, "rules": "makto", "hunter": True, "guard": True, "wolf_tie": "none", "speech_acts": False},
    {"num_seats": 7, "rules": "makto", "witch": False, "reveal_roles": True, "speech_rounds": 2, "wolf_tie": "random"},
    {"num_seats": 5, "witch": True, "wolf_tie": "none", "win_rule": "sides", "max_days": 20},
    {"num_seats": 6, "witch": True, "hunter": True, "win_rule": "extinction", "night_order": "seer,wolf,witch"},
]

QUICKSTART: dict[str, Any] = {"num_seats": 6, "max_days": 5}


def name(parameters: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in parameters.items())


@functools.cache
def recorded(parameters: tuple[tuple[str, Any], ...], count: int) -> dict[str, np.ndarray]:
    return record_games(make("werewolf-v0", **dict(parameters)), count, seed=7)


def games_of(parameters: dict[str, Any], count: int | None = None) -> dict[str, np.ndarray]:
    """Random games, recorded once a session: 500 of a preset, 120 of a variant."""
    return recorded(tuple(parameters.items()), count or (500 if parameters in PRESETS else 120))


def judge(parameters: dict[str, Any], games: dict[str, np.ndarray]) -> dict[str, list[tuple[list[int], int]]]:
    """Has the referee replay all games; returns the draws by name: the seats that could be drawn, the one that was."""
    draws: dict[str, list[tuple[list[int], int]]] = defaultdict(list)
    drawn = Referee._drawn

    def watched(self: Referee, what: str, candidates: list[int], chance: Any) -> int:
        seat = drawn(self, what, candidates, chance)
        draws[what].append((candidates, seat))
        return seat

    with mock.patch.object(Referee, "_drawn", watched):
        for game in single_records(games):
            assert replay(parameters, game).over
    return draws


@functools.cache
def draws_of(parameters: tuple[tuple[str, Any], ...]) -> dict[str, list[tuple[list[int], int]]]:
    return judge(dict(parameters), games_of(dict(parameters)))


def tolerable(observed: np.ndarray, expected: np.ndarray, freedom: int) -> bool:
    """Whether a chi-square statistic lies within six standard deviations of its mean."""
    statistic = np.sum((observed - expected) ** 2 / expected)
    return bool(abs(statistic - freedom) < 6 * np.sqrt(2 * freedom))


@pytest.mark.parametrize("parameters", PRESETS + VARIANTS, ids=name)
def test_the_referee_agrees_with_every_step(parameters: dict[str, Any]):
    draws = draws_of(tuple(parameters.items()))
    assert bool(draws["first_speaker"]) == make("werewolf-v0", **parameters).speaks


def test_the_referee_agrees_with_games_of_scripted_players():
    judge(QUICKSTART, {name: values[:150] for name, values in scripted_games().items()})


@pytest.mark.slow
@pytest.mark.parametrize("parameters", PRESETS + MORE_PRESETS + [QUICKSTART], ids=name)
def test_the_referee_agrees_with_ten_thousand_games(parameters: dict[str, Any]):
    judge_many(parameters, 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("parameters", VARIANTS + RARE, ids=name)
def test_the_referee_agrees_with_a_thousand_games_of_other_rules(parameters: dict[str, Any]):
    judge_many(parameters, 1_000)


def judge_many(parameters: dict[str, Any], count: int) -> None:
    """Half of the games at random, the other half with heuristic players among them or alone."""
    game, batch = make("werewolf-v0", **parameters), min(1_000, count // 4)
    for seed in range(count // 2 // batch):
        judge(parameters, record_games(game, batch, 100 + seed))
        judge(parameters, record_games(game, batch, 200 + seed, heuristic=(0.5, 1.0)[seed % 2]))


def test_the_variants_take_every_value():
    seen = defaultdict(set)
    for parameters in [*PRESETS, *MORE_PRESETS, *VARIANTS]:
        for key, value in dict(make("werewolf-v0", **parameters).spec.parameters).items():
            seen[key].add(value)
    assert sum(sorted(order.split(",")) == ["doctor", "seer", "wolf"] for order in seen["night_order"]) == 6
    assert seen["rules"] == set(RULE_SETS)
    assert seen["wolf_tie"] == set(WOLF_TIES)
    assert seen["vote_tie"] == set(VOTE_TIES)
    assert seen["win_rule"] == set(WIN_RULES)
    assert seen["num_seats"] == set(range(5, 13))
    assert seen["speech_rounds"] == {1, 2, 3}
    assert {1, 20} <= seen["max_days"]
    assert all(seen[key] == {True, False} for key in ("reveal_roles", "speech_acts", "witch", "hunter", "guard"))
    assert all(len(seen[key]) > 1 for key in ("speech_tokens", "thought_tokens"))


def test_deals_are_uniform():
    arrangements = Counter(map(tuple, games_of({"num_seats": 5})["roles"].tolist()))
    counts = np.array([*arrangements.values()] + [0] * (60 - len(arrangements)))
    assert len(counts) == 60
    assert tolerable(counts, np.full(60, counts.sum() / 60), 59)
    for parameters in PRESETS:
        roles = games_of(parameters)["roles"]
        dealt = make("werewolf-v0", **parameters).dealt
        table = np.stack([(roles == role).sum(axis=0) for role in dealt])
        assert (table.sum(axis=1) == [len(roles) * count for count in dealt.values()]).all()
        expected = table.sum(axis=1, keepdims=True) / roles.shape[1] * np.ones_like(table)
        assert tolerable(table, expected, (len(dealt) - 1) * (roles.shape[1] - 1))


def test_first_speakers_and_broken_ties_are_uniform():
    ranks: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
    for parameters in PRESETS + VARIANTS:
        for what, draws in draws_of(tuple(parameters.items())).items():
            for candidates, seat in draws:
                ranks[what, len(candidates)][candidates.index(seat)] += 1
    assert {what for what, _ in ranks} == {"wolf_target", "first_speaker", "expelled"}
    for (_, size), counts in ranks.items():
        observed = np.array([counts[rank] for rank in range(size)])
        if observed.sum() >= 20 * size and size > 1:
            assert tolerable(observed, np.full(size, observed.sum() / size), size - 1)
    assert ranks["wolf_target", 2].total() > 500
    assert ranks["first_speaker", 4].total() > 300
    assert ranks["expelled", 2].total() > 100


@functools.cache
def scripted_games() -> dict[str, np.ndarray]:
    return record_games(make("werewolf-v0", **QUICKSTART), 4200, seed=11, heuristic=1.0)


def test_the_quickstart_is_a_fair_fight_between_scripted_players():
    games = scripted_games()
    won = (games["outcome"][:, -1] * np.where(games["roles"] == WOLF, -1, 1)).mean(axis=1)
    assert set(won.tolist()) <= {-1.0, 0.0, 1.0}
    assert 0.35 <= np.mean(won > 0) <= 0.65
    assert np.mean(won == 0) < 0.02
    assert np.sum(games["terminated"][:, -1]) >= 4000


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [NINE, MAKTO, {**MAKTO, "guard": True}], ids=name)
def test_heuristic_villages_win_more_than_random_ones_and_so_do_wolves(parameters: dict[str, Any]):
    """Win rates of the village by who plays (village, wolves): each side gains by playing with sense."""
    game = make("werewolf-v0", **parameters)
    rate = {pair: village_wins(game, *pair, 1000).mean() for pair in np.ndindex(2, 2)}
    assert rate[1, 0] > rate[0, 0] + 0.1
    assert rate[0, 1] < rate[0, 0] - min(0.05, rate[0, 0] / 4)  # a village at random hardly wins with many roles
    assert rate[1, 1] < rate[1, 0] - 0.05


def village_wins(game: Any, village: int, wolves: int, count: int, seed: int = 5) -> np.ndarray:
    """bool[count]: whether the village won each of `count` games; a side plays at random (0) or by heuristics (1)."""
    heuristic = heuristic_player("werewolf-v0")

    def one(key: jax.Array) -> jax.Array:
        def turn(state: Any, time: jax.Array) -> tuple[Any, None]:
            view, act_key = view_of_actor(game, state), jax.random.fold_in(jax.random.fold_in(key, 1), time)
            sensible = jnp.where(view.role == WOLF, wolves, village) > 0
            action = jnp.where(sensible, heuristic(view, act_key), random_legal(view, act_key))
            return game.step(state, action, step_key(key, time)), None

        state, _ = jax.lax.scan(turn, game.init(init_key(key)), jnp.arange(game.spec.max_decisions))
        return jnp.any((state.outcome > 0) & (state.roles != WOLF))

    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(one))(keys))


def test_random_players_are_no_fair_fight_but_both_sides_win_sometimes():
    games = games_of({"num_seats": 6})
    village = (games["outcome"][:, -1] * (games["roles"] == VILLAGER)).max(axis=1)
    assert 0.2 <= np.mean(village > 0) <= 0.6


@pytest.mark.parametrize("parameters", PRESETS + VARIANTS, ids=name)
def test_no_game_exceeds_what_its_spec_states(parameters: dict[str, Any]):
    spec = make("werewolf-v0", **parameters).spec
    for game in single_records(games_of(parameters)):
        assert game["log_size"][-1] <= spec.max_events
        assert game["step"][-1] <= spec.max_decisions
        for seat in range(spec.num_seats):
            sizes = game["log_size"][game["actor"] == seat]
            assert np.diff(sizes, prepend=0).max(initial=0) <= spec.max_new_events


@pytest.mark.parametrize(
    "parameters",
    [
        {"num_seats": 5, "max_days": 3, "speech_rounds": 2, "speech_tokens": 3},
        {"num_seats": 7, "max_days": 2, "reveal_roles": False},
        {"num_seats": 8, "max_days": 2, "speech_acts": False, "night_order": "seer,doctor,wolf"},
    ],
    ids=name,
)
def test_a_game_in_which_nobody_dies_reaches_the_bounds_of_its_spec(parameters: dict[str, Any]):
    game = make("werewolf-v0", **parameters)
    spec, replies = game.spec, Counter[tuple[int, str]]()
    for state in Peaceful(game).states(seed=1):
        replies[int(state.actor), spec.phases[int(state.phase)].name] += 1
    assert state.truncated
    assert state.step == spec.max_decisions
    assert state.log.size == spec.max_events
    for phases, most in spec.turns:
        made = [sum(replies[seat, phase] for phase in phases) for seat in range(spec.num_seats)]
        assert max(made) == most
    group = {kind: number for number, (kinds, _) in enumerate(spec.visible_events) for kind in kinds}
    ends = ("win", "truncated")  # nobody acts after them, so nobody's stream holds them
    for seat in range(spec.num_seats):
        kinds = np.asarray(state.log.rows[:, 0])[np.asarray(state.log.visible_to(seat))]
        names = [spec.event_kinds[index].name for index in kinds]
        shown = Counter(group[name] for name in names if name not in ends)
        assert all(count <= spec.visible_events[number][1] for number, count in shown.items()), (seat, shown)


class Longest(Peaceful):
    """The longest game with witch, hunter and second votes: nobody dies until the last night is over.

    The last night's victim is saved, and the last vote expels the hunter, who shoots.
    """

    def choice(self, state: Any) -> int:
        game, roles = self.game, np.asarray(state.roles)
        phase = game.spec.phases[int(state.phase)].name
        villagers, hunter = np.flatnonzero(roles == VILLAGER).tolist(), int(np.argmax(roles == HUNTER))
        last, day = int(state.day) == game.max_days, int(state.day)
        if phase == "wolf":
            return 5 * game.num_seats + len(game.roles) if game.free and not last else villagers[day % 2]
        if phase == "guard":
            return villagers[2] if last else villagers[day % 2]  # another one every night
        if phase == "witch":
            return game.spec.num_actions - 1 - (not last)
        if phase == "hunter":
            return villagers[0]
        if phase == "vote" and last and game.hunter and np.any(state.runoff):
            return hunter if state.actor != hunter else villagers[0]
        return super().choice(state)


@pytest.mark.parametrize(
    "parameters",
    [
        {**MAKTO, "max_days": 2, "speech_tokens": 2},
        {"num_seats": 9, "witch": True, "guard": True, "vote_tie": "runoff", "max_days": 2, "speech_acts": False},
    ],
    ids=name,
)
def test_a_long_game_with_all_powers_reaches_the_bounds_of_its_spec(parameters: dict[str, Any]):
    game = make("werewolf-v0", **parameters)
    spec, replies = game.spec, Counter[tuple[int, str]]()
    for state in Longest(game).states(seed=1):
        replies[int(state.actor), spec.phases[int(state.phase)].name] += 1
    assert state.truncated
    assert state.step == spec.max_decisions
    assert state.log.size == spec.max_events
    for phases, most in spec.turns:
        made = [sum(replies[seat, phase] for phase in phases) for seat in range(spec.num_seats)]
        assert max(made) == most


@pytest.mark.parametrize(
    "parameters",
    [
        {"num_seats": 8, "rules": "makto", "witch": True, "hunter": True, "guard": True, "max_days": 2},
        pytest.param(NINE, marks=pytest.mark.slow),
        pytest.param(MAKTO, marks=pytest.mark.slow),
        *(pytest.param(parameters, marks=pytest.mark.slow) for parameters in RARE),
    ],
    ids=name,
)
def test_games_of_more_roles_conform_and_betray_nothing(parameters: dict[str, Any]):
    game = make("werewolf-v0", **parameters)
    assert check_hiding(game.spec, check_game(game, episodes=200)) > 200


@pytest.mark.parametrize("family", host.FAMILIES)
def test_the_text_of_more_roles_encodes_in_pieces(family: str):
    check_text(make("werewolf-v0", num_seats=7, rules="makto", hunter=True, guard=True).spec, host.tokenizer_of(family))


def test_a_game_without_more_roles_has_nothing_of_them():
    plain = make("werewolf-v0", num_seats=6, max_days=5).spec
    assert len(plain.event_kinds) == 23 and len(plain.phases) == 6 and plain.num_actions == 35
    told = repr(dataclasses.replace(plain, parameters=()))
    assert not any(word in told for word in ("witch", "hunter", "guard", "save", "nobody", "tie"))


def assert_same(one: Any, other: Any) -> None:
    """Asserts that two states or records are equal bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_one_game_step_by_step_equals_the_batch_compiled_or_not():
    parameters = {"num_seats": 5}
    game, batch = make("werewolf-v0", **parameters), games_of(parameters)
    index = int(np.argmin([len(each["actions"]) for each in single_records(batch)]))
    one = list(single_records(batch))[index]
    key = jax.random.split(jax.random.key(7), 500)[index]
    step = jax.jit(game.step, compiler_options=QUICKLY)
    state = eager = game.init(init_key(key))
    for time, action in enumerate(one["actions"]):
        assert_same(snapshot(game, state), {name: one[name][time] for name in snapshot(game, state)})
        state = step(state, jnp.int32(action), step_key(key, time))
        if time < 8:  # the first night and some speeches
            eager = game.step(eager, jnp.int32(action), step_key(key, time))
            assert_same(eager, state)
    assert_same(state.log.rows, one["log_rows"])
    assert_same(state.log.audience, one["log_audience"])


def test_a_game_that_is_over_stays_as_it_is():
    game = make("werewolf-v0", num_seats=5, max_days=1, speech_acts=False)
    player = Peaceful(game)
    *_, last = player.states(seed=0)
    assert last.over and last.actor == -1
    assert not game.acting_mask(last).any()
    assert game.legal_action_mask(last).all()
    for action in (-1, 0, 3, game.spec.num_actions - 1, 10_000):
        assert_same(player.step(last, jnp.int32(action), jax.random.key(action)), last)


def test_no_step_of_a_game_calls_the_host():
    game = make("werewolf-v0", num_seats=5, max_days=1)
    keys, ones = jax.random.split(jax.random.key(0), 2), jnp.ones(2, jnp.float32)
    program = str(jax.make_jaxpr(functools.partial(play, game, True))(keys, ones, ones))
    assert "while" in program
    assert not any(word in program for word in ("callback", "infeed", "outfeed", "debug_print"))


def test_importing_games_starts_no_backend():
    """No backend of this name exists, so whatever starts one fails; at the end an array does so on purpose."""
    program = """
import games.registry, games.show, games.players.scripted, games.text.lexicon, games.text.transcript
hash(games.registry.make("werewolf-v0").spec)
print("imported")
import jax.numpy
jax.numpy.zeros(1)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "JAX_PLATFORMS": "nowhere"}, capture_output=True, text=True
    )
    assert done.stdout == "imported\n", done.stderr
    assert done.returncode != 0
    assert "nowhere" in done.stderr


def test_labels_stand_where_the_rules_page_puts_them():
    seats, labels = 6, make("werewolf-v0", num_seats=6).spec.action_labels
    assert len(labels) == 5 * seats + len(CLASSIC_ROLES) + 1
    assert labels[2] == " Player 3"
    assert labels[seats + 2] == " accuse Player 3"
    assert labels[2 * seats + 2] == " defend Player 3"
    assert labels[3 * seats : 3 * seats + 4] == (" claim wolf", " claim seer", " claim doctor", " claim villager")
    assert labels[3 * seats + 4 + 2] == " report wolf Player 3"
    assert labels[4 * seats + 4 + 2] == " report good Player 3"
    assert labels[-1] == " pass"
    more = make("werewolf-v0", num_seats=6, hunter=True).spec.action_labels
    assert more[3 * seats + 4 : 3 * seats + 7] == (" claim witch", " claim hunter", " claim guard")
    assert more[-2:] == (" pass", " save")
    assert [label for label in more if label in labels] == list(labels)


def test_parameters_may_be_given_as_text():
    game = make("werewolf-v0", num_seats="6", reveal_roles="False", win_rule="sides", max_days=np.int64(3))
    assert game == make("werewolf-v0", num_seats=6, reveal_roles=False, win_rule="sides", max_days=3)
    assert make("werewolf-v0", num_seats="9", witch="true", hunter="True") == make("werewolf-v0", **NINE)


@pytest.mark.parametrize("parameters", [*PRESETS, *MORE_PRESETS, *VARIANTS, *RARE], ids=name)
def test_a_game_is_made_again_from_its_specs_parameters(parameters: dict[str, Any]):
    game = make("werewolf-v0", **parameters)
    assert make("werewolf-v0", **dict(game.spec.parameters)) == game
    assert set(dict(game.spec.parameters)) == {field.name for field in dataclasses.fields(game)}


def test_what_is_given_wins_over_the_rule_set():
    makto = make("werewolf-v0", **MAKTO)
    assert (makto.witch, makto.hunter, makto.guard, makto.num_wolves) == (True, True, False, 3)
    other = make("werewolf-v0", **MAKTO, win_rule="parity", reveal_roles="true", hunter="false")
    assert (other.win_rule, other.reveal_roles, other.hunter) == ("parity", True, False)
    assert (other.wolf_tie, other.vote_tie) == ("last", "runoff")


@pytest.mark.parametrize(
    ("game", "parameters", "message"),
    [
        ("werewolf", {}, f"There is no game 'werewolf'; there are: {', '.join(sorted(GAMES))}; did you mean werewolf"),
        ("chess", {}, f"There is no game 'chess'; there are: {', '.join(sorted(GAMES))}"),
        ("werewolf-v0", {"seats": 6}, "werewolf-v0 has no parameter 'seats'; it has: num_seats, night_order"),
        ("werewolf-v0", {"num_seats": 13}, "werewolf-v0: num_seats is between 5 and 12, not 13"),
        ("werewolf-v0", {"rules": "mafia"}, "werewolf-v0: rules is one of default, makto, not 'mafia'"),
        ("werewolf-v0", {"witch": "maybe"}, "werewolf-v0: witch is true or false, not 'maybe'"),
        (
            "werewolf-v0",
            {"num_seats": 6, "witch": True, "hunter": True, "guard": True},
            "werewolf-v0: num_seats has room for a villager beside 2 wolves, seer, witch, hunter and guard, for ",
        ),
        (
            "werewolf-v0",
            {"witch": True, "night_order": "witch,wolf,seer"},
            "werewolf-v0: night_order names wolf, seer and witch once each, the witch behind the wolf, for example",
        ),
        ("werewolf-v0", {"num_seats": "six"}, "werewolf-v0: num_seats is a whole number, for example 7, not 'six'"),
        ("werewolf-v0", {"num_seats": 6.5}, "werewolf-v0: num_seats is a whole number, for example 7, not 6.5"),
        ("werewolf-v0", {"speech_rounds": True}, "werewolf-v0: speech_rounds is a whole number, for example 1, not"),
        ("werewolf-v0", {"max_days": 0}, "werewolf-v0: max_days is between 1 and 20, not 0"),
        ("werewolf-v0", {"reveal_roles": "yes"}, "werewolf-v0: reveal_roles is true or false, not 'yes'"),
        ("werewolf-v0", {"reveal_roles": 1}, "werewolf-v0: reveal_roles is true or false, not 1"),
        ("werewolf-v0", {"wolf_tie": "first"}, "werewolf-v0: wolf_tie is one of random, last, none, not 'first'"),
        ("werewolf-v0", {"win_rule": 3}, "werewolf-v0: win_rule is text, for example parity, not 3"),
        ("werewolf-v0", {"night_order": "wolf,seer"}, "werewolf-v0: night_order names wolf, doctor and seer once each"),
        ("werewolf-v0", {"speech_tokens": -1}, "werewolf-v0: speech_tokens is between 0 and 4096, not -1"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(game: str, parameters: dict[str, Any], message: str):
    with pytest.raises(GameError) as refusal:
        make(game, **parameters)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
