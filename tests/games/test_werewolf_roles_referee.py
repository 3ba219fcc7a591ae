"""The referee by scenarios of witch, hunter and guard, of second votes, and of what MaKTO's rules allow.

A deal is written as one letter a seat: w, s, d, v and i for the witch, h for the hunter, g for the guard.
"""

from typing import Any

import pytest

from tests.games.test_werewolf_referee import QUIET, kinds, play
from tests.games.werewolf_referee import Referee

LETTERS = {"w": "wolf", "s": "seer", "d": "doctor", "v": "villager", "i": "witch", "h": "hunter", "g": "guard"}
NINE = "wwwsihvvv"  # PASS is 52, SAVE 53
PASS, SAVE = 52, 53
ALL = list(range(9))


def referee(deal: str, **parameters: Any) -> Referee:
    roles = {"i": "witch", "h": "hunter", "g": "guard"}
    dealt = {name: letter in deal for letter, name in roles.items()}
    return Referee({"num_seats": len(deal), **dealt, **parameters}, [LETTERS[letter] for letter in deal])


@pytest.mark.parametrize(
    ("deal", "parameters"),
    [
        ("wwwsihvvv", {"num_seats": 9, "rules": "makto"}),
        ("wwwsigvvv", {"num_seats": 9, "rules": "makto", "guard": True}),
        ("wwsivvv", {"num_seats": 7, "rules": "makto"}),
        ("wwsgvvv", {"num_seats": 7, "rules": "makto", "guard": True}),
        ("wwwwsihgvvvv", {"num_seats": 12, "rules": "makto", "hunter": True, "guard": True}),
        ("wwwsdhvvv", {"num_seats": 9, "hunter": True}),
        ("wwwsdvvvvvvv", {"num_seats": 12}),
        ("wwsdvvv", {"rules": "makto", "witch": False}),
    ],
)
def test_the_deal_is_that_of_the_page(deal: str, parameters: dict[str, Any]):
    assert Referee(parameters, [LETTERS[letter] for letter in deal]).alive == [True] * len(deal)
    with pytest.raises(AssertionError, match="cannot be dealt"):
        Referee(parameters, [LETTERS[letter] for letter in deal[1:] + "v"])


@pytest.mark.parametrize(
    "parameters",
    [
        {"num_seats": 5, "witch": True, "hunter": True, "guard": True},  # no villager left
        {"num_seats": 9, "witch": True, "night_order": "witch,wolf,seer"},
        {"num_seats": 9, "witch": True, "night_order": "wolf,doctor,seer,witch"},
        {"num_seats": 13},
        {"rules": "mafia"},
    ],
)
def test_what_the_page_does_not_allow_is_refused(parameters: dict[str, Any]):
    with pytest.raises(AssertionError, match="allow"):
        Referee(parameters, ["wolf"])


# The witch.


def test_the_witch_learns_whom_the_wolves_chose_and_saves_or_poisons_or_passes():
    game = referee(NINE, **QUIET)
    rows = play(game, 6, 6, 6, 0)
    assert rows[-2:] == [("check", 3, 0, -1, []), ("victim", 4, 6, -1, [4])]
    assert game.legal_actions() == {0, 1, 2, 3, 5, 6, 7, 8, PASS, SAVE}
    rows = play(game, SAVE)
    assert rows == [
        ("save", 4, 6, -1, []),
        ("check_result", 3, 0, 1, [3]),
        ("day", -1, -1, 1, ALL),
        ("no_death", -1, -1, -1, ALL),
    ]
    play(game, *[1, 0] * 4, 2)  # a tie
    rows = play(game, 6, 6, 6, 1)
    assert "victim" not in kinds(rows)  # without the antidote she is not told
    assert game.legal_actions() == {0, 1, 2, 3, 5, 6, 7, 8, PASS}
    assert kinds(play(game, PASS)) == ["check_result", "day", "death"]


def test_two_deaths_are_told_in_the_order_of_seats_and_poison_tells_nothing_of_itself():
    game = referee(NINE, **QUIET)
    rows = play(game, 6, 6, 6, 0, 1)
    assert [row[:4] for row in rows[-2:]] == [("death", -1, 1, 0), ("death", -1, 6, 3)]
    assert rows[-5] == ("poison", 4, 1, -1, [])
    play(game, 2, 0, 0, 2, 0, 2, 3)  # a tie of 0 and 2; 1 and 6 are dead
    assert kinds(play(game, 7, 7, 2))[-1] == "victim"  # she still has the antidote
    assert game.legal_actions() == {PASS, SAVE}


def test_a_witch_without_potions_is_skipped():
    game = referee(NINE, **QUIET)
    play(game, 6, 6, 6, 0, SAVE, *[1, 0] * 4, 2)
    play(game, 6, 6, 6, 1, 7)  # 6 is killed, 7 poisoned
    play(game, 2, 2, 0, 0, 2, 0, 1)  # a tie of 0 and 2
    assert kinds(play(game, 8, 8, 8, 2)) == [*["wolf_pick"] * 3, "check", "check_result", "day", "death", "win"]


def test_the_witch_may_save_herself_but_not_poison_herself():
    game = referee(NINE, **QUIET)
    play(game, 4, 4, 4, 0)
    assert SAVE in game.legal_actions()
    assert 4 not in game.legal_actions()
    assert kinds(play(game, SAVE))[-1] == "no_death"


def test_the_witch_is_told_when_the_wolves_chose_nobody():
    game = referee(NINE, **QUIET, wolf_tie="none")
    assert kinds(play(game, 6, 7, 8, 0))[-1] == "no_victim"
    assert SAVE not in game.legal_actions()


def test_a_random_tie_is_drawn_before_the_witch_is_told():
    game = referee(NINE, **QUIET)
    play(game, 6, 7)
    with pytest.raises(AssertionError, match="wolf_target has to be drawn"):
        game.step(8)
    game = referee(NINE, **QUIET)
    play(game, 6, 7)
    play(game, 8, wolf_target=7)
    assert play(game, 0)[-1] == ("victim", 4, 7, -1, [4])
    assert kinds(play(game, SAVE))[-1] == "no_death"


# The guard.

TWELVE = "wwwwsihgvvvv"  # PASS is 67, SAVE 68


@pytest.mark.parametrize(("guarded", "witch", "died"), [(8, 67, []), (8, 68, [8]), (9, 68, []), (9, 67, [8]),
                                                         (8, 8, [8]), (9, 9, [8, 9]), (8, 9, [9])])  # fmt: skip
def test_who_is_protected_or_saved_lives_but_not_who_is_both_and_poison_always_kills(
    guarded: int, witch: int, died: list[int]
):
    game = referee(TWELVE, **QUIET)
    play(game, 8, 8, 8, 8, guarded, 0, witch)
    assert [seat for seat in range(12) if not game.alive[seat]] == died


def test_the_guard_protects_nobody_twice_running():
    game = referee("wwsgvvv", **QUIET)
    play(game, 4, 4)
    assert game.legal_actions() == set(range(7))
    play(game, 4, 0)
    play(game, 1, 0, 1, 0, 1, 0, 2)
    play(game, 4, 4)
    assert game.legal_actions() == {0, 1, 2, 3, 5, 6}
    play(game, 3, 1)
    assert not game.alive[4]


def test_with_makto_the_guard_may_protect_nobody_and_then_anybody():
    game = referee("wwsgvvv", **QUIET, rules="makto")  # seer before guard; PASS is 42
    play(game, 42, 42, 0, 4, *[42] * 7)
    play(game, 42, 42, 1)
    assert game.legal_actions() == {0, 1, 2, 3, 5, 6, 42}
    assert kinds(play(game, 42)) == ["check_result", "day", "no_death"]
    play(game, *[42] * 7, 42, 42, 4)
    assert game.legal_actions() == {*range(7), 42}


# The hunter.


def test_a_hunter_killed_by_the_wolves_shoots_before_the_day_opens():
    game = referee(NINE)
    rows = play(game, 5, 5, 5, 0, PASS)
    assert kinds(rows)[-2:] == ["day", "death"]
    assert (game.phase, game.actor, game.acting_seats()) == ("hunter", 5, {5})
    assert game.legal_actions() == {0, 1, 2, 3, 4, 6, 7, 8, PASS}
    rows = play(game, 1, first_speaker=0)
    assert rows == [("shot", 5, 1, -1, [0, 1, 2, 3, 4, 6, 7, 8]), ("death", -1, 1, 0, ALL)]
    assert (game.phase, game.actor) == ("speak", 0)


def test_a_hunter_may_keep_his_shot_and_nobody_sees_it():
    game = referee(NINE, **QUIET)
    play(game, 5, 5, 5, 0, PASS)
    assert play(game, PASS) == []
    assert game.phase == "vote"


@pytest.mark.parametrize("target", [5, 6])
def test_a_poisoned_hunter_does_not_shoot_even_if_the_wolves_chose_him(target: int):
    game = referee(NINE, **QUIET)
    play(game, target, target, target, 0, 5)
    assert not game.alive[5]
    assert game.phase == "vote"


def test_a_hunter_who_is_expelled_shoots_before_the_night_or_the_end_of_days():
    for max_days, last in ((2, "night"), (1, "truncated")):
        game = referee(NINE, **QUIET, max_days=max_days)
        rows = play(game, 6, 6, 6, 0, SAVE, 5, 5, 5, 5, 5, 0, 5, 5, 5)
        assert kinds(rows)[-1] == "expelled"
        assert (game.phase, game.actor) == ("hunter", 5)
        assert kinds(play(game, 0)) == ["shot", "death", last]


def test_a_shot_may_end_the_game_and_a_game_that_is_over_has_no_shot():
    game = referee("wsihv", **QUIET)  # PASS is 32, SAVE 33
    rows = play(game, 3, 0, 32, 0)
    assert [row[:4] for row in rows[-3:]] == [("shot", 3, 0, -1), ("death", -1, 0, 0), ("win", -1, -1, 1)]
    game = referee("wsihv", **QUIET)
    assert kinds(play(game, 4, 0, 1))[-2:] == ["death", "death"]  # of wolf, witch and hunter
    assert kinds(play(game, 3, 3, 0))[-2:] == ["expelled", "win"]  # the hunter goes: a wolf faces the witch


# A second vote.


def test_tied_seats_speak_again_and_the_others_vote_among_them():
    game = referee("wwsdvvv", vote_tie="runoff")
    play(game, 4, 4, 3, 0, first_speaker=1)
    play(game, *[39] * 6)  # pass; seat 4 is dead
    rows = play(game, 1, 0, 0, 1, 2, 5, first_speaker=1)
    assert kinds(rows) == ["vote"] * 6 + ["tie"]
    assert [(game.phase, game.actor)] + [step(game, 39) for _ in range(2)] == [("speak", 1), ("speak", 0), ("vote", 2)]
    assert game.acting_seats() == {2, 3, 5, 6}
    assert game.legal_actions() == {0, 1}
    rows = play(game, 0, 0, 1, 0)
    assert [row[:3] for row in rows[:4]] == [("vote", 2, 0), ("vote", 3, 0), ("vote", 5, 1), ("vote", 6, 0)]
    assert rows[4][:4] == ("expelled", -1, 0, 0)


def step(game: Referee, action: int) -> tuple[str, int]:
    play(game, action)
    return game.phase, game.actor


def test_who_is_not_tied_cannot_speak_first_before_the_second_vote():
    game = referee("wwsdvvv", vote_tie="runoff")
    play(game, 4, 4, 3, 0, first_speaker=1)
    play(game, *[39] * 6, 1, 0, 0, 1, 2)
    with pytest.raises(AssertionError, match="first_speaker was drawn as 2"):
        game.step(5, {"first_speaker": 2})


def test_a_second_tie_expels_nobody_and_if_all_are_tied_all_vote():
    game = referee("wwsdvvv", **QUIET, vote_tie="runoff")
    play(game, 4, 4, 3, 0)
    play(game, 1, 0, 3, 2, 6, 5)
    assert game.acting_seats() == {0, 1, 2, 3, 5, 6}
    assert kinds(play(game, 1, 0, 3, 2, 6, 5))[-2:] == ["no_expulsion", "night"]
    play(game, 5, 5, 3, 1)
    assert game.legal_actions() == {1, 2, 3, 6}  # the next day opens with a first vote


# What MaKTO's rules allow.

MAKTO = {**QUIET, "rules": "makto"}


def test_wolves_may_choose_one_of_themselves_or_nobody():
    game = referee(NINE, **MAKTO)
    assert game.legal_actions() == {*ALL, PASS}
    assert play(game, PASS) == [("wolf_pass", 0, -1, -1, [1, 2])]
    rows = play(game, PASS, 1, 0)
    assert rows[-1] == ("victim", 4, 1, -1, [4])
    assert play(game, PASS)[-1][:3] == ("death_hidden", -1, 1)
    game = referee(NINE, **MAKTO)
    assert kinds(play(game, PASS, PASS, PASS, 0))[-1] == "no_victim"
    game = referee(NINE, **MAKTO)
    assert play(game, 6, 7, PASS, 0)[-1][:3] == ("victim", 4, 7)  # a tie: the last pick, not the last wolf


def test_voters_may_abstain():
    game = referee(NINE, **MAKTO)
    play(game, PASS, PASS, PASS, 0, PASS)
    rows = play(game, *[PASS] * 8, 3)
    assert rows[0] == ("abstain", 0, -1, -1, [1, 2, 3, 4, 5, 6, 7, 8])
    assert [row[:3] for row in rows[-3:]] == [("vote", 8, 3), ("expelled_hidden", -1, 3), ("night", -1, -1)]
    play(game, PASS, PASS, PASS, PASS)
    assert kinds(play(game, *[PASS] * 8))[-2:] == ["no_expulsion", "night"]


def test_the_wolves_win_when_all_villagers_or_all_others_of_the_village_are_dead():
    game = referee("wwsgvvv", **MAKTO)
    play(game, 2, 2, 0, 42)  # the seer is killed, nobody protected
    assert not game.over
    rows = play(game, 3, 3, 3, 3, 3, 3)
    assert kinds(rows)[-2:] == ["expelled_hidden", "win"]
    assert game.outcome == [1, 1, -1, -1, -1, -1, -1]
    game = referee("wwsgvvv", **MAKTO, max_days=3)
    for victim in (4, 5):
        play(game, victim, victim, 0 if victim == 4 else 1, 42, *[42] * (6 if victim == 4 else 5))
    assert kinds(play(game, 6, 6, 3, 42))[-1] == "win"  # parity would not have been reached: 2 wolves, 2 others


def test_only_roles_that_are_dealt_may_be_claimed():
    game = referee(NINE)
    play(game, 6, 6, 6, 0)
    play(game, SAVE, first_speaker=0)
    claims = {action - 27 for action in game.legal_actions() if 27 <= action < 34}
    assert claims == {0, 1, 3, 4, 5}  # no doctor, no guard
