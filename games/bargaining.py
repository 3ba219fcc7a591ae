"""Bargaining: two players divide books, hats and balls. The rules are written out in docs/games/bargaining.md."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from games import core, goods
from games.core import EventKind, EventLog, GameSpec, Phase, Role, State, audience_of, check_ranges, event
from games.goods import ITEMS

ROLES = (Role("first", "first"), Role("second", "second"))
FEWEST_ITEMS, MOST_ITEMS, POOL_VALUE = 5, 7, 10
AGREE = MOST_ITEMS + 1  # the action after "keep 0" to "keep 7"

OPEN, ANSWER, HATS, BALLS, OVER = range(5)
ITEM_OF_PHASE = np.array([0, 0, 1, 2, 0], np.int8)
NEXT_PHASE = np.array([HATS, HATS, BALLS, ANSWER, OVER], np.int8)

EVENT_KINDS = (
    EventKind("seat", "\nYou are{seat:actor}"),
    EventKind("turns", "\nTurns at most:{turns:value}"),
    EventKind("pool", "{pool:target}{number:value}"),
    EventKind("worth", "{worth:target}{number:value}"),
    EventKind("utterance", "{line:actor} says:{utterance}"),
    EventKind("pick", "{picker:actor}{number:value}{items:target}"),
    EventKind("keep", "{keeper:actor}{number:value}{items:target}"),
    EventKind("agree", "{line:actor} agrees"),
    EventKind("out_of_turns", "\nNo deal: the turns are over"),
    EventKind("broken_off", "\nNo deal: the talks broke off"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}

DEALT_ROWS = 2 + 1 + 3 + 6  # seats, turns, pool, values
OFFER_ROWS = 2 + 3  # picks that do not complete the offer, the offer

FORM = "pool/values of first/values of second"
EXAMPLE = "1,2,3/8,1,0/4,0,2"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BargainingState(State):
    """The common fields and what the rules need to remember.

    Attributes:
      pool: int8[3], how many books, hats and balls there are.
      values: int8[2, 3], what one of each is worth to each seat.
      kept: int8[3], what the latest proposer keeps; picks of an offer in the making overwrite it one by one.
      offers: int8[], complete offers made so far.
    """

    pool: jax.Array
    values: jax.Array
    kept: jax.Array
    offers: jax.Array


@dataclasses.dataclass(frozen=True)
class Bargaining:
    """`bargaining-v0`. Parameters and their allowed values: docs/games/bargaining.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    max_turns: int = 10
    discount_percent: int = 100
    prob_end_percent: int = 0
    instances: str = ""
    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        check_ranges(
            "bargaining-v0",
            self,
            max_turns=(2, goods.MOST_TURNS),
            discount_percent=(1, 100),
            prob_end_percent=(0, 99),
            speech_tokens=(0, 4096),
            thought_tokens=(0, 4096),
        )
        instance_table(self.instances)

    # ------------------------------------------------------------------ static facts

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        speech = int(self.speech_tokens > 0)
        who_you_are = [f"You are the {role.name} player" for role in ROLES]
        seen, taken = self.max_turns // 2, (self.max_turns + 1) // 2  # offers shown to a seat, turns of a seat
        return GameSpec(
            name="bargaining-v0",
            num_seats=2,
            roles=ROLES,
            sides=("first", "second"),
            phases=self._phases(),
            action_labels=(*(f" keep {count}" for count in range(MOST_ITEMS + 1)), " agree"),
            event_kinds=EVENT_KINDS,
            words=words(),
            introduction=(self._introduction(), ""),
            role_texts=tuple((f"{who}. Get as much as you can for yourself.", who) for who in who_you_are),
            max_decisions=3 * self.max_turns,
            max_events=DEALT_ROWS + self.max_turns * (OFFER_ROWS + speech) + 1,
            max_new_events=DEALT_ROWS + OFFER_ROWS + speech,
            scripted_speech=(*(f" I keep {count} of the books" for count in range(MOST_ITEMS + 1)), " I agree"),
            visible_events=(
                (("seat",), 1),
                (("turns",), 1),
                (("pool",), 3),
                (("worth",), 3),
                (("utterance",), seen * speech),
                (("keep",), 3 * seen),
            ),
            turns=((("open", "answer"), taken), (("hats",), taken), (("balls",), taken)),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    def _phases(self) -> tuple[Phase, ...]:
        thought, speech = self.thought_tokens, self.speech_tokens
        return (
            Phase("open", "\nHow many of the books do you keep", thought, speech),
            Phase("answer", "\nAgree, or how many of the books do you keep", thought, speech),
            Phase("hats", "\nHow many of the hats do you keep", thought),
            Phase("balls", "\nHow many of the balls do you keep", thought),
            Phase("over"),
        )

    def _introduction(self) -> str:
        text = (
            "You bargain with another player over a pool of books, hats and balls. All of it together is worth 10 to "
            "each of you, but what one thing is worth to the other is secret. You take turns: say how many of each "
            "kind you keep, so that the other gets the rest, or agree to the offer that the other made last. Offer "
            f"number {self.max_turns} ends the talks, and without an agreement both get nothing. "
        )
        if self.discount_percent < 100:
            text += f"From the third turn on, each turn leaves {self.discount_percent} percent of what a deal pays. "
        if self.prob_end_percent:
            text += (
                "After every offer but the first, the talks break off with a chance of "
                f"{self.prob_end_percent} percent. "
            )
        return text

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> BargainingState:
        """Deals an instance and opens the first turn."""
        table = instance_table(self.instances)
        instance = jnp.asarray(table)[jax.random.randint(key, (), 0, len(table))]
        pool, values = instance[0], instance[1:]
        both, seats, items = np.uint16(3), range(len(ROLES)), range(len(ITEMS))
        rows = [(event(KIND["seat"], seat), np.uint16(1 << seat)) for seat in seats]
        rows.append((event(KIND["turns"], value=self.max_turns), both))
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
        return BargainingState(
            phase=jnp.int8(OPEN),
            actor=jnp.int8(0),
            step=jnp.int16(0),
            roles=jnp.arange(len(ROLES), dtype=jnp.int8),
            outcome=jnp.zeros((len(ROLES),), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=log,
            pool=pool,
            values=values,
            kept=jnp.zeros((len(ITEMS),), jnp.int8),
            offers=jnp.int8(0),
        )

    def legal_action_mask(self, state: BargainingState) -> jax.Array:
        """bool[A] of the acting seat; all True once over."""
        available = state.pool[jnp.asarray(ITEM_OF_PHASE)[state.phase]]
        keep = jnp.arange(AGREE) <= available
        return jnp.append(keep, state.phase == ANSWER) | state.over

    def acting_mask(self, state: BargainingState) -> jax.Array:
        """bool[N]: the actor."""
        return (jnp.arange(len(ROLES)) == state.actor) & ~state.over

    def step(self, state: BargainingState, action: jax.Array, key: jax.Array) -> BargainingState:
        """Plays one pick of an offer, or an agreement, and what follows from it."""
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int8)

        agrees = action == AGREE
        item = jnp.asarray(ITEM_OF_PHASE)[state.phase]
        kept = jnp.where((jnp.arange(len(ITEMS)) == item) & ~agrees, action, state.kept)
        complete = state.phase == BALLS
        offers = state.offers + complete.astype(jnp.int8)
        out_of_turns = complete & (offers >= self.max_turns)
        chance_ends = jax.random.randint(key, (), 0, 100) < self.prob_end_percent
        broken_off = complete & ~out_of_turns & (offers >= 2) & chance_ends
        over = agrees | out_of_turns | broken_off

        payoff = jnp.where(agrees, self._payoff(state), 0.0)
        after = dataclasses.replace(
            state,
            phase=jnp.where(over, OVER, jnp.asarray(NEXT_PHASE)[state.phase]).astype(jnp.int8),
            actor=jnp.where(over, core.NO_ONE, jnp.where(complete, 1 - state.actor, state.actor)).astype(jnp.int8),
            step=state.step + jnp.int16(1),
            outcome=jnp.where(over, payoff / (POOL_VALUE / 2) - 1.0, 0.0).astype(jnp.float32),
            terminated=over,
            log=self._log(state, action, kept, out_of_turns, broken_off),
            kept=kept,
            offers=offers,
        )
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    def _payoff(self, state: BargainingState) -> jax.Array:
        """float32[N]: what the offer on the table is worth to each seat if the actor agrees now."""
        accepts = (jnp.arange(len(ROLES)) == state.actor)[:, None]
        share = jnp.where(accepts, state.pool - state.kept, state.kept)
        total = jnp.sum(share.astype(jnp.int32) * state.values, axis=1)
        # The agreement is turn number offers + 1; every turn from the third on is discounted.
        late = np.maximum(np.arange(self.max_turns + 1) - 1, 0)
        factor = ((self.discount_percent / 100) ** late).astype(np.float32)
        return total * jnp.asarray(factor)[state.offers]

    # ------------------------------------------------------------------ what is told to whom

    def _log(
        self, state: BargainingState, action: jax.Array, kept: jax.Array, out_of_turns: jax.Array, broken_off: jax.Array
    ) -> EventLog:
        """Logs an act; the other seat is shown an offer once it is complete."""
        actor, phase = state.actor, state.phase
        agrees, complete = action == AGREE, phase == BALLS
        nobody, both = jnp.uint16(0), jnp.uint16(3)
        other = audience_of(jnp.arange(len(ROLES)) != actor)
        item = jnp.asarray(ITEM_OF_PHASE)[phase]
        speaks = ((phase == OPEN) | (phase == ANSWER)) & (self.speech_tokens > 0)
        entries = [
            (event(KIND["utterance"], actor, value=state.step), other, speaks),
            (event(KIND["pick"], actor, item, action), nobody, ~agrees & ~complete),
            *((event(KIND["keep"], actor, index, kept[index]), other, complete) for index in range(len(ITEMS))),
            (event(KIND["agree"], actor), other, agrees),
            (event(KIND["out_of_turns"]), both, out_of_turns),
            (event(KIND["broken_off"]), both, broken_off),
        ]
        rows, audience, present = zip(*entries, strict=True)
        return state.log.append(jnp.stack(rows), jnp.stack(audience), jnp.stack(present))


def words() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Word tables of the templates."""
    return (*goods.words(), ("picker", tuple(f"\nPlayer {seat + 1} picks" for seat in range(len(ROLES)))))


@functools.cache
def instance_table(text: str) -> np.ndarray:
    """int8[instances, 3, 3]: pool, values of the first and of the second seat; all admissible ones for empty text.

    Raises:
      GameError: if the text is malformed or an instance breaks a rule.
    """
    found = list(goods.read_instances("bargaining-v0", text, FORM, EXAMPLE, _broken_rule) if text else _all_instances())
    return np.array(found, np.int8)


def _all_instances() -> Iterator[tuple[tuple[int, ...], ...]]:
    for pool in itertools.product(range(1, MOST_ITEMS + 1), repeat=len(ITEMS)):
        if not FEWEST_ITEMS <= sum(pool) <= MOST_ITEMS:
            continue
        values = [value for value in itertools.product(range(POOL_VALUE + 1), repeat=len(ITEMS))
                  if goods.total(pool, value) == POOL_VALUE]  # fmt: skip
        for first, second in itertools.product(values, repeat=2):
            if _broken_rule(pool, first, second) is None:
                yield pool, first, second


def _broken_rule(pool: tuple[int, ...], first: tuple[int, ...], second: tuple[int, ...]) -> str | None:
    """The rule for admissible instances that this one breaks, if any."""
    if not FEWEST_ITEMS <= sum(pool) <= MOST_ITEMS:
        return f"a pool holds {FEWEST_ITEMS} to {MOST_ITEMS} items"
    if min(pool) < 1:
        return "a pool holds at least one item of each type"
    if goods.total(pool, first) != POOL_VALUE or goods.total(pool, second) != POOL_VALUE:
        return f"the whole pool is worth {POOL_VALUE} to each seat"
    wanted = list(zip(first, second, strict=True))
    if not all(max(pair) > 0 for pair in wanted):
        return "every type of item is worth something to some seat"
    if not any(min(pair) > 0 for pair in wanted):
        return "some type of item is worth something to both seats"
    return None
