"""A game's words as token tables, compiled once per (game, tokenizer), and the rendering of what is new to a seat."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.core import EventKind, GameError, GameSpec
from games.text.framing import FRAMINGS, TextTokenizer, encode_span
from games.text.grammar import SECTIONS, sections_of

ABSENT, CONSTANT, ACTOR, TARGET, VALUE, UTTERANCE = range(6)
_FIELDS = {"actor": ACTOR, "target": TARGET, "value": VALUE}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Lexicon:
    """Token tables; a span is a row of (start, length) in the pool.

    Attributes:
      pool: int32[P], all spans' tokens one after the other.
      span_start: int32[spans].
      span_length: int32[spans].
      piece_source: int32[kinds, pieces], what a template's piece is: absent, constant, a word looked up by the event's
        actor, target or value, or the utterance that value points to.
      piece_base: int32[kinds, pieces], span of the constant, or of the word table's first word.
      turn_open: int32[], span before the events.
      turn_tail: int32[phases], span after the events: prompt, close of the turn, open of the reply's first section.
      section_next: int32[phases, 3], span between a section's close and the next section (empty after the last one).
      scripted_speech: int32[A], span of what a scripted player says with each action.
      scripted_thought: int32[plans], span of what it thinks with each plan; empty in a game without plans.
      section_close: int32[], the control token that ends a section.
      prefix_tokens: int32[roles, Q], role prefixes, right-padded.
      prefix_lengths: int32[roles].
      speech_mask: bool[V], tokens that speech may use.
      thought_mask: bool[V], tokens that thoughts may use.
      max_delta: most tokens one rendering can yield.
      max_stream: most tokens a stream can have after its prefix.
    """

    pool: np.ndarray
    span_start: np.ndarray
    span_length: np.ndarray
    piece_source: np.ndarray
    piece_base: np.ndarray
    turn_open: Any
    turn_tail: np.ndarray
    section_next: np.ndarray
    scripted_speech: np.ndarray
    scripted_thought: np.ndarray
    section_close: Any
    prefix_tokens: np.ndarray
    prefix_lengths: np.ndarray
    speech_mask: np.ndarray
    thought_mask: np.ndarray
    max_delta: int = dataclasses.field(metadata={"static": True})
    max_stream: int = dataclasses.field(metadata={"static": True})


class _Spans:
    """Collects token spans while a lexicon is built."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.start: list[int] = []
        self.length: list[int] = []

    def add(self, ids: list[int]) -> int:
        self.start.append(len(self.tokens))
        self.length.append(len(ids))
        self.tokens += ids
        return len(self.start) - 1


def parse_template(kind: EventKind) -> list[tuple[str, str]]:
    """Splits a template into ("text", words), (table, field) and ("utterance", "") pieces.

    Raises:
      GameError: if a slot is malformed.
    """
    pieces = []
    for literal, slot, field, _ in string.Formatter().parse(kind.template):
        if literal:
            pieces.append(("text", literal))
        if slot == "utterance":
            pieces.append(("utterance", ""))
        elif slot is not None:
            if field not in _FIELDS:
                raise GameError(
                    f"event kind {kind.name!r}: slot {{{slot}:{field}}} names a field other than "
                    f"{', '.join(_FIELDS)}; for example {{seat:actor}}"
                )
            pieces.append((slot, field))
    return pieces


def build_lexicon(
    spec: GameSpec, tokenizer: TextTokenizer, *, vocab_size: int, brief: bool, thoughts: Sequence[str] = ()
) -> Lexicon:
    """Compiles a game's words for a tokenizer.

    Args:
      spec: the game.
      tokenizer: gives ids for text and control tokens.
      vocab_size: V of the model, at least the tokenizer's.
      brief: role prefixes without the rules of the game (for models too small to read them).
      thoughts: what scripted players think, a text for each plan.

    Raises:
      GameError: if a template is malformed or names a missing word table.
    """
    framing, spans, words = FRAMINGS[tokenizer.family], _Spans(), dict(spec.words)
    empty = spans.add([])
    tables = {name: [spans.add(tokenizer.encode(word)) for word in table] for name, table in words.items()}
    templates = [parse_template(kind) for kind in spec.event_kinds]
    width = max(len(pieces) for pieces in templates)
    source = np.zeros((len(templates), width), np.int32)
    base = np.zeros((len(templates), width), np.int32)
    for row, (kind, pieces) in enumerate(zip(spec.event_kinds, templates, strict=True)):
        for column, (what, content) in enumerate(pieces):
            if what == "text":
                source[row, column], base[row, column] = CONSTANT, spans.add(tokenizer.encode(content))
            elif what == "utterance":
                source[row, column] = UTTERANCE
            elif what in tables:
                source[row, column], base[row, column] = _FIELDS[content], tables[what][0]
            else:
                raise GameError(f"event kind {kind.name!r} uses the word table {what!r}; there are: {', '.join(words)}")

    close = tokenizer.control_id(framing.section_close)
    opens = [encode_span(span, tokenizer) for span in (framing.thought_open, framing.speech_open, framing.action_open)]
    gap = encode_span(framing.section_gap, tokenizer)
    turn_open = spans.add(encode_span(framing.turn_open, tokenizer))
    turn_close = encode_span(framing.turn_close, tokenizer)
    tails, nexts = [], []
    for phase in spec.phases:
        used = sections_of(phase)
        tails.append(spans.add(tokenizer.encode(phase.prompt) + turn_close + opens[used[0]]) if used else empty)
        following = {section: spans.add(gap + opens[after]) for section, after in zip(used, used[1:], strict=False)}
        nexts.append([following.get(section, empty) for section in range(len(SECTIONS))])
    speech = [spans.add(tokenizer.encode(text)) for text in spec.scripted_speech]
    thought = [spans.add(tokenizer.encode(text)) for text in thoughts]
    prefixes = _prefixes(spec, tokenizer, brief)
    plain = tokenizer.plain_token_mask(vocab_size)
    longest = _longest_event(spec, np.array(spans.length), source, base, words, spec.speech_tokens)
    tail_length = max(spans.length[tail] for tail in tails)
    return Lexicon(
        pool=np.array(spans.tokens, np.int32),
        span_start=np.array(spans.start, np.int32),
        span_length=np.array(spans.length, np.int32),
        piece_source=source,
        piece_base=base,
        turn_open=np.int32(turn_open),
        turn_tail=np.array(tails, np.int32),
        section_next=np.array(nexts, np.int32),
        scripted_speech=np.array(speech, np.int32),
        scripted_thought=np.array(thought, np.int32),
        section_close=np.int32(close),
        prefix_tokens=prefixes[0],
        prefix_lengths=prefixes[1],
        speech_mask=plain,
        thought_mask=plain | tokenizer.newline_token_mask(vocab_size),
        max_delta=spans.length[turn_open] + spec.max_new_events * max(longest.values()) + tail_length,
        max_stream=_max_stream(spec, tokenizer, longest, spans, turn_open, tails, nexts),
    )


def _prefixes(spec: GameSpec, tokenizer: TextTokenizer, brief: bool) -> tuple[np.ndarray, np.ndarray]:
    framing = FRAMINGS[tokenizer.family]
    rows = [
        encode_span(framing.system_open, tokenizer)
        + tokenizer.encode(spec.introduction[brief] + texts[brief])
        + encode_span(framing.system_close, tokenizer)
        for texts in spec.role_texts
    ]
    lengths = np.array([len(row) for row in rows], np.int32)
    tokens = np.zeros((len(rows), max(1, lengths.max())), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
    return tokens, lengths


def _longest_event(
    spec: GameSpec, length: np.ndarray, source: np.ndarray, base: np.ndarray, words: dict, speech_tokens: int
) -> dict[str, int]:
    """Most tokens of an event of each kind."""
    sizes = {start: len(table) for start, table in zip(_table_starts(words), words.values(), strict=True)}
    longest = {}
    for row, kind in enumerate(spec.event_kinds):
        total = 0
        for what, start in zip(source[row], base[row], strict=True):
            if what == CONSTANT:
                total += length[start]
            elif what == UTTERANCE:
                total += speech_tokens
            elif what != ABSENT:
                total += length[start : start + sizes[int(start)]].max()
        longest[kind.name] = int(total)
    return longest


def _table_starts(words: dict) -> list[int]:
    """First span of each word table; they follow the empty span in order."""
    return list(np.cumsum([1, *(len(table) for table in words.values())])[:-1])


def _max_stream(
    spec: GameSpec,
    tokenizer: TextTokenizer,
    longest: dict[str, int],
    spans: _Spans,
    turn_open: int,
    tails: list[int],
    nexts: list[list[int]],
) -> int:
    """Most tokens of a stream after its prefix, from the counts that the spec bounds."""
    label = max(len(tokenizer.encode(text)) for text in spec.action_labels) + 1
    names = [phase.name for phase in spec.phases]

    def longest_reply(name: str) -> int:
        index = names.index(name)
        phase = spec.phases[index]
        free = sum(budget + 1 for budget in (phase.thought_tokens, phase.speech_tokens) if budget)
        frame = spans.length[turn_open] + spans.length[tails[index]] + sum(spans.length[span] for span in nexts[index])
        return frame + free + label * phase.action

    total = sum(count * max(longest[kind] for kind in kinds) for kinds, count in spec.visible_events)
    total += sum(count * max(longest_reply(name) for name in phases) for phases, count in spec.turns)
    return int(total)


def render_delta(
    lexicon: Lexicon,
    rows: jax.Array,
    visible: jax.Array,
    phase: jax.Array,
    utterances: jax.Array,
    utterance_lengths: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Renders the events new to a seat and the prompt for its reply.

    Args:
      lexicon: token tables.
      rows: int[W, 4], event rows since the seat's last turn, in order.
      visible: bool[W], which of them the seat may see.
      phase: int[], the kind of decision it is asked for.
      utterances: int32[B, U], free speeches by index of their decision.
      utterance_lengths: int32[B].

    Returns:
      tokens int32[max_delta] and their number.
    """
    lexicon = jax.tree.map(jnp.asarray, lexicon)
    kind = jnp.where(visible, rows[:, 0], 0).astype(jnp.int32)
    source = jnp.where(visible[:, None], lexicon.piece_source[kind], ABSENT)
    fields = jnp.concatenate([jnp.zeros_like(rows[:, :2]), rows[:, 1:]], axis=1).astype(jnp.int32)
    index = jnp.take_along_axis(fields, jnp.clip(source, 0, VALUE), axis=1)  # 0 for constants
    span = jnp.where(source == ABSENT, 0, lexicon.piece_base[kind] + index)
    span = jnp.where(source == UTTERANCE, 0, span)
    # The turn's frame as a row before and one after the events: [W + 2, pieces] from here on.
    framed = jnp.pad(span, ((1, 1), (0, 0))).at[jnp.array([0, -1]), 0].set(
        jnp.stack([lexicon.turn_open, lexicon.turn_tail[phase]])
    )
    speech = jnp.pad(rows[:, 3].astype(jnp.int32), 1)
    is_speech = jnp.pad(source == UTTERANCE, ((1, 1), (0, 0)))
    length = jnp.where(is_speech, utterance_lengths[speech][:, None], lexicon.span_length[framed])
    # Of each token first the row, then the piece in it: far fewer comparisons than with all pieces of all rows.
    piece_stop = jnp.cumsum(length, axis=1)
    row_stop = jnp.cumsum(piece_stop[:, -1])
    position = jnp.arange(lexicon.max_delta)
    row = jnp.minimum(jnp.searchsorted(row_stop, position, side="right", method="compare_all"), len(row_stop) - 1)
    inside = position - (row_stop - piece_stop[:, -1])[row]
    piece = jnp.minimum(jnp.sum(piece_stop[row] <= inside[:, None], axis=1), length.shape[1] - 1)
    offset = inside - (piece_stop - length)[row, piece]
    token = lexicon.pool[jnp.clip(lexicon.span_start[framed[row, piece]] + offset, 0, lexicon.pool.shape[0] - 1)]
    if utterances.shape[-1]:
        spoken = utterances[speech[row], jnp.clip(offset, 0, utterances.shape[-1] - 1)]
        token = jnp.where(is_speech[row, piece], spoken, token)
    return jnp.where(position < row_stop[-1], token, 0).astype(jnp.int32), row_stop[-1].astype(jnp.int32)
