"""Lanes: the episodes in progress, and how they advance between two model steps.

`advance` steps the games whose reply is complete, writes finished episodes to the records, refills their lanes, and
opens the next turn: what is new to the acting seat is rendered to the end of its stream. A scripted seat replies at
once; a seat held by a model then waits for `maro_jax.selfplay.reply`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.core import view_of_actor
from games.players.scripted import random_legal
from games.text.grammar import (
    ACTION,
    GIVEN,
    SPEECH,
    SPEECH_TOKEN,
    THOUGHT,
    THOUGHT_TOKEN,
    TRIE,
    forced_run,
    live_children,
)
from games.text.lexicon import render_delta
from maro_jax.selfplay.episodes import HEURISTIC, RANDOM, Episodes, RolloutPlan
from maro_jax.selfplay.streams import append, join, mark
from maro_jax.selfplay.table import Table

IDLE, WAITING, REPLIED, OVERFLOWED = range(4)

# Purposes that keep the random streams of an episode apart.
DEAL, CHANCE, SCRIPT, SAMPLE = range(4)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LaneState:
    """L episodes in progress, each at its own place.

    Attributes:
      game: the game's state, batched.
      mode: int8[L], `IDLE`, `WAITING` for model tokens, `REPLIED`, `OVERFLOWED`.
      slot: int32[L], episode's place in the records; E when idle.
      holder: int8[L, N], who decides for each seat.
      cursor: int16[L, N], log rows already shown to each seat.
      length: int32[L, N], tokens in each seat's stream.
      cached: int32[L, N], of which the KV cache holds so many.
      legal: bool[L, A], legal actions of the turn.
      section: int8[L], section of the reply in progress.
      node: int32[L], trie node reached in the action section.
      used: int32[L], tokens sampled in the free section.
      chosen: int32[L], tokens sampled in the whole reply.
      action: int32[L], the action once the reply is complete.
      start: int32[L], where the reply begins in its stream.
      utterances: int32[L, B, U], free speeches by decision.
      utterance_lengths: int32[L, B].
    """

    game: Any
    mode: jax.Array
    slot: jax.Array
    holder: jax.Array
    cursor: jax.Array
    length: jax.Array
    cached: jax.Array
    legal: jax.Array
    section: jax.Array
    node: jax.Array
    used: jax.Array
    chosen: jax.Array
    action: jax.Array
    start: jax.Array
    utterances: jax.Array
    utterance_lengths: jax.Array

    @staticmethod
    def idle(table: Table, lanes: int, episodes: int) -> LaneState:
        """Lanes that hold no episode yet."""
        spec = table.spec
        game = jax.vmap(table.game.init)(jax.random.split(jax.random.key(0), lanes))

        def zeros(*shape: int, dtype: Any = jnp.int32) -> jax.Array:
            return jnp.zeros((lanes, *shape), dtype)

        return LaneState(
            game=game,
            mode=zeros(dtype=jnp.int8),
            slot=jnp.full((lanes,), episodes, jnp.int32),
            holder=zeros(spec.num_seats, dtype=jnp.int8),
            cursor=zeros(spec.num_seats, dtype=jnp.int16),
            length=zeros(spec.num_seats),
            cached=zeros(spec.num_seats),
            legal=zeros(spec.num_actions, dtype=jnp.bool_),
            section=zeros(dtype=jnp.int8),
            node=zeros(),
            used=zeros(),
            chosen=zeros(),
            action=zeros(),
            start=zeros(),
            utterances=zeros(spec.max_decisions, spec.speech_tokens),
            utterance_lengths=zeros(spec.max_decisions),
        )

    def of_actor(self, per_seat: jax.Array) -> jax.Array:
        """[L]: the acting seat's entry of a [L, N] field."""
        actor = jnp.maximum(self.game.actor, 0).astype(jnp.int32)
        return jnp.take_along_axis(per_seat, actor[:, None], axis=1)[:, 0]


def purpose_key(root: jax.Array, purpose: int, number: jax.Array, step: jax.Array) -> jax.Array:
    """key[L] for one purpose at one step of the numbered episode or deal."""

    def one(number: jax.Array, step: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(root, purpose), number), step)

    return jax.vmap(one)(number, step.astype(jnp.int32))


def select(mask: jax.Array, new: Any, old: Any) -> Any:
    """Per lane, the leaves of `new` where `mask` bool[L], else of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)


def advance(
    table: Table,
    plan: RolloutPlan,
    root: jax.Array,
    scripted_rows: int,
    lanes: LaneState,
    records: Episodes,
    next_episode: jax.Array,
) -> tuple[LaneState, Episodes, jax.Array]:
    """Moves every lane on as far as it goes without the model.

    Args:
      table: the game laid out for the policy.
      plan: the episodes to play.
      root: key of the rollout.
      scripted_rows: scripted seats that reply together (static); 0 if none plays.
      lanes: L lanes.
      records: the batch's records.
      next_episode: int32[], the first episode of the plan not dealt yet.
    """
    lanes, records, stepped = _step_games(table, plan, root, lanes, records)
    lanes, fresh, next_episode = _refill(table, plan, root, lanes, next_episode)
    opened = (stepped & ~lanes.game.over) | fresh
    lanes, records = _open_turns(table, lanes, records, opened)
    if scripted_rows:
        lanes, records = _scripted_replies(table, plan, root, scripted_rows, lanes, records)
    return lanes, records, next_episode


def _step_games(
    table: Table, plan: RolloutPlan, root: jax.Array, lanes: LaneState, records: Episodes
) -> tuple[LaneState, Episodes, jax.Array]:
    """Plays complete replies; writes what has ended to the records and idles its lane."""
    episodes = plan.episode.shape[0]
    replied = lanes.mode == REPLIED
    decision = lanes.game.step.astype(jnp.int32)
    where = (jnp.where(replied, lanes.slot, episodes), decision)
    kept = records.behaviours
    behaviours = dataclasses.replace(
        kept,
        seat=kept.seat.at[where].set(lanes.game.actor, mode="drop"),
        role=kept.role.at[where].set(lanes.of_actor(lanes.game.roles), mode="drop"),
        phase=kept.phase.at[where].set(lanes.game.phase, mode="drop"),
        holder=kept.holder.at[where].set(lanes.of_actor(lanes.holder), mode="drop"),
        legal=kept.legal.at[where].set(lanes.legal, mode="drop"),
        action=kept.action.at[where].set(lanes.action.astype(jnp.int16), mode="drop"),
        start=kept.start.at[where].set(lanes.start, mode="drop"),
        end=kept.end.at[where].set(lanes.of_actor(lanes.length), mode="drop"),
    )
    deal = plan.deal[jnp.minimum(lanes.slot, episodes - 1)]
    keys = purpose_key(root, CHANCE, deal, lanes.game.step)
    game = select(replied, jax.vmap(table.game.step)(lanes.game, lanes.action, keys), lanes.game)
    logged = jnp.arange(table.spec.max_events) >= lanes.game.log.size[:, None]
    logged &= jnp.arange(table.spec.max_events) < game.log.size[:, None]
    ended = (replied & game.over) | (lanes.mode == OVERFLOWED)
    slot = jnp.where(ended, lanes.slot, episodes)
    rows = jnp.where(logged, lanes.slot[:, None], episodes)
    columns = jnp.broadcast_to(jnp.arange(table.spec.max_events), rows.shape)
    records = dataclasses.replace(
        records,
        behaviours=behaviours,
        lengths=records.lengths.at[slot].set(lanes.length, mode="drop"),
        roles=records.roles.at[slot].set(game.roles, mode="drop"),
        outcome=records.outcome.at[slot].set(game.outcome, mode="drop"),
        terminated=records.terminated.at[slot].set(game.terminated, mode="drop"),
        truncated=records.truncated.at[slot].set(game.truncated, mode="drop"),
        overflowed=records.overflowed.at[slot].set(lanes.mode == OVERFLOWED, mode="drop"),
        event_rows=records.event_rows.at[slot].set(game.log.rows, mode="drop"),
        event_audience=records.event_audience.at[slot].set(game.log.audience, mode="drop"),
        event_count=records.event_count.at[slot].set(game.log.size, mode="drop"),
        event_step=records.event_step.at[rows, columns].set(
            jnp.broadcast_to(game.step[:, None], rows.shape), mode="drop"
        ),
    )
    mode = jnp.where(ended, IDLE, lanes.mode).astype(jnp.int8)
    slot = jnp.where(ended, episodes, lanes.slot)
    return dataclasses.replace(lanes, game=game, mode=mode, slot=slot), records, replied


def _refill(
    table: Table, plan: RolloutPlan, root: jax.Array, lanes: LaneState, next_episode: jax.Array
) -> tuple[LaneState, jax.Array, jax.Array]:
    """Deals the plan's next episodes to idle lanes."""
    episodes, count = plan.episode.shape[0], lanes.mode.shape[0]
    idle = lanes.mode == IDLE
    slot = next_episode + jnp.cumsum(idle) - 1
    fresh = idle & (slot < episodes)
    slot = jnp.where(fresh, slot, episodes)
    deal = plan.deal[jnp.minimum(slot, episodes - 1)]
    game = jax.vmap(table.game.init)(purpose_key(root, DEAL, deal, jnp.zeros_like(deal)))
    side = jnp.asarray(table.spec.side_of_role, jnp.int32)[game.roles]
    holder = jnp.take_along_axis(plan.holders[jnp.minimum(slot, episodes - 1)], side, axis=1)
    clean = LaneState.idle(table, count, episodes)
    clean = dataclasses.replace(clean, game=game, slot=slot, holder=holder)
    return select(fresh, clean, lanes), fresh, (next_episode + jnp.sum(fresh)).astype(jnp.int32)


def _open_turns(table: Table, lanes: LaneState, records: Episodes, opened: jax.Array) -> tuple[LaneState, Episodes]:
    """Renders what is new to the acting seat and what it is asked; forced tokens of its reply follow."""
    spec, game = table.spec, lanes.game
    legal = jax.vmap(table.game.legal_action_mask)(game)
    cursor = lanes.of_actor(lanes.cursor).astype(jnp.int32)

    def render(game: Any, cursor: jax.Array, utterances: jax.Array, lengths: jax.Array) -> tuple:
        window = jnp.minimum(cursor + jnp.arange(spec.max_new_events), spec.max_events - 1)
        new = cursor + jnp.arange(spec.max_new_events) < game.log.size
        visible = game.log.visible_to(game.actor)[window] & new
        return render_delta(table.lexicon, game.log.rows[window], visible, game.phase, utterances, lengths)

    tokens, count = jax.vmap(render)(game, cursor, lanes.utterances, lanes.utterance_lengths)
    reply_at = lanes.of_actor(lanes.length) + count
    section = jnp.asarray(table.grammar.first_section)[game.phase]
    run, run_count, node = jax.vmap(lambda legal: forced_run(table.grammar, 0, legal))(legal)
    run_count = jnp.where(section == ACTION, run_count, 0)
    tokens, count = join(tokens, count, run, run_count)
    leaf = jnp.asarray(table.grammar.leaf)[node]
    complete = (section == ACTION) & (leaf >= 0)
    room = reply_at + jnp.asarray(_longest_reply(table))[game.phase] <= records.tokens.shape[2]
    written = jnp.where(opened & room, count, 0)
    seat = jnp.maximum(game.actor, 0).astype(jnp.int32)
    records = append(records, lanes.slot, seat, lanes.of_actor(lanes.length), tokens, written)
    mode = jnp.where(room, jnp.where(complete, REPLIED, WAITING), OVERFLOWED)
    acting = opened[:, None] & (jnp.arange(spec.num_seats) == game.actor[:, None])
    return dataclasses.replace(
        lanes,
        mode=jnp.where(opened, mode, lanes.mode).astype(jnp.int8),
        cursor=jnp.where(acting, game.log.size[:, None], lanes.cursor),
        length=jnp.where(acting, lanes.length + written[:, None], lanes.length),
        legal=jnp.where(opened[:, None], legal, lanes.legal),
        section=jnp.where(opened, section, lanes.section).astype(jnp.int8),
        node=jnp.where(opened, node, lanes.node),
        used=jnp.where(opened, 0, lanes.used),
        chosen=jnp.where(opened, 0, lanes.chosen),
        action=jnp.where(opened, leaf, lanes.action),
        start=jnp.where(opened, reply_at, lanes.start),
    ), records


def _longest_reply(table: Table) -> np.ndarray:
    """int32[phases]: most tokens of a reply, from the first section on."""
    grammar, lexicon = table.grammar, table.lexicon
    free = (grammar.budgets + (grammar.budgets > 0)).sum(axis=1) + lexicon.span_length[lexicon.section_next].sum(axis=1)
    acts = np.array([phase.action for phase in table.spec.phases])
    return (free + acts * grammar.label_tokens.shape[1]).astype(np.int32)


def _scripted_replies(
    table: Table, plan: RolloutPlan, root: jax.Array, rows: int, lanes: LaneState, records: Episodes
) -> tuple[LaneState, Episodes]:
    """Writes the whole replies of scripted seats, `rows` lanes at a time: few of many are scripted beside a model."""

    def speaking(lanes: LaneState) -> jax.Array:
        holder = lanes.of_actor(lanes.holder)
        return (lanes.mode == WAITING) & ((holder == HEURISTIC) | (holder == RANDOM))

    def reply(carry: tuple[LaneState, Episodes]) -> tuple[LaneState, Episodes]:
        lanes, records = carry
        due = speaking(lanes)
        _, lane = jax.lax.top_k(due.astype(jnp.int8), rows)
        due = due[lane]
        some, records = scripted_reply(table, plan, root, jax.tree.map(lambda leaf: leaf[lane], lanes), records, due)
        lane = jnp.where(due, lane, lanes.mode.shape[0])
        written = {name: getattr(lanes, name).at[lane].set(getattr(some, name), mode="drop") for name in _REPLY_FIELDS}
        return dataclasses.replace(lanes, **written), records

    return jax.lax.while_loop(lambda carry: jnp.any(speaking(carry[0])), reply, (lanes, records))


# What a reply changes of a lane.
_REPLY_FIELDS = ("mode", "length", "section", "node", "action", "utterances", "utterance_lengths")


def scripted_reply(
    table: Table, plan: RolloutPlan, root: jax.Array, lanes: LaneState, records: Episodes, speaking: jax.Array
) -> tuple[LaneState, Episodes]:
    """A whole reply where `speaking` bool[L]: the action's plan as a thought, speech by template, the action's label.

    Arguments as those of `advance`. Holders other than `HEURISTIC` play at random. Of a game without plans the thought
    is empty.
    """
    holder = lanes.of_actor(lanes.holder)
    episode = plan.episode[jnp.minimum(lanes.slot, plan.episode.shape[0] - 1)]
    keys = purpose_key(root, SCRIPT, episode, lanes.game.step)
    views = jax.vmap(lambda game: view_of_actor(table.game, game))(lanes.game)
    sensible = jax.vmap(table.heuristic)(views, keys)
    action = jnp.where(holder == HEURISTIC, sensible, jax.vmap(random_legal)(views, keys))
    speech = _span(table.lexicon, table.lexicon.scripted_speech, action)
    thought = None
    if table.plans:
        thought = _span(table.lexicon, table.lexicon.scripted_thought, jax.vmap(table.plans.of)(views, action))
    return write_reply(table, lanes, records, speaking, action, speech, thought)


def write_reply(
    table: Table,
    lanes: LaneState,
    records: Episodes,
    speaking: jax.Array,
    action: jax.Array,
    speech: tuple[jax.Array, jax.Array],
    thought: tuple[jax.Array, jax.Array] | None = None,
) -> tuple[LaneState, Episodes]:
    """Writes whole replies that no model sampled: what is thought, what is said, then the label of what is done.

    Args:
      table: the game laid out for the policy.
      lanes: L lanes; all are marked as `REPLIED`.
      records: the batch's records.
      speaking: bool[L], where something is written.
      action: int32[L].
      speech: int32[L, K] and int32[L], tokens said where speech is free, cut at the phase's budget.
      thought: tokens of the thought in the same way; default: an empty one.
    """
    thought = thought or (speech[0], jnp.zeros_like(speech[1]))
    for section, text in ((THOUGHT, thought), (SPEECH, speech)):
        if table.grammar.budgets[:, section].any():
            lanes, records = _write_section(table, lanes, records, speaking, section, text)
    lanes, records = _write_label(table, lanes, records, speaking, action)
    return dataclasses.replace(lanes, mode=jnp.full_like(lanes.mode, REPLIED), action=action), records


def _write_section(
    table: Table,
    lanes: LaneState,
    records: Episodes,
    speaking: jax.Array,
    section: int,
    said: tuple[jax.Array, jax.Array],
) -> tuple[LaneState, Episodes]:
    """Appends a free section, its close and the way to the next section."""
    lexicon, grammar = table.lexicon, table.grammar
    here = speaking & (lanes.section == section)
    phase = lanes.game.phase
    budget = jnp.asarray(grammar.budgets)[phase, section]
    seat = jnp.maximum(lanes.game.actor, 0).astype(jnp.int32)
    slot = jnp.where(here, lanes.slot, records.tokens.shape[0])
    text, spoken = said[0], jnp.minimum(said[1], budget)
    close = jnp.full((*spoken.shape, 1), lexicon.section_close)
    tokens, count = join(text, spoken, close, jnp.ones_like(spoken))
    at = lanes.of_actor(lanes.length)
    kind = SPEECH_TOKEN if section == SPEECH else THOUGHT_TOKEN
    for place in range(tokens.shape[1]):
        free = (place < spoken) | ((place == spoken) & (spoken < budget))
        node = jnp.where(free, kind, GIVEN)
        target = jnp.where(free, slot, records.tokens.shape[0])
        records = mark(records, target, seat, at + place, node, lanes.game.step, jnp.zeros(at.shape))
    if section == SPEECH:
        decision = jnp.where(here, lanes.game.step, table.spec.max_decisions).astype(jnp.int32)
        lane = jnp.arange(here.shape[0])
        padded = jnp.pad(text, ((0, 0), (0, max(0, table.spec.speech_tokens - text.shape[1]))))
        lanes = dataclasses.replace(
            lanes,
            utterances=lanes.utterances.at[lane, decision].set(padded[:, : table.spec.speech_tokens], mode="drop"),
            utterance_lengths=lanes.utterance_lengths.at[lane, decision].set(spoken, mode="drop"),
        )
    onward, onward_count = _span(lexicon, lexicon.section_next[:, section], phase)
    tokens, count = join(tokens, count, onward, onward_count)
    records = append(records, slot, seat, at, tokens, jnp.where(here, count, 0))
    following = jnp.asarray(grammar.next_section)[phase, section]
    acting = here[:, None] & (jnp.arange(table.spec.num_seats) == lanes.game.actor[:, None])
    return dataclasses.replace(
        lanes,
        length=jnp.where(acting, lanes.length + count[:, None], lanes.length),
        section=jnp.where(here, following, lanes.section).astype(jnp.int8),
        node=jnp.where(here, 0, lanes.node),
    ), records


def _write_label(
    table: Table, lanes: LaneState, records: Episodes, speaking: jax.Array, action: jax.Array
) -> tuple[LaneState, Episodes]:
    """Appends the rest of the chosen action's label; tokens that had alternatives are marked as chosen."""
    grammar = table.grammar
    here = speaking & (lanes.section == ACTION)
    seat = jnp.maximum(lanes.game.actor, 0).astype(jnp.int32)
    slot = jnp.where(here, lanes.slot, records.tokens.shape[0])
    at = lanes.of_actor(lanes.length)
    depth = jnp.asarray(grammar.depth)[lanes.node]
    label, nodes = jnp.asarray(grammar.label_tokens)[action], jnp.asarray(grammar.label_nodes)[action]
    place = depth[:, None] + jnp.arange(label.shape[1])
    tokens = jnp.take_along_axis(label, jnp.minimum(place, label.shape[1] - 1), axis=1)
    rest = jnp.where(here, jnp.sum(label >= 0, axis=1) - depth, 0)
    for step in range(label.shape[1]):
        node = jnp.take_along_axis(nodes, jnp.minimum(place[:, step : step + 1], label.shape[1]), axis=1)[:, 0]
        options = jnp.sum(live_children(grammar, node, lanes.legal), axis=-1)
        target = jnp.where((step < rest) & (options > 1), slot, records.tokens.shape[0])
        records = mark(records, target, seat, at + step, TRIE + node, lanes.game.step, jnp.zeros(at.shape))
    records = append(records, slot, seat, at, tokens, rest)
    acting = here[:, None] & (jnp.arange(table.spec.num_seats) == lanes.game.actor[:, None])
    return dataclasses.replace(lanes, length=jnp.where(acting, lanes.length + rest[:, None], lanes.length)), records


def _span(lexicon: Any, spans: np.ndarray, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """int32[L, K], int32[L]: the tokens of one of the lexicon's `spans` int[.] a lane, by its index int[L]."""
    width = max(1, int(lexicon.span_length[spans].max()))
    span = jnp.asarray(spans)[index]
    start, length = jnp.asarray(lexicon.span_start)[span], jnp.asarray(lexicon.span_length)[span]
    place = jnp.minimum(start[:, None] + jnp.arange(width), lexicon.pool.shape[0] - 1)
    return jnp.asarray(lexicon.pool)[place], length
