"""Avalon's static side: parameters, roles and what they know, sizes of teams, labels, words and bounds."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from games import core
from games.core import EventKind, GameError, GameSpec, Phase, Role, check_choices, check_ranges

MERLIN, PERCIVAL, MORGANA, MORDRED, OBERON, SERVANT, MINION, ASSASSIN = range(8)
TITLES = ("Merlin", "Percival", "Morgana", "Mordred", "Oberon", "servant", "minion", "assassin")
IS_EVIL = ~np.isin(np.arange(8), [MERLIN, PERCIVAL, SERVANT])
ROLES = tuple(Role(title.lower(), "evil" if evil else "good") for title, evil in zip(TITLES, IS_EVIL, strict=True))
SINGLE_ROLES = ("merlin", "assassin", "percival", "morgana", "mordred", "oberon")

# What a role (row) is told of another seat's role (column).
NOTHING, EVIL, MERLIN_OR_MORGANA = range(3)
KNOWS = np.zeros((8, 8), np.int8)
KNOWS[MERLIN, [MORGANA, OBERON, MINION, ASSASSIN]] = EVIL
KNOWS[PERCIVAL, [MERLIN, MORGANA]] = MERLIN_OR_MORGANA
_FELLOWS = [MORGANA, MORDRED, MINION, ASSASSIN]
KNOWS[np.ix_(_FELLOWS, _FELLOWS)] = EVIL

NUM_EVIL = {5: 2, 6: 2, 7: 3, 8: 3, 9: 3, 10: 4}
TEAM_SIZES = {5: (2, 3, 2, 3, 3), 6: (2, 3, 4, 3, 4), 7: (2, 3, 3, 4, 4)} | dict.fromkeys((8, 9, 10), (3, 4, 4, 5, 5))
FAILS_NEEDED = {seats: (1, 1, 1, 2 if seats >= 7 else 1, 1) for seats in TEAM_SIZES}
QUESTS = PROPOSALS = 5
MAJORITY = 3  # quests that decide the game

PROPOSE, SPEAK, VOTE, QUEST, SHOOT, OVER = range(6)
FIFTH_REJECTION = ("evil_wins", "approved")

EVENT_KINDS = (
    EventKind("seat", "\nYou are{seat:actor}"),
    EventKind("evil", "{line:target} is evil"),
    EventKind("merlin", "{line:target} is Merlin"),
    EventKind("merlin_or_morgana", "{line:target} is Merlin or Morgana"),
    EventKind("quest", "{quest:value}{team:value}{needed:value}"),
    EventKind("leader", "{line:actor}{proposal:value}"),
    EventKind("pick", "{line:actor} picks{seat:target}"),
    EventKind("utterance", "{line:actor} says:{utterance}"),
    EventKind("accuse", "{speaker:actor} accuse{seat:target}"),
    EventKind("defend", "{speaker:actor} defend{seat:target}"),
    EventKind("claim", "{speaker:actor} claim{role:value}"),
    EventKind("pass", "{speaker:actor} pass"),
    EventKind("vote", "{voter:actor}{ballot:value}"),
    EventKind("approved", "\nThe team is approved"),
    EventKind("rejected", "\nThe team is rejected"),
    EventKind("unvoted", "\nThe team goes without a vote"),
    EventKind("choice", "{line:actor} plays{choice:value}"),
    EventKind("quest_succeeded", "\nThe quest succeeds with{fails:value}"),
    EventKind("quest_failed", "\nThe quest fails with{fails:value}"),
    EventKind("shot", "{line:actor} shoots{seat:target}"),
    EventKind("win", "{winner:value}"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}


@dataclasses.dataclass(frozen=True)
class AvalonRules:
    """The parameters of `avalon-v0` and their allowed values: docs/games/avalon.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    num_seats: int = 5
    roles: str = "merlin,assassin"
    fifth_rejection: str = "evil_wins"
    discussion_rounds: int = 0
    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        check_ranges(
            "avalon-v0", self, num_seats=(5, 10), discussion_rounds=(0, 2), speech_tokens=(0, 4096),
            thought_tokens=(0, 4096),
        )  # fmt: skip
        check_choices("avalon-v0", self, fifth_rejection=FIFTH_REJECTION)
        names = self.roles.split(",")
        if len(set(names)) < len(names) or not set(names) <= set(SINGLE_ROLES):
            raise GameError(f"avalon-v0: roles names each of {', '.join(SINGLE_ROLES)} at most once, for example "
                            f"percival,morgana, not {self.roles!r}")  # fmt: skip
        evil = 1 + len(set(names) & {"morgana", "mordred", "oberon"})
        if evil > self.num_evil:
            raise GameError(f"avalon-v0: roles names at most {self.num_evil} evil ones, the assassin included, with "
                            f"num_seats {self.num_seats}, not {evil}: {self.roles!r}")  # fmt: skip
        if self.speech_tokens and not self.discussion_rounds:
            raise GameError(f"avalon-v0: speech_tokens is 0 while discussion_rounds is 0, not {self.speech_tokens}")

    @property
    def num_evil(self) -> int:
        """How many evil seats are dealt."""
        return NUM_EVIL[self.num_seats]

    @property
    def deck(self) -> tuple[int, ...]:
        """The roles that are dealt, in rising order."""
        names = {"merlin", "assassin", *self.roles.split(",")}
        single = [index for index, role in enumerate(ROLES) if role.name in names]
        minions = self.num_evil - sum(bool(IS_EVIL[role]) for role in single)
        servants = self.num_seats - len(single) - minions
        return tuple(sorted(single + [SERVANT] * servants + [MINION] * minions))

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        n, sizes = self.num_seats, TEAM_SIZES[self.num_seats]
        speeches = self.discussion_rounds * n
        discussion = speeches * (1 + bool(self.speech_tokens))
        told = sum(bool(KNOWS[self.deck[a], self.deck[b]]) for a in range(n) for b in range(n) if a != b)
        dealt = n + told + 2
        quests = sum(PROPOSALS * (2 + size + discussion) + self._polls * n + size + 2 for size in sizes)
        return GameSpec(
            name="avalon-v0",
            num_seats=n,
            roles=ROLES,
            sides=("good", "evil"),
            phases=self._phases(),
            action_labels=action_labels(n),
            event_kinds=EVENT_KINDS,
            words=words(n),
            introduction=(self._introduction(), ""),
            role_texts=self._role_texts(),
            max_decisions=sum(PROPOSALS * (size + speeches) + self._polls * n + size for size in sizes) + 1,
            max_events=n + told + quests + 2,
            max_new_events=max(dealt + sizes[0] + self._before_last_speaker, self._longest_gap()),
            scripted_speech=scripted_speech(n),
            visible_events=self._visible_events(),
            turns=(
                (("propose",), most_picks(n, shown=False)),
                (("speak",), QUESTS * PROPOSALS * self.discussion_rounds),
                (("vote",), QUESTS * self._polls),
                (("quest",), QUESTS),
                (("shoot",), 1),
            ),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    @property
    def _polls(self) -> int:
        """Most votes on one quest's teams."""
        return PROPOSALS - (self.fifth_rejection == "approved")

    @property
    def _before_last_speaker(self) -> int:
        """Rows of a discussion before the last seat's first turn in it."""
        return (self.num_seats - 1) * (1 + bool(self.speech_tokens)) * bool(self.discussion_rounds)

    def _longest_gap(self) -> int:
        """Most rows between two turns of a seat that is on no team; a quest lies between them."""
        n, before = self.num_seats, self._before_last_speaker
        gaps = []
        for size, following in zip(TEAM_SIZES[n], TEAM_SIZES[n][1:], strict=False):
            quest = size + 3 + following  # choices, result, the next quest, its leader and picks
            gaps.append(n + 1 + quest + before)  # from a vote that sends the team
            if self.fifth_rejection == "approved":
                since = n * (1 + bool(self.speech_tokens)) if self.discussion_rounds else n + 2 + size
                gaps.append(since + 1 + quest + before)  # from a fifth discussion or, without one, a fourth vote
        return max(gaps)

    def _phases(self) -> tuple[Phase, ...]:
        thought = self.thought_tokens
        return (
            Phase("propose", "\nPick a player for the team", thought),
            Phase("speak", "\nSpeak", thought, self.speech_tokens),
            Phase("vote", "\nVote on the team", thought),
            Phase("quest", "\nPlay success or fail", thought),
            Phase("shoot", "\nShoot Merlin", thought),
            Phase("over"),
        )

    def _visible_events(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """The most rows one seat can be shown in a game of all proposals, by kinds that exclude each other."""
        others, proposals = self.num_seats - 1, QUESTS * PROPOSALS
        speeches = others * proposals * self.discussion_rounds
        told = [sum(bool(KNOWS[role, other]) for other in self.deck) - bool(KNOWS[role, role]) for role in self.deck]
        return (
            (("seat",), 1),
            (("evil", "merlin", "merlin_or_morgana"), max(told)),
            (("quest",), QUESTS),
            (("leader",), proposals),
            (("pick",), most_picks(self.num_seats, shown=True)),
            (("utterance",), speeches * (self.speech_tokens > 0)),
            (("accuse", "defend", "claim", "pass"), speeches),
            (("vote",), others * QUESTS * self._polls),
            (("approved", "rejected", "unvoted"), proposals),
            (("quest_succeeded", "quest_failed"), QUESTS),
        )

    def _introduction(self) -> str:
        fifth = {
            "evil_wins": "if five teams in a row are rejected, evil wins",
            "approved": "the fifth team for a quest goes without a vote",
        }[self.fifth_rejection]
        dealt = [f"{self.deck.count(role)} {TITLES[role]}" for role in sorted(set(self.deck))]
        return (
            f"You play Avalon with {self.num_seats} players: {', '.join(dealt)}. Merlin, Percival and servants are "
            "good, the others are evil. Roles are secret. For each of up to five quests a leader picks a team, and all "
            f"vote on it; {fifth}. The members of the team then secretly play success or fail; only evil ones can "
            "play fail. Evil wins when three quests have failed. When three have succeeded, the assassin shoots a "
            "player: if that is Merlin, evil wins, else good wins. Anyone may lie. "
        )

    def _role_texts(self) -> tuple[tuple[str, str], ...]:
        percival = "two players, one of whom is Merlin and one Morgana" if MORGANA in self.deck else "who Merlin is"
        knowing = "You know the other evil players" + (", but not Oberon" if OBERON in self.deck else "")
        aims = {
            MERLIN: "You know the evil players" + (", but not Mordred" if MORDRED in self.deck else "")
            + ". Lead the good to three quests without being found out.",
            PERCIVAL: f"You know {percival}. Protect Merlin, and help the good to three quests.",
            MORGANA: f"{knowing}. Pass for Merlin, and make three quests fail.",
            MORDRED: f"{knowing}. Merlin does not know you. Make three quests fail.",
            OBERON: "You and the other evil players do not know each other. Make three quests fail.",
            SERVANT: "Find out who is evil, and keep them off the quests.",
            MINION: f"{knowing}. Make three quests fail.",
            ASSASSIN: f"{knowing}. Make three quests fail, or find out who Merlin is.",
        }  # fmt: skip
        articles = {SERVANT: "a ", MINION: "a ", ASSASSIN: "the "}
        names = [articles.get(role, "") + TITLES[role] for role in range(len(ROLES))]
        return tuple((f"You are {name}. {aims[role]}", f"You are {name}") for role, name in enumerate(names))


@functools.cache
def most_picks(num_seats: int, *, shown: bool) -> int:
    """Most picks that a seat can be shown, or make, over all numbers of proposals that the quests can take."""

    def best(quest: int, until: int) -> int:
        """`until` is how many proposals there are before the seat leads; it leads at most once in a quest."""
        if quest == QUESTS:
            return 0
        size, most = TEAM_SIZES[num_seats][quest], 0
        for proposals in range(1, PROPOSALS + 1):
            led = until < proposals
            picks = size * (proposals - led if shown else led)
            most = max(most, picks + best(quest + 1, (until - proposals) % num_seats))
        return most

    return max(best(0, until) for until in range(num_seats))


def action_labels(num_seats: int) -> tuple[str, ...]:
    """The A labels: picks, accusations, defences, claims, pass, votes, choices."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    labels = players + [f" accuse{player}" for player in players] + [f" defend{player}" for player in players]
    return (*labels, *(f" claim {title}" for title in TITLES), " pass", " approve", " reject", " success", " fail")


def scripted_speech(num_seats: int) -> tuple[str, ...]:
    """What a scripted player says aloud with each action, in agreement with it; empty where nothing is said."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    speech = [""] * num_seats
    speech += [f" I accuse{player}" for player in players] + [f" I defend{player}" for player in players]
    return (*speech, *(f" I claim {title}" for title in TITLES), " I pass", "", "", "", "")


def words(num_seats: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Word tables of the templates."""
    names = [f"Player {seat + 1}" for seat in range(num_seats)]
    counts = [f" {fails or 'no'} {'fail' if fails == 1 else 'fails'}" for fails in range(NUM_EVIL[num_seats] + 1)]
    return (
        ("seat", tuple(f" {name}" for name in names)),
        ("line", tuple(f"\n{name}" for name in names)),
        ("speaker", tuple(f"\n{name}:" for name in names)),
        ("voter", tuple(f"\n{name} votes" for name in names)),
        ("role", tuple(f" {title}" for title in TITLES)),
        ("quest", tuple(f"\nQuest {quest + 1}" for quest in range(QUESTS))),
        ("team", tuple(f" needs {size} players" for size in TEAM_SIZES[num_seats])),
        ("needed", tuple(f" and is lost by{counts[fails]}" for fails in FAILS_NEEDED[num_seats])),
        ("proposal", tuple(f" leads proposal {proposal + 1}" for proposal in range(PROPOSALS))),
        ("ballot", (" reject", " approve")),
        ("choice", (" fail", " success")),
        ("fails", tuple(counts)),
        ("winner", ("\nEvil wins", "\nGood wins")),
    )


def act_tables(num_seats: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int16[A] each: kind, target and value of the event that each action becomes; -1 for votes and choices."""
    n, none = num_seats, core.NO_ONE
    blocks = [(KIND[name], seat, none) for name in ("pick", "accuse", "defend") for seat in range(n)]
    blocks += [(KIND["claim"], none, role) for role in range(len(ROLES))]
    blocks += [(KIND["pass"], none, none)] + [(none, none, none)] * 4
    kinds, targets, values = np.array(blocks, np.int16).T
    return kinds, targets, values
