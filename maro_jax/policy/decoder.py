"""The decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU; and its pure functions.

The modules are Flax NNX; everybody else uses `Policy`, a static object whose methods are pure
functions of `params`, a tree of plain nested dicts of arrays.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from maro_jax.policy.attention import Attention
from maro_jax.policy.config import DecoderConfig, ModelError
from maro_jax.policy.lora import Adapted, Lora, Params, abstract_adapter, join, merged, new_adapter

AttentionT = TypeVar("AttentionT", bound=Attention)

DTYPES = ("float32", "bfloat16")
PRECISIONS = ("default", "high", "highest")

# What `Policy.encode` keeps of a layer for its gradient, by the name of what it recomputes.
REMAT: dict[str, Callable[..., Any] | None] = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}
# From so many layers on `Policy.encode` loops over them; fewer are written out, which runs faster on a CPU.
SCANNED_LAYERS = 8

# Small enough for a new model to be near uniform, large enough to learn fast from scratch.
_EMBEDDING_SCALE = 0.05


class Linear(nnx.Module):
    """`x @ kernel + bias`, with `kernel [in, out]` one plain matrix product; and LoRA's factors beside it."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = False,
        scale: float = 1.0,
        rank: int = 0,
        rngs: nnx.Rngs,
    ):
        """Draws the kernel from a normal with standard deviation `scale / sqrt(in)`; bias and factors zero."""
        normal = jax.random.normal(rngs.params(), (in_features, out_features))
        self.kernel = nnx.Param(normal * (scale / math.sqrt(in_features)))
        self.bias = nnx.Param(jnp.zeros(out_features)) if use_bias else None
        self.lora_a = nnx.Param(jnp.zeros((in_features, rank))) if rank else None
        self.lora_b = nnx.Param(jnp.zeros((rank, out_features))) if rank else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[n, in]` to `[n, out]` in the type of `x`; the n tokens are split evenly over rows of adapters."""
        y = x @ self.kernel[...].astype(x.dtype)
        if self.lora_a is not None and self.lora_b is not None:
            a, b = self.lora_a[...].astype(x.dtype), self.lora_b[...].astype(x.dtype)
            rows = x if a.ndim == 2 else x.reshape(len(a), -1, x.shape[-1])
            y = y + ((rows @ a) @ b).reshape(y.shape)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x²) + ε) · scale in float32 (Zhang and Sennrich 2019)."""

    def __init__(self, size: int, epsilon: float):
        """Starts with scale one."""
        self.scale = nnx.Param(jnp.ones(size))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., d]` to the same shape and type."""
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        return (wide * self.scale[...].astype(jnp.float32)).astype(x.dtype)


class Block(nnx.Module):
    """One layer: attention and a gated feed-forward, each on the normed residual stream."""

    def __init__(self, config: DecoderConfig, layer: int, rngs: nnx.Rngs, lora: Lora | None = None):
        """Scales what is added to the stream by 1/sqrt(2·layers), so that depth keeps its size."""
        size, width = config.hidden_size, config.intermediate_size
        query_size = config.num_heads * config.head_dim
        kv_size = config.num_kv_heads * config.head_dim
        into_stream = (2 * config.num_layers) ** -0.5
        ranks = dict.fromkeys(lora.matrices, lora.rank) if lora else {}

        def linear(name: str, *sizes: int, **settings: Any) -> Linear:
            return Linear(*sizes, rank=ranks.get(name, 0), rngs=rngs, **settings)

        self.layer = layer
        self.head_dim = config.head_dim
        self.attention_norm = RMSNorm(size, config.rms_norm_eps)
        self.query = linear("query", size, query_size, use_bias=config.qkv_bias)
        self.key = linear("key", size, kv_size, use_bias=config.qkv_bias)
        self.value = linear("value", size, kv_size, use_bias=config.qkv_bias)
        self.query_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.key_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.output = linear("output", query_size, size, use_bias=config.output_bias, scale=into_stream)
        self.mlp_norm = RMSNorm(size, config.rms_norm_eps)
        self.gate = linear("gate", size, width)
        self.up = linear("up", size, width)
        self.down = linear("down", width, size, scale=into_stream)

    def __call__(
        self,
        x: jax.Array,
        rotation: tuple[jax.Array, jax.Array],
        attention: AttentionT,
        places: jax.Array | None = None,
    ) -> tuple[jax.Array, AttentionT]:
        """Maps the stream `[B·T, d]`, or with `places [B, Q]` only these tokens of it, to `[B·Q, d]`.

        `rotation` is cos and sin, `[B, T, 1, D/2]` each.
        """
        normed = self.attention_norm(x)
        k = self._heads(self.key(normed), rotation)
        k = rotate(k if self.key_norm is None else self.key_norm(k), rotation)
        v = self._heads(self.value(normed), rotation)
        if places is not None:
            x, normed = (_take_tokens(a, places) for a in (x, normed))
            rotation = jax.tree.map(lambda a: jnp.take_along_axis(a, places[..., None, None], axis=1), rotation)
        q = self._heads(self.query(normed), rotation)
        q = rotate(q if self.query_norm is None else self.query_norm(q), rotation)
        mixed, attention = attention.attention(self.layer, q, k, v, places)
        x = x + self.output(mixed.reshape(len(x), -1))
        normed = self.mlp_norm(x)
        return x + self.down(jax.nn.silu(self.gate(normed)) * self.up(normed)), attention

    def _heads(self, x: jax.Array, rotation: tuple[jax.Array, jax.Array]) -> jax.Array:
        return x.reshape(*rotation[0].shape[:2], -1, self.head_dim)


def _take_tokens(x: jax.Array, places: jax.Array) -> jax.Array:
    """Picks `places [B, Q]` of `x [B·T, d]`, as `[B·Q, d]`."""
    rows = x.reshape(len(places), -1, x.shape[-1])
    return jnp.take_along_axis(rows, places[..., None], axis=1).reshape(-1, x.shape[-1])


class Decoder(nnx.Module):
    """The whole model; `head` exists only where it is not the embedding."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs, lora: Lora | None = None):
        """Draws new parameters; with `lora` there is room for an adapter."""
        shape = (config.vocab_size, config.hidden_size)

        def rows() -> nnx.Param:
            return nnx.Param(jax.random.normal(rngs.params(), shape) * _EMBEDDING_SCALE)

        self.embedding = rows()
        self.layers = nnx.List([Block(config, layer, rngs, lora) for layer in range(config.num_layers)])
        self.final_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head = None if config.tie_embeddings else rows()

    def __call__(
        self,
        tokens: jax.Array,
        rotation: tuple[jax.Array, jax.Array],
        attention: AttentionT,
        dtype: jnp.dtype,
        places: jax.Array | None,
        below: Callable[[jax.Array], jax.Array] = lambda x: x,
    ) -> tuple[jax.Array, AttentionT]:
        """Maps `tokens [B, T]` to the normed stream `[B, T, d]`, or only that of `places [B, Q]`.

        `below` maps the embedded tokens `[B·T, d]` before the layers.
        """
        # Tokens in one axis: XLA's gradients of such products took half the time on a CPU.
        x = below(self.embedding[...].at[tokens.reshape(-1)].get(mode="clip").astype(dtype))
        *lower, last = self.layers
        for block in lower:
            x, attention = block(x, rotation, attention)
        # Nothing but keys and values leaves the last layer at a token that nobody reads.
        x, attention = last(x, rotation, attention, places)
        shape = tokens.shape if places is None else places.shape
        return self.final_norm(x).reshape(*shape, -1), attention


def rotation_at(config: DecoderConfig, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns cos and sin of position · frequency, float32 `[B, T, 1, D/2]` (Su et al. 2021).

    Args:
        config: gives the frequencies.
        positions: int32 `[B, T]`, absolute.
    """
    angles = positions.astype(jnp.float32)[..., None, None] * rotary_frequencies(config)
    return jnp.cos(angles), jnp.sin(angles)


def rotary_frequencies(config: DecoderConfig) -> np.ndarray:
    """Returns the angle a position, float32 `[D/2]`: θ^(-2i/D), the slow ones lowered by llama3 scaling.

    With n the turns of a frequency f in the original length, and s = (n - low) / (high - low) held between 0 and 1,
    the scaled one is s·f + (1 - s)·f/factor.
    """
    # In float32 from the start: far positions multiply any difference in rounding to other
    # implementations of the same model.
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(1) / np.float32(config.rope_theta) ** exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    turns = np.float32(scaling.original_max_positions / (2 * math.pi)) * frequencies
    low, high = np.float32(scaling.low_freq_factor), np.float32(scaling.high_freq_factor)
    kept = np.clip((turns - low) / (high - low), np.float32(0), np.float32(1))
    return kept * frequencies + (1 - kept) * frequencies / np.float32(scaling.factor)


def rotate(x: jax.Array, rotation: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates `x [B, T, heads, D]`: dimension `i` together with `i + D/2`."""
    cos, sin = rotation
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


@functools.cache
def _graph(config: DecoderConfig, lora: Lora | None = None) -> tuple[Any, Params]:
    """Returns the decoder's structure and the shapes of its parameters, without arrays."""
    module = nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0), lora))
    graph, state = nnx.split(module)
    return graph, _plain(state)


@functools.cache
def _block_graph(config: DecoderConfig, lora: Lora | None) -> Any:
    """Returns the structure of one layer; it is the same for all."""
    return nnx.split(nnx.eval_shape(lambda: Block(config, 0, nnx.Rngs(0), lora)))[0]


def _plain(state: Any) -> Params:
    """Turns an NNX state into nested dicts with text keys, which checkpoints keep as they are."""

    def text_keys(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {str(key): text_keys(value) for key, value in tree.items()}
        return tree

    return text_keys(nnx.to_pure_dict(state))


# Reading a head row by index costs about as much as this many rows of one large product (and its gradient more).
_GATHER_COST = 32


@dataclasses.dataclass(frozen=True)
class Policy:
    """The model as pure functions of its parameters; static and hashable.

    Attributes:
        config: the decoder's shape.
        dtype: of activations and matrix products, `float32` or `bfloat16`; norms, softmax, rotary
            angles and logits are float32 in any case.
        precision: of float32 matrix products where the device has a choice: `default` (as JAX is
            set), `high`, `highest`.
        remat: what `encode` computes again for its gradient instead of keeping it: `none`, all but matrix products
            (`dots`), whole layers (`full`), or `auto`: `full` from `SCANNED_LAYERS` layers on, else `none`.
        lora: of adapters; then `params` may also be an `Adapted` in every method.
    """

    config: DecoderConfig
    dtype: str = "float32"
    precision: str = "default"
    remat: str = "auto"
    lora: Lora | None = None

    def __post_init__(self) -> None:
        """Raises `ModelError` for an unknown dtype, precision or remat."""
        choices = (("dtype", DTYPES), ("precision", PRECISIONS), ("remat", ("auto", *REMAT)))
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise ModelError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}.")

    @property
    def chosen_remat(self) -> str:
        """`remat`, with `auto` decided."""
        if self.remat != "auto":
            return self.remat
        return "full" if self.config.num_layers >= SCANNED_LAYERS else "none"

    def init(self, key: jax.Array) -> Params:
        """Returns new float32 parameters; jit this to draw them on the device."""
        return _plain(nnx.state(Decoder(self.config, nnx.Rngs(params=key)), nnx.Param))

    def abstract_params(self) -> Params:
        """Returns the parameters' shapes and types as `jax.ShapeDtypeStruct`s."""
        return jax.tree.map(lambda leaf: leaf, _graph(self.config)[1])

    def init_trained(self, key: jax.Array) -> Params:
        """Returns what training begins with and changes: new parameters, or with LoRA a new adapter."""
        return new_adapter(self.lora, self.abstract_params(), key) if self.lora else self.init(key)

    def abstract_trained(self) -> Params:
        """Returns shapes and types of what training changes: the parameters, or with LoRA an adapter."""
        return abstract_adapter(self.lora, self.abstract_params()) if self.lora else self.abstract_params()

    def merged(self, params: Params | Adapted) -> Params:
        """Returns parameters of a plain model that computes the same, its changed matrices float32."""
        return merged(self._lora, params) if isinstance(params, Adapted) else params

    def num_params(self) -> int:
        """Returns how many numbers the parameters hold, adapters apart."""
        return self.config.num_params

    def num_trained(self) -> int:
        """Returns how many numbers training changes."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.abstract_trained()))

    def for_computing(self, params: Any) -> Any:
        """Returns parameters that compute the same in less memory: matrices in `dtype`, norms and biases as before."""
        return jax.tree.map(lambda leaf: leaf.astype(self.dtype) if leaf.ndim > 1 else leaf, params)

    def forward(
        self,
        params: Params | Adapted,
        tokens: jax.Array,
        positions: jax.Array,
        attention: AttentionT,
        places: jax.Array | None = None,
    ) -> tuple[jax.Array, AttentionT]:
        """Runs the layers.

        Args:
            params: the parameters.
            tokens: int32 `[B, T]`.
            positions: int32 `[B, T]`, absolute.
            attention: how tokens see each other; see `maro_jax.policy.attention`.
            places: int32 `[B, Q]`, the tokens whose hidden states are wanted; `None` for all (Q = T).

        Returns:
            The stream after the final norm, `[B, Q, d]` in `dtype`, and the attention threaded
            through the layers.
        """
        params, lora = self._joined(params)
        # NNX matches by sorted keys, and as text "10" would come before "2".
        layers = {int(layer): block for layer, block in params["layers"].items()}
        decoder = nnx.merge(_graph(self.config, lora)[0], params | {"layers": layers})
        with self._matmul_precision():
            rotation = rotation_at(self.config, positions)
            return decoder(tokens, rotation, attention, jnp.dtype(self.dtype), places)

    def encode(
        self,
        params: Params | Adapted,
        tokens: jax.Array,
        positions: jax.Array,
        attention: Attention,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Runs the layers for a gradient: `forward` for an attention that remembers nothing, in bounded memory.

        All layers but the last are one loop over their stacked parameters, so that the program does not grow with their
        number and, with `remat`, a layer's intermediate results live only while its own gradient is computed. Matrices
        are stacked in `dtype`: the copy that computing in bfloat16 takes anyway.

        Args:
            params: the parameters.
            tokens: int32 `[B, T]`.
            positions: int32 `[B, T]`, absolute.
            attention: how tokens see each other, the same in every layer; what it returns is dropped.
            places: int32 `[B, Q]`, the tokens whose hidden states are wanted; `None` for all (Q = T).

        Returns:
            The stream after the final norm, `[B, Q, d]` in `dtype`.
        """
        keep = REMAT[self.chosen_remat]
        if self.config.num_layers < 2 or (self.config.num_layers < SCANNED_LAYERS and keep is None):
            return self.forward(params, tokens, positions, attention, places)[0]
        params, lora = self._joined(params)
        *lower, last = (params["layers"][str(layer)] for layer in range(self.config.num_layers))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(self.for_computing, lower))
        graph = _block_graph(self.config, lora)
        rotation = rotation_at(self.config, positions)

        def block(x: jax.Array, layer: Params) -> tuple[jax.Array, None]:
            return nnx.merge(graph, layer)(x, rotation, attention)[0], None

        body = block if keep is None else jax.checkpoint(block, policy=keep, prevent_cse=False)
        one = dataclasses.replace(self.config, num_layers=1)
        top = nnx.merge(_graph(one, lora)[0], params | {"layers": {0: last}})
        with self._matmul_precision():
            return top(
                tokens, rotation, attention, jnp.dtype(self.dtype), places, lambda x: jax.lax.scan(body, x, stacked)[0]
            )[0]

    def logits(self, params: Params | Adapted, hidden: jax.Array, tokens: jax.Array | None = None) -> jax.Array:
        """Returns float32 `[..., V]`, the scores of all tokens after `hidden [..., d]`; or `[..., K]`, those of some.

        Args:
            params: the parameters.
            hidden: `[..., d]`.
            tokens: int32 `[K]`, inside the vocabulary; `None` for all.
        """
        head = self._head(params)
        head = (head if tokens is None else head[tokens]).astype(self.dtype)
        flat = hidden.reshape(-1, hidden.shape[-1])
        with self._matmul_precision():
            scores = jnp.einsum("nd,vd->nv", flat, head, preferred_element_type=jnp.float32)
        return scores.reshape(*hidden.shape[:-1], -1)

    def token_logits(self, params: Params | Adapted, hidden: jax.Array, ids: jax.Array) -> jax.Array:
        """Returns float32 `[..., C]`, the scores of a few tokens only.

        Args:
            params: the parameters.
            hidden: `[..., d]`.
            ids: int32 `[..., C]`; an id outside the vocabulary stands for the nearest one inside.
        """
        if self.config.vocab_size <= _GATHER_COST * ids.shape[-1]:
            inside = jnp.clip(ids, 0, self.config.vocab_size - 1)
            return jnp.take_along_axis(self.logits(params, hidden), inside, axis=-1)
        rows = self._head(params).at[ids].get(mode="clip").astype(self.dtype)
        with self._matmul_precision():
            return jnp.einsum("...d,...cd->...c", hidden, rows, preferred_element_type=jnp.float32)

    def _joined(self, params: Params | Adapted) -> tuple[Params, Lora | None]:
        """Returns the modules' parameters, and LoRA's settings if there are factors among them."""
        if isinstance(params, Adapted):
            return join(self._lora, params), self._lora
        return params, None

    @property
    def _lora(self) -> Lora:
        if self.lora is None:
            raise ValueError("parameters with an adapter need a policy with LoRA")
        return self.lora

    def _head(self, params: Params | Adapted) -> jax.Array:
        """Returns `[V, d]`, a row for each token, so that single rows are cheap to gather."""
        plain = params.base if isinstance(params, Adapted) else params
        return plain["embedding" if self.config.tie_embeddings else "head"]

    def _matmul_precision(self) -> contextlib.AbstractContextManager:
        """Sets the precision of all products traced inside, of the attention's too."""
        if self.precision == "default":
            return contextlib.nullcontext()
        return jax.default_matmul_precision(self.precision)
