"""The conformity checks: every game passes them, and a game with any one fault does not."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from games.core import Game
from games.kuhn import BET, KIND, Kuhn, KuhnState
from games.registry import GAMES, make
from games.testing import NotConforming, check_game, check_hiding, check_spec, check_text
from tests.games.text import host

# Every game, small enough to be compiled and played in seconds.
SMALL: dict[str, dict[str, Any]] = {
    "werewolf-v0": {"num_seats": 5, "max_days": 2, "speech_tokens": 2},
    "kuhn-v0": {},
    "liars_dice-v0": {},
    "shopping-v0": {"max_steps": 8, "query_words": 1, "num_products": 20},
    "bargaining-v0": {"max_turns": 4, "instances": "1,2,3/8,1,0/4,0,2"},
    "avalon-v0": {"discussion_rounds": 1},
    "persuasion-v0": {"persuadee": "seat", "max_exchanges": 4},
    "negotiation-v0": {"instances": "4/1,2,3/8,1,0/4,0,2", "utterance_dim": 1},
    "social_deduction-v0": {"num_seats": 5, "num_impostors": 2, "max_rounds": 2, "speech_tokens": 2},
    "mystery-v0": {"num_seats": 3, "rounds": 1, "rooms": 4, "objects": 2, "motives": 2},
}


# Few games repeat what a seat was dealt; so many of them are played that some do.
EPISODES = {"mystery-v0": 1500}


def test_every_registered_game_is_checked():
    assert set(SMALL) == set(GAMES)


@pytest.mark.parametrize("name", SMALL)
def test_every_game_conforms(name: str):
    game = make(name, **SMALL[name])
    played = check_game(game, episodes=EPISODES.get(name, 100))
    assert check_hiding(game.spec, played) > 20  # seats were in positions that could be compared


@pytest.mark.parametrize("family", host.FAMILIES)
@pytest.mark.parametrize("name", SMALL)
def test_every_games_text_encodes_in_pieces(name: str, family: str):
    check_text(make(name, **SMALL[name]).spec, host.tokenizer_of(family))


# Kuhn poker with one fault at a time.


@dataclasses.dataclass(frozen=True)
class Faulty(Kuhn):
    """Kuhn poker whose results are changed on the way out."""

    after_step: Callable[..., Any] | None = None
    mask: Callable[..., Any] | None = None
    respecified: tuple[tuple[str, Any], ...] = ()

    @property
    def spec(self):
        return dataclasses.replace(Kuhn().spec, **dict(self.respecified))

    def step(self, state, action, key):
        after = super().step(state, action, key)
        return after if self.after_step is None else self.after_step(state, action, after)

    def legal_action_mask(self, state):
        return super().legal_action_mask(state) if self.mask is None else self.mask(state)


def steps(fault: Callable[..., KuhnState]) -> Callable[[], Game]:
    return functools.partial(Faulty, after_step=fault)


def specified(**changes: Any) -> Callable[[], Game]:
    return functools.partial(Faulty, respecified=tuple(changes.items()))


def _rewrites_the_past(state, action, after):
    rows = after.log.rows.at[0, 3].add(jnp.where(state.over, 0, 1).astype(jnp.int16))
    return dataclasses.replace(after, log=dataclasses.replace(after.log, rows=rows))


def _tells_a_card_behind_the_words(state, action, after):
    act = (after.log.rows[:, 0] == KIND["pass"]) | (after.log.rows[:, 0] == KIND["bet"])
    value = jnp.where(act, state.cards[jnp.maximum(after.log.rows[:, 1], 0)], after.log.rows[:, 3])
    return dataclasses.replace(after, log=dataclasses.replace(after.log, rows=after.log.rows.at[:, 3].set(value)))


FAULTS: dict[str, tuple[Callable[[], Game], str]] = {
    "type": (steps(lambda s, a, n: dataclasses.replace(n, step=n.step.astype(jnp.int32))), "shape or type"),
    "host": (
        steps(lambda s, a, n: dataclasses.replace(n, cards=jax.pure_callback(lambda c: c, n.cards, n.cards))),
        "calls the host",
    ),
    "not over": (specified(max_decisions=1), "not over after max_decisions = 1"),
    "actor": (steps(lambda s, a, n: dataclasses.replace(n, actor=jnp.maximum(n.actor, 0))), "actor must be -1"),
    "early outcome": (
        steps(lambda s, a, n: dataclasses.replace(n, outcome=jnp.where(n.over, n.outcome, 0.5))),
        "before the game is over",
    ),
    "large outcome": (steps(lambda s, a, n: dataclasses.replace(n, outcome=n.outcome * 3)), "outside"),
    "wakes": (
        steps(lambda s, a, n: dataclasses.replace(n, cards=jnp.where(s.over, n.cards[::-1], n.cards))),
        "after the end changes the state",
    ),
    "past": (steps(_rewrites_the_past), "rows that were in the log before"),
    "illegal": (
        lambda: Faulty(mask=lambda s: (jnp.arange(2) == 0) | s.over),
        "does not do what the lowest legal one does",
    ),
    "dead end": (lambda: Faulty(mask=lambda s: jnp.zeros((2,), bool) | s.over), "no action is legal"),
    "miscounts": (
        steps(lambda s, a, n: dataclasses.replace(n, step=jnp.where(n.over & ~s.over, n.step + jnp.int16(1), n.step))),
        "step is miscounted",
    ),
    "log": (specified(max_new_events=4), "more than max_new_events = 4"),
    "rows": (
        specified(visible_events=((("seat",), 1), (("card",), 1), (("pass", "bet"), 0))),
        "more than the 0 that the spec states",
    ),
    "unlisted": (specified(visible_events=((("seat",), 1), (("card",), 1))), "which visible_events leaves out"),
    "turns": (specified(turns=((("open",), 0), (("answer",), 1))), "replies in open"),
    "mask": (
        lambda: Faulty(mask=lambda s: jnp.stack([jnp.bool_(True), (s.cards[1 - s.actor] < 2) | s.over])),
        "lowest legal|differ in their legal actions",
    ),
    "fields": (steps(_tells_a_card_behind_the_words), "differ in their rows of the log|rows that were in the log"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str):
    faulty, sentence = FAULTS[fault]
    with pytest.raises(NotConforming, match=sentence):
        check_game(faulty(), episodes=60)


def test_a_leak_alone_is_found():
    """The two leaks above with nothing else wrong, so that hiding itself must find them."""

    class Peeking(Kuhn):
        """A king in the other's hand forbids to bet, and a bet that is forbidden is a pass."""

        def legal_action_mask(self, state):
            other = state.cards[1 - jnp.maximum(state.actor, 0)]
            return jnp.stack([jnp.bool_(True), (other < 2) | state.over])

        def step(self, state, action, key):
            allowed = self.legal_action_mask(state)[1]
            return super().step(state, jnp.where((action == BET) & allowed, action, 0), key)

    class Marked(Kuhn):
        """A card shows in a field that no template reads."""

        def step(self, state, action, key):
            after, new = super().step(state, action, key), state.log.size
            act = after.log.rows.at[new, 3].set(state.cards[state.actor].astype(jnp.int16))
            rows = jnp.where(state.over, after.log.rows, act)
            return dataclasses.replace(after, log=dataclasses.replace(after.log, rows=rows))

    with pytest.raises(NotConforming, match="differ in their legal actions"):
        check_game(Peeking(), episodes=60)
    with pytest.raises(NotConforming, match="differ in their rows of the log"):
        check_game(Marked(), episodes=60)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"action_labels": (" pass", " pass")}, "same label"),
        ({"action_labels": (" pass", "bet")}, "'bet' must begin"),
        ({"sides": ("first", "other")}, "is on the side 'second'"),
        ({"words": ()}, "word table"),
        ({"turns": ((("opening",), 1),)}, "turns names opening"),
        ({"visible_events": ((("cards",), 1),)}, "visible_events names cards"),
        ({"scripted_speech": ()}, "scripted_speech"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(changes: dict[str, Any], sentence: str):
    with pytest.raises(NotConforming, match=sentence):
        check_spec(dataclasses.replace(Kuhn().spec, **changes))


def test_words_that_merge_are_found():
    spec = dataclasses.replace(Kuhn().spec, action_labels=(" pass", " p"))
    check_text(spec, host.tokenizer_of("tiny"))
    # The tiny vocabulary holds "\nYou are" whole, so it must not be put together from two pieces.
    merging = tuple(dataclasses.replace(kind, template="\nYou{seat:actor}") if kind.name == "seat" else kind
                    for kind in spec.event_kinds)  # fmt: skip
    words = tuple((name, (" are", " are") if name == "seat" else table) for name, table in spec.words)
    with pytest.raises(NotConforming, match="otherwise in pieces"):
        check_text(dataclasses.replace(spec, event_kinds=merging, words=words), host.tokenizer_of("tiny"))
