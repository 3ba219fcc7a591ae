"""Catalogues of the shopping game: products and goals, a generator of small ones, and the tables the game plays from.

All of this is made once on the host; nothing here depends on an episode.
"""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

CATEGORIES = ("shirt", "jacket", "scarf", "bag", "lamp", "chair", "table", "clock", "rug", "mug", "bowl", "box")
MATERIALS = ("cotton", "wool", "leather", "wooden", "steel", "glass")
ADJECTIVES = ("soft", "light", "sturdy", "washable", "foldable", "waterproof", "handmade", "thick", "slim", "striped",
              "round", "plain")  # fmt: skip
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "grey", "brown")
SIZES = ("small", "medium", "large")
FEWEST_PRODUCTS, MOST_PRODUCTS = 10, 800  # of a generated catalogue; there are 864 titles
GOALS_EACH = 8  # goals drawn for each product, fewer where some are the same
LOWEST_PRICE, HIGHEST_PRICE, MOST_ABOVE = 3, 17, 3  # dollars; a price cap is 1 to 3 dollars above the price

TYPE_REWARD = (0.0, 0.1, 0.5, 1.0)  # what a purchase's likeness to the product in mind leaves of its points
K1, B = 0.9, 0.4  # of BM25
HIGHEST_WEIGHT = 255  # weights are whole numbers that every accelerator's matrix unit multiplies exactly

COMMANDS = ("search", "next page", "previous page", "back to search", "back", "features", "buy")


@dataclasses.dataclass(frozen=True)
class Product:
    """What a shop has on offer.

    Attributes:
      title: its name, shown with the results of a search.
      price: in cents.
      features: what its page tells besides.
      attributes: what a goal's attributes are compared with.
      options: (name, values) of what a buyer chooses, no value in two of them.
      category: its kind, all that the type reward of a generated catalogue looks at.
      document: the words that a search looks through, each as often as it counts.
    """

    title: str
    price: int
    features: str
    attributes: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    category: str
    document: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a shopper is asked for.

    Attributes:
      text: the instruction.
      product: index of the product it was made from.
      attributes: wanted attributes, at least one.
      options: wanted values of options.
      cap: highest price in cents, `None` if any will do.
    """

    text: str
    product: int
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    cap: int | None


@dataclasses.dataclass(frozen=True, eq=False)
class Catalogue:
    """Products and goals, and what of them matches what. P products, G goals, W words.

    Attributes:
      products: all products.
      goals: all goals.
      search_words: words that a search may be made of.
      likeness: uint8[P, P], index into `TYPE_REWARD` for (product in mind, product bought).
      has: for each wanted attribute the products, bool[P], that have it.
      comparison: how the values of each option, by its name, are compared with wanted ones.
      meets: (comparison, chosen value, wanted value) wherever the choice is what was wanted.
    """

    products: tuple[Product, ...]
    goals: tuple[Goal, ...]
    search_words: tuple[str, ...]
    likeness: np.ndarray
    has: dict[str, np.ndarray]
    comparison: dict[str, str]
    meets: frozenset[tuple[str, str, str]]


class Draws:
    """Draws from `random.Random.random` alone, whose sequence Python promises to keep."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def below(self, bound: int) -> int:
        return int(self._random.random() * bound)

    def some(self, things: Sequence[str], count: int) -> tuple[str, ...]:
        """`count` different things in the order that `things` has them in."""
        left = list(range(len(things)))
        chosen = {left.pop(self.below(len(left))) for _ in range(count)}
        return tuple(things[index] for index in sorted(chosen))


def generate(seed: int, num_products: int) -> Catalogue:
    """A catalogue of the words above; the rules of its making are in docs/games/shopping.md."""
    draws = Draws(seed)
    titles: set[str] = set()
    products: list[Product] = []
    while len(products) < num_products:
        product = _draw_product(draws)
        if product.title not in titles:
            titles.add(product.title)
            products.append(product)
    goals: dict[str, Goal] = {}
    for index, product in enumerate(products):
        for _ in range(GOALS_EACH):
            goal = _draw_goal(draws, index, product)
            goals.setdefault(goal.text, goal)
    category = np.array([CATEGORIES.index(product.category) for product in products])
    used = {word for product in products for word in product.document}
    every = (*ADJECTIVES, *MATERIALS)
    values = (*COLOURS, *SIZES)
    return Catalogue(
        products=tuple(products),
        goals=tuple(goals.values()),
        search_words=tuple(word for word in (*CATEGORIES, *ADJECTIVES, *MATERIALS, *values) if word in used),
        likeness=np.where(category[:, None] == category, len(TYPE_REWARD) - 1, 0).astype(np.uint8),
        has={word: np.array([word in product.attributes for product in products]) for word in every},
        comparison={"Colour": "exact", "Size": "exact"},
        meets=frozenset(("exact", value, value) for value in values),
    )


def _draw_product(draws: Draws) -> Product:
    category = CATEGORIES[draws.below(len(CATEGORIES))]
    material = MATERIALS[draws.below(len(MATERIALS))]
    shown = ADJECTIVES[draws.below(len(ADJECTIVES))]
    hidden = draws.some([word for word in ADJECTIVES if word != shown], 2)
    options = [("Colour", draws.some(COLOURS, 2 + draws.below(2)))]
    if draws.below(2):
        options.append(("Size", draws.some(SIZES, 2 + draws.below(2))))
    price = LOWEST_PRICE + draws.below(HIGHEST_PRICE - LOWEST_PRICE + 1)
    chosen = tuple(value for _, values in options for value in values)
    return Product(
        title=f"{shown} {material} {category}",
        price=100 * price,
        features=" and ".join(hidden),
        attributes=(shown, material, *hidden),
        options=tuple(options),
        category=category,
        document=(shown, material, category, *hidden, *chosen),
    )


def _draw_goal(draws: Draws, index: int, product: Product) -> Goal:
    ordered = [word for word in (*ADJECTIVES, *MATERIALS) if word in product.attributes]
    attributes = draws.some(ordered, 2 + draws.below(2))
    options = tuple(values[draws.below(len(values))] for _, values in product.options)
    cap = product.price // 100 + 1 + draws.below(MOST_ABOVE)
    text = f"Buy: {' '.join(attributes)} {product.category} in {' and '.join(options)} for at most {cap}"
    return Goal(text, index, attributes, options, 100 * cap)


# ---------------------------------------------------------------------- search


def search_weights(catalogue: Catalogue) -> np.ndarray:
    """uint8[T, P]: what each search word adds to each product's score.

    BM25 in Lucene's form, scaled so that the highest weight is 255 and rounded, at least 1 where the word occurs.
    """
    counts = [Counter(product.document) for product in catalogue.products]
    lengths = [len(product.document) for product in catalogue.products]
    mean = sum(lengths) / len(lengths)
    found = Counter(word for count in counts for word in count)
    weights = np.zeros((len(catalogue.search_words), len(counts)))
    for row, word in enumerate(catalogue.search_words):
        rarity = math.log(1 + (len(counts) - found[word] + 0.5) / (found[word] + 0.5))
        for column, (count, length) in enumerate(zip(counts, lengths, strict=True)):
            if count[word]:
                weights[row, column] = rarity * count[word] / (count[word] + K1 * (1 - B + B * length / mean))
    scaled = np.maximum(np.rint(weights * (HIGHEST_WEIGHT / weights.max())), weights > 0)
    return scaled.astype(np.uint8)


# ---------------------------------------------------------------------- tables of the compiled game


@dataclasses.dataclass(frozen=True, eq=False)
class Shop:
    """A catalogue as tables. T search words, W labels that are words, P products, L listings, G goals, O options.

    Attributes:
      labels: the W words that are actions, search words first, each with its leading space.
      weights: uint8[T, P], see `search_weights`.
      price: int32[P], cents.
      listing: int16[P], what of a product the results show; the same for products that look the same.
      titles, prices: the words of each listing.
      option_of: int8[P, W], which of a product's options has this value, -1 for none.
      option_line: int16[P, O], index into `option_lines`, -1 for none.
      option_lines: what a product's page says of one option.
      feature_line: int16[P].
      feature_lines: what a product's page says of its features.
      likeness: uint8[P, P].
      instruction: int16[G], index into `instructions`.
      instructions: the wordings of goals.
      goal_product: int16[G].
      goal_cap: int32[G], cents.
      goal_points: int16[G], what its attributes, its options and the price can earn together.
      goal_attributes: int16[G, .], rows of `has`, -1 for none.
      has: bool[., P], which products have a wanted attribute.
      goal_options: int16[G, .], columns of `meets`, -1 for none.
      comparison: int16[P, O], first axis of `meets` for each of a product's options, -1 for none.
      meets: bool[., W, .], whether choosing a word is what was wanted.
    """

    labels: tuple[str, ...]
    weights: np.ndarray
    price: np.ndarray
    listing: np.ndarray
    titles: tuple[str, ...]
    prices: tuple[str, ...]
    option_of: np.ndarray
    option_line: np.ndarray
    option_lines: tuple[str, ...]
    feature_line: np.ndarray
    feature_lines: tuple[str, ...]
    likeness: np.ndarray
    instruction: np.ndarray
    instructions: tuple[str, ...]
    goal_product: np.ndarray
    goal_cap: np.ndarray
    goal_points: np.ndarray
    goal_attributes: np.ndarray
    has: np.ndarray
    goal_options: np.ndarray
    comparison: np.ndarray
    meets: np.ndarray

    @property
    def most_options(self) -> int:
        """O, the most options that a product has."""
        return self.option_line.shape[1]


NO_CAP = 2**31 - 1


def price_text(cents: int) -> str:
    """Dollars, with cents only where there are some."""
    return str(cents // 100) if cents % 100 == 0 else f"{cents / 100:.2f}"


def values_of(catalogue: Catalogue) -> list[str]:
    """Every value of every option, in the order of the products."""
    return list(dict.fromkeys(v for product in catalogue.products for _, values in product.options for v in values))


def lay_out(catalogue: Catalogue) -> Shop:
    """The tables of a catalogue."""
    products, goals = catalogue.products, catalogue.goals
    words = list(dict.fromkeys((*catalogue.search_words, *values_of(catalogue))))
    looks, listing = _numbered([(f" {p.title}", f" {price_text(p.price)}") for p in products])
    options = [[f"\n{name}: {' or '.join(values)}" for name, values in p.options] for p in products]
    option_lines, option_line = _numbered_rows(options)
    feature_lines, feature_line = _numbered([f"\nFeatures: {p.features}" for p in products])
    instructions, instruction = _numbered([f"\n{goal.text}" for goal in goals])
    ways, comparison = _numbered_rows([[catalogue.comparison[name] for name, _ in p.options] for p in products])
    attributes, goal_attributes = _numbered_rows([list(goal.attributes) for goal in goals])
    wanted, goal_options = _numbered_rows([list(goal.options) for goal in goals])
    place = {word: index for index, word in enumerate(words)}
    meets = np.zeros((max(1, len(ways)), len(words), max(1, len(wanted))), bool)
    for way, value, want in catalogue.meets:
        if way in ways and value in place and want in wanted:
            meets[ways.index(way), place[value], wanted.index(want)] = True
    option_of = np.full((len(products), len(words)), -1, np.int8)
    for index, product in enumerate(products):
        for number, (_, values) in enumerate(product.options):
            option_of[index, [place[value] for value in values]] = number
    return Shop(
        labels=tuple(f" {word}" for word in words),
        weights=search_weights(catalogue),
        price=np.array([p.price for p in products], np.int32),
        listing=listing,
        titles=tuple(title for title, _ in looks),
        prices=tuple(price for _, price in looks),
        option_of=option_of,
        option_line=option_line,
        option_lines=option_lines or ("\n",),  # a word table is never empty
        feature_line=feature_line,
        feature_lines=feature_lines,
        likeness=catalogue.likeness,
        instruction=instruction,
        instructions=instructions,
        goal_product=np.array([goal.product for goal in goals], np.int16),
        goal_cap=np.array([NO_CAP if goal.cap is None else goal.cap for goal in goals], np.int32),
        goal_points=np.array([len(goal.attributes) + len(goal.options) + 1 for goal in goals], np.int16),
        goal_attributes=goal_attributes,
        has=np.array([catalogue.has[attribute] for attribute in attributes], bool),
        goal_options=goal_options,
        comparison=comparison,
        meets=meets,
    )


def _numbered(texts: Sequence) -> tuple[tuple, np.ndarray]:
    """The different ones of `texts`, and for each text which of them it is."""
    different = list(dict.fromkeys(texts))
    place = {text: index for index, text in enumerate(different)}
    return tuple(different), np.array([place[text] for text in texts], np.int16)


def _numbered_rows(rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], np.ndarray]:
    """The same for rows of texts, padded with -1."""
    different, flat = _numbered([text for row in rows for text in row])
    table, start = np.full((len(rows), max(1, max(map(len, rows)))), -1, np.int16), 0
    for index, row in enumerate(rows):
        table[index, : len(row)] = flat[start : start + len(row)]
        start += len(row)
    return different, table


def words_of(text: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())
