"""Thoughts apart from what follows them: a policy proposes several for a reply, and goes on after the one it is given.

    turns = games.run()                      replies that are due
    proposed = games.propose(turns, 4)       the stream is read once, and four thoughts are sampled side by side
    games.go_on(turns, chosen)               the chosen thought is written, and the policy speaks and acts

All that a rollout does is done by the rollout's own functions, under the same keys: the first thought proposed is the
one that the policy would have had by itself, and going on from it yields the reply that it would have given.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.text.grammar import THOUGHT
from maro_jax.policy.attention import BranchedAttention, KVCache
from maro_jax.policy.lora import select
from maro_jax.selfplay.episodes import LEARNER, Episodes, RolloutPlan
from maro_jax.selfplay.hosted import HostedGames, Turn
from maro_jax.selfplay.lanes import SAMPLE, WAITING, LaneState, purpose_key
from maro_jax.selfplay.reply import feed, inverse_cdf, pending, text_mask, write_token
from maro_jax.selfplay.rollout import Usage, take_step
from maro_jax.selfplay.table import RolloutSizes, Table

FURTHER = 64  # keeps the second and later thoughts apart from the purposes of `maro_jax.selfplay.lanes`


@dataclasses.dataclass(frozen=True)
class SampledThought:
    """A thought that a policy sampled.

    Attributes:
      tokens: without the section's close.
      log_probs: of each token, and of the close where the budget left it open to the policy.
    """

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class _Programs:
    """What runs on the device, compiled at its first use."""

    propose: Callable[..., Any]
    go_on: Callable[..., Any]


@functools.lru_cache(maxsize=4)
def _compiled(table: Table, sizes: RolloutSizes) -> _Programs:
    return _Programs(
        # One dispatch each: of a small model it takes as long as several tokens.
        propose=jax.jit(
            functools.partial(_read_and_propose, table, sizes), static_argnums=0, donate_argnames=("lanes", "cache")
        ),
        go_on=jax.jit(
            functools.partial(_write_and_finish, table, sizes), donate_argnames=("lanes", "records", "cache", "usage")
        ),
    )


class ThinkingGames(HostedGames):
    """Hosted games whose policy replies for seats that are answered from outside, thought by thought."""

    def propose(self, turns: Sequence[Turn], count: int) -> list[list[SampledThought]]:
        """Samples thoughts for replies that are due.

        Args:
          turns: that all think.
          count: n, thoughts for each.

        Returns:
          n thoughts for each turn; the first is the one that the policy would have had by itself.
        """
        program, due = _compiled(self.table, self._sizes).propose, self._due(turns)
        found: list[list[SampledThought]] = []
        width = self._sizes.decode_rows
        for first in range(0, len(turns), width):
            part = turns[first : first + width]
            lane = np.zeros(width, np.int32)
            lane[: len(part)] = [turn.lane for turn in part]
            sampled, self.lanes, self._cache = program(
                count, self._plan, self._key, self._playing, due, lane, self.lanes, self.records, self._cache
            )
            tokens, log_probs, lengths = jax.device_get(sampled)
            for row, turn in enumerate(part):
                found.append([
                    _sampled(tokens[row, n], log_probs[row, n], int(lengths[row, n]), self.thought_budget(turn))
                    for n in range(count)
                ])  # fmt: skip
        return found

    def go_on(self, turns: Sequence[Turn], thoughts: Sequence[SampledThought | Sequence[int] | None]) -> None:
        """Lets the policy reply after thoughts.

        Args:
          turns: replies that are due.
          thoughts: one for each turn: of `propose`, or tokens from anywhere, of which those that no thought may use are
            left out and those beyond the budget cut off; None: the policy thinks for itself.
        """
        program, lanes = _compiled(self.table, self._sizes).go_on, self._sizes.lanes
        room = self.table.spec.thought_tokens
        given = np.zeros(lanes, bool)
        tokens, log_probs = np.zeros((lanes, room + 1), np.int32), np.zeros((lanes, room + 1), np.float32)
        lengths = np.zeros(lanes, np.int32)
        allowed = self.table.lexicon.thought_mask
        for turn, thought in zip(turns, thoughts, strict=True):
            if thought is None:
                continue
            given[turn.lane] = True
            if isinstance(thought, SampledThought):
                kept: Sequence[int] = thought.tokens
                log_probs[turn.lane, : len(thought.log_probs)] = thought.log_probs
            else:
                kept = [token for token in thought if allowed[token]][: self.thought_budget(turn)]
            tokens[turn.lane, : len(kept)], lengths[turn.lane] = kept, len(kept)
        self.lanes, self.records, self._cache, self._usage = program(
            self._plan, self._key, self._playing, self._due(turns), (given, tokens, log_probs, lengths),
            self.lanes, self.records, self._cache, self._usage,
        )  # fmt: skip

    @property
    def _playing(self) -> Any:
        """Parameters and temperature."""
        if self._params is None:
            raise ValueError("these games have no policy that could think; give them params")
        return self._params

    def _due(self, turns: Sequence[Turn]) -> np.ndarray:
        due = np.zeros(self._sizes.lanes, bool)
        due[[turn.lane for turn in turns]] = True
        return due


def _sampled(tokens: np.ndarray, log_probs: np.ndarray, length: int, budget: int) -> SampledThought:
    chosen = min(length + 1, budget)  # the close is chosen too, unless the budget forces it
    return SampledThought(tuple(tokens[:length].tolist()), tuple(log_probs[:chosen].tolist()))


def _read(
    table: Table, sizes: RolloutSizes, due: jax.Array, params: Any, lanes: LaneState, records: Episodes, cache: KVCache
) -> tuple[LaneState, KVCache]:
    """Feeds the streams of `due` bool[L] to the model up to their last token, which stays pending."""
    width = sizes.ingest_rows

    def unread(lanes: LaneState) -> jax.Array:
        return jnp.where(due, pending(lanes) - 1, 0)

    def some(carry: tuple[LaneState, KVCache]) -> tuple[LaneState, KVCache]:
        lanes, cache = carry
        waiting, lane = jax.lax.top_k(unread(lanes), width)
        chosen = (lane.astype(jnp.int32), waiting > 0)
        first = jnp.zeros(width, jnp.int32)
        _, _, _, lanes, cache = feed(
            table, select(params, 0), first, sizes.ingest_tokens, chosen, 1, lanes, records, cache
        )
        return lanes, cache

    return jax.lax.while_loop(lambda carry: jnp.any(unread(carry[0]) > 0), some, (lanes, cache))


def _read_and_propose(
    table: Table,
    sizes: RolloutSizes,
    count: int,
    plan: RolloutPlan,
    root: jax.Array,
    playing: tuple[Any, jax.Array],
    due: jax.Array,
    lane: jax.Array,
    lanes: LaneState,
    records: Episodes,
    cache: KVCache,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], LaneState, KVCache]:
    """Reads what is new in the streams of all who are due, and samples thoughts for some of them."""
    lanes, cache = _read(table, sizes, due, playing[0], lanes, records, cache)
    return _propose(table, sizes, count, plan, root, playing, lane, lanes, records, cache), lanes, cache


def _propose(
    table: Table,
    sizes: RolloutSizes,
    count: int,
    plan: RolloutPlan,
    root: jax.Array,
    playing: tuple[Any, jax.Array],
    lane: jax.Array,
    lanes: LaneState,
    records: Episodes,
    cache: KVCache,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Samples `count` thoughts in each of the lanes int32[R], whose streams have been read.

    Returns:
      tokens int32[R, n, T], log-probabilities float32[R, n, T] of tokens and close, and lengths int32[R, n].
    """
    rows = jax.tree.map(lambda leaf: leaf[lane], lanes)
    seat = jnp.maximum(rows.game.actor, 0).astype(jnp.int32)
    length = rows.of_actor(rows.cached)
    slot = jnp.minimum(rows.slot, plan.episode.shape[0] - 1)
    last = records.tokens[slot, seat, jnp.minimum(length, records.tokens.shape[2] - 1)]
    budget = jnp.asarray(table.grammar.budgets)[rows.game.phase, THOUGHT][:, None]
    keys = _keys(root, plan.episode[slot], rows.game.step, count)
    most, close, allowed = table.spec.thought_tokens, table.lexicon.section_close, text_mask(table, jnp.int32(THOUGHT))
    role = rows.of_actor(rows.game.roles).astype(jnp.int32)
    row = lane * table.spec.num_seats + seat
    attention = BranchedAttention.start(cache, row, role, length, count, most)
    only, temperature = select(playing[0], 0), playing[1][0]

    def one(carry: tuple) -> tuple:
        attention, fed, tokens, log_probs, lengths, done = carry
        step = attention.step
        hidden, attention = table.policy.forward(only, fed, attention.positions(), attention)
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = table.policy.logits(only, flat) / temperature
        uniform = jax.vmap(jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, step))))(keys)
        token, log_prob = inverse_cdf(logits, jnp.broadcast_to(allowed, logits.shape), uniform.reshape(-1))
        token, log_prob = token.reshape(fed.shape), log_prob.reshape(fed.shape)
        tokens = tokens.at[:, :, step].set(jnp.where(done, 0, token))
        log_probs = log_probs.at[:, :, step].set(jnp.where(done, 0.0, log_prob))
        closing = token == close
        lengths = lengths + (~done & ~closing)
        done = done | closing | (lengths >= budget)
        return dataclasses.replace(attention, step=step + 1), token, tokens, log_probs, lengths, done

    shape = (len(lane), count)
    start = (
        attention,
        jnp.broadcast_to(last[:, None], shape),
        jnp.zeros((*shape, most), jnp.int32),
        jnp.zeros((*shape, most), jnp.float32),
        jnp.zeros(shape, jnp.int32),
        jnp.broadcast_to(budget <= 0, shape),
    )
    end = jax.lax.while_loop(lambda carry: (carry[0].step < most) & ~jnp.all(carry[-1]), one, start)
    _, _, tokens, log_probs, lengths, _ = end
    return tokens, log_probs, lengths


def _keys(root: jax.Array, episode: jax.Array, step: jax.Array, count: int) -> jax.Array:
    """key[R, n]: of each thought; the first has the key of the policy's own."""
    own = purpose_key(root, SAMPLE, episode, step)
    others = purpose_key(root, FURTHER, episode, step)
    further = [jax.vmap(jax.random.fold_in, (0, None))(others, number) for number in range(1, count)]
    return jnp.stack([own, *further], axis=1)


def _write_thoughts(
    table: Table,
    given: jax.Array,
    tokens: jax.Array,
    log_probs: jax.Array,
    lengths: jax.Array,
    lanes: LaneState,
    records: Episodes,
) -> tuple[LaneState, Episodes]:
    """Writes thoughts int32[L, T + 1] of `lengths` int32[L] into the replies where they are `given` bool[L]."""
    lane, close = jnp.arange(len(given)), table.lexicon.section_close

    def write(place: jax.Array, carry: tuple[LaneState, Episodes]) -> tuple[LaneState, Episodes]:
        lanes, records = carry
        token = jnp.where(place < lengths, tokens[:, place], close)
        here = given & (place <= lengths) & (lanes.section == THOUGHT) & (lanes.mode == WAITING)
        free = jnp.zeros_like(given)
        return write_token(table, lane, here, token, log_probs[:, place], free, lanes.node, lanes, records)

    most = jnp.max(jnp.where(given, lengths + 1, 0))
    return jax.lax.fori_loop(0, most, write, (lanes, records))


def _write_and_finish(
    table: Table,
    sizes: RolloutSizes,
    plan: RolloutPlan,
    key: jax.Array,
    playing: tuple[Any, jax.Array],
    due: jax.Array,
    thoughts: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
    lanes: LaneState,
    records: Episodes,
    cache: KVCache,
    usage: Usage,
) -> tuple[LaneState, Episodes, KVCache, Usage]:
    """Writes the thoughts, and lets the policy reply where `due` bool[L], as it does in a rollout for its own seats."""
    lanes, records = _write_thoughts(table, *thoughts, lanes, records)
    holder = lanes.holder
    acting = due[:, None] & (jnp.arange(holder.shape[1]) == lanes.game.actor[:, None])
    lanes = dataclasses.replace(lanes, holder=jnp.where(acting, LEARNER, holder).astype(holder.dtype))

    def unfinished(carry: tuple) -> jax.Array:
        return jnp.any(due & (carry[0].mode == WAITING))

    def step(carry: tuple) -> tuple:
        return take_step(table, sizes, 1, plan, key, *playing, *carry)

    lanes, records, cache, usage = jax.lax.while_loop(unfinished, step, (lanes, records, cache, usage))
    return dataclasses.replace(lanes, holder=holder), records, cache, usage
