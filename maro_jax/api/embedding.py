"""Embeddings from an OpenAI-compatible server, asked for as patiently as the answers of a chat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from maro_jax.api.client import Answer, ChatClient, Form
from maro_jax.api.failures import MalformedReply


class EmbeddingClient(ChatClient):
    """Asks one model for embeddings; retries, limits, counters and the hiding of the key are the chat client's."""

    async def embeddings(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, d], a row a text.

        Args:
          texts: as many as the server takes in one request.

        Raises:
          CallFailed: there are none; the reason is one sentence without secrets.
        """
        asked: Any = list(texts)
        answered: Any = await self.complete(asked)
        return answered

    async def _answer(self, messages: Any, form: Form) -> Answer:
        raw = await self._client.embeddings.with_raw_response.create(
            model=self.settings.model, input=messages, encoding_format="float"
        )
        return read_embeddings(raw.text, len(messages))


def read_embeddings(body: str, number: int) -> Answer:
    """The vectors in the body of an answer, in the order they were asked for, and its token counts.

    Args:
      body: JSON.
      number: how many vectors it must hold.

    Raises:
      MalformedReply: it is not JSON, or does not hold so many vectors of one length.
    """
    try:
        answer = json.loads(body)
        found = {int(each["index"]): each["embedding"] for each in answer["data"]}
        vectors = np.array([found[index] for index in range(number)], np.float32)
    except (ValueError, KeyError, TypeError):
        raise MalformedReply(f"no {number} vectors in {body[:80]!r}") from None
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise MalformedReply("vectors that are not all of one length and finite")
    told = (answer.get("usage") or {}).get("prompt_tokens")
    return Answer(vectors, {"prompt_tokens": told, "completion_tokens": 0} if type(told) is int else None)
