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

NAIVE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "avalon-v0": AVALON,
    "persuasion-v0": PERSUASION,
}
