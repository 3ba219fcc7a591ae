"""A second, slow reading of the Avalon rules, and the replay that judges recorded games by it.

Written from `docs/games/avalon.md` alone, in plain Python. A whole game is one generator with a loop over quests and a
loop over proposals in it; wherever somebody has to decide, it yields and is sent the choice.
"""

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from typing import Any

Row = tuple[int, int, int, int]
Event = tuple[int, int, int, int, frozenset[int]]

NOBODY = -1
ROLES = ("merlin", "percival", "morgana", "mordred", "oberon", "servant", "minion", "assassin")
GOOD = ("merlin", "percival", "servant")
PHASES = ("propose", "speak", "vote", "quest", "shoot", "over")
KINDS = (
    "seat", "evil", "merlin", "merlin_or_morgana", "quest", "leader", "pick", "utterance", "accuse", "defend", "claim",
    "pass", "vote", "approved", "rejected", "unvoted", "choice", "quest_succeeded", "quest_failed", "shot", "win",
)  # fmt: skip

# seats: (evil seats, team sizes, fails that lose each quest)
TABLE = {
    5: (2, [2, 3, 2, 3, 3], [1, 1, 1, 1, 1]),
    6: (2, [2, 3, 4, 3, 4], [1, 1, 1, 1, 1]),
    7: (3, [2, 3, 3, 4, 4], [1, 1, 1, 2, 1]),
    8: (3, [3, 4, 4, 5, 5], [1, 1, 1, 2, 1]),
    9: (3, [3, 4, 4, 5, 5], [1, 1, 1, 2, 1]),
    10: (4, [3, 4, 4, 5, 5], [1, 1, 1, 2, 1]),
}

DEFAULTS: dict[str, Any] = {
    "num_seats": 5,
    "roles": "merlin,assassin",
    "fifth_rejection": "evil_wins",
    "discussion_rounds": 0,
    "speech_tokens": 0,
    "thought_tokens": 0,
}


def deck(num_seats: int, roles: str) -> list[str]:
    """Returns the roles to deal, unshuffled."""
    named = ["merlin", "assassin"]
    for name in roles.split(","):
        if name not in named:
            named.append(name)
    evil = TABLE[num_seats][0]
    good_named = [name for name in named if name in GOOD]
    evil_named = [name for name in named if name not in GOOD]
    servants = ["servant"] * (num_seats - evil - len(good_named))
    minions = ["minion"] * (evil - len(evil_named))
    return good_named + servants + evil_named + minions


def told(viewer: str, other: str) -> str:
    """Returns what a role is told of another seat's: "evil", "M" or nothing."""
    if viewer == "merlin" and other not in GOOD and other != "mordred":
        return "evil"
    if viewer == "percival" and other in ("merlin", "morgana"):
        return "M"
    both_evil = viewer not in GOOD and other not in GOOD
    return "evil" if both_evil and "oberon" not in (viewer, other) else ""


@dataclasses.dataclass(frozen=True)
class Decision:
    """What is asked of whom."""

    phase: str
    actor: int
    legal: frozenset[int]
    acting: frozenset[int]


Script = Generator[Decision, int, Any]


class Referee:
    """One game from a given deal.

    Attributes:
        log: every event as (kind, actor, target, value, audience), oldest first.
        step_index: decisions made so far.
        decision: the one to be made, `None` once over.
        outcome: -1, 0 or 1 for each seat.
        where: how far the game is, for messages.
    """

    def __init__(self, parameters: Mapping[str, Any], roles: Sequence[str], first_leader: int):
        self.parameters = {**DEFAULTS, **parameters}
        assert set(self.parameters) == set(DEFAULTS), f"the page has only {sorted(DEFAULTS)}"
        self.num_seats: int = self.parameters["num_seats"]
        self.dealt = deck(self.num_seats, self.parameters["roles"])
        assert sorted(roles) == sorted(self.dealt), f"{self.dealt} cannot be dealt as {roles}"
        assert 0 <= first_leader < self.num_seats, f"seat {first_leader} cannot lead"
        self.roles = list(roles)
        self.seats = list(range(self.num_seats))
        self.log: list[Event] = []
        self.step_index = 0
        self.outcome = [0] * self.num_seats
        self.where = ""
        self._leader = first_leader
        self._script = self._game()
        self.decision: Decision | None = next(self._script)

    @property
    def num_actions(self) -> int:
        return 3 * self.num_seats + len(ROLES) + 5

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
        _, sizes, losing = TABLE[self.num_seats]
        won, lost = 0, 0
        for quest in range(5):
            self._tell("quest", value=quest)
            team = yield from self._find_team(quest, sizes[quest])
            if team is None:
                self._end(good_wins=False)
                return
            fails = yield from self._ride(team)
            if fails >= losing[quest]:
                lost += 1
                self._tell("quest_failed", value=fails)
            else:
                won += 1
                self._tell("quest_succeeded", value=fails)
            if lost == 3:
                self._end(good_wins=False)
                return
            if won == 3:
                break
        assassin = self.roles.index("assassin")
        targets = [seat for seat in self.seats if seat != assassin and told("assassin", self.roles[seat]) != "evil"]
        target = yield self._ask("shoot", assassin, targets)
        self._tell("shot", self._but(assassin), actor=assassin, target=target)
        self._end(good_wins=self.roles[target] != "merlin")

    def _introduce(self) -> None:
        for seat in self.seats:
            self._tell("seat", [seat], actor=seat)
        percival_sees = "merlin_or_morgana" if "morgana" in self.dealt else "merlin"
        for viewer in self.seats:
            for other in self.seats:
                if viewer == other:
                    continue
                what = told(self.roles[viewer], self.roles[other])
                if what:
                    kind = "evil" if what == "evil" else percival_sees
                    self._tell(kind, [viewer], actor=viewer, target=other)

    def _find_team(self, quest: int, size: int) -> Script:
        """Returns the team that goes, or `None` after the fifth rejection."""
        for proposal in range(5):
            leader, self._leader = self._leader, (self._leader + 1) % self.num_seats
            self.where = f"quest {quest}, proposal {proposal}"
            self._tell("leader", actor=leader, value=proposal)
            team: list[int] = []
            while len(team) < size:
                pick = yield self._ask("propose", leader, [seat for seat in self.seats if seat not in team])
                team.append(pick)
                self._tell("pick", self._but(leader), actor=leader, target=pick)
            yield from self._discuss(leader)
            if proposal == 4 and self.parameters["fifth_rejection"] == "approved":
                self._tell("unvoted")
                return team
            if (yield from self._vote()):
                self._tell("approved")
                return team
            self._tell("rejected")
        return None

    def _discuss(self, leader: int) -> Script:
        n = self.num_seats
        acts: dict[int, tuple[str, int, int]] = {3 * n + len(ROLES): ("pass", NOBODY, NOBODY)}
        for seat in self.seats:
            acts[n + seat] = ("accuse", seat, NOBODY)
            acts[2 * n + seat] = ("defend", seat, NOBODY)
        for number, role in enumerate(ROLES):
            if role in self.dealt:
                acts[3 * n + number] = ("claim", NOBODY, number)
        for _ in range(self.parameters["discussion_rounds"]):
            for speaker in self.seats[leader:] + self.seats[:leader]:
                legal = [action for action, (_, target, _) in acts.items() if target != speaker]
                before = self.step_index
                kind, target, value = acts[(yield self._ask("speak", speaker, legal))]
                if self.parameters["speech_tokens"] > 0:
                    self._tell("utterance", self._but(speaker), actor=speaker, value=before)
                self._tell(kind, self._but(speaker), actor=speaker, target=target, value=value)

    def _vote(self) -> Script:
        """Returns whether the team is approved."""
        approve, reject = self.num_actions - 4, self.num_actions - 3
        ballots = []
        for voter in self.seats:
            ballots.append((yield self._ask("vote", voter, [approve, reject], self.seats[voter:])) == approve)
        for voter, ballot in enumerate(ballots):
            self._tell("vote", self._but(voter), actor=voter, value=int(ballot))
        return ballots.count(True) > ballots.count(False)

    def _ride(self, team: list[int]) -> Script:
        """Returns the number of fails."""
        success, fail = self.num_actions - 2, self.num_actions - 1
        members = sorted(team)
        failed = []
        for place, member in enumerate(members):
            legal = [success] if self.roles[member] in GOOD else [success, fail]
            failed.append((yield self._ask("quest", member, legal, members[place:])) == fail)
        for member, has_failed in zip(members, failed, strict=True):
            self._tell("choice", [], actor=member, value=int(not has_failed))
        return failed.count(True)

    def _end(self, good_wins: bool) -> None:
        self.outcome = [1 if (role in GOOD) == good_wins else -1 for role in self.roles]
        self._tell("win", value=int(good_wins))

    def _ask(self, phase: str, actor: int, legal: Sequence[int], acting: Sequence[int] | None = None) -> Decision:
        return Decision(phase, actor, frozenset(legal), frozenset([actor] if acting is None else acting))

    def _but(self, seat: int) -> list[int]:
        return [other for other in self.seats if other != seat]

    def _tell(
        self, kind: str, audience: Sequence[int] | None = None, actor: int = NOBODY, target: int = NOBODY,
        value: int = NOBODY,
    ) -> None:  # fmt: skip
        seen_by = frozenset(self.seats if audience is None else audience)
        self.log.append((KINDS.index(kind), actor, target, value, seen_by))


def replay(parameters: Mapping[str, Any], record: Mapping[str, list]) -> Referee:
    """Judges a recorded game step by step.

    Args:
        parameters: the game's, by the names of the rules page.
        record: lists of one game; time 0 is the state after `init`, time t the one after t calls of `step` (which may
            go on after the end): roles [N], actions [T]; phase, actor, step, terminated, truncated, log_size [T+1];
            legal [T+1][A], acting [T+1][N], outcome [T+1][N]; and the log at the end, log_rows [M][4], log_audience
            [M].

    Returns:
        The referee after the last step.

    Raises:
        AssertionError: something differs from what the rules demand; the message names the time and the field.
    """
    referee = Referee(parameters, [ROLES[role] for role in record["roles"]], record["actor"][0])
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
        f"roles {referee.roles})"
    )
