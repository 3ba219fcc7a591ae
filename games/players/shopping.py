"""Scripted shopper: it knows what it has been shown, and the game's words for it, but not the catalogue.

The heuristic player searches the instruction's words, opens the affordable item whose title has most of them, sets the
options that are asked for, reads the features if the title leaves something open, and goes back if the item falls short
and there are steps left to look at another one.
"""

from __future__ import annotations

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np

from games.catalogue import COMMANDS
from games.core import GameSpec, SeatView
from games.shopping import BACK, BUY, FEATURES, KIND, NEXT, RUN, SEARCH, TO_SEARCH
from games.shopping import ITEM as LOOKING

NOT_AFFORDABLE, SEEN = 4.0, 100.0  # what an item's score loses
TURN_PAGE, SEARCH_AGAIN, LOOK_ON = 5, 7, 5  # decisions that must be left: then an item, two options and to buy
NOISE = 0.3  # scale of the Gumbel noise that varies the words of a search


@dataclasses.dataclass(frozen=True, eq=False)
class Words:
    """Which labels stand in which of the game's texts. W labels that are words, I instructions, L listings.

    Attributes:
      wanted: bool[I, W].
      cap: float32[I], highest price asked for.
      title: bool[L, W].
      price: float32[L].
      option: bool[., W].
      features: bool[., W].
      head: bool[W], words that end a title: what the thing is.
      first_item: the action that opens the first item of a page.
      first_command: the action of the first command.
      steps: decisions of a game.
    """

    wanted: np.ndarray
    cap: np.ndarray
    title: np.ndarray
    price: np.ndarray
    option: np.ndarray
    features: np.ndarray
    head: np.ndarray
    first_item: int
    first_command: int
    steps: int


@functools.cache
def words_of(spec: GameSpec) -> Words:
    """The tables of a game's static description."""
    first_command = spec.num_actions - len(COMMANDS)
    tables = dict(spec.words)
    first_item = first_command - len(tables["item"])
    labels = [_spaced(label) for label in spec.action_labels[:first_item]]

    def holds(name: str) -> np.ndarray:
        return np.array([[label in _spaced(text) for label in labels] for text in tables[name]])

    last = [re.findall(r"\d+(?:\.\d+)?", text)[-1:] for text in tables["instruction"]]
    return Words(
        wanted=holds("instruction"),
        cap=np.array([float(number[0]) if number else np.inf for number in last], np.float32),
        title=holds("title"),
        price=np.array([float(text) for text in tables["price"]], np.float32),
        option=holds("option"),
        features=holds("features"),
        head=np.array([any(_spaced(title).endswith(label) for title in tables["title"]) for label in labels]),
        first_item=first_item,
        first_command=first_command,
        steps=spec.max_decisions,
    )


def _spaced(text: str) -> str:
    """The words of a text, in lower case, with one space before and after each."""
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the action of a sensible shopper with what `view` shows."""
    words, seen = words_of(view.spec), Seen(view)
    on_results = _on_results(words, seen, view.legal)
    on_item = _on_item(words, seen, view.legal)
    on_search = _on_search(words, seen, view.legal, key)
    action = jnp.where(view.phase == SEARCH, on_search, jnp.where(view.phase == LOOKING, on_item, on_results))
    return jnp.where(view.legal[action], action, jnp.argmax(view.legal)).astype(jnp.int32)


class Seen:
    """What the shopper has read and done."""

    def __init__(self, view: SeatView):
        words = words_of(view.spec)
        rows = view.rows.astype(jnp.int32)
        self.kind, self.target, self.value = rows[:, 0], rows[:, 2], rows[:, 3]
        self.order = jnp.arange(self.kind.size)
        acts = self.kind == KIND["act"]
        self.left = words.steps - jnp.sum(acts)
        self.page_at = self._last(self.kind == KIND["page"])
        goal = self.value[self._last(self.kind == KIND["instruction"])]
        self.wanted, self.cap = jnp.asarray(words.wanted)[goal], jnp.asarray(words.cap)[goal]

        # Listings in places now, and those that have been opened: an act "item n" opens the latest item n shown.
        places = np.arange(words.first_command - words.first_item)[:, None]
        shown = (self.kind == KIND["item"]) & (self.value == places)
        latest = jax.lax.cummax(jnp.where(shown, self.order, -1), axis=1)
        opening = acts & (self.value == words.first_item + places)
        now = latest[:, -1]
        self.listed = jnp.where(now > self.page_at, self.target[now], -1)
        opened = jnp.where(opening, self.target[latest], -1)
        self.opened = jnp.max(opened, axis=0)  # int[M], -1 where the row opens nothing
        self.opened_at = self._last(self.opened >= 0)
        self.item = self.opened[self.opened_at]
        since = self.order > self.opened_at
        chosen = jnp.where(acts & since & (self.value < words.first_item), self.value, -1)
        self.chosen = jnp.any(chosen[:, None] == np.arange(words.first_item), axis=0)
        self.offered = self._any(jnp.asarray(words.option), (self.kind == KIND["option"]) & since)
        features = (self.kind == KIND["features"]) & since
        self.read, self.features = jnp.any(features), self._any(jnp.asarray(words.features), features)
        self.searches = jnp.sum(acts & (self.value == words.first_command + TO_SEARCH))
        sought = self._last(acts & (self.value == words.first_command + TO_SEARCH))
        picked = jnp.where(acts & (self.order > sought) & (self.value < words.first_item), self.value, -1)
        self.query = jnp.any(picked[:, None] == np.arange(words.first_item), axis=0)

    def _last(self, mask: jax.Array) -> jax.Array:
        return jnp.max(jnp.where(mask, self.order, -1))

    def _any(self, table: jax.Array, mask: jax.Array) -> jax.Array:
        """bool[W]: the words of the lines in the rows of `mask`."""
        return jnp.any(table[jnp.where(mask, self.value, 0)] & mask[:, None], axis=0)


def _on_search(words: Words, seen: Seen, legal: jax.Array, key: jax.Array) -> jax.Array:
    """What the thing is comes first, then other words of the instruction; later searches vary them more."""
    noise = NOISE * (1.0 + 4.0 * seen.searches) * jax.random.gumbel(key, seen.wanted.shape)
    attribute = jnp.asarray(words.title.any(axis=0) | words.features.any(axis=0))
    score = 100.0 * jnp.asarray(words.head) + 2.0 * attribute + noise
    possible = seen.wanted & legal[: words.first_item]
    word = jnp.argmax(jnp.where(possible, score, -jnp.inf))
    return jnp.where(jnp.any(possible), word, words.first_command + RUN)


def _on_results(words: Words, seen: Seen, legal: jax.Array) -> jax.Array:
    """The unseen affordable item whose title has most of the words; else the next page, else another search."""
    score, suits = offers(words, seen)
    best = jnp.argmax(score)
    promising = (score[best] > 0) & suits[best]
    can_turn = legal[words.first_command + NEXT] & (seen.left >= TURN_PAGE)
    turn = jnp.where(can_turn, NEXT, TO_SEARCH) + words.first_command
    moves_on = ~promising & (can_turn | (seen.left >= SEARCH_AGAIN))
    return jnp.where(moves_on, turn, words.first_item + best)


def offers(words: Words, seen: Seen) -> tuple[jax.Array, jax.Array]:
    """By place on the page of results: float32 how good it looks, bool whether it is affordable and the right thing."""
    listed = seen.listed
    title = jnp.asarray(words.title)[listed]
    matches = jnp.sum(title & seen.wanted, axis=1)
    head = jnp.any(title & seen.wanted & jnp.asarray(words.head), axis=1)
    affordable = jnp.asarray(words.price)[listed] <= seen.cap
    opened = jnp.any(listed[:, None] == jnp.where(seen.opened >= 0, seen.opened, -2), axis=1)
    score = matches + 2.0 * head - NOT_AFFORDABLE * ~affordable - SEEN * opened
    return jnp.where(listed >= 0, score, -jnp.inf), affordable & head


def _on_item(words: Words, seen: Seen, legal: jax.Array) -> jax.Array:
    """Chooses what is asked for and buys, unless something is missing and there is time to look on."""
    values = np.arange(words.first_item)
    asked, unknown = questions(words, seen)
    settable = asked & legal[: words.first_item] & ~seen.chosen
    lacks_option = jnp.any(unknown & asked)
    to_set = jnp.sum(settable)
    can_look_on = seen.left >= LOOK_ON
    can_read = ~seen.read & (seen.left >= to_set + 2)
    falls_short = lacks_option | (seen.read & jnp.any(unknown))
    command = jnp.where(
        falls_short & can_look_on, BACK, jnp.where(jnp.any(unknown & ~asked) & can_read & can_look_on, FEATURES, BUY)
    )
    choice = jnp.argmax(jnp.where(settable, -values, -words.first_item - 1))
    choose = (command == BUY) & (to_set > 0) & (seen.left > 1)
    return jnp.where(choose, choice, words.first_command + command)


def questions(words: Words, seen: Seen) -> tuple[jax.Array, jax.Array]:
    """Of the words that are wanted, bool[W]: which are options, and which the open item has not shown so far."""
    asked = jnp.any(jnp.asarray(words.option), axis=0) & seen.wanted  # options, as far as words tell
    title = jnp.asarray(words.title)[seen.item]
    return asked, seen.wanted & ~title & ~seen.offered & ~seen.features & ~jnp.asarray(words.head)
