"""Others who generate greedily from a Hugging Face folder: transformers, and Tunix's sampler where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import torch
from transformers import PreTrainedModel

from maro_jax.policy.config import DecoderConfig

Generate = Callable[[np.ndarray, int], np.ndarray]  # prompts int[B, P] and a number: greedy tokens int[B, number]


def transformers_peer(model: PreTrainedModel) -> Generate:
    """transformers' `generate` with its cache; nobody ends before the others."""
    model.generation_config.eos_token_id = None

    def generate(prompts: np.ndarray, new: int) -> np.ndarray:
        with torch.no_grad():
            tokens = torch.as_tensor(prompts)
            written = model.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new, min_new_tokens=new,
                do_sample=False, use_cache=True,
            )  # fmt: skip
        return written[:, prompts.shape[1] :].numpy()

    return generate


class _Ids:
    """A tokenizer whose texts are token ids already; no id of it begins, ends or pads."""

    def encode(self, ids: Sequence[int]) -> list[int]:
        return list(ids)

    def decode(self, ids: Sequence[int]) -> str:
        return ""

    def bos_id(self) -> None:
        return None

    def eos_id(self) -> int:
        return -1

    pad_id = eos_id


def tunix_peer(folder: Path, config: DecoderConfig, room: int) -> Generate | None:
    """Tunix's sampler in float32; None where Tunix is not installed.

    Args:
      folder: of a Qwen2 model.
      config: its shape.
      room: tokens of a row, prompt included.
    """
    if importlib.util.find_spec("tunix") is None:
        return None
    from tunix.generate.sampler import CacheConfig, Sampler
    from tunix.models.qwen2.model import ModelConfig
    from tunix.models.qwen2.params import create_model_from_safe_tensors

    shape = ModelConfig(
        num_layers=config.num_layers, vocab_size=config.vocab_size, embed_dim=config.hidden_size,
        hidden_dim=config.intermediate_size, num_heads=config.num_heads, head_dim=config.head_dim,
        num_kv_heads=config.num_kv_heads, rope_theta=config.rope_theta, norm_eps=config.rms_norm_eps,
        use_tied_embedding=config.tie_embeddings, dtype=jnp.float32, param_dtype=jnp.float32,
    )  # fmt: skip
    model = create_model_from_safe_tensors(str(folder), shape, dtype=jnp.float32)
    cache = CacheConfig(room, config.num_layers, config.num_kv_heads, config.head_dim)
    sampler = Sampler(model, _Ids(), cache)

    def generate(prompts: np.ndarray, new: int) -> np.ndarray:
        said = sampler(prompts.tolist(), max_generation_steps=new, max_prompt_length=prompts.shape[1])
        return np.stack([np.asarray(tokens)[:new] for tokens in said.tokens])

    return generate
