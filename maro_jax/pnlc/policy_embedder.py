"""A policy as an embedder: the mean of its hidden states over a text's tokens."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.pnlc.embedders import digest_of, in_batches
from maro_jax.policy.attention import CausalAttention, token_positions
from maro_jax.policy.trained import Trained
from maro_jax.run.fields import ConfigError


class PolicyEmbedder:
    """Mean-pooled hidden states after some of a policy's layers, through its last norm.

    Attributes:
      name: `policy:PLACE@LAYERS#DIGEST`.
    """

    name: str

    def __init__(self, trained: Trained, place: str, layers: int, batch: int):
        """Cuts the policy off after `layers` layers.

        Args:
          trained: the policy and its weights.
          place: by which it was opened.
          layers: 1 to all of them.
          batch: most texts of a call.
        """
        config = trained.policy.config
        self._policy = dataclasses.replace(
            trained.policy, config=dataclasses.replace(config, num_layers=layers), lora=None
        )
        blocks = {str(layer): trained.params["layers"][str(layer)] for layer in range(layers)}
        self._params = trained.params | {"layers": blocks}
        self._tokenizer, self._batch, self._longest = trained.tokenizer, batch, config.max_positions
        self.name = f"policy:{place}@{layers}#{digest_of(self._params)}"

    @property
    def size(self) -> int:
        """The width of the residual stream."""
        return self._policy.config.hidden_size

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, d].

        Raises:
          ConfigError: a text is longer than the model's positions.
        """
        rows = [self._tokenizer.encode(text) for text in texts]
        longest = max(map(len, rows), default=0)
        if longest > self._longest:
            raise ConfigError(f"a text of {longest} tokens exceeds the {self._longest} positions of {self.name}")
        return in_batches(rows, self._batch, self._tokenizer.pad_id, self._run, self.size)

    def _run(self, tokens: np.ndarray, lengths: np.ndarray) -> jax.Array:
        return self._program(self._params, tokens, lengths)

    @functools.cached_property
    def _program(self):  # type: ignore[no-untyped-def]
        policy = self._policy

        @jax.jit
        def pooled(params, tokens, lengths):  # type: ignore[no-untyped-def]
            positions = token_positions(jnp.zeros_like(lengths), tokens.shape[1])
            hidden = policy.forward(params, tokens, positions, CausalAttention())[0].astype(jnp.float32)
            valid = jnp.arange(tokens.shape[1]) < lengths[:, None]
            return jnp.sum(jnp.where(valid[..., None], hidden, 0), axis=1) / jnp.maximum(lengths, 1)[:, None]

        return pooled
