"""Negotiation after Cao et al.: offers and words without meaning. The rules are in docs/games/negotiation.md."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from games import core, goods
from games.core import EventKind, EventLog, GameSpec, Phase, Role, State, audience_of, check_ranges, event
from games.goods import ITEMS, MOST_WORTH

ROLES = (Role("first", "first"), Role("second", "second"))
MOST_ITEMS = 5  # of each type in a pool
FEWEST_TURNS, MEAN_TURNS, MOST_TURNS = 4, 7, 10
AGREE = MOST_ITEMS + 1  # the action after "keep 0" to "keep 5"; after it come the symbols
SYMBOLS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")

OPEN, ANSWER, HATS, BALLS, SIGNAL, OVER = range(6)
ITEM_OF_PHASE = np.array([0, 0, 1, 2, 0, 0], np.int8)

EVENT_KINDS = (
    EventKind("seat", "\nYou are{seat:actor}"),
    EventKind("turns", "\nTurns at most:{turns:value}"),
    EventKind("pool", "{pool:target}{number:value}"),
    EventKind("worth", "{worth:target}{number:value}"),
    EventKind("utterance", "{line:actor} says:{utterance}"),
    EventKind("keep", "{keeper:actor}{number:value}{items:target}"),
    EventKind("signal", "{line:actor} signals{symbol:value}"),
    EventKind("agree", "{line:actor} agrees"),
    EventKind("out_of_turns", "\nNo deal: the turns are over"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}

FORM = "turns/pool/values of first/values of second"
EXAMPLES = ("6/3/8/2", "6/3,2/8,1/0,5", "6/3,0,5/8,1,0/2,4,10")  # by number of types


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NegotiationState(State):
    """The common fields and what the rules need to remember; I types of item.

    Attributes:
      turns: int8[], offers after which the talks are over.
      pool: int8[I], how many items of each type there are.
      values: int8[2, I], what one of each is worth to each seat.
      kept: int8[I], what the latest proposer keeps; picks of an offer in the making overwrite it one by one.
      offers: int8[], complete offers made so far.
      signalled: int8[], symbols of the current turn uttered so far.
    """

    turns: jax.Array
    pool: jax.Array
    values: jax.Array
    kept: jax.Array
    offers: jax.Array
    signalled: jax.Array


@dataclasses.dataclass(frozen=True)
class Negotiation:
    """`negotiation-v0`. Parameters and their allowed values: docs/games/negotiation.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    num_items: int = 3
    utterance_dim: int = 3
    num_symbols: int = 5
    show_proposals: bool = True
    instances: str = ""
    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        check_ranges(
            "negotiation-v0",
            self,
            num_items=(1, len(ITEMS)),
            utterance_dim=(0, 5),
            num_symbols=(2, len(SYMBOLS)),
            speech_tokens=(0, 4096),
            thought_tokens=(0, 4096),
        )
        instance_table(self.instances, self.num_items)

    # ------------------------------------------------------------------ static facts

    @property
    def max_turns(self) -> int:
        """The most turns that a game of this variant can have."""
        return int(instance_table(self.instances, self.num_items)[:, 0].max()) if self.instances else MOST_TURNS

    @property
    def symbols(self) -> tuple[str, ...]:
        """Labels of the symbols."""
        return tuple(f" {symbol}" for symbol in SYMBOLS[: self.num_symbols]) if self.utterance_dim else ()

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        items, dim, turns, speech = self.num_items, self.utterance_dim, self.max_turns, int(self.speech_tokens > 0)
        who_you_are = [f"You are the {role.name} player" for role in ROLES]
        dealt = 2 + 1 + 3 * items  # seats, turns, pool and values
        seen, taken = turns // 2, (turns + 1) // 2  # turns of the other that a seat sees, and of its own
        return GameSpec(
            name="negotiation-v0",
            num_seats=2,
            roles=ROLES,
            sides=("first", "second"),
            phases=self._phases(),
            action_labels=(*(f" keep {count}" for count in range(MOST_ITEMS + 1)), " agree", *self.symbols),
            event_kinds=EVENT_KINDS,
            words=(*goods.words(), ("symbol", tuple(f" {symbol}" for symbol in SYMBOLS))),
            introduction=(self._introduction(), ""),
            role_texts=tuple((f"{who}. Get as much as you can for yourself.", who) for who in who_you_are),
            max_decisions=turns * (items + dim),
            max_events=dealt + turns * (items + dim + speech) + 1,
            max_new_events=dealt + items + dim + speech,
            scripted_speech=(
                *(f" I keep {count} of the books" for count in range(MOST_ITEMS + 1)),
                " I agree",
                *("" for _ in self.symbols),
            ),
            visible_events=(
                (("seat",), 1),
                (("turns",), 1),
                (("pool",), items),
                (("worth",), items),
                (("utterance",), seen * speech),
                (("keep",), seen * items * self.show_proposals),
                (("signal",), seen * dim),
            ),
            turns=(
                (("open", "answer"), taken),
                (("hats",), taken * (items > 1)),
                (("balls",), taken * (items > 2)),
                (("signal",), taken * dim),
            ),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    def _phases(self) -> tuple[Phase, ...]:
        thought, speech = self.thought_tokens, self.speech_tokens
        return (
            Phase("open", "\nHow many of the books do you keep", thought, speech),
            Phase("answer", "\nAgree, or how many of the books do you keep", thought, speech),
            Phase("hats", "\nHow many of the hats do you keep", thought),
            Phase("balls", "\nHow many of the balls do you keep", thought),
            Phase("signal", "\nChoose a symbol", thought),
            Phase("over"),
        )

    def _introduction(self) -> str:
        things = ("books", "books and hats", "books, hats and balls")[self.num_items - 1]
        text = (
            f"You negotiate with another player over a pool of {things}. What one thing is worth to you, from 0 to "
            "10, is told to you alone. You take turns: say how many of each kind you keep, so that the other gets the "
            "rest, or agree to the offer that the other made last. When both have made as many offers as there are "
            "turns, the talks are over, and without an agreement both get nothing. "
        )
        if not self.show_proposals:
            text += "Offers are secret: neither of you is told what the other keeps, and who agrees does so unseen. "
        if self.utterance_dim:
            many = "one symbol" if self.utterance_dim == 1 else f"{self.utterance_dim} symbols"
            text += f"With each offer you choose {many} that the other is told; what they mean is up to you. "
        return text

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> NegotiationState:
        """Draws an instance and opens the first turn."""
        turns_key, pool_key, values_key = jax.random.split(key, 3)
        n = self.num_items
        if self.instances:
            table = instance_table(self.instances, n)
            one = jnp.asarray(table)[jax.random.randint(key, (), 0, len(table))]
            return self.deal(one[0], one[1 : n + 1], one[n + 1 :].reshape(2, n))
        turns = FEWEST_TURNS + jax.random.categorical(turns_key, jnp.log(jnp.asarray(turns_probabilities())))
        pool = jax.random.randint(pool_key, (n,), 0, MOST_ITEMS + 1, jnp.int8)
        # Values are the digits of a number; 0, which stands for nothing of worth, is left out.
        base = MOST_WORTH + 1
        code = jax.random.randint(values_key, (2, 1), 1, base**n)
        values = code // jnp.asarray(base ** np.arange(n)) % base
        return self.deal(turns.astype(jnp.int8), pool, values.astype(jnp.int8))

    def deal(self, turns: jax.Array, pool: jax.Array, values: jax.Array) -> NegotiationState:
        """Opens a game of the given instance: turns int8[], pool int8[I], values int8[2, I]."""
        both, seats, items = np.uint16(3), range(len(ROLES)), range(self.num_items)
        rows = [(event(KIND["seat"], seat), np.uint16(1 << seat)) for seat in seats]
        rows.append((event(KIND["turns"], value=turns), both))
        rows += [(event(KIND["pool"], target=item, value=pool[item]), both) for item in items]
        rows += [
            (event(KIND["worth"], seat, item, values[seat, item]), np.uint16(1 << seat))
            for seat in seats
            for item in items
        ]
        log = EventLog.empty(self.spec.max_events).append(
            jnp.stack([row for row, _ in rows]),
            jnp.asarray(np.array([audience for _, audience in rows])),
            jnp.ones((len(rows),), bool),
        )
        return NegotiationState(
            phase=jnp.int8(OPEN),
            actor=jnp.int8(0),
            step=jnp.int16(0),
            roles=jnp.arange(len(ROLES), dtype=jnp.int8),
            outcome=jnp.zeros((len(ROLES),), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=log,
            turns=turns,
            pool=pool,
            values=values,
            kept=jnp.zeros((self.num_items,), jnp.int8),
            offers=jnp.int8(0),
            signalled=jnp.int8(0),
        )

    def legal_action_mask(self, state: NegotiationState) -> jax.Array:
        """bool[A] of the acting seat; all True once over."""
        signals = state.phase == SIGNAL
        available = state.pool[jnp.asarray(ITEM_OF_PHASE)[state.phase]]
        keep = (jnp.arange(AGREE) <= available) & ~signals
        agree = (state.phase == ANSWER)[None]
        return jnp.concatenate([keep, agree, jnp.full((len(self.symbols),), signals)]) | state.over

    def acting_mask(self, state: NegotiationState) -> jax.Array:
        """bool[N]: the actor."""
        return (jnp.arange(len(ROLES)) == state.actor) & ~state.over

    def step(self, state: NegotiationState, action: jax.Array, key: jax.Array) -> NegotiationState:
        """Plays one pick of an offer, one symbol or an agreement; `key` is not used, all chance lies in the deal."""
        del key
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int8)

        agrees, signals = action == AGREE, state.phase == SIGNAL
        picks = ~agrees & ~signals
        item = jnp.asarray(ITEM_OF_PHASE)[state.phase]
        kept = jnp.where(picks & (jnp.arange(self.num_items) == item), action, state.kept)
        offered = picks & (item == self.num_items - 1)
        offers = state.offers + offered.astype(jnp.int8)
        signalled = jnp.where(signals, state.signalled + 1, 0).astype(jnp.int8)
        next_pick = jnp.asarray(np.array([HATS, BALLS, OVER]))[item]

        turn_ends = (signals & (signalled == self.utterance_dim)) if self.utterance_dim else offered
        out_of_turns = turn_ends & (offers >= state.turns)
        over = agrees | out_of_turns
        phase = jnp.where(signals | offered, SIGNAL, next_pick)
        phase = jnp.where(turn_ends, ANSWER, phase)
        after = dataclasses.replace(
            state,
            phase=jnp.where(over, OVER, phase).astype(jnp.int8),
            actor=jnp.where(over, core.NO_ONE, jnp.where(turn_ends, 1 - state.actor, state.actor)).astype(jnp.int8),
            step=state.step + jnp.int16(1),
            outcome=jnp.where(over, self._outcome(state, agrees), 0.0),
            terminated=over,
            log=self._log(state, action, picks, out_of_turns),
            kept=kept,
            offers=offers,
            signalled=signalled,
        )
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    def _outcome(self, state: NegotiationState, agrees: jax.Array) -> jax.Array:
        """float32[N]: from -1 for nothing to 1 for the whole pool; 0 if the whole pool is worth nothing to a seat."""
        accepts = (jnp.arange(len(ROLES)) == state.actor)[:, None]
        share = jnp.where(accepts, state.pool - state.kept, state.kept) * agrees
        payoff = jnp.sum(share.astype(jnp.int32) * state.values, axis=1)
        whole = jnp.sum(state.pool.astype(jnp.int32) * state.values, axis=1)
        return jnp.where(whole > 0, 2.0 * payoff / jnp.maximum(whole, 1) - 1.0, 0.0).astype(jnp.float32)

    # ------------------------------------------------------------------ what is told to whom

    def _log(self, state: NegotiationState, action: jax.Array, picks: jax.Array, out_of_turns: jax.Array) -> EventLog:
        """Logs an act; nobody acts before a turn is complete, so that half an offer may be logged at once."""
        actor, phase = state.actor, state.phase
        agrees, signals = action == AGREE, phase == SIGNAL
        nobody, both = jnp.uint16(0), jnp.uint16(3)
        other = audience_of(jnp.arange(len(ROLES)) != actor)
        item = jnp.asarray(ITEM_OF_PHASE)[phase]
        speaks = ((phase == OPEN) | (phase == ANSWER)) & (self.speech_tokens > 0)
        entries = [
            (event(KIND["utterance"], actor, value=state.step), other, speaks),
            (event(KIND["keep"], actor, item, action), other if self.show_proposals else nobody, picks),
            (event(KIND["signal"], actor, state.signalled, action - AGREE - 1), other, signals),
            (event(KIND["agree"], actor), other, agrees),
            (event(KIND["out_of_turns"]), both, out_of_turns),
        ]
        rows, audience, present = zip(*entries, strict=True)
        return state.log.append(jnp.stack(rows), jnp.stack(audience), jnp.stack(present))


@functools.cache
def instance_table(text: str, num_items: int) -> np.ndarray:
    """int8[instances, 1 + 3 I]: turns, pool, values of the first and of the second seat; no rows for empty text.

    Raises:
      GameError: if the text is malformed or an instance breaks a rule.
    """
    example = EXAMPLES[num_items - 1]
    found = list(goods.read_instances("negotiation-v0", text, FORM, example, _broken_rule)) if text else []
    return np.array([sum(one, ()) for one in found], np.int8).reshape(-1, 1 + 3 * num_items)


def turns_probabilities() -> np.ndarray:
    """float[7]: of 4 to 10 turns, a Poisson distribution of mean 7 cut off on both sides."""
    weights = np.array([MEAN_TURNS**turns / math.factorial(turns) for turns in range(FEWEST_TURNS, MOST_TURNS + 1)])
    return weights / weights.sum()


def _broken_rule(turns: tuple[int, ...], pool: tuple[int, ...], *values: tuple[int, ...]) -> str | None:
    """The rule for instances that this one breaks, if any."""
    if not FEWEST_TURNS <= turns[0] <= MOST_TURNS:
        return f"there are {FEWEST_TURNS} to {MOST_TURNS} turns"
    if max(pool) > MOST_ITEMS:
        return f"a pool holds at most {MOST_ITEMS} items of each type"
    if max(map(max, values)) > MOST_WORTH:
        return f"an item is worth at most {MOST_WORTH}"
    if not all(map(any, values)):
        return "some type of item is worth something to each seat"
    return None
