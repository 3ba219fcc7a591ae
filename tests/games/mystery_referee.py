"""A second, slow reading of the murder mystery's rules, and the replay that judges recorded games by it.

Written from `docs/games/mystery.md` alone, in plain Python. A whole game is one generator with a loop over rounds and
turns in it; wherever somebody has to decide, it yields and is sent the choice. `Case` says what may have happened, and
`suspects` goes through every lie to find whom the evidence leaves.
"""

import dataclasses
import itertools
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

Row = tuple[int, int, int, int]
Event = tuple[int, int, int, int, frozenset[int]]

NOBODY = -1
ROLES = ("innocent", "culprit")
PHASES = ("turn", "question", "answer", "show", "opinion", "vote", "over")
KINDS = (
    "seat", "was", "saw", "alone", "carried", "driven", "object_of", "drive_of", "empty", "scene", "round", "search",
    "trace", "weapon", "motive", "no_clue", "utterance", "ask", "answer", "suspect", "trust", "pass", "vote",
    "convicted", "acquitted", "win",
)  # fmt: skip

DEFAULTS: dict[str, Any] = {
    "num_seats": 5,
    "rounds": 1,
    "acts": 1,
    "rooms": 6,
    "objects": 3,
    "motives": 3,
    "trace_percent": 25,
    "clues": "public",
    "opinions": True,
    "verdict": "votes",
    "ties": "acquit",
    "speech_tokens": 0,
    "thought_tokens": 0,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What happened, by seat; objects and motives are numbered from 0.

    Attributes:
        culprit: who did it.
        at: room of each seat.
        empty: room of which the culprit knows that nobody was there.
        carried: object of each.
        driven: motive of each.
        friend: the seat of which each knows one thing.
        knows_motive: whether that is the motive, else the object.
        stacks: clues of each room from the top: a seat of whom it is a trace, "weapon" or "motive".
    """

    culprit: int
    at: list[int]
    empty: int
    carried: list[int]
    driven: list[int]
    friend: list[int]
    knows_motive: list[bool]
    stacks: list[list[Any]]

    @property
    def seats(self) -> list[int]:
        return list(range(len(self.at)))

    @property
    def scene(self) -> int:
        return self.at[self.culprit]

    @property
    def traced(self) -> list[int]:
        """Who left a trace."""
        return sorted(clue for stack in self.stacks for clue in stack if clue not in ("weapon", "motive"))

    def saw(self, seat: int) -> list[int]:
        return [other for other in self.seats if other != seat and self.at[other] == self.at[seat]]

    def cleared(self, seat: int) -> bool:
        """Whether innocents' scripts, with weapon and motive, clear an innocent."""
        if self.saw(seat):
            return True
        witness = self.friend.index(seat)
        facts = self.driven if self.knows_motive[witness] else self.carried
        return witness != self.culprit and facts[seat] != facts[self.culprit]

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Raises AssertionError if the rules cannot make up this case."""
        everybody, innocents = self.seats, [seat for seat in self.seats if seat != self.culprit]
        assert all(0 <= room < parameters["rooms"] for room in self.at)
        assert all(0 <= thing < parameters["objects"] for thing in self.carried)
        assert all(0 <= motive < parameters["motives"] for motive in self.driven)
        assert all(self.at[seat] != self.scene for seat in innocents)
        assert self.empty in range(parameters["rooms"]) and self.empty not in self.at
        ring = [0]
        while len(ring) < len(everybody):
            ring.append(self.friend[ring[-1]])
        assert sorted(ring) == everybody and self.friend[ring[-1]] == 0, "not one ring"
        assert len(self.stacks) == parameters["rooms"]
        clues = [clue for stack in self.stacks for clue in stack]
        assert len(set(clues)) == len(clues) and {"weapon", "motive"} <= set(clues)
        for room, stack in enumerate(self.stacks):
            assert all(clue in ("weapon", "motive") or self.at[clue] == room for clue in stack)
        assert self.culprit not in self.traced
        certain = [seat for seat in innocents if not self.cleared(seat)]
        assert set(certain) <= set(self.traced)
        if parameters["trace_percent"] == 100:
            assert self.traced == innocents
        if parameters["trace_percent"] == 0:
            assert self.traced == certain


@dataclasses.dataclass(frozen=True)
class Decision:
    """What is asked of whom."""

    phase: str
    actor: int
    legal: frozenset[int]
    acting: frozenset[int]


Script = Generator[Decision, int, Any]


class Referee:
    """One game of a given case.

    Attributes:
        log: every event as (kind, actor, target, value, audience), oldest first.
        step_index: decisions made so far.
        decision: the one to be made, `None` once over.
        outcome: -1, 0 or 1 for each seat.
        tied: who had the most when the ballots were counted.
        where: how far the game is, for messages.
    """

    def __init__(self, parameters: Mapping[str, Any], case: Case, lot: int = NOBODY):
        """`lot` is whom the lot convicts if it has to be drawn."""
        self.parameters = {**DEFAULTS, **parameters}
        assert set(self.parameters) == set(DEFAULTS), f"the page has only {sorted(DEFAULTS)}"
        self.case, self.lot = case, lot
        self.seats = list(range(self.parameters["num_seats"]))
        assert case.seats == self.seats
        case.check(self.parameters)
        self.num_seats = n = len(self.seats)
        self.first = {"ask": 0, "search": n, "question": n + 6, "about": n + 9, "answer": 2 * n + 9,
                      "nothing": 2 * n + 23, "show": 2 * n + 24, "keep": 2 * n + 25, "suspect": 2 * n + 26,
                      "trust": 3 * n + 26, "pass": 4 * n + 26, "vote": 4 * n + 27}  # fmt: skip
        self.num_actions = 5 * n + 27
        self.log: list[Event] = []
        self.step_index = 0
        self.outcome = [0] * n
        self.tied: list[int] = []
        self.where = ""
        self._stacks = [list(stack) for stack in case.stacks]
        self._doubt = [0] * n
        self._script = self._game()
        self.decision: Decision | None = next(self._script)

    @property
    def phase(self) -> str:
        return self.decision.phase if self.decision else "over"

    @property
    def actor(self) -> int:
        return self.decision.actor if self.decision else NOBODY

    @property
    def legal(self) -> frozenset[int]:
        return self.decision.legal if self.decision else frozenset(range(self.num_actions))

    @property
    def acting(self) -> frozenset[int]:
        return self.decision.acting if self.decision else frozenset()

    def step(self, action: int) -> None:
        """Plays a decision; an illegal action becomes the lowest legal one; nothing happens once over."""
        if self.decision is None:
            return
        choice = action if action in self.decision.legal else min(self.decision.legal)
        self.step_index += 1
        try:
            self.decision = self._script.send(choice)
        except StopIteration:
            self.decision = None

    def view(self, seat: int, start: int = 0) -> list[Row]:
        """Returns the rows `seat` may see, from place `start` of the log on."""
        return [event[:4] for event in self.log[start:] if seat in event[4]]

    # The game from its deal to its end.

    def _game(self) -> Script:
        self._introduce()
        for number in range(self.parameters["rounds"]):
            self._tell("round", value=number)
            for seat in self.seats:
                self.where = f"round {number}, turn of {seat}"
                for _ in range(self.parameters["acts"]):
                    yield from self._act(seat)
                if self.parameters["opinions"]:
                    yield from self._opinion(seat)
        self.where = "vote"
        convicted = yield from self._vote()
        caught = convicted == self.case.culprit
        self.outcome = [1 if (seat == self.case.culprit) != caught else -1 for seat in self.seats]
        self._tell("win", value=int(caught))

    def _introduce(self) -> None:
        case, first_object, first_motive = self.case, 6, 10
        for seat in self.seats:
            self._tell("seat", [seat], actor=seat)
            self._tell("was", [seat], actor=seat, value=case.at[seat])
            for other in case.saw(seat):
                self._tell("saw", [seat], actor=seat, target=other)
            if not case.saw(seat):
                self._tell("alone", [seat], actor=seat)
            self._tell("carried", [seat], actor=seat, value=first_object + case.carried[seat])
            self._tell("driven", [seat], actor=seat, value=first_motive + case.driven[seat])
            friend = case.friend[seat]
            if case.knows_motive[seat]:
                self._tell("drive_of", [seat], actor=seat, target=friend, value=first_motive + case.driven[friend])
            else:
                self._tell("object_of", [seat], actor=seat, target=friend, value=first_object + case.carried[friend])
            if seat == case.culprit:
                self._tell("empty", [seat], actor=seat, value=case.empty)
        self._tell("scene", value=case.scene)

    def _act(self, seat: int) -> Script:
        rooms = range(self.parameters["rooms"])
        asks, searches = self._others(seat), [self.first["search"] + room for room in rooms]
        choice = yield self._ask("turn", seat, [*asks, *searches])
        if choice in searches:
            yield from self._search(seat, choice - self.first["search"])
        else:
            yield from self._question(seat, choice)

    def _search(self, seat: int, room: int) -> Script:
        self._tell("search", self._others(seat), actor=seat, value=room)
        clue = self._stacks[room].pop(0) if self._stacks[room] else None
        if clue is None:
            row = {"kind": "no_clue", "value": room}
        elif clue == "weapon":
            row = {"kind": "weapon", "value": 6 + self.case.carried[self.case.culprit]}
        elif clue == "motive":
            row = {"kind": "motive", "value": 10 + self.case.driven[self.case.culprit]}
        else:
            row = {"kind": "trace", "target": clue, "value": room}
        if self.parameters["clues"] == "public":
            self._tell(actor=seat, **row)
            return
        self._tell(audience=[seat], actor=seat, **row)
        choice = yield self._ask("show", seat, [self.first["show"], self.first["keep"]])
        if choice == self.first["show"]:
            self._tell(audience=self._others(seat), actor=seat, **row)

    def _question(self, seat: int, asked: int) -> Script:
        thirds = [self.first["about"] + other for other in self._others(seat) if other != asked]
        legal = [*(self.first["question"] + number for number in range(3)), *thirds]
        question = (yield (self._ask("question", seat, legal))) - self.first["question"]
        self._speak(seat)
        self._tell("ask", self._others(seat), actor=seat, target=asked, value=question)
        facts = [range(self.parameters["rooms"]), range(6, 6 + self.parameters["objects"]),
                 range(10, 10 + self.parameters["motives"])]  # fmt: skip
        fitting = facts[question] if question < 3 else itertools.chain(*facts)
        legal = [*(self.first["answer"] + fact for fact in fitting), self.first["nothing"]]
        fact = (yield (self._ask("answer", asked, legal))) - self.first["answer"]
        self._speak(asked)
        self._tell(
            "answer", self._others(asked), actor=asked, target=asked if question < 3 else question - 3, value=fact
        )

    def _opinion(self, seat: int) -> Script:
        suspects = [self.first["suspect"] + other for other in self._others(seat)]
        trusts = [self.first["trust"] + other for other in self._others(seat)]
        choice = yield self._ask("opinion", seat, [*suspects, *trusts, self.first["pass"]])
        self._speak(seat)
        if choice in suspects:
            self._doubt[choice - self.first["suspect"]] += 1
            self._tell("suspect", self._others(seat), actor=seat, target=choice - self.first["suspect"])
        elif choice in trusts:
            self._doubt[choice - self.first["trust"]] -= 1
            self._tell("trust", self._others(seat), actor=seat, target=choice - self.first["trust"])
        else:
            self._tell("pass", self._others(seat), actor=seat)

    def _vote(self) -> Script:
        """Returns who is convicted."""
        ballots = []
        for voter in self.seats:
            legal = [self.first["vote"] + other for other in self._others(voter)]
            ballots.append((yield self._ask("vote", voter, legal, self.seats[voter:])) - self.first["vote"])
        for voter, ballot in enumerate(ballots):
            self._tell("vote", self._others(voter), actor=voter, target=ballot)
        if self.parameters["verdict"] == "votes":
            sums = [ballots.count(seat) for seat in self.seats]
        else:
            sums = [self._doubt[seat] + self.num_seats * ballots.count(seat) for seat in self.seats]
        self.tied = [seat for seat in self.seats if sums[seat] == max(sums)]
        if len(self.tied) == 1:
            convicted = self.tied[0]
        elif self.parameters["ties"] == "acquit":
            convicted = NOBODY
        else:
            assert self.lot in self.tied, f"the lot may convict {self.tied}, not {self.lot}"
            convicted = self.lot
        if convicted == NOBODY:
            self._tell("acquitted")
        else:
            self._tell("convicted", target=convicted)
        return convicted

    def _speak(self, seat: int) -> None:
        if self.parameters["speech_tokens"] > 0:
            self._tell("utterance", self._others(seat), actor=seat, value=self.step_index - 1)

    def _ask(self, phase: str, actor: int, legal: Iterable[int], acting: Sequence[int] | None = None) -> Decision:
        return Decision(phase, actor, frozenset(legal), frozenset([actor] if acting is None else acting))

    def _others(self, seat: int) -> list[int]:
        return [other for other in self.seats if other != seat]

    def _tell(
        self, kind: str, audience: Sequence[int] | None = None, actor: int = NOBODY, target: int = NOBODY,
        value: int = NOBODY,
    ) -> None:  # fmt: skip
        seen_by = frozenset(self.seats if audience is None else audience)
        self.log.append((KINDS.index(kind), actor, target, value, seen_by))


def case_of(record: Mapping[str, Any]) -> Case:
    """Reads a recorded game's case from its scripts, and the clues from its stacks."""
    n, rows = len(record["roles"]), record["log_rows"]

    def rows_of(*kinds: str) -> list[Sequence[int]]:
        found = {row[1]: row for row in rows if row[0] in map(KINDS.index, kinds)}
        return [found[seat] for seat in range(n)]

    known = rows_of("object_of", "drive_of")

    codes = [[code for code in stack if code >= 0] for stack in record["stacks"]]
    return Case(
        culprit=record["roles"].index(ROLES.index("culprit")),
        at=[row[3] for row in rows_of("was")],
        empty=next(row[3] for row in rows if row[0] == KINDS.index("empty")),
        carried=[row[3] - 6 for row in rows_of("carried")],
        driven=[row[3] - 10 for row in rows_of("driven")],
        friend=[row[2] for row in known],
        knows_motive=[row[0] == KINDS.index("drive_of") for row in known],
        stacks=[[{n: "weapon", n + 1: "motive"}.get(code, code) for code in stack] for stack in codes],
    )


def replay(parameters: Mapping[str, Any], record: Mapping[str, Any]) -> Referee:
    """Judges a recorded game step by step.

    Args:
        parameters: the game's, by the names of the rules page.
        record: lists of one game; time 0 is the state after `init`, time t the one after t calls of `step` (which may
            go on after the end): roles [N], stacks [rooms][N], actions [T]; phase, actor, step, terminated, truncated,
            log_size [T+1]; legal [T+1][A], acting [T+1][N], outcome [T+1][N]; and the log at the end, log_rows [M][4],
            log_audience [M].

    Returns:
        The referee after the last step.

    Raises:
        AssertionError: something differs from what the rules demand; the message names the time and the field.
    """
    convicted = [row[2] for row in record["log_rows"] if row[0] == KINDS.index("convicted")]
    referee = Referee(parameters, case_of(record), *convicted)
    compared = 0
    for time, action in enumerate([None, *record["actions"]]):
        if action is not None:
            referee.step(action)
        size = record["log_size"][time]
        _same(time, "log_size", size, len(referee.log), referee)
        for place in range(compared, size):
            demanded = referee.log[place]
            audience = sum(1 << seat for seat in demanded[4])
            _same(time, f"log row {place}", tuple(record["log_rows"][place]), demanded[:4], referee)
            _same(time, f"audience of log row {place}", record["log_audience"][place], audience, referee)
        for seat in range(referee.num_seats):
            places = [place for place in range(compared, size) if record["log_audience"][place] >> seat & 1]
            seen = [tuple(record["log_rows"][place]) for place in places]
            _same(time, f"view of seat {seat}", seen, referee.view(seat, compared), referee)
        compared = size
        over = referee.decision is None
        expected = {
            "phase": PHASES.index(referee.phase),
            "actor": referee.actor,
            "step": referee.step_index,
            "legal": [number in referee.legal for number in range(referee.num_actions)],
            "acting": [seat in referee.acting for seat in range(referee.num_seats)],
            "outcome": referee.outcome,
            "terminated": over,
            "truncated": False,
        }
        for field, value in expected.items():
            _same(time, field, record[field][time], value, referee)
    return referee


def _same(time: int, field: str, found: Any, demanded: Any, referee: Referee) -> None:
    assert found == demanded, (
        f"t={time}, {field}: recorded {found}, the rules demand {demanded} (phase {referee.phase}, {referee.where}, "
        f"{referee.case})"
    )


# Whom the evidence leaves.


def suspects(parameters: Mapping[str, Any], case: Case, *, clues: bool = True, traces: bool = True) -> set[int]:
    """Who may have done it for all that is said and found, if the culprit lies as suits it best.

    All innocents say all that their scripts hold. The culprit may say anything of that form. A seat is left if, for
    some such words of the culprit, all that is said by all but this seat can be true of a case in which it did it.

    Args:
        parameters: the game's.
        case: what happened.
        clues: whether weapon and motive have been found.
        traces: whether all traces have been found.
    """
    settings = {**DEFAULTS, **parameters}
    found = case.traced if traces else []
    left = {case.culprit}  # whatever it says, its own words may be false
    for seat in case.seats:
        if seat == case.culprit or seat in found:
            continue
        if _places_fit(settings, case, seat, found) and _facts_fit(settings, case, seat, clues):
            left.add(seat)
    return left


def _places_fit(settings: Mapping[str, Any], case: Case, seat: int, found: Sequence[int]) -> bool:
    """Whether some words of the culprit on rooms let `seat` alone have been at the scene, all others' being true."""
    others = [other for other in case.seats if other != seat]
    for room in range(settings["rooms"]):
        for size in range(len(others)):
            for crowd in itertools.combinations([other for other in case.seats if other != case.culprit], size):
                said = {other: (case.at[other], set(case.saw(other))) for other in others}
                said[case.culprit] = (room, set(crowd))
                at = {other: said[other][0] for other in others} | {seat: case.scene}
                at |= {other: case.at[other] for other in found}
                if any(at[other] == case.scene for other in others):
                    continue
                if all(at[other] == said[other][0] and said[other][1] == _company(at, other) for other in others):
                    return True
    return False


def _company(at: Mapping[int, int], seat: int) -> set[int]:
    return {other for other in at if other != seat and at[other] == at[seat]}


def _facts_fit(settings: Mapping[str, Any], case: Case, seat: int, clues: bool) -> bool:
    """Whether some words of the culprit on objects and motives let `seat` have had the weapon and the motive."""
    counts = {"object": settings["objects"], "motive": settings["motives"]}
    facts = {"object": case.carried, "motive": case.driven}
    honest = [speaker for speaker in case.seats if speaker not in (seat, case.culprit)]
    said = [(kind, speaker, facts[kind][speaker]) for kind in facts for speaker in honest]
    for speaker in honest:
        kind, friend = "motive" if case.knows_motive[speaker] else "object", case.friend[speaker]
        said.append((kind, friend, facts[kind][friend]))
    if clues:
        said += [(kind, seat, facts[kind][case.culprit]) for kind in facts]
    of_itself = itertools.product(range(counts["object"]), range(counts["motive"]))
    of_another = [(kind, other, fact) for kind in facts for other in case.seats for fact in range(counts[kind])]
    for (thing, motive), lie in itertools.product(of_itself, of_another):
        words = {*said, ("object", case.culprit, thing), ("motive", case.culprit, motive), lie}
        if len(words) == len({word[:2] for word in words}):  # of nobody two things of one kind
            return True
    return False
