"""What is static about Werewolf: its parameters and what follows from them, its words, and the bounds of a game."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from games.core import NO_ONE, EventKind, GameError, GameSpec, Phase, Role, check_choices, check_ranges

WOLF, SEER, DOCTOR, VILLAGER, WITCH, HUNTER, GUARD = range(7)
_VILLAGE = ("seer", "doctor", "villager", "witch", "hunter", "guard")
ROLES = (Role("wolf", "wolves"), *(Role(name, "village") for name in _VILLAGE))
CLASSIC_ROLES = ROLES[:4]  # a game that deals no other role knows of no other

# The last three are phases only of games that deal one of their roles; behind the phases of a game comes `over`.
WOLF_PHASE, DOCTOR_PHASE, SEER_PHASE, SPEAK, VOTE, WITCH_PHASE, GUARD_PHASE, HUNTER_PHASE = range(8)
NIGHT_ROLES = {"wolf": WOLF, "doctor": DOCTOR, "seer": SEER, "guard": GUARD, "witch": WITCH}
PHASE_OF_ROLE = {WOLF: WOLF_PHASE, DOCTOR: DOCTOR_PHASE, SEER: SEER_PHASE, GUARD: GUARD_PHASE, WITCH: WITCH_PHASE}

# What a rule set says where a parameter is not given; the order of the night is that of the roles that are dealt.
RULE_SETS: dict[str, dict[str, Any]] = {
    "default": {"night_order": "wolf,doctor,guard,seer,witch", "wolf_tie": "random", "vote_tie": "nobody",
                "win_rule": "parity", "reveal_roles": True},
    "makto": {"night_order": "wolf,seer,doctor,guard,witch", "wolf_tie": "last", "vote_tie": "runoff",
              "win_rule": "sides", "reveal_roles": False},
}  # fmt: skip
WOLF_TIES = ("random", "last", "none")
VOTE_TIES = ("nobody", "random", "runoff")
WIN_RULES = ("parity", "extinction", "sides")
AS_RULES: Any = None  # the value of a parameter until the rule set has given it one

CLASSIC_EVENTS = (
    EventKind("seat", "\nYou are{seat:actor}"),
    EventKind("fellow", "\nYour fellow wolf is{seat:target}"),
    EventKind("night", "{night:value}"),
    EventKind("wolf_pick", "{line:actor} wants to kill{seat:target}"),
    EventKind("protect", "{line:actor} protects{seat:target}"),
    EventKind("check", "{line:actor} checks{seat:target}"),
    EventKind("check_result", "{line:target} is{verdict:value}"),
    EventKind("day", "{day:value}"),
    EventKind("death", "{line:target} was killed and was a{role:value}"),
    EventKind("death_hidden", "{line:target} was killed"),
    EventKind("no_death", "\nNobody was killed"),
    EventKind("utterance", "{line:actor} says:{utterance}"),
    EventKind("accuse", "{speaker:actor} accuse{seat:target}"),
    EventKind("defend", "{speaker:actor} defend{seat:target}"),
    EventKind("claim", "{speaker:actor} claim{role:value}"),
    EventKind("report", "{speaker:actor} report{report:value}{seat:target}"),
    EventKind("pass", "{speaker:actor} pass"),
    EventKind("vote", "{voter:actor}{seat:target}"),
    EventKind("expelled", "{line:target} was expelled and was a{role:value}"),
    EventKind("expelled_hidden", "{line:target} was expelled"),
    EventKind("no_expulsion", "\nNobody was expelled"),
    EventKind("win", "{winner:value}"),
    EventKind("truncated", "\nThe game was stopped"),
)
EVENT_KINDS = (
    *CLASSIC_EVENTS,
    EventKind("wolf_pass", "{line:actor} wants to kill nobody"),
    EventKind("victim", "\nThe wolves chose{seat:target}"),
    EventKind("no_victim", "\nThe wolves chose nobody"),
    EventKind("save", "{line:actor} saves{seat:target}"),
    EventKind("poison", "{line:actor} poisons{seat:target}"),
    EventKind("shot", "{line:actor} shoots{seat:target}"),
    EventKind("abstain", "{voter:actor} nobody"),
    EventKind("tie", "\nThe vote is tied"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}

_AIMS = {
    WOLF: "Do not be found out, and kill the village.",
    SEER: "Find the wolves and make the village believe you.",
    DOCTOR: "Keep the village's most useful players alive.",
    VILLAGER: "Find out who lies, and vote the wolves out.",
    WITCH: "Save whom the village needs, and poison a wolf.",
    HUNTER: "Find out who lies; if you have to go, shoot a wolf.",
    GUARD: "Keep the village's most useful players alive.",
}


def action_labels(num_seats: int, roles: Sequence[Role]) -> tuple[str, ...]:
    """The A labels: picks, accusations, defences, claims, reports (wolf, good), pass; with a witch's role, save."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    labels = list(players)
    labels += [f" accuse{player}" for player in players]
    labels += [f" defend{player}" for player in players]
    labels += [f" claim {role.name}" for role in roles]
    labels += [f" report wolf{player}" for player in players]
    labels += [f" report good{player}" for player in players]
    return (*labels, " pass", *([" save"] if len(roles) > WITCH else []))


def scripted_speech(num_seats: int, roles: Sequence[Role]) -> tuple[str, ...]:
    """What a scripted player says aloud with each action, in agreement with it; empty where nothing is said."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    speech = [""] * num_seats
    speech += [f" I accuse{player}" for player in players]
    speech += [f" I defend{player}" for player in players]
    speech += [f" I am a {role.name}" for role in roles]
    speech += [f" I report{player} is a wolf" for player in players]
    speech += [f" I report{player} is not a wolf" for player in players]
    return (*speech, " I pass", *([""] if len(roles) > WITCH else []))


def layout(num_actions: int) -> tuple[int, int]:
    """Number of seats and number of roles of a game with this many actions."""
    roles = len(CLASSIC_ROLES) if num_actions % 5 == 0 else len(ROLES)
    return (num_actions - roles - 1) // 5, roles


def act_tables(num_seats: int, roles: Sequence[Role]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int16[A] each: kind, target and value of the event that each action becomes in a speech."""
    n, none = num_seats, NO_ONE
    blocks = [("wolf_pick", seat, none) for seat in range(n)]  # never spoken; at night the pick's target
    blocks += [(kind, seat, none) for kind in ("accuse", "defend") for seat in range(n)]
    blocks += [("claim", none, role) for role in range(len(roles))]
    blocks += [("report", seat, verdict) for verdict in (1, 0) for seat in range(n)]
    blocks += [("pass", none, none)] * (2 if len(roles) > WITCH else 1)
    kinds, targets, values = np.array([(KIND[kind], *rest) for kind, *rest in blocks], np.int16).T
    return kinds, targets, values


def words(num_seats: int, roles: Sequence[Role]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Word tables of the templates."""
    names = [f"Player {seat + 1}" for seat in range(num_seats)]
    numbers = range(22)  # indexed by the number itself; 0 is never told
    return (
        ("seat", tuple(f" {name}" for name in names)),
        ("line", tuple(f"\n{name}" for name in names)),
        ("speaker", tuple(f"\n{name}:" for name in names)),
        ("voter", tuple(f"\n{name} votes" for name in names)),
        ("role", tuple(f" {role.name}" for role in roles)),
        ("verdict", (" not a wolf", " a wolf")),
        ("report", (" good", " wolf")),
        ("winner", ("\nThe wolves win", "\nThe village wins")),
        ("night", tuple(f"\nNight {number}" for number in numbers)),
        ("day", tuple(f"\nDay {number}" for number in numbers)),
    )


def introduction(rules: WerewolfRules) -> str:
    """The rules in full, for those who can read them."""
    dealt = rules.dealt
    names = {role: ROLES[role].name for role in dealt}
    gifted = [names[role] for role in dealt if role not in (WOLF, VILLAGER)]
    several = {WOLF: "wolves", VILLAGER: "villagers"}
    counts = [f"{count} {several[role] if count > 1 else names[role]}" for role, count in dealt.items()]
    wins = {
        "parity": "as soon as they are as many as the others",
        "extinction": "when nobody else is left",
        "sides": "when no plain villager is left or when "
        + (f"both {listed(gifted)} are dead" if len(gifted) == 2 else f"{listed(gifted)} are all dead"),
    }[rules.win_rule]
    night = ["the wolves choose a player to kill"]
    night += ["the doctor protects a player"] * (DOCTOR in dealt)
    night += ["the guard protects a player, not the same one two nights running,"] * (GUARD in dealt)
    night += ["the seer learns whether a player is a wolf"]
    told = [f"Each night {listed(night)}."]
    if WITCH in dealt:
        told += ["The witch learns whom the wolves chose until she has saved one; once in the game she may save that "
                 "player, and once, on another night, poison a player."]  # fmt: skip
    if WITCH in dealt and GUARD in dealt:
        told += ["A player both protected and saved dies."]
    if HUNTER in dealt:
        told += ["The hunter may shoot a player when he is killed by the wolves or expelled."]
    told += ["Each day everybody alive speaks, then votes, and the player with the most votes is expelled."]
    if rules.runs_off:
        told += ["If a vote is tied, the tied players speak again and the others vote among them."]
    if rules.free:
        told += ["The wolves may choose nobody or one of themselves, and anybody may vote for nobody."]
    return (
        f"You play Werewolf with {rules.num_seats} players: {listed(counts)}. Roles are secret. {' '.join(told)} "
        f"Anyone may lie. The village wins when no wolf is left; the wolves win {wins}. "
    )


def role_texts(roles: Sequence[Role]) -> tuple[tuple[str, str], ...]:
    """What a seat of each role is told, in full and in brief."""
    return tuple(
        (f"You are a {role.name}. {_AIMS[index]}", f"You are a {role.name}") for index, role in enumerate(roles)
    )


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


@dataclasses.dataclass(frozen=True)
class WerewolfRules:
    """The parameters of `werewolf-v0`, which docs/games/werewolf.md explains, and all that is static about the game.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    num_seats: int = 7
    night_order: str = AS_RULES
    wolf_tie: str = AS_RULES
    vote_tie: str = AS_RULES
    win_rule: str = AS_RULES
    max_days: int = 8
    reveal_roles: bool = AS_RULES
    speech_rounds: int = 1
    speech_acts: bool = True
    speech_tokens: int = 0
    thought_tokens: int = 0
    rules: str = "default"
    witch: bool = AS_RULES
    hunter: bool = AS_RULES
    guard: bool = AS_RULES

    def __post_init__(self) -> None:
        check_ranges(
            "werewolf-v0",
            self,
            num_seats=(5, 12),
            max_days=(1, 20),
            speech_rounds=(1, 3),
            speech_tokens=(0, 4096),
            thought_tokens=(0, 4096),
        )
        check_choices("werewolf-v0", self, rules=tuple(RULE_SETS))
        nine = self.free and self.num_seats >= 9
        self._fill({"witch": nine or (self.free and not self.guard), "hunter": nine and not self.guard, "guard": False})
        if self.dealt[VILLAGER] < 1:
            others = [ROLES[role].name for role in self.dealt if role not in (WOLF, VILLAGER)]
            raise GameError(f"werewolf-v0: num_seats has room for a villager beside {self.num_wolves} wolves, "
                            f"{listed(others)}, for example 9, not {self.num_seats}")  # fmt: skip
        self._fill(RULE_SETS[self.rules] | {"night_order": self._usual_order()})
        check_choices("werewolf-v0", self, wolf_tie=WOLF_TIES, vote_tie=VOTE_TIES, win_rule=WIN_RULES)
        usual, order = self._usual_order().split(","), self.night_order.split(",")
        if sorted(order) != sorted(usual) or (self.witch and order.index("witch") < order.index("wolf")):
            behind = ", the witch behind the wolf" if self.witch else ""
            raise GameError(f"werewolf-v0: night_order names {listed(usual)} once each{behind}, for example "
                            f"{','.join(usual)}, not {self.night_order!r}")  # fmt: skip

    def _fill(self, values: dict[str, Any]) -> None:
        """Gives parameters that were not given these values."""
        for name, value in values.items():
            if getattr(self, name) is AS_RULES:
                object.__setattr__(self, name, value)

    def _usual_order(self) -> str:
        """The rule set's order of the night's roles, of those that are dealt."""
        names = RULE_SETS[self.rules]["night_order"].split(",")
        return ",".join(name for name in names if NIGHT_ROLES[name] in self.dealt)

    # ------------------------------------------------------------------ static facts

    @property
    def free(self) -> bool:
        """Whether wolves may pick anybody or nobody, and guard and voters may choose nobody."""
        return self.rules == "makto"

    @property
    def grown(self) -> bool:
        """Whether a role is dealt that is not in every game."""
        return self.witch or self.hunter or self.guard

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that this game knows of."""
        return ROLES if self.grown else CLASSIC_ROLES

    @property
    def num_wolves(self) -> int:
        """How many wolves are dealt."""
        return self.num_seats // 3 if self.grown else (self.num_seats + 1) // 4

    @property
    def dealt(self) -> dict[int, int]:
        """How many seats have each role; roles that nobody has are left out, but for the villager, who comes last."""
        doctor = not (self.witch or self.guard)
        gifted = {SEER: True, DOCTOR: doctor, WITCH: self.witch, HUNTER: self.hunter, GUARD: self.guard}
        single = {role: 1 for role, present in gifted.items() if present}
        return {WOLF: self.num_wolves, **single, VILLAGER: self.num_seats - self.num_wolves - len(single)}

    @property
    def speaks(self) -> bool:
        """Whether days have speeches at all."""
        return self.speech_acts or self.speech_tokens > 0

    @property
    def runs_off(self) -> bool:
        """Whether a tied vote is followed by a second one."""
        return self.vote_tie == "runoff"

    def at_night(self, phase: Any) -> Any:
        """Whether a phase is a turn of the night."""
        night = phase <= SEER_PHASE
        return night | (phase == WITCH_PHASE) | (phase == GUARD_PHASE) if self.grown else night

    def saves(self, action: Any) -> Any:
        """Whether an action is to save, the last one of a game with a witch."""
        return action == 5 * self.num_seats + len(self.roles) + 1

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        n, roles = self.num_seats, self.roles
        return GameSpec(
            name="werewolf-v0",
            num_seats=n,
            roles=roles,
            sides=("village", "wolves"),
            phases=self.phases,
            action_labels=action_labels(n, roles),
            event_kinds=EVENT_KINDS if self.grown or self.free or self.runs_off else CLASSIC_EVENTS,
            words=words(n, roles),
            introduction=(introduction(self), ""),
            role_texts=role_texts(roles),
            max_decisions=self._max_decisions(),
            max_events=self._max_events(),
            max_new_events=self._max_new_events(),
            scripted_speech=scripted_speech(n, roles),
            visible_events=self._visible_events(),
            turns=self._turns(),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The kinds of decision."""
        thought = self.thought_tokens
        classic = (
            Phase("wolf", "\nChoose a player to kill", thought),
            Phase("doctor", "\nChoose a player to protect", thought),
            Phase("seer", "\nChoose a player to check", thought),
            Phase("speak", "\nSpeak", thought, self.speech_tokens, self.speech_acts),
            Phase("vote", "\nVote", thought),
        )
        grown = (
            Phase("witch", "\nSave, pass or choose a player to poison", thought),
            Phase("guard", "\nChoose a player to protect", thought),
            Phase("hunter", "\nPass or choose a player to shoot", thought),
        )
        return (*classic, *(grown if self.grown else ()), Phase("over"))

    # ------------------------------------------------------------------ how long a game can be

    def _crowds(self) -> tuple[int, ...]:
        """How many seats can live at most on each day that there can be."""
        protected = not self.witch or self.guard
        if protected or self.free or (self.wolf_tie == "none" and self.num_wolves > 1):
            return (self.num_seats,) * self.max_days  # there need be no death in any night
        crowds = []
        for day in range(1, self.max_days + 1):
            others = self.num_seats - self.num_wolves - day + 1  # each night takes one, but for the one that is saved
            wolves = min(self.num_wolves, others - 1) if self.win_rule == "parity" else self.num_wolves
            if others < (1 if self.win_rule == "extinction" else 2):
                break
            crowds.append(others + wolves)
        return tuple(crowds)

    def _nights(self) -> int:
        """How many nights there can be: one after the last day may end the game."""
        days = len(self._crowds())
        return days + (days < self.max_days)

    @property
    def _turns_a_night(self) -> int:
        """Turns of a night in which all live: everybody's but the hunter's and the villagers'."""
        return self.num_wolves + len(self.dealt) - 2 - self.hunter

    @property
    def _speeches(self) -> int:
        """Speeches of a seat on a day without a second vote."""
        return self.speech_rounds * self.speaks

    @property
    def _speech_rows(self) -> int:
        """Rows of the log that a speech takes."""
        return bool(self.speech_tokens) + self.speech_acts

    def _max_decisions(self) -> int:
        day = self._speeches + 1 + self.runs_off * (self.speaks + 1)
        return self._nights() * self._turns_a_night + sum(self._crowds()) * day + self.hunter

    def _max_events(self) -> int:
        """A night takes a row for each turn (the witch's is what she is told), the check's result, day and death."""
        seats, days, nights = sum(self._crowds()), len(self._crowds()), self._nights()
        day = self._speeches * self._speech_rows + 1 + self.runs_off * (self._speech_rows + 1)
        rare = 2 * self.hunter + self.witch  # a shot and its death, a save
        if nights > days:
            rare += 1 + 2 * self.witch  # the end at night; a wolf poisoned instead of expelled
        return self._dealt_rows + nights * (self._turns_a_night + 3) + seats * day + days * (2 + self.runs_off) + rare

    @property
    def _dealt_rows(self) -> int:
        return self.num_seats + self.num_wolves * (self.num_wolves - 1) + 1

    def _max_new_events(self) -> int:
        """From a seat's last turn of a day to its first one of the next."""
        n = self.num_seats
        vote = n
        if self.runs_off:  # whoever is tied has no turn in the second vote unless all are
            vote = max(n, (n - 2) * self._speech_rows + 1) if self.speaks else n + 1 + n - 2
        rare = 2 * self.witch + 2 * self.hunter  # a potion and a second death; a shot and its death
        night = self._turns_a_night + 3 + rare
        return max(self._dealt_rows, vote + 2) + night + n * self._speeches * self._speech_rows

    def _visible_events(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """The most rows one seat can be shown, by kinds that exclude each other."""
        days, nights = len(self._crowds()), self._nights()
        others = sum(crowd - 1 for crowd in self._crowds())
        speeches = others * (self.speech_rounds + self.runs_off)
        died, expelled = ("death", "expelled") if self.reveal_roles else ("death_hidden", "expelled_hidden")
        free = self.free  # kinds of events that only games of these rules have
        groups = [
            (("seat",), 1),
            (("fellow",), self.num_wolves - 1),
            (("wolf_pick", "wolf_pass") if free else ("wolf_pick",), nights * (self.num_wolves - 1)),
            (("check_result",), days),
            (("night",), nights),
            (("day",), days),
            ((died, "no_death"), days + self.witch + self.hunter),
            (("utterance",), speeches * (self.speech_tokens > 0)),
            (("accuse", "defend", "claim", "report", "pass"), speeches * self.speech_acts),
            (("vote", "abstain") if free else ("vote",), others * (1 + self.runs_off)),
            ((expelled, "no_expulsion"), days),
        ]
        groups += [(("tie",), days)] * self.runs_off
        groups += [(("victim", "no_victim"), nights)] * self.witch
        groups += [(("shot",), 1)] * self.hunter
        return tuple(groups)

    def _turns(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """The most replies of one seat, by phases that exclude each other."""
        days = len(self._crowds())
        turns: list[tuple[tuple[str, ...], int]] = [
            (("speak",), days * (self.speech_rounds + self.runs_off) * self.speaks),
            (("vote",), days * (1 + self.runs_off)),
            (("wolf", "doctor", "seer", *(("witch", "guard") if self.grown else ())), self._nights()),
        ]
        return (*turns, *([(("hunter",), int(self.hunter))] if self.grown else ()))
