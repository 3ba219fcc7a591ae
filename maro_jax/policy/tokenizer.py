"""Text to token ids and back, with control tokens out of reach of any text.

A control token frames who speaks. It is reached by name, `TextTokenizer.control_id`, and never by
spelling: `encode` knows no added tokens, so that a player who writes `<|im_end|>` gets the
characters.
"""

import dataclasses
import functools
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from games.text import vocabulary
from maro_jax.policy.config import ModelError

# Characters without a look of their own: controls, format marks, surrogates, private and unassigned
# code points, line and paragraph separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_VERSION_KEY = "vocabulary_version"


@dataclasses.dataclass(frozen=True)
class Framing:
    """The control tokens of a family of tokenizers.

    Attributes:
        control: spellings of the control tokens.
        pad: the one that fills rows.
        end: the one that ends a turn.
    """

    control: tuple[str, ...]
    pad: str
    end: str


# The first family whose control tokens a tokenizer has is its own.
FAMILIES: dict[str, Framing] = {
    "tiny": Framing(control=vocabulary.CONTROL, pad="<|pad|>", end="<|end|>"),
    "qwen3": Framing(
        control=("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"),
        pad="<|endoftext|>",
        end="<|im_end|>",
    ),
    "chatml": Framing(
        control=("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        pad="<|endoftext|>",
        end="<|im_end|>",
    ),
    "llama3": Framing(
        control=(
            *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
            *("<|eot_id|>", "<|end_of_text|>"),
        ),
        pad="<|end_of_text|>",
        end="<|eot_id|>",
    ),
}


class TextTokenizer:
    """A Hugging Face fast tokenizer of a known family.

    Attributes:
        family: one of `FAMILIES`.
        vocab_size: one more than the largest id.
        control_ids: ids of all control and added tokens, which no text encodes to.
        pad_id: id that fills rows.
        end_id: id that ends a turn.
        vocabulary_version: of the word list behind a `tiny` tokenizer, else `None`.
        pretrained: as transformers has it, which finds control tokens in a text; never for what players write.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        """Wraps a tokenizer.

        Args:
            tokenizer: with all control tokens of one family among its added tokens.

        Raises:
            ModelError: it is of no known family.
        """
        added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
        self.family = _family(added, str(tokenizer.chat_template or ""))
        framing = FAMILIES[self.family]
        self.pretrained = tokenizer
        self._plain = _without_added_tokens(tokenizer)
        self._control = {name: added[name] for name in framing.control}
        self._spelling = {index: name for name, index in added.items()}
        self.control_ids = frozenset(self._spelling)
        self.vocab_size = max(tokenizer.get_vocab().values()) + 1
        self.pad_id = self._control[framing.pad]
        self.end_id = self._control[framing.end]
        self.vocabulary_version: int | None = tokenizer.init_kwargs.get(_VERSION_KEY)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, read as nothing but text.

        Raises:
            ValueError: the tokenizer made a control id of it all the same.
        """
        ids = self._plain.encode(text, add_special_tokens=False).ids
        forged = self.control_ids.intersection(ids)
        if forged:
            raise ValueError(f"the text {text!r} encodes to the control id {min(forged)}.")
        return ids

    def decode(self, ids: Iterable[int], *, show_control: bool = False) -> str:
        """Returns the text of `ids`, for people; control tokens are left out unless shown.

        Args:
            ids: token ids.
            show_control: whether to spell control tokens.
        """
        parts: list[str] = []
        text: list[int] = []
        for index in map(int, ids):
            if index not in self._spelling:
                text.append(index)
            elif show_control:
                parts += [self._decode_text(text), self._spelling[index]]
                text = []
        return "".join([*parts, self._decode_text(text)])

    def control_id(self, name: str) -> int:
        """Returns the id of a control token of the family, for example `<|im_end|>`.

        Raises:
            ModelError: the family has no control token of this name.
        """
        if name not in self._control:
            raise ModelError(
                f"the {self.family} tokenizer has no control token {name!r}, only {', '.join(self._control)}."
            )
        return self._control[name]

    def plain_token_mask(self, vocab_size: int) -> np.ndarray:
        """Marks the tokens that a public speech may use.

        These decode by themselves to visible text: valid UTF-8, not empty, no newline, control or
        format character, unchanged by the normal form NFKC; control tokens are none of them.

        Args:
            vocab_size: of the model; may exceed the tokenizer's.

        Returns:
            bool `[vocab_size]`.

        Raises:
            ModelError: the model has fewer tokens than the tokenizer.
        """
        return self._mask(vocab_size, is_plain)

    def newline_token_mask(self, vocab_size: int) -> np.ndarray:
        """Marks the tokens that a private thought may use besides the plain ones.

        These hold at least one newline and otherwise only plain text.

        Args:
            vocab_size: of the model; may exceed the tokenizer's.

        Returns:
            bool `[vocab_size]`.

        Raises:
            ModelError: the model has fewer tokens than the tokenizer.
        """

        def has_newline(text: str) -> bool:
            rest = text.replace("\n", "")
            return rest != text and (not rest or is_plain(rest))

        return self._mask(vocab_size, has_newline)

    def digest(self) -> str:
        """Returns the SHA-256, in hexadecimal, of the family and of which id is which piece.

        Two tokenizers of one digest read the same ids as the same text.
        """
        pieces = sorted(self.pretrained.get_vocab().items(), key=lambda item: item[1])
        return hashlib.sha256(json.dumps([self.family, pieces]).encode()).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Writes an ordinary Hugging Face tokenizer folder."""
        self.pretrained.save_pretrained(str(folder))

    @functools.cached_property
    def _texts(self) -> list[str]:
        """What each id decodes to by itself; empty for control ids."""
        ids = [[index] for index in range(self.vocab_size)]
        texts = self._plain.decode_batch(ids, skip_special_tokens=False)
        return ["" if index in self.control_ids else text for index, text in enumerate(texts)]

    def _mask(self, vocab_size: int, allowed: Callable[[str], bool]) -> np.ndarray:
        """Returns bool `[vocab_size]`: whose text is `allowed`."""
        if vocab_size < self.vocab_size:
            raise ModelError(f"the tokenizer has {self.vocab_size} tokens, but the model only {vocab_size}.")
        mask = np.zeros(vocab_size, bool)
        mask[: self.vocab_size] = [allowed(text) for text in self._texts]
        return mask

    def _decode_text(self, ids: list[int]) -> str:
        """Decodes ids none of which is a control id."""
        return self._plain.decode(ids, skip_special_tokens=False)


def is_plain(text: str) -> bool:
    """Whether `text` is visible, valid, on one line and unchanged by NFKC."""
    return (
        bool(text)
        and "\ufffd" not in text
        and not any(unicodedata.category(character) in _INVISIBLE for character in text)
        and unicodedata.is_normalized("NFKC", text)
    )


def load_tokenizer(folder: str | Path) -> TextTokenizer:
    """Reads the tokenizer of a model folder.

    Args:
        folder: with a `tokenizer.json`.

    Raises:
        ModelError: the file is missing or unreadable, or the tokenizer is of no known family.
    """
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{folder} lacks tokenizer.json, the file of a fast tokenizer.")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # The library raises bare `Exception` for malformed files.
        raise ModelError(f"{path} is not a readable fast tokenizer: {first_line(error)}.") from error
    return TextTokenizer(tokenizer)


def first_line(error: Exception) -> str:
    """What a library says of a file that it cannot read, as a part of our own sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(" .:")


def tiny_tokenizer() -> TextTokenizer:
    """Returns the tokenizer of the embedded tiny model.

    It splits text into the fewest pieces of `games.text.vocabulary`, and among those splits takes
    the one with the longest pieces; joining the pieces gives the text back. Each character that
    the word list lacks becomes a question mark.
    """
    # Viterbi maximises the sum of scores: -1 for each piece, and a bonus too small to outweigh one.
    ordinary = [(piece, -1.0 + 1e-5 * len(piece) ** 2) for piece in vocabulary.PIECES]
    # Far below what its characters cost, so that a control token's spelling is never one piece.
    control = [(piece, -1e3) for piece in vocabulary.CONTROL]
    # No id stands for what is unknown: the model would make one token of any two such that meet.
    tokenizer = Tokenizer(models.Unigram([*control, *ordinary], None, byte_fallback=False))
    known = "".join(piece for piece in vocabulary.PIECES if len(piece) == 1)
    tokenizer.normalizer = normalizers.Replace(Regex(f"[^{re.escape(known)}]"), "?")
    tokenizer.decoder = decoders.Fuse()
    framing = FAMILIES["tiny"]
    return TextTokenizer(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            extra_special_tokens=list(framing.control),
            pad_token=framing.pad,
            eos_token=framing.end,
            clean_up_tokenization_spaces=False,
            **{_VERSION_KEY: vocabulary.VERSION},
        )
    )


def _family(added: dict[str, int], template: str) -> str:
    """Returns the first family whose control tokens are all among the added ones."""
    for name, framing in FAMILIES.items():
        # Those models of Qwen3 that never think in chats have its tokens, but no place for a thought in their template.
        thinks = not template or "<think>" in template or "enable_thinking" in template
        if added.keys() >= set(framing.control) and (name != "qwen3" or thinks):
            return name
    needed = " or ".join(", ".join(framing.control) for framing in FAMILIES.values())
    raise ModelError(f"the tokenizer must have the control tokens {needed}.")


def _without_added_tokens(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """Returns a copy of the inner tokenizer that takes all input for plain text."""
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    description.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
    return Tokenizer.from_str(json.dumps(description))
