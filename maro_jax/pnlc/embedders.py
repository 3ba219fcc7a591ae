"""Embedders: texts in, vectors out. A critic is trained with one and reads what any other makes as noise.

An embedder is named by a text: `words:512`, `policy:RUN`, `sentence:FOLDER` or `api:MODEL`. Its `name` is that text
and, where its weights are on this machine, `#` and the beginning of their digest: a critic that kept the name is never
given what other weights make.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import jax
import numpy as np

from maro_jax.pnlc.storage import SavedCritic
from maro_jax.policy.config import ModelError
from maro_jax.run.embedder_names import is_api_embedder, parse_embedder
from maro_jax.run.fields import ConfigError

DIGITS = 12  # of a digest in a name
KEY_VARIABLE = "OPENAI_API_KEY"


class Embedder(Protocol):
    """What embeds texts.

    Attributes:
      name: by which `embedder_of` opens the same one again.
    """

    name: str

    @property
    def size(self) -> int:
        """d, the numbers of an embedding."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, d], a row a text."""


def embedder_of(
    text: str,
    *,
    batch: int = 64,
    base_url: str = "",
    key_variable: str = KEY_VARIABLE,
    asking: Mapping[str, Any] | None = None,
) -> Embedder:
    """Opens an embedder.

    Args:
      text: `words:SIZE`, `policy:RUN_OR_FOLDER` (the hidden states of a run's or a folder's policy after half of its
        layers; `policy:FOLDER@6` after six), `sentence:FOLDER`, `api:MODEL`, or the `name` of an embedder.
      batch: most texts that are embedded together.
      base_url: of the server of an `api` embedder; empty: OPENAI_BASE_URL, or OpenAI's.
      key_variable: environment variable with its key.
      asking: how an `api` embedder is asked: further fields of `ClientSettings`.

    Raises:
      ConfigError: it cannot be used, or its weights are not those that the name tells.
    """
    named = parse_embedder(text)
    try:
        opened = _OPEN[named.kind](named.place, named.layers, batch, base_url, key_variable, asking)
    except ModelError as error:
        raise ConfigError(str(error)) from None
    digest = opened.name.partition("#")[2]
    if named.digest and named.digest != digest:
        raise ConfigError(
            f"the weights of {named.kind}:{named.place} are no longer those of {text}, which a critic was trained "
            "with, or this version reads long texts otherwise; put them back, or train the critic anew"
        )
    return opened


def embedder_for(
    saved: SavedCritic,
    elsewhere: str = "",
    *,
    base_url: str = "",
    key_variable: str = KEY_VARIABLE,
    asking: Mapping[str, Any] | None = None,
) -> Embedder:
    """Opens the embedder that a critic was trained with, at the server that the critic keeps unless another is named.

    A critic may come from anybody: the key in OPENAI_API_KEY is not sent to an address that only the critic names,
    unless it is OpenAI's or that in OPENAI_BASE_URL.

    Args:
      saved: the critic.
      elsewhere: the embedder, if it is elsewhere now; empty: where it was then.
      base_url, key_variable, asking: see `embedder_of`.
    """
    name, kept = elsewhere or saved.embedder, saved.embedder_address
    if not base_url and kept and is_api_embedder(name):
        host = urlsplit(kept).hostname or ""
        known = host == "openai.com" or host.endswith(".openai.com") or kept == os.environ.get("OPENAI_BASE_URL")
        base_url = kept
        key_variable = key_variable if known or key_variable != KEY_VARIABLE else ""
    return embedder_of(name, base_url=base_url, key_variable=key_variable, asking=asking)


def _open_policy(place: str, layers: int, batch: int, *_: object) -> Embedder:
    from maro_jax.pnlc.policy_embedder import PolicyEmbedder
    from maro_jax.policy.trained import open_trained

    trained = open_trained(place)
    depth = trained.policy.config.num_layers
    if layers > depth:
        raise ConfigError(f"policy:{place}@{layers}: the model has {depth} layers; name one of them")
    return PolicyEmbedder(trained, place, layers or -(-depth // 2), batch)


def _open_sentence(place: str, layers: int, batch: int, *_: object) -> Embedder:
    from maro_jax.pnlc.sentence_encoder import SentenceEmbedder

    return SentenceEmbedder(place, batch)


def _open_api(
    place: str, layers: int, batch: int, base_url: str, key_variable: str, asking: Mapping[str, Any] | None
) -> Embedder:
    from maro_jax.pnlc.api_embedder import ApiEmbedder

    return ApiEmbedder(place, batch, base_url, key_variable, asking)


def _open_words(place: str, *_: object) -> Embedder:
    from maro_jax.pnlc.words_embedder import WordsEmbedder

    return WordsEmbedder(place)


_OPEN: dict[str, Callable[..., Embedder]] = {
    "words": _open_words, "policy": _open_policy, "sentence": _open_sentence, "api": _open_api,
}  # fmt: skip


def digest_of(tree: Any) -> str:
    """The beginning of the SHA-256 of a tree of arrays, of their names, shapes, types and numbers."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}\n".encode())
        found.update(array.view(np.uint8).reshape(-1).data)
    return found.hexdigest()[:DIGITS]


def in_batches(
    rows: Sequence[Sequence[int]], batch: int, pad: int, run: Callable[[np.ndarray, np.ndarray], Any], size: int
) -> np.ndarray:
    """Runs a compiled function over token rows of like lengths, padded to few shapes so that it is compiled seldom.

    Args:
      rows: token ids, a list a text.
      batch: most rows of a call.
      pad: id that fills rows.
      run: maps int32[n, width] tokens and int32[n] lengths to float32[n, size].
      size: of an embedding.

    Returns:
      float32[len(rows), size].
    """
    found = np.zeros((len(rows), size), np.float32)
    widths = np.array([_width(len(row)) for row in rows])
    for width in np.unique(widths):
        chosen = np.flatnonzero(widths == width)
        for first in range(0, len(chosen), batch):
            part = chosen[first : first + batch]
            tokens = np.full((min(batch, _power_of_two(len(part))), width), pad, np.int32)
            lengths = np.ones(len(tokens), np.int32)
            for at, row in enumerate(part):
                tokens[at, : len(rows[row])], lengths[at] = rows[row], len(rows[row])
            found[part] = np.asarray(run(tokens, lengths))[: len(part)]
    return found


SHORTEST = 8  # tokens of the narrowest row


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _width(number: int) -> int:
    """The least of 8, 12, 16, 24, 32, 48, … that holds `number` tokens: beyond 8, a third of it is padding at most."""
    width = max(SHORTEST, _power_of_two(number))
    return width * 3 // 4 if width > SHORTEST and number <= width * 3 // 4 else width
