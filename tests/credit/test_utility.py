"""Utilities against the published formula, plain loops, and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maro_jax.credit import utility
from tests.credit import naive

RANDOM = settings(max_examples=40, deadline=None)
FINITE = st.floats(-20, 20, width=32)


def softmax_policy(logits, actions):
    """Log-probabilities of `actions`, one for each row of `logits`."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[:, None], axis=1)[:, 0]


@RANDOM
@given(FINITE, st.booleans(), st.floats(0.125, 4, width=32), st.sampled_from([0.05, 0.1, 2.0]), FINITE)
def test_kto_is_the_published_loss_up_to_scale(log_ratio, good, weight, beta, reference_point):
    got = utility.kto(
        jnp.float32(log_ratio),
        jnp.float32(1 if good else -1),
        jnp.float32(weight),
        beta,
        jnp.float32(reference_point),
    )
    want = 4 / beta * naive.published_kto(log_ratio, good, weight, beta, reference_point)
    assert float(got) == pytest.approx(want, rel=1e-4, abs=1e-6)


@RANDOM
@given(
    st.floats(-2, 2, width=32), st.sampled_from([-1, 0, 1]), st.floats(0.125, 4, width=32),
    st.sampled_from([0.1, 0.2, 0.5]),
)  # fmt: skip
def test_ppo_is_the_published_surrogate(log_ratio, sign, weight, clip):
    got = utility.ppo(jnp.float32(log_ratio), jnp.float32(sign), jnp.float32(weight), clip)
    want = weight * naive.published_ppo(np.exp(log_ratio), sign, clip)
    assert float(got) == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_ppo_stops_where_the_ratio_has_left_the_clip_in_the_direction_of_the_sign():
    ratio = np.array([0.5, 0.79, 0.81, 1.19, 1.21, 2.0])
    for sign in (1.0, -1.0):
        slope = jax.grad(lambda r, s=sign: jnp.sum(utility.ppo(r, jnp.float32(s), jnp.ones(6), 0.2)))(
            jnp.log(jnp.asarray(ratio, jnp.float32))
        )
        moving = ratio < 1.2 if sign > 0 else ratio > 0.8
        np.testing.assert_allclose(slope, np.where(moving, -sign * ratio, 0.0), rtol=1e-5)


@RANDOM
@given(FINITE, FINITE, st.floats(0.125, 4, width=32), st.sampled_from([0.05, 0.5, 2.0]))
def test_dro_is_the_published_square_but_for_scale_and_a_constant(log_ratio, advantage, weight, beta):
    """DRO's policy loss with the value given: ½ (R − V − τ log π/π_ref)², A = R − V, τ = β."""
    got = utility.dro(jnp.float32(log_ratio), jnp.float32(advantage), jnp.float32(weight), beta)
    want = weight / beta * ((advantage - beta * log_ratio) ** 2 / 2 - advantage**2 / 2)
    assert float(got) == pytest.approx(want, rel=1e-4, abs=1e-3)


def test_going_through_a_batch_many_times_dro_ends_at_a_step_of_mirror_descent():
    """π ∝ π_ref e^(R/β) if the value taken off is β log E e^(R/β), though here one parameter moves all actions."""
    reference, results, beta = np.array([0.2, 0.5, 0.3]), np.array([1.0, -0.5, 0.2]), 0.7
    aim = reference * np.exp(results / beta)
    advantage = results - beta * np.log(aim.sum())
    coupled = jnp.asarray([[1.0, 0.9, 0.9], [0.0, 0.5, 0.3], [0.0, 0.0, 0.5]], jnp.float32)

    def loss(parameters):
        log_ratio = jax.nn.log_softmax(jnp.log(reference) + parameters @ coupled) - jnp.log(reference)
        return jnp.sum(utility.dro(log_ratio, jnp.asarray(advantage), jnp.asarray(reference), beta))

    slope = jax.jit(jax.grad(loss))
    parameters = jnp.zeros(3)
    for _ in range(3000):
        parameters -= slope(parameters)
    policy = jax.nn.softmax(jnp.log(reference) + parameters @ coupled)
    np.testing.assert_allclose(policy, aim / aim.sum(), atol=1e-4)
    assert np.abs(policy - reference).max() > 0.2


def test_kto_dro_and_ppo_equal_reinforce_at_the_reference():
    """∇KTO = ∇DRO = ∇PPO = ∇REINFORCE where policy and reference agree, for any β and ε."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(32, 5)), jnp.float32)
    actions = jnp.asarray(rng.integers(0, 5, 32))
    sign = jnp.asarray(rng.choice([-1.0, 0.0, 1.0], 32), jnp.float32)
    weight = jnp.asarray(rng.random(32), jnp.float32) * jnp.abs(sign)
    reference = softmax_policy(logits, actions)

    def kto(logits, beta):
        log_ratio = softmax_policy(logits, actions) - reference
        return jnp.sum(utility.kto(log_ratio, sign, weight, beta, jnp.zeros(())))

    def reinforce(logits):
        return jnp.sum(utility.reinforce(softmax_policy(logits, actions), sign, weight))

    want = jax.grad(reinforce)(logits)
    assert float(jnp.linalg.norm(want)) > 1
    for beta in (0.1, 0.5, 2.0):
        np.testing.assert_allclose(jax.grad(kto)(logits, beta), want, rtol=1e-5, atol=1e-6)

    def dro(logits, beta):
        log_ratio = softmax_policy(logits, actions) - reference
        return jnp.sum(utility.dro(log_ratio, sign, weight, beta))

    for beta in (0.1, 2.0):
        np.testing.assert_allclose(jax.grad(dro)(logits, beta), want, rtol=1e-5, atol=1e-6)

    def ppo(logits, clip):
        return jnp.sum(utility.ppo(softmax_policy(logits, actions) - reference, sign, weight, clip))

    for clip in (0.1, 0.5):
        np.testing.assert_allclose(jax.grad(ppo)(logits, clip), want, rtol=1e-5, atol=1e-6)


def test_good_against_bad_only_shifts_a_baseline_on_policy():
    """Wins weighed λ_D, losses λ_U: the expected gradient is REINFORCE's times (λ_D (1 − b) + λ_U (1 + b)) / 2."""
    policy, wins = np.array([0.2, 0.5, 0.3]), np.array([0.9, 0.4, 0.1])  # P(R = 1 | a)
    logits, actions = jnp.log(jnp.asarray(policy, jnp.float32)), jnp.tile(jnp.arange(3), 2)
    result = np.repeat([1.0, -1.0], 3)
    chance = np.tile(policy, 2) * np.concatenate([wins, 1 - wins])
    right = np.array([sum(p * r * ((a == j) - policy[j]) for p, r, a in zip(chance, result, actions, strict=True))
                      for j in range(3)])  # fmt: skip
    for desirable, undesirable, baseline in ((1.0, 1.0, 0.3), (4 / 3, 1.0, 0.0), (0.5, 2.0, -0.4)):
        advantage = result - baseline
        weight = np.where(result > 0, desirable, undesirable) * np.abs(advantage) * chance
        slope = jax.grad(lambda x, a=advantage, w=weight: jnp.sum(
            utility.reinforce(softmax_policy(jnp.tile(x, (6, 1)), actions), jnp.sign(a), jnp.asarray(w, jnp.float32))
        ))(logits)  # fmt: skip
        factor = (desirable * (1 - baseline) + undesirable * (1 + baseline)) / 2
        np.testing.assert_allclose(slope, -factor * right, atol=1e-6)


def test_away_from_the_reference_kto_prefers_one_of_two_equally_good_actions():
    """In a state luckier than its role's mean REINFORCE stays in expectation, KTO does at the reference alone."""
    wins, actions, good = 0.8, jnp.asarray([0, 1, 0, 1]), jnp.asarray([1.0, 1.0, -1.0, -1.0])
    advantage = np.where(good > 0, 1.0, -1.0) - 0.1  # where 2 · wins - 1 is 0.6

    def slopes(logits, beta):
        policy = np.asarray(jax.nn.softmax(logits))
        chance = policy[actions] * np.where(good > 0, wins, 1 - wins)
        weight, start = jnp.asarray(np.abs(advantage) * chance, jnp.float32), jnp.full((4,), jnp.log(0.5))

        def loss(x, kto):
            log_prob = softmax_policy(jnp.tile(x, (4, 1)), actions)
            if kto:
                return jnp.sum(utility.kto(log_prob - start, good, weight, beta, jnp.zeros(())))
            return jnp.sum(utility.reinforce(log_prob, good, weight))

        return [float(jax.grad(loss)(logits, kto)[0]) for kto in (True, False)]

    np.testing.assert_allclose(slopes(jnp.zeros(2), 0.5), 0.0, atol=1e-6)
    kto, reinforce = slopes(jnp.log(jnp.asarray([0.8, 0.2])), 2.0)
    assert reinforce == pytest.approx(0, abs=1e-6)
    s = [naive.sigmoid(2.0 * np.log(p / 0.5)) for p in (0.8, 0.2)]
    damped = [4 * each * (1 - each) for each in s]
    assert kto == pytest.approx(-0.5 * 0.8 * 0.2 * (damped[0] - damped[1]), rel=1e-4)
    assert abs(kto) > 0.01


def test_clone_learns_from_good_behaviours_only():
    log_prob = jnp.asarray([-1.0, -2.0, -3.0, -jnp.inf])
    sign, weight = jnp.asarray([1.0, -1.0, 0.0, 1.0]), jnp.asarray([0.5, 2.0, 1.0, 0.0])
    np.testing.assert_allclose(utility.clone(log_prob, sign, weight), [0.5, 0.0, 0.0, 0.0])


@RANDOM
@given(st.floats(-8, 8, width=32), st.sampled_from([-1.0, 1.0]), st.floats(-8, 8, width=32))
def test_kto_gradient_is_reinforce_scaled_by_h(log_ratio, sign, reference_point):
    beta, weight = 0.3, 1.7
    got = jax.grad(utility.kto)(jnp.float32(log_ratio), jnp.float32(sign), jnp.float32(weight), beta, reference_point)
    s = naive.sigmoid(beta * (log_ratio - reference_point))
    h = 4 * s * (1 - s)
    assert float(got) == pytest.approx(-weight * sign * h, rel=1e-4)
    shown = utility.gradient_scale(jnp.float32(log_ratio), beta, jnp.float32(reference_point))
    assert float(shown) == pytest.approx(h, rel=1e-4)


def test_reference_point_carries_no_gradient():
    gradient = jax.grad(utility.kto, argnums=4)(jnp.float32(0.5), jnp.float32(1), jnp.float32(1), 0.1, jnp.float32(0.2))
    assert float(gradient) == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_weight_zero_drops_out(garbage):
    """Neither the loss nor the gradient sees what lies in a slot that weighs nothing."""
    values = jnp.asarray([garbage, -1.0], jnp.float32)
    sign = jnp.asarray([0.0, -1.0])
    weight = jnp.asarray([0.0, 2.0])

    def kto(values):
        return jnp.sum(utility.kto(values, sign, weight, 0.1, jnp.zeros(())))

    def reinforce(values):
        return jnp.sum(utility.reinforce(values, sign, weight))

    def dro(values):
        return jnp.sum(utility.dro(values, sign, weight, 0.1))

    for loss in (kto, reinforce, dro):
        value, gradient = jax.value_and_grad(loss)(values)
        assert np.isfinite(value) and value != 0
        assert gradient[0] == 0 and gradient[1] > 0


def test_saturation_begins_one_from_the_reference_point_in_either_direction():
    log_ratio = jnp.asarray([-3.1, -2.9, 0.0, 4.9, 5.1], jnp.float32)
    shown = utility.is_saturated(log_ratio, 0.25, jnp.float32(1.0))
    assert shown.tolist() == [True, False, False, False, True]
    at_the_edge = utility.gradient_scale(jnp.float32(5.0), 0.25, jnp.float32(1.0))
    assert float(at_the_edge) == pytest.approx(0.786, abs=1e-3)


def test_a_clipped_behaviour_is_one_that_ppo_no_longer_moves():
    sign, log_ratio = (each.ravel() for each in np.meshgrid([-1.0, 1.0], np.linspace(-0.5, 0.5, 31)))
    slope = jax.vmap(jax.grad(utility.ppo), (0, 0, None, None))(log_ratio, sign, 1.0, 0.2)
    shown = np.asarray(utility.is_clipped(log_ratio, sign, 0.2))
    np.testing.assert_array_equal(shown, np.asarray(slope) == 0)
    assert 0 < shown.sum() < shown.size


@RANDOM
@given(st.integers(0, 10**6))
def test_token_kl_equals_loops(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((4, 6)) < 0.7
    policy, reference = np.full((2, 4, 6), -np.inf, np.float32)
    want = np.zeros(4)
    for row in range(4):
        allowed = np.flatnonzero(mask[row])
        if allowed.size == 0:
            continue
        p, q = rng.dirichlet(np.ones(allowed.size), size=2)
        policy[row, allowed], reference[row, allowed] = np.log(p), np.log(q)
        want[row] = sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True))
    got = utility.token_kl(jnp.asarray(policy), jnp.asarray(reference), jnp.asarray(mask))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert np.all(np.asarray(got) >= -1e-6)


def test_token_kl_is_safe_at_minus_infinity():
    mask = jnp.asarray([[True, True, False], [True, True, True], [False, False, False]])
    logits = jnp.asarray([[0.5, -0.5, 9.0], [0.1, -jnp.inf, 0.0], [1.0, 2.0, 3.0]])
    other = jnp.asarray([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])

    def log_probs(logits):
        masked = jnp.where(mask, logits, -jnp.inf)
        total = jax.nn.logsumexp(jnp.where(mask, logits, -1e9), axis=-1, keepdims=True)
        return masked - total

    def total_kl(logits):
        return jnp.sum(utility.token_kl(log_probs(logits), log_probs(other), mask))

    value, gradient = jax.value_and_grad(total_kl)(logits)
    assert np.isfinite(value) and value > 0
    assert np.all(np.isfinite(gradient)) and float(jnp.abs(gradient[0, 0])) > 0
    assert gradient[0, 2] == 0 and gradient[1, 1] == 0
    # A choice open to the policy and closed to the reference is infinitely far.
    closed = utility.token_kl(jnp.log(jnp.full(2, 0.5)), jnp.asarray([0.0, -jnp.inf]), jnp.ones(2, bool))
    assert closed == jnp.inf


@RANDOM
@given(st.integers(0, 10**6), st.integers(2, 9))
def test_sampled_kl_is_the_exact_one_on_average_over_the_reference(seed, choices):
    policy, reference = np.log(np.random.default_rng(seed).dirichlet(np.ones(choices), 2) + 1e-3).astype(np.float32)
    policy, reference = (np.asarray(jax.nn.log_softmax(each)) for each in (policy, reference))
    estimates = np.asarray(utility.sampled_kl(jnp.asarray(policy - reference)))
    assert (estimates > -1e-6).all()
    exact = float(utility.token_kl(jnp.asarray(policy), jnp.asarray(reference), jnp.ones(choices, bool)))
    assert np.sum(np.exp(reference) * estimates) == pytest.approx(exact, rel=1e-4, abs=1e-6)


def test_sampled_kl_of_small_and_large_ratios():
    assert utility.sampled_kl(jnp.zeros(3)).tolist() == [0, 0, 0]
    assert utility.sampled_kl(jnp.asarray([1e-3, -1e-3])) == pytest.approx(5e-7, rel=1e-2)
    assert np.isfinite(utility.sampled_kl(jnp.asarray([1e4, -1e4]))).all()


@RANDOM
@given(st.integers(0, 10**6), st.sampled_from(naive.SHAPES))
def test_reference_points_equal_loops(seed, shape):
    batch = naive.random_batch(seed, shape, num_phases=3)
    kl = np.random.default_rng(seed).random(batch.seat.shape).astype(np.float32)
    got = utility.REFERENCE_POINTS["token_kl"](jnp.where(batch.eligible, kl, jnp.nan), batch.phase, batch.eligible, 3)
    for phase in range(3):
        mine = [kl[s] for s in batch.slots() if batch.eligible[s] and batch.phase[s] == phase]
        assert float(got[phase]) == pytest.approx(np.mean(mine) if mine else 0.0, rel=1e-5)
    zero = utility.REFERENCE_POINTS["zero"](jnp.asarray(kl), batch.phase, batch.eligible, 3)
    assert zero.tolist() == [0, 0, 0]


@RANDOM
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.1, 1.0]), st.floats(-2, 2))
def test_offline_kto_is_the_published_batch_loss(seed, beta, shift):
    """Loss and gradient by TRL's formula: z0 from mismatched pairs, a weight for either kind of reply."""
    rng = np.random.default_rng(seed)
    count, (desirable, undesirable) = 16, (1.0, 1.33)
    policy, reference, foreign, foreign_reference = rng.normal(-20, 3, (4, count))
    foreign = foreign + shift
    good = rng.random(count) < 0.4

    theirs = torch.tensor(policy, requires_grad=True)
    wrong = torch.tensor(foreign, requires_grad=True)
    published = naive.published_kto_batch(
        theirs, torch.tensor(reference), wrong, torch.tensor(foreign_reference), torch.tensor(good), beta, desirable,
        undesirable,
    )  # fmt: skip
    published.backward()

    def ours(policy, foreign):
        point = utility.mismatched_reference_point(foreign - foreign_reference, jnp.ones(count, bool))
        weight = jnp.where(good, desirable, undesirable) * beta / 4
        sign = jnp.where(good, 1.0, -1.0)
        return jnp.mean(utility.kto(policy - reference, sign, weight, beta, point))

    loss, slopes = jax.value_and_grad(ours, argnums=(0, 1))(jnp.asarray(policy), jnp.asarray(foreign))
    assert float(loss) == pytest.approx(published.item(), rel=1e-4)
    np.testing.assert_allclose(slopes[0], theirs.grad.numpy(), rtol=1e-3, atol=1e-7)
    assert not slopes[1].any() and wrong.grad is None


def test_pairs_that_do_not_count_leave_the_mismatched_reference_point_alone():
    log_ratio = jnp.asarray([1.0, jnp.nan, 3.0, jnp.inf])
    point = utility.mismatched_reference_point
    assert float(point(log_ratio, jnp.asarray([True, False, True, False]))) == 2
    assert float(point(-log_ratio, jnp.asarray([True, False, True, False]))) == 0
    assert float(point(log_ratio, jnp.zeros(4, bool))) == 0


def test_reference_points_carry_no_gradient():
    phase, mask = jnp.asarray([0, 1, 1]), jnp.ones(3, bool)

    def total(kl):
        return jnp.sum(utility.reference_point(kl, phase, mask, 2))

    assert float(total(jnp.ones(3))) == 2
    assert jax.grad(total)(jnp.ones(3)).tolist() == [0, 0, 0]
