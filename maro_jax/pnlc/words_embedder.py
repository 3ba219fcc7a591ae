"""Words as an embedder: random directions for words, pairs of neighbours and lines; no model, and hardly any time.

A text is the sum over its features f of (1 + log n_f) · r_f, brought to length 1: n_f counts f in the text, and r_f is
a vector of signs drawn from f's own hash, so that two texts are as near as their features are alike (Achlioptas 2003,
"Database-friendly random projections"; Weinberger et al. 2009, "Feature hashing for large scale multitask learning").
Words that mean the same are as far apart as any others: for games' own sentences that does not matter, for free text it
does.
"""

from __future__ import annotations

import collections
import functools
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from maro_jax.run.fields import ConfigError

SIZES = (16, 8192)
MOST_FEATURES = 65536  # whose directions are kept


class WordsEmbedder:
    """Embeds texts by their words.

    Attributes:
      name: `words:SIZE`.
      size: d.
    """

    name: str
    size: int

    def __init__(self, place: str):
        """Prepares the embedder.

        Args:
          place: d as a number, a multiple of 8.

        Raises:
          ConfigError: it is none, or too small or large.
        """
        low, high = SIZES
        if not place.isdecimal() or not low <= int(place) <= high or int(place) % 8:
            raise ConfigError(
                f"words:{place}: the size must be a multiple of 8 from {low} to {high}, for example words:512"
            )
        self.size, self.name = int(place), f"words:{int(place)}"
        self._direction = functools.lru_cache(maxsize=MOST_FEATURES)(self._drawn)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, d], each of length 1; 0 for a text without words."""
        found = np.zeros((len(texts), self.size), np.float32)
        for row, text in zip(found, texts, strict=True):
            counts = collections.Counter(features(text))
            if counts:
                weights = 1 + np.log(np.fromiter(counts.values(), np.float32))
                row[:] = weights @ np.stack([self._direction(feature) for feature in counts])
                row /= np.linalg.norm(row)
        return found

    def _drawn(self, feature: str) -> np.ndarray:
        """float32[d] of -1 and 1."""
        drawn = hashlib.shake_128(feature.encode()).digest(self.size // 8)
        return 2 * np.unpackbits(np.frombuffer(drawn, np.uint8)).astype(np.float32) - 1


def features(text: str) -> Iterator[str]:
    """The lines of a text, and of each line its words and its pairs of neighbours, apart from each other by a mark."""
    for line in text.lower().split("\n"):
        words = line.split()
        if not words:
            continue
        yield "l" + " ".join(words)
        yield from ("w" + word for word in words)
        yield from ("p" + " ".join(pair) for pair in zip(words, words[1:], strict=False))
