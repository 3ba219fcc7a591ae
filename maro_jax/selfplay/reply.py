"""One model step: pending tokens of some lanes go through the model, and complete ones sample their next token."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.text.grammar import ACTION, SPEECH, SPEECH_TOKEN, THOUGHT_TOKEN, TRIE, forced_run, live_children
from maro_jax.policy.attention import CachedAttention, KVCache
from maro_jax.selfplay.episodes import Episodes, RolloutPlan
from maro_jax.selfplay.lanes import REPLIED, SAMPLE, LaneState, new_root, purpose_key
from maro_jax.selfplay.streams import append, join, mark
from maro_jax.selfplay.table import Table


def pending(lanes: LaneState) -> jax.Array:
    """int32[L]: tokens of the acting seat's stream that its KV cache does not hold yet."""
    return lanes.of_actor(lanes.length - lanes.cached)


def model_step(
    table: Table,
    plan: RolloutPlan,
    root: jax.Array,
    params: Any,
    temperature: jax.Array,
    parameter_set: jax.Array,
    chunk: int,
    chosen: tuple[jax.Array, jax.Array],
    lanes: LaneState,
    records: Episodes,
    cache: KVCache,
) -> tuple[LaneState, Episodes, KVCache, jax.Array]:
    """Feeds up to `chunk` pending tokens of each chosen lane to the model and samples where none is left.

    Args:
      table: the game laid out for the policy.
      plan: the episodes being played.
      root: key of the rollout.
      params: the parameter set that the chosen lanes' seats are held by; or a base with an adapter for each row.
      temperature: float32[R], of sampling.
      parameter_set: int32[R], number of each row's set: selects the role prefixes.
      chunk: C, tokens of each row (static).
      chosen: lane int32[R] and whether the entry is used bool[R].
      lanes: all lanes.
      records: the batch's records.
      cache: KV cache of all seats' streams and of the role prefixes.

    Returns:
      Lanes, records, cache, and int32[2]: tokens fed and tokens sampled.
    """
    lane, used = chosen
    hidden, count, waiting, lanes, cache = feed(table, params, parameter_set, chunk, chosen, 0, lanes, records, cache)
    sampling = used & (count == waiting)
    lanes, records = _sample(table, plan, root, params, temperature, hidden, lane, sampling, lanes, records)
    return lanes, records, cache, jnp.stack([jnp.sum(count), jnp.sum(sampling)])


def feed(
    table: Table,
    params: Any,
    parameter_set: jax.Array,
    chunk: int,
    chosen: tuple[jax.Array, jax.Array],
    kept_back: int,
    lanes: LaneState,
    records: Episodes,
    cache: KVCache,
) -> tuple[jax.Array, jax.Array, jax.Array, LaneState, KVCache]:
    """Feeds up to `chunk` pending tokens of each chosen lane to the model.

    Args:
      table: the game laid out for the policy.
      params: see `model_step`, as all others that are not named here.
      parameter_set: int32[R].
      chunk: C, tokens of each row (static).
      chosen: lane int32[R] and whether the entry is used bool[R].
      kept_back: so many tokens at the end of each stream stay pending (static).
      lanes: all lanes.
      records: the batch's records.
      cache: of all seats' streams.

    Returns:
      The hidden state float32[R, d] after each row's last token, how many tokens it was fed and how many it had to be
      int32[R] each, the lanes and the cache.
    """
    lane, used = chosen
    count_lanes, seats = lanes.length.shape
    seat = jnp.maximum(lanes.game.actor[lane], 0).astype(jnp.int32)
    slot = jnp.where(used, lanes.slot[lane], records.tokens.shape[0])
    start = lanes.cached[lane, seat]
    waiting = lanes.length[lane, seat] - start
    if kept_back:
        waiting = jnp.maximum(waiting - kept_back, 0)
    count = jnp.where(used, jnp.minimum(waiting, chunk), 0)
    place = jnp.minimum(start[:, None] + jnp.arange(chunk), records.tokens.shape[2] - 1)
    tokens = records.tokens[jnp.minimum(slot, records.tokens.shape[0] - 1)[:, None], seat[:, None], place]
    prefix_row = parameter_set * len(table.spec.roles) + lanes.game.roles[lane, seat]
    positions = jnp.asarray(table.lexicon.prefix_lengths)[lanes.game.roles[lane, seat]][:, None] + place
    attention = CachedAttention(
        cache=cache,
        rows=jnp.where(used, lane * seats + seat, count_lanes * seats),
        prefix_rows=prefix_row.astype(jnp.int32),
        start=start,
        count=count,
    )
    last = jnp.maximum(count - 1, 0)
    hidden, attention = table.policy.forward(params, tokens, positions, attention, last[:, None])
    target = jnp.where(used, lane, count_lanes)
    lanes = dataclasses.replace(lanes, cached=lanes.cached.at[target, seat].add(count, mode="drop"))
    return hidden[:, 0], count, waiting, lanes, attention.cache


def _sample(
    table: Table,
    plan: RolloutPlan,
    root: jax.Array,
    params: Any,
    temperature: jax.Array,
    hidden: jax.Array,
    lane: jax.Array,
    sampling: jax.Array,
    lanes: LaneState,
    records: Episodes,
) -> tuple[LaneState, Episodes]:
    """Samples one token for each sampling row, appends it and all that the grammar then forces."""
    rows = jax.tree.map(lambda leaf: leaf[lane], lanes)
    episode = plan.episode[jnp.minimum(rows.slot, plan.episode.shape[0] - 1)]
    keys = purpose_key(new_root(plan, root), SAMPLE, episode, rows.game.step)
    uniform = jax.vmap(lambda key, index: jax.random.uniform(jax.random.fold_in(key, index)))(keys, rows.chosen)

    children = jnp.asarray(table.grammar.child_tokens)[rows.node]
    live = live_children(table.grammar, rows.node, rows.legal)
    if table.spec.thought_tokens + table.spec.speech_tokens == 0:
        logits = table.policy.token_logits(params, hidden, children) / temperature[:, None]
        child, log_prob = inverse_cdf(logits, live, uniform)
        token = jnp.take_along_axis(children, child[:, None], axis=1)[:, 0]
        in_action = jnp.ones_like(sampling)
    else:
        logits = table.policy.logits(params, hidden) / temperature[:, None]
        child, label_log_prob = inverse_cdf(jnp.take_along_axis(logits, children, axis=1), live, uniform)
        in_action = rows.section == ACTION
        free, free_log_prob = inverse_cdf(logits, text_mask(table, rows.section), uniform)
        token = jnp.where(in_action, jnp.take_along_axis(children, child[:, None], axis=1)[:, 0], free)
        log_prob = jnp.where(in_action, label_log_prob, free_log_prob)

    below = jnp.take_along_axis(jnp.asarray(table.grammar.child_nodes)[rows.node], child[:, None], axis=1)[:, 0]
    below = jnp.where(in_action, below, rows.node)
    return write_token(table, lane, sampling, token, log_prob, in_action, below, lanes, records)


def write_token(
    table: Table,
    lane: jax.Array,
    used: jax.Array,
    token: jax.Array,
    log_prob: jax.Array,
    in_action: jax.Array,
    below: jax.Array,
    lanes: LaneState,
    records: Episodes,
) -> tuple[LaneState, Episodes]:
    """Appends one chosen token to each reply, and all that the grammar then forces.

    Args:
      table: the game laid out for the policy.
      lane: int32[R], whose replies.
      used: bool[R], where there is a token.
      token: int32[R].
      log_prob: float32[R], of the choice.
      in_action: bool[R], whether it was chosen among the labels; else it is of a free section, or closes it.
      below: int32[R], the trie node that it leads to; without a label the node as it is.
      lanes: all lanes.
      records: the batch's records.
    """
    count_lanes, _ = lanes.length.shape
    rows = jax.tree.map(lambda leaf: leaf[lane], lanes)
    seat = jnp.maximum(rows.game.actor, 0).astype(jnp.int32)
    node = jnp.where(in_action, TRIE + rows.node, jnp.where(rows.section == SPEECH, SPEECH_TOKEN, THOUGHT_TOKEN))
    at = rows.of_actor(rows.length)
    slot = jnp.where(used, rows.slot, records.tokens.shape[0])
    records = append(records, slot, seat, at, token[:, None], jnp.ones_like(at))
    records = mark(records, slot, seat, at, node, rows.game.step, log_prob)
    rows = dataclasses.replace(rows, chosen=rows.chosen + 1)
    tokens, count, rows = _after(table, rows, token, in_action, below)
    records = append(records, slot, seat, at + 1, tokens, count)
    acting = jnp.arange(lanes.length.shape[1]) == seat[:, None]
    rows = dataclasses.replace(rows, length=jnp.where(acting, rows.length + 1 + count[:, None], rows.length))
    target = jnp.where(used, lane, count_lanes)
    changed = {
        name: getattr(lanes, name).at[target].set(getattr(rows, name), mode="drop")
        for name in ("mode", "length", "section", "node", "used", "chosen", "action")
    }
    if table.spec.speech_tokens:
        changed |= _hear(lanes, rows, target, token, in_action | (node != SPEECH_TOKEN), table)
    return dataclasses.replace(lanes, **changed), records


def _after(
    table: Table, rows: LaneState, token: jax.Array, in_action: jax.Array, below: jax.Array
) -> tuple[jax.Array, jax.Array, LaneState]:
    """What the grammar forces after a sampled token, and the rows' state after that."""
    grammar, lexicon = table.grammar, table.lexicon
    forced = jax.vmap(lambda node, legal: forced_run(grammar, node, legal))
    run, run_count, run_node = forced(jnp.where(in_action, below, 0), rows.legal)
    leaf = jnp.asarray(grammar.leaf)
    if table.spec.thought_tokens + table.spec.speech_tokens == 0:
        action = leaf[run_node]
        mode = jnp.where(action >= 0, REPLIED, rows.mode).astype(jnp.int8)
        return run, run_count, dataclasses.replace(rows, node=run_node, action=action, mode=mode)

    phase, section = rows.game.phase, rows.section
    closing = ~in_action & (token == lexicon.section_close)
    used = rows.used + (~in_action & ~closing)
    full = ~in_action & ~closing & (used >= jnp.asarray(grammar.budgets)[phase, section])
    closed = closing | full
    following = jnp.asarray(grammar.next_section)[phase, section]
    to_action = closed & (following == ACTION)
    onward, onward_count = _section_span(table, phase, section)
    close = jnp.full((*full.shape, 1), lexicon.section_close)
    tokens, count = join(close, full.astype(jnp.int32), onward, jnp.where(closed, onward_count, 0))
    tokens, count = join(tokens, count, run, jnp.where(in_action | to_action, run_count, 0))
    node = jnp.where(in_action | to_action, run_node, rows.node)
    leaf_action = leaf[node]
    no_action = closed & (following < 0)
    action = jnp.where(no_action, jnp.argmax(rows.legal, axis=1), leaf_action)
    complete = no_action | ((in_action | to_action) & (leaf_action >= 0))
    return (
        tokens,
        count,
        dataclasses.replace(
            rows,
            node=node,
            action=jnp.where(complete, action, rows.action).astype(jnp.int32),
            mode=jnp.where(complete, REPLIED, rows.mode).astype(jnp.int8),
            used=jnp.where(closed, 0, used),
            section=jnp.where(closed & (following >= 0), following, section).astype(jnp.int8),
        ),
    )


def _section_span(table: Table, phase: jax.Array, section: jax.Array) -> tuple[jax.Array, jax.Array]:
    """int32[R, K], int32[R]: what leads from a closed section to the next one."""
    lexicon = table.lexicon
    width = max(1, int(lexicon.span_length[lexicon.section_next].max()))
    span = jnp.asarray(lexicon.section_next)[phase, section]
    place = jnp.asarray(lexicon.span_start)[span][:, None] + jnp.arange(width)
    tokens = jnp.asarray(lexicon.pool)[jnp.minimum(place, lexicon.pool.shape[0] - 1)]
    return tokens, jnp.asarray(lexicon.span_length)[span]


def _hear(
    lanes: LaneState, rows: LaneState, target: jax.Array, token: jax.Array, silent: jax.Array, table: Table
) -> dict[str, jax.Array]:
    """Keeps a sampled speech token for the listeners; `silent` rows sampled something else or the end."""
    silent = silent | (token == table.lexicon.section_close)
    decision = rows.game.step.astype(jnp.int32)
    place = jnp.take_along_axis(rows.utterance_lengths, decision[:, None], axis=1)[:, 0]
    target = jnp.where(silent, lanes.mode.shape[0], target)
    return {
        "utterances": lanes.utterances.at[target, decision, place].set(token, mode="drop"),
        "utterance_lengths": lanes.utterance_lengths.at[target, decision].add(1, mode="drop"),
    }


def text_mask(table: Table, section: jax.Array) -> jax.Array:
    """bool[..., V]: tokens that may be sampled in a free section int[...]: plain text or the section's end."""
    lexicon = table.lexicon
    # A constant of the program: inside a scan XLA loses a token of a scatter along a sharded vocabulary.
    masks = np.stack([lexicon.thought_mask, lexicon.speech_mask])
    masks[:, lexicon.section_close] = True
    return jnp.asarray(masks)[jnp.minimum(section, SPEECH).astype(jnp.int32)]


def inverse_cdf(logits: jax.Array, allowed: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Samples from the masked, renormalised distribution with one uniform number a row.

    Args:
      logits: float32[R, C].
      allowed: bool[R, C], at least one True a row.
      uniform: float32[R] in [0, 1).

    Returns:
      index int32[R] and its log-probability float32[R].
    """
    masked = jnp.where(allowed, logits, -jnp.inf)
    log_probs = jax.nn.log_softmax(masked, axis=-1)
    cumulative = jnp.cumsum(jnp.exp(log_probs), axis=-1)
    # Rounding lets the sum of a large vocabulary rise over masked tokens too, or fall.
    reached = allowed & (cumulative > (uniform * cumulative[:, -1])[:, None])
    last = logits.shape[-1] - 1 - jnp.argmax(allowed[:, ::-1], axis=-1)
    index = jnp.where(jnp.any(reached, axis=-1), jnp.argmax(reached, axis=-1), last).astype(jnp.int32)
    return index, jnp.take_along_axis(log_probs, index[:, None], axis=1)[:, 0]
