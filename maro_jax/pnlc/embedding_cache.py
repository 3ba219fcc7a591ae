"""Embeddings kept on disk by the content of their texts, so that no text is embedded twice.

A folder holds one folder for each embedder, and in it shards: safetensors files with `keys` uint8[n, 32] (SHA-256 of
each text) and `embeddings` float32[n, d]. A shard is written under another name and renamed, so that it is whole or not
there; one that cannot be read all the same (a copy that was cut off) is left out, and its texts are embedded anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from maro_jax.pnlc.embedders import Embedder
from maro_jax.run.console import Console
from maro_jax.run.directory import write_json

SHARD = 2048  # texts of a shard, but for the last one
ENDING = ".safetensors"


@contextlib.contextmanager
def cached(embedder: Embedder, folder: str, console: Console) -> Iterator[Embedder]:
    """The embedder through the cache in a folder, or by itself.

    Args:
      embedder: embeds what is not known.
      folder: of caches; empty: there is none.
      console: is told of shards that cannot be read.
    """
    if not folder:
        yield embedder
        return
    with CachedEmbedder(embedder, folder) as found:
        for path in found.unreadable:
            console.line(f"note: {path} cannot be read; its texts are embedded anew")
        yield found


class CachedEmbedder:
    """An embedder that looks up what it has embedded before; used as a context, it writes its rest at the end.

    Attributes:
      name: of the embedder behind it.
      embedded: texts that were not known and had to be embedded.
      unreadable: shards that could not be read.
    """

    name: str
    embedded: int
    unreadable: list[Path]

    def __init__(self, embedder: Embedder, folder: str | Path):
        """Reads what is known.

        Args:
          embedder: embeds what is not.
          folder: of caches, made if it does not exist.
        """
        self._embedder, self.name, self.embedded, self.unreadable = embedder, embedder.name, 0, []
        self._folder = Path(folder).expanduser() / hashlib.sha256(embedder.name.encode()).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / "embedder.json").exists():
            write_json(self._folder / "embedder.json", {"embedder": embedder.name})
        self._known: dict[bytes, np.ndarray] = {}
        self._new: list[bytes] = []
        for path in sorted(self._folder.glob(f"*{ENDING}")):
            self._read(path)

    @property
    def size(self) -> int:
        """Of the embedder."""
        return self._embedder.size

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, d]; each text that is not known is embedded once, however often it occurs."""
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if missing:
            found = self._embedder.embed(list(missing.values()))
            self._known |= dict(zip(missing, found, strict=True))
            self._new += missing
            self.embedded += len(missing)
            while len(self._new) >= SHARD:
                self._write(SHARD)
        return np.stack([self._known[key] for key in keys]) if keys else np.zeros((0, self.size), np.float32)

    def __enter__(self) -> CachedEmbedder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes what is not written yet, also where something went wrong."""
        if self._new:
            self._write(len(self._new))

    def _read(self, path: Path) -> None:
        try:
            shard = load_file(path)
            keys, embeddings = shard["keys"], shard["embeddings"]
        except (SafetensorError, OSError, KeyError):
            self.unreadable.append(path)
            return
        self._known |= {key.tobytes(): row for key, row in zip(keys, embeddings, strict=True)}

    def _write(self, number: int) -> None:
        """Writes the oldest of what is new; named by its content, so that no process overwrites another's."""
        chosen, self._new = self._new[:number], self._new[number:]
        keys = np.frombuffer(b"".join(chosen), np.uint8).reshape(-1, 32)
        content = save({"keys": keys, "embeddings": np.stack([self._known[key] for key in chosen])})
        handle, part = tempfile.mkstemp(prefix=".part-", dir=self._folder)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._folder / f"{hashlib.sha256(content).hexdigest()[:24]}{ENDING}")
