"""The loss of a micro-batch: log-probabilities under the masks the tokens were sampled with, then credit's utility.

Hidden states are read at the sampled tokens only. A token of an action needs logits of the live children of its
trie node only; free text runs through the whole head in chunks, so that no `[R, W, V]` array exists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.text.grammar import SPEECH, SPEECH_TOKEN, THOUGHT, TRIE, live_children
from maro_jax.credit.objective import CreditOptions, behaviour_loss
from maro_jax.credit.utility import gradient_scale, is_clipped, is_saturated, sampled_kl, token_kl
from maro_jax.learner.decisions import Decisions
from maro_jax.learner.packing import Streams
from maro_jax.policy.attention import CausalAttention
from maro_jax.selfplay.reply import text_mask

TEXT_CHUNK = 256  # sampled text tokens that run through the head together, on each device
CONTEXT_CHUNK = 2048  # the same for tokens of `context_loss`


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenScores:
    """What is known of the sampled tokens under a parameter set; float32[R, Q] each, 0 where there is no token.

    Attributes:
      log_prob: of the token, under the masked, renormalised distribution.
      entropy: of that distribution.
      kl: KL of it to the reference's, 0 without a reference.
      reference_log_prob: of the token under the reference, 0 without one.
    """

    log_prob: jax.Array
    entropy: jax.Array
    kl: jax.Array
    reference_log_prob: jax.Array


def score_tokens(decisions: Decisions, params: Any, reference: Any, streams: Streams) -> TokenScores:
    """Scores the sampled tokens of a micro-batch.

    Args:
      decisions: the games.
      params: the policy's parameters.
      reference: parameters of the reference policy, or None for no KL.
      streams: R rows.
    """
    return _score(decisions, params, reference, encode_streams(decisions, params, streams, streams.query), streams, 1)


def _score(
    decisions: Decisions, params: Any, reference: Any, hidden: jax.Array, streams: Streams, shards: int
) -> TokenScores:
    """`score_tokens`, given the hidden states `[R, Q, d]` at the queries under `params`, rows split over `shards`."""
    hidden_reference = None
    if reference is not None:
        hidden_reference = encode_streams(decisions, jax.lax.stop_gradient(reference), streams, streams.query)
    scores = _score_actions(decisions, params, reference, hidden, hidden_reference, streams)
    if decisions.free_text:
        places = max(1, TEXT_CHUNK * shards // len(streams.tokens))
        text = _score_text(decisions, params, reference, hidden, hidden_reference, streams, places)
        free = (streams.node > 0) & (streams.node < TRIE)
        scores = jax.tree.map(lambda a, b: jnp.where(free, a, b), text, scores)
    return jax.tree.map(lambda leaf: jnp.where(streams.node > 0, leaf, 0.0), scores)


def encode_streams(decisions: Decisions, params: Any, streams: Streams, places: jax.Array | None = None) -> jax.Array:
    """[R, W, d]: hidden states of the packed streams; or [R, Q, d], those at `places` int32[R, Q]."""
    attention = CausalAttention(streams.segment)
    return decisions.policy.encode(params, streams.tokens, streams.position, attention, places)


def context_loss(
    decisions: Decisions, params: Any, encoded: jax.Array, streams: Streams, shards: int = 1
) -> jax.Array:
    """Mean negative log-probability of every next token that somebody may have chosen, whoever wrote it.

    What others say and do is as much evidence of how people play as one's own replies. Tokens that no player can choose
    are the game's own words, which nobody ever has to write: they are neither predicted nor candidates. The head runs
    over a few places at a time.

    Args:
      decisions: the games.
      params: the policy's parameters.
      encoded: hidden states [R, W, d] of the streams.
      streams: R rows.
      shards: devices that share the rows.
    """
    rows, width = streams.tokens.shape
    choices, vocab_size = decisions.choice_tokens, decisions.policy.config.vocab_size
    number = np.full((vocab_size,), -1, np.int32)
    number[choices] = np.arange(len(choices))
    some = None if len(choices) == vocab_size else jnp.asarray(choices)  # all would be gathered one by one
    following = jnp.pad(jnp.asarray(number)[streams.tokens[:, 1:]], ((0, 0), (0, 1)), constant_values=-1)
    inside = (streams.segment[:, :-1] == streams.segment[:, 1:]) & (streams.segment[:, 1:] >= 0)
    inside = jnp.pad(inside, ((0, 0), (0, 1))) & (following >= 0)

    def chunk_loss(chunk: tuple) -> jax.Array:
        hidden, token, counted = chunk
        log_probs = jax.nn.log_softmax(decisions.policy.logits(params, hidden, some), axis=-1)
        picked = jnp.take_along_axis(log_probs, jnp.maximum(token, 0)[..., None], axis=-1)[..., 0]
        return -jnp.sum(jnp.where(counted, picked, 0.0))

    places = max(1, CONTEXT_CHUNK * shards // rows)
    if places >= width:  # nothing is gained by computing the logits of the only chunk once more for the gradient
        loss = chunk_loss((encoded, following, inside))
    else:
        chunks = _along_queries((encoded, following, inside), places)
        _, losses = jax.lax.scan(lambda carry, chunk: (carry, jax.checkpoint(chunk_loss)(chunk)), None, chunks)
        loss = jnp.sum(losses)
    return loss / jnp.maximum(jnp.sum(inside), 1)


def _along_queries(arrays: Any, width: int) -> Any:
    """Cuts arrays [R, Q, ...] into chunks [chunks, R, width, ...]; rows keep their place on the devices."""

    def split(x: jax.Array) -> jax.Array:
        rows, queries = x.shape[:2]
        count = -(-queries // width)
        padded = jnp.pad(x, [(0, 0), (0, count * width - queries)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(rows, count, width, *x.shape[2:]), 1, 0)

    return jax.tree.map(split, arrays)


def _score_actions(
    decisions: Decisions,
    params: Any,
    reference: Any,
    hidden: jax.Array,
    hidden_reference: jax.Array | None,
    streams: Streams,
) -> TokenScores:
    """Scores of action tokens among the live children of their trie nodes."""
    node = jnp.maximum(streams.node - TRIE, 0)
    children = jnp.asarray(decisions.child_tokens)[node]
    behaviour = jnp.minimum(streams.behaviour, streams.legal.shape[1] - 1)
    legal = jnp.take_along_axis(streams.legal, behaviour[..., None], axis=1)
    live = live_children(decisions, node, legal) & (streams.node >= TRIE)[..., None]
    live = live.at[..., 0].set(live[..., 0] | (streams.node < TRIE))  # keep empty rows finite
    picked = live & (children == streams.token[..., None])

    def log_probs(params: Any, hidden: Any) -> jax.Array:
        logits = decisions.policy.token_logits(params, hidden, children)
        return jax.nn.log_softmax(jnp.where(live, logits, -jnp.inf), axis=-1)

    own = log_probs(params, hidden)
    other = None if reference is None else log_probs(jax.lax.stop_gradient(reference), hidden_reference)
    return _summarise(own, other, live, lambda log_probs: jnp.sum(jnp.where(picked, log_probs, 0.0), axis=-1))


def _summarise(
    own: jax.Array, other: jax.Array | None, allowed: jax.Array, pick: Callable[[jax.Array], jax.Array]
) -> TokenScores:
    """What is told of tokens, from log-probabilities [..., C] of their choices; `pick` takes that of the token."""
    finite = jnp.where(allowed, own, 0.0)
    entropy = -jnp.sum(jnp.where(allowed, jnp.exp(finite) * finite, 0.0), axis=-1)
    log_prob, nothing = pick(own), jnp.zeros_like(entropy)
    if other is None:
        return TokenScores(log_prob, entropy, nothing, nothing)
    return TokenScores(log_prob, entropy, token_kl(own, other, allowed), pick(other))


def _score_text(
    decisions: Decisions,
    params: Any,
    reference: Any,
    hidden: jax.Array,
    hidden_reference: jax.Array | None,
    streams: Streams,
    places: int,
) -> TokenScores:
    """Scores of free-text tokens, through the whole head, so many `places` of every row at a time."""
    rows, queries = streams.node.shape
    section = jnp.where(streams.node == SPEECH_TOKEN, SPEECH, THOUGHT)

    @jax.checkpoint
    def chunk_scores(chunk: tuple) -> TokenScores:
        hidden, hidden_reference, section, token = chunk
        allowed = text_mask(decisions.tables[0], section)  # every game has the tokenizer's

        def log_probs(params: Any, hidden: Any) -> jax.Array:
            logits = decisions.policy.logits(params, hidden)
            return jax.nn.log_softmax(jnp.where(allowed, logits, -jnp.inf), axis=-1)

        own = log_probs(params, hidden)
        other = None if reference is None else log_probs(jax.lax.stop_gradient(reference), hidden_reference)

        def pick(log_probs: jax.Array) -> jax.Array:
            log_prob = jnp.take_along_axis(log_probs, token[..., None], axis=-1)[..., 0]
            return jnp.where(jnp.isfinite(log_prob), log_prob, 0.0)

        return _summarise(own, other, allowed, pick)

    chunks = _along_queries((hidden, hidden_reference, section, streams.token), places)
    _, scores = jax.lax.scan(lambda carry, chunk: (carry, chunk_scores(chunk)), None, chunks)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(rows, -1)[:, :queries], scores)


def micro_batch_loss(
    params: Any,
    decisions: Decisions,
    options: CreditOptions,
    reference: Any,
    reference_point: jax.Array,
    entropy_weight: float,
    magnet_weight: float,
    context_weight: float,
    scale: jax.Array,
    streams: Streams,
    shards: int = 1,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """A micro-batch's part of the loss [Σ w ℓ − c Σ H + τ Σ KL(π ‖ μ)] / (E n̄), and sums for the log.

    Cloning adds `context_weight` times `context_loss`, in proportion to the behaviours the micro-batch holds.

    Args:
      params: the policy's parameters, differentiated.
      decisions: the games.
      options: credit's switches (static).
      reference: parameters of the magnet μ if τ > 0, else of KTO's reference policy for its exact KL and where it is
        not the policy that played; or None.
      reference_point: float32[phases], z0 in force.
      entropy_weight: c.
      magnet_weight: τ (static); with KTO's exact KL it is 0.
      context_weight: of language modelling (static).
      scale: float32[], 1 / (E n̄) of the optimizer step's episodes.
      streams: the micro-batch.
      shards: devices that share its rows (static).
    """
    if context_weight:
        encoded = encode_streams(decisions, params, streams)
        hidden = jnp.take_along_axis(encoded, streams.query[..., None], axis=1)
    else:
        hidden = encode_streams(decisions, params, streams, streams.query)
    scores = _score(decisions, params, reference, hidden, streams, shards)
    magnet_kl = jnp.sum(scores.kl) if magnet_weight else jnp.float32(0)
    token_distance = scores.kl  # to KTO's reference
    if reference is None or magnet_weight:  # else to the policy that played, from the tokens it has sampled
        estimate = sampled_kl(jax.lax.stop_gradient(scores.log_prob) - streams.log_prob)
        token_distance = jnp.where(streams.node > 0, estimate, 0.0)
    count = streams.weight.shape[1]
    belongs = streams.behaviour[..., None] == jnp.arange(count)

    def per_behaviour(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(belongs, values[..., None], 0.0), axis=1)

    log_prob, sampled_log_prob = per_behaviour(scores.log_prob), per_behaviour(streams.log_prob)
    known_log_prob = sampled_log_prob
    if options.utility == "kto" and options.reference != "iteration":
        known_log_prob = jax.lax.stop_gradient(per_behaviour(scores.reference_log_prob))
    point = reference_point[streams.phase]
    losses = behaviour_loss(options, log_prob, known_log_prob, point, streams.sign, streams.weight)
    present = streams.weight > 0
    entropy = jnp.sum(scores.entropy)
    loss = scale * (jnp.sum(losses) - entropy_weight * entropy + magnet_weight * magnet_kl)
    if context_weight:
        context = context_loss(decisions, params, encoded, streams, shards)
        loss += scale * jnp.sum(present) * context_weight * context
    log_ratio = jnp.where(present, log_prob - sampled_log_prob, 0.0)
    known_ratio = jnp.where(present, log_prob - known_log_prob, 0.0)
    of_phase = (streams.phase[..., None] == jnp.arange(decisions.num_phases)) & present[..., None]

    def by_phase(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(of_phase, per_behaviour(values)[..., None], 0.0), axis=(0, 1))

    tokens = jnp.sum(streams.node > 0)
    sums = {
        "loss": loss,
        "entropy": entropy,
        "magnet_kl": magnet_kl,
        "tokens": tokens.astype(jnp.float32),
        "behaviours": jnp.sum(present).astype(jnp.float32),
        "log_prob": jnp.sum(jnp.where(present, log_prob, 0.0)),
        "log_ratio_squared": jnp.sum(log_ratio**2),
        "gradient_scale": jnp.sum(jnp.where(present, gradient_scale(known_ratio, options.beta, point), 0.0)),
        "saturated": jnp.sum(present & is_saturated(known_ratio, options.beta, point)).astype(jnp.float32),
        "clipped": jnp.sum(present & is_clipped(log_ratio, streams.sign, options.clip)).astype(jnp.float32),
        "kl": by_phase(token_distance),
        "action_entropy": by_phase(jnp.where(streams.node >= TRIE, scores.entropy, 0.0)),
        "phase_behaviours": jnp.sum(of_phase.astype(jnp.float32), axis=(0, 1)),
    }
    return loss, jax.lax.stop_gradient(sums)
