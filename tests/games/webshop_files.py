"""A small shop in the form of WebShop's product files, and its rules read a second time."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.games.shopping_referee import World


def product(
    asin: str, name: str, pricing: str, query: str, path: str, bullets: Any, options: Any, text: str = ""
) -> dict:
    return {
        "asin": asin, "name": name, "pricing": pricing, "category": "home", "query": query, "product_category": path,
        "small_description": bullets, "full_description": text,
        "customization_options": options and {key: values and [{"value": value, "image": None} for value in values]
                                              for key, values in options.items()},
        "images": ["none.jpg"],
    }  # fmt: skip


KITCHEN, LAMPS = "Home › Kitchen › Kettles", "Home › Lighting › Lamps"
ITEMS: list[dict[str, Any]] = [
    product("A1", "Brook Electric Kettle, 1.5 Litre, Cordless Fast Boil Jug for Office Kitchen Travel", "$34.99",
            "kettle", KITCHEN, ["Quiet boil", "Dishwasher safe lid"],
            {"Color": ["Matte Black", "Snow/White"], "Size": ["1.5 litre", "2 litre"]}),
    product("A2", "Fern Stovetop Kettle", "$20.00 to $30.00", "kettle", KITCHEN, "Stainless steel body",
            {"Color": ["black", "silver"]}, "A kettle for the stove. <b>Easy clean.</b>\nNo cord."),
    product("A3", "Heron Reading Lamp with Clamp", "$18.50", "lamp", LAMPS, ["Energy saving", "Bendable neck"],
            {"Color": ["white", "silver"], "Style": ["clamp", "foot"], "Old": None}),
    product("A4", "Otter Floor Lamp", "", "floor lamp", LAMPS, ["Energy-saving bulb", "Heavy foot"], None),
    product("A4", "The same asin again", "$1.00", "x", "X", [], None),
    product("A5", "Caf\u00e9 Tea Cup with Kettle Print", "$9.00", "cup", "Home › Table", ["Dishwasher safe"], {}),
    product("nan", "No proper asin", "$1.00", "x", "X", [], None),
    product("A6", "Electric Blanket, Warm Wool Heated Throw", "$995.00", "blanket", "Bedroom", [],
            {"Size": ["1.5 litre double", "double"]}),
]  # fmt: skip
ATTRIBUTES: dict[str, Any] = {
    "A1": {"attributes": ["dishwasher safe", "quiet"], "instruction": "Find me a quiet kettle.",
           "instruction_attributes": ["quiet", "dishwasher safe"]},
    "A2": {"attributes": ["stainless steel", "easy clean"], "instruction": "I want an easy clean kettle",
           "instruction_attributes": ["easy clean", "stainless steel"]},
    "A3": {"attributes": ["energy saving"], "instruction": "I look for an energy saving lamp",
           "instruction_attributes": ["energy saving"]},
    "A4": {"attributes": ["energy saving bulb"], "instruction": None, "instruction_attributes": None},
    "A6": {"attributes": [], "instruction": "I need a warm blanket", "instruction_attributes": ["safe"]},
}  # fmt: skip
PEOPLE: dict[str, Any] = {
    "A1": [{"instruction": "i need a quiet kettle that is dishwasher safe, in white.",
            "instruction_attributes": ["quiet", "dishwasher safe"], "instruction_options": ["snow/white", "1.5 litre"]},
           {"instruction": "passed over", "instruction_attributes": [], "instruction_options": []}],
    "A3": [{"instruction": "an energy saving lamp", "instruction_attributes": ["energy saving"],
            "instruction_options": {"color": "silver"}}],
    "A6": [{"instruction": "a blanket, safe", "instruction_attributes": ["safe"], "instruction_options": []}],
}  # fmt: skip


def write(folder: Path) -> dict[str, str]:
    """Writes the files; returns the parameters that name them."""
    files = {"catalogue": ITEMS, "attributes": ATTRIBUTES, "instructions": PEOPLE}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return {name: str(folder / f"{name}.json") for name in files}


PRICES = {"A1": "34.99", "A2": "25", "A3": "18.50", "A4": "100", "A5": "9", "A6": "995"}
# What buying a product (column, A1 to A6) is worth to one who has another in mind (row): by hand from the page's rule.
LIKENESS = {
    "A1": [1.0, 0.1, 0.0, 0.0, 0.1, 0.1],  # one of thirteen words in common, whatever the query
    "A3": [0.0, 0.0, 1.0, 1.0, 0.0, 0.0],
    "A6": [0.5, 0.0, 0.0, 0.0, 0.0, 1.0],  # one of six words in common
}
# The products, by index, that have an attribute: by hand.
HAVING = {"quiet": {0}, "dishwasher safe": {0, 4}, "energy saving": {2, 3}, "safe": {0, 4}}


def meets(name: str, value: str, wanted: str) -> bool:
    """Whether a choice is what was wanted; among these values, alike is that the words of one are all in the other."""
    one, other = (set(re.findall("[a-z0-9]+", text)) for text in (value, wanted))
    return value == wanted if name == "size" else one <= other or other <= one


def people_world(search_words: tuple[str, ...], instructions: tuple[str, ...]) -> World:
    """The shop with people's instructions as the referee wants it; the caps are read from the instructions."""
    kept = [ITEMS[index] for index in (0, 1, 2, 3, 5, 7)]
    products = []
    for item in kept:
        bullets = item["small_description"]
        bullets = [bullets] if isinstance(bullets, str) else bullets
        options = {
            name.lower(): [each["value"].replace("/", " | ").lower() for each in values]
            for name, values in (item["customization_options"] or {}).items()
            if values
        }
        title = item["name"].replace("\u00e9", "e")
        features = " ".join("; ".join(text for text in (*bullets, item["full_description"]) if text).split())
        named = [word for name, values in options.items() for word in (name, *values)]
        document = " ".join([item["name"], item["full_description"], *bullets[:1], *named]).lower()
        products.append({"title": title, "price": PRICES[item["asin"]], "features": features or "none",
                         "options": options, "document": re.findall("[a-z0-9]+", document),
                         "asin": item["asin"]})  # fmt: skip
    goals = {}
    for instruction in instructions:
        asin = next(asin for asin, asked in PEOPLE.items()
                    if any(instruction.startswith(each["instruction"].strip(".")) for each in asked))  # fmt: skip
        request = PEOPLE[asin][0]
        wanted = request["instruction_options"]
        wanted = [value.replace("/", " | ") for value in (wanted.values() if isinstance(wanted, dict) else wanted)]
        cap = re.search(r"lower than (\d+) dollars$", instruction)
        goals[instruction] = {"asin": asin, "attributes": request["instruction_attributes"], "options": wanted,
                              "cap": float(cap[1]) if cap else float("inf")}  # fmt: skip

    def judge(goal: Mapping[str, Any], bought: Mapping[str, Any], chosen: Mapping[str, str]) -> tuple[float, int]:
        index = [each["asin"] for each in products].index(bought["asin"])
        points = sum(1 for attribute in goal["attributes"] if index in HAVING[attribute])
        points += sum(any(meets(name, value, option) for name, value in chosen.items()) for option in goal["options"])
        points += float(bought["price"]) <= goal["cap"]
        return LIKENESS[goal["asin"]][index], points

    return World(products, goals, search_words, judge, lambda goal: len(goal["attributes"]) + len(goal["options"]) + 1)
