"""What the games' pages say of goals, as plain predicates over transcripts.

A predicate takes a game, the place of an item in it and a seat, and says whether the goal comes true for the seat with
that item; one of a final goal takes the game and the seat. Nothing of `games.goals` is used.
"""

from collections.abc import Callable
from typing import Any

from tests.games.naive_rules import EVIL, FAILS
from tests.games.transcripts import Event, Transcript

During = Callable[[Transcript, int, int], bool]
Final = Callable[[Transcript, int], bool]


def reached(game: Transcript, during: dict[str, During], final: dict[str, Final]) -> list[set[str]]:
    """Of each decision the goals that came true between it and the same seat's next one, or by the end."""
    goals = []
    for made in game.decisions:
        start = game.items.index(made) + 1
        later = [other for other in game.decisions if other.index > made.index and other.seat == made.seat]
        stop = game.items.index(later[0]) if later else len(game.items)
        places = [place for place in range(start, stop) if isinstance(game.items[place], Event)]
        came = {name for name, true in during.items() if any(true(game, place, made.seat) for place in places)}
        goals.append(came | {name for name, true in final.items() if not later and true(game, made.seat)})
    return goals


def _kind(game: Transcript, place: int) -> str:
    return game.items[place].kind


def _before(game: Transcript, place: int) -> Transcript:
    """What came before an item, and the item itself."""
    return Transcript(game.items[: place + 1], game.roles, game.outcome)


OUTCOME: dict[str, Final] = {"outcome": lambda game, seat: game.outcome[seat] > 0}


def _team(game: Transcript, place: int) -> set[int]:
    items = _before(game, place).items
    leads = [index for index, item in enumerate(items) if getattr(item, "kind", "") == "leader"]
    return {item.target for item in items[leads[-1] :] if getattr(item, "kind", "") == "pick"}


def _can_fail(game: Transcript, place: int) -> bool:
    quest = len(_before(game, place).events("quest")) - 1
    evil = sum(game.roles[seat] in EVIL for seat in _team(game, place))
    return evil >= FAILS.get((len(game.roles), quest), 1)


def _results(game: Transcript, place: int, seat: int, ours: bool) -> int:
    """Quests that have gone the seat's way, or not, with the one at `place` as the last; 0 if there is none."""
    mine = "quest_failed" if (game.roles[seat] in EVIL) == ours else "quest_succeeded"
    return len(_before(game, place).events(mine)) if _kind(game, place) == mine else 0


def _shots(game: Transcript, merlin: bool) -> bool:
    return any((game.roles[shot.target] == "merlin") == merlin for shot in game.events("shot"))


GOES = ("approved", "unvoted")
AVALON: tuple[dict[str, During], dict[str, Final]] = (
    {
        "quest_ours": lambda game, place, seat: _results(game, place, seat, True) > 0,
        "quest_theirs": lambda game, place, seat: _results(game, place, seat, False) > 0,
        "one_quest_left": lambda game, place, seat: _results(game, place, seat, True) == 2,
        "they_need_one": lambda game, place, seat: _results(game, place, seat, False) == 2,
        "clean_team_goes": lambda game, place, seat: _kind(game, place) in GOES and not _can_fail(game, place),
        "evil_team_goes": lambda game, place, seat: _kind(game, place) in GOES and _can_fail(game, place),
        "i_go": lambda game, place, seat: _kind(game, place) in GOES and seat in _team(game, place),
        "clean_team_rejected": lambda game, place, seat: (
            _kind(game, place) == "rejected" and not _can_fail(game, place)
        ),
        "evil_team_rejected": lambda game, place, seat: _kind(game, place) == "rejected" and _can_fail(game, place),
        "fifth_proposal": lambda game, place, seat: _kind(game, place) == "leader" and game.items[place].value == 4,
        "i_am_accused": lambda game, place, seat: _kind(game, place) == "accuse" and game.items[place].target == seat,
        "i_am_defended": lambda game, place, seat: _kind(game, place) == "defend" and game.items[place].target == seat,
        "evil_accused": lambda game, place, seat: (
            _kind(game, place) == "accuse" and game.roles[game.items[place].target] in EVIL
        ),
        "three_quests": lambda game, place, seat: (
            _kind(game, place) == "quest_succeeded" and len(_before(game, place).events("quest_succeeded")) == 3
        ),
    },
    {
        "loss": lambda game, seat: game.outcome[seat] < 0,
        "merlin_shot": lambda game, seat: _shots(game, True),
        "merlin_missed": lambda game, seat: bool(game.events("shot")) and not _shots(game, True),
    },
)


def _values(game: Transcript, place: int, kind: str) -> list[int]:
    return [event.value for event in _before(game, place).events(kind)]


def _worth(game: Transcript, place: int) -> int:
    return _values(game, place, "interest")[-1] * _values(game, place, "trust")[-1] // 4


def _moves(game: Transcript, place: int, kind: str, way: int) -> bool:
    if _kind(game, place) != kind:
        return False
    *_, old, new = [0, *_values(game, place, kind)]
    return way * (new - old) > 0


def _replies(game: Transcript, place: int, seat: int, *answers: int) -> bool:
    return seat == 0 and _kind(game, place) == "reply" and game.items[place].value in answers


def _changes(game: Transcript, place: int) -> bool:
    return _kind(game, place) in ("interest", "trust")


def _given(game: Transcript) -> int:
    return sum(event.value for event in game.events("donation"))


PERSUASION: tuple[dict[str, During], dict[str, Final]] = (
    {
        "likes_it": lambda game, place, seat: _replies(game, place, seat, 0),
        "dislikes_it": lambda game, place, seat: _replies(game, place, seat, 2),
        "tells_what_counts": lambda game, place, seat: _replies(game, place, seat, 3, 4, 5),
        "interest_grows": lambda game, place, seat: _moves(game, place, "interest", 1),
        "trust_grows": lambda game, place, seat: _moves(game, place, "trust", 1),
        "trust_falls": lambda game, place, seat: _moves(game, place, "trust", -1),
        "willing_half": lambda game, place, seat: _changes(game, place) and _worth(game, place) >= 2,
        "willing_dollar": lambda game, place, seat: _changes(game, place) and _worth(game, place) >= 4,
    },
    {
        **{
            f"gives_{cents}": lambda game, seat, cents=cents: seat == 0 and 25 * _given(game) >= cents
            for cents in (25, 50, 75, 100, 150, 175, 200)
        },
        "nothing_given": lambda game, seat: _given(game) == 0,
        "walks_away": lambda game, seat: bool(game.events("walks_away")),
        "out_of_exchanges": lambda game, seat: bool(game.events("out_of_exchanges")),
        "all_they_can": lambda game, seat: seat == 0 and _given(game) == game.events("budget")[0].value,
        "more_than_worth": lambda game, seat: seat == 1 and _given(game) > _worth(game, len(game.items) - 1),
    },
)


def _shown(game: Transcript) -> bool:
    return bool(game.events("show"))


def _acts(game: Transcript, place: int, seat: int, kind: str) -> bool:
    """The other seat does that."""
    return _kind(game, place) == kind and game.items[place].actor != seat


KUHN: tuple[dict[str, During], dict[str, Final]] = (
    {
        "they_bet": lambda game, place, seat: _acts(game, place, seat, "bet"),
        "they_pass": lambda game, place, seat: _acts(game, place, seat, "pass"),
    },
    {
        "loss": lambda game, seat: game.outcome[seat] < 0,
        "win_two": lambda game, seat: game.outcome[seat] == 1,
        "lose_two": lambda game, seat: game.outcome[seat] == -1,
        "they_fold": lambda game, seat: game.outcome[seat] > 0 and not _shown(game),
        "i_fold": lambda game, seat: game.outcome[seat] < 0 and not _shown(game),
        "mine_is_higher": lambda game, seat: game.outcome[seat] > 0 and _shown(game),
        "mine_is_lower": lambda game, seat: game.outcome[seat] < 0 and _shown(game),
    },
)


def _offer(game: Transcript, place: int) -> tuple[int, list[int]] | None:
    """Who keeps how many of each type, if the offer is complete with the item at `place`."""
    keeps = _before(game, place).events("keep")[-3:]
    if _kind(game, place) != "keep" or len(keeps) < 3 or [keep.target for keep in keeps] != [0, 1, 2]:
        return None
    return keeps[0].actor, [keep.value for keep in keeps]


def _worths(game: Transcript, seat: int) -> tuple[list[int], list[int]]:
    """The pool, and what an item of each type is worth to a seat."""
    worths = [event.value for event in game.events("worth") if event.actor == seat]
    return [event.value for event in game.events("pool")], worths


def _left(game: Transcript, place: int, seat: int) -> float:
    """The part of the whole worth that an offer to the seat leaves to it; below 0 if there is no such offer."""
    offer = _offer(game, place)
    if offer is None or offer[0] == seat:
        return -1.0
    pool, worths = _worths(game, seat)
    whole = sum(count * worth for count, worth in zip(pool, worths, strict=True))
    return sum((c - k) * w for c, k, w in zip(pool, offer[1], worths, strict=True)) / whole


def _keeps_none_of_the_best(game: Transcript, place: int, seat: int) -> bool:
    if _left(game, place, seat) < 0:
        return False
    pool, worths = _worths(game, seat)
    parts = [count * worth for count, worth in zip(pool, worths, strict=True)]
    return _offer(game, place)[1][parts.index(max(parts))] == 0


def _offers_left(game: Transcript, place: int) -> int:
    return game.events("turns")[0].value - len(_before(game, place).events("keep")) // 3


def _agreed_by(game: Transcript) -> int | None:
    return next((event.actor for event in game.events("agree")), None)


BARGAINING: tuple[dict[str, During], dict[str, Final]] = (
    {
        "offered_half": lambda game, place, seat: _left(game, place, seat) >= 0.5,
        "offered_little": lambda game, place, seat: 0 <= _left(game, place, seat) < 0.3 - 1e-9,
        "offered_best": _keeps_none_of_the_best,
        "last_offers": lambda game, place, seat: _offer(game, place) is not None and _offers_left(game, place) == 2,
    },
    {
        **{
            f"share_{percent}": lambda game, seat, percent=percent: 50 * (game.outcome[seat] + 1) > percent + 0.01
            for percent in (10, 30, 70, 90)
        },
        "deal": lambda game, seat: _agreed_by(game) is not None,
        "no_deal": lambda game, seat: _agreed_by(game) is None,
        "i_agree": lambda game, seat: _agreed_by(game) == seat,
        "they_agree": lambda game, seat: _agreed_by(game) == 1 - seat,
        "they_get_more": lambda game, seat: (
            _agreed_by(game) is not None and game.outcome[1 - seat] > game.outcome[seat]
        ),
    },
)


def _named(game: Transcript, place: int) -> str:
    return game.roles[game.items[place].target]


def _accuses(game: Transcript, place: int) -> bool:
    return _kind(game, place) == "accuse" or (_kind(game, place) == "report" and game.items[place].value == 1)


ROLES = ("wolf", "seer", "doctor", "villager", "witch", "hunter", "guard")
DIES, GOES_OUT = ("death", "death_hidden"), ("expelled", "expelled_hidden")
WEREWOLF: tuple[dict[str, During], dict[str, Final]] = (
    {
        "i_am_killed": lambda game, place, seat: _kind(game, place) in DIES and game.items[place].target == seat,
        "i_am_expelled": lambda game, place, seat: _kind(game, place) in GOES_OUT and game.items[place].target == seat,
        "wolf_expelled": lambda game, place, seat: _kind(game, place) in GOES_OUT and _named(game, place) == "wolf",
        "village_expelled": lambda game, place, seat: _kind(game, place) in GOES_OUT and _named(game, place) != "wolf",
        "nobody_expelled": lambda game, place, seat: _kind(game, place) == "no_expulsion",
        "nobody_killed": lambda game, place, seat: _kind(game, place) == "no_death",
        "special_killed": lambda game, place, seat: (
            _kind(game, place) in DIES and _named(game, place) not in ("wolf", "villager")
        ),
        "seer_finds_wolf": lambda game, place, seat: (
            _kind(game, place) == "check_result" and _named(game, place) == "wolf"
        ),
        "i_am_accused": lambda game, place, seat: _accuses(game, place) and game.items[place].target == seat,
        "i_am_defended": lambda game, place, seat: _kind(game, place) == "defend" and game.items[place].target == seat,
        "wolf_accused": lambda game, place, seat: _accuses(game, place) and _named(game, place) == "wolf",
        "false_claim": lambda game, place, seat: (
            _kind(game, place) == "claim" and game.roles[game.items[place].actor] != ROLES[game.items[place].value]
        ),
        "i_get_a_vote": lambda game, place, seat: _kind(game, place) == "vote" and game.items[place].target == seat,
        "third_day": lambda game, place, seat: _kind(game, place) == "day" and game.items[place].value == 3,
    },
    {"loss": lambda game, seat: game.outcome[seat] < 0},
)

NAIVE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "avalon-v0": AVALON,
    "persuasion-v0": PERSUASION,
    "kuhn-v0": KUHN,
    "bargaining-v0": BARGAINING,
    "werewolf-v0": WEREWOLF,
}
