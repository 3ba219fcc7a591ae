"""The value function: its features are the policy's own, its weights a ridge solution, its judgement lagged."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from maro_jax.learner.value import RIDGE, Judged, ValueFunction
from maro_jax.policy.attention import CausalAttention
from tests.learner.material import CHOSEN, SHAPE, Material, material
from tests.selfplay.playing import mesh_of
from tests.selfplay.replies import behaviours_of, full_stream, reply_of


def function_of(given: Material) -> ValueFunction:
    mesh = mesh_of(8)
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))
    return ValueFunction(
        given.decisions, (SHAPE,), rows, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    )


def wanted(given: Material) -> np.ndarray:
    """bool[E, B]: some behaviours of some episodes, among them such without a choice."""
    made = given.episodes.behaviours.seat >= 0
    chance = np.random.default_rng(4).random(made.shape) < 0.8
    return made & chance & np.isin(np.arange(len(made)), CHOSEN)[:, None]


def outcome_of(given: Material) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, given.episodes.outcome.shape).astype(np.float32)


@functools.cache
def naive_features(name: str) -> dict[tuple[int, int], np.ndarray]:
    """Features by (episode, decision), a stream at a time, of behaviours that had a choice."""
    given = material(name)
    policy, found = given.table.policy, {}
    forward = jax.jit(lambda tokens: policy.forward(given.params, tokens, np.arange(tokens.shape[1])[None],
                                                    CausalAttention())[0])  # fmt: skip
    length = max(len(full_stream(given.table, given.episodes, e, s))
                 for e in CHOSEN for s in range(given.table.spec.num_seats))  # fmt: skip
    for episode in CHOSEN.tolist():
        for decision, seat, ids in behaviours_of(given.episodes, episode):
            choices = reply_of(given.table, given.episodes, episode, decision, ids).choices
            if not wanted(given)[episode, decision] or not choices:
                continue
            stream = full_stream(given.table, given.episodes, episode, seat)
            hidden = np.asarray(forward(np.pad(stream, (0, length - len(stream)))[None]))[0]
            prefix = int(given.table.lexicon.prefix_lengths[given.episodes.roles[episode, seat]])
            before = prefix + int(given.episodes.behaviours.start[episode, decision]) + choices[0].place - 1
            state = hidden[before].astype(np.float64)
            phase = np.eye(len(given.table.spec.phases))[given.episodes.behaviours.phase[episode, decision]]
            found[episode, decision] = np.concatenate([state / np.sqrt(np.mean(state**2)), phase])
    return found


def judged(given: Material, statistics=None) -> Judged:
    return function_of(given).judge(given.params, statistics, 0, given.episodes, outcome_of(given), wanted(given))


@pytest.mark.parametrize("name", ["acts", "text"])
def test_sums_and_first_judgement_are_those_of_a_loop(name: str):
    given, features = material(name), naive_features(name)
    places, seat = sorted(features), given.episodes.behaviours.seat
    assert len(places) > 20
    f = np.array([features[place] for place in places])
    targets = np.array([outcome_of(given)[e, seat[e, b]] for e, b in places], np.float64)
    got = judged(given)
    assert sorted(map(tuple, np.argwhere(got.judged).tolist())) == places
    assert not got.values[~got.judged].any()
    np.testing.assert_allclose(got.sums.gram, f.T @ f, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(got.sums.moment, f.T @ targets, rtol=1e-4, atol=1e-3)
    weights = np.linalg.solve(f.T @ f + RIDGE * np.eye(f.shape[1]), f.T @ targets)
    values = np.array([got.values[place] for place in places])
    np.testing.assert_allclose(values, f @ weights, atol=1e-4)
    assert got.explained == pytest.approx(1 - np.mean((targets - values) ** 2) / targets.var(), abs=1e-5)


def test_behaviours_without_a_choice_are_passed_over():
    given = material("acts")
    episode, decision = map(int, np.argwhere(judged(given).judged)[3])
    forced = (np.arange(len(given.episodes.roles)) == episode)[:, None, None] & (given.episodes.decision == decision)
    episodes = dataclasses.replace(given.episodes, node=np.where(forced, 0, given.episodes.node))
    got, whole = judged(dataclasses.replace(given, episodes=episodes)), judged(given)
    assert whole.judged[episode, decision] and not got.judged[episode, decision] and got.values[episode, decision] == 0
    assert got.judged.sum() == whole.judged.sum() - 1


def test_later_judgement_rests_on_what_was_seen_before_alone():
    given, features = material("acts"), naive_features("acts")
    function, size = function_of(given), len(next(iter(features.values())))
    before = function.init()
    assert before.gram.shape == (size, size) and not np.any(before.moment)
    # What was seen: that the first hidden number tells the outcome, so often that the ridge does not count.
    seen = jax.tree.map(np.array, before)
    seen.gram[:], seen.moment[0] = 1e7 * np.eye(size), 5e6
    got = judged(given, seen)
    for place, feature in features.items():
        assert got.values[place] == pytest.approx(0.5 * feature[0], abs=1e-4)
    again = function.add(jax.device_put(seen), got.sums)
    np.testing.assert_allclose(again.moment, 0.7 * seen.moment + np.asarray(got.sums.moment), rtol=1e-5)


def test_expectations_learn_what_can_be_known_beforehand():
    """Outcomes that depend on the role alone are told from the stream, which begins with it."""
    given = material("acts")
    outcome = np.where(given.episodes.roles == 0, 0.9, -0.6).astype(np.float32)
    every = given.episodes.behaviours.seat >= 0
    function, statistics = function_of(given), None
    got = function.judge(given.params, statistics, 0, given.episodes, outcome, every & (np.arange(16) < 10)[:, None])
    statistics = function.init()
    for _ in range(3):
        statistics = function.add(statistics, got.sums)
    later = function.judge(given.params, statistics, 0, given.episodes, outcome, every & (np.arange(16) >= 10)[:, None])
    assert later.judged.any() and not (later.judged & got.judged).any()
    assert later.explained > 0.5
