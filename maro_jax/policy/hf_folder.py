"""Models read from Hugging Face folders: `config.json`, safetensors and a fast tokenizer.

Nothing in a folder is executed: weights are read from safetensors only, never from pickles. Nothing outside it is
read: a link may lead elsewhere in the folder, or to the `blobs` beside it where Hugging Face's cache keeps its files.
"""

import functools
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open

from maro_jax.policy.config import DecoderConfig, ModelError
from maro_jax.policy.decoder import Params, Policy
from maro_jax.policy.hf_names import EMBEDDING, HEAD, INDEX, WEIGHTS, expected_tensors, tensor_name
from maro_jax.policy.sharding import parameter_shardings
from maro_jax.policy.tokenizer import TextTokenizer, first_line, load_tokenizer

_READABLE = ("F32", "BF16", "F16")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def load_model(
    folder: str | Path,
    *,
    dtype: str = "float32",
    precision: str = "default",
    param_dtype: str = "float32",
    mesh: Mesh | None = None,
) -> tuple[Policy, Params, TextTokenizer]:
    """Reads a model.

    Args:
        folder: with `config.json`, safetensors weights and `tokenizer.json`.
        dtype: of activations, see `Policy`.
        precision: of matrix products, see `Policy`.
        param_dtype: of the parameters in memory.
        mesh: over which the parameters are split; each process reads only what its devices hold. `None`: the first
            device.

    Returns:
        The model, its parameters and its tokenizer.

    Raises:
        ModelError: something in the folder is missing, superfluous or not supported, or the mesh does not divide it.
    """
    policy, tokenizer = open_model(folder, dtype=dtype, precision=precision)
    return policy, _read_params(Path(folder).expanduser(), policy, param_dtype, mesh), tokenizer


def open_model(
    folder: str | Path, *, dtype: str = "float32", precision: str = "default"
) -> tuple[Policy, TextTokenizer]:
    """Reads a model but for its weights; arguments and errors as those of `load_model`."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; a model is 'tiny' or a Hugging Face folder.")
    _refuse_links_out(folder)
    contents = read_config(folder)
    try:
        policy = Policy(DecoderConfig.from_hf(contents), dtype, precision)
    except ModelError as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from None
    tokenizer = load_tokenizer(folder)
    check_vocabulary(policy, tokenizer)
    ends = contents.get("eos_token_id")
    for end in ends if isinstance(ends, list) else [] if ends is None else [ends]:
        if end not in tokenizer.control_ids:
            raise ModelError(
                f"in {folder} config.json says that the token {end!r} ends a text (eos_token_id), but that is no "
                "control token of tokenizer.json: it must be the model's own tokenizer."
            )
    return policy, tokenizer


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the contents of a folder's `config.json`; raises `ModelError` if it is missing or no JSON object."""
    path = folder / "config.json"
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} lacks config.json, which describes the model.") from None
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}.") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}).") from None
    if not isinstance(contents, dict):
        raise ModelError(f"{path}: the file must hold a JSON object.")
    return contents


def check_vocabulary(policy: Policy, tokenizer: TextTokenizer) -> None:
    """Raises `ModelError` if the tokenizer has ids that the model lacks."""
    if tokenizer.vocab_size > policy.config.vocab_size:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, but the model's vocab_size is only "
            f"{policy.config.vocab_size}."
        )


def _refuse_links_out(folder: Path) -> None:
    """Raises `ModelError` if a link in the folder leads to a file outside of it and of Hugging Face's cache."""
    home = folder.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":  # blobs of this model, some of which are links to blobs that all models share
        allowed += [place / "blobs" for place in home.parents[1:3]]
    for path in sorted(folder.iterdir()):
        target = path.resolve()
        if path.is_symlink() and not any(target.is_relative_to(place) for place in allowed):
            raise ModelError(
                f"{path} is a link to {target}, outside of the model's folder; put the file itself in its place, as "
                "hf download MODEL --local-dir=FOLDER does."
            )


def _read_params(folder: Path, policy: Policy, param_dtype: str, mesh: Mesh | None) -> Params:
    """Reads the weights, one tensor after the other and of each only the parts that this process's devices hold."""
    abstract = policy.abstract_params()
    if mesh is None:
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shardings = jax.tree.map(lambda _: device, abstract)
    else:
        shardings = parameter_shardings(policy, mesh)
    with ExitStack() as stack:
        stored = _open_weights(folder, expected_tensors(policy), stack)

        def read(path: tuple[jax.tree_util.DictKey, ...], leaf: Any, sharding: jax.sharding.Sharding) -> jax.Array:
            name, transposed = tensor_name(tuple(entry.key for entry in path))

            @functools.cache  # devices that hold the same part share one reading of it
            def part(*bounds: tuple[int, int]) -> np.ndarray:
                cut = tuple(slice(*pair) for pair in (bounds[::-1] if transposed else bounds))
                block = stored[name][cut]
                if not np.isfinite(block.sum(dtype=np.float32)):  # of all sums those with a NaN or infinity are not
                    raise ModelError(f"the tensor {name} in {folder} holds values that are not finite.")
                return np.ascontiguousarray(block.T if transposed else block, jnp.dtype(param_dtype))

            def of_device(index: tuple[slice, ...] | None) -> np.ndarray:
                return part(*(each.indices(size)[:2] for each, size in zip(index or (), leaf.shape, strict=True)))

            return jax.make_array_from_callback(leaf.shape, sharding, of_device)

        return jax.tree_util.tree_map_with_path(read, abstract, shardings)


def _open_weights(folder: Path, expected: Mapping[str, tuple[int, ...]], stack: ExitStack) -> dict[str, Any]:
    """Checks names, shapes and types of all tensors without reading them.

    Args:
        folder: the model folder.
        expected: the shape of each tensor the model needs.
        stack: closes the files.

    Returns:
        For each tensor what gives its parts when indexed with slices.
    """
    stored: dict[str, Any] = {}
    for path, listed in _weight_files(folder).items():
        try:
            opened = stack.enter_context(safe_open(path, framework="numpy"))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is not a readable safetensors file: {first_line(error)}.") from error
        names = set(opened.keys())
        if listed is not None and names != listed:
            raise ModelError(
                f"{folder / INDEX} and {path.name} do not agree on which of them holds {min(names ^ listed)}."
            )
        stored |= {name: opened.get_slice(name) for name in names}
    if HEAD in stored and HEAD not in expected:
        _refuse_another_head(folder, stored)
    for problem, names in (
        ("lacks the tensor", expected.keys() - stored.keys()),
        ("has the unknown tensor", stored.keys() - expected.keys()),
    ):
        if names:
            raise ModelError(
                f"{folder} {problem} {min(names)}: its weights must be exactly those that its config.json asks for."
            )
    for name, shape in expected.items():
        if tuple(stored[name].get_shape()) != shape:
            raise ModelError(
                f"the tensor {name} in {folder} has shape {stored[name].get_shape()}, but config.json asks for "
                f"{list(shape)}."
            )
        if stored[name].get_dtype() not in _READABLE:
            raise ModelError(
                f"the tensor {name} in {folder} is of type {stored[name].get_dtype()}, but must be one "
                f"of {', '.join(_READABLE)}."
            )
    return stored


def _refuse_another_head(folder: Path, stored: dict[str, Any]) -> None:
    """Drops the head of a model whose head is its embedding; raises `ModelError` if the file holds another one."""
    head, embedding = stored.pop(HEAD), stored.get(EMBEDDING)
    rows = head.get_shape()[0]
    parts = [slice(first, min(first + 4096, rows)) for first in range(0, rows, 4096)]  # none may reach beyond the end
    if embedding is None or embedding.get_shape() != head.get_shape() or not all(
        np.array_equal(head[part], embedding[part]) for part in parts
    ):  # fmt: skip
        raise ModelError(
            f"the tensor {HEAD} in {folder} is not {EMBEDDING}, though config.json says that they are one "
            "(tie_word_embeddings)."
        )


def _weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """Returns the safetensors files of a folder: one, or those its index names, with the tensors it says they hold."""
    if (folder / WEIGHTS).is_file():
        return {folder / WEIGHTS: None}
    index = folder / INDEX
    if index.is_file():
        return _indexed_files(index)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"{folder} holds its weights as {pickles[0]}, a pickle that could run code; only "
            f"safetensors are read, for example {WEIGHTS}."
        )
    raise ModelError(f"{folder} lacks {WEIGHTS} or {INDEX}, its weights.")


def _indexed_files(index: Path) -> dict[Path, set[str] | None]:
    """Reads an index; raises `ModelError` if it is none or names what is not a file beside it."""
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(map(str, set(weight_map.values())))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise ModelError(f"{index} must hold a weight_map from tensor to file name.") from None
    for file in files:
        if file != Path(file).name or not (index.parent / file).is_file():
            raise ModelError(f"{index} names {file!r}, which is not a file in that folder.")
    return {index.parent / file: {name for name, place in weight_map.items() if place == file} for file in files}
