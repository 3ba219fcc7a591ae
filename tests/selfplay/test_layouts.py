"""One dispatch without the host, and the same episodes however they are laid out."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from maro_jax.selfplay.episodes import Episodes
from tests.selfplay.playing import LAYOUTS, every_pairing, plan_of, played, program, world

HOST_WORDS = ("callback", "debug", "infeed", "outfeed", "io_")
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter", "collective-broadcast")


def primitives(jaxpr: Any) -> Iterator[str]:
    """Names of all primitives of a jaxpr and of those within it."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


def test_the_walk_over_a_program_finds_a_callback_in_a_branch_of_a_loop():
    def chatty(x: jax.Array) -> jax.Array:
        def body(i: jax.Array, x: jax.Array) -> jax.Array:
            return jax.lax.cond(i > 1, lambda x: jax.pure_callback(np.sin, x, x), lambda x: x, x)

        return jax.lax.fori_loop(0, 3, body, x)

    found = set(primitives(jax.make_jaxpr(jax.jit(chatty))(np.float32(0)).jaxpr))
    assert any("callback" in name for name in found)


@pytest.mark.parametrize("layout", ["few lanes", "eight devices"])
def test_a_rollout_never_asks_the_host(layout: str):
    names = set(primitives(program("text", layout, models=2, scripted=True).traced.jaxpr.jaxpr))
    assert "while" in names and "scatter" in names
    assert not [name for name in names if any(word in name for word in HOST_WORDS)]


def test_devices_do_not_wait_for_each_other():
    compiled = program("text", "eight devices", models=2, scripted=True).compiled
    text = compiled.as_text()
    assert "num_partitions=8" in text and re.search(r"\bwhile\(", text)
    assert not [word for word in COLLECTIVES if re.search(rf"\b{word}(-start)?\(", text)]


def assert_same(episodes: Episodes, expected: Episodes) -> None:
    """Everything equal, log-probabilities up to rounding."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(episodes):
        name = jax.tree_util.keystr(path)
        other = dict(jax.tree_util.tree_leaves_with_path(expected))[path]
        if name == ".log_probs":
            np.testing.assert_allclose(leaf, other, rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(leaf, other, err_msg=name)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "few lanes"])
def test_the_layout_does_not_show_in_the_episodes(layout: str):
    rollout = program("text", layout, models=2, scripted=True)
    episodes, _ = rollout.play(world("text").params, plan_of(every_pairing()))
    assert_same(episodes, played("text"))


def test_the_order_of_a_plan_does_not_show_in_the_episodes():
    order = np.random.default_rng(5).permutation(len(every_pairing()))
    plan = jax.tree.map(lambda leaf: leaf[order], plan_of(every_pairing()))
    episodes, _ = program("text", "eight devices", models=2, scripted=True).play(world("text").params, plan)
    assert_same(episodes, jax.tree.map(lambda leaf: leaf[order], played("text")))


def test_each_parameter_set_plays_the_seats_it_holds():
    params, rollout = world("text").params, program("text", "eight devices", models=2, scripted=True)
    plan = plan_of(every_pairing())
    exchanged, _ = rollout.play(params[::-1], plan)
    swapped, _ = rollout.play(params, plan_of(np.array([1, 0, 2, 3])[every_pairing()]))
    np.testing.assert_array_equal(exchanged.tokens, swapped.tokens)
    assert not np.array_equal(exchanged.tokens, played("text").tokens)
