"""From episodes to fixed shapes: streams packed into rows of two static widths, cut into micro-batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from games.text.grammar import TRIE
from maro_jax.learner.decisions import Decisions
from maro_jax.selfplay.episodes import Array, Episodes
from maro_jax.selfplay.table import Table

WIDTH_FRACTIONS = (3, 1)  # of the longest stream: most streams are far shorter than the worst case
WIDTH_MULTIPLE = 16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Streams:
    """A micro-batch: R rows of width W, each holding some streams, with at most Q sampled tokens and K behaviours.

    Attributes:
      tokens: int32[R, W], streams one after the other (each with its role prefix), then zeros.
      segment: int32[R, W], number of the stream in its row, -1 for padding.
      position: int32[R, W], of the token in its stream.
      query: int32[R, Q], place in the row whose hidden state predicts the sampled token.
      node: int32[R, Q], what it was sampled from (trie nodes as in `Decisions`), 0 for no token.
      token: int32[R, Q].
      log_prob: float32[R, Q], under the policy that sampled it.
      behaviour: int32[R, Q], which of the row's behaviours it belongs to, K for none.
      legal: bool[R, K, A].
      phase: int32[R, K], as in `Decisions`.
      sign: float32[R, K], -1, 0 or 1; any number with `dro` (see `BehaviourCredit`).
      weight: float32[R, K], 0 for no behaviour.
    """

    tokens: Array
    segment: Array
    position: Array
    query: Array
    node: Array
    token: Array
    log_prob: Array
    behaviour: Array
    legal: Array
    phase: Array
    sign: Array
    weight: Array


@dataclasses.dataclass(frozen=True)
class PackingShape:
    """Static shape of the micro-batches of one width."""

    rows: int
    width: int
    queries: int
    behaviours: int


def packing_shapes(
    decisions: Decisions, capacities: Sequence[int], tokens: int, shards: int
) -> tuple[PackingShape, ...]:
    """The shapes a run compiles its learner for, rising in width; any one stream of any game fits the last.

    Args:
      decisions: the games.
      capacities: S of each game, stream tokens after the role prefix.
      tokens: about how many tokens a micro-batch has.
      shards: rows are a multiple of it.
    """
    longest = turns = queries = 0
    for table, capacity in zip(decisions.tables, capacities, strict=True):
        grammar = table.grammar
        most = sum(count for _, count in table.spec.turns)
        sampled = int((grammar.budgets + (grammar.budgets > 0)).sum(axis=1).max()) + grammar.label_tokens.shape[1]
        longest = max(longest, int(table.lexicon.prefix_lengths.max()) + capacity)
        turns, queries = max(turns, most), max(queries, most * sampled)
    widths = sorted({_round_up(-(-longest // part), WIDTH_MULTIPLE) for part in WIDTH_FRACTIONS})
    return tuple(
        PackingShape(
            rows=_round_up(max(1, tokens // width), shards),
            width=width,
            queries=min(width, max(width // 2, queries)),
            behaviours=max(width // 4, turns),
        )
        for width in widths
    )


def pack(
    decisions: Decisions,
    game: int,
    shapes: tuple[PackingShape, ...],
    episodes: Episodes,
    sign: np.ndarray,
    weight: np.ndarray,
    chosen: np.ndarray,
) -> Iterator[Streams]:
    """Yields micro-batches that hold every behaviour with a weight of the chosen episodes exactly once.

    Behaviours that had no choice (every token forced) are left out: they have no gradient.

    Args:
      decisions: the games.
      game: index of the one that was played.
      shapes: from `packing_shapes`.
      episodes: on the host.
      sign: float32[E, B].
      weight: float32[E, B].
      chosen: int[C], indices of episodes.
    """
    streams = _Trained(decisions.tables[game], episodes, weight, chosen)
    taken = 0
    for shape in shapes:
        fits = int(np.searchsorted(streams.size, shape.width, side="right"))
        rows = _bins(streams, np.arange(taken, fits)[::-1], shape)
        for first in range(0, len(rows), shape.rows):
            yield _fill(decisions, game, shape, episodes, sign, weight, rows[first : first + shape.rows], streams)
        taken = fits
    if taken < len(streams.size):
        raise ValueError(f"a stream of {streams.size[-1]} tokens exceeds the widest row, {shapes[-1].width}")


class _Trained:
    """The streams with something to learn, by rising size, and their sampled tokens as flat arrays.

    Attributes:
      episode, seat: int[n], whose stream it is.
      prefix: int[n], tokens of its role prefix.
      size: int[n], tokens with the prefix, up to the last one trained.
      tokens: slice of the flat arrays for each stream; `position` and `decision` are these arrays.
      behaviours: int[n], behaviours to learn from.
    """

    def __init__(self, table: Table, episodes: Episodes, weight: np.ndarray, chosen: np.ndarray):
        seats = episodes.tokens.shape[1]
        decision = episodes.decision[chosen].astype(np.int64)
        learnt = np.take_along_axis(weight[chosen] != 0, decision.reshape(len(chosen), -1), axis=1)
        trained = (episodes.node[chosen] > 0) & learnt.reshape(decision.shape)
        index, seat, position = np.nonzero(trained)
        stream, first = np.unique(index * seats + seat, return_index=True)
        last = np.append(first[1:], len(position)) if len(stream) else first
        self.position, self.decision = position, decision[index, seat, position]
        episode, seat = chosen[stream // seats], stream % seats
        prefix = table.lexicon.prefix_lengths[episodes.roles[episode, seat]]
        size = prefix + (position[last - 1] + 1 if len(stream) else 0)
        order = np.argsort(size, kind="stable")
        self.episode, self.seat, self.prefix, self.size = episode[order], seat[order], prefix[order], size[order]
        self.tokens = [slice(first[i], last[i]) for i in order]
        self.behaviours = np.array([len(np.unique(self.decision[part])) for part in self.tokens], np.int64)


def _bins(streams: _Trained, candidates: np.ndarray, shape: PackingShape) -> list[list[int]]:
    """First fit, longest first: rows as lists of streams within the shape's three limits."""
    limits = np.array([shape.width, shape.queries, shape.behaviours])
    room = np.zeros((0, 3), np.int64)
    rows: list[list[int]] = []
    for stream in candidates:
        part = streams.tokens[stream]
        need = np.array([streams.size[stream], part.stop - part.start, streams.behaviours[stream]])
        fitting = np.flatnonzero((room >= need).all(axis=1))
        if len(fitting):
            place = fitting[0]
        else:
            place, room = len(rows), np.vstack([room, limits])
            rows.append([])
        rows[place].append(int(stream))
        room[place] -= need
    return rows


def _fill(
    decisions: Decisions,
    game: int,
    shape: PackingShape,
    episodes: Episodes,
    sign: np.ndarray,
    weight: np.ndarray,
    rows: list[list[int]],
    streams: _Trained,
) -> Streams:
    """One micro-batch; rows beyond those given stay empty."""
    out = empty_streams(decisions, shape)
    lexicon, made = decisions.tables[game].lexicon, episodes.behaviours
    first_node, first_phase = decisions.first_node[game], decisions.first_phase[game]
    for row, members in enumerate(rows):
        begin = query = behaviour = 0
        for number, stream in enumerate(members):
            episode, seat, part = streams.episode[stream], streams.seat[stream], streams.tokens[stream]
            prefix, size = int(streams.prefix[stream]), int(streams.size[stream])
            end, count = begin + size, part.stop - part.start
            role = episodes.roles[episode, seat]
            out.tokens[row, begin : begin + prefix] = lexicon.prefix_tokens[role, :prefix]
            out.tokens[row, begin + prefix : end] = episodes.tokens[episode, seat, : size - prefix]
            out.segment[row, begin:end] = number
            out.position[row, begin:end] = np.arange(size)
            at = streams.position[part]
            indices, local = np.unique(streams.decision[part], return_inverse=True)
            tokens, behaviours = slice(query, query + count), slice(behaviour, behaviour + len(indices))
            out.query[row, tokens] = begin + prefix + at - 1
            node = episodes.node[episode, seat, at].astype(np.int32)
            out.node[row, tokens] = np.where(node >= TRIE, node + first_node, node)
            out.token[row, tokens] = episodes.tokens[episode, seat, at]
            out.log_prob[row, tokens] = episodes.log_probs[episode, seat, at]
            out.behaviour[row, tokens] = behaviour + local
            out.legal[row, behaviours, : made.legal.shape[2]] = made.legal[episode, indices]
            out.phase[row, behaviours] = first_phase + made.phase[episode, indices].astype(np.int32)
            out.sign[row, behaviours] = sign[episode, indices]
            out.weight[row, behaviours] = weight[episode, indices]
            begin, query, behaviour = end, query + count, behaviour + len(indices)
    return out


def empty_streams(decisions: Decisions, shape: PackingShape) -> Streams:
    """A micro-batch on the host that holds nothing yet."""

    def full(size: int, dtype: type, value: int = 0, *more: int) -> np.ndarray:
        return np.full((shape.rows, size, *more), value, dtype)

    return Streams(
        tokens=full(shape.width, np.int32),
        segment=full(shape.width, np.int32, -1),
        position=full(shape.width, np.int32),
        query=full(shape.queries, np.int32),
        node=full(shape.queries, np.int32),
        token=full(shape.queries, np.int32),
        log_prob=full(shape.queries, np.float32),
        behaviour=full(shape.queries, np.int32, shape.behaviours),
        legal=full(shape.behaviours, bool, 0, decisions.num_actions),
        phase=full(shape.behaviours, np.int32),
        sign=full(shape.behaviours, np.float32),
        weight=full(shape.behaviours, np.float32),
    )


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
