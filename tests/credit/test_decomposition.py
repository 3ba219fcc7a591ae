"""Decomposition against plain loops, and why a baseline comes after discounting."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maro_jax.credit import decomposition
from tests.credit import naive

RANDOM = settings(max_examples=25, deadline=None)
BATCHES = st.builds(naive.random_batch, st.integers(0, 10**6), st.sampled_from(naive.SHAPES))


def test_by_hand():
    seat = np.array([[0, 1, 0, 0, -1], [2, -1, -1, -1, -1]])
    outcome = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -0.5]], np.float32)
    assert decomposition.remaining_behaviours(seat).tolist() == [[2, 0, 1, 0, 0], [0] * 5]
    expected = {
        "none": ([[0, -1, 0, 1, 0], [-0.5, 0, 0, 0, 0]], [[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]]),
        "outcome": ([[1, -1, 1, 1, 0], [-0.5, 0, 0, 0, 0]], [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]]),
        "discounted": (
            [[0.25, -1, 0.5, 1, 0], [-0.5, 0, 0, 0, 0]],
            [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]],
        ),
    }
    assert set(expected) == set(decomposition.DECOMPOSITIONS)
    for name, (want_returns, want_carried) in expected.items():
        returns, carried = decomposition.decompose(name, seat, outcome, discount=0.5)
        np.testing.assert_array_equal(returns, want_returns)
        np.testing.assert_array_equal(carried, np.array(want_carried, bool))


@RANDOM
@given(BATCHES, st.sampled_from(["none", "outcome", "discounted"]), st.sampled_from([0.5, 0.9, 1]))
def test_equals_loops(batch, name, discount):
    returns, carried = decomposition.decompose(name, batch.seat, batch.outcome, discount=discount)
    want_returns, want_carried = naive.decompose(name, batch, discount)
    np.testing.assert_allclose(returns, want_returns, rtol=1e-6)
    np.testing.assert_array_equal(carried, want_carried)


@RANDOM
@given(BATCHES)
def test_relations_between_decompositions(batch):
    whole, everywhere = decomposition.decompose("outcome", batch.seat, batch.outcome)
    undiscounted, _ = decomposition.decompose("discounted", batch.seat, batch.outcome, discount=1.0)
    np.testing.assert_array_equal(whole, undiscounted)
    last, carried = decomposition.decompose("none", batch.seat, batch.outcome)
    np.testing.assert_array_equal(last, np.where(carried, whole, 0))
    np.testing.assert_array_equal(everywhere, batch.seat >= 0)
    acting = sum(len(set(row[row >= 0].tolist())) for row in batch.seat)
    assert int(carried.sum()) == acting  # one behaviour of each seat that acted


@RANDOM
@given(BATCHES, st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_prospects_move_as_in_a_loop(batch, decay):
    credited = decomposition.by_value(batch.seat, batch.outcome, batch.values, batch.eligible, decay)
    np.testing.assert_allclose(credited, naive.by_value(batch, batch.eligible, decay), atol=1e-5)


def firsts(batch):
    """(episode, slot) of each seat's first eligible behaviour."""
    seen = {}
    for e, b in batch.slots():
        if batch.eligible[e, b]:
            seen.setdefault((e, int(batch.seat[e, b])), (e, b))
    return seen.items()


@RANDOM
@given(BATCHES)
def test_identities_of_the_prospects(batch):
    """Changes add up to outcome less first expectation; λ = 1 is outcome less expectation; a constant is a baseline."""

    def credited(values, decay):
        return np.asarray(decomposition.by_value(batch.seat, batch.outcome, values, batch.eligible, decay))

    outcome = np.asarray(decomposition.outcome_of_behaviour(batch.seat, batch.outcome))
    changes = credited(batch.values, 0.0)
    for (episode, seat), first in firsts(batch):
        total = changes[episode][batch.eligible[episode] & (batch.seat[episode] == seat)].sum()
        assert total == pytest.approx(batch.outcome[episode, seat] - batch.values[first], abs=1e-5)
    whole = np.where(batch.eligible, outcome - batch.values, 0)
    np.testing.assert_allclose(credited(batch.values, 1.0), whole, atol=1e-5)
    constant = np.full_like(batch.values, 0.25)
    np.testing.assert_allclose(credited(constant, 1.0), np.where(batch.eligible, outcome - 0.25, 0), atol=1e-6)
    last = {(e, int(batch.seat[e, b])): (e, b) for e, b in batch.slots() if batch.eligible[e, b]}
    unmoved = np.zeros(batch.seat.shape)
    for (episode, seat), place in last.items():
        unmoved[place] = batch.outcome[episode, seat] - 0.25
    np.testing.assert_allclose(credited(constant, 0.0), unmoved, atol=1e-6)  # only the end was news


@RANDOM
@given(BATCHES, st.sampled_from([0.25, 1.0]))
def test_rules_beside_the_outcome_equal_loops(batch, weight):
    cell, judged = batch.role.astype(int) * 2 + batch.phase, batch.judged & batch.eligible
    got = decomposition.by_rules(batch.seat, batch.outcome, batch.scores, judged, cell, 6, weight)
    want = naive.by_rules(batch, weight)
    np.testing.assert_allclose(np.where(batch.eligible, got, 0), want, atol=1e-5)


def test_prospects_leave_the_gradient_right_for_any_expectation_with_decay_1_and_for_the_true_one_without():
    """A seat acts twice; every gradient is an exact sum over both actions and a coin of the environment's between."""
    first, second = np.array([0.3, 0.7]), np.array([[0.6, 0.4], [0.2, 0.8]])  # π(a), π(b | coin)
    heads = np.array([0.9, 0.25])  # P(coin = 0 | a)
    results = np.random.default_rng(0).uniform(-1, 1, (2, 2, 2))  # R(a, coin, b)
    paths = list(np.ndindex(2, 2, 2))
    coin = np.array([heads[a] if c == 0 else 1 - heads[a] for a, c, _ in paths])
    chance = np.array([first[a] * second[c, b] for a, c, b in paths]) * coin
    outcome = np.array([[results[path]] for path in paths], np.float32)
    whole = float(chance @ outcome[:, 0])
    true = np.array([[second[c] @ results[a, c] for c in range(2)] for a in range(2)])

    def gradient(before_first: float, before_second: np.ndarray, decay: float) -> np.ndarray:
        """Of the logits of the first action and of the second one after each coin."""
        values = np.array([[before_first, before_second[a, c]] for a, c, _ in paths], np.float32)
        seat = np.zeros((8, 2), int)
        credited = np.asarray(decomposition.by_value(seat, outcome, values, seat == 0, decay))
        total = np.zeros(3)
        for p, (one, other), (a, c, b) in zip(chance, credited, paths, strict=True):
            total[0] += p * one * ((a == 0) - first[0])
            total[1 + c] += p * other * ((b == 0) - second[c, 0])
        return total

    right, wrong = gradient(0.0, np.zeros((2, 2)), 1.0), np.array([[-0.8, 0.3], [0.9, 0.1]])
    assert np.abs(right).min() > 1e-3
    np.testing.assert_allclose(gradient(0.4, wrong, 1.0), right, atol=1e-6)
    np.testing.assert_allclose(gradient(whole, true, 0.0), right, atol=1e-6)
    assert np.abs(gradient(0.4, wrong, 0.0) - right).max() > 0.05


@RANDOM
@given(BATCHES, st.sampled_from([0.0, 0.95]))
def test_the_correction_by_forks_equals_a_loop(batch, decay):
    expected = naive.by_value(batch, batch.eligible, decay)
    forked = decomposition.Forked(batch.differences, batch.forked, np.float32(batch.share))
    got = decomposition.doubly_robust(expected.astype(np.float32), forked)
    np.testing.assert_allclose(got, naive.doubly_robust(batch, expected), atol=1e-4)


def test_forks_make_the_gradient_right_whatever_is_expected():
    """The world of the test above, whose first action is forked one time in four; all that can come of it is summed."""
    first, second = np.array([0.3, 0.7]), np.array([[0.6, 0.4], [0.2, 0.8]])  # π(a), π(b | coin)
    heads = np.array([0.9, 0.25])  # P(coin = 0 | a)
    results = np.random.default_rng(0).uniform(-1, 1, (2, 2, 2))  # R(a, coin, b)
    coin = np.stack([heads, 1 - heads], axis=1)
    future = coin[:, :, None] * second  # P(coin, b | a)
    value = np.einsum("acb,acb->a", future, results)
    right = first[0] * first[1] * (value[0] - value[1])  # ∇ of Σ π(a) Q(a) by the logit of a = 0
    wrong = np.array([-0.8, 0.9])  # Φ before the second action, after each coin
    share, total, without = 0.25, 0.0, 0.0
    outcomes = list(np.ndindex(2, 2))
    for a, (c, b) in itertools.product(range(2), outcomes):
        chance = first[a] * future[a, c, b]
        seat, values = np.zeros((1, 2), int), np.array([[0.4, wrong[c]]], np.float32)
        outcome = np.array([[results[a, c, b]]], np.float32)
        expected = np.asarray(decomposition.by_value(seat, outcome, values, seat == 0, 0.0))
        without += chance * expected[0, 0] * ((a == 0) - first[0])
        for known, other in itertools.product([True, False], range(2)):
            for one, two in itertools.product(outcomes, outcomes):  # how the branches go on, which are independent here
                likely = (share if known else 1 - share) * first[other] * future[a][one] * future[other][two]
                gain = np.array([[results[a][one] - results[other][two], 0.0]], np.float32)
                forked = decomposition.Forked(gain, np.array([[known, False]]), np.float32(share))
                credited = float(np.asarray(decomposition.doubly_robust(expected, forked))[0, 0])
                total += chance * likely * credited * ((a == 0) - first[0])
    assert total == pytest.approx(right, abs=1e-6)
    assert abs(without - right) > 0.05


def test_a_draw_is_carried():
    """A return of 0 and carrying nothing are two things."""
    returns, carried = decomposition.decompose("none", np.array([[0, 0]]), np.zeros((1, 1)))
    assert returns.tolist() == [[0, 0]] and carried.tolist() == [[False, True]]


def test_baseline_after_discounting_is_unbiased():
    """A seat whose first action ends the game (n = 1) or not (n = 3), with exact expectations.

    A baseline b must leave Σ_a π(a) ∇log π(a) A(a) as it is. Subtracted from the discounted
    return it does; discounted together with the outcome it does not.
    """
    seat = np.array([[0, -1, -1], [0, 0, 0]])  # one episode for each first action
    outcome = np.array([[1.0], [0.5]], np.float32)
    policy = np.array([0.3, 0.7])
    score = np.array([1 - policy[0], -policy[0]])  # ∇log π of the first action's logit

    def gradient(advantages):
        return float(np.sum(policy * score * np.asarray(advantages)))

    def discounted(values):
        return decomposition.decompose("discounted", seat, values, discount=0.5)[0][:, 0]

    plain = gradient(discounted(outcome))
    baseline = 0.4
    assert gradient(discounted(outcome) - baseline) == pytest.approx(plain, abs=1e-7)
    assert abs(gradient(discounted(outcome - np.float32(baseline))) - plain) > 0.05


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match="decompose must be one of none, outcome, discounted"):
        decomposition.decompose("whole", np.zeros((1, 1), int), np.zeros((1, 1)))
