"""The compiled shop against the referee, its bounds, its catalogues, and how its players fare."""

import dataclasses
import functools
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from games import catalogue, webshop
from games.catalogue import ADJECTIVES, CATEGORIES, COLOURS, COMMANDS, MATERIALS, SIZES, generate, search_weights
from games.core import GameError, SeatView
from games.players.scripted import random_legal
from games.players.shopping import heuristic
from games.shopping import KIND, Shopping, shop_of
from games.testing import QUICKLY, Played, check_bounds, check_play, play
from games.text.lexicon import build_lexicon
from games.text.transcript import event_text
from maro_jax.policy.tokenizer import tiny_tokenizer
from tests.games import webshop_files
from tests.games.shopping_referee import Engine, World, generated_judge, replay

GAMES = 500
OTHERS: list[dict[str, Any]] = [
    {"query_words": 1, "items_per_page": 1, "pages": 5, "num_products": 10, "max_steps": 4},
    {"query_words": 3, "items_per_page": 10, "pages": 1, "num_products": 800, "catalogue_seed": 3, "max_steps": 15},
    {"query_words": 10, "items_per_page": 4, "pages": 3, "num_products": 40, "catalogue_seed": 4, "max_steps": 30},
]


def mixed(view: SeatView, key: jax.Array) -> jax.Array:
    """Sensible in three decisions of four, so that all pages and purchases are met."""
    return jnp.where(jax.random.uniform(key) < 0.75, heuristic(view, key), random_legal(view, key))


@functools.cache
def played(game: Shopping, player: Any = mixed, count: int = GAMES, seed: int = 0) -> Played:
    return play(game, count, seed, player)


def generated_world(game: Shopping) -> World:
    """The catalogue of a variant as plain data."""
    made = generate(game.catalogue_seed, game.num_products)
    products = [
        dataclasses.asdict(p) | {"options": dict(p.options), "price": str(p.price // 100)} for p in made.products
    ]
    goals = {
        goal.text: {"attributes": goal.attributes, "options": goal.options, "cap": goal.cap / 100,
                    "category": made.products[goal.product].category}
        for goal in made.goals if goal.cap is not None
    }  # fmt: skip
    total = lambda goal: len(goal["attributes"]) + len(goal["options"]) + 1  # noqa: E731
    return World(products, goals, made.search_words, generated_judge, total)


def judge_all(game: Shopping, world: World, games: Played) -> Counter[str]:
    """Has the referee replay all games; returns how often each line, without its numbers, was shown."""
    engine, lines, spec = Engine(world), Counter[str](), game.spec
    parameters = {name: getattr(game, name) for name in ("max_steps", "query_words", "items_per_page", "pages")}
    text = functools.cache(lambda row: event_text(spec, row))
    for episode in range(len(games.action)):
        rows = games.rows[episode, : games.size[episode, -1]].tolist()
        audience = games.audience[episode].tolist()
        timed = ("phase", "actor", "step", "terminated", "truncated", "action", "size", "acting")
        record = {name: getattr(games, name)[episode].tolist() for name in timed}
        record["legal"] = [np.flatnonzero(mask).tolist() for mask in games.legal[episode]]
        record["outcome"] = games.outcome[episode, :, 0].tolist()
        record["lines"] = [(text(tuple(row)), bool(seen)) for row, seen in zip(rows, audience, strict=False)]
        referee = replay(world, engine, parameters, record)
        lines.update(line.split(":")[0] for line in referee.shown)
        lines.update(line for line in referee.shown if line.startswith("Bought"))
        lines.update(label.split(": ")[1] for label in referee.hidden)
    return lines


def test_the_referee_agrees_with_every_step():
    game = Shopping()
    lines = judge_all(game, generated_world(game), played(game))
    assert all(lines[command] for command in COMMANDS)
    assert lines["Features"] and lines["Colour"] and lines["Size"] and lines["Points"]
    assert lines["Bought: the right kind"] and lines["Bought: something else"]
    assert lines["Nothing is bought"]


@functools.cache
def webshop_folder() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp())


@functools.cache
def webshop_game(people: bool = True) -> Shopping:
    files = webshop_files.write(webshop_folder())
    if not people:
        del files["instructions"]
    return Shopping(**files, query_words=2, items_per_page=2, pages=3, max_steps=9)


def test_the_referee_agrees_on_a_shop_in_webshops_form():
    game = webshop_game()
    shop = shop_of(game)
    instructions = tuple(text.removeprefix("\n") for text in shop.instructions)
    words = tuple(label.strip() for label in shop.labels[: len(shop.weights)])
    lines = judge_all(game, webshop_files.people_world(words, instructions), played(game, count=400))
    for what in ("the right kind", "nearly the right kind", "hardly the right kind", "something else"):
        assert lines[f"Bought: {what}"], what


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [{}, *OTHERS])
@pytest.mark.parametrize("player", [random_legal, mixed])
def test_the_referee_agrees_with_ten_thousand_games(parameters: dict[str, Any], player: Any):
    game = Shopping(**parameters)
    world = generated_world(game)
    for seed in range(5):
        games = played(game, player, 1000, 10 + seed)
        check_play(game.spec, games)
        check_bounds(game.spec, games)
        judge_all(game, world, games)


# Search.


@pytest.mark.parametrize("seed", range(3))
def test_weights_survive_the_lowest_precision_of_a_matrix_unit(seed: int):
    weights = search_weights(generate(seed, 60))
    assert weights.max() == 255
    assert np.array_equal(weights.astype(ml_dtypes.bfloat16).astype(np.float32), weights)


def test_every_search_word_is_in_a_product():
    assert (shop_of(Shopping()).weights.max(axis=1) > 0).all()


# Catalogues.


@pytest.mark.parametrize(("seed", "count"), [(0, 10), (1, 100), (2, 800)])
def test_a_generated_catalogue_keeps_to_its_rules(seed: int, count: int):
    made = generate(seed, count)
    assert len({product.title for product in made.products}) == len(made.products) == count
    for product in made.products:
        shown, material, category = product.title.split()
        hidden = product.features.split(" and ")
        assert (material in MATERIALS, category in CATEGORIES, product.category) == (True, True, category)
        assert len({shown, *hidden}) == 3 and {shown, *hidden} <= set(ADJECTIVES)
        assert set(product.attributes) == {shown, material, *hidden}
        assert product.price in range(300, 1701, 100)
        for (name, values), every, expected in zip(product.options, (COLOURS, SIZES), ("Colour", "Size"), strict=False):
            assert name == expected and len(set(values)) == len(values) in (2, 3) and set(values) <= set(every)
    assert len({goal.text for goal in made.goals}) == len(made.goals) <= 8 * count
    for goal in made.goals:
        product = made.products[goal.product]
        assert len(set(goal.attributes)) in (2, 3) and set(goal.attributes) <= set(product.attributes)
        assert len(goal.options) == len(product.options)
        assert all(value in values for value, (_, values) in zip(goal.options, product.options, strict=True))
        assert goal.cap is not None and 100 <= goal.cap - product.price <= 300
        words = " ".join([*goal.attributes, product.category])
        assert goal.text == f"Buy: {words} in {' and '.join(goal.options)} for at most {goal.cap // 100}"


def test_a_catalogue_depends_on_its_seed_alone():
    assert generate(5, 30).products == generate(5, 30).products != generate(6, 30).products
    assert generate(5, 30).products == generate(5, 60).products[:30]
    # The first products of the default catalogue; a change of these is a change of the game.
    assert [product.title for product in generate(0, 10).products[:2]] == [
        "waterproof steel bowl",
        "washable wooden bowl",
    ]


def test_goals_are_drawn_with_equal_chances():
    game = Shopping(num_products=10)
    count = len(shop_of(game).goal_product)
    keys = jax.random.split(jax.random.key(1), 200 * count)
    goals = jax.jit(jax.vmap(lambda key: game.init(key).goal), compiler_options=QUICKLY)(keys)
    found = np.bincount(goals, minlength=count)
    assert len(found) == count
    assert ((found - 200) ** 2 / 200).sum() < count + 4 * np.sqrt(2 * count)


def test_products_that_look_the_same_are_not_told_apart(tmp_path: Path):
    twins = [webshop_files.product(asin, "Twin Lamp", "$5.00", "lamp", "x", [], {"Color": values})
             for asin, values in (("T1", ["red"]), ("T2", ["blue"]))]  # fmt: skip
    asked = {"attributes": ["x"], "instruction": "a lamp", "instruction_attributes": ["x"]}
    (tmp_path / "items.json").write_text(json.dumps(twins))
    (tmp_path / "attributes.json").write_text(json.dumps({"T1": asked}))
    game = Shopping(catalogue=str(tmp_path / "items.json"), attributes=str(tmp_path / "attributes.json"))
    assert shop_of(game).listing.tolist() == [0, 0]


def test_webshops_files_are_read_as_the_page_says():
    shop = shop_of(webshop_game())
    assert shop.price.tolist() == [3499, 2500, 1850, 10000, 900, 99500]
    assert shop.titles[4:] == (" Cafe Tea Cup with Kettle Print", " Electric Blanket, Warm Wool Heated Throw")
    assert (
        shop.feature_lines[1] == "\nFeatures: Stainless steel body; A kettle for the stove. <b>Easy clean.</b> No cord."
    )
    assert shop.feature_lines[5] == "\nFeatures: none"
    assert "\ncolor: matte black or snow | white" in shop.option_lines
    assert [int(cap) for cap in shop.goal_cap if cap != catalogue.NO_CAP] == [
        1000 * int(text.split("lower than ")[1].split("0 ")[0]) for text in shop.instructions if "lower" in text
    ]
    assert shop.instructions[2] == "\na blanket, safe"  # nothing below 1,000 dollars is above its price
    assert len(shop.goal_product) == 3
    words = {label.strip() for label in shop.labels[: len(shop.weights)]}
    assert {"quiet", "dishwasher", "safe", "kettle", "lamp"} <= words
    assert not {"warm", "i", "a"} & words


def test_synthetic_goals_ask_for_a_value_of_every_option():
    shop = shop_of(webshop_game(people=False))
    kettles = [text for text in shop.instructions if text.startswith("\nFind me a quiet kettle, with color: ")]
    assert kettles and all(", and size: " in text for text in kettles)
    # At most 2 x 2, 2 and 2 x 2 choices, one price cap each; the blanket has two sizes and no cap.
    assert len(shop.goal_product) == len(set(shop.instructions)) <= 4 + 2 + 4 + 2
    assert sum("price lower" not in text for text in shop.instructions) == 2


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        ("red", "Red!", 100),
        ("dark red", "red", 100),
        ("", "red", 0),
        ("abcd", "abxd", 75),  # three of four letters in order: 2 * 3 / 8
        ("machine wash", "machine washable", 86),  # "machine wash" of "machine washable": 2 * 12 / 28
        ("red", "blue", 29),  # 2 * 1 / 7
    ],
)
def test_the_token_set_ratio(one: str, other: str, ratio: int):
    assert webshop.token_set_ratio(one, other) == webshop.token_set_ratio(other, one) == ratio


def broken(**changes: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in (webshop_files.ITEMS[0] | changes).items() if value is not ...}]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("catalogue", None, "cannot be read: No such file"),
        ("catalogue", "{", "is not JSON"),
        ("catalogue", "[" * 100_000, "is not JSON"),
        ("catalogue", {"A1": {}}, "holds a list of objects"),
        ("catalogue", [], "has no product"),
        ("catalogue", broken(name=...), "product number 1 of .* has no name"),
        ("catalogue", broken(name=" \u00ff"[:1]), "has an empty name"),
        ("catalogue", broken(pricing=...), "product number 1 of .* has no pricing"),
        ("catalogue", broken(pricing=12), "has no pricing, which is text"),
        ("catalogue", broken(pricing="cheap"), "has the price 'cheap'; a price is written"),
        ("catalogue", broken(pricing="$1.2.3"), "a price is written"),
        ("catalogue", broken(pricing="$" + "9" * 20), "more than a million dollars"),
        ("catalogue", broken(customization_options=["red"]), "are lists of values by name"),
        ("catalogue", broken(customization_options={"Color": [{}]}), "has no value"),
        ("catalogue", broken(customization_options={str(n): [] for n in range(9)}), "9 options, more than 8"),
        ("attributes", [], "holds an object"),
        ("attributes", {}, "no instruction in"),
        ("attributes", {"A1": {"instruction": "y", "instruction_attributes": []}}, "no instruction in"),
        ("instructions", {"A1": [{"instruction": "y"}]}, "no instruction in"),
        ("instructions", {"A1": "y", "A2": 3}, "no instruction in"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, name: str, content: Any, sentence: str):
    files = webshop_files.write(tmp_path)
    if content is None:
        Path(files[name]).unlink()
    else:
        Path(files[name]).write_text(content if isinstance(content, str) else json.dumps(content))
    if name == "attributes":
        del files["instructions"]
    with pytest.raises(GameError, match=sentence) as caught:
        Shopping(**files)
    assert str(caught.value).startswith("shopping-v0: ") and "\n" not in str(caught.value)


def test_too_many_words_are_refused(tmp_path: Path):
    files = webshop_files.write(tmp_path)
    values = [{"value": f"colour {number}"} for number in range(webshop.MOST_LABELS)]
    Path(files["catalogue"]).write_text(json.dumps(broken(customization_options={"Color": values})))
    with pytest.raises(GameError, match="more than 1024; take fewer products"):
        Shopping(**files)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"max_steps": 3}, "max_steps is between 4 and 100, not 3"),
        ({"query_words": 0}, "query_words is between 1 and 10, not 0"),
        ({"items_per_page": 11}, "items_per_page is between 1 and 10, not 11"),
        ({"pages": 6}, "pages is between 1 and 5, not 6"),
        ({"num_products": 9}, "num_products is between 10 and 800, not 9"),
        ({"num_products": 801}, "num_products is between 10 and 800, not 801"),
        ({"catalogue_seed": -1}, "catalogue_seed is between 0 and"),
        ({"thought_tokens": 4097}, "thought_tokens is between 0 and 4096"),
        ({"catalogue": "x.json"}, "catalogue and attributes are given together"),
        ({"attributes": "x.json"}, "catalogue and attributes are given together"),
        ({"instructions": "x.json"}, "give catalogue and attributes too"),
        ({"catalogue": "x", "attributes": "y", "num_products": 1001}, "between 1 and 1000, not 1001"),
    ],
)
def test_parameters_are_refused_in_one_sentence(parameters: dict[str, Any], sentence: str):
    with pytest.raises(GameError, match=sentence) as caught:
        Shopping(**parameters)
    assert str(caught.value).startswith("shopping-v0: ")


# Bounds.


def follow(game: Shopping, labels: list[str], goal_key: int = 0) -> list[Any]:
    """The states of a game played by labels."""
    step = jax.jit(game.step, compiler_options=QUICKLY)
    states = [game.init(jax.random.key(goal_key))]
    for label in labels:
        action = game.spec.action_labels.index(f" {label}")
        assert game.legal_action_mask(states[-1])[action], label
        states.append(step(states[-1], jnp.int32(action), jax.random.key(0)))
    return states


def test_a_game_of_turning_pages_reaches_the_bounds():
    game = Shopping()
    spec = game.spec
    word = max(CATEGORIES, key=lambda word: (shop_of(game).weights[spec.action_labels.index(f" {word}")] > 0).sum())
    turns = list(itertools.islice(itertools.cycle(["next page", "previous page"]), game.max_steps - 2))
    states = follow(game, [word, "search", *turns])
    last, before = states[-1].log, int(states[-2].log.size)
    kinds = np.asarray(last.rows[:, 0])
    shown = dict(spec.visible_events)
    assert int(last.size) == spec.max_events
    assert (kinds[:before] == KIND["page"]).sum() == shown[("page",)]
    assert (kinds[:before] == KIND["item"]).sum() == shown[("item", "option", "features")]
    assert max(int(b.log.size) - int(a.log.size) for a, b in itertools.pairwise(states[:-1])) == spec.max_new_events
    assert int(states[-1].step) == spec.max_decisions == dict(spec.turns)[("search", "results", "item")]
    assert states[-1].outcome.tolist() == [-1.0] and bool(states[-1].terminated)


def test_streams_of_the_default_shop_are_short():
    lexicon = build_lexicon(Shopping().spec, tiny_tokenizer(), vocab_size=tiny_tokenizer().vocab_size, brief=True)
    assert lexicon.max_stream < 400


@pytest.mark.parametrize("parameters", [{"pages": 1}, {"items_per_page": 1, "pages": 1}, {"query_words": 1}])
def test_other_bounds_are_reached_in_some_game(parameters: dict[str, Any]):
    """By hand: without a next page, opening and leaving items shows the most."""
    game = Shopping(**parameters)
    spec, k = game.spec, game.items_per_page
    turns = 11 - (game.query_words > 1)  # pages after the first search and before the last decision's page
    if game.pages > 1:
        assert dict(spec.visible_events)[("page",)] == turns and spec.max_events == 1 + 12 + (turns + 1) * (k + 1) + 1
    else:
        seen = (turns + 1) // 2
        assert dict(spec.visible_events)[("page",)] == seen
        assert dict(spec.visible_events)[("item", "option", "features")] == seen * k + (turns - seen) * 2


# What the shopper is shown, and how players fare.


def test_the_shopper_is_never_shown_its_own_acts():
    games = played(Shopping())
    acts = games.rows[..., 0] == KIND["act"]
    assert acts.any() and not games.audience[acts].any()
    assert games.audience[(games.rows[..., 0] >= 0) & ~acts].all()


def rewards(game: Shopping, player: Any, count: int) -> np.ndarray:
    return (played(game, player, count).outcome[:, -1, 0] + 1) / 2


def test_the_heuristic_shopper_does_better_than_a_random_one():
    game = Shopping()
    sensible, chance = rewards(game, heuristic, 500), rewards(game, random_legal, 500)
    assert sensible.mean() > chance.mean() + 0.5
    assert (sensible == 1).mean() > (chance == 1).mean() + 0.4


def oracle(game: Shopping, world: World) -> float:
    """Share of goals of which some search shows a product that earns everything, early enough to buy it."""
    engine, reached = Engine(world), 0
    most = game.pages * game.items_per_page
    for goal in world.goals.values():
        asked = (goal["category"], *goal["attributes"], *goal["options"])
        wanted = dict(zip(("Colour", "Size"), goal["options"], strict=False))
        sizes = range(1, game.query_words + 1)
        queries = itertools.chain.from_iterable(itertools.combinations(asked, size) for size in sizes)
        reached += any(
            generated_judge(goal, product, {name: value for name, value in wanted.items()
                                            if value in product["options"].get(name, ())})
            == (1.0, world.total(goal))
            and len(query) + (len(query) < game.query_words) + place // game.items_per_page + 2 + len(wanted)
            <= game.max_steps
            for query in queries
            for place, product in enumerate(world.products[index] for index in engine.find(query)[:most])
        )  # fmt: skip
    return reached / len(world.goals)


def test_nearly_every_goal_of_the_default_shop_can_be_met():
    assert 0.98 < oracle(Shopping(), generated_world(Shopping())) < 1.0


def test_buying_late_counts_and_not_buying_does_not():
    game = Shopping(max_steps=4)
    word = CATEGORIES[0]
    bought = follow(game, [word, "search", "item 1", "buy"])[-1]
    assert int(bought.step) == 4 and float(bought.outcome[0]) in (-1.0, *np.float32(2 * np.arange(1, 7) / 5 - 1))
    assert KIND["points"] in np.asarray(bought.log.rows[:, 0])
    left = follow(game, [word, "search", "item 1", "features"])[-1]
    assert left.outcome.tolist() == [-1.0] and KIND["out_of_steps"] in np.asarray(left.log.rows[:, 0])
