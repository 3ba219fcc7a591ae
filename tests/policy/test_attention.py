"""Attention with a cache equals one causal pass, however the tokens arrive."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maro_jax.policy.attention import (
    CachedAttention,
    CausalAttention,
    KVCache,
    causal_attention,
    init_cache,
    prefill_prefix,
    token_positions,
)
from maro_jax.policy.config import DecoderConfig, tiny_config
from maro_jax.policy.decoder import Params, Policy

CONFIG = DecoderConfig(
    vocab_size=40,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    rope_theta=1e4,
    rms_norm_eps=1e-6,
    tie_embeddings=True,
    qkv_bias=True,
    max_positions=512,
    family="qwen2",
)
POLICY = Policy(CONFIG, precision="highest")
BLOCK = 8
CAPACITY = 37  # not whole blocks


@pytest.fixture(scope="module")
def params() -> Params:
    # Ten times the usual embedding, so that attention is far from uniform.
    params = POLICY.init(jax.random.key(0))
    return params | {"embedding": 10 * params["embedding"]}


@jax.jit
def full_pass(params: Params, tokens: jax.Array) -> jax.Array:
    positions = token_positions(jnp.zeros(tokens.shape[0], jnp.int32), tokens.shape[1])
    return POLICY.forward(params, tokens, positions, CausalAttention())[0]


@jax.jit
def extend(params: Params, tokens: jax.Array, attention: CachedAttention):
    positions = attention.positions(tokens.shape[1])
    hidden, attention = POLICY.forward(params, tokens, positions, attention)
    return hidden, attention.cache


def filled_cache(params, rng, rows, prefix_lengths, prefix_capacity) -> tuple[KVCache, np.ndarray]:
    """A cache with prefilled prefixes, and their tokens."""
    cache = init_cache(CONFIG, rows, CAPACITY, len(prefix_lengths), prefix_capacity, "float32", BLOCK)
    prefix = rng.integers(0, CONFIG.vocab_size, (len(prefix_lengths), prefix_capacity))
    lengths = jnp.array(prefix_lengths, jnp.int32)
    if prefix_capacity:
        k, v = prefill_prefix(POLICY, params, jnp.array(prefix, jnp.int32), lengths)
        cache = dataclasses.replace(cache, prefix_k=k, prefix_v=v)
    return dataclasses.replace(cache, prefix_length=lengths), prefix


def test_reading_some_tokens_gives_their_part_of_the_whole(params):
    """In packed rows: the last layer works for the tokens read alone, in any order and more than once."""
    rng = np.random.default_rng(5)
    tokens = jnp.array(rng.integers(0, CONFIG.vocab_size, (3, 20)), jnp.int32)
    positions = token_positions(jnp.zeros(3, jnp.int32), 20)
    places = jnp.array(rng.integers(0, 20, (3, 25)), jnp.int32)
    segment = jnp.array(np.sort(rng.integers(0, 3, (3, 20)), axis=1), jnp.int32)
    for attention in (CausalAttention(), CausalAttention(segment)):
        whole, _ = POLICY.forward(params, tokens, positions, attention)
        some, _ = POLICY.forward(params, tokens, positions, attention, places)
        np.testing.assert_allclose(some, np.take_along_axis(np.asarray(whole), places[..., None], 1), atol=1e-5)


def test_reading_one_token_of_a_cached_chunk_leaves_the_same_cache(params):
    rng = np.random.default_rng(6)
    cache, _ = filled_cache(params, rng, 3, (4,), 4)
    attention = CachedAttention(
        cache=cache,
        rows=jnp.arange(3),
        prefix_rows=jnp.zeros(3, jnp.int32),
        start=jnp.array([0, 5, 20]),
        count=jnp.array([7, 3, 1]),
    )
    tokens = jnp.array(rng.integers(0, CONFIG.vocab_size, (3, 7)), jnp.int32)
    positions, last = attention.positions(7), attention.count[:, None] - 1
    whole, after = POLICY.forward(params, tokens, positions, attention)
    some, after_some = POLICY.forward(params, tokens, positions, attention, last)
    np.testing.assert_allclose(some, np.take_along_axis(np.asarray(whole), last[..., None], 1), atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after.cache, after_some.cache)


@pytest.mark.parametrize("prefix_lengths", [(6, 9, 0), (0,)])
@pytest.mark.parametrize("seed", range(3))
def test_tokens_in_any_chunks_equal_one_pass(params, prefix_lengths, seed):
    """Random rows bring random numbers of tokens, among padding rows, until all streams are in."""
    rng = np.random.default_rng(seed)
    num_rows, batch = 6, 5
    cache, prefix = filled_cache(params, rng, num_rows, prefix_lengths, max(prefix_lengths))
    prefix_of = rng.integers(0, len(prefix_lengths), num_rows)
    lengths = rng.integers(1, CAPACITY + 1, num_rows)
    lengths[0] = CAPACITY  # one stream fills the cache to its last place
    own = rng.integers(0, CONFIG.vocab_size, (num_rows, CAPACITY))
    done = np.zeros(num_rows, int)
    seen: list[list[np.ndarray]] = [[] for _ in range(num_rows)]

    while (done < lengths).any():
        width = int(rng.choice([1, 4, 7]))
        chosen = rng.permutation(num_rows)[: rng.integers(1, batch + 1)]
        rows = np.full(batch, num_rows)  # padding
        rows[len(chosen) - 1 :: -1] = chosen
        rows[batch - 1] = num_rows + 100 if len(chosen) < batch else rows[batch - 1]
        tokens = rng.integers(0, CONFIG.vocab_size, (batch, width))
        start, count = np.zeros(batch, int), rng.integers(0, width + 1, batch)
        for b, row in enumerate(rows):
            if row < num_rows:
                start[b] = done[row]
                count[b] = min(count[b], lengths[row] - done[row])
                tokens[b, : count[b]] = own[row, start[b] : start[b] + count[b]]
        attention = CachedAttention(
            cache=cache,
            rows=jnp.array(rows, jnp.int32),
            prefix_rows=jnp.array([prefix_of[row] if row < num_rows else 99 for row in rows]),
            start=jnp.array(start, jnp.int32),
            count=jnp.array(count, jnp.int32),
        )
        hidden, cache = extend(params, jnp.array(tokens, jnp.int32), attention)
        assert np.isfinite(hidden).all()
        for b, row in enumerate(rows):
            if row < num_rows:
                seen[row].append(np.asarray(hidden[b, : count[b]]))
                done[row] += count[b]

    for row in range(num_rows):
        shared = prefix_lengths[prefix_of[row]]
        stream = np.concatenate([prefix[prefix_of[row], :shared], own[row, : lengths[row]]])
        padded = np.zeros((1, 50), np.int32)
        padded[0, : len(stream)] = stream
        expected = full_pass(params, jnp.array(padded))[0, shared : len(stream)]
        np.testing.assert_allclose(np.concatenate(seen[row]), expected, atol=1e-5)
        assert (cache.k[0][row, lengths[row] :] == 0).all()  # nothing invalid was written


def test_padding_rows_and_invalid_tokens_write_nothing(params):
    cache, _ = filled_cache(params, np.random.default_rng(0), 3, (4,), 4)
    attention = CachedAttention(
        cache=cache,
        rows=jnp.array([3, 1, 2**30]),
        prefix_rows=jnp.zeros(3, jnp.int32),
        start=jnp.array([0, 5, 0]),
        count=jnp.array([4, 2, 4]),
    )
    _, after = extend(params, jnp.ones((3, 4), jnp.int32), attention)
    written = np.zeros((3, 40), bool)  # room for five blocks
    written[1, 5:7] = True
    for layer in range(CONFIG.num_layers):
        assert ((after.k[layer] != 0).any((2, 3)) == written).all()
        assert ((after.v[layer] != 0).any((2, 3)) == written).all()


def test_only_the_live_part_is_read(params):
    """What lies beyond the longest row's block, or beyond a prefix, may be anything."""
    cache, _ = filled_cache(params, np.random.default_rng(0), 2, (3,), 6)
    poisoned = dataclasses.replace(
        cache,
        k=tuple(k.at[:, 16:].set(jnp.nan) for k in cache.k),
        v=tuple(v.at[:, 16:].set(jnp.nan) for v in cache.v),
    )
    tokens = jnp.arange(10, dtype=jnp.int32).reshape(2, 5)

    def run(cache: KVCache) -> jax.Array:
        return extend(
            params,
            tokens,
            CachedAttention(cache, jnp.arange(2), jnp.zeros(2, int), jnp.array([0, 9]), jnp.full(2, 5)),
        )[0]

    np.testing.assert_array_equal(run(cache), run(poisoned))
    assert np.isnan(run(dataclasses.replace(poisoned, block=20))).any()  # the poison is real


def test_positions_start_after_the_prefix(params):
    cache, _ = filled_cache(params, np.random.default_rng(0), 2, (3, 6), 6)
    attention = CachedAttention(cache, jnp.array([0, 1]), jnp.array([1, 0]), jnp.array([2, 0]), jnp.array([1, 1]))
    np.testing.assert_array_equal(attention.positions(3), [[8, 9, 10], [3, 4, 5]])


def test_cache_is_updated_in_place_inside_a_loop():
    """A loop over tokens needs less scratch memory than a single copy of one layer's keys."""
    policy = Policy(tiny_config(256))
    rows, capacity, batch = 64, 2048, 8
    cache = init_cache(policy.config, rows, capacity, 2, 16, "float32")

    def decode(params: Params, cache: KVCache, rows: jax.Array) -> KVCache:
        def body(carry: tuple[jax.Array, KVCache]) -> tuple[jax.Array, KVCache]:
            step, cache = carry
            start = jnp.full(batch, step)
            attention = CachedAttention(cache, rows, jnp.zeros(batch, jnp.int32), start, jnp.ones(batch, jnp.int32))
            tokens = jnp.zeros((batch, 1), jnp.int32)
            _, attention = policy.forward(params, tokens, attention.positions(1), attention)
            return step + 1, attention.cache

        return jax.lax.while_loop(lambda carry: carry[0] < 100, body, (0, cache))[1]

    compiled = jax.jit(decode, donate_argnums=1).lower(policy.abstract_params(), cache, jnp.arange(batch)).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < cache.k[0].nbytes
    assert memory.alias_size_in_bytes >= sum(leaf.nbytes for leaf in (*cache.k, *cache.v))


@pytest.mark.parametrize("num_tokens", [1, 64, 100, 600])
def test_causal_attention_equals_jax_and_so_do_its_gradients(num_tokens):
    keys = jax.random.split(jax.random.key(1), 4)
    q, weight = (jax.random.normal(key, (2, num_tokens, 4, 8)) for key in keys[:2])
    k, v = (jax.random.normal(key, (2, num_tokens, 2, 8)) for key in keys[2:])

    def reference(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(q, k, v, is_causal=True)

    with jax.default_matmul_precision("highest"):
        for ours, theirs in zip(
            jax.tree.leaves(value_and_gradients(causal_attention, weight, q, k, v)),
            jax.tree.leaves(value_and_gradients(reference, weight, q, k, v)),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)


def value_and_gradients(attend, weight, *inputs):
    def total(*inputs):
        output = attend(*inputs)
        return (output * weight).sum(), output

    return jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(*inputs)


def test_attention_in_bfloat16_stays_close(params):
    rounded = Policy(CONFIG, dtype="bfloat16")
    tokens = jax.random.randint(jax.random.key(2), (2, 20), 0, CONFIG.vocab_size)
    cache = init_cache(CONFIG, 2, 24, 1, 0, "bfloat16")
    attention = CachedAttention(cache, jnp.arange(2), jnp.zeros(2, int), jnp.zeros(2, int), jnp.full(2, 20))
    run = jax.jit(rounded.forward)
    hidden, _ = run(params, tokens, attention.positions(20), attention)
    assert hidden.dtype == jnp.bfloat16
    exact = full_pass(params, tokens)
    assert np.abs(hidden - exact).max() < 0.15
