"""Reads a catalogue from WebShop's product files. The fields it expects are listed in docs/games/shopping.md."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from games.catalogue import COMMANDS, GOALS_EACH, TYPE_REWARD, Catalogue, Draws, Goal, Product, price_text, words_of
from games.core import GameError

MOST_BYTES = 64 * 2**20
MOST_PRODUCTS = 1000
MOST_SEARCH_WORDS = 512
MOST_LABELS = 1024
MOST_GOALS = 20_000
MOST_OPTIONS = 8  # of one product
TITLE_LETTERS, TEXT_LETTERS, VALUE_LETTERS = 100, 300, 40
PRICE_WITHOUT_ONE = 10_000  # cents
CAP_STEP, HIGHEST_CAP, CAPS_ABOVE = 1000, 99_000, 4
ALIKE = 85  # a token set ratio above this is a match

# Words that say nothing of what a product is: left out where titles are compared.
STOP_WORDS = frozenset(
    ("a", "an", "and", "as", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "the", "to", "with", "your")
)

Record = dict[str, Any]


def load(items: str, attributes: str, instructions: str, num_products: int, seed: int) -> Catalogue:
    """A catalogue from WebShop's files.

    Args:
      items: path of the products, a list of objects.
      attributes: path of their attributes and synthetic instructions, an object by product.
      instructions: path of people's instructions, an object by product; empty for the synthetic ones.
      num_products: how many of the first products are used.
      seed: of the price caps and of the options that synthetic goals ask for.

    Raises:
      GameError: if a file cannot be read or lacks something, in one sentence.
    """
    known = _read_object(attributes, "attributes")
    people = _read_object(instructions, "instructions") if instructions else None
    records = _records(items, num_products)
    products = [_product(record, known.get(record["asin"], {}), items) for record in records]
    draws = Draws(seed)
    goals = list(_goals(products, records, known, people, draws))
    if not goals:
        source = instructions or attributes
        raise GameError(f"shopping-v0: no instruction in {source} is for one of the first {num_products} products of "
                        f"{items} and names attributes")  # fmt: skip
    if len(goals) > MOST_GOALS:
        raise GameError(f"shopping-v0: {items} gives {len(goals)} goals, more than {MOST_GOALS}; take fewer products, "
                        f"for example num_products={num_products // 2}")  # fmt: skip
    search_words = _search_words(products, records, goals)
    values = {value for product in products for _, values in product.options for value in values}
    labels = len(values | set(search_words))
    if labels > MOST_LABELS:
        raise GameError(f"shopping-v0: {items} has {labels} search words and option values, more than {MOST_LABELS}; "
                        f"take fewer products, for example num_products={num_products // 2}")  # fmt: skip
    names = {name for product in products for name, _ in product.options}
    return Catalogue(
        products=tuple(products),
        goals=tuple(goals),
        search_words=search_words,
        likeness=_likeness(records),
        has=_has(products, records, goals),
        comparison={name: "exact" if name == "size" else "alike" for name in names},
        meets=frozenset(_meets(products, goals)),
    )


# ---------------------------------------------------------------------- reading


def _read(path: str, what: str) -> Any:
    try:
        size = Path(path).stat().st_size
        if size > MOST_BYTES:
            raise GameError(f"shopping-v0: {what} file {path} has {size} bytes, more than {MOST_BYTES}; WebShop's "
                            "files of 1,000 products are smaller")  # fmt: skip
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise GameError(f"shopping-v0: {what} file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise GameError(f"shopping-v0: {what} file {path} is not JSON") from None


def _read_object(path: str, what: str) -> Record:
    found = _read(path, what)
    if not isinstance(found, dict):
        raise GameError(f"shopping-v0: {what} file {path} holds an object with the products' asin as keys, for example "
                        '{"B01": ...}, not a ' + type(found).__name__)  # fmt: skip
    return found


def _records(path: str, num_products: int) -> list[Record]:
    """The first products, without those that WebShop leaves out: no proper asin, or one that was there before."""
    found = _read(path, "catalogue")
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise GameError(f"shopping-v0: catalogue file {path} holds a list of objects, one for each product")
    records: dict[str, Record] = {}
    for number, record in enumerate(found[:num_products], start=1):
        for field in ("asin", "name", "pricing", "category", "query", "product_category", "full_description"):
            if not isinstance(record.get(field), str):
                raise GameError(f"shopping-v0: product number {number} of {path} has no {field}, which is text")
        if record["asin"] != "nan" and len(record["asin"]) <= 10:
            records.setdefault(record["asin"], record)
    if not records:
        raise GameError(f"shopping-v0: catalogue file {path} has no product")
    return list(records.values())


def plain(text: str, letters: int) -> str:
    """The printable ASCII of a text on one line, cut after a word."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = " ".join(re.sub(r"[^ -~]", " ", ascii_only).split())
    return words if len(words) <= letters else words[: letters + 1].rpartition(" ")[0] or words[:letters]


def _texts(record: Record, field: str) -> list[str]:
    found = record.get(field) or []
    return [text for text in (found if isinstance(found, list) else [found]) if isinstance(text, str)]


def _product(record: Record, known: Any, path: str) -> Product:
    name = f"{record['asin']} of {path}"
    title, bullets = plain(record["name"], TITLE_LETTERS), _texts(record, "small_description")
    if not title:
        raise GameError(f"shopping-v0: product {name} has an empty name")
    options = tuple(_options(record, name))
    first = bullets[0] if bullets else ""
    chosen = " ".join(f"{option} {' '.join(values)}" for option, values in options)
    return Product(
        title=title,
        price=_price(record["pricing"], name),
        features=plain("; ".join(filter(None, [*bullets, record["full_description"]])), TEXT_LETTERS) or "none",
        attributes=tuple(_texts(known, "attributes")) if isinstance(known, dict) else (),
        options=options,
        category=record["category"],
        document=tuple(words_of(" ".join([record["name"], record["full_description"], first, chosen]))),
    )


def _price(text: str, name: str) -> int:
    """Cents: of a range its middle, of nothing 100 dollars."""
    amounts = [re.sub(r"[^\d.]", "", part) for part in text.split("$")[1:]]
    try:
        prices = [float(amount) for amount in amounts[:2]]
    except ValueError:
        raise GameError(f"shopping-v0: product {name} has the price {text!r}; a price is written $12.50 or "
                        "$10.00 to $15.00") from None  # fmt: skip
    if text.strip() and not prices:
        raise GameError(f"shopping-v0: product {name} has the price {text!r}; a price is written $12.50")
    cents = round(100 * sum(prices) / len(prices)) if prices else PRICE_WITHOUT_ONE
    if cents > 10**8:
        raise GameError(f"shopping-v0: product {name} costs {text}, more than a million dollars")
    return cents


def _options(record: Record, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    found = record.get("customization_options") or {}
    if not isinstance(found, dict) or not all(isinstance(values, list | None) for values in found.values()):
        raise GameError(f"shopping-v0: customization_options of product {name} are lists of values by name")
    if len(found) > MOST_OPTIONS:
        raise GameError(f"shopping-v0: product {name} has {len(found)} options, more than {MOST_OPTIONS}")
    seen: set[str] = set()
    for option, contents in found.items():
        values = []
        for content in contents or []:
            if not isinstance(content, dict) or not isinstance(content.get("value"), str):
                raise GameError(f"shopping-v0: an option of product {name} has no value, which is text")
            value = plain(content["value"].strip().replace("/", " | ").lower(), VALUE_LETTERS)
            if value and value not in seen and value not in COMMANDS and not re.fullmatch(r"item \d+", value):
                seen.add(value)
                values.append(value)
        if values:
            yield plain(option.lower(), VALUE_LETTERS), tuple(values)


# ---------------------------------------------------------------------- goals


Request = tuple[str, tuple[str, ...], list[tuple[str, ...]]]  # words, attributes, choices of options


def _goals(
    products: list[Product], records: list[Record], known: Record, people: Record | None, draws: Draws
) -> Iterator[Goal]:
    """The goals of all products: people's instructions if there are some, else the synthetic ones."""
    for index, (product, record) in enumerate(zip(products, records, strict=True)):
        asin = record["asin"]
        requests = _synthetic(known.get(asin), product, draws) if people is None else _asked(people.get(asin))
        for text, attributes, choices in requests:
            for options in choices:
                cap = _cap(product.price, draws)
                named = [f"{name}: {value}" for (name, _), value in zip(product.options, options, strict=False)]
                parts = [text, *(["with " + ", and ".join(named)] if named and people is None else [])]
                words = plain(", ".join(parts), TEXT_LETTERS)
                if cap is not None:
                    words += f", and price lower than {price_text(cap)} dollars"
                yield Goal(words, index, attributes, options, cap)


def _synthetic(known: Any, product: Product, draws: Draws) -> Iterator[Request]:
    """A product's own instruction, with values drawn for all of its options."""
    for text, attributes, _ in _asked([known]):
        drawn = [tuple(values[draws.below(len(values))] for _, values in product.options) for _ in range(GOALS_EACH)]
        yield text, attributes, list(dict.fromkeys(drawn))


def _asked(requests: Any) -> Iterator[Request]:
    """Those of a list of instructions that name attributes; the others are passed over, as WebShop does."""
    for request in requests if isinstance(requests, list) else []:
        text = request.get("instruction") if isinstance(request, dict) else None
        attributes = tuple(_texts(request, "instruction_attributes")) if isinstance(text, str) else ()
        if isinstance(text, str) and attributes:
            chosen = request.get("instruction_options") or []
            values = list(chosen.values()) if isinstance(chosen, dict) else chosen
            yield text.strip(" ."), attributes, [tuple(_texts({"values": values}, "values"))]


def _cap(price: int, draws: Draws) -> int | None:
    """The larger of two of the next four multiples of 10 dollars, `None` if there are not two below 1,000."""
    above = [cap for cap in range(CAP_STEP, HIGHEST_CAP + 1, CAP_STEP) if cap > price][:CAPS_ABOVE]
    if len(above) < 2:
        return None
    return int(draws.some([str(cap).zfill(6) for cap in above], 2)[1])


def _search_words(products: list[Product], records: list[Record], goals: list[Goal]) -> tuple[str, ...]:
    """The words of goals that are in some product, those of the most goals if there are too many."""
    count: Counter[str] = Counter()
    for goal in goals:
        asked = [*goal.attributes, *goal.options, records[goal.product]["query"]]
        count.update({word for text in asked for word in words_of(text)})
    found = {word for product in products for word in product.document}
    words = [word for word in count if word in found and len(word) > 1 and word not in STOP_WORDS.union(COMMANDS)]
    if not words:
        raise GameError("shopping-v0: no word of an instruction's attributes, options or query is in any product")
    return tuple(sorted(sorted(words, key=lambda word: (-count[word], word))[:MOST_SEARCH_WORDS]))


# ---------------------------------------------------------------------- what matches what


def _likeness(records: list[Record]) -> np.ndarray:
    """uint8[P, P]: index into `TYPE_REWARD` of (product in mind, product bought)."""
    queries = [record["query"].lower().strip() for record in records]
    paths = [{part.strip() for part in record["product_category"].split("›")} for record in records]
    titles = [set(words_of(record["name"])) - STOP_WORDS for record in records]
    table = np.zeros((len(records), len(records)), np.uint8)
    for mind in range(len(records)):
        for bought in range(len(records)):
            shared = len(titles[mind] & titles[bought]) / len(titles[mind]) if titles[mind] else 0.2
            same = queries[mind] == queries[bought] or len(paths[mind] & paths[bought]) >= 2 or shared > 0.2
            reward = 0.0 if shared == 0 else 0.1 if shared < 0.1 else 1.0 if same else 0.5
            table[mind, bought] = TYPE_REWARD.index(reward)
    return table


def _has(products: list[Product], records: list[Record], goals: list[Goal]) -> dict[str, np.ndarray]:
    texts = [
        "\n".join([record["name"], " ".join(_texts(record, "small_description")), record["full_description"]]).lower()
        for record in records
    ]

    def holds(attribute: str, product: Product, text: str) -> bool:
        return attribute in text or any(token_set_ratio(own, attribute) > ALIKE for own in product.attributes)

    wanted = dict.fromkeys(attribute for goal in goals for attribute in goal.attributes)
    return {
        attribute: np.array([holds(attribute, *pair) for pair in zip(products, texts, strict=True)])
        for attribute in wanted
    }


def _meets(products: list[Product], goals: list[Goal]) -> Iterator[tuple[str, str, str]]:
    offered = {value for product in products for _, values in product.options for value in values}
    for wanted in {option for goal in goals for option in goal.options}:
        asked = plain(wanted.replace("/", " | ").lower(), VALUE_LETTERS)
        for value in offered:
            if value == asked:
                yield "exact", value, wanted
            if token_set_ratio(value, asked) > ALIKE:
                yield "alike", value, wanted


@functools.cache
def token_set_ratio(one: str, other: str) -> int:
    """How alike the sets of words of two texts are, 0 to 100, as `thefuzz` reckons it."""
    first, second = set(words_of(one)), set(words_of(other))
    if not first or not second:
        return 0
    both = first & second
    if both in (first, second):
        return 100
    left, right, shared = (" ".join(sorted(words)) for words in (first - both, second - both, both))
    gap = len(shared) + bool(shared)
    longer, shorter = gap + len(left), gap + len(right)
    distance = len(left) + len(right) - 2 * _longest_common_subsequence(left, right)
    ratios = [1 - distance / (longer + shorter)]
    if shared:
        ratios += [1 - (total - len(shared)) / (total + len(shared)) for total in (longer, shorter)]
    return round(100 * max(ratios))


def _longest_common_subsequence(one: str, other: str) -> int:
    """Its length; a bit of `row` is cleared where one more letter matches."""
    where: dict[str, int] = {}
    for index, letter in enumerate(one):
        where[letter] = where.get(letter, 0) | 1 << index
    every = (1 << len(one)) - 1
    row = every
    for letter in other:
        met = row & where.get(letter, 0)
        row = (row + met | row - met) & every
    return len(one) - row.bit_count()
