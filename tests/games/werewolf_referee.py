"""A second, slow reading of the Werewolf rules: the oracle that judges the compiled game.

Written from `docs/games/werewolf.md` alone, in plain Python and in another shape than a compiled
game can have: the decisions still to come are a list that is worked off from the front. Chance is
not drawn here. Whoever drives the referee tells it what was drawn, and the referee refuses a draw
that the rules do not allow.
"""

from collections.abc import Mapping
from typing import Any

Row = tuple[int, int, int, int]
Event = tuple[int, int, int, int, frozenset[int]]

NOBODY = -1
ROLES = ("wolf", "seer", "doctor", "villager")
PHASES = ("wolf", "doctor", "seer", "speak", "vote", "over")
KINDS = (
    "seat", "fellow", "night", "wolf_pick", "protect", "check", "check_result", "day", "death",
    "death_hidden", "no_death", "utterance", "accuse", "defend", "claim", "report", "pass", "vote",
    "expelled", "expelled_hidden", "no_expulsion", "win", "truncated",
)  # fmt: skip
WOLVES_BY_SEATS = {5: 1, 6: 1, 7: 2, 8: 2, 9: 2}
DRAWS = ("wolf_target", "first_speaker", "expelled")
DEFAULTS: dict[str, Any] = {
    "num_seats": 7,
    "night_order": "wolf,doctor,seer",
    "wolf_tie": "random",
    "vote_tie": "nobody",
    "win_rule": "parity",
    "max_days": 8,
    "reveal_roles": True,
    "speech_rounds": 1,
    "speech_acts": True,
    "speech_tokens": 0,
    "thought_tokens": 0,
}


def plurality(picks: list[int]) -> list[int]:
    """Returns the seats named most often in `picks`, rising; more than one is a tie."""
    most = max(picks.count(seat) for seat in picks)
    return sorted({seat for seat in picks if picks.count(seat) == most})


def speech_acts(num_seats: int) -> list[tuple[str, int, int]]:
    """Returns (kind, target, value) of each speech act, in the order of the action indices."""
    seats = range(num_seats)
    return [
        *(("accuse", seat, NOBODY) for seat in seats),
        *(("defend", seat, NOBODY) for seat in seats),
        *(("claim", NOBODY, role) for role in range(len(ROLES))),
        *(("report", seat, 1) for seat in seats),
        *(("report", seat, 0) for seat in seats),
        ("pass", NOBODY, NOBODY),
    ]


def checked_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Fills in the page's defaults and asserts that every value is one the page allows."""
    unknown = set(parameters) - set(DEFAULTS)
    assert not unknown, f"unknown parameters {sorted(unknown)}; the page has {sorted(DEFAULTS)}"
    full = {**DEFAULTS, **parameters}
    allowed = {
        "num_seats": full["num_seats"] in WOLVES_BY_SEATS,
        "night_order": sorted(full["night_order"].split(",")) == ["doctor", "seer", "wolf"],
        "wolf_tie": full["wolf_tie"] in ("random", "last", "none"),
        "vote_tie": full["vote_tie"] in ("nobody", "random"),
        "win_rule": full["win_rule"] in ("parity", "extinction", "sides"),
        "max_days": 1 <= full["max_days"] <= 20,
        "reveal_roles": isinstance(full["reveal_roles"], bool),
        "speech_rounds": 1 <= full["speech_rounds"] <= 3,
        "speech_acts": isinstance(full["speech_acts"], bool),
        "speech_tokens": full["speech_tokens"] >= 0,
        "thought_tokens": full["thought_tokens"] >= 0,
    }
    for name, holds in allowed.items():
        assert holds, f"{name}={full[name]!r} is not a value the rules page allows"
    return full


class Referee:
    """One game of Werewolf from a given deal.

    Attributes:
        roles: the role names in seat order.
        alive: whether each seat lives, in seat order.
        day: number of the current night and the day after it, from 1.
        step_index: decisions taken so far.
        log: every event as (kind, actor, target, value, audience), oldest first.
        outcome: -1, 0 or 1 for each seat; all 0 until somebody wins.
        terminated: whether a side has won.
        truncated: whether the day limit ended the game.
        draws: the chance of the last `step`: name -> (seats it could be, seat it was).
    """

    def __init__(self, parameters: Mapping[str, Any], roles: list[str]):
        """Starts the first night.

        Args:
            parameters: values for the page's parameters; those left out take its defaults.
            roles: a role name for each seat.

        Raises:
            AssertionError: a parameter or the deal is not one the page allows.
        """
        self.parameters = checked_parameters(parameters)
        self.num_seats: int = self.parameters["num_seats"]
        wolves = WOLVES_BY_SEATS[self.num_seats]
        dealt = [roles.count(role) for role in ROLES]
        assert dealt == [wolves, 1, 1, self.num_seats - wolves - 2], (
            f"{self.num_seats} seats cannot be dealt {roles}"
        )
        self.roles = list(roles)
        self.alive = [True] * self.num_seats
        self.day = 0
        self.step_index = 0
        self.log: list[Event] = []
        self.outcome = [0] * self.num_seats
        self.terminated = False
        self.truncated = False
        self.draws: dict[str, tuple[frozenset[int], int]] = {}
        self._to_come: list[tuple[str, int]] = []  # (phase, seat), the actor's decision first
        self._checked_before: set[int] = set()
        for seat in range(self.num_seats):
            self._tell("seat", {seat}, actor=seat)
        for wolf in self._living("wolf"):
            for other in self._living("wolf"):
                if other != wolf:
                    self._tell("fellow", {wolf}, actor=wolf, target=other)
        self._open_night()

    @property
    def over(self) -> bool:
        return self.terminated or self.truncated

    @property
    def phase(self) -> str:
        return "over" if self.over else self._to_come[0][0]

    @property
    def actor(self) -> int:
        return NOBODY if self.over else self._to_come[0][1]

    @property
    def num_actions(self) -> int:
        return 5 * self.num_seats + len(ROLES) + 1

    def acting_seats(self) -> set[int]:
        """Returns who may act now without having seen the others' acts."""
        if self.over:
            return set()
        if self.phase == "vote":
            return {seat for _, seat in self._to_come}  # whoever has voted has left the list
        return {self.actor}

    def legal_actions(self) -> set[int]:
        """Returns the indices the actor may choose; all of them when the game is over."""
        if self.over:
            return set(range(self.num_actions))
        living, others = self._living(), [s for s in self._living() if s != self.actor]
        if self.phase == "wolf":
            return {seat for seat in living if self.roles[seat] != "wolf"}
        if self.phase == "doctor":
            return set(living)
        if self.phase == "seer":
            return {s for s in others if s not in self._checked_before} or set(others)
        if self.phase == "vote":
            return set(others)
        pass_index = self.num_actions - 1
        if not self.parameters["speech_acts"]:
            return {pass_index}
        claims = range(3 * self.num_seats, 3 * self.num_seats + len(ROLES))
        legal = {pass_index, *claims}
        for seat in others:
            accuse, defend = self.num_seats + seat, 2 * self.num_seats + seat
            report_wolf = 3 * self.num_seats + len(ROLES) + seat
            report_good = report_wolf + self.num_seats
            legal |= {accuse, defend, report_wolf, report_good}
        return legal

    def view(self, seat: int, start: int = 0) -> list[Row]:
        """Returns the rows `seat` may see, oldest first, from place `start` of the log on."""
        return [
            (kind, actor, target, value)
            for kind, actor, target, value, audience in self.log[start:]
            if seat in audience
        ]

    def step(self, action: int, chance: Mapping[str, int] | None = None) -> None:
        """Plays the actor's decision; does nothing when the game is over.

        Args:
            action: an action index; an illegal one becomes the lowest legal one.
            chance: what was drawn, by name: `wolf_target` and `expelled` (a seat out of a random
                tie), `first_speaker` (who opens the day). Entries that this step does not need are
                not looked at; `draws` tells afterwards which ones it did need.

        Raises:
            AssertionError: a draw is needed and missing, or no such draw is possible.
        """
        chance = chance or {}
        assert set(chance) <= set(DRAWS), f"chance has {sorted(chance)}, draws are {DRAWS}"
        self.draws = {}
        if self.over:
            return
        legal = self.legal_actions()
        choice = action if action in legal else min(legal)
        phase, seat = self._to_come.pop(0)
        if phase == "speak":
            self._speak(seat, choice)
        elif phase == "vote":
            self._votes[seat] = choice
        else:
            self._act_at_night(phase, seat, choice)
        self.step_index += 1
        if not self._to_come:
            if phase in ("speak", "vote"):
                self._close_vote(chance)
            else:
                self._close_night(chance)

    # The night.

    def _open_night(self) -> None:
        self.day += 1
        self._tell("night", value=self.day)
        self._picks: dict[int, int] = {}  # wolf -> pick, in acting order
        self._protected = NOBODY
        self._check: tuple[int, int] | None = None  # (seer, seat checked)
        for role in self.parameters["night_order"].split(","):
            self._to_come += [(role, seat) for seat in self._living(role)]

    def _act_at_night(self, phase: str, seat: int, target: int) -> None:
        if phase == "wolf":
            self._picks[seat] = target
            self._tell("wolf_pick", set(self._living("wolf")) - {seat}, actor=seat, target=target)
        elif phase == "doctor":
            self._protected = target
            self._tell("protect", set(), actor=seat, target=target)
        else:
            self._check = (seat, target)
            self._checked_before.add(target)
            self._tell("check", set(), actor=seat, target=target)

    def _close_night(self, chance: Mapping[str, int]) -> None:
        victim = self._wolves_target(chance)
        if self._check is not None:
            seer, target = self._check
            is_wolf = int(self.roles[target] == "wolf")
            self._tell("check_result", {seer}, actor=seer, target=target, value=is_wolf)
        self._tell("day", value=self.day)
        if victim in (NOBODY, self._protected):
            self._tell("no_death")
        else:
            self._remove(victim, "death")
        self._check_end()
        if not self.over:
            self._open_day(chance)

    def _wolves_target(self, chance: Mapping[str, int]) -> int:
        tied = plurality(list(self._picks.values()))
        if len(tied) == 1:
            return tied[0]
        if self.parameters["wolf_tie"] == "random":
            return self._drawn("wolf_target", tied, chance)
        if self.parameters["wolf_tie"] == "last":
            return [pick for _, pick in sorted(self._picks.items()) if pick in tied][-1]
        return NOBODY

    # The day.

    def _open_day(self, chance: Mapping[str, int]) -> None:
        living = self._living()
        self._votes: dict[int, int] = {}
        if self.parameters["speech_acts"] or self.parameters["speech_tokens"] > 0:
            first = living.index(self._drawn("first_speaker", living, chance))
            order = living[first:] + living[:first]
            self._to_come += [("speak", seat) for seat in order * self.parameters["speech_rounds"]]
        self._to_come += [("vote", seat) for seat in living]

    def _speak(self, seat: int, action: int) -> None:
        hearers = set(range(self.num_seats)) - {seat}
        if self.parameters["speech_tokens"] > 0:
            self._tell("utterance", hearers, actor=seat, value=self.step_index)
        if not self.parameters["speech_acts"]:
            return
        kind, target, value = speech_acts(self.num_seats)[action - self.num_seats]
        self._tell(kind, hearers, actor=seat, target=target, value=value)

    def _close_vote(self, chance: Mapping[str, int]) -> None:
        everybody = set(range(self.num_seats))
        for voter in sorted(self._votes):
            self._tell("vote", everybody - {voter}, actor=voter, target=self._votes[voter])
        tied = plurality(list(self._votes.values()))
        if len(tied) == 1:
            self._remove(tied[0], "expelled")
        elif self.parameters["vote_tie"] == "random":
            self._remove(self._drawn("expelled", tied, chance), "expelled")
        else:
            self._tell("no_expulsion")
        self._check_end()
        if self.over:
            return
        if self.day == self.parameters["max_days"]:
            self.truncated = True
            self._tell("truncated")
        else:
            self._open_night()

    # Shared by night and day.

    def _living(self, role: str | None = None) -> list[int]:
        seats = range(self.num_seats)
        return [s for s in seats if self.alive[s] and role in (None, self.roles[s])]

    def _drawn(self, name: str, candidates: list[int], chance: Mapping[str, int]) -> int:
        assert name in chance, f"{name} has to be drawn among seats {candidates}, none was given"
        seat = int(chance[name])
        assert seat in candidates, f"{name} was drawn as {seat}, possible are seats {candidates}"
        self.draws[name] = (frozenset(candidates), seat)
        return seat

    def _remove(self, seat: int, event: str) -> None:
        self.alive[seat] = False
        if self.parameters["reveal_roles"]:
            self._tell(event, target=seat, value=ROLES.index(self.roles[seat]))
        else:
            self._tell(event + "_hidden", target=seat)

    def _check_end(self) -> None:
        wolves = len(self._living("wolf"))
        villagers = len(self._living("villager"))
        gifted = len(self._living("seer")) + len(self._living("doctor"))
        wolves_win = {
            "parity": wolves >= villagers + gifted,
            "extinction": villagers + gifted == 0,
            "sides": villagers == 0 or gifted == 0,
        }[self.parameters["win_rule"]]
        if wolves > 0 and not wolves_win:
            return
        village_won = wolves == 0
        self.terminated = True
        self.outcome = [1 if (role != "wolf") == village_won else -1 for role in self.roles]
        self._tell("win", value=int(village_won))

    def _tell(
        self,
        kind: str,
        audience: set[int] | None = None,
        actor: int = NOBODY,
        target: int = NOBODY,
        value: int = NOBODY,
    ) -> None:
        """Logs an event; without an `audience` everybody sees it, the dead too."""
        seen_by = frozenset(range(self.num_seats) if audience is None else audience)
        self.log.append((KINDS.index(kind), actor, target, value, seen_by))
