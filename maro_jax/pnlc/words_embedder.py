"""Words as an embedder: random directions for words, pairs of neighbours and lines; no model, and hardly any time.

A text is the sum over its features f of (1 + log n_f) · r_f, brought to length 1: n_f counts f in the text, and r_f is
a vector of signs drawn from f's own hash, so that two texts are as near as their features are alike (Achlioptas 2003,
"Database-friendly random projections"; Weinberger et al. 2009, "Feature hashing for large scale multitask learning").
Words that mean the same are as far apart as any others: for games' own sentences that does not matter, for free text it
does.
"""

from __future__ import annotations

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
        self._forget()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, d], each of length 1; 0 for a text without words."""
        found = np.zeros((len(texts), self.size), np.float32)
        for row, text in zip(found, texts, strict=True):
            if len(self._number) > MOST_FEATURES:
                self._forget()
            numbers = [self._of_line(line) for line in text.lower().split("\n")]
            feature, first, count = np.unique(np.concatenate(numbers), return_index=True, return_counts=True)
            if len(feature):
                order = np.argsort(first)  # of the text, not of what was read before it: a sum's last bit depends on it
                weights = 1 + np.log(count[order].astype(np.float32))
                row[:] = weights @ self._directions[feature[order]]
                row /= np.linalg.norm(row)
        return found

    def _forget(self) -> None:
        """Begins with no feature known."""
        self._number: dict[str, int] = {}  # a row of `_directions`, of each feature
        self._lines: dict[str, np.ndarray] = {}  # lines come again and again
        self._directions = np.empty((1024, self.size), np.float32)

    def _of_line(self, line: str) -> np.ndarray:
        """int64[...], the features of a line by number, each as often as it occurs."""
        known = self._lines.get(line)
        if known is None:
            known = self._lines[line] = np.array([self._of_feature(each) for each in features(line)], np.int64)
        return known

    def _of_feature(self, feature: str) -> int:
        number = self._number.get(feature)
        if number is None:
            number = self._number[feature] = len(self._number)
            if number == len(self._directions):
                self._directions = np.concatenate([self._directions, np.empty_like(self._directions)])
            self._directions[number] = self._drawn(feature)
        return number

    def _drawn(self, feature: str) -> np.ndarray:
        """float32[d] of -1 and 1."""
        drawn = hashlib.shake_128(feature.encode()).digest(self.size // 8)
        return 2 * np.unpackbits(np.frombuffer(drawn, np.uint8)).astype(np.float32) - 1


def features(line: str) -> Iterator[str]:
    """What there is in a line in lower case: itself, its words, and its pairs of neighbours, apart by a mark."""
    words = line.split()
    if words:
        yield "l" + " ".join(words)
        yield from ("w" + word for word in words)
        yield from ("p" + " ".join(pair) for pair in zip(words, words[1:], strict=False))
