"""Social deduction with noisy public signals, by OpenSpiel's rules: docs/games/social_deduction.md."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.core import EventKind, EventLog, GameError, GameSpec, Phase, Role, State, audience_of, check_ranges, event

INNOCENT, IMPOSTOR = range(2)
ROLES = (Role("innocent", "innocents"), Role("impostor", "impostors"))
SPEAK, VOTE, OVER = range(3)
MOST_ROUNDS = 20

EVENT_KINDS = (
    EventKind("seat", "\nYou are{seat:actor}"),
    EventKind("fellow", "\nYour fellow impostor is{seat:target}"),
    EventKind("round", "\nRound{number:value}"),
    EventKind("signal", "\nSignal:{seat:target}{look:value}"),
    EventKind("utterance", "{line:actor} says:{utterance}"),
    EventKind("pass", "{speaker:actor} pass"),
    EventKind("claim", "{speaker:actor} claim innocent"),
    EventKind("accuse", "{speaker:actor} accuse{seat:target}"),
    EventKind("defend", "{speaker:actor} defend{seat:target}"),
    EventKind("vote", "{voter:actor}{seat:target}"),
    EventKind("expelled", "{line:target} was expelled"),
    EventKind("no_expulsion", "\nNobody was expelled"),
    EventKind("win", "{winner:value}"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}

Entry = tuple[jax.Array, jax.Array | np.uint16, jax.Array | bool]  # row, audience, whether it happened


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SocialDeductionState(State):
    """The common fields and what the rules need to remember.

    Attributes:
      alive: bool[N], not expelled yet.
      round: int8[], number of the round in progress, from 1.
      votes: int8[N], this round's vote of each seat, -1 for none yet.
    """

    alive: jax.Array
    round: jax.Array
    votes: jax.Array


@dataclasses.dataclass(frozen=True)
class SocialDeduction:
    """`social_deduction-v0`. Parameters and their allowed values: docs/games/social_deduction.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    num_seats: int = 6
    num_impostors: int = 1
    max_rounds: int = 10
    noise_percent: int = 10
    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        check_ranges(
            "social_deduction-v0",
            self,
            num_seats=(3, 10),
            max_rounds=(1, MOST_ROUNDS),
            noise_percent=(0, 100),
            speech_tokens=(0, 4096),
            thought_tokens=(0, 4096),
        )
        most = (self.num_seats - 1) // 2
        if not 1 <= self.num_impostors <= most:
            raise GameError(
                "social_deduction-v0: impostors are at least 1 and fewer than the innocents, so that with num_seats="
                f"{self.num_seats} num_impostors is between 1 and {most}, not {self.num_impostors}"
            )

    # ------------------------------------------------------------------ static facts

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        n, rounds, speech = self.num_seats, self.max_rounds, int(self.speech_tokens > 0)
        dealt = n + self.num_impostors * (self.num_impostors - 1)  # seats, fellows
        heard = (n - 1) * rounds  # messages, and votes, of others that a seat can be shown if nobody is expelled
        return GameSpec(
            name="social_deduction-v0",
            num_seats=n,
            roles=ROLES,
            sides=("innocents", "impostors"),
            phases=(
                Phase("speak", "\nSpeak", self.thought_tokens, self.speech_tokens),
                Phase("vote", "\nVote", self.thought_tokens),
                Phase("over"),
            ),
            action_labels=action_labels(n),
            event_kinds=EVENT_KINDS,
            words=words(n),
            introduction=(self._introduction(), ""),
            role_texts=self._role_texts(),
            max_decisions=2 * n * rounds,
            max_events=dealt + rounds * (2 + n * (speech + 2) + 1) + 1,
            max_new_events=dealt + 2 + (n - 1) * (1 + speech),
            scripted_speech=scripted_speech(n),
            visible_events=(
                (("seat",), 1),
                (("fellow",), self.num_impostors - 1),
                (("round",), rounds),
                (("signal",), rounds),
                (("utterance",), heard * speech),
                (("pass", "claim", "accuse", "defend"), heard),
                (("vote",), heard),
                (("expelled", "no_expulsion"), rounds - 1),
            ),
            turns=((("speak",), rounds), (("vote",), rounds)),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    def _introduction(self) -> str:
        many = "1 impostor" if self.num_impostors == 1 else f"{self.num_impostors} impostors, who know one another,"
        return (
            f"You play with {self.num_seats} players: {many} and {self.num_seats - self.num_impostors} innocents. "
            "Roles are secret. Each round begins with a signal that all see: it names a player and says whether that "
            f"player looks suspicious, as impostors do, or clear. It is wrong in {self.noise_percent} percent of all "
            "cases. Then all players speak in turn, then all vote in turn for another player, and who has the most "
            "votes is expelled; a tie expels nobody. Anyone may lie. The innocents win when no impostor is left; the "
            "impostors win as soon as they are as many as the innocents, or if they are still there after round "
            f"{self.max_rounds}. "
        )

    def _role_texts(self) -> tuple[tuple[str, str], ...]:
        innocent, impostor = "You are innocent", "You are an impostor"
        return (
            (f"{innocent}. Find out who the impostors are, and vote them out.", innocent),
            (f"{impostor}. Do not be found out, and have the innocents expel one another.", impostor),
        )

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> SocialDeductionState:
        """Deals roles and opens the first round with a signal."""
        n = self.num_seats
        role_key, signal_key = jax.random.split(key)
        deck = np.array([IMPOSTOR] * self.num_impostors + [INNOCENT] * (n - self.num_impostors), np.int8)
        roles = jax.random.permutation(role_key, jnp.asarray(deck))
        alive = jnp.ones((n,), bool)
        impostor = roles == IMPOSTOR
        entries: list[Entry] = [(event(KIND["seat"], seat), np.uint16(1 << seat), True) for seat in range(n)]
        entries += [
            (event(KIND["fellow"], seat, other), np.uint16(1 << seat), impostor[seat] & impostor[other])
            for seat, other in itertools.permutations(range(n) if self.num_impostors > 1 else (), 2)
        ]
        entries += self._opening(roles, alive, 1, jnp.bool_(True), signal_key)
        return SocialDeductionState(
            phase=jnp.int8(SPEAK),
            actor=jnp.int8(0),
            step=jnp.int16(0),
            roles=roles,
            outcome=jnp.zeros((n,), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=_append(EventLog.empty(self.spec.max_events), entries),
            alive=alive,
            round=jnp.int8(1),
            votes=jnp.full((n,), core.NO_ONE, jnp.int8),
        )

    def legal_action_mask(self, state: SocialDeductionState) -> jax.Array:
        """bool[A] of the acting seat; all True once over."""
        speaks = state.phase == SPEAK
        others = state.alive & (jnp.arange(self.num_seats) != state.actor)
        about = state.alive & speaks  # a player may accuse or defend even himself
        return jnp.concatenate([others & ~speaks, jnp.full((2,), speaks), about, about]) | state.over

    def acting_mask(self, state: SocialDeductionState) -> jax.Array:
        """bool[N]: the actor; a vote is seen by those who vote after it."""
        return (jnp.arange(self.num_seats) == state.actor) & ~state.over

    def step(self, state: SocialDeductionState, action: jax.Array, key: jax.Array) -> SocialDeductionState:
        """Plays one message or vote and everything that follows from it; `key` draws the next round's signal."""
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int8)

        seats, voting = jnp.arange(self.num_seats), state.phase == VOTE
        votes = jnp.where(voting & (seats == state.actor), action, state.votes)
        later = state.alive & (seats > state.actor)
        phase_ends = ~jnp.any(later)
        round_ends = voting & phase_ends
        gone = jnp.where(round_ends, _expelled(votes), core.NO_ONE)
        alive = state.alive & (seats != gone)
        impostors = jnp.sum(alive & (state.roles == IMPOSTOR))
        innocents_win = round_ends & (impostors == 0)
        at_parity = 2 * impostors >= jnp.sum(alive)
        over = innocents_win | (round_ends & (at_parity | (state.round >= self.max_rounds)))

        number = state.round + (round_ends & ~over).astype(jnp.int8)
        outcome = jnp.where((state.roles == INNOCENT) == innocents_win, 1.0, -1.0)
        next_actor = jnp.argmax(jnp.where(phase_ends, alive, later))
        entries = [
            *self._act(state, action),
            (event(KIND["expelled"], target=gone), self._everybody, round_ends & (gone >= 0)),
            (event(KIND["no_expulsion"]), self._everybody, round_ends & (gone < 0)),
            (event(KIND["win"], value=innocents_win), self._everybody, over),
            *self._opening(state.roles, alive, number, round_ends & ~over, key),
        ]
        after = dataclasses.replace(
            state,
            phase=jnp.where(over, OVER, jnp.where(phase_ends, 1 - state.phase, state.phase)).astype(jnp.int8),
            actor=jnp.where(over, core.NO_ONE, next_actor).astype(jnp.int8),
            step=state.step + jnp.int16(1),
            outcome=jnp.where(over, outcome, 0.0).astype(jnp.float32),
            terminated=over,
            log=_append(state.log, entries),
            alive=alive,
            round=number,
            votes=jnp.where(round_ends, core.NO_ONE, votes).astype(jnp.int8),
        )
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    # ------------------------------------------------------------------ what is told to whom

    @property
    def _everybody(self) -> np.uint16:
        return np.uint16((1 << self.num_seats) - 1)

    def _opening(
        self, roles: jax.Array, alive: jax.Array, number: jax.Array | int, present: jax.Array, key: jax.Array
    ) -> list[Entry]:
        """The heading of a round and its signal, which is about any living seat and wrong with the chance of noise."""
        target_key, noise_key = jax.random.split(key)
        target = jnp.argmax(jnp.where(alive, jax.random.uniform(target_key, alive.shape), -1.0))
        wrong = jax.random.randint(noise_key, (), 0, 100) < self.noise_percent
        suspicious = (roles[target] == IMPOSTOR) ^ wrong
        return [
            (event(KIND["round"], value=number), self._everybody, present),
            (event(KIND["signal"], target=target, value=suspicious), self._everybody, present),
        ]

    def _act(self, state: SocialDeductionState, action: jax.Array) -> list[Entry]:
        """The free speech and the act of a turn, shown at once to all others."""
        kind, target = (jnp.asarray(table)[action] for table in _act_tables(self.num_seats))
        others = audience_of(jnp.arange(self.num_seats) != state.actor)
        speaks = (state.phase == SPEAK) & (self.speech_tokens > 0)
        return [
            (event(KIND["utterance"], state.actor, value=state.step), others, speaks),
            (event(kind, state.actor, target), others, jnp.bool_(True)),
        ]


def action_labels(num_seats: int) -> tuple[str, ...]:
    """The A labels: votes, pass, claim, accusations, defences."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    messages = [" pass", " claim innocent"]
    return (*players, *messages, *(f" accuse{one}" for one in players), *(f" defend{one}" for one in players))


def scripted_speech(num_seats: int) -> tuple[str, ...]:
    """What a scripted player says aloud with each action, in agreement with it; empty for votes."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    messages = [" I pass", " I claim innocent"]
    accusations, defences = ([f" I{act}{one}" for one in players] for act in (" accuse", " defend"))
    return (*("" for _ in players), *messages, *accusations, *defences)


def words(num_seats: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Word tables of the templates."""
    names = [f"Player {seat + 1}" for seat in range(num_seats)]
    return (
        ("seat", tuple(f" {name}" for name in names)),
        ("line", tuple(f"\n{name}" for name in names)),
        ("speaker", tuple(f"\n{name}:" for name in names)),
        ("voter", tuple(f"\n{name} votes" for name in names)),
        ("number", tuple(f" {number}" for number in range(MOST_ROUNDS + 1))),
        ("look", (" looks clear", " looks suspicious")),
        ("winner", ("\nThe impostors win", "\nThe innocents win")),
    )


def _append(log: EventLog, entries: list[Entry]) -> EventLog:
    rows, audience, present = zip(*entries, strict=True)
    return log.append(jnp.stack(rows), jnp.stack(list(map(jnp.asarray, audience))), jnp.asarray(present))


def _act_tables(num_seats: int) -> tuple[np.ndarray, np.ndarray]:
    """int16[A] each: kind and target of the row that an action is logged as."""
    seats, none = list(range(num_seats)), [core.NO_ONE]
    blocks = [("vote", seats), ("pass", none), ("claim", none), ("accuse", seats), ("defend", seats)]
    kinds = np.array([KIND[name] for name, targets in blocks for _ in targets], np.int16)
    return kinds, np.array([target for _, targets in blocks for target in targets], np.int16)


def _expelled(votes: jax.Array) -> jax.Array:
    """int[]: the seat with the most of the votes int8[N], -1 for a tie."""
    counts = jnp.sum(votes[:, None] == jnp.arange(votes.shape[0]), axis=0)
    most = counts == jnp.max(counts)
    return jnp.where(jnp.sum(most) == 1, jnp.argmax(most), core.NO_ONE)
