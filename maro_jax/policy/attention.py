"""Attention with and without a KV cache.

The decoder calls `attention.attention(layer, q, k, v, places)` in each block and threads the object it gets
back, so what is remembered between tokens is decided here and not in the model. Both kinds compute
softmax(q·k / sqrt(D))·v with `H / K` query heads per key head (Ainslie et al. 2023, "GQA") without
repeating keys, and softmax in float32.
"""

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

import jax
import jax.numpy as jnp
from jax import lax

from maro_jax.policy.config import DecoderConfig

if TYPE_CHECKING:
    from maro_jax.policy.decoder import Policy

# Finite, so that a row with nothing to see yields a number (never read) instead of NaN.
_MASKED = -1e30


class Attention(Protocol):
    """What the decoder needs of an attention."""

    def attention(
        self, layer: int, q: jax.Array, k: jax.Array, v: jax.Array, places: jax.Array | None
    ) -> tuple[jax.Array, Self]:
        """Attends in one layer.

        Args:
            layer: index of the block, static.
            q: `[B, Q, H, D]`, rotated.
            k: `[B, T, K, D]`, rotated.
            v: `[B, T, K, D]`.
            places: int32 `[B, Q]`, which of the T tokens the queries belong to; `None`: Q = T, each
                to its own.

        Returns:
            The mix of values `[B, Q, H, D]`, and the attention for the next layer.
        """


def token_positions(start: jax.Array, num_tokens: int) -> jax.Array:
    """Returns int32 `[B, T]`: the positions of `num_tokens` tokens that follow each other.

    Args:
        start: int32 `[B]`, position of each row's first token.
        num_tokens: `T`.
    """
    return start[:, None] + jnp.arange(num_tokens, dtype=jnp.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CausalAttention:
    """Each token sees itself and all before it in its row, or in its segment of the row.

    Rows are padded on the right: padding comes after all valid tokens, so no valid token sees it.

    Attributes:
        segment: int32 `[B, T]`, which of the streams packed in the row a token belongs to; `None`
            for one stream a row.
    """

    segment: jax.Array | None = None

    def attention(
        self, layer: int, q: jax.Array, k: jax.Array, v: jax.Array, places: jax.Array | None
    ) -> tuple[jax.Array, "CausalAttention"]:
        """See `Attention.attention`."""
        del layer
        if places is None:
            return causal_attention(q, k, v, self.segment), self
        visible = jnp.arange(k.shape[1]) <= places[..., None]
        if self.segment is not None:
            own = jnp.take_along_axis(self.segment, places, axis=1)
            visible = visible & (own[..., None] == self.segment[:, None])
        return _attend_block(q, k, v, visible), self


def causal_attention(q: jax.Array, k: jax.Array, v: jax.Array, segment: jax.Array | None = None) -> jax.Array:
    """Returns causal attention `[B, T, H, D]` for `q [B, T, H, D]` and `k`, `v` `[B, T, K, D]`.

    Queries are taken in blocks that read only the keys before their end. That halves the work and
    keeps the scores small: on a CPU it is about twice as fast as one masked product at T = 192.
    """
    num_tokens = q.shape[1]
    # Between one and eight blocks, so that a long row does not become a long program.
    block = 64 * max(1, -(-num_tokens // 512))
    outputs = []
    for start in range(0, num_tokens, block):
        end = min(start + block, num_tokens)
        visible = (jnp.arange(end) <= jnp.arange(start, end)[:, None])[None]
        if segment is not None:
            visible = visible & (segment[:, start:end, None] == segment[:, None, :end])
        outputs.append(_attend_block(q[:, start:end], k[:, :end], v[:, :end], visible))
    return jnp.concatenate(outputs, axis=1)


def _attend_block(q: jax.Array, k: jax.Array, v: jax.Array, visible: jax.Array) -> jax.Array:
    """Attends from `q [B, T, H, D]` to `k`, `v` `[B, S, K, D]` where `visible [B or 1, T, S]`."""
    batch, num_tokens, num_heads, head_dim = q.shape
    groups = num_heads // k.shape[2]
    scores = jnp.einsum("bkmd,bskd->bkms", _group_queries(q, k.shape[2]), k, preferred_element_type=jnp.float32)
    scores = jnp.where(jnp.tile(visible, (1, groups, 1))[:, None], scores, _MASKED)
    peak = lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    exponentials = jnp.exp(scores - peak)
    mixed = jnp.einsum("bkms,bskd->bkmd", exponentials.astype(v.dtype), v, preferred_element_type=jnp.float32)
    # Dividing the D mixed values costs less than dividing the S probabilities.
    mixed = mixed / exponentials.sum(axis=-1, keepdims=True)
    return _ungroup(mixed, num_tokens).astype(q.dtype)


def _group_queries(q: jax.Array, num_kv_heads: int) -> jax.Array:
    """Turns `[B, T, H, D]` into `[B, K, (H/K)·T, D]`, scaled by D^-½.

    The query heads that share a key head become rows of one matrix product.
    """
    batch, num_tokens, num_heads, head_dim = q.shape
    groups = num_heads // num_kv_heads
    q = (q * head_dim**-0.5).reshape(batch, num_tokens, num_kv_heads, groups, head_dim)
    return q.transpose(0, 2, 3, 1, 4).reshape(batch, num_kv_heads, groups * num_tokens, head_dim)


def _ungroup(mixed: jax.Array, num_tokens: int) -> jax.Array:
    """Turns `[B, K, (H/K)·T, D]` into `[B, T, H, D]`."""
    batch, num_kv_heads, rows, head_dim = mixed.shape
    groups = rows // num_tokens
    mixed = mixed.reshape(batch, num_kv_heads, groups, num_tokens, head_dim)
    return mixed.transpose(0, 3, 1, 2, 4).reshape(batch, num_tokens, -1, head_dim)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["k", "v", "prefix_k", "prefix_v", "prefix_length"],
    meta_fields=["block"],
)
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of many streams, which share a few prefixes.

    A stream is a prefix followed by its own tokens; the absolute position of own index `i` is
    `prefix_length[prefix_row] + i`.

    Attributes:
        k: for each layer `[rows, S, K, D]`, rotated keys of own tokens.
        v: for each layer `[rows, S, K, D]`.
        prefix_k: for each layer `[prefix_rows, P, K, D]`, filled by `prefill_prefix`.
        prefix_v: for each layer `[prefix_rows, P, K, D]`.
        prefix_length: int32 `[prefix_rows]`, valid tokens of each prefix.
        block: own positions that are read at a time, static; divides `S`. A multiple of 64 suits CPUs: smaller
            products miss the fast matrix kernels.
    """

    k: tuple[jax.Array, ...]
    v: tuple[jax.Array, ...]
    prefix_k: tuple[jax.Array, ...]
    prefix_v: tuple[jax.Array, ...]
    prefix_length: jax.Array
    block: int


def init_cache(
    config: DecoderConfig,
    rows: int,
    capacity: int,
    prefix_rows: int,
    prefix_capacity: int,
    dtype: Any,
    block: int = 64,
) -> KVCache:
    """Returns an empty cache.

    Args:
        config: the model's shape.
        rows: number of streams.
        capacity: most own tokens of a stream. `S` is that, rounded up to whole blocks if it is more than one.
        prefix_rows: number of shared prefixes, at least 1.
        prefix_capacity: most tokens of a prefix, `P`; 0 for none.
        dtype: of keys and values.
        block: own positions to be read at a time.
    """
    block = min(block, capacity)
    capacity = -(-capacity // block) * block

    def zeros(rows: int, length: int) -> tuple[jax.Array, ...]:
        shape = (rows, length, config.num_kv_heads, config.head_dim)
        return tuple(jnp.zeros(shape, dtype) for _ in range(config.num_layers))

    return KVCache(
        k=zeros(rows, capacity),
        v=zeros(rows, capacity),
        prefix_k=zeros(prefix_rows, prefix_capacity),
        prefix_v=zeros(prefix_rows, prefix_capacity),
        prefix_length=jnp.zeros(prefix_rows, jnp.int32),
        block=block,
    )


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["cache", "rows", "prefix_rows", "start", "count"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class CachedAttention:
    """Extends `B` rows of a cache by up to `T` tokens each, and attends to what is live.

    Query `t` of row `b` sees the valid part of its prefix and own indices up to `start[b] + t`.
    Where `t >= count[b]` nothing is written and the output is finite but meaningless.

    Attributes:
        cache: the cache, read and extended.
        rows: int32 `[B]`, the cache row of each row here, no row twice; an entry at or beyond the
            number of cache rows is padding and writes nothing.
        prefix_rows: int32 `[B]`, the prefix of each row.
        start: int32 `[B]`, own index of each row's first new token.
        count: int32 `[B]`, how many of the `T` new tokens are valid.
    """

    cache: KVCache
    rows: jax.Array
    prefix_rows: jax.Array
    start: jax.Array
    count: jax.Array

    def positions(self, num_tokens: int) -> jax.Array:
        """Returns int32 `[B, T]`: the absolute positions of the new tokens."""
        return token_positions(self._prefix_length() + self.start, num_tokens)

    def attention(
        self, layer: int, q: jax.Array, k: jax.Array, v: jax.Array, places: jax.Array | None
    ) -> tuple[jax.Array, "CachedAttention"]:
        """See `Attention.attention`."""
        last = token_positions(self.start, q.shape[1]) if places is None else self.start[:, None] + places
        cache_k = self._write(self.cache.k[layer], k)
        cache_v = self._write(self.cache.v[layer], v)
        queries = _group_queries(q, k.shape[2])
        softmax = _Softmax.start(queries)
        if self.cache.prefix_k[layer].shape[1]:
            softmax = self._add_prefix(layer, queries, softmax)
        softmax = self._add_own(cache_k, cache_v, queries, last, softmax)
        cache = dataclasses.replace(
            self.cache,
            k=_replace_item(self.cache.k, layer, cache_k),
            v=_replace_item(self.cache.v, layer, cache_v),
        )
        output = _ungroup(softmax.result(), q.shape[1]).astype(q.dtype)
        return output, dataclasses.replace(self, cache=cache)

    def read(self, layer: int, queries: jax.Array, tokens: int) -> "_Softmax":
        """Returns the softmax of grouped queries, of `tokens` tokens a row, over what is cached before `start`."""
        softmax = _Softmax.start(queries)
        if self.cache.prefix_k[layer].shape[1]:
            softmax = self._add_prefix(layer, queries, softmax)
        last = jnp.repeat(self.start[:, None] - 1, tokens, axis=1)
        return self._add_own(self.cache.k[layer], self.cache.v[layer], queries, last, softmax)

    def _prefix_length(self) -> jax.Array:
        """Returns int32 `[B]`."""
        return self.cache.prefix_length.at[self.prefix_rows].get(mode="clip")

    def _write(self, cache: jax.Array, new: jax.Array) -> jax.Array:
        """Puts the valid part of `new [B, T, K, D]` into `cache [rows, S, K, D]`."""
        capacity = cache.shape[1]
        step = jnp.arange(new.shape[1])
        index = jnp.where(step < self.count[:, None], self.start[:, None] + step, capacity)
        return cache.at[self.rows[:, None], index].set(new.astype(cache.dtype), mode="drop")

    def _add_prefix(self, layer: int, queries: jax.Array, softmax: "_Softmax") -> "_Softmax":
        """Adds the valid part of each row's prefix."""
        k = self.cache.prefix_k[layer].at[self.prefix_rows].get(mode="clip")
        v = self.cache.prefix_v[layer].at[self.prefix_rows].get(mode="clip")
        visible = jnp.arange(k.shape[1]) < self._prefix_length()[:, None]
        return softmax.add(queries, k, v, visible[:, None, None, :])

    def _add_own(
        self,
        cache_k: jax.Array,
        cache_v: jax.Array,
        queries: jax.Array,
        last: jax.Array,
        softmax: "_Softmax",
    ) -> "_Softmax":
        """Adds own tokens up to `last [B, Q]` of each query, reading blocks only up to the longest row's end."""
        num_rows, capacity, *entry = cache_k.shape
        block, num_blocks = self.cache.block, capacity // self.cache.block
        groups = queries.shape[2] // last.shape[1]
        last = jnp.tile(last, (1, groups))[:, None, :, None]  # [B, 1, (H/K)·Q, 1]

        def read(cache: jax.Array, index: jax.Array) -> jax.Array:
            # Whole rows of a list of blocks: XLA copies them faster than windows of the streams.
            blocks = cache.reshape(num_rows * num_blocks, block, *entry)
            return blocks.at[self.rows * num_blocks + index].get(mode="clip")

        def body(index: jax.Array, softmax: "_Softmax") -> "_Softmax":
            visible = index * block + jnp.arange(block) <= last
            return softmax.add(queries, read(cache_k, index), read(cache_v, index), visible)

        live = jnp.where(self.rows < num_rows, self.start + self.count, 0).max()
        return lax.fori_loop(0, (live + block - 1) // block, body, softmax)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["cache", "rows", "prefix_rows", "length", "k", "v", "step"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class BranchedAttention:
    """Several continuations of each of `B` cached streams, extended by one token each at a time.

    The stream is read once for all of its continuations and stays as it is. The `n` new tokens of a row stand side by
    side and do not see each other: each sees the stream, and the earlier tokens of its own continuation.

    Attributes:
        cache: the cache, only read.
        rows: int32 `[B]`, the cache row of each row here.
        prefix_rows: int32 `[B]`, the prefix of each row.
        length: int32 `[B]`, own tokens of each cached stream.
        k: for each layer `[B, n, J, K, D]`, rotated keys of the continuations.
        v: for each layer `[B, n, J, K, D]`.
        step: int32 `[]`, the place among `J` of the new tokens.
    """

    cache: KVCache
    rows: jax.Array
    prefix_rows: jax.Array
    length: jax.Array
    k: tuple[jax.Array, ...]
    v: tuple[jax.Array, ...]
    step: jax.Array

    @classmethod
    def start(
        cls, cache: KVCache, rows: jax.Array, prefix_rows: jax.Array, length: jax.Array, branches: int, room: int
    ) -> Self:
        """Returns `branches` empty continuations of each row, with room for so many tokens each."""
        empty = tuple(jnp.zeros((len(rows), branches, room, *k.shape[2:]), k.dtype) for k in cache.k)
        return cls(cache, rows, prefix_rows, length, empty, empty, jnp.int32(0))

    def positions(self) -> jax.Array:
        """Returns int32 `[B, n]`: the absolute positions of the new tokens."""
        own = self.cache.prefix_length.at[self.prefix_rows].get(mode="clip") + self.length + self.step
        return jnp.broadcast_to(own[:, None], self.k[0].shape[:2])

    def attention(
        self, layer: int, q: jax.Array, k: jax.Array, v: jax.Array, places: jax.Array | None
    ) -> tuple[jax.Array, "BranchedAttention"]:
        """See `Attention.attention`; all n tokens of a row are queries."""
        assert places is None
        num_rows, branches, room = self.k[layer].shape[:3]
        new_k, new_v = (
            lax.dynamic_update_index_in_dim(old[layer], new.astype(old[layer].dtype), self.step, axis=2)
            for old, new in ((self.k, k), (self.v, v))
        )
        queries = _group_queries(q, k.shape[2])
        softmax = self._shared().read(layer, queries, branches)
        # Keys of all continuations of a row in one product, each seen by its own queries only.
        key = jnp.arange(branches * room)
        own = jnp.arange(queries.shape[2])[:, None] % branches == key // room
        flat_k, flat_v = (x.reshape(num_rows, branches * room, *x.shape[3:]) for x in (new_k, new_v))
        softmax = softmax.add(queries, flat_k, flat_v, own & (key % room <= self.step))
        kept_k, kept_v = _replace_item(self.k, layer, new_k), _replace_item(self.v, layer, new_v)
        return _ungroup(softmax.result(), branches).astype(q.dtype), dataclasses.replace(self, k=kept_k, v=kept_v)

    def _shared(self) -> CachedAttention:
        return CachedAttention(self.cache, self.rows, self.prefix_rows, self.length, jnp.zeros_like(self.length))


@partial(jax.tree_util.register_dataclass, data_fields=["peak", "total", "mixed"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class _Softmax:
    """Softmax over keys that arrive in blocks (Milakov and Gimelshein 2018, "online softmax").

    Attributes:
        peak: float32 `[B, K, M, 1]`, the largest score so far.
        total: float32 `[B, K, M, 1]`, the sum of exp(score - peak).
        mixed: float32 `[B, K, M, D]`, the sum of exp(score - peak)·value.
    """

    peak: jax.Array
    total: jax.Array
    mixed: jax.Array

    @classmethod
    def start(cls, queries: jax.Array) -> "_Softmax":
        """Returns the softmax over no keys for `queries [B, K, M, D]`."""
        shape = (*queries.shape[:3], 1)
        return cls(
            peak=jnp.full(shape, _MASKED, jnp.float32),
            total=jnp.zeros(shape, jnp.float32),
            mixed=jnp.zeros(queries.shape, jnp.float32),
        )

    def add(self, queries: jax.Array, k: jax.Array, v: jax.Array, visible: jax.Array) -> "_Softmax":
        """Adds keys and values `[B, S, K, D]` where `visible`, broadcastable to `[B, K, M, S]`."""
        scores = jnp.einsum("bkmd,bskd->bkms", queries, k.astype(queries.dtype), preferred_element_type=jnp.float32)
        scores = jnp.where(visible, scores, _MASKED)
        peak = jnp.maximum(self.peak, scores.max(axis=-1, keepdims=True))
        decay = jnp.exp(self.peak - peak)
        exponentials = jnp.exp(scores - peak)
        mixed = jnp.einsum(
            "bkms,bskd->bkmd",
            exponentials.astype(queries.dtype),
            v.astype(queries.dtype),
            preferred_element_type=jnp.float32,
        )
        return _Softmax(
            peak=peak,
            total=self.total * decay + exponentials.sum(axis=-1, keepdims=True),
            mixed=self.mixed * decay + mixed,
        )

    def result(self) -> jax.Array:
        """Returns the mix of values, float32 `[B, K, M, D]`; zero where no key was added."""
        return self.mixed / jnp.maximum(self.total, jnp.finfo(jnp.float32).tiny)


def _replace_item(items: tuple[jax.Array, ...], index: int, item: jax.Array) -> tuple:
    """Returns `items` with one replaced."""
    return (*items[:index], item, *items[index + 1 :])


@partial(jax.tree_util.register_dataclass, data_fields=["k", "v"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class _RecordingAttention:
    """Causal attention that keeps the keys and values it was given, layer by layer."""

    k: tuple[jax.Array, ...] = ()
    v: tuple[jax.Array, ...] = ()

    def attention(
        self, layer: int, q: jax.Array, k: jax.Array, v: jax.Array, places: jax.Array | None
    ) -> tuple[jax.Array, "_RecordingAttention"]:
        """See `Attention.attention`."""
        mixed, _ = CausalAttention().attention(layer, q, k, v, places)
        return mixed, _RecordingAttention((*self.k, k), (*self.v, v))


def prefill_prefix(
    policy: "Policy", params: Any, tokens: jax.Array, lengths: jax.Array
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Computes the keys and values of shared prefixes, once for a set of parameters.

    Args:
        policy: the model.
        params: its parameters.
        tokens: int32 `[prefix_rows, P]`, padded on the right.
        lengths: int32 `[prefix_rows]`, valid tokens of each prefix.

    Returns:
        `prefix_k` and `prefix_v` for `KVCache`: for each layer `[prefix_rows, P, K, D]`, zero
        beyond the lengths.
    """
    start = jnp.zeros(tokens.shape[0], jnp.int32)
    positions = token_positions(start, tokens.shape[1])
    _, recorded = policy.forward(params, tokens, positions, _RecordingAttention())
    valid = (positions < lengths[:, None])[:, :, None, None]
    recorded = jax.tree.map(lambda x: jnp.where(valid, x, 0), recorded)
    return recorded.k, recorded.v
