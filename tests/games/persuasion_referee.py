"""A second, slow reading of the persuasion rules, and the replay that judges recorded games by it.

Written from `docs/games/persuasion.md` alone, in plain Python. A whole game is one generator: wherever somebody has to
decide, it yields and is sent the choice; wherever the environment draws, it asks for what was drawn, having said what
may be, with which chances.
"""

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

Event = tuple[int, int, int, int, frozenset[int]]
Chances = dict[int, int]  # percent by what may be drawn, none of them 0

NOBODY = -1
PHASES = ("persuade", "reply", "tell", "donate", "over")
KINDS = (
    "seat", "exchanges", "interest", "trust", "budget", "leaning", "weight", "utterance", "act", "reply", "donation",
    "walks_away", "out_of_exchanges",
)  # fmt: skip
ACTS = (
    "logical", "emotion", "credibility", "foot", "self", "story", "information", "source", "task", "personal", "ask",
)  # fmt: skip
APPEALS = ACTS[:7]
ANSWERS = ("positive", "neutral", "negative", "reasons", "people", "examples", "agree", "refuse")
CARES = ("reasons", "people", "examples")
FOR_WHOM = {
    "logical": "reasons", "information": "reasons", "emotion": "people", "story": "people", "self": "examples",
    "foot": "examples",
}  # fmt: skip
NUM_ACTIONS = 28
DEFAULTS: dict[str, Any] = {
    "persuadee": "environment", "max_exchanges": 10, "budget_cents": 200, "speech_tokens": 0, "thought_tokens": 0,
}  # fmt: skip


@dataclasses.dataclass
class Persuadee:
    """What a persuadee is like; trust and interest change in the course of the talk."""

    interest: int
    trust: int
    budget: int
    leaning: str
    weights: dict[str, int]

    @property
    def willing(self) -> int:
        """Quarter dollars it is willing to give."""
        return self.interest * self.trust // 4

    @staticmethod
    def read(rows: Sequence[Sequence[int]]) -> "Persuadee":
        """The persuadee that the opening rows of a log tell of."""
        first: dict[str, int] = {}
        weights = {}
        for kind, _, target, value in rows:
            if KINDS[kind] == "weight":
                weights[APPEALS[target]] = value
            else:
                first.setdefault(KINDS[kind], value)
        return Persuadee(first["interest"], first["trust"], first["budget"], CARES[first["leaning"]], weights)


def weight_chances(appeal: str, leaning: str) -> dict[int, float]:
    """Chances of an appeal's weight."""
    if appeal == "credibility":
        return {1: 1 / 2, 2: 1 / 2}
    return {1: 1 / 4, 2: 3 / 4} if FOR_WHOM[appeal] == leaning else {0: 2 / 3, 1: 1 / 3}


def reaction_chances(effect: int) -> Chances:
    """Chances of a reaction to an appeal, by the appeal's effect."""
    return [{0: 10, 1: 30, 2: 60}, {0: 30, 1: 50, 2: 20}, {0: 70, 1: 30}][effect]


def report_chances(truth: int) -> Chances:
    """Chances of the three answers to an inquiry."""
    return {answer: 80 if answer == truth else 10 for answer in range(3)}


def donation_chances(planned: int, budget: int) -> Chances:
    """Chances of the donations, in quarter dollars."""
    chances: Chances = {}
    for amount, percent in ((planned - 1, 25), (planned, 50), (planned + 1, 25)):
        given = min(max(amount, 0), budget)
        chances[given] = chances.get(given, 0) + percent
    return chances


def effect_of(mind: Persuadee, act: str, used: int) -> int | None:
    """The effect of an appeal made `used` times before; of an inquiry `None`, or 0 if it has been made before."""
    if act in APPEALS:
        return max(mind.weights[act] - used, 0)
    return 0 if used else None


def hear(mind: Persuadee, act: str, effect: int | None) -> bool:
    """Changes the persuadee's mind; returns whether it stays."""
    if effect == 0:
        if mind.trust == 0:
            return False
        mind.trust -= 1
    elif effect is not None and act == "credibility":
        mind.trust = min(mind.trust + effect, 4)
    elif effect is not None:
        mind.interest += effect
    return True


@dataclasses.dataclass(frozen=True)
class Decision:
    """What is asked of whom."""

    phase: str
    actor: int
    legal: frozenset[int]


Draw = Callable[[str, Chances], int]


class Referee:
    """One game with a given persuadee.

    Attributes:
        log: every event as (kind, actor, target, value, audience), oldest first.
        step_index: decisions made so far.
        decision: the one to be made, `None` once over.
        outcome: of each seat, 0 before the end.
        ending: how the game ended, for tallies.
    """

    def __init__(self, parameters: Mapping[str, Any], persuadee: Persuadee, draw: Draw):
        self.parameters = DEFAULTS | dict(parameters)
        self.persuadee, self._draw = persuadee, draw
        self.seats = [0] if self.parameters["persuadee"] == "environment" else [0, 1]
        self.log: list[Event] = []
        self.step_index = 0
        self.outcome = [0.0 for _ in self.seats]
        self.ending = ""
        self._check_deal()
        self._game = self._script()
        self.decision: Decision | None = next(self._game)

    @property
    def phase(self) -> str:
        return self.decision.phase if self.decision else "over"

    @property
    def actor(self) -> int:
        return self.decision.actor if self.decision else NOBODY

    @property
    def legal(self) -> frozenset[int]:
        return self.decision.legal if self.decision else frozenset(range(NUM_ACTIONS))

    def step(self, action: int) -> None:
        """Plays an action; an illegal one becomes the lowest legal one."""
        if self.decision is None:
            return
        chosen = action if action in self.decision.legal else min(self.decision.legal)
        self.step_index += 1
        try:
            self.decision = self._game.send(chosen)
        except StopIteration:
            self.decision = None

    def view(self, seat: int) -> list[tuple[int, int, int, int]]:
        """What a seat has been shown."""
        return [event[:4] for event in self.log if seat in event[4]]

    def _check_deal(self) -> None:
        dealt, richest = self.persuadee, self.parameters["budget_cents"] // 25
        assert 0 <= dealt.interest <= 3
        assert 1 <= dealt.trust <= 3
        assert (richest + 1) // 2 <= dealt.budget <= richest
        assert list(dealt.weights) == list(APPEALS)
        for appeal, weight in dealt.weights.items():
            assert weight in weight_chances(appeal, dealt.leaning), f"{appeal} has weight {weight}"

    def _script(self) -> Generator[Decision, int, None]:
        self._open()
        uses = dict.fromkeys(ACTS, 0)
        for exchange in range(1, self.parameters["max_exchanges"] + 1):
            number = yield Decision("persuade", 0, frozenset(range(11)))
            act = ACTS[number]
            self._speak(0)
            self._tell("act", [1], actor=0, value=number)
            if act == "ask":
                yield from self._donate()
                return
            effect = effect_of(self.persuadee, act, uses[act])
            uses[act] += 1
            before = self.persuadee.interest, self.persuadee.trust
            if not hear(self.persuadee, act, effect):
                self._tell("walks_away", [0, 1], actor=1)
                self._end("walks_away")
                return
            self._tell_change(*before)
            reply = yield from self._reply(act, effect)
            if reply == "agree":
                yield from self._donate()
                return
            if reply == "refuse":
                self._end("refuses")
                return
            if exchange == self.parameters["max_exchanges"]:
                self._tell("out_of_exchanges", [0, 1])
                self._end("out_of_exchanges")

    def _open(self) -> None:
        for seat in self.seats:
            self._tell("seat", [seat], actor=seat)
        self._tell("exchanges", [0, 1], value=self.parameters["max_exchanges"])
        dealt = self.persuadee
        self._tell("interest", [1], actor=1, value=dealt.interest)
        self._tell("trust", [1], actor=1, value=dealt.trust)
        self._tell("budget", [1], actor=1, value=dealt.budget)
        self._tell("leaning", [1], actor=1, value=CARES.index(dealt.leaning))
        for number, appeal in enumerate(APPEALS):
            self._tell("weight", [1], actor=1, target=number, value=dealt.weights[appeal])

    def _tell_change(self, interest: int, trust: int) -> None:
        if self.persuadee.interest != interest:
            self._tell("interest", [1], actor=1, value=self.persuadee.interest)
        if self.persuadee.trust != trust:
            self._tell("trust", [1], actor=1, value=self.persuadee.trust)

    def _reply(self, act: str, effect: int | None) -> Generator[Decision, int, str]:
        answers = (3, 4, 5) if act == "personal" else (0, 1, 2)
        if len(self.seats) == 1:
            reply = self._drawn_reply(act, effect)
        else:
            legal = frozenset(11 + answer for answer in (*answers, 6, 7))
            reply = (yield Decision("tell" if act == "personal" else "reply", 1, legal)) - 11
            self._speak(1)
        self._tell("reply", [0], actor=1, value=reply)
        return ANSWERS[reply]

    def _drawn_reply(self, act: str, effect: int | None) -> int:
        mind = self.persuadee
        if act in APPEALS:
            assert effect is not None
            return self._draw(f"reaction to effect {effect}", reaction_chances(effect))
        if act == "personal":
            truth = CARES.index(mind.leaning)
        elif act == "source":
            truth = 0 if mind.trust >= 3 else 1 if mind.trust == 2 else 2
        else:
            truth = 0 if mind.interest >= 5 else 1 if mind.interest >= 3 else 2
        told = {answer + 3 * (act == "personal"): chance for answer, chance in report_chances(truth).items()}
        return self._draw(f"{act}, truth {truth}", told)

    def _donate(self) -> Generator[Decision, int, None]:
        mind = self.persuadee
        if len(self.seats) == 1:
            chances = donation_chances(mind.willing, mind.budget)
            given = self._draw(f"donation by {list(chances.values())}", chances)
        else:
            given = (yield Decision("donate", 1, frozenset(range(19, 20 + mind.budget)))) - 19
        self._tell("donation", [0], actor=1, value=given)
        self._end("donation", given)

    def _end(self, ending: str, given: int = 0) -> None:
        self.ending = ending
        glow = min(given, self.persuadee.willing)
        self.outcome = [given / 4 - 1, (2 * glow - given) / 8][: len(self.seats)]

    def _speak(self, seat: int) -> None:
        if self.parameters["speech_tokens"]:
            self._tell("utterance", [1 - seat], actor=seat, value=self.step_index - 1)

    def _tell(
        self, kind: str, audience: Sequence[int], actor: int = NOBODY, target: int = NOBODY, value: int = NOBODY
    ) -> None:
        seen_by = frozenset(audience) & frozenset(self.seats)
        self.log.append((KINDS.index(kind), actor, target, value, seen_by))


def replay(
    parameters: Mapping[str, Any], record: Mapping[str, list], drawn: Callable[[str, Chances, int], None]
) -> Referee:
    """Judges a recorded game step by step.

    Args:
        parameters: the game's, by the names of the rules page.
        record: lists of one game; time 0 is the state after `init`, time t the one after t calls of `step`: action,
            phase, actor, step, terminated, truncated, size [T], legal [T][A], acting [T][N], outcome [T][N], and the
            log at the end, rows [M][4], audience [M].
        drawn: is told of every draw: in which situation, what might have been drawn, and what was.

    Returns:
        The referee after the last step.

    Raises:
        AssertionError: something differs from what the rules demand; the message names the time and the field.
    """

    def draw(situation: str, chances: Chances) -> int:
        value = record["rows"][len(referee.log)][3]
        assert value in chances, f"{situation}: {value} was drawn, possible are {sorted(chances)}"
        drawn(situation, chances, value)
        return value

    opening = record["rows"][: record["size"][0]]
    referee = Referee(parameters, Persuadee.read(opening), draw)
    for time, action in enumerate(record["action"]):
        _compare(referee, record, time)
        referee.step(action)
    assert referee.decision is None
    return referee


def _compare(referee: Referee, record: Mapping[str, list], time: int) -> None:
    size = record["size"][time]
    demanded = [event[:4] for event in referee.log]
    _same(time, "log", [tuple(row) for row in record["rows"][:size]], demanded, referee)
    for seat in referee.seats:
        shown = [tuple(record["rows"][row]) for row in range(size) if record["audience"][row] >> seat & 1]
        _same(time, f"view of seat {seat}", shown, referee.view(seat), referee)
    known = sum(1 << seat for seat in referee.seats)
    _same(time, "audience", [mask & ~known for mask in record["audience"][:size]], [0] * size, referee)
    over = referee.decision is None
    expected = {
        "phase": PHASES.index(referee.phase),
        "actor": referee.actor,
        "step": referee.step_index,
        "legal": [number in referee.legal for number in range(NUM_ACTIONS)],
        "acting": [seat == referee.actor for seat in referee.seats],
        "outcome": referee.outcome,
        "terminated": over,
        "truncated": False,
    }
    for field, value in expected.items():
        _same(time, field, record[field][time], value, referee)


def _same(time: int, field: str, found: Any, demanded: Any, referee: Referee) -> None:
    assert found == demanded, (
        f"t={time}, {field}: recorded {found}, the rules demand {demanded} (phase {referee.phase}, {referee.persuadee})"
    )
