"""What the text layer does on the device, once more on the host: strings first, ids at the very end."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from games.core import GameSpec
from games.text import vocabulary
from maro_jax.policy.tokenizer import TextTokenizer, tiny_tokenizer
from tests.policy.hf_fixture import make_tokenizer

FAMILIES = ("tiny", "chatml_merged", "qwen3", "llama3_merged")

# (what opens a turn, what closes it, what opens each section, what ends one, what lies between two) by family.
Frame = tuple[str, str, dict[str, str], str, str]


def _sections(assistant: str) -> dict[str, str]:
    return {name: f"{assistant}{name.capitalize()}:" for name in ("thought", "speech", "action")}


def _chatml(assistant: str) -> Frame:
    return "\n<|im_start|>user", "<|im_end|>\n", _sections(f"<|im_start|>{assistant}"), "<|im_end|>", "\n"


FRAMES: dict[str, Frame] = {
    "tiny": ("", "", {"thought": "<|think|>", "speech": "<|say|>", "action": "<|act|>"}, "<|end|>", ""),
    "chatml": _chatml("assistant\n"),
    "qwen3": _chatml("assistant\n<think>\n\n</think>\n\n"),
    "llama3": (
        "<|start_header_id|>user<|end_header_id|>\n\nNews",
        "<|eot_id|>",
        _sections("<|start_header_id|>assistant<|end_header_id|>\n\n"),
        "<|eot_id|>",
        "",
    ),
}
_CONTROL = re.compile(r"(<\|\w+\|>|</?think>)")


@functools.cache
def tokenizer_of(name: str) -> TextTokenizer:
    """A tokenizer by name: the tiny one, a byte-level BPE of few merges, or one that merges all it can (`_merged`).

    The latter is trained on the games' own phrases and on punctuation before line ends, where a merge could span.
    """
    if name == "tiny":
        return tiny_tokenizer()
    if not name.endswith("_merged"):
        return TextTokenizer(make_tokenizer(name))
    texts = [*vocabulary.PHRASES, *(f"{phrase}:\n" for phrase in vocabulary.PHRASES), "user\n\n", "!?.\n"]
    return TextTokenizer(make_tokenizer(name.removesuffix("_merged"), texts, 1500))


def encode(tokenizer: TextTokenizer, text: str) -> list[int]:
    """Ids of text in which control tokens are spelled."""
    parts = _CONTROL.split(text)
    return list(
        itertools.chain.from_iterable(
            [tokenizer.control_id(part)] if index % 2 else tokenizer.encode(part) for index, part in enumerate(parts)
        )
    )


def behind_control(text: str) -> str:
    """What follows the last control token in text."""
    return _CONTROL.split(text)[-1]


def event_pieces(spec: GameSpec, row: Sequence[int]) -> list[str]:
    """The pieces of an event's template with its words in the slots; an utterance's slot is left as `{utterance}`."""
    fields = dict(zip(("actor", "target", "value"), row[1:], strict=True))
    words = dict(spec.words)
    pieces = []
    for part in re.split(r"(\{[^}]*\})", spec.event_kinds[row[0]].template):
        slot = re.fullmatch(r"\{(\w+):(\w+)\}", part)
        pieces.append(words[slot[1]][fields[slot[2]]] if slot else part)
    return [piece for piece in pieces if piece]


def possible_rows(spec: GameSpec) -> Iterator[tuple[int, int, int, int]]:
    """Every event there can be, with -1 in the fields that its template does not use."""
    words = dict(spec.words)
    for kind, event in enumerate(spec.event_kinds):
        sizes = {field: len(words[table]) for table, field in re.findall(r"\{(\w+):(\w+)\}", event.template)}
        choices = [range(sizes[field]) if field in sizes else [-1] for field in ("actor", "target", "value")]
        for fields in itertools.product(*choices):
            yield (kind, *fields)


def delta(
    spec: GameSpec,
    tokenizer: TextTokenizer,
    rows: Sequence[Sequence[int]],
    phase: int,
    speeches: Mapping[int, list[int]],
) -> list[int]:
    """Ids of a turn: the events a seat is shown, what is asked of it and the frame of its reply's first section.

    All text between two control tokens or speeches is put together first and encoded at once.

    Args:
      spec: the game.
      tokenizer: of the policy.
      rows: the new events that the seat may see.
      phase: index of the kind of decision.
      speeches: ids of what was said, by decision.
    """
    turn_open, turn_close, opens, _, _ = FRAMES[tokenizer.family]
    text = turn_open
    ids: list[int] = []
    for row in rows:
        text += "".join(event_pieces(spec, row))
        if text.endswith("{utterance}"):
            ids += encode(tokenizer, text.removesuffix("{utterance}")) + speeches[row[3]]
            text = ""
    return ids + encode(tokenizer, text + spec.phases[phase].prompt + turn_close + opens[sections(spec, phase)[0]])


def sections(spec: GameSpec, phase: int) -> list[str]:
    """Names of the sections of a reply."""
    kind = spec.phases[phase]
    used = {"thought": kind.thought_tokens > 0, "speech": kind.speech_tokens > 0, "action": kind.action}
    return [section for section, present in used.items() if present]


def between(tokenizer: TextTokenizer, section: str) -> list[int]:
    """Ids that lead from the end of one section to the next."""
    _, _, opens, _, gap = FRAMES[tokenizer.family]
    return encode(tokenizer, gap + opens[section])


def close(tokenizer: TextTokenizer) -> int:
    """The control id that ends a section."""
    return tokenizer.control_id(FRAMES[tokenizer.family][3])
