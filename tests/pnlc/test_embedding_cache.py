"""Embeddings on disk: nothing is embedded twice, and what is torn is embedded anew."""

import numpy as np
import pytest

from maro_jax.pnlc import embedding_cache
from maro_jax.pnlc.embedding_cache import CachedEmbedder


class Letters:
    """Counts letters, and keeps what it was asked."""

    size = 26

    def __init__(self, name: str = "letters"):
        self.name, self.asked = name, []

    def embed(self, texts):
        self.asked += texts
        return np.array([[text.count(chr(97 + letter)) for letter in range(26)] for text in texts], np.float32)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(embedding_cache, "SHARD", 8)


def test_no_text_is_embedded_twice(tmp_path):
    texts = ["wolf", "seer", "wolf", "", *(f"player {chr(97 + n) * n}" for n in range(20))]
    plain = Letters()
    with CachedEmbedder(plain, tmp_path) as cached:
        found = cached.embed(texts)
        assert (cached.embedded, cached.name, cached.size) == (23, "letters", 26)
        np.testing.assert_array_equal(cached.embed(texts[5:2:-1]), found[5:2:-1])
    np.testing.assert_array_equal(found, Letters().embed(texts))
    assert sorted(plain.asked) == sorted(set(texts))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3  # of 8, 8 and 7
    again = Letters()
    with CachedEmbedder(again, tmp_path) as cached:
        np.testing.assert_array_equal(cached.embed([*texts, "new"])[:-1], found)
        assert cached.embed([]).shape == (0, 26)
    assert again.asked == ["new"]
    other = Letters("other")
    with CachedEmbedder(other, tmp_path) as cached:
        cached.embed(["wolf"])
    assert other.asked == ["wolf"]


def test_a_torn_shard_is_embedded_anew(tmp_path):
    texts = [f"text {n}" for n in range(24)]
    with CachedEmbedder(Letters(), tmp_path) as cached:
        cached.embed(texts)
    first, second, _ = sorted(tmp_path.rglob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-40])
    second.write_bytes(b"")
    (first.parent / ".part-of-a-process-that-died").write_bytes(b"half")
    plain = Letters()
    with CachedEmbedder(plain, tmp_path) as cached:
        np.testing.assert_array_equal(cached.embed(texts), Letters().embed(texts))
        assert cached.unreadable == [first, second] and len(plain.asked) == 16
    with CachedEmbedder(plain, tmp_path) as cached:
        cached.embed(texts)
        assert not cached.unreadable  # written anew in their places
    assert len(plain.asked) == 16


def test_what_was_embedded_is_kept_where_something_goes_wrong(tmp_path):
    with pytest.raises(RuntimeError), CachedEmbedder(Letters(), tmp_path) as cached:
        cached.embed(["wolf"])
        raise RuntimeError
    plain = Letters()
    with CachedEmbedder(plain, tmp_path) as cached:
        cached.embed(["wolf"])
    assert not plain.asked
