"""What the text layer does on the device, once more on the host: strings first, ids at the very end."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from games.core import GameSpec
from games.text import vocabulary
from maro_jax.policy.tokenizer import TextTokenizer, tiny_tokenizer
from tests.policy.hf_fixture import make_chatml_tokenizer

FAMILIES = ("tiny", "chatml", "chatml_merged")

# (what opens a turn, what closes it, what opens each section, what ends one, what lies between two) by family.
FRAMES = {
    "tiny": ("", "", {"thought": "<|think|>", "speech": "<|say|>", "action": "<|act|>"}, "<|end|>", ""),
    "chatml": (
        "\n<|im_start|>user",
        "<|im_end|>\n",
        {
            "thought": "<|im_start|>assistant\nThought:",
            "speech": "<|im_start|>assistant\nSpeech:",
            "action": "<|im_start|>assistant\nAction:",
        },
        "<|im_end|>",
        "\n",
    ),
}


@functools.cache
def tokenizer_of(name: str) -> TextTokenizer:
    """A tokenizer by name: the tiny one, a byte-level BPE of few merges and one that merges all it can."""
    if name == "tiny":
        return tiny_tokenizer()
    plain = make_chatml_tokenizer()
    return TextTokenizer(plain if name == "chatml" else _merged(plain))


def _merged(plain: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Trains on the games' own phrases and on punctuation before line ends, the places where a merge could span."""
    inner = plain.backend_tokenizer
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.decoder = inner.normalizer, inner.decoder
    tokenizer.pre_tokenizer = inner.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = [*vocabulary.PHRASES, *(f"{phrase}:\n" for phrase in vocabulary.PHRASES), "user\n\n", "!?.\n"]
    tokenizer.train_from_iterator(texts * 8, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    )  # fmt: skip


def encode(tokenizer: TextTokenizer, text: str) -> list[int]:
    """Ids of text in which control tokens are spelled."""
    parts = re.split(r"(<\|\w+\|>)", text)
    return list(
        itertools.chain.from_iterable(
            [tokenizer.control_id(part)] if index % 2 else tokenizer.encode(part) for index, part in enumerate(parts)
        )
    )


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
