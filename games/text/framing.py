"""How a stream is framed: the control tokens and fixed words around what seats read and say.

A span is a tuple of parts; a part is either the name of a control token of the family or text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

Span = tuple[tuple[str, str], ...]  # (("control", name) | ("text", words), ...)


class TextTokenizer(Protocol):
    """What the text layer needs of a tokenizer."""

    family: str
    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; never a control id."""

    def decode(self, ids: list[int]) -> str:
        """Text of ids, without control tokens."""

    def control_id(self, name: str) -> int:
        """Id of a control token of the family."""

    def digest(self) -> str:
        """Tells tokenizers apart that read the same ids as other text."""

    def plain_token_mask(self, vocab_size: int) -> np.ndarray:
        """bool[V]: tokens a speech may use."""

    def newline_token_mask(self, vocab_size: int) -> np.ndarray:
        """bool[V]: tokens only a thought may use besides."""


@dataclasses.dataclass(frozen=True)
class Framing:
    """The frame of one model family.

    Attributes:
      system_open: before the role prefix, at the start of a stream.
      system_close: after the role prefix.
      turn_open: before the events a seat is shown.
      turn_close: after the phase prompt.
      thought_open, speech_open, action_open: before each section of a reply.
      section_close: the control token that ends each section, sampled by the model or forced by its budget.
      section_gap: between two sections of one reply.
    """

    system_open: Span
    system_close: Span
    turn_open: Span
    turn_close: Span
    thought_open: Span
    speech_open: Span
    action_open: Span
    section_close: str
    section_gap: Span


def _control(name: str) -> tuple[str, str]:
    return ("control", name)


def _text(words: str) -> tuple[str, str]:
    return ("text", words)


_ASSISTANT = (_control("<|im_start|>"), _text("assistant\n"))
# How a reply of Qwen3 begins with thinking off. What the game calls a thought is a section of its own instead. Its own
# template leaves this out of earlier replies; here they keep it, since a stream is only ever added to.
_EMPTY_THOUGHT = (_control("<think>"), _text("\n\n"), _control("</think>"), _text("\n\n"))


def _chatml(assistant: Span) -> Framing:
    return Framing(
        system_open=(_control("<|im_start|>"), _text("system\n")),
        system_close=(_control("<|im_end|>"),),
        turn_open=(_text("\n"), _control("<|im_start|>"), _text("user")),
        turn_close=(_control("<|im_end|>"), _text("\n")),
        thought_open=(*assistant, _text("Thought:")),
        speech_open=(*assistant, _text("Speech:")),
        action_open=(*assistant, _text("Action:")),
        section_close="<|im_end|>",
        section_gap=(_text("\n"),),
    )


def _llama3_header(name: str) -> Span:
    return (_control("<|start_header_id|>"), _text(name), _control("<|end_header_id|>"))


_LLAMA3_ASSISTANT = (*_llama3_header("assistant"), _text("\n\n"))

FRAMINGS: dict[str, Framing] = {
    "tiny": Framing(
        system_open=(),
        system_close=(),
        turn_open=(),
        turn_close=(),
        thought_open=(_control("<|think|>"),),
        speech_open=(_control("<|say|>"),),
        action_open=(_control("<|act|>"),),
        section_close="<|end|>",
        section_gap=(),
    ),
    "chatml": _chatml(_ASSISTANT),
    "qwen3": _chatml((*_ASSISTANT, *_EMPTY_THOUGHT)),
    "llama3": Framing(
        system_open=(_control("<|begin_of_text|>"), *_llama3_header("system"), _text("\n\n")),
        system_close=(_control("<|eot_id|>"),),
        # Events begin with a newline, and its tokenizer would make one token of three: so a word stands in between.
        turn_open=(*_llama3_header("user"), _text("\n\nNews")),
        turn_close=(_control("<|eot_id|>"),),
        thought_open=(*_LLAMA3_ASSISTANT, _text("Thought:")),
        speech_open=(*_LLAMA3_ASSISTANT, _text("Speech:")),
        action_open=(*_LLAMA3_ASSISTANT, _text("Action:")),
        section_close="<|eot_id|>",
        section_gap=(),
    ),
}


def encode_span(span: Span, tokenizer: TextTokenizer) -> list[int]:
    """Ids of a span."""
    encoders: dict[str, Callable[[str], list[int]]] = {
        "control": lambda name: [tokenizer.control_id(name)],
        "text": tokenizer.encode,
    }
    return [token for part, content in span for token in encoders[part](content)]
