"""Where tokens are kept while a rollout runs: every seat's stream, at its final place in the batch's records."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from maro_jax.selfplay.episodes import Episodes

APPEND_CHUNK = 32  # tokens of each run written together


def join(first: jax.Array, first_count: jax.Array, second: jax.Array, second_count: jax.Array) -> tuple:
    """Concatenates two padded token runs.

    Args:
      first: int32[..., K].
      first_count: int32[...].
      second: int32[..., J].
      second_count: int32[...].

    Returns:
      int32[..., K + J] and the sum of the counts.
    """
    place = jnp.arange(first.shape[-1] + second.shape[-1])
    place = jnp.broadcast_to(place, (*first.shape[:-1], place.shape[0]))
    ahead = jnp.take_along_axis(first, jnp.minimum(place, first.shape[-1] - 1), axis=-1)
    behind = jnp.clip(place - first_count[..., None], 0, second.shape[-1] - 1)
    after = jnp.take_along_axis(second, behind, axis=-1)
    return jnp.where(place < first_count[..., None], ahead, after), first_count + second_count


def append(
    records: Episodes, slot: jax.Array, seat: jax.Array, at: jax.Array, tokens: jax.Array, count: jax.Array
) -> Episodes:
    """Writes given tokens into streams.

    Args:
      records: the batch's records.
      slot: int32[R], episode of each run; out of range writes nothing.
      seat: int32[R].
      at: int32[R], position of the first token.
      tokens: int32[R, K].
      count: int32[R], how many of them to write.
    """
    width = tokens.shape[1]

    def write(index: jax.Array, written: jax.Array) -> jax.Array:
        place = index * APPEND_CHUNK + jnp.arange(min(APPEND_CHUNK, width))
        position = jnp.where(place < count[:, None], at[:, None] + place, written.shape[2])
        part = tokens[:, jnp.minimum(place, width - 1)]
        return written.at[slot[:, None], seat[:, None], position].set(part, mode="drop")

    # A scatter pays for dropped tokens too, and most runs are far shorter than the longest possible.
    chunks = (jnp.max(count) + APPEND_CHUNK - 1) // APPEND_CHUNK
    return dataclasses.replace(records, tokens=jax.lax.fori_loop(0, chunks, write, records.tokens))


def mark(
    records: Episodes,
    slot: jax.Array,
    seat: jax.Array,
    at: jax.Array,
    node: jax.Array,
    decision: jax.Array,
    log_prob: jax.Array,
) -> Episodes:
    """Notes that the token at a position was chosen: from what, in which behaviour, with which log-probability."""
    where = (slot, seat, at)
    return dataclasses.replace(
        records,
        node=records.node.at[where].set(node.astype(jnp.int16), mode="drop"),
        decision=records.decision.at[where].set(decision.astype(jnp.int16), mode="drop"),
        log_probs=records.log_probs.at[where].set(log_prob, mode="drop"),
    )
