"""The optimizer step: the same on every mesh, and without effect where something is not finite."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maro_jax.credit.objective import CreditOptions
from maro_jax.learner.guard import ENOUGH, WINDOW, Norms
from maro_jax.learner.update import Learner, LearnerState
from tests.learner.material import SHAPE, assert_close, material, plain_loss
from tests.selfplay.playing import mesh_of

MESHES = {"one device": (1, 1, 1), "data": (8, 1, 1), "all axes": (2, 2, 2)}
OPTIONS = CreditOptions(utility="kto", beta=0.3)
ENTROPY, NORMALISER, RATE = 0.02, 37.0, 1e-3


@functools.cache
def learner(mesh: str, max_grad_norm: float = 1e9, optimizer: str = "adam") -> Learner:
    return Learner(
        material("text").decisions,
        (SHAPE,),
        mesh_of(*MESHES[mesh]),
        OPTIONS,
        optax.constant_schedule(RATE),
        optimizer=optimizer,
        max_grad_norm=max_grad_norm,
        max_spike=6.0,
        entropy_weight=ENTROPY,
    )


def start(mesh: str) -> tuple[LearnerState, Any, jax.Array]:
    """A fresh state, the reference and its point, laid out for the mesh."""
    given, place = material("text"), learner(mesh)
    reference = jax.device_put(given.reference, place.params_sharding)
    return place.init(given.params), reference, jax.device_put(jnp.asarray(given.point), place.replicated)


def stepped(mesh: str, steps: int = 1) -> tuple[LearnerState, dict[str, Any]]:
    """The state after some steps on the same micro-batches, and the last step's report."""
    state, reference, point = start(mesh)
    report: dict[str, Any] = {}
    for _ in range(steps):
        state, report = learner(mesh).step(state, material("text").packed(), NORMALISER, reference, point)
    return state, jax.device_get(report)


@functools.cache
def first_step(mesh: str) -> tuple[LearnerState, dict[str, Any]]:
    return stepped(mesh)


def gradient_in(state: LearnerState) -> Any:
    """The gradient of a first step, which Adam keeps a tenth of."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) * 10, optax.tree.get(state.opt_state, "mu"))


def test_the_step_follows_the_gradient_of_a_loop_over_behaviours():
    given = material("text")
    state, report = first_step("one device")
    loss, gradient, sums = plain_loss(given, OPTIONS, ENTROPY, 1 / NORMALISER)
    assert report["loss"] == pytest.approx(loss, rel=1e-5, abs=1e-6)
    assert_close(gradient, gradient_in(state), 2e-5)
    norm = np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(gradient)))
    assert report["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert report["behaviours"] == sums["behaviours"] and report["tokens"] == sums["tokens"]
    assert report["learning_rate"] == pytest.approx(RATE)
    assert report["skipped"] == 0
    # Adam's first step is the learning rate towards the smaller loss, wherever there is a slope to speak of.
    moved = jax.tree.map(lambda new, old: np.asarray(new) - np.asarray(old), state.params, given.params)
    for step, slope in zip(jax.tree.leaves(moved), jax.tree.leaves(gradient), strict=True):
        steep = np.abs(slope) > 1e-4
        np.testing.assert_allclose(step[steep], -RATE * np.sign(np.asarray(slope)[steep]), rtol=2e-3)


@pytest.mark.parametrize("mesh", ["data", "all axes"])
def test_every_mesh_takes_the_same_step(mesh: str):
    (one, report), (other, other_report) = first_step("one device"), first_step(mesh)
    assert_close(gradient_in(one), gradient_in(other))
    assert set(report) == set(other_report)
    for name, value in report.items():
        np.testing.assert_allclose(other_report[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("mesh", ["data", "all axes"])
def test_the_optimizer_lies_where_the_parameters_lie(mesh: str):
    place, (state, _) = learner(mesh), first_step(mesh)
    fresh = place.init(material("text").params)
    for each in (fresh, state):
        moments = [optax.tree.get(each.opt_state, name) for name in ("mu", "nu")]
        for tree in (each.params, *moments):
            for leaf, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(place.params_sharding), strict=True):
                assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
        for scalar in (each.step, each.bad_steps):
            assert scalar.sharding.is_fully_replicated
    embedding = state.params["embedding"]
    share = {"data": 1, "all axes": 4}[mesh]
    assert embedding.addressable_shards[0].data.size * share == embedding.size


@pytest.mark.parametrize("mesh", ["data", "all axes"])
def test_the_state_of_muon_lies_where_the_parameters_lie(mesh: str):
    place = learner(mesh, optimizer="muon")
    fresh = place.init(material("text").params)
    wanted = {jax.tree_util.keystr(path): sharding for path, sharding in
              jax.tree_util.tree_leaves_with_path(place.params_sharding)}  # fmt: skip
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(fresh.opt_state):
        name = jax.tree_util.keystr(path)
        owner = next((owner for owner in wanted if name.endswith(owner)), None)
        if owner:
            assert leaf.sharding.is_equivalent_to(wanted[owner], leaf.ndim), name
            found[owner] = found.get(owner, 0) + 1
        else:
            assert leaf.sharding.is_fully_replicated, name
    # One moment for a matrix of a layer, two for what Adam keeps.
    assert {owner: 1 if "kernel" in owner else 2 for owner in wanted} == found


@pytest.mark.slow
def test_cloning_takes_the_same_step_on_every_mesh():
    given, steps = material("text"), []
    for mesh in ("one device", "all axes"):
        place = Learner(
            given.decisions,
            (SHAPE,),
            mesh_of(*MESHES[mesh]),
            CreditOptions(utility="reinforce", baseline="none", balance="none"),
            optax.constant_schedule(RATE),
            optimizer="adam",
            max_grad_norm=1e9,
            max_spike=0.0,
            entropy_weight=0.0,
            context_weight=1.0,
        )
        point = jax.device_put(jnp.zeros(len(given.point)), place.replicated)
        state, report = place.step(place.init(given.params), given.packed(), NORMALISER, None, point)
        steps.append((gradient_in(state), jax.device_get(report)))
    (one, report), (other, other_report) = steps
    assert_close(one, other)
    assert other_report["loss"] == pytest.approx(report["loss"], rel=1e-5)
    assert not np.isclose(report["loss"], first_step("one device")[1]["loss"], rtol=0.1)


def test_large_gradients_are_clipped():
    given = material("text")
    _, gradient, _ = plain_loss(given, OPTIONS, ENTROPY, 1 / NORMALISER)
    optimizer = learner("one device", max_grad_norm=1e-3).optimizer
    _, state = optimizer.update(gradient, optimizer.init(given.params), given.params)
    clipped = optax.tree.get(state, "mu")
    assert float(optax.tree.norm(gradient)) > 1e-2
    assert float(optax.tree.norm(clipped)) * 10 == pytest.approx(1e-3, rel=1e-4)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted():
    given, place = material("text"), learner("one device")
    state, reference, point = start("one device")
    state, _ = place.step(state, given.packed(), NORMALISER, reference, point)
    before = jax.device_get(state)
    for bad in (1, 2):
        state, report = place.step(state, given.packed(), float("nan"), reference, point)
        after = jax.device_get(state)
        jax.tree.map(np.testing.assert_array_equal, (after.params, after.opt_state), (before.params, before.opt_state))
        assert (after.step, after.bad_steps) == (before.step + bad, bad)
        assert report["skipped"] == 1 and report["bad_steps"] == bad
    poisoned = given.packed()
    poisoned[-1].log_prob[poisoned[-1].node > 0] = np.nan
    state, report = place.step(state, poisoned, NORMALISER, reference, point)
    assert int(state.bad_steps) == 3 and report["skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), before.params)
    state, report = place.step(state, given.packed(), NORMALISER, reference, point)
    assert int(state.bad_steps) == 0 and report["skipped"] == 0
    assert int(state.step) == 5
    assert not np.array_equal(state.params["embedding"], before.params["embedding"])


def test_a_step_whose_gradient_stands_out_changes_nothing_and_ends_nothing():
    given, place = material("text"), learner("one device")
    state, reference, point = start("one device")
    state, report = place.step(state, given.packed(), NORMALISER, reference, point)
    norm = float(report["grad_norm"])
    usual = norm / 100 * (1 + 0.1 * np.random.default_rng(0).normal(size=ENOUGH)).astype(np.float32)
    seen = Norms(jnp.zeros((WINDOW,), jnp.float32).at[:ENOUGH].set(usual), jnp.int32(ENOUGH))
    state = dataclasses.replace(state, norms=jax.device_put(seen, place.replicated))
    before = jax.device_get(state)
    state, report = place.step(state, given.packed(), NORMALISER, reference, point)
    assert (report["skipped"], report["spikes"]) == (1, 1)
    after = jax.device_get(state)
    jax.tree.map(np.testing.assert_array_equal, (after.params, after.opt_state), (before.params, before.opt_state))
    assert after.bad_steps == 0 and after.norms.count == ENOUGH + 1
    # It is remembered, so that the like of it stands out no more.
    state, report = place.step(state, given.packed(), NORMALISER, reference, point)
    state, report = place.step(state, given.packed(), NORMALISER, reference, point)
    assert (report["skipped"], report["spikes"]) == (0, 0)


def test_the_parameters_given_are_left_alone():
    given = material("text")
    kept = jax.tree.map(np.array, given.params)
    stepped("one device")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(given.params), kept)
