"""Our parameters by the names and shapes that Hugging Face's safetensors give them."""

from collections.abc import Iterator
from typing import Any

import jax

from maro_jax.policy.decoder import Params, Policy

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"

# Our name of each module of a block, and Hugging Face's.
_BLOCK_NAMES = {
    "attention_norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
    "output": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}

Keys = tuple[str, ...]


def tensor_name(path: Keys) -> tuple[str, bool]:
    """Returns Hugging Face's name of a parameter, and whether it is stored transposed."""
    match path:
        case ("embedding",):
            return EMBEDDING, False
        case ("head",):
            return HEAD, False
        case ("final_norm", "scale"):
            return "model.norm.weight", False
        case ("layers", layer, module, kind):
            suffix = "bias" if kind == "bias" else "weight"
            return f"model.layers.{layer}.{_BLOCK_NAMES[module]}.{suffix}", kind == "kernel"
    raise AssertionError(f"no Hugging Face name for the parameter {path}")


def module_name(module: str) -> str:
    """Returns Hugging Face's name of a layer's module."""
    return _BLOCK_NAMES[module]


def adapter_name(path: Keys) -> str:
    """Returns PEFT's name of a factor of an adapter, which it keeps transposed."""
    _, layer, module, factor = path
    kind = {"lora_a": "lora_A", "lora_b": "lora_B"}[factor]
    return f"base_model.model.model.layers.{layer}.{_BLOCK_NAMES[module]}.{kind}.weight"


def leaves(params: Params) -> Iterator[tuple[Keys, Any]]:
    """Yields each parameter with its path."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        yield tuple(entry.key for entry in path), leaf


def expected_tensors(policy: Policy) -> dict[str, tuple[int, ...]]:
    """Returns the stored shape of each tensor of a model by its name."""
    expected = {}
    for path, leaf in leaves(policy.abstract_params()):
        name, transposed = tensor_name(path)
        expected[name] = leaf.shape[::-1] if transposed else leaf.shape
    return expected
