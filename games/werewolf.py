"""Werewolf: a village with hidden wolves. The rules are written out in docs/games/werewolf.md."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.core import EventKind, EventLog, GameError, GameSpec, Phase, Role, State, audience_of, event

WOLF, SEER, DOCTOR, VILLAGER = range(4)
ROLES = (Role("wolf", "wolves"), Role("seer", "village"), Role("doctor", "village"), Role("villager", "village"))
NIGHT_ROLES = {"wolf": WOLF, "doctor": DOCTOR, "seer": SEER}
NUM_WOLVES = {5: 1, 6: 1, 7: 2, 8: 2, 9: 2}

WOLF_PHASE, DOCTOR_PHASE, SEER_PHASE, SPEAK, VOTE, OVER = range(6)
PHASE_OF_ROLE = np.array([WOLF_PHASE, SEER_PHASE, DOCTOR_PHASE, OVER], np.int8)

WOLF_TIES = ("random", "last", "none")
VOTE_TIES = ("nobody", "random")
WIN_RULES = ("parity", "extinction", "sides")

EVENT_KINDS = (
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
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WerewolfState(State):
    """The common fields and what the rules need to remember.

    Attributes:
      alive: bool[N].
      day: int8[], number of the night or day in progress.
      slot: int16[], place of the current turn in the order of its night, speaking round or vote.
      first_speaker: int8[], seat that opens today's speeches.
      picks: int8[N], tonight's pick of each wolf, -1 for none yet.
      protected: int8[], seat the doctor protects tonight, -1 for none.
      check: int8[], seat the seer checks tonight, -1 for none.
      checked: bool[N], seats the seer has checked in this game.
      votes: int8[N], today's vote of each seat, -1 for none yet.
    """

    alive: jax.Array
    day: jax.Array
    slot: jax.Array
    first_speaker: jax.Array
    picks: jax.Array
    protected: jax.Array
    check: jax.Array
    checked: jax.Array
    votes: jax.Array


@dataclasses.dataclass(frozen=True)
class Werewolf:
    """`werewolf-v0`. Parameters and their allowed values: docs/games/werewolf.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    num_seats: int = 7
    night_order: str = "wolf,doctor,seer"
    wolf_tie: str = "random"
    vote_tie: str = "nobody"
    win_rule: str = "parity"
    max_days: int = 8
    reveal_roles: bool = True
    speech_rounds: int = 1
    speech_acts: bool = True
    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        _check_range("num_seats", self.num_seats, 5, 9)
        _check_range("max_days", self.max_days, 1, 20)
        _check_range("speech_rounds", self.speech_rounds, 1, 3)
        _check_range("speech_tokens", self.speech_tokens, 0, 4096)
        _check_range("thought_tokens", self.thought_tokens, 0, 4096)
        _check_choice("wolf_tie", self.wolf_tie, WOLF_TIES)
        _check_choice("vote_tie", self.vote_tie, VOTE_TIES)
        _check_choice("win_rule", self.win_rule, WIN_RULES)
        if sorted(self.night_order.split(",")) != sorted(NIGHT_ROLES):
            raise GameError(
                "werewolf-v0: night_order names wolf, doctor and seer once each, for example "
                f"wolf,doctor,seer, not {self.night_order!r}"
            )

    # ------------------------------------------------------------------ static facts

    @property
    def num_wolves(self) -> int:
        """How many wolves are dealt."""
        return NUM_WOLVES[self.num_seats]

    @property
    def speaks(self) -> bool:
        """Whether days have speeches at all."""
        return self.speech_acts or self.speech_tokens > 0

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        n, wolves = self.num_seats, self.num_wolves
        speech_rows = (self.speech_rounds * n if self.speaks else 0) * (bool(self.speech_tokens) + self.speech_acts)
        speeches = self.speech_rounds * n if self.speaks else 0
        dealt = n + wolves * (wolves - 1) + 1
        night = wolves + 2
        return GameSpec(
            name="werewolf-v0",
            num_seats=n,
            roles=ROLES,
            sides=("village", "wolves"),
            phases=self._phases(),
            action_labels=action_labels(n),
            event_kinds=EVENT_KINDS,
            words=words(n),
            introduction=(self._introduction(), ""),
            role_texts=self._role_texts(),
            max_decisions=self.max_days * (night + speeches + n),
            max_events=dealt + self.max_days * (night + 3 + speech_rows + n + 2),
            max_new_events=max(dealt, n + 2) + night + 3 + speech_rows,
            scripted_speech=scripted_speech(n),
            visible_events=self._visible_events(),
            turns=(
                (("speak",), self.max_days * self.speech_rounds * self.speaks),
                (("vote",), self.max_days),
                (("wolf", "doctor", "seer"), self.max_days),
            ),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    def _phases(self) -> tuple[Phase, ...]:
        thought = self.thought_tokens
        return (
            Phase("wolf", "\nChoose a player to kill", thought),
            Phase("doctor", "\nChoose a player to protect", thought),
            Phase("seer", "\nChoose a player to check", thought),
            Phase("speak", "\nSpeak", thought, self.speech_tokens, self.speech_acts),
            Phase("vote", "\nVote", thought),
            Phase("over"),
        )

    def _visible_events(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """The most rows one seat can be shown if nobody ever dies, by kinds that exclude each other."""
        others, days = self.num_seats - 1, self.max_days
        speeches = others * days * self.speech_rounds
        died, expelled = ("death", "expelled") if self.reveal_roles else ("death_hidden", "expelled_hidden")
        return (
            (("seat",), 1),
            (("fellow",), self.num_wolves - 1),
            (("wolf_pick",), days * (self.num_wolves - 1)),
            (("check_result",), days),
            (("night",), days),
            (("day",), days),
            ((died, "no_death"), days),
            (("utterance",), speeches * (self.speech_tokens > 0)),
            (("accuse", "defend", "claim", "report", "pass"), speeches * self.speech_acts),
            (("vote",), others * days),
            ((expelled, "no_expulsion"), days),
        )

    def _introduction(self) -> str:
        wolves, villagers = self.num_wolves, self.num_seats - self.num_wolves - 2
        many = "wolves" if wolves > 1 else "wolf"
        wins = {
            "parity": "as soon as they are as many as the others",
            "extinction": "when nobody else is left",
            "sides": "when no plain villager is left or when both seer and doctor are dead",
        }[self.win_rule]
        return (
            f"You play Werewolf with {self.num_seats} players: {wolves} {many}, 1 seer, 1 doctor and {villagers} "
            "villagers. Roles are secret. Each night the wolves choose a player to kill, the doctor protects a player "
            "and the seer learns whether a player is a wolf. Each day everybody alive speaks, then votes, and the "
            "player with the most votes is expelled. Anyone may lie. The village wins when no wolf is left; the "
            f"wolves win {wins}. "
        )

    def _role_texts(self) -> tuple[tuple[str, str], ...]:
        aims = {
            "wolf": "Do not be found out, and kill the village.",
            "seer": "Find the wolves and make the village believe you.",
            "doctor": "Keep the village's most useful players alive.",
            "villager": "Find out who lies, and vote the wolves out.",
        }
        return tuple((f"You are a {role.name}. {aims[role.name]}", f"You are a {role.name}") for role in ROLES)

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> WerewolfState:
        """Deals roles and opens the first night."""
        n, wolves = self.num_seats, self.num_wolves
        deck = np.array([WOLF] * wolves + [SEER, DOCTOR] + [VILLAGER] * (n - wolves - 2), np.int8)
        roles = jax.random.permutation(key, jnp.asarray(deck))
        seats = np.arange(n)
        rows = [event(KIND["seat"], seat) for seat in seats]
        audience = [np.uint16(1 << seat) for seat in seats]
        present = [jnp.bool_(True)] * n
        if wolves > 1:
            for actor, target in ((a, t) for a in seats for t in seats if a != t):
                rows.append(event(KIND["fellow"], actor, target))
                audience.append(np.uint16(1 << actor))
                present.append((roles[actor] == WOLF) & (roles[target] == WOLF))
        rows.append(event(KIND["night"], value=1))
        audience.append(np.uint16((1 << n) - 1))
        present.append(jnp.bool_(True))
        log = EventLog.empty(self.spec.max_events).append(
            jnp.stack(rows), jnp.asarray(np.array(audience)), jnp.stack(present)
        )
        nobody = jnp.full((n,), core.NO_ONE, jnp.int8)
        alive = jnp.ones((n,), bool)
        slot, _ = _next_slot(self._night_turns(roles, alive), jnp.int16(-1))
        return WerewolfState(
            phase=self._night_phase(slot),
            actor=(slot % n).astype(jnp.int8),
            step=jnp.int16(0),
            roles=roles,
            outcome=jnp.zeros((n,), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=log,
            alive=alive,
            day=jnp.int8(1),
            slot=slot,
            first_speaker=jnp.int8(core.NO_ONE),
            picks=nobody,
            protected=jnp.int8(core.NO_ONE),
            check=jnp.int8(core.NO_ONE),
            checked=jnp.zeros((n,), bool),
            votes=nobody,
        )

    def legal_action_mask(self, state: WerewolfState) -> jax.Array:
        """bool[A] of the acting seat; all True once over."""
        n = self.num_seats
        others = state.alive & (jnp.arange(n) != state.actor)
        unchecked = others & ~state.checked
        pick = jnp.stack(
            [
                state.alive & (state.roles != WOLF),
                state.alive,
                jnp.where(jnp.any(unchecked), unchecked, others),
                jnp.zeros((n,), bool),
                others,
                jnp.ones((n,), bool),
            ]
        )[state.phase]
        speaking = state.phase == SPEAK
        acts = speaking & self.speech_acts
        mask = jnp.concatenate(
            [
                pick,
                jnp.tile(others & acts, 2),
                jnp.full((len(ROLES),), acts),
                jnp.tile(others & acts, 2),
                speaking[None],
            ]
        )
        return mask | state.over

    def acting_mask(self, state: WerewolfState) -> jax.Array:
        """bool[N]: the actor; in a vote everybody who has not voted yet."""
        actor = jnp.arange(self.num_seats) == state.actor
        voters = state.alive & (state.votes < 0)
        return jnp.where(state.phase == VOTE, voters, actor) & ~state.over

    def step(self, state: WerewolfState, action: jax.Array, key: jax.Array) -> WerewolfState:
        """Plays one decision and everything that follows from it until the next one."""
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int8)
        tie_key, speaker_key = jax.random.split(key)
        log = self._log_act(state, action)
        acted = self._remember(state, action)

        night_slot, night_goes_on = _next_slot(self._night_turns(state.roles, state.alive), state.slot)
        speak_slot, speak_goes_on = _next_slot(self._speak_turns(state.alive, state.first_speaker), state.slot)
        vote_slot, vote_goes_on = _next_slot(state.alive, state.slot)
        at_night = state.phase <= SEER_PHASE
        dawn = at_night & ~night_goes_on
        dusk = (state.phase == VOTE) & ~vote_goes_on

        victim = self._victim(acted, tie_key)
        expelled = self._expelled(acted, tie_key)
        gone = jnp.where(dawn, victim, jnp.where(dusk, expelled, core.NO_ONE))
        alive = state.alive & (jnp.arange(self.num_seats) != gone)
        village_won = ~jnp.any(alive & (state.roles == WOLF))
        wolves_won = ~village_won & self._wolves_win(state.roles, alive)
        settled = dawn | dusk
        terminated = settled & (village_won | wolves_won)
        truncated = dusk & ~terminated & (state.day >= self.max_days)
        over = terminated | truncated

        log = self._log_outcome(log, acted, dawn, dusk, gone, terminated, village_won, truncated)
        new_night = dusk & ~over
        new_day = dawn & ~over
        first = jnp.where(new_day, _pick_one(alive, speaker_key), state.first_speaker).astype(jnp.int8)
        opening_night, _ = _next_slot(self._night_turns(state.roles, alive), jnp.int16(-1))
        opening_speech, _ = _next_slot(self._speak_turns(alive, first), jnp.int16(-1))
        opening_vote, _ = _next_slot(alive, jnp.int16(-1))
        to_speech = (new_day & self.speaks) | ((state.phase == SPEAK) & speak_goes_on)
        to_vote = (new_day & (not self.speaks)) | ((state.phase == SPEAK) & ~speak_goes_on)
        to_vote |= (state.phase == VOTE) & vote_goes_on
        slot = jnp.where(
            to_speech,
            jnp.where(new_day, opening_speech, speak_slot),
            jnp.where(
                to_vote,
                jnp.where(state.phase == VOTE, vote_slot, opening_vote),
                jnp.where(new_night, opening_night, night_slot),
            ),
        ).astype(jnp.int16)
        phase = jnp.where(to_speech, SPEAK, jnp.where(to_vote, VOTE, self._night_phase(slot)))
        actor = (slot + jnp.where(to_speech, first, 0)) % self.num_seats

        outcome = jnp.where((state.roles == WOLF) == wolves_won, 1.0, -1.0)
        nobody = jnp.int8(core.NO_ONE)
        after = dataclasses.replace(
            acted,
            phase=jnp.where(over, OVER, phase).astype(jnp.int8),
            actor=jnp.where(over, core.NO_ONE, actor).astype(jnp.int8),
            step=state.step + jnp.int16(1),
            outcome=jnp.where(terminated, outcome, 0.0).astype(jnp.float32),
            terminated=terminated,
            truncated=truncated,
            log=log,
            alive=alive,
            day=state.day + new_night.astype(jnp.int8),
            slot=slot,
            first_speaker=first,
            picks=jnp.where(settled, nobody, acted.picks),
            protected=jnp.where(settled, nobody, acted.protected),
            check=jnp.where(settled, nobody, acted.check),
            votes=jnp.where(settled, nobody, acted.votes),
        )
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    # ------------------------------------------------------------------ turns

    def _night_turns(self, roles: jax.Array, alive: jax.Array) -> jax.Array:
        """bool[3N]: which (role in night order, seat) pairs act."""
        return jnp.concatenate([alive & (roles == NIGHT_ROLES[name]) for name in self.night_order.split(",")])

    def _night_phase(self, slot: jax.Array) -> jax.Array:
        order = np.array([PHASE_OF_ROLE[NIGHT_ROLES[name]] for name in self.night_order.split(",")], np.int8)
        return jnp.asarray(order)[jnp.clip(slot // self.num_seats, 0, 2)]

    def _speak_turns(self, alive: jax.Array, first: jax.Array) -> jax.Array:
        """bool[rounds N]: which turns of the day's speaking order are taken."""
        order = (jnp.arange(self.num_seats) + first) % self.num_seats
        return jnp.tile(alive[order], self.speech_rounds)

    # ------------------------------------------------------------------ what acts do

    def _remember(self, state: WerewolfState, action: jax.Array) -> WerewolfState:
        """Stores a pick or a vote until it is resolved."""
        mine = jnp.arange(self.num_seats) == state.actor
        return dataclasses.replace(
            state,
            picks=jnp.where((state.phase == WOLF_PHASE) & mine, action, state.picks),
            protected=jnp.where(state.phase == DOCTOR_PHASE, action, state.protected),
            check=jnp.where(state.phase == SEER_PHASE, action, state.check),
            checked=state.checked | ((state.phase == SEER_PHASE) & (jnp.arange(self.num_seats) == action)),
            votes=jnp.where((state.phase == VOTE) & mine, action, state.votes),
        )

    def _victim(self, state: WerewolfState, key: jax.Array) -> jax.Array:
        """int8[]: who dies tonight, -1 for nobody."""
        seats = jnp.arange(self.num_seats)
        most = _plurality(state.picks, self.num_seats)
        if self.wolf_tie == "last":
            last_wolf = jnp.max(jnp.where((state.picks >= 0) & most[state.picks], seats, -1))
            target = state.picks[last_wolf]
        else:
            target = _pick_one(most, key)
        if self.wolf_tie == "none":
            target = jnp.where(jnp.sum(most) > 1, core.NO_ONE, target)
        return jnp.where(target == state.protected, core.NO_ONE, target).astype(jnp.int8)

    def _expelled(self, state: WerewolfState, key: jax.Array) -> jax.Array:
        """int8[]: who is voted out, -1 for nobody."""
        most = _plurality(state.votes, self.num_seats)
        target = _pick_one(most, key)
        if self.vote_tie == "nobody":
            target = jnp.where(jnp.sum(most) > 1, core.NO_ONE, target)
        return target.astype(jnp.int8)

    def _wolves_win(self, roles: jax.Array, alive: jax.Array) -> jax.Array:
        living = [jnp.sum(alive & (roles == role)) for role in range(len(ROLES))]
        others = living[SEER] + living[DOCTOR] + living[VILLAGER]
        if self.win_rule == "parity":
            return living[WOLF] >= others
        if self.win_rule == "extinction":
            return others == 0
        return (living[VILLAGER] == 0) | (living[SEER] + living[DOCTOR] == 0)

    # ------------------------------------------------------------------ what is told to whom

    def _log_act(self, state: WerewolfState, action: jax.Array) -> EventLog:
        """Logs the act itself; a vote stays hidden until all are cast."""
        n, phase, actor = self.num_seats, state.phase, state.actor
        kind, target, value = (jnp.asarray(table)[action] for table in _act_tables(n))
        night_kinds = jnp.asarray([KIND["wolf_pick"], KIND["protect"], KIND["check"]], jnp.int16)
        kind = jnp.where(phase <= SEER_PHASE, night_kinds[jnp.clip(phase, WOLF_PHASE, SEER_PHASE)], kind)
        others = jnp.arange(n) != actor
        fellows = others & state.alive & (state.roles == WOLF) & (phase == WOLF_PHASE)
        audience = jnp.where(phase == SPEAK, audience_of(others), audience_of(fellows))
        rows = jnp.stack([event(KIND["utterance"], actor, value=state.step), event(kind, actor, target, value)])
        speaking = phase == SPEAK
        present = jnp.stack(
            [speaking & (self.speech_tokens > 0), (speaking & self.speech_acts) | (phase <= SEER_PHASE)]
        )
        return state.log.append(rows, jnp.stack([audience, audience]), present)

    def _log_outcome(
        self,
        log: EventLog,
        state: WerewolfState,
        dawn: jax.Array,
        dusk: jax.Array,
        gone: jax.Array,
        terminated: jax.Array,
        village_won: jax.Array,
        truncated: jax.Array,
    ) -> EventLog:
        """Logs what a night or a vote led to."""
        n = self.num_seats
        everybody = jnp.uint16((1 << n) - 1)
        seats = jnp.arange(n)
        role = state.roles[gone] if self.reveal_roles else core.NO_ONE
        died, expelled = ("death", "expelled") if self.reveal_roles else ("death_hidden", "expelled_hidden")
        seer = jnp.argmax(state.roles == SEER)
        found = (state.roles[state.check] == WOLF).astype(jnp.int16)
        before = [
            (event(KIND["check_result"], seer, state.check, found), jnp.uint16(1) << seer.astype(jnp.uint16),
             dawn & (state.check >= 0)),
            (event(KIND["day"], value=state.day), everybody, dawn),
            (event(KIND[died], target=gone, value=role), everybody, dawn & (gone >= 0)),
            (event(KIND["no_death"]), everybody, dawn & (gone < 0)),
        ]  # fmt: skip
        votes = [
            (event(KIND["vote"], seat, state.votes[seat]), audience_of(seats != seat), dusk & (state.votes[seat] >= 0))
            for seat in range(n)
        ]
        after = [
            (event(KIND[expelled], target=gone, value=role), everybody, dusk & (gone >= 0)),
            (event(KIND["no_expulsion"]), everybody, dusk & (gone < 0)),
            (event(KIND["win"], value=village_won), everybody, terminated),
            (event(KIND["truncated"]), everybody, truncated),
            (event(KIND["night"], value=state.day + 1), everybody, dusk & ~terminated & ~truncated),
        ]
        rows, audience, present = zip(*(before + votes + after), strict=True)
        return log.append(jnp.stack(rows), jnp.stack(audience), jnp.stack(present))


def action_labels(num_seats: int) -> tuple[str, ...]:
    """The A labels: picks, accusations, defences, claims, reports (wolf, good), pass."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    labels = list(players)
    labels += [f" accuse{player}" for player in players]
    labels += [f" defend{player}" for player in players]
    labels += [f" claim {role.name}" for role in ROLES]
    labels += [f" report wolf{player}" for player in players]
    labels += [f" report good{player}" for player in players]
    return (*labels, " pass")


def scripted_speech(num_seats: int) -> tuple[str, ...]:
    """What a scripted player says aloud with each action, in agreement with it; empty for picks."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    speech = [""] * num_seats
    speech += [f" I accuse{player}" for player in players]
    speech += [f" I defend{player}" for player in players]
    speech += [f" I am a {role.name}" for role in ROLES]
    speech += [f" I report{player} is a wolf" for player in players]
    speech += [f" I report{player} is not a wolf" for player in players]
    return (*speech, " I pass")


def words(num_seats: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Word tables of the templates."""
    names = [f"Player {seat + 1}" for seat in range(num_seats)]
    numbers = range(22)  # indexed by the number itself; 0 is never told
    return (
        ("seat", tuple(f" {name}" for name in names)),
        ("line", tuple(f"\n{name}" for name in names)),
        ("speaker", tuple(f"\n{name}:" for name in names)),
        ("voter", tuple(f"\n{name} votes" for name in names)),
        ("role", tuple(f" {role.name}" for role in ROLES)),
        ("verdict", (" not a wolf", " a wolf")),
        ("report", (" good", " wolf")),
        ("winner", ("\nThe wolves win", "\nThe village wins")),
        ("night", tuple(f"\nNight {number}" for number in numbers)),
        ("day", tuple(f"\nDay {number}" for number in numbers)),
    )


def _act_tables(num_seats: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind, target and value of the event that each action's speech act becomes; picks carry their target."""
    n, none = num_seats, core.NO_ONE
    seats = list(range(n))
    blocks = [
        (["wolf_pick"] * n, seats, [none] * n),
        (["accuse"] * n, seats, [none] * n),
        (["defend"] * n, seats, [none] * n),
        (["claim"] * len(ROLES), [none] * len(ROLES), list(range(len(ROLES)))),
        (["report"] * n, seats, [1] * n),
        (["report"] * n, seats, [0] * n),
        (["pass"], [none], [none]),
    ]
    kinds = np.array([KIND[name] for names, _, _ in blocks for name in names], np.int16)
    targets = np.array([target for _, column, _ in blocks for target in column], np.int16)
    values = np.array([value for _, _, column in blocks for value in column], np.int16)
    return kinds, targets, values


def _next_slot(turns: jax.Array, slot: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first taken turn after `slot`, and whether there is one."""
    later = turns & (jnp.arange(turns.shape[0]) > slot)
    return jnp.argmax(later).astype(jnp.int16), jnp.any(later)


def _plurality(choices: jax.Array, num_seats: int) -> jax.Array:
    """bool[N]: the seats chosen most often (choices of -1 do not count)."""
    counts = jnp.sum(choices[:, None] == jnp.arange(num_seats), axis=0)
    return (counts == jnp.max(counts)) & (counts > 0)


def _pick_one(mask: jax.Array, key: jax.Array) -> jax.Array:
    """int[]: a uniformly random set position of `mask`; 0 if none is set."""
    rank = jnp.floor(jax.random.uniform(key) * jnp.sum(mask))
    return jnp.argmax(jnp.cumsum(mask) > rank)


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise GameError(f"werewolf-v0: {name} is between {low} and {high}, not {value}")


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise GameError(f"werewolf-v0: {name} is one of {', '.join(allowed)}, not {value!r}")
