"""The referee by scenarios written by hand from the rules page, and the replay that uses it.

A deal is written as one letter a seat (w, s, d, v). Kinds of event are written by name.
"""

import copy
import random
from typing import Any

import numpy as np
import pytest

from tests.games.replay_werewolf import replay
from tests.games.werewolf_referee import DRAWS, KINDS, PHASES, ROLES, Event, Referee

LETTERS = {name[0]: name for name in ROLES}
QUIET = {"speech_acts": False}  # no speaking phase: night, then vote
FIVE = "wsdvv"
SEVEN = "wwsdvvv"


def referee(deal: str, **parameters: Any) -> Referee:
    return Referee({"num_seats": len(deal), **parameters}, [LETTERS[letter] for letter in deal])


def play(game: Referee, *actions: int, **chance: int) -> list[tuple[str, int, int, int, list[int]]]:
    """Plays `actions`, the last one with `chance`; returns the rows logged, kinds by name."""
    start = len(game.log)
    for action in actions[:-1]:
        game.step(action)
    game.step(actions[-1], chance)
    return [(KINDS[kind], a, t, v, sorted(seen)) for kind, a, t, v, seen in game.log[start:]]


def kinds(rows: list[tuple[str, int, int, int, list[int]]]) -> list[str]:
    return [row[0] for row in rows]


def test_a_new_game_tells_each_seat_who_it_is_and_the_wolves_each_other():
    game = referee("vwsdvwv")
    everybody = frozenset(range(7))
    assert [(KINDS[kind], *rest) for kind, *rest in game.log] == [
        *(("seat", seat, -1, -1, frozenset({seat})) for seat in range(7)),
        ("fellow", 1, 5, -1, frozenset({1})),
        ("fellow", 5, 1, -1, frozenset({5})),
        ("night", -1, -1, 1, everybody),
    ]
    assert (game.phase, game.actor, game.step_index, game.day) == ("wolf", 1, 0, 1)
    assert game.view(1) == [(0, 1, -1, -1), (1, 1, 5, -1), (2, -1, -1, 1)]
    assert game.view(0) == [(0, 0, -1, -1), (2, -1, -1, 1)]
    assert game.outcome == [0] * 7 and not game.terminated and not game.truncated


def test_a_lone_wolf_has_no_fellow_and_nobody_sees_its_pick():
    game = referee(FIVE)
    assert KINDS.index("fellow") not in [event[0] for event in game.log]
    assert play(game, 3) == [("wolf_pick", 0, 3, -1, [])]


@pytest.mark.parametrize(
    ("order", "turns"),
    [
        ("wolf,doctor,seer", [("wolf", 0), ("wolf", 1), ("doctor", 3), ("seer", 2)]),
        ("seer,wolf,doctor", [("seer", 2), ("wolf", 0), ("wolf", 1), ("doctor", 3)]),
        ("doctor,seer,wolf", [("doctor", 3), ("seer", 2), ("wolf", 0), ("wolf", 1)]),
    ],
)
def test_the_night_goes_by_role_then_by_seat(order: str, turns: list[tuple[str, int]]):
    game = referee(SEVEN, night_order=order)
    seen = []
    for action in (4, 4, 4, 4):
        seen.append((game.phase, game.actor))
        assert game.acting_seats() == {game.actor}
        game.step(action, {"first_speaker": 2})
    assert seen == turns
    assert game.phase == "speak"


def test_who_may_be_picked_at_night():
    game = referee(SEVEN)
    assert game.legal_actions() == {2, 3, 4, 5, 6}  # a wolf picks no wolf
    play(game, 4, 4)
    assert game.legal_actions() == set(range(7))  # the doctor may protect himself
    play(game, 3)
    assert game.legal_actions() == {0, 1, 3, 4, 5, 6}  # the seer cannot check himself


def test_an_illegal_action_becomes_the_lowest_legal_one():
    game = referee(SEVEN)
    assert play(game, 0) == [("wolf_pick", 0, 2, -1, [1])]
    assert play(game, 999) == [("wolf_pick", 1, 2, -1, [0])]
    assert play(game, -1) == [("protect", 3, 0, -1, [])]
    assert play(game, 2, first_speaker=0)[0] == ("check", 2, 0, -1, [])


def test_the_seer_checks_everybody_once_before_anybody_twice():
    game = referee(FIVE, **QUIET)
    for night, (check, left) in enumerate([(0, {0, 2, 3, 4}), (2, {2, 3, 4}), (3, {3, 4})], 1):
        assert game.day == night
        play(game, 3, 3)
        assert game.legal_actions() == left
        play(game, check)
        play(game, 1, 2, 3, 4, 0)  # one vote each: a tie, nobody goes
    play(game, 3, 3)
    assert game.legal_actions() == {4}
    play(game, 4, 1, 2, 3, 4, 0)
    play(game, 3, 3)
    assert game.legal_actions() == {0, 2, 3, 4}  # all were checked: any living other seat


def test_a_morning_is_logged_in_the_order_of_the_page():
    game = referee(SEVEN)
    play(game, 4, 4, 5)
    assert play(game, 1, first_speaker=6) == [
        ("check", 2, 1, -1, []),
        ("check_result", 2, 1, 1, [2]),
        ("day", -1, -1, 1, list(range(7))),
        ("death", -1, 4, 3, list(range(7))),
    ]
    assert game.alive == [True, True, True, True, False, True, True]
    assert game.draws == {"first_speaker": (frozenset({0, 1, 2, 3, 5, 6}), 6)}


def test_a_seer_who_dies_still_gets_his_result_and_checks_no_more():
    game = referee(SEVEN, **QUIET)
    rows = play(game, 2, 2, 3, 4)
    assert rows[-3:] == [
        ("check_result", 2, 4, 0, [2]),
        ("day", -1, -1, 1, list(range(7))),
        ("death", -1, 2, 1, list(range(7))),
    ]
    play(game, 1, 0, 1, 0, 1, 0)  # three against three: nobody goes
    assert (game.phase, game.actor, game.day) == ("wolf", 0, 2)
    rows = play(game, 4, 4, 4)  # wolves, doctor; no seer: the doctor's act ends the night
    assert kinds(rows) == ["wolf_pick", "wolf_pick", "protect", "day", "no_death"]


def test_without_reveal_the_role_of_the_dead_stays_hidden():
    game = referee("wsdvvv", **QUIET, reveal_roles=False)
    assert play(game, 1, 2, 0)[-1] == ("death_hidden", -1, 1, -1, list(range(6)))
    rows = play(game, 5, 5, 5, 5, 0)
    assert rows[5:] == [
        ("expelled_hidden", -1, 5, -1, list(range(6))),
        ("night", -1, -1, 2, list(range(6))),
    ]


def test_the_protected_seat_lives():
    game = referee(FIVE, **QUIET)
    assert kinds(play(game, 3, 3, 0))[-2:] == ["day", "no_death"]
    assert all(game.alive)


def test_protection_does_not_outlast_its_night():
    game = referee("wsdvvv", **QUIET)
    play(game, 4, 4, 0)
    play(game, 2, 2, 0, 2, 2, 2)  # the doctor is expelled
    assert play(game, 4, 2)[-1][:3] == ("death", -1, 4)


def test_a_random_wolf_tie_dies_as_drawn_and_only_as_it_can():
    def tied() -> Referee:
        game = referee(SEVEN, **QUIET)
        play(game, 4, 6, 0)
        return game

    game = tied()
    assert play(game, 0, wolf_target=6)[-1][:3] == ("death", -1, 6)
    assert game.draws == {"wolf_target": (frozenset({4, 6}), 6)}
    with pytest.raises(AssertionError, match="wolf_target was drawn as 5"):
        play(tied(), 0, wolf_target=5)
    with pytest.raises(AssertionError, match="wolf_target has to be drawn"):
        play(tied(), 0)


def test_a_protected_seat_may_be_drawn_among_tied_picks():
    game = referee(SEVEN, **QUIET)
    assert kinds(play(game, 4, 6, 6, 0, wolf_target=6))[-1] == "no_death"


@pytest.mark.parametrize(
    ("tie", "death"), [("last", ("death", -1, 4)), ("none", ("no_death", -1, -1))]
)
def test_wolf_ties_without_chance(tie: str, death: tuple[str, int, int]):
    game = referee(SEVEN, **QUIET, wolf_tie=tie)
    assert play(game, 6, 4, 0, 0)[-1][:3] == death
    assert game.draws == {}


@pytest.mark.parametrize("tie", ["random", "last", "none"])
def test_wolves_who_agree_need_no_tie_rule(tie: str):
    game = referee(SEVEN, **QUIET, wolf_tie=tie)
    assert play(game, 5, 5, 0, 0)[-1][:3] == ("death", -1, 5)


def test_speaking_goes_around_from_the_first_speaker_once_a_round():
    game = referee(FIVE, speech_rounds=2)
    play(game, 3, 4, 0, first_speaker=2)
    order = []
    while game.phase == "speak":
        order.append(game.actor)
        assert game.acting_seats() == {game.actor}
        game.step(29)
    assert order == [2, 4, 0, 1] * 2  # seat 3 is dead
    assert (game.phase, game.actor) == ("vote", 0)


def test_the_dead_cannot_speak_first():
    game = referee(FIVE)
    play(game, 3, 4)
    with pytest.raises(AssertionError, match="first_speaker was drawn as 3"):
        play(game, 0, first_speaker=3)


def test_each_speech_act_has_its_index_and_its_row():
    game = referee("wsdvvv")
    play(game, 5, 0, 0, first_speaker=0)
    others = [1, 2, 3, 4]
    assert game.legal_actions() == {
        *(6 + seat for seat in others),
        *(12 + seat for seat in others),
        *(18, 19, 20, 21),
        *(22 + seat for seat in others),
        *(28 + seat for seat in others),
        34,
    }
    for seat, (action, row) in enumerate(
        [
            (7, ("accuse", 0, 1, -1)),
            (12, ("defend", 1, 0, -1)),
            (18, ("claim", 2, -1, 0)),
            (22, ("report", 3, 0, 1)),
            (31, ("report", 4, 3, 0)),
        ]
    ):
        assert play(game, action) == [(*row, [s for s in range(6) if s != seat])]
    game = referee("wsdvvv")
    play(game, 5, 0, 0, first_speaker=4)
    assert play(game, 34) == [("pass", 4, -1, -1, [0, 1, 2, 3, 5])]
    assert play(game, 0) == [("accuse", 0, 1, -1, [1, 2, 3, 4, 5])]  # illegal: a pick


def test_free_speech_comes_before_the_act_and_points_to_its_decision():
    game = referee(FIVE, speech_tokens=8)
    play(game, 3, 3, 0, first_speaker=1)
    assert play(game, 29) == [
        ("utterance", 1, -1, 3, [0, 2, 3, 4]),
        ("pass", 1, -1, -1, [0, 2, 3, 4]),
    ]


def test_free_speech_alone_allows_only_to_pass_and_logs_no_act():
    game = referee(FIVE, speech_tokens=8, speech_acts=False)
    play(game, 3, 3, 0, first_speaker=1)
    assert game.legal_actions() == {29}
    assert play(game, 5) == [("utterance", 1, -1, 3, [0, 2, 3, 4])]


def test_without_any_speech_the_vote_follows_the_night():
    game = referee(FIVE, **QUIET)
    play(game, 3, 3, 0)
    assert (game.phase, game.actor) == ("vote", 0)
    assert game.draws == {}


def test_votes_stay_hidden_until_all_are_cast():
    game = referee("wsdvvv", **QUIET)
    play(game, 5, 0, 0)
    size = len(game.log)
    for seat in range(4):
        assert (game.phase, game.actor) == ("vote", seat)
        assert game.acting_seats() == set(range(seat, 5))
        assert game.legal_actions() == set(range(5)) - {seat}
        game.step(4)
        assert len(game.log) == size
    everybody = list(range(6))
    assert play(game, 0) == [
        *(("vote", seat, 4, -1, [s for s in everybody if s != seat]) for seat in range(4)),
        ("vote", 4, 0, -1, everybody[:4] + [5]),
        ("expelled", -1, 4, 3, everybody),
        ("night", -1, -1, 2, everybody),
    ]


def test_a_tied_vote_expels_nobody_or_the_one_drawn():
    game = referee(FIVE, **QUIET)
    rows = play(game, 3, 3, 0, 1, 0, 1, 0, 2)
    assert kinds(rows)[-2:] == ["no_expulsion", "night"]
    game = referee(FIVE, **QUIET, vote_tie="random")
    play(game, 3, 3, 0, 1, 0, 1, 0)
    with pytest.raises(
        AssertionError, match=r"expelled was drawn as 2, possible are seats \[0, 1\]"
    ):
        play(game, 2, expelled=2)
    game = referee(FIVE, **QUIET, vote_tie="random")
    rows = play(game, 3, 3, 0, 1, 0, 1, 0, 2, expelled=1)
    assert rows[-2][:4] == ("expelled", -1, 1, 1)
    assert game.draws == {"expelled": (frozenset({0, 1}), 1)}


def test_the_village_wins_when_no_wolf_lives_and_the_dead_share_it():
    game = referee(FIVE, **QUIET)
    rows = play(game, 3, 0, 0, 1, 0, 0, 0)
    assert [row[:4] for row in rows[-2:]] == [("expelled", -1, 0, 0), ("win", -1, -1, 1)]
    assert game.outcome == [-1, 1, 1, 1, 1]
    assert (game.phase, game.actor) == ("over", -1)
    assert game.terminated and not game.truncated


def test_a_game_that_is_over_stays_as_it_is():
    game = referee(FIVE, **QUIET)
    play(game, 3, 0, 0, 1, 0, 0, 0)
    before = (list(game.log), game.step_index, list(game.outcome))
    assert game.legal_actions() == set(range(30))
    assert game.acting_seats() == set()
    play(game, 3, 1000)
    assert (game.log, game.step_index, game.outcome) == before


def test_parity_is_met_by_a_death_at_night_and_the_day_marker_comes_first():
    game = referee(FIVE, **QUIET)
    play(game, 3, 0, 0, 4, 4, 4, 1)  # 3 dies, 4 is expelled: wolf against seer and doctor
    assert not game.over
    rows = play(game, 1, 0, 2)
    assert kinds(rows)[-4:] == ["check_result", "day", "death", "win"]
    assert rows[-1][:4] == ("win", -1, -1, 0)
    assert game.outcome == [1, -1, -1, -1, -1]


def test_extinction_goes_on_beyond_parity():
    game = referee(FIVE, **QUIET, win_rule="extinction")
    play(game, 3, 0, 0, 4, 4, 4, 1)
    play(game, 1, 0, 2)  # the seer dies: one against one
    assert not game.over
    play(game, 2, 0)
    assert (game.phase, game.actor, game.day) == ("wolf", 0, 3)
    assert kinds(play(game, 2, 0))[-2:] == ["death", "win"]
    assert game.outcome == [1, -1, -1, -1, -1]


def test_sides_ends_without_villagers_or_without_seer_and_doctor():
    game = referee(FIVE, **QUIET, win_rule="sides")
    rows = play(game, 3, 0, 0, 4, 4, 4, 1)
    assert kinds(rows)[-2:] == ["expelled", "win"]  # no plain villager lives, day's vote decides
    assert game.outcome == [1, -1, -1, -1, -1]
    game = referee("wsdvvv", **QUIET, win_rule="sides")
    play(game, 1, 0, 0)
    assert not game.over  # the doctor lives
    play(game, 3, 3, 2, 2, 0)  # a tie
    assert not game.over
    assert kinds(play(game, 2, 0))[-2:] == ["death", "win"]
    assert game.outcome == [1, -1, -1, -1, -1, -1]


def test_sides_is_won_by_the_village_if_the_last_wolf_goes():
    game = referee(FIVE, **QUIET, win_rule="sides")
    play(game, 3, 3, 0, 1, 0, 0, 0, 0)
    assert game.outcome == [-1, 1, 1, 1, 1]


def test_two_wolves_win_together_with_one_dead():
    game = referee(SEVEN, **QUIET)
    play(game, 4, 4, 0, 0)  # 4 dies: 0 1 2 3 5 6 live
    play(game, 1, 0, 0, 0, 0, 0)  # wolf 0 is expelled
    assert (game.phase, game.actor) == ("wolf", 1)
    assert play(game, 5) == [("wolf_pick", 1, 5, -1, [])]  # the dead fellow does not see it
    play(game, 1, 1, 6, 6, 1, 1)  # doctor, seer; then 1 2 3 6 vote: 6, 6, 1, 1: a tie
    play(game, 6, 1, 3)
    assert game.outcome == [0] * 7  # 1 wolf, seer and doctor
    play(game, 2, 1, 2)
    assert game.outcome == [1, 1, -1, -1, -1, -1, -1]


def test_the_last_day_truncates_but_a_win_on_it_counts():
    game = referee(FIVE, **QUIET, max_days=2)
    play(game, 3, 3, 0, 1, 2, 3, 4, 0)
    assert game.phase == "wolf"
    rows = play(game, 3, 3, 2, 1, 2, 3, 4, 0)
    assert rows[-2:] == [
        ("no_expulsion", -1, -1, -1, list(range(5))),
        ("truncated", -1, -1, -1, list(range(5))),
    ]
    assert (game.phase, game.actor, game.outcome) == ("over", -1, [0] * 5)
    assert game.truncated and not game.terminated
    game = referee(FIVE, **QUIET, max_days=1)
    assert kinds(play(game, 3, 3, 0, 1, 0, 0, 0, 0))[-2:] == ["expelled", "win"]
    assert game.terminated and not game.truncated


@pytest.mark.parametrize(
    ("parameters", "deal"),
    [
        ({"wolf_tie": "first"}, FIVE),
        ({"night_order": "wolf,doctor"}, FIVE),
        ({"max_days": 21}, FIVE),
        ({"colour": "red"}, FIVE),
        ({}, "wwdvv"),
    ],
)
def test_what_the_page_does_not_allow_is_refused(parameters: dict[str, Any], deal: str):
    with pytest.raises(AssertionError):
        referee(deal, **parameters)


# The replay, on games that the referee itself played at random.

VARIANTS: list[dict[str, Any]] = [
    {},
    {"num_seats": 5, "speech_acts": False, "vote_tie": "random", "win_rule": "extinction"},
    {"num_seats": 6, "speech_tokens": 4, "max_days": 2, "reveal_roles": False},
    {"num_seats": 7, "wolf_tie": "last", "night_order": "doctor,seer,wolf", "win_rule": "sides"},
    {"num_seats": 8, "wolf_tie": "none", "speech_rounds": 3, "night_order": "seer,wolf,doctor"},
    {"num_seats": 9, "speech_acts": False, "speech_tokens": 4, "vote_tie": "random"},
]


def record(parameters: dict[str, Any], seed: int) -> tuple[dict[str, np.ndarray], set[str]]:
    """Plays a game at random, some actions illegal, two steps beyond its end.

    Returns:
        The record as `replay` takes it, and the names of the draws that the game needed.
    """
    rng = random.Random(seed)
    num_seats = parameters.get("num_seats", 7)
    wolves = 1 if num_seats < 7 else 2
    deal = ["wolf"] * wolves + ["seer", "doctor"] + ["villager"] * (num_seats - wolves - 2)
    rng.shuffle(deal)
    game = Referee(parameters, deal)
    states: list[dict[str, Any]] = [snapshot(game)]
    actions: list[int] = []
    drawn: set[str] = set()
    beyond = 0
    while beyond < 2:
        beyond += game.over
        legal = sorted(game.legal_actions())
        actions.append(rng.choice(legal) if rng.random() < 0.9 else rng.randrange(-2, 60))
        while True:  # guess the draws until the referee finds them possible
            trial = copy.deepcopy(game)
            try:
                trial.step(actions[-1], {name: rng.randrange(num_seats) for name in DRAWS})
                break
            except AssertionError:
                continue
        game = trial
        drawn |= set(game.draws)
        states.append(snapshot(game))
    padding: list[Event] = [(-1, -1, -1, -1, frozenset())] * 3
    recorded = {name: np.array([state[name] for state in states]) for name in states[0]}
    recorded["roles"] = np.array([ROLES.index(role) for role in deal])
    recorded["actions"] = np.array(actions)
    recorded["log_rows"] = np.array([event[:4] for event in game.log + padding], np.int16)
    masks = [sum(1 << seat for seat in event[4]) for event in game.log + padding]
    recorded["log_audience"] = np.array(masks, np.uint16)
    return recorded, drawn


def snapshot(game: Referee) -> dict[str, Any]:
    return {
        "phase": PHASES.index(game.phase),
        "actor": game.actor,
        "step": game.step_index,
        "alive": list(game.alive),
        "legal": [action in game.legal_actions() for action in range(game.num_actions)],
        "acting": [seat in game.acting_seats() for seat in range(game.num_seats)],
        "log_size": len(game.log),
        "outcome": [float(score) for score in game.outcome],
        "terminated": game.terminated,
        "truncated": game.truncated,
    }


def test_replay_agrees_with_what_the_referee_played_and_meets_every_draw():
    needed: set[str] = set()
    for seed, variant in enumerate(VARIANTS * 2):
        recorded, drawn = record(variant, seed)
        game = replay(variant, recorded)
        assert len(game.log) == recorded["log_size"][-1]
        assert game.over
        needed |= drawn
    assert needed == set(DRAWS)


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("phase", "phase"),
        ("actor", "(actor|chance)"),
        ("step", "step"),
        ("alive", "alive"),
        ("legal", "legal"),
        ("acting", "acting"),
        ("log_size", "log_size"),
        ("outcome", "outcome"),
        ("terminated", "terminated"),
        ("truncated", "truncated"),
    ],
)
@pytest.mark.parametrize("time", [0, 5, -1])
def test_replay_names_the_time_and_the_field_that_differs(field: str, named: str, time: int):
    recorded, _ = record({}, seed=1)
    values = recorded[field]
    time %= len(values)
    place = (time, 2) if values.ndim == 2 else time
    values[place] = not values[place] if values.dtype == bool else values[place] + 1
    with pytest.raises(AssertionError, match=f"^t={time}, {named}:"):
        replay({}, recorded)


def test_replay_reads_every_row_and_every_bit_of_its_audience():
    recorded, _ = record({}, seed=2)
    for place in range(0, recorded["log_size"][-1], 7):
        for change in ("row", "audience"):
            altered = copy.deepcopy(recorded)
            if change == "row":
                altered["log_rows"][place, 2] += 1
            else:
                altered["log_audience"][place] ^= 1 << (place % 7)
            with pytest.raises(AssertionError, match=rf"^t=\d+, (chance|.*log row {place}):"):
                replay({}, altered)


def test_replay_judges_by_the_parameters_it_is_given():
    recorded, _ = record({"reveal_roles": False}, seed=3)
    with pytest.raises(AssertionError, match="recorded death_hidden.*demand death"):
        replay({}, recorded)


def test_replay_refuses_a_record_that_is_not_whole():
    recorded, _ = record({}, seed=4)
    with pytest.raises(AssertionError, match="alive has shape"):
        replay({}, {**recorded, "alive": recorded["alive"][:-1]})
    del recorded["outcome"]
    with pytest.raises(AssertionError, match="lacks .'outcome'."):
        replay({}, recorded)
