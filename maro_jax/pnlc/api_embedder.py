"""An embedder behind an OpenAI-compatible API."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maro_jax.run.fields import ConfigError


class ApiEmbedder:
    """Asks a server for embeddings, several requests at a time.

    Attributes:
      name: `api:MODEL`; what a server changes behind a name cannot be known.
      calls: counters of all requests so far (`Ledger.summary`).
    """

    name: str

    def __init__(
        self,
        model: str,
        batch: int,
        base_url: str = "",
        key_variable: str = "OPENAI_API_KEY",
        asking: Mapping[str, Any] | None = None,
    ):
        """Prepares the embedder; nothing is sent yet.

        Args:
          model: its name at the server.
          batch: most texts of a request.
          base_url: of the server; empty: OPENAI_BASE_URL, or OpenAI's.
          key_variable: environment variable with the key.
          asking: how patiently, and at which price: further fields of `ClientSettings`.

        Raises:
          ConfigError: the openai client is not installed, or there is no key.
        """
        if importlib.util.find_spec("openai") is None:
            raise ConfigError("--embedder=api:… needs the openai client; install it with: pip install 'maro-jax[api]'")
        from maro_jax.api.client import ClientSettings
        from maro_jax.api.embedding import EmbeddingClient
        from maro_jax.api.ledger import Ledger

        self.name, self._batch = f"api:{model}", batch
        settings = ClientSettings(model=model, base_url=base_url, key_variable=key_variable, **asking or {})
        self._open = functools.partial(EmbeddingClient, settings)  # a client belongs to one event loop
        self._open()  # finds out now whether there is a key
        self.calls = Ledger(settings.prices)

    @functools.cached_property
    def size(self) -> int:
        """As the server has it, which is asked once."""
        return self.embed(["size"]).shape[1]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, d].

        Raises:
          ConfigError: the server gave no answer, in one sentence.
        """
        if not texts:
            return np.zeros((0, self.size), np.float32)
        return asyncio.run(self._embed(list(texts)))

    async def _embed(self, texts: list[str]) -> np.ndarray:
        from maro_jax.api.failures import CallFailed

        client = self._open()
        client.ledger = self.calls
        parts = [texts[first : first + self._batch] for first in range(0, len(texts), self._batch)]
        try:
            # An empty text is refused by servers, and a blank one is not.
            found = await asyncio.gather(*(client.embeddings([text or " " for text in part]) for part in parts))
            return np.concatenate(found)
        except CallFailed as failed:
            raise ConfigError(f"{self.name} gave no embeddings: {failed}") from None
        finally:
            await client.close()
