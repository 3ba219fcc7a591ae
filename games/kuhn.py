"""Kuhn poker: three cards, two players, one bet. The rules are written out in docs/games/kuhn.md."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.core import EventKind, EventLog, GameSpec, Phase, Role, State, check_ranges, event

FIRST, SECOND = range(2)
ROLES = (Role("first", "first"), Role("second", "second"))

CARDS = ("jack", "queen", "king")  # in rising order
PASS, BET = range(2)
ACTION_LABELS = (" pass", " bet")

OPEN, ANSWER, OVER = range(3)

STAKE = 2.0  # most chips that can be won: the outcome is chips divided by this

EVENT_KINDS = (
    EventKind("seat", "\nYou are{seat:actor}"),
    EventKind("card", "\nYour card is{card:value}"),
    EventKind("utterance", "{line:actor} says:{utterance}"),
    EventKind("pass", "{speaker:actor} pass"),
    EventKind("bet", "{speaker:actor} bet"),
    EventKind("show", "{line:actor} shows{card:value}"),
    EventKind("win", "{line:actor}{win:value}"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}

NAMES = ("Player 1", "Player 2")
WORDS = (
    ("seat", tuple(f" {name}" for name in NAMES)),
    ("line", tuple(f"\n{name}" for name in NAMES)),
    ("speaker", tuple(f"\n{name}:" for name in NAMES)),
    ("card", tuple(f" the {card}" for card in CARDS)),
    ("win", (" wins 1 chip", " wins 2 chips")),
)

INTRODUCTION = (
    "You play Kuhn poker with 2 players and 3 cards: a jack, a queen and a king; the king is the highest. Each player "
    "puts 1 chip into the pot and is dealt a card that nobody else sees. The first player passes or bets 1 more chip; "
    "then the second player does. After a bet the other player either passes, which gives up the pot, or bets too, "
    "which calls. If both pass or the bet is called, the higher card takes the pot. "
)
ROLE_TEXTS = (
    ("You are the first player: you begin.", "You are the first player"),
    ("You are the second player: you see what the first player does.", "You are the second player"),
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KuhnState(State):
    """The common fields and the deal.

    Attributes:
      cards: int8[2], index into `CARDS` of each seat's card.
    """

    cards: jax.Array


@dataclasses.dataclass(frozen=True)
class Kuhn:
    """`kuhn-v0`. Parameters and their allowed values: docs/games/kuhn.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        check_ranges("kuhn-v0", self, speech_tokens=(0, 4096), thought_tokens=(0, 4096))

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        speaks = bool(self.speech_tokens)
        rows_of_act, dealt = 1 + speaks, 4
        return GameSpec(
            name="kuhn-v0",
            num_seats=2,
            roles=ROLES,
            sides=("first", "second"),
            phases=(
                Phase("open", "\nPass or bet", self.thought_tokens, self.speech_tokens),
                Phase("answer", "\nPass to fold or bet to call", self.thought_tokens, self.speech_tokens),
                Phase("over"),
            ),
            action_labels=ACTION_LABELS,
            event_kinds=EVENT_KINDS,
            words=WORDS,
            introduction=(INTRODUCTION, ""),
            role_texts=ROLE_TEXTS,
            max_decisions=3,
            max_events=dealt + 3 * rows_of_act + 3,
            max_new_events=dealt + rows_of_act,
            scripted_speech=(" I pass", " I bet"),
            # Nobody reads what the last act leads to, so that each seat reads one act of the other.
            visible_events=((("seat",), 1), (("card",), 1), (("utterance",), int(speaks)), (("pass", "bet"), 1)),
            turns=((("open",), 1), (("answer",), 1)),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    def init(self, key: jax.Array) -> KuhnState:
        """Deals two of the three cards, one to each seat, which alone is told."""
        cards = jax.random.permutation(key, jnp.arange(len(CARDS), dtype=jnp.int8))[:2]
        rows = [event(KIND["seat"], seat) for seat in (FIRST, SECOND)]
        rows += [event(KIND["card"], seat, value=cards[seat]) for seat in (FIRST, SECOND)]
        audience = jnp.asarray(np.array([1, 2, 1, 2], np.uint16))
        log = EventLog.empty(self.spec.max_events).append(jnp.stack(rows), audience, jnp.ones((4,), bool))
        return KuhnState(
            phase=jnp.int8(OPEN),
            actor=jnp.int8(FIRST),
            step=jnp.int16(0),
            roles=jnp.asarray(np.array([FIRST, SECOND], np.int8)),
            outcome=jnp.zeros((2,), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=log,
            cards=cards,
        )

    def legal_action_mask(self, state: KuhnState) -> jax.Array:
        """bool[A]: both actions are always legal."""
        return jnp.ones((len(ACTION_LABELS),), bool)

    def acting_mask(self, state: KuhnState) -> jax.Array:
        """bool[2]: the actor."""
        return (jnp.arange(2) == state.actor) & ~state.over

    def step(self, state: KuhnState, action: jax.Array, key: jax.Array) -> KuhnState:
        """Plays one pass or bet; `key` is not used, all chance lies in the deal."""
        del key
        bets = action == BET  # any other number is a pass, the lowest legal action
        answers = state.phase == ANSWER
        called = answers & bets
        showdown = called | (~answers & ~bets & (state.step == 1))
        over = answers | showdown
        other = 1 - state.actor
        winner = jnp.where(showdown, jnp.argmax(state.cards), other)
        chips = jnp.where(called, 2.0, 1.0)
        outcome = jnp.where(jnp.arange(2) == winner, chips, -chips) / STAKE
        after = dataclasses.replace(
            state,
            phase=jnp.where(over, OVER, jnp.where(bets, ANSWER, OPEN)).astype(jnp.int8),
            actor=jnp.where(over, core.NO_ONE, other).astype(jnp.int8),
            step=state.step + jnp.int16(1),
            outcome=jnp.where(over, outcome, 0.0).astype(jnp.float32),
            terminated=over,
            log=self._log(state, bets, showdown, over, winner, called),
        )
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    def _log(
        self,
        state: KuhnState,
        bets: jax.Array,
        showdown: jax.Array,
        over: jax.Array,
        winner: jax.Array,
        called: jax.Array,
    ) -> EventLog:
        """Logs an act for the other seat and, at the end, the cards (unless somebody folded) and the winner."""
        others = jnp.uint16(1) << (1 - state.actor).astype(jnp.uint16)
        both = jnp.uint16(3)
        happened = [
            (event(KIND["utterance"], state.actor, value=state.step), others, jnp.bool_(self.speech_tokens > 0)),
            (event(jnp.where(bets, KIND["bet"], KIND["pass"]), state.actor), others, jnp.bool_(True)),
            (event(KIND["show"], FIRST, value=state.cards[FIRST]), both, showdown),
            (event(KIND["show"], SECOND, value=state.cards[SECOND]), both, showdown),
            (event(KIND["win"], winner, value=called), both, over),
        ]
        rows, audience, present = zip(*happened, strict=True)
        return state.log.append(jnp.stack(rows), jnp.stack(audience), jnp.stack(present))
