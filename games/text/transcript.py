"""Text for people's eyes, made on the host; nothing here is ever fed back to a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from games.core import GameSpec
from games.text.framing import TextTokenizer
from games.text.lexicon import parse_template

_COLUMNS = {"actor": 1, "target": 2, "value": 3}


def event_text(spec: GameSpec, row: Sequence[int], utterance_text: str = "") -> str:
    """One event as a line of text, in the words that seats read.

    Args:
      spec: the game.
      row: (kind, actor, target, value), a row of the event log.
      utterance_text: what was said, for an event whose template has a slot for it.

    Returns:
      The line, without the newline that sets it off in a stream.
    """
    words = dict(spec.words)
    parts = []
    for piece, content in parse_template(spec.event_kinds[int(row[0])]):
        if piece == "text":
            parts.append(content)
        elif piece == "utterance":
            parts.append(utterance_text)
        else:
            parts.append(words[piece][int(row[_COLUMNS[content]])])
    return "".join(parts).removeprefix("\n")


def to_text(tokenizer: TextTokenizer, ids: Iterable[int]) -> str:
    """What a seat has read and said, from the ids of its stream (any part of it), control tokens left out."""
    return tokenizer.decode([int(token) for token in ids]).strip("\n")
