"""A second, slow reading of the shopping rules, and the replay that judges recorded games by it.

Written from `docs/games/shopping.md` alone, in plain Python. It is given a world (what there is to buy and to be asked
for, as plain data), searches it with dictionaries and speaks in lines of text, where the compiled game has tables.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

COMMANDS = ("search", "next page", "previous page", "back to search", "back", "features", "buy")
LIKENESS = {0.0: "something else", 0.1: "hardly the right kind", 0.5: "nearly the right kind", 1.0: "the right kind"}

# (goal, product, chosen values by option) -> (type reward, points)
Judge = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, str]], tuple[float, int]]


@dataclasses.dataclass(frozen=True)
class World:
    """Plain data.

    Attributes:
      products: with title, price (dollars as text), features, options (values by name) and document (words).
      goals: by instruction, with whatever the judge needs.
      vocabulary: the words of a search, in the order of their actions.
      judge: what a purchase earns.
      total: a goal -> the most points there are.
    """

    products: Sequence[Mapping[str, Any]]
    goals: Mapping[str, Mapping[str, Any]]
    vocabulary: Sequence[str]
    judge: Judge
    total: Callable[[Mapping[str, Any]], int]


def generated_judge(
    goal: Mapping[str, Any], product: Mapping[str, Any], chosen: Mapping[str, str]
) -> tuple[float, int]:
    """The reward in a generated catalogue, where everything is compared word by word."""
    points = sum(1 for attribute in goal["attributes"] if attribute in product["attributes"])
    points += sum(1 for option in goal["options"] if option in chosen.values())
    points += float(product["price"]) <= goal["cap"]
    return (1.0 if product["category"] == goal["category"] else 0.0), points


class Engine:
    """The search: BM25 in whole numbers."""

    def __init__(self, world: World):
        documents = [Counter(product["document"]) for product in world.products]
        sizes = [len(product["document"]) for product in world.products]
        mean = sum(sizes) / len(sizes)
        exact: dict[tuple[str, int], float] = {}
        for word in world.vocabulary:
            having = sum(1 for document in documents if document[word])
            rarity = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
            for index, document in enumerate(documents):
                if document[word]:
                    norm = 0.9 * (1 - 0.4 + 0.4 * sizes[index] / mean)
                    exact[word, index] = rarity * document[word] / (document[word] + norm)
        highest = max(exact.values())
        self.weight = {place: max(1, round(value * (255 / highest))) for place, value in exact.items()}
        self.count = len(documents)

    def find(self, query: Sequence[str]) -> list[int]:
        scores = {index: sum(self.weight.get((word, index), 0) for word in query) for index in range(self.count)}
        found = [index for index in scores if scores[index] > 0]
        return sorted(found, key=lambda index: (-scores[index], index))


class Referee:
    """One game: the page that is open, and what has been shown."""

    def __init__(self, world: World, engine: Engine, parameters: Mapping[str, int], instruction: str):
        self.world, self.engine, self.parameters = world, engine, parameters
        self.goal = world.goals[instruction]
        self.shown, self.hidden = [instruction], []
        self.steps, self.page = 0, "search"
        self.query: list[str] = []
        self.found: list[int] = []
        self.number, self.product = 0, -1
        self.chosen: dict[str, str] = {}
        self.has_read = False
        self.outcome: float | None = None
        values = [value for product in world.products for each in product["options"].values() for value in each]
        words = list(dict.fromkeys([*world.vocabulary, *values]))
        places = [f"item {place + 1}" for place in range(parameters["items_per_page"])]
        self.labels = [*words, *places, *COMMANDS]

    def pages(self) -> int:
        return min(self.parameters["pages"], math.ceil(len(self.found) / self.parameters["items_per_page"]))

    def on_page(self) -> list[int]:
        first = self.number * self.parameters["items_per_page"]
        return self.found[first : first + self.parameters["items_per_page"]]

    def options(self) -> Mapping[str, Sequence[str]]:
        return self.world.products[self.product]["options"]

    def legal(self) -> set[str]:
        if self.outcome is not None:
            return set(self.labels)
        if self.page == "search":
            return {word for word in self.world.vocabulary if word not in self.query} | (
                {"search"} if self.query else set()
            )
        if self.page == "results":
            allowed = {f"item {place + 1}" for place in range(len(self.on_page()))} | {"back to search"}
            if self.number + 1 < self.pages():
                allowed.add("next page")
            if self.number > 0:
                allowed.add("previous page")
            return allowed
        allowed = {"back", "back to search", "buy"} | ({"features"} if not self.has_read else set())
        for name, values in self.options().items():
            allowed |= {value for value in values if self.chosen.get(name) != value}
        return allowed

    def play(self, label: str) -> None:
        if self.outcome is not None:
            return
        self.hidden.append(f"Player 1: {label}")
        self.steps += 1
        if label == "buy":
            factor, points = self.world.judge(self.goal, self.world.products[self.product], self.chosen)
            total = self.world.total(self.goal)
            self.shown += [f"Bought: {LIKENESS[factor]}", f"Points: {points} of {total}"]
            self.outcome = 2 * factor * points / total - 1
        elif label == "back to search":
            self.page = "search"
        elif label == "features":
            self.has_read = True
            self.shown.append(f"Features: {self.world.products[self.product]['features']}")
        elif label in ("next page", "previous page", "back"):
            self.number += {"next page": 1, "previous page": -1, "back": 0}[label]
            self.list_page()
        elif self.page == "search":
            self.search(label)
        elif self.page == "results":
            self.open(self.on_page()[int(label.removeprefix("item ")) - 1])
        else:
            name = next(name for name, values in self.options().items() if label in values)
            self.chosen[name] = label
        if self.outcome is None and self.steps == self.parameters["max_steps"]:
            self.shown.append("Nothing is bought: the steps are over")
            self.outcome = -1.0
        if self.outcome is not None:
            self.page = "over"

    def search(self, label: str) -> None:
        if label != "search":
            self.query.append(label)
        if label == "search" or len(self.query) == self.parameters["query_words"]:
            most = self.parameters["pages"] * self.parameters["items_per_page"]
            self.found, self.number, self.query = self.engine.find(self.query)[:most], 0, []
            self.list_page()

    def list_page(self) -> None:
        self.page = "results"
        self.shown.append(f"Page {self.number + 1} of {self.pages()}")
        for place, index in enumerate(self.on_page()):
            product = self.world.products[index]
            self.shown.append(f"Item {place + 1}: {product['title']} costs {product['price']}")

    def open(self, product: int) -> None:
        self.page, self.product, self.chosen, self.has_read = "item", product, {}, False
        self.shown += [f"{name}: {' or '.join(values)}" for name, values in self.options().items()]


PAGES = ("search", "results", "item", "over")


def replay(world: World, engine: Engine, parameters: Mapping[str, int], record: Mapping[str, Any]) -> Referee:
    """Plays a record again and compares everything at every step.

    Args:
      world: what there is.
      engine: its search.
      parameters: the game's.
      record: for each step phase, actor, legal, acting, over, outcome, action and the number of log rows, and in
        `lines` the final log as (text, whether the seat is shown it).
    """
    referee = Referee(world, engine, parameters, record["lines"][0][0])
    for time, action in enumerate(record["action"]):
        legal = [index for index, label in enumerate(referee.labels) if label in referee.legal()]
        over = referee.outcome is not None
        assert record["legal"][time] == legal, (time, referee.page)
        assert record["phase"][time] == PAGES.index(referee.page)
        assert record["actor"][time] == (-1 if over else 0)
        assert record["acting"][time] == [not over]
        assert record["terminated"][time] == over and not record["truncated"][time]
        assert abs(record["outcome"][time] - (referee.outcome or 0.0)) < 1e-6
        assert record["step"][time] == referee.steps
        so_far = record["lines"][: record["size"][time]]
        assert [text for text, seen in so_far if seen] == referee.shown
        assert [text for text, seen in so_far if not seen] == referee.hidden
        chosen = action if action in legal else legal[0]
        referee.play(referee.labels[chosen])
    assert referee.outcome is not None
    return referee
