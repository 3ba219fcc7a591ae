"""Liar's dice: two players bid on dice of which each sees only its own. The rules: docs/games/liars_dice.md."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.core import EventKind, EventLog, GameSpec, Phase, Role, State, check_choices, check_ranges, event

FIRST, SECOND = range(2)
ROLES = (Role("first", "first"), Role("second", "second"))
BIDDING_RULES = ("reset-face", "reset-quantity")

OPEN, ANSWER, OVER = range(3)

# Fields of `dice` and `show`: the only die in value, or the lower one in target and the higher one in value.
_FACES = {1: "{face:value}", 2: "{face:target}{face:value}"}
KIND = {name: index for index, name in enumerate(("seat", "dice", "utterance", "bid", "liar", "show", "win"))}

NAMES = ("Player 1", "Player 2")
ROLE_TEXTS = (
    ("You are the first player: you make the first bid.", "You are the first player"),
    ("You are the second player: you answer the first bid.", "You are the second player"),
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LiarsDiceState(State):
    """The common fields and what the rules need to remember.

    Attributes:
      dice: int8[2, D], each seat's dice in rising order, one less than the face shown.
      bid: int8[], action index of the last bid, -1 before the first.
    """

    dice: jax.Array
    bid: jax.Array


@dataclasses.dataclass(frozen=True)
class LiarsDice:
    """`liars_dice-v0`. Parameters and their allowed values: docs/games/liars_dice.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    num_dice: int = 1
    dice_sides: int = 6
    bidding_rule: str = "reset-face"
    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        check_ranges(
            "liars_dice-v0", self, num_dice=(1, 2), dice_sides=(2, 6), speech_tokens=(0, 4096), thought_tokens=(0, 4096)
        )
        check_choices("liars_dice-v0", self, bidding_rule=BIDDING_RULES)

    # ------------------------------------------------------------------ static facts

    @property
    def num_bids(self) -> int:
        """How many bids there are; the next action index is the call."""
        return 2 * self.num_dice * self.dice_sides

    def bids(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Quantity, face less one, and rank of each bid by action index, int8[bids] each; a raise has a higher rank."""
        index = np.arange(self.num_bids)
        quantity, face = index // self.dice_sides + 1, index % self.dice_sides
        rank = index if self.bidding_rule == "reset-face" else face * 2 * self.num_dice + quantity - 1
        return quantity.astype(np.int8), face.astype(np.int8), rank.astype(np.int8)

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        speaks = bool(self.speech_tokens)
        rows_of_act, dealt, decisions = 1 + speaks, 4, self.num_bids + 1
        bids = self._bid_texts()
        return GameSpec(
            name="liars_dice-v0",
            num_seats=2,
            roles=ROLES,
            sides=("first", "second"),
            phases=(
                Phase("open", "\nBid", self.thought_tokens, self.speech_tokens),
                Phase("answer", "\nBid or call liar", self.thought_tokens, self.speech_tokens),
                Phase("over"),
            ),
            action_labels=(*bids, " liar"),
            event_kinds=self._event_kinds(),
            words=(
                ("seat", tuple(f" {name}" for name in NAMES)),
                ("line", tuple(f"\n{name}" for name in NAMES)),
                ("speaker", tuple(f"\n{name}:" for name in NAMES)),
                ("face", tuple(f" {face + 1}" for face in range(self.dice_sides))),
                ("bid", bids),
            ),
            introduction=(self._introduction(), ""),
            role_texts=ROLE_TEXTS,
            max_decisions=decisions,
            max_events=dealt + decisions * rows_of_act + 3,
            max_new_events=dealt + rows_of_act,
            scripted_speech=(*(f" I{bid}" for bid in bids), " I call liar"),
            # Bids only rise and the seats take turns, so that each makes at most half of them.
            visible_events=(
                (("seat",), 1),
                (("dice",), 1),
                (("utterance",), self.num_bids // 2 * speaks),
                (("bid",), self.num_bids // 2),
            ),
            turns=((("open",), 1), (("answer",), self.num_bids // 2)),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    def _bid_texts(self) -> tuple[str, ...]:
        quantity, face, _ = self.bids()
        return tuple(f" bid {q} of {f + 1}" for q, f in zip(quantity, face, strict=True))

    def _event_kinds(self) -> tuple[EventKind, ...]:
        templates = {
            "seat": "\nYou are{seat:actor}",
            "dice": ("\nYour die is", "\nYour dice are")[self.num_dice - 1] + _FACES[self.num_dice],
            "utterance": "{line:actor} says:{utterance}",
            "bid": "{speaker:actor}{bid:value}",
            "liar": "{speaker:actor} liar",
            "show": "{line:actor} shows" + _FACES[self.num_dice],
            "win": "{line:actor} wins",
        }
        return tuple(EventKind(name, templates[name]) for name in KIND)

    def _introduction(self) -> str:
        dice = "a die" if self.num_dice == 1 else f"{self.num_dice} dice"
        raises = {
            "reset-face": "more dice of any face or as many dice of a higher face",
            "reset-quantity": "more dice of the same face or any number of dice of a higher face",
        }[self.bidding_rule]
        return (
            f"You play liar's dice with 2 players. Each player rolls {dice} with the faces 1 to {self.dice_sides} that "
            "nobody else sees. In turn each player bids or calls liar; 2 of 1 is the bid that at least 2 of all dice "
            f"show a 1. A bid must be higher than the last one: {raises}. A {self.dice_sides} is wild: it counts as "
            "every face. When liar is called, all dice are shown; the bidder wins if the bid holds, else the caller "
            "wins. "
        )

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> LiarsDiceState:
        """Rolls the dice and tells each seat its own."""
        dice = jax.random.randint(key, (2, self.num_dice), 0, self.dice_sides, jnp.int8)
        dice = jnp.sort(dice, axis=1)
        rows = [event(KIND["seat"], seat) for seat in (FIRST, SECOND)]
        rows += [self._dice_row("dice", dice, seat) for seat in (FIRST, SECOND)]
        audience = jnp.asarray(np.array([1, 2, 1, 2], np.uint16))
        log = EventLog.empty(self.spec.max_events).append(jnp.stack(rows), audience, jnp.ones((4,), bool))
        return LiarsDiceState(
            phase=jnp.int8(OPEN),
            actor=jnp.int8(FIRST),
            step=jnp.int16(0),
            roles=jnp.asarray(np.array([FIRST, SECOND], np.int8)),
            outcome=jnp.zeros((2,), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=log,
            dice=dice,
            bid=jnp.int8(core.NO_ONE),
        )

    def legal_action_mask(self, state: LiarsDiceState) -> jax.Array:
        """bool[A]: the bids above the last one and, after the first bid, the call; all True once over."""
        ranks = jnp.asarray(self.bids()[2])
        opened = state.bid >= 0
        raises = ranks > jnp.where(opened, ranks[state.bid], core.NO_ONE)
        return jnp.concatenate([raises, opened[None]]) | state.over

    def acting_mask(self, state: LiarsDiceState) -> jax.Array:
        """bool[2]: the actor."""
        return (jnp.arange(2) == state.actor) & ~state.over

    def step(self, state: LiarsDiceState, action: jax.Array, key: jax.Array) -> LiarsDiceState:
        """Plays one bid or the call; `key` is not used, all chance lies in the dice."""
        del key
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int8)
        calls = action == self.num_bids
        other = 1 - state.actor
        quantity, face, _ = (jnp.asarray(table)[state.bid] for table in self.bids())
        matching = jnp.sum((state.dice == face) | (state.dice == self.dice_sides - 1))
        winner = jnp.where(matching >= quantity, other, state.actor)
        outcome = jnp.where(jnp.arange(2) == winner, 1.0, -1.0)
        after = dataclasses.replace(
            state,
            phase=jnp.where(calls, OVER, ANSWER).astype(jnp.int8),
            actor=jnp.where(calls, core.NO_ONE, other).astype(jnp.int8),
            step=state.step + jnp.int16(1),
            outcome=jnp.where(calls, outcome, 0.0).astype(jnp.float32),
            terminated=calls,
            log=self._log(state, action, calls, winner),
            bid=jnp.where(calls, state.bid, action),
        )
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    # ------------------------------------------------------------------ what is told to whom

    def _log(self, state: LiarsDiceState, action: jax.Array, calls: jax.Array, winner: jax.Array) -> EventLog:
        """Logs an act for the other seat and, after a call, the dice and the winner for both."""
        others = jnp.uint16(1) << (1 - state.actor).astype(jnp.uint16)
        both = jnp.uint16(3)
        happened = [
            (event(KIND["utterance"], state.actor, value=state.step), others, jnp.bool_(self.speech_tokens > 0)),
            (event(KIND["bid"], state.actor, value=action), others, ~calls),
            (event(KIND["liar"], state.actor), others, calls),
            (self._dice_row("show", state.dice, FIRST), both, calls),
            (self._dice_row("show", state.dice, SECOND), both, calls),
            (event(KIND["win"], winner), both, calls),
        ]
        rows, audience, present = zip(*happened, strict=True)
        return state.log.append(jnp.stack(rows), jnp.stack(audience), jnp.stack(present))

    def _dice_row(self, kind: str, dice: jax.Array, seat: int) -> jax.Array:
        """int16[4]: the row that tells the dice of a seat."""
        lower = dice[seat, 0] if self.num_dice == 2 else core.NO_ONE
        return event(KIND[kind], seat, lower, dice[seat, -1])
