"""What is static about the murder mystery: its parameters and what follows from them, its words, and its bounds."""

from __future__ import annotations

import dataclasses

import numpy as np

from games import core
from games.core import EventKind, GameError, GameSpec, Phase, Role, check_choices, check_ranges

INNOCENT, CULPRIT = range(2)
ROLES = (Role("innocent", "innocents"), Role("culprit", "culprit"))
ROOMS = ("library", "kitchen", "cellar", "garden", "attic", "study")
OBJECTS = ("knife", "rope", "pistol", "hammer")
MOTIVES = ("greed", "envy", "revenge", "fear")

TURN, QUESTION, ANSWER, SHOW, OPINION, VOTE, OVER = range(7)
WHERE, WHAT, WHY, ABOUT = range(4)  # questions; ABOUT + i is the one about seat i
MOST_ROUNDS = 6
CLUES, VERDICTS, TIES = ("public", "finder"), ("votes", "doubt"), ("acquit", "lot")

ANSWERS = len(ROOMS) + len(OBJECTS) + len(MOTIVES) + 1
FIRST_OBJECT, FIRST_MOTIVE, NOTHING = len(ROOMS), len(ROOMS) + len(OBJECTS), ANSWERS - 1

EVENT_KINDS = (
    EventKind("seat", "\nYou are{seat:actor}"),
    EventKind("was", "\nYou were in{answer:value}"),
    EventKind("saw", "\nYou saw{seat:target} there"),
    EventKind("alone", "\nYou were alone there"),
    EventKind("carried", "\nYou carried{answer:value}"),
    EventKind("driven", "\nYou are driven by{answer:value}"),
    EventKind("object_of", "{line:target} carried{answer:value}"),
    EventKind("drive_of", "{line:target} is driven by{answer:value}"),
    EventKind("empty", "\nNobody was in{answer:value}"),
    EventKind("scene", "\nThe victim was killed in{answer:value}"),
    EventKind("round", "\nRound{number:value}"),
    EventKind("search", "{line:actor} searches{answer:value}"),
    EventKind("trace", "\nClue:{seat:target} was in{answer:value}"),
    EventKind("weapon", "\nClue: the murderer carried{answer:value}"),
    EventKind("motive", "\nClue: the murderer was driven by{answer:value}"),
    EventKind("no_clue", "\nNo clue is left in{answer:value}"),
    EventKind("utterance", "{line:actor} says:{utterance}"),
    EventKind("ask", "{line:actor} asks{seat:target}{question:value}"),
    EventKind("answer", "{speaker:actor}{answer:value}"),
    EventKind("suspect", "{line:actor} suspects{seat:target}"),
    EventKind("trust", "{line:actor} trusts{seat:target}"),
    EventKind("pass", "{speaker:actor} pass"),
    EventKind("vote", "{voter:actor}{seat:target}"),
    EventKind("convicted", "{line:target} is convicted"),
    EventKind("acquitted", "\nNobody is convicted"),
    EventKind("win", "{winner:value}"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}


@dataclasses.dataclass(frozen=True)
class MysteryRules:
    """The parameters of `mystery-v0` and their allowed values: docs/games/mystery.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    num_seats: int = 5
    rounds: int = 1
    acts: int = 1
    rooms: int = 6
    objects: int = 3
    motives: int = 3
    trace_percent: int = 25
    clues: str = "public"
    opinions: bool = True
    verdict: str = "votes"
    ties: str = "acquit"
    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        check_ranges(
            "mystery-v0", self, num_seats=(3, 8), rounds=(1, MOST_ROUNDS), acts=(1, 3), rooms=(4, len(ROOMS)),
            objects=(2, len(OBJECTS)), motives=(2, len(MOTIVES)), trace_percent=(0, 100), speech_tokens=(0, 4096),
            thought_tokens=(0, 4096),
        )  # fmt: skip
        check_choices("mystery-v0", self, clues=CLUES, verdict=VERDICTS, ties=TIES)
        if self.verdict == "doubt" and not self.opinions:
            raise GameError("mystery-v0: verdict is votes while opinions is false, not 'doubt'")

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        n = self.num_seats
        speech, opinions = int(self.speech_tokens > 0), int(self.opinions)
        act_rows = max(2 + 2 * speech, 2 + (self.clues == "finder"))
        turn_rows = self.acts * act_rows + opinions * (1 + speech)
        sightings = (n - 1) * (n - 2) + 1  # all the innocents in one room, and the culprit alone
        dealt = 5 * n + sightings + 2
        return GameSpec(
            name="mystery-v0",
            num_seats=n,
            roles=ROLES,
            sides=("innocents", "culprit"),
            phases=self._phases(),
            action_labels=action_labels(n),
            event_kinds=EVENT_KINDS,
            words=words(n),
            introduction=(self._introduction(), ""),
            role_texts=(
                ("You are innocent. Find the culprit, and convince the others.", "You are innocent"),
                ("You are the culprit. Make the others convict somebody else.", "You are the culprit"),
            ),
            max_decisions=self.rounds * n * (3 * self.acts + opinions) + n,
            max_events=dealt + self.rounds * (1 + n * turn_rows) + n + 2,
            max_new_events=dealt + 1 + (n - 1) * turn_rows,
            scripted_speech=scripted_speech(n),
            visible_events=self._visible_events(),
            turns=(
                (("turn",), self.rounds * self.acts),
                (("question", "show"), self.rounds * self.acts),
                (("answer",), (n - 1) * self.rounds * self.acts),
                (("opinion",), self.rounds * opinions),
                (("vote",), 1),
            ),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    def _phases(self) -> tuple[Phase, ...]:
        thought, speech = self.thought_tokens, self.speech_tokens
        return (
            Phase("turn", "\nAsk a player or search a room", thought),
            Phase("question", "\nChoose your question", thought, speech),
            Phase("answer", "\nAnswer", thought, speech),
            Phase("show", "\nShow the clue or keep it", thought),
            Phase("opinion", "\nWhom do you suspect or trust", thought, speech),
            Phase("vote", "\nVote", thought),
            Phase("over"),
        )

    def _visible_events(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """The most rows one seat can be shown, by kinds that exclude each other."""
        n, opinions = self.num_seats, self.rounds * self.opinions
        acts = self.rounds * self.acts
        spoken = acts * (2 * (n - 1) + 1) + opinions * (n - 1)
        script = ("seat", "was", "carried", "driven", "empty", "scene")
        return (
            *(((kind,), 1) for kind in script),
            (("saw", "alone"), n - 2),
            (("object_of", "drive_of"), 1),
            (("round",), self.rounds),
            (("utterance",), spoken * (self.speech_tokens > 0)),
            (("ask", "search"), (n - 1) * acts),
            (("answer", "trace", "weapon", "motive", "no_clue"), n * acts),
            (("suspect", "trust", "pass"), (n - 1) * opinions),
        )

    def _introduction(self) -> str:
        n, rounds, acts = self.num_seats, self.rounds, self.acts
        tables = ((ROOMS, self.rooms), (OBJECTS, self.objects), (MOTIVES, self.motives))
        rooms, objects, motives = (", ".join(names[:count]) for names, count in tables)
        when = "Everybody in turn" if rounds == 1 else f"In each of {rounds} rounds everybody in turn"
        times = "" if acts == 1 else f" {acts} times"
        clue = {"public": "is told to all", "finder": "whoever searches may show or keep"}[self.clues]
        opinion = "Each then says whom they suspect or trust. " if self.opinions else ""
        verdict = {
            "votes": "whoever gets the most votes is convicted",
            "doubt": f"a vote counts {n}, each time somebody was said to be suspected 1, to be trusted -1, and the "
            "highest sum is convicted",
        }[self.verdict]
        tied = {"acquit": "on a tie nobody is", "lot": "a tie is broken by lot"}[self.ties]
        return (
            f"One of {n} suspects has committed a murder. At that hour each was in one room ({rooms}), carried one "
            f"object ({objects}) and was driven by one motive ({motives}); whoever was in the room of the murder did "
            "it. Each saw who was in the same room, and knows the object or the motive of one other; the culprit knows "
            "a room in which nobody was. Somewhere there is a clue to the culprit's object and one to the motive; "
            "other clues tell who was in the room where they are found. "
            f"{when} asks a player or searches a room{times}. A search draws a clue, which {clue}. {opinion}"
            f"Anyone may lie. At last all vote: {verdict}, {tied}. The "
            "innocents win if the culprit is convicted, else the culprit wins. "
        )


def layout(num_seats: int) -> dict[str, int]:
    """First action of each block of the action space."""
    n = num_seats
    sizes = {"ask": n, "search": len(ROOMS), "question": ABOUT + n, "answer": ANSWERS, "show": 1, "keep": 1,
             "suspect": n, "trust": n, "pass": 1, "vote": n}  # fmt: skip
    starts = np.cumsum([0, *sizes.values()])[:-1].tolist()
    return dict(zip(sizes, starts, strict=True))


def questions(num_seats: int) -> tuple[str, ...]:
    """What can be asked, in words."""
    about = [f" about Player {seat + 1}" for seat in range(num_seats)]
    return (" where they were", " what they carried", " what drives them", *about)


def answers() -> tuple[str, ...]:
    """What can be answered, in words."""
    rooms, objects = [f" the {room}" for room in ROOMS], [f" a {thing}" for thing in OBJECTS]
    return (*rooms, *objects, *(f" {motive}" for motive in MOTIVES), " nothing")


def action_labels(num_seats: int) -> tuple[str, ...]:
    """The A labels: whom to ask, where to search, questions, answers, what to do with a clue, opinions, votes."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    labels = [f" ask{player}" for player in players] + [f" search the {room}" for room in ROOMS]
    labels += [*questions(num_seats), *answers(), " show", " keep"]
    labels += [f" suspect{player}" for player in players] + [f" trust{player}" for player in players]
    return (*labels, " pass", *players)


def scripted_speech(num_seats: int) -> tuple[str, ...]:
    """What a scripted player says aloud with each action, in agreement with it; empty where nothing is said."""
    first, labels = layout(num_seats), action_labels(num_seats)
    speech = [""] * len(labels)
    for index in range(first["question"], first["show"]):
        speech[index] = (" I ask" if index < first["answer"] else " I say") + labels[index]
    for index in range(first["suspect"], first["vote"]):
        speech[index] = " I" + labels[index]
    return tuple(speech)


def words(num_seats: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Word tables of the templates."""
    names = [f"Player {seat + 1}" for seat in range(num_seats)]
    return (
        ("seat", tuple(f" {name}" for name in names)),
        ("line", tuple(f"\n{name}" for name in names)),
        ("speaker", tuple(f"\n{name}:" for name in names)),
        ("voter", tuple(f"\n{name} votes" for name in names)),
        ("question", questions(num_seats)),
        ("answer", answers()),
        ("number", tuple(f" {number}" for number in range(1, MOST_ROUNDS + 1))),
        ("winner", ("\nThe culprit wins", "\nThe innocents win")),
    )


def act_tables(num_seats: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int16[A] each: kind, target and value of the row that each action becomes, kind -1 for those that become none."""
    none, seats = core.NO_ONE, range(num_seats)
    blocks = [(none, none, none)] * num_seats
    blocks += [(KIND["search"], none, room) for room in range(len(ROOMS))]
    blocks += [(KIND["ask"], none, question) for question in range(ABOUT + num_seats)]
    blocks += [(KIND["answer"], none, answer) for answer in range(ANSWERS)]
    blocks += [(none, none, none)] * 2
    blocks += [(KIND[name], seat, none) for name in ("suspect", "trust") for seat in seats]
    blocks += [(KIND["pass"], none, none)] + [(none, none, none)] * num_seats
    kinds, targets, values = np.array(blocks, np.int16).T
    return kinds, targets, values
