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
ALL_ROLES = (*ROLES, "witch", "hunter", "guard")
PHASES = ("wolf", "doctor", "seer", "speak", "vote", "over")
ALL_PHASES = (*PHASES[:-1], "witch", "guard", "hunter", "over")
KINDS = (
    "seat", "fellow", "night", "wolf_pick", "protect", "check", "check_result", "day", "death",
    "death_hidden", "no_death", "utterance", "accuse", "defend", "claim", "report", "pass", "vote",
    "expelled", "expelled_hidden", "no_expulsion", "win", "truncated", "wolf_pass", "victim", "no_victim",
    "save", "poison", "shot", "abstain", "tie",
)  # fmt: skip
WOLVES_BY_SEATS = {5: 1, 6: 1, 7: 2, 8: 2, 9: 2, 10: 2, 11: 3, 12: 3}
WOLVES_OF_MORE_ROLES = {5: 1, 6: 2, 7: 2, 8: 2, 9: 3, 10: 3, 11: 3, 12: 4}
DRAWS = ("wolf_target", "first_speaker", "expelled")
RULES: dict[str, dict[str, Any]] = {
    "default": {
        "night_order": ["wolf", "doctor", "guard", "seer", "witch"],
        "wolf_tie": "random",
        "vote_tie": "nobody",
        "win_rule": "parity",
        "reveal_roles": True,
    },
    "makto": {
        "night_order": ["wolf", "seer", "doctor", "guard", "witch"],
        "wolf_tie": "last",
        "vote_tie": "runoff",
        "win_rule": "sides",
        "reveal_roles": False,
    },
}


def plurality(picks: list[int]) -> list[int]:
    """Returns the seats named most often in `picks`, rising; more than one is a tie."""
    most = max(picks.count(seat) for seat in picks)
    return sorted({seat for seat in picks if picks.count(seat) == most})


def speech_acts(num_seats: int, num_roles: int) -> list[tuple[str, int, int]]:
    """Returns (kind, target, value) of each speech act, in the order of the action indices."""
    seats = range(num_seats)
    return [
        *(("accuse", seat, NOBODY) for seat in seats),
        *(("defend", seat, NOBODY) for seat in seats),
        *(("claim", NOBODY, role) for role in range(num_roles)),
        *(("report", seat, 1) for seat in seats),
        *(("report", seat, 0) for seat in seats),
        ("pass", NOBODY, NOBODY),
    ]


def deck(parameters: Mapping[str, Any]) -> list[str]:
    """Returns the roles that the page deals with these parameters, all of which are given."""
    seats = parameters["num_seats"]
    more = [role for role in ("witch", "hunter", "guard") if parameters[role]]
    healer = [] if "witch" in more or "guard" in more else ["doctor"]
    wolves = (WOLVES_OF_MORE_ROLES if more else WOLVES_BY_SEATS)[seats]
    named = ["wolf"] * wolves + ["seer"] + healer + more
    return named + ["villager"] * (seats - len(named))


def checked_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Fills in what the page gives to parameters left out and asserts that every value is one it allows."""
    given = {"num_seats": 7, "rules": "default", **parameters}
    assert given["rules"] in RULES, f"rules={given['rules']!r} is not a value the rules page allows"
    assert given["num_seats"] in WOLVES_BY_SEATS, f"num_seats={given['num_seats']!r} is not allowed"
    makto, large = given["rules"] == "makto", given["num_seats"] >= 9
    guard = given.get("guard", False)
    usual_values: dict[str, Any] = {
        **RULES[given["rules"]],
        "max_days": 8,
        "speech_rounds": 1,
        "speech_acts": True,
        "speech_tokens": 0,
        "thought_tokens": 0,
        "witch": makto and (large or not guard),
        "hunter": makto and large and not guard,
        "guard": False,
    }
    full = {**usual_values, **given}
    unknown = set(full) - set(usual_values) - {"num_seats", "rules"}
    assert not unknown, f"unknown parameters {sorted(unknown)}; the page has {sorted(full)}"
    dealt = deck(full)
    usual = [role for role in RULES[full["rules"]]["night_order"] if role in dealt]
    full["night_order"] = parameters.get("night_order", ",".join(usual)).split(",")
    acting = full["night_order"]
    allowed = {
        "num_seats": "villager" in dealt and len(dealt) == full["num_seats"],
        "night_order": sorted(acting) == sorted(usual)
        and ("witch" not in acting or acting.index("wolf") < acting.index("witch")),
        "wolf_tie": full["wolf_tie"] in ("random", "last", "none"),
        "vote_tie": full["vote_tie"] in ("nobody", "random", "runoff"),
        "win_rule": full["win_rule"] in ("parity", "extinction", "sides"),
        "max_days": 1 <= full["max_days"] <= 20,
        "speech_rounds": 1 <= full["speech_rounds"] <= 3,
        "speech_tokens": full["speech_tokens"] >= 0,
        "thought_tokens": full["thought_tokens"] >= 0,
    }
    for name in ("reveal_roles", "speech_acts", "witch", "hunter", "guard"):
        allowed[name] = isinstance(full[name], bool)
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
        assert sorted(roles) == sorted(deck(self.parameters)), f"{self.num_seats} seats cannot be dealt {roles}"
        self.roles = list(roles)
        more = {"witch", "hunter", "guard"} & set(roles)
        self.all_roles = ALL_ROLES if more else ROLES
        self.all_phases = ALL_PHASES if more else PHASES
        self.makto = self.parameters["rules"] == "makto"
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
        self._guarded_before = NOBODY  # in the last night
        self._potions = {"save", "poison"}
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
        return 5 * self.num_seats + len(self.all_roles) + 1 + (self.all_roles is ALL_ROLES)

    @property
    def _pass(self) -> int:
        return 5 * self.num_seats + len(self.all_roles)

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
        nobody = {self._pass} if self.makto else set()
        if self.phase == "wolf":
            return set(living) | nobody if self.makto else {seat for seat in living if self.roles[seat] != "wolf"}
        if self.phase == "doctor":
            return set(living)
        if self.phase == "guard":
            return set(living) - {self._guarded_before} | nobody
        if self.phase == "seer":
            return {s for s in others if s not in self._checked_before} or set(others)
        if self.phase == "witch":
            poison = set(others) if "poison" in self._potions else set()
            save = {self._pass + 1} if "save" in self._potions and self._target != NOBODY else set()
            return poison | save | {self._pass}
        if self.phase == "hunter":
            return {*others, self._pass}
        if self.phase == "vote":
            return {seat for seat in others if not self._tied or seat in self._tied} | nobody
        if not self.parameters["speech_acts"]:
            return {self._pass}
        dealt = [3 * self.num_seats + index for index, role in enumerate(self.all_roles) if role in self.roles]
        legal = {self._pass, *dealt}
        for seat in others:
            accuse, defend = self.num_seats + seat, 2 * self.num_seats + seat
            report_wolf = 3 * self.num_seats + len(self.all_roles) + seat
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
                tie), `first_speaker` (who opens the speeches). Entries that this step does not need are
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
        self.step_index += 1
        if phase == "hunter":
            self._shoot(seat, choice, chance)
        elif phase == "vote":
            self._votes[seat] = NOBODY if choice == self._pass else choice
            if not self._to_come:
                self._close_vote(chance)
        elif phase != "speak":
            self._act_at_night(phase, seat, choice, chance)
            if not self._to_come:
                self._close_night(chance)

    # The night.

    def _open_night(self) -> None:
        self.day += 1
        self._tell("night", value=self.day)
        self._picks: dict[int, int] = {}  # wolf -> pick, in acting order
        self._target = self._protected = self._poisoned = NOBODY
        self._saved = False
        self._check: tuple[int, int] | None = None  # (seer, seat checked)
        for role in self.parameters["night_order"]:
            if role != "witch" or self._potions:
                self._to_come += [(role, seat) for seat in self._living(role)]

    def _act_at_night(self, phase: str, seat: int, choice: int, chance: Mapping[str, int]) -> None:
        target = choice if choice < self.num_seats else NOBODY
        if phase == "wolf":
            self._picks[seat] = target
            fellows = set(self._living("wolf")) - {seat}
            self._tell("wolf_pass" if target == NOBODY else "wolf_pick", fellows, actor=seat, target=target)
            if len(self._picks) == len(self._living("wolf")) and "witch" in self.roles:
                self._target = self._wolves_target(chance)
        elif phase in ("doctor", "guard"):
            self._protected = target
            if target != NOBODY:
                self._tell("protect", set(), actor=seat, target=target)
        elif phase == "witch":
            self._use_potion(seat, choice)
        else:
            self._check = (seat, target)
            self._checked_before.add(target)
            self._tell("check", set(), actor=seat, target=target)
        if self._to_come and self._to_come[0][0] == "witch" and "save" in self._potions:
            self._tell("no_victim" if self._target == NOBODY else "victim", {self._to_come[0][1]},
                       actor=self._to_come[0][1], target=self._target)  # fmt: skip

    def _use_potion(self, witch: int, choice: int) -> None:
        if choice < self.num_seats:
            self._poisoned = choice
            self._potions.remove("poison")
            self._tell("poison", set(), actor=witch, target=choice)
        elif choice != self._pass:
            self._saved = True
            self._potions.remove("save")
            self._tell("save", set(), actor=witch, target=self._target)

    def _close_night(self, chance: Mapping[str, int]) -> None:
        if self._check is not None:
            seer, target = self._check
            is_wolf = int(self.roles[target] == "wolf")
            self._tell("check_result", {seer}, actor=seer, target=target, value=is_wolf)
        self._tell("day", value=self.day)
        if "witch" not in self.roles:
            self._target = self._wolves_target(chance)
        protected = self._target == self._protected
        dead = {self._poisoned}
        if protected == self._saved:  # neither of them, or both
            dead.add(self._target)
        dead.discard(NOBODY)
        self._guarded_before = self._protected
        for seat in sorted(dead):
            self._remove(seat, "death")
        if not dead:
            self._tell("no_death")
        self._check_end()
        if self.over:
            return
        hunters = [seat for seat in dead if self.roles[seat] == "hunter" and seat != self._poisoned]
        if hunters:
            self._to_come = [("hunter", hunters[0])]
            self._after_shot = self._open_day
        else:
            self._open_day(chance)

    def _wolves_target(self, chance: Mapping[str, int]) -> int:
        picked = [pick for pick in self._picks.values() if pick != NOBODY]
        if not picked:
            return NOBODY
        tied = plurality(picked)
        if len(tied) == 1:
            return tied[0]
        if self.parameters["wolf_tie"] == "random":
            return self._drawn("wolf_target", tied, chance)
        if self.parameters["wolf_tie"] == "last":
            return [pick for pick in picked if pick in tied][-1]
        return NOBODY

    # The hunter.

    def _shoot(self, hunter: int, choice: int, chance: Mapping[str, int]) -> None:
        if choice < self.num_seats:
            self._tell("shot", set(range(self.num_seats)) - {hunter}, actor=hunter, target=choice)
            self._remove(choice, "death")
            self._check_end()
        if not self.over:
            self._after_shot(chance)

    # The day.

    def _open_day(self, chance: Mapping[str, int]) -> None:
        self._tied: list[int] = []  # whom a second vote is about
        self._votes: dict[int, int] = {}
        self._let_speak(self._living(), self.parameters["speech_rounds"], chance)
        self._to_come += [("vote", seat) for seat in self._living()]

    def _let_speak(self, seats: list[int], rounds: int, chance: Mapping[str, int]) -> None:
        if self.parameters["speech_acts"] or self.parameters["speech_tokens"] > 0:
            first = seats.index(self._drawn("first_speaker", seats, chance))
            order = seats[first:] + seats[:first]
            self._to_come += [("speak", seat) for seat in order * rounds]

    def _speak(self, seat: int, action: int) -> None:
        hearers = set(range(self.num_seats)) - {seat}
        if self.parameters["speech_tokens"] > 0:
            self._tell("utterance", hearers, actor=seat, value=self.step_index)
        if not self.parameters["speech_acts"]:
            return
        kind, target, value = speech_acts(self.num_seats, len(self.all_roles))[action - self.num_seats]
        self._tell(kind, hearers, actor=seat, target=target, value=value)

    def _close_vote(self, chance: Mapping[str, int]) -> None:
        everybody = set(range(self.num_seats))
        for voter in sorted(self._votes):
            target = self._votes[voter]
            self._tell("abstain" if target == NOBODY else "vote", everybody - {voter}, actor=voter, target=target)
        cast = [target for target in self._votes.values() if target != NOBODY]
        tied = plurality(cast) if cast else []
        if len(tied) > 1 and self.parameters["vote_tie"] == "runoff" and not self._tied:
            self._open_second_vote(tied, chance)
            return
        if len(tied) > 1 and self.parameters["vote_tie"] == "random":
            tied = [self._drawn("expelled", tied, chance)]
        if len(tied) == 1:
            self._remove(tied[0], "expelled")
        else:
            self._tell("no_expulsion")
        self._check_end()
        if self.over:
            return
        if len(tied) == 1 and self.roles[tied[0]] == "hunter":
            self._to_come = [("hunter", tied[0])]
            self._after_shot = self._end_day
        else:
            self._end_day(chance)

    def _open_second_vote(self, tied: list[int], chance: Mapping[str, int]) -> None:
        self._tell("tie")
        self._tied = tied
        self._votes = {}
        self._let_speak(tied, 1, chance)
        voters = [seat for seat in self._living() if seat not in tied] or self._living()
        self._to_come += [("vote", seat) for seat in voters]

    def _end_day(self, chance: Mapping[str, int]) -> None:
        del chance
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
            self._tell(event, target=seat, value=self.all_roles.index(self.roles[seat]))
        else:
            self._tell(event + "_hidden", target=seat)

    def _check_end(self) -> None:
        wolves = len(self._living("wolf"))
        villagers = len(self._living("villager"))
        gifted = len(self._living()) - wolves - villagers
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
