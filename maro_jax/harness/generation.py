"""Replies of a model to prompts, sampled or greedy, with a KV cache inside one compiled loop.

The loop runs `STEPS` tokens at a time: between two runs the host looks for stop strings, which may begin and end in the
middle of tokens, and gives the cache more room where it is needed. Probabilities are changed in the order of
transformers' `generate`: repetition penalty, temperature, the k likeliest, the likeliest that together have p.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.harness.scoring import padded_width
from maro_jax.policy.attention import CachedAttention, KVCache, init_cache
from maro_jax.policy.config import ModelError
from maro_jax.policy.decoder import Params, Policy

STEPS = 32
_SHORTEST = 64
_DEFAULT_TOP_K = 50  # of transformers, where neither the model nor the task says otherwise


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    Attributes:
        temperature: 0 for the likeliest token.
        top_k: how many of the likeliest tokens may be sampled; 0: all.
        top_p: no token is sampled before which likelier ones already have this much probability.
        repetition_penalty: of tokens that were read or written before: by it positive logits are divided and others
            multiplied (Keskar et al. 2019).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, asked: Mapping[str, Any], settings: Mapping[str, Any]) -> "Sampling":
        """Reads what a task asks for, and for the rest a model's generation_config.json.

        Raises:
            ModelError: something is asked for that is not computed, or a number is out of range.
        """
        unknown = asked.keys() - {"do_sample", *(field.name for field in dataclasses.fields(cls))}
        if unknown:
            raise ModelError(
                f"a task asks for {min(unknown)}={asked[min(unknown)]!r} when it generates, which is not computed; "
                "known are do_sample, temperature, top_k, top_p, repetition_penalty, until and max_gen_toks"
            )

        def number(name: str, default: float) -> float:
            value = next((place[name] for place in (asked, settings) if place.get(name) is not None), default)
            return float(value)

        penalty = number("repetition_penalty", 1.0)
        if not asked.get("do_sample"):
            return cls(repetition_penalty=penalty)
        found = cls(number("temperature", 1.0), int(number("top_k", _DEFAULT_TOP_K)), number("top_p", 1.0), penalty)
        if not (found.temperature > 0 and found.top_k >= 0 and 0 < found.top_p <= 1 and penalty > 0):
            raise ModelError(
                f"to sample takes temperature > 0, top_k >= 0, 0 < top_p <= 1 and repetition_penalty > 0, not {found}"
            )
        return found


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Replies:
    """Replies in progress.

    Attributes:
        cache: keys and values of all tokens read and written, a row a reply.
        lengths: int32 `[B]`, how many these are.
        logits: float32 `[B, V]`, of each next token.
        seen: bool `[B, V]`, the tokens read or written.
        done: bool `[B]`, whether a reply is at its end.
    """

    cache: KVCache
    lengths: jax.Array
    logits: jax.Array
    seen: jax.Array
    done: jax.Array


def generate(
    policy: Policy,
    params: Params,
    prompts: Sequence[Sequence[int]],
    *,
    keys: jax.Array,
    sampling: Sampling,
    ends: Sequence[int],
    max_new: int,
    stop_at: Callable[[list[int]], int | None],
) -> list[list[int]]:
    """Returns the token ids of each reply, with its end token or first stop string, or cut off.

    Args:
        policy: the model.
        params: its parameters.
        prompts: token ids, none empty.
        keys: one a row, of which there may be more than prompts: so many are computed.
        sampling: how tokens are chosen.
        ends: the tokens that end a reply.
        max_new: most tokens of a reply.
        stop_at: how many tokens a reply has to the end of its first stop string; `None`: it holds none so far.
    """
    lengths = np.ones(len(keys), np.int32)
    lengths[: len(prompts)] = [len(prompt) for prompt in prompts]
    tokens = np.zeros((len(keys), padded_width(lengths.max(), _SHORTEST)), np.int32)
    for line, prompt in enumerate(prompts):
        tokens[line, : len(prompt)] = prompt
    capacity = padded_width(int(lengths.max()) + STEPS, _SHORTEST)
    replies = _read(policy, params, tokens, lengths, capacity)
    done = np.arange(len(keys)) >= len(prompts)
    written: list[list[int]] = [[] for _ in prompts]
    end_ids, numbers = jnp.asarray(sorted(ends), jnp.int32), jax.tree.map(jnp.float32, dataclasses.asdict(sampling))
    for start in range(0, max_new, STEPS):
        if done.all():
            break
        needed = padded_width(int(lengths.max()) + start + STEPS, _SHORTEST)
        if needed > capacity:
            replies, capacity = _more_room(replies, needed), needed
        replies = dataclasses.replace(replies, done=jnp.asarray(done))
        steps = min(STEPS, max_new - start)
        chosen, replies = _write(policy, sampling.temperature > 0, params, replies, keys, numbers, end_ids, steps)
        for line, row in enumerate(np.asarray(chosen)[: len(prompts)]):
            if not done[line]:
                written[line] += _to_end(row[:steps].tolist(), ends)
                stop = stop_at(written[line])
                done[line] = written[line][-1] in ends or stop is not None
                written[line] = written[line][:stop]
    return written


def _to_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """Returns the tokens up to the first of `ends`, with it."""
    for place, token in enumerate(tokens):
        if token in ends:
            return tokens[: place + 1]
    return tokens


@partial(jax.jit, static_argnums=(0, 4))
def _read(policy: Policy, params: Params, tokens: jax.Array, lengths: jax.Array, capacity: int) -> _Replies:
    """Reads prompts int32 `[B, P]`, padded on the right, into a new cache."""
    rows = len(tokens)
    cache = init_cache(policy.config, rows, capacity, 1, 0, policy.dtype)
    hidden, cache = _extend(policy, params, cache, tokens, jnp.zeros(rows, jnp.int32), lengths)
    seen = jnp.zeros((rows, policy.config.vocab_size), bool)
    seen = seen.at[jnp.arange(rows)[:, None], tokens].max(jnp.arange(tokens.shape[1]) < lengths[:, None])
    return _Replies(cache, lengths, policy.logits(params, hidden), seen, jnp.zeros(rows, bool))


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _write(
    policy: Policy,
    samples: bool,
    params: Params,
    replies: _Replies,
    keys: jax.Array,
    sampling: dict[str, jax.Array],
    ends: jax.Array,
    steps: int,
) -> tuple[jax.Array, _Replies]:
    """Adds at most `steps` tokens to each reply; returns them, int32 `[B, STEPS]`, and the replies."""
    rows = jnp.arange(len(keys))

    def unfinished(carry: tuple[jax.Array, jax.Array, _Replies]) -> jax.Array:
        return (carry[0] < steps) & ~carry[2].done.all()

    def step(carry: tuple[jax.Array, jax.Array, _Replies]) -> tuple[jax.Array, jax.Array, _Replies]:
        index, chosen, replies = carry
        if samples:
            uniforms = jax.vmap(lambda key, at: jax.random.uniform(jax.random.fold_in(key, at)))(keys, replies.lengths)
            token = choose(replies.logits, replies.seen, uniforms, **sampling)
        else:
            token = jnp.argmax(penalised(replies.logits, replies.seen, sampling["repetition_penalty"]), axis=-1)
        done = replies.done | jnp.isin(token, ends)
        count = (~done).astype(jnp.int32)
        hidden, cache = _extend(policy, params, replies.cache, token[:, None], replies.lengths, count)
        seen = replies.seen.at[rows, token].set(True)
        replies = _Replies(cache, replies.lengths + count, policy.logits(params, hidden), seen, done)
        return index + 1, chosen.at[:, index].set(token.astype(jnp.int32)), replies

    _, chosen, replies = jax.lax.while_loop(
        unfinished, step, (jnp.int32(0), jnp.zeros((len(keys), STEPS), jnp.int32), replies)
    )
    return chosen, replies


def penalised(logits: jax.Array, seen: jax.Array, penalty: jax.Array) -> jax.Array:
    """Returns `logits [B, V]` with those of the tokens `seen` made less likely, see `Sampling`."""
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def choose(
    logits: jax.Array,
    seen: jax.Array,
    uniforms: jax.Array,
    *,
    temperature: jax.Array,
    top_k: jax.Array,
    top_p: jax.Array,
    repetition_penalty: jax.Array,
) -> jax.Array:
    """Samples a token a row by the inverse of the cumulative distribution.

    Args:
        logits: float32 `[B, V]`.
        seen: bool `[B, V]`.
        uniforms: float32 `[B]`, in [0, 1).
        temperature: see `Sampling`, as the others.
        top_k: of the kept tokens.
        top_p: of the kept tokens.
        repetition_penalty: of the tokens seen.

    Returns:
        int32 `[B]`.
    """
    scaled = penalised(logits, seen, repetition_penalty) / temperature
    order = jnp.argsort(-scaled, axis=-1)
    scaled = jnp.take_along_axis(scaled, order, axis=-1)
    rank = jnp.arange(logits.shape[-1])
    scaled = jnp.where((top_k == 0) | (rank < top_k), scaled, -jnp.inf)
    probabilities = jax.nn.softmax(scaled, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    kept = jnp.where((before < top_p) | (rank == 0), probabilities, 0)
    mass = jnp.cumsum(kept, axis=-1)
    place = (mass <= uniforms[:, None] * mass[:, -1:]).sum(axis=-1)
    last = (kept > 0).sum(axis=-1) - 1  # where rounding would lead beyond the kept ones
    return jnp.take_along_axis(order, jnp.minimum(place, last)[:, None], axis=-1)[:, 0]


def _extend(
    policy: Policy, params: Params, cache: KVCache, tokens: jax.Array, start: jax.Array, count: jax.Array
) -> tuple[jax.Array, KVCache]:
    """Reads `count [B]` of the tokens `[B, T]`; returns the last one's hidden state `[B, d]`, and the cache."""
    rows = jnp.arange(len(tokens))
    attention = CachedAttention(cache, rows, jnp.zeros_like(rows), start, count)
    places = jnp.maximum(count - 1, 0)[:, None]
    hidden, attention = policy.forward(params, tokens, attention.positions(tokens.shape[1]), attention, places)
    return hidden[:, 0], attention.cache


@partial(jax.jit, static_argnums=1)
def _more_room(replies: _Replies, capacity: int) -> _Replies:
    """Returns the same replies in a cache for `capacity` tokens a row."""

    def widen(x: jax.Array) -> jax.Array:
        return jnp.pad(x, ((0, 0), (0, capacity - x.shape[1]), (0, 0), (0, 0)))

    cache = dataclasses.replace(
        replies.cache, k=tuple(map(widen, replies.cache.k)), v=tuple(map(widen, replies.cache.v))
    )
    return dataclasses.replace(replies, cache=cache)
