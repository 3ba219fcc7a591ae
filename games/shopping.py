"""Shopping: find and buy what an instruction asks for. The rules are written out in docs/games/shopping.md."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from games import catalogue, core, webshop
from games.catalogue import TYPE_REWARD, Shop
from games.core import EventKind, EventLog, GameError, GameSpec, Phase, Role, State, check_ranges, event

SEARCH, RESULTS, ITEM, OVER = range(4)
RUN, NEXT, PREVIOUS, TO_SEARCH, BACK, FEATURES, BUY = range(7)  # commands, numbered from the first one's action on
MOST_ITEMS = 10

EVENT_KINDS = (
    EventKind("instruction", "{instruction:value}"),
    EventKind("act", "{line:actor}{label:value}"),
    EventKind("page", "\nPage{number:value} of{number:target}"),
    EventKind("item", "{item:value}{title:target} costs{price:target}"),
    EventKind("option", "{option:value}"),
    EventKind("features", "{features:value}"),
    EventKind("bought", "{bought:value}"),
    EventKind("points", "\nPoints:{number:value} of{number:target}"),
    EventKind("out_of_steps", "\nNothing is bought: the steps are over"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}
SHOWN = ("instruction", "page", "item", "option", "features")  # kinds that are shown before a decision


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ShoppingState(State):
    """The common fields and what the rules need to remember.

    Attributes:
      goal: int16[], what is asked for.
      query: bool[T], words picked for the search in the making.
      results: int16[pages * items], products found, best first, -1 where there are no more.
      page: int8[], page of the results that was shown last, from 0.
      item: int16[], product whose page is open, -1 for none.
      chosen: int16[O], word chosen for each of its options, -1 for none yet.
      read: bool[], its features have been read since it was opened.
    """

    goal: jax.Array
    query: jax.Array
    results: jax.Array
    page: jax.Array
    item: jax.Array
    chosen: jax.Array
    read: jax.Array


@dataclasses.dataclass(frozen=True)
class Shopping:
    """`shopping-v0`. Parameters and their allowed values: docs/games/shopping.md.

    Raises:
      GameError: if a parameter has a value that is not allowed, or a catalogue file cannot be used.
    """

    max_steps: int = 12
    query_words: int = 2
    items_per_page: int = 3
    pages: int = 2
    num_products: int = 200
    catalogue_seed: int = 0
    catalogue: str = ""
    attributes: str = ""
    instructions: str = ""
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        most = webshop.MOST_PRODUCTS if self.catalogue else catalogue.MOST_PRODUCTS
        check_ranges(
            "shopping-v0",
            self,
            max_steps=(4, 100),
            query_words=(1, 10),
            items_per_page=(1, MOST_ITEMS),
            pages=(1, 5),
            num_products=(1 if self.catalogue else catalogue.FEWEST_PRODUCTS, most),
            catalogue_seed=(0, 2**32 - 1),
            thought_tokens=(0, 4096),
        )
        if bool(self.catalogue) != bool(self.attributes):
            raise GameError("shopping-v0: catalogue and attributes are given together, for example catalogue="
                            "items_shuffle_1000.json,attributes=items_ins_v2_1000.json")  # fmt: skip
        if self.instructions and not self.catalogue:
            raise GameError("shopping-v0: instructions belong to a catalogue file; give catalogue and attributes too")
        shop_of(self)

    # ------------------------------------------------------------------ static facts

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        return _spec(self)

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> ShoppingState:
        """Draws a goal and opens the search page."""
        shop = shop_of(self)
        goal = jax.random.randint(key, (), 0, len(shop.goal_product)).astype(jnp.int16)
        row = event(KIND["instruction"], value=jnp.asarray(shop.instruction)[goal])
        log = EventLog.empty(self.spec.max_events).append(row[None], jnp.ones((1,), jnp.uint16), jnp.ones((1,), bool))
        return ShoppingState(
            phase=jnp.int8(SEARCH),
            actor=jnp.int8(0),
            step=jnp.int16(0),
            roles=jnp.zeros((1,), jnp.int8),
            outcome=jnp.zeros((1,), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=log,
            goal=goal,
            query=jnp.zeros((len(shop.weights),), bool),
            results=jnp.full((self.pages * self.items_per_page,), core.NO_ONE, jnp.int16),
            page=jnp.int8(0),
            item=jnp.int16(core.NO_ONE),
            chosen=jnp.full((shop.most_options,), core.NO_ONE, jnp.int16),
            read=jnp.bool_(False),
        )

    def legal_action_mask(self, state: ShoppingState) -> jax.Array:
        """bool[A] of the acting seat; all True once over."""
        shop = shop_of(self)
        searching, listing, looking = (state.phase == phase for phase in (SEARCH, RESULTS, ITEM))
        picks = jnp.pad(searching & ~state.query, (0, len(shop.labels) - len(shop.weights)))
        option = jnp.asarray(shop.option_of)[state.item].astype(jnp.int32)
        chosen = state.chosen[option] == jnp.arange(len(shop.labels))
        values = looking & (option >= 0) & ~chosen
        places = listing & (_on_page(self, state.results, state.page) >= 0)
        commands = [
            searching & jnp.any(state.query),
            listing & (state.page + 1 < _page_count(self, state.results)),
            listing & (state.page > 0),
            ~searching,
            looking,
            looking & ~state.read,
            looking,
        ]
        return jnp.concatenate([picks | values, places, jnp.stack(commands)]) | state.over

    def acting_mask(self, state: ShoppingState) -> jax.Array:
        """bool[N]: the only seat."""
        return ~state.over[None]

    def step(self, state: ShoppingState, action: jax.Array, key: jax.Array) -> ShoppingState:
        """Plays one pick on a page; nothing is left to chance."""
        shop = shop_of(self)
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int16)

        does = {index: action == self.first_command + index for index in range(len(catalogue.COMMANDS))}
        word = action < len(shop.labels)
        query = state.query | ((state.phase == SEARCH) & (jnp.arange(state.query.size) == action))
        runs = does[RUN] | ((state.phase == SEARCH) & (jnp.sum(query) >= self.query_words))
        results = jnp.where(runs, _found(self, query), state.results)
        turned = state.page + does[NEXT].astype(jnp.int8) - does[PREVIOUS].astype(jnp.int8)
        page = jnp.where(runs, 0, turned).astype(jnp.int8)
        opens = (state.phase == RESULTS) & (action < self.first_command)
        place = jnp.clip(action - len(shop.labels), 0, self.items_per_page - 1)
        item = jnp.where(opens, _on_page(self, results, page)[place], state.item)
        picked = jnp.asarray(shop.option_of)[state.item, jnp.minimum(action, len(shop.labels) - 1)]
        chooses = (state.phase == ITEM) & word & (jnp.arange(shop.most_options) == picked)
        chosen = jnp.where(opens, core.NO_ONE, jnp.where(chooses, action, state.chosen))
        lists = runs | does[NEXT] | does[PREVIOUS] | does[BACK]
        out_of_steps = ~does[BUY] & (state.step + 1 >= self.max_steps)
        over = does[BUY] | out_of_steps
        phase = jnp.where(lists, RESULTS, jnp.where(opens, ITEM, jnp.where(does[TO_SEARCH], SEARCH, state.phase)))
        likeness, points = _assess(shop, state)
        reward = jnp.asarray(TYPE_REWARD, jnp.float32)[likeness] * points / jnp.asarray(shop.goal_points)[state.goal]
        moved = dataclasses.replace(
            state,
            phase=jnp.where(over, OVER, phase).astype(jnp.int8),
            actor=jnp.where(over, core.NO_ONE, 0).astype(jnp.int8),
            step=state.step + jnp.int16(1),
            outcome=jnp.where(over, jnp.where(does[BUY], 2 * reward - 1, -1), 0).astype(jnp.float32)[None],
            terminated=over,
            query=query & ~lists & ~does[TO_SEARCH],
            results=results.astype(jnp.int16),
            page=page,
            item=jnp.where(phase == ITEM, item, core.NO_ONE).astype(jnp.int16),
            chosen=jnp.where(phase == ITEM, chosen, core.NO_ONE).astype(jnp.int16),
            read=(phase == ITEM) & ~opens & (state.read | does[FEATURES]),
        )
        log = self._log(state, moved, action, lists, opens, does, likeness, points)
        after = dataclasses.replace(moved, log=log)
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    @property
    def first_command(self) -> int:
        """The action of the first command; those before it are words and items of a page."""
        return len(shop_of(self).labels) + self.items_per_page

    # ------------------------------------------------------------------ what is shown

    def _log(
        self,
        state: ShoppingState,
        moved: ShoppingState,
        action: jax.Array,
        lists: jax.Array,
        opens: jax.Array,
        does: Mapping[int, jax.Array],
        likeness: jax.Array,
        points: jax.Array,
    ) -> EventLog:
        """Logs an act and the page that it leads to."""
        shop, bought = shop_of(self), does[BUY]
        found = _on_page(self, moved.results, moved.page)
        listing = jnp.asarray(shop.listing)[found]
        count = _page_count(self, moved.results)
        lines = jnp.asarray(shop.option_line)[moved.item]
        entries = [
            (event(KIND["act"], 0, value=action), True),
            (event(KIND["page"], target=count, value=moved.page + 1), lists),
            *((event(KIND["item"], target=listing[place], value=place), lists & (found[place] >= 0))
              for place in range(self.items_per_page)),
            *((event(KIND["option"], value=lines[option]), opens & (lines[option] >= 0))
              for option in range(shop.most_options)),
            (event(KIND["features"], value=jnp.asarray(shop.feature_line)[state.item]), does[FEATURES]),
            (event(KIND["bought"], value=likeness), bought),
            (event(KIND["points"], target=jnp.asarray(shop.goal_points)[state.goal], value=points), bought),
            (event(KIND["out_of_steps"]), moved.terminated & ~bought),
        ]  # fmt: skip
        rows, present = zip(*entries, strict=True)
        audience = np.array([0] + [1] * (len(rows) - 1), np.uint16)  # a seat is not shown its own act
        return state.log.append(jnp.stack(rows), jnp.asarray(audience), jnp.stack([jnp.asarray(p) for p in present]))


def _found(game: Shopping, query: jax.Array) -> jax.Array:
    """int[pages * items]: the products that hold a word of the query, best first; of equals the first one."""
    weights = shop_of(game).weights
    size = game.pages * game.items_per_page
    # Whole numbers up to 255 and sums below 2**24: exact on every accelerator, whatever its matrix precision.
    score = jnp.dot(query.astype(jnp.float32), jnp.asarray(weights, jnp.float32))
    best, product = jax.lax.top_k(score, min(size, weights.shape[1]))
    found = jnp.where(best > 0, product, core.NO_ONE)
    return jnp.pad(found, (0, size - found.size), constant_values=core.NO_ONE)


def _on_page(game: Shopping, results: jax.Array, page: jax.Array) -> jax.Array:
    """int[items]: the products of one page of results, -1 where there are no more."""
    return results.reshape(game.pages, game.items_per_page)[page]


def _page_count(game: Shopping, results: jax.Array) -> jax.Array:
    """int[]: pages that the results fill."""
    return jnp.sum(results.reshape(game.pages, game.items_per_page)[:, 0] >= 0)


def _assess(shop: Shop, state: ShoppingState) -> tuple[jax.Array, jax.Array]:
    """What buying the open product would earn: index into `TYPE_REWARD`, and points."""
    item, goal = state.item, state.goal
    likeness = jnp.asarray(shop.likeness)[jnp.asarray(shop.goal_product)[goal], item]
    attributes, wanted = jnp.asarray(shop.goal_attributes)[goal], jnp.asarray(shop.goal_options)[goal]
    has = (attributes >= 0) & jnp.asarray(shop.has)[attributes, item]
    comparison = jnp.asarray(shop.comparison)[item]
    met = jnp.asarray(shop.meets)[comparison[:, None], state.chosen[:, None], wanted]
    met = jnp.any(met & (state.chosen >= 0)[:, None], axis=0) & (wanted >= 0)
    affordable = jnp.asarray(shop.price)[item] <= jnp.asarray(shop.goal_cap)[goal]
    return likeness.astype(jnp.int32), jnp.sum(has) + jnp.sum(met) + affordable


@functools.cache
def shop_of(game: Shopping) -> Shop:
    """The tables of a variant's catalogue; a catalogue file is read once."""
    return lay_out(game.catalogue, game.attributes, game.instructions, game.num_products, game.catalogue_seed)


@functools.cache
def lay_out(items: str, attributes: str, instructions: str, num_products: int, seed: int) -> Shop:
    """The same, shared by all variants with this catalogue."""
    if items:
        return catalogue.lay_out(webshop.load(items, attributes, instructions, num_products, seed))
    return catalogue.lay_out(catalogue.generate(seed, num_products))


# ---------------------------------------------------------------------- the static description


@functools.cache
def _spec(game: Shopping) -> GameSpec:
    shop, steps = shop_of(game), game.max_steps
    most = {kind: longest_way(game, (kind,), steps - 1) for kind in SHOWN[1:]}
    page_rows = longest_way(game, ("item", "option", "features"), steps - 1)
    items = tuple(f" item {place + 1}" for place in range(game.items_per_page))
    labels = (*shop.labels, *items, *(f" {command}" for command in catalogue.COMMANDS))
    who = "You are the shopper"
    return GameSpec(
        name="shopping-v0",
        num_seats=1,
        roles=(Role("shopper", "shopper"),),
        sides=("shopper",),
        phases=(
            Phase("search", "\nPick a word or search", game.thought_tokens),
            Phase("results", "\nPick an item", game.thought_tokens),
            Phase("item", "\nChoose, read or buy", game.thought_tokens),
            Phase("over"),
        ),
        action_labels=labels,
        event_kinds=EVENT_KINDS,
        words=_words(game, labels),
        introduction=(_introduction(game), ""),
        role_texts=((f"{who}. Buy what comes nearest to what you are asked for.", who),),
        max_decisions=steps,
        max_events=1 + longest_way(game, ("act", "page", "item", "option", "features"), steps, ends=True),
        max_new_events=1 + max(1 + min(game.items_per_page, len(shop.price)), shop.most_options),
        scripted_speech=("",) * len(labels),
        visible_events=(
            (("instruction",), 1),
            (("page",), most["page"]),
            (("item", "option", "features"), page_rows),
        ),
        turns=((("search", "results", "item"), steps),),
        parameters=tuple(sorted(dataclasses.asdict(game).items())),
    )


def longest_way(game: Shopping, kinds: tuple[str, ...], steps: int, ends: bool = False) -> int:
    """Most rows of `kinds` that so many decisions can log, counting the end's own rows if `ends`."""
    shop = shop_of(game)
    items = min(game.items_per_page, len(shop.price))
    page = Counter(act=1, page=1, item=items)
    opened = Counter(act=1, option=int((shop.option_line >= 0).sum(axis=1).max()))
    act = Counter(act=1)
    last = min(game.query_words, len(shop.weights))  # words after which a search runs by itself
    ways = [(f"search {n}", f"search {n + 1}", act) for n in range(last - 1)]
    ways += [(f"search {n}", "results", page) for n in range(1, last)]
    ways += [(f"search {last - 1}", "results", page), ("results", "item", opened), ("results", "search 0", act)]
    ways += [("results", "results", page)] * (game.pages > 1)
    for place in ("item", "item read"):
        ways += [(place, "results", page), (place, "search 0", act)]
        ways += [(place, place, act)] * (opened["option"] > 0)
    ways.append(("item", "item read", act + Counter(features=1)))
    # Best counts of a way that ends at each place after so many decisions.
    best = {"search 0": 0}
    for step in range(steps):
        reached: Counter[str] = Counter()
        for start, end, rows in ways:
            if start in best:
                reached[end] = max(reached.get(end, 0), best[start] + sum(rows[kind] for kind in kinds))
        if ends and step == steps - 1:
            buys = max((best[place] + 3 for place in ("item", "item read") if place in best), default=0)
            return max(buys, 1 + max(reached.values()))
        best = dict(reached)
    return max(best.values())


def _words(game: Shopping, labels: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    shop = shop_of(game)
    numbers = max(int(shop.goal_points.max()), game.pages)
    return (
        ("instruction", shop.instructions),
        ("line", ("\nPlayer 1:",)),
        ("label", labels),
        ("number", tuple(f" {number}" for number in range(numbers + 1))),
        ("item", tuple(f"\nItem {place + 1}:" for place in range(game.items_per_page))),
        ("title", shop.titles),
        ("price", shop.prices),
        ("option", shop.option_lines),
        ("features", shop.feature_lines),
        ("bought", tuple(f"\nBought: {what}" for what in ("something else", "hardly the right kind",
                                                          "nearly the right kind", "the right kind"))),
    )  # fmt: skip


def _introduction(game: Shopping) -> str:
    return (
        "You shop for somebody who tells you what to buy. Pick up to "
        f"{game.query_words} words for a search, one by one; then the items found are shown, "
        f"{game.items_per_page} on a page. Look at an item to see its options, choose them, read its features if you "
        "like, and buy it. You get a point for each thing asked for that the bought item has, for each option that you "
        "chose as asked, and for a price that is not too high; something of another kind is worth nothing. After "
        f"{game.max_steps} steps without buying you get nothing. "
    )
