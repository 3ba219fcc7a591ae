"""How likely given continuations are, in a few compiled programs whatever the lengths.

Rows are padded on the right to one of a few widths, and only the positions that predict a continuation reach the head,
whose logits exist for a few rows at a time.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.policy.attention import CausalAttention, token_positions
from maro_jax.policy.decoder import Params, Policy

ALTERNATIVES = 8  # continuations of one row
_SHORTEST_INPUT, _SHORTEST_CONTINUATION = 64, 4
_HEAD_ROWS = 256  # whose logits over the vocabulary exist at a time


@dataclasses.dataclass(frozen=True)
class Row:
    """Something to read, and what may follow.

    Attributes:
        inputs: token ids, the context and all of a continuation but its last token.
        continuations: at most `ALTERNATIVES` of equal length, which differ in the last token only.
    """

    inputs: Sequence[int]
    continuations: Sequence[Sequence[int]]


def padded_width(length: int, shortest: int, longest: int | None = None) -> int:
    """Returns the smallest of `shortest`, twice that, four times that … that holds `length`; at most `longest`."""
    width = shortest
    while width < length:
        width *= 2
    return width if longest is None else max(length, min(width, longest))


def score(
    policy: Policy,
    params: Params,
    rows: Sequence[Row],
    *,
    batch_size: int,
    max_length: int,
    finished: Callable[[int], None] = lambda count: None,
) -> list[list[tuple[float, bool]]]:
    """Returns, for each continuation of each row, Σ log p of its tokens and whether each was the likeliest.

    Args:
        policy: the model.
        params: its parameters.
        rows: in any order, none longer than `max_length`.
        batch_size: rows read at a time.
        max_length: most tokens of a row.
        finished: told after each batch how many rows are done.
    """
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].inputs))
    results: list[list[tuple[float, bool]]] = [[] for _ in rows]
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = _pad([rows[index] for index in chosen], batch_size, max_length)
        log_probs, likeliest = jax.device_get(_score(policy, params, *batch))
        for line, index in enumerate(chosen):
            for column, continuation in enumerate(rows[index].continuations):
                count = len(continuation)
                total = float(log_probs[line, :count, column].sum(dtype=np.float64))
                results[index].append((total, bool((likeliest[line, :count] == np.asarray(continuation)).all())))
        finished(start + len(chosen))
    return results


def _pad(rows: Sequence[Row], batch_size: int, max_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns tokens int32 `[B, T]`, places int32 `[B, Q]` and targets int32 `[B, Q, ALTERNATIVES]`."""
    width = padded_width(max(len(row.inputs) for row in rows), _SHORTEST_INPUT, max_length)
    longest = max(len(row.continuations[0]) for row in rows)
    tokens = np.zeros((batch_size, width), np.int32)
    places = np.zeros((batch_size, padded_width(longest, _SHORTEST_CONTINUATION, width)), np.int32)
    targets = np.zeros((*places.shape, ALTERNATIVES), np.int32)
    for line, row in enumerate(rows):
        count = len(row.continuations[0])
        tokens[line, : len(row.inputs)] = row.inputs
        places[line, :count] = np.arange(len(row.inputs) - count, len(row.inputs))
        for column, continuation in enumerate(row.continuations):
            targets[line, :count, column] = continuation
    return tokens, places, targets


@partial(jax.jit, static_argnums=0)
def _score(
    policy: Policy, params: Params, tokens: jax.Array, places: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns log p of the targets, float32 `[B, Q, A]`, and the likeliest token at each place, int32 `[B, Q]`."""
    positions = token_positions(jnp.zeros(len(tokens), jnp.int32), tokens.shape[1])
    hidden, _ = policy.forward(params, tokens, positions, CausalAttention(), places)

    def at_place(args: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, targets = args
        logits = policy.logits(params, hidden)
        log_probs = jnp.take_along_axis(logits, targets, axis=-1) - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        return log_probs, jnp.argmax(logits, axis=-1).astype(jnp.int32)

    by_place = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (hidden, targets))
    at_once = min(places.shape[1], max(1, _HEAD_ROWS // len(tokens)))
    results = jax.lax.map(at_place, by_place, batch_size=at_once)
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), results)
