"""Models as Hugging Face folders: `config.json`, safetensors and a fast tokenizer.

Nothing in a folder is executed: weights are read from safetensors only, never from pickles.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from maro_jax.policy.config import DecoderConfig, ModelError
from maro_jax.policy.decoder import Params, Policy
from maro_jax.policy.tokenizer import TextTokenizer, load_tokenizer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_READABLE = ("F32", "BF16", "F16")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")

# Our name of each module of a block, and Hugging Face's.
_BLOCK_NAMES = {
    "attention_norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}

Keys = tuple[str, ...]


def load_model(
    folder: str | Path,
    *,
    dtype: str = "float32",
    precision: str = "default",
    param_dtype: str = "float32",
    shardings: Any = None,
) -> tuple[Policy, Params, TextTokenizer]:
    """Reads a model.

    Args:
        folder: with `config.json`, safetensors weights and `tokenizer.json`.
        dtype: of activations, see `Policy`.
        precision: of matrix products, see `Policy`.
        param_dtype: of the parameters in memory.
        shardings: where each parameter goes, a tree like the parameters; `None` for the default
            device. Tensors are read one at a time.

    Returns:
        The model, its parameters and its tokenizer.

    Raises:
        ModelError: something in the folder is missing, superfluous or not supported.
    """
    folder = Path(folder)
    policy = Policy(_read_config(folder), dtype, precision)
    tokenizer = load_tokenizer(folder)
    _check_vocabulary(policy, tokenizer)
    abstract = policy.abstract_params()
    if shardings is None:
        shardings = jax.tree.map(lambda _: None, abstract)
    with ExitStack() as stack:
        read = _open_weights(folder, _expected_tensors(policy), stack)

        def load(path: tuple[jax.tree_util.DictKey, ...], _: Any, sharding: Any) -> jax.Array:
            name, transposed = _hf_name(tuple(entry.key for entry in path))
            tensor = read(name)
            tensor = np.ascontiguousarray(tensor.T if transposed else tensor)
            return jax.device_put(tensor.astype(jnp.dtype(param_dtype)), sharding)

        params = jax.tree_util.tree_map_with_path(load, abstract, shardings)
    return policy, params, tokenizer


def save_model(folder: str | Path, policy: Policy, params: Params, tokenizer: TextTokenizer) -> None:
    """Writes a model as a folder that transformers, and `load_model`, can read.

    Args:
        folder: new or empty.
        policy: the model.
        params: its parameters, written in their own type.
        tokenizer: its tokenizer.

    Raises:
        ModelError: the folder has content, or the tokenizer has more tokens than the model.
    """
    folder = Path(folder)
    _check_vocabulary(policy, tokenizer)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} is not empty; name a new folder to save the model in.")
    folder.mkdir(parents=True, exist_ok=True)
    config = policy.config.to_hf() | {
        "dtype": str(jax.tree.leaves(params)[0].dtype),
        "eos_token_id": tokenizer.end_id,
        "pad_token_id": tokenizer.pad_id,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {}
    for path, leaf in _leaves(params):
        name, transposed = _hf_name(path)
        tensor = np.asarray(jax.device_get(leaf))
        tensors[name] = np.ascontiguousarray(tensor.T if transposed else tensor)
    # The metadata tells transformers how the tensors are laid out.
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    tokenizer.save(folder)


def _read_config(folder: Path) -> DecoderConfig:
    """Reads `config.json`; every complaint names it."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; a model is 'tiny' or a Hugging Face folder.")
    path = folder / "config.json"
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(contents, dict):
            raise ModelError("the file must hold a JSON object.")
        return DecoderConfig.from_hf(contents)
    except FileNotFoundError:
        raise ModelError(f"{folder} lacks config.json, which describes the model.") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}.") from None


def _check_vocabulary(policy: Policy, tokenizer: TextTokenizer) -> None:
    """Raises `ModelError` if the tokenizer has ids that the model lacks."""
    if tokenizer.vocab_size > policy.config.vocab_size:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, but the model's vocab_size is only "
            f"{policy.config.vocab_size}."
        )


def _open_weights(folder: Path, expected: dict[str, tuple[int, ...]], stack: ExitStack) -> Callable[[str], np.ndarray]:
    """Checks names, shapes and types of all tensors, and returns how to read one by name.

    Args:
        folder: the model folder.
        expected: the shape of each tensor the model needs.
        stack: closes the files.
    """
    files = {}
    for path in _weight_files(folder):
        try:
            opened = stack.enter_context(safe_open(path, framework="numpy"))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is not a readable safetensors file: {error}.") from error
        for name in opened.keys():  # noqa: SIM118 (not a dict)
            if name in files:
                raise ModelError(f"{path} repeats the tensor {name} of another file.")
            files[name] = opened
    for problem, names in (
        ("lacks the tensor", expected.keys() - files.keys()),
        ("has the unknown tensor", files.keys() - expected.keys()),
    ):
        if names:
            raise ModelError(
                f"{folder} {problem} {min(names)}: its weights must be exactly those that its config.json asks for."
            )
    for name, shape in expected.items():
        stored = files[name].get_slice(name)
        if tuple(stored.get_shape()) != shape:
            raise ModelError(
                f"the tensor {name} in {folder} has shape {stored.get_shape()}, but config.json asks for {list(shape)}."
            )
        if stored.get_dtype() not in _READABLE:
            raise ModelError(
                f"the tensor {name} in {folder} is of type {stored.get_dtype()}, but must be one "
                f"of {', '.join(_READABLE)}."
            )
    return lambda name: files[name].get_tensor(name)


def _weight_files(folder: Path) -> list[Path]:
    """Returns the safetensors files of a folder: one, or those its index names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if index.is_file():
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = sorted(set(weight_map.values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{index} must hold a weight_map from tensor to file name.") from None
        for name in names:
            if name != Path(name).name or not (folder / name).is_file():
                raise ModelError(f"{index} names {name!r}, which is not a file in that folder.")
        return [folder / name for name in names]
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"{folder} holds its weights as {pickles[0]}, a pickle that could run code; only "
            f"safetensors are read, for example {WEIGHTS}."
        )
    raise ModelError(f"{folder} lacks {WEIGHTS} or {INDEX}, its weights.")


def _expected_tensors(policy: Policy) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each tensor by Hugging Face's name."""
    expected = {}
    for path, leaf in _leaves(policy.abstract_params()):
        name, transposed = _hf_name(path)
        expected[name] = leaf.shape[::-1] if transposed else leaf.shape
    return expected


def _leaves(params: Params) -> Iterator[tuple[Keys, Any]]:
    """Yields each parameter with its path."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        yield tuple(entry.key for entry in path), leaf


def _hf_name(path: Keys) -> tuple[str, bool]:
    """Returns Hugging Face's name of a parameter, and whether it is stored transposed."""
    match path:
        case ("embedding",):
            return "model.embed_tokens.weight", False
        case ("head",):
            return "lm_head.weight", False
        case ("final_norm", "scale"):
            return "model.norm.weight", False
        case ("layers", layer, module, kind):
            suffix = "bias" if kind == "bias" else "weight"
            return f"model.layers.{layer}.{_BLOCK_NAMES[module]}.{suffix}", kind == "kernel"
    raise AssertionError(f"no Hugging Face name for the parameter {path}")
