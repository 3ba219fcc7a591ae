"""Sampling from a masked distribution with one uniform number."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies
from hypothesis.extra import numpy as arrays

from maro_jax.selfplay.reply import inverse_cdf

sample = jax.jit(inverse_cdf)
CHOICES = 7
JUST_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))

logits_of_one = arrays.arrays(np.float32, (CHOICES,), elements=strategies.floats(-80, 80, width=32))
masks = arrays.arrays(np.bool_, (CHOICES,)).filter(np.any)
uniforms = strategies.floats(0, 1, exclude_max=True, width=32) | strategies.sampled_from([0.0, float(JUST_BELOW_ONE)])


@hypothesis.settings(max_examples=150, deadline=None, derandomize=True, database=None)
@hypothesis.given(logits_of_one, masks, uniforms)
def test_draws_what_is_allowed_where_the_cumulative_probability_passes_the_number(logits, allowed, uniform):
    index, log_prob = (np.asarray(x)[0] for x in sample(logits[None], allowed[None], jnp.float32(uniform)[None]))
    assert allowed[index]
    masked = np.where(allowed, logits.astype(np.float64), -np.inf)
    log_probs = masked - masked.max() - np.log(np.exp(masked - masked.max()).sum())
    np.testing.assert_allclose(log_prob, log_probs[index], rtol=1e-5, atol=1e-5)
    cumulative = np.concatenate([[0.0], np.cumsum(np.exp(log_probs))])
    assert cumulative[index] - 1e-6 <= uniform <= cumulative[index + 1] + 1e-6


def test_frequencies_are_the_probabilities():
    count, logits = 40_000, np.array([0.0, 2.0, -1.0, 1.0, 0.5], np.float32)
    allowed = np.array([True, True, False, True, True])
    uniform = np.random.default_rng(0).random(count, np.float32)
    index, _ = sample(np.tile(logits, (count, 1)), np.tile(allowed, (count, 1)), uniform)
    expected = np.where(allowed, np.exp(logits), 0)
    expected /= expected.sum()
    frequency = np.bincount(np.asarray(index), minlength=5) / count
    assert np.all(np.abs(frequency - expected) <= 4 * np.sqrt(expected * (1 - expected) / count))


def test_no_number_reaches_a_masked_token_of_a_large_vocabulary():
    # Sums of 150 000 probabilities in float32 miss 1 by far more than the distance of the largest number to 1.
    chance = np.random.default_rng(1)
    rows, vocabulary = 6, 150_000
    logits = chance.normal(size=(rows, vocabulary)).astype(np.float32)
    allowed = chance.random((rows, vocabulary)) < 0.5
    allowed[:, -100:] = allowed[:, :100] = False
    uniform = np.array([0.0, 1e-7, 0.5, 0.999999, JUST_BELOW_ONE, JUST_BELOW_ONE], np.float32)
    index, log_prob = jax.device_get(sample(logits, allowed, uniform))
    assert allowed[np.arange(rows), index].all()
    assert np.isfinite(log_prob).all()
    assert index[0] == np.argmax(allowed[0])


def test_no_number_falls_on_a_masked_token_where_rounding_lets_the_sum_rise():
    chance, vocabulary = np.random.default_rng(2), 150_000
    logits = chance.normal(size=(1, vocabulary)).astype(np.float32)
    allowed = chance.random((1, vocabulary)) < 0.7
    log_probs = jax.nn.log_softmax(jnp.where(allowed, logits, -jnp.inf), axis=-1)
    sums = np.asarray(jax.jit(lambda x: jnp.cumsum(jnp.exp(x), axis=-1))(log_probs))[0]
    before = np.maximum.accumulate(sums)[:-1]
    rises = np.flatnonzero(~allowed[0, 1:] & (sums[1:] > before))[:500]
    assert len(rises) > 10  # which is the very thing
    uniform = (before[rises] / sums[-1]).astype(np.float32)
    rows = len(uniform)
    for first in range(0, rows, 64):
        some = uniform[first : first + 64]
        index, log_prob = sample(np.tile(logits, (len(some), 1)), np.tile(allowed, (len(some), 1)), some)
        assert allowed[0, np.asarray(index)].all() and np.isfinite(log_prob).all()
