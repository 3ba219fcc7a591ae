"""Models written as Hugging Face folders, which transformers reads, and `hf_folder` again."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from maro_jax.policy.config import ModelError
from maro_jax.policy.decoder import Params, Policy
from maro_jax.policy.hf_folder import check_vocabulary, read_config
from maro_jax.policy.hf_names import INDEX, WEIGHTS, adapter_name, leaves, module_name, tensor_name
from maro_jax.policy.tokenizer import TextTokenizer

GIB = 2**30

# What is taken over from the folder that a model began as, where it is there.
_KEPT_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json"),
    *("LICENSE", "LICENSE.txt", "NOTICE", "USE_POLICY.md"),
)


def save_model(
    folder: str | Path,
    policy: Policy,
    params: Params,
    tokenizer: TextTokenizer,
    *,
    dtype: str = "",
    max_shard_bytes: int = 5 * GIB,
    began_as: str | Path | None = None,
) -> None:
    """Writes a model as a folder that appears whole or not at all.

    Args:
        folder: where nothing is yet.
        policy: the model.
        params: its parameters.
        tokenizer: its tokenizer.
        dtype: of the weights in the files; empty: the parameters' own.
        max_shard_bytes: weights beyond this are split over several files with an index; a larger tensor has one to
            itself.
        began_as: a folder of the same model, whose `config.json` (with the new dtype), tokenizer, chat template,
            generation settings and licence are taken over; `None`: written anew.

    Raises:
        ModelError: there is something in the folder's place, or the tokenizer has more tokens than the model.
    """
    check_vocabulary(policy, tokenizer)
    dtype = dtype or str(jax.tree.leaves(params)[0].dtype)
    ends = {"eos_token_id": tokenizer.end_id, "pad_token_id": tokenizer.pad_id}
    with _appearing(Path(folder)) as part:
        if began_as is None:
            _write_json(part / "config.json", policy.config.to_hf() | ends | {"dtype": dtype})
            tokenizer.save(part)
        else:
            _take_over(Path(began_as), part, dtype)
        if not (part / "generation_config.json").exists():
            _write_json(part / "generation_config.json", ends)
        _write_weights(part, params, dtype, max_shard_bytes)


def save_adapter(folder: str | Path, policy: Policy, adapter: Params, began_as: str | Path, *, dtype: str) -> None:
    """Writes an adapter as a folder that PEFT reads, and programs that take PEFT's; it appears whole or not at all.

    Args:
        folder: where nothing is yet.
        policy: the model, with LoRA.
        adapter: what was trained.
        began_as: the folder of the model under it, named in the adapter's config.
        dtype: of the weights in the file.

    Raises:
        ModelError: there is something in the folder's place.
    """
    assert policy.lora is not None
    contents = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        **_base_model(Path(began_as)),
        "r": policy.lora.rank,
        "lora_alpha": policy.lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": [module_name(name).rpartition(".")[2] for name in policy.lora.matrices],
        "bias": "none",
        "inference_mode": True,
    }
    tensors = {}
    for path, leaf in leaves(adapter):
        tensor = np.asarray(jax.device_get(leaf)).T  # torch keeps its linear maps as [out, in]
        tensors[adapter_name(path)] = np.ascontiguousarray(tensor, jnp.dtype(dtype))
    with _appearing(Path(folder)) as part:
        _write_json(part / "adapter_config.json", contents)
        save_file(tensors, part / "adapter_model.safetensors", metadata={"format": "pt"})


def _base_model(folder: Path) -> dict[str, str]:
    """How PEFT finds the model under an adapter: by its name if it lies in the Hub's cache, else by its folder."""
    *_, model, snapshots, revision = ["", "", *folder.absolute().parts]
    if snapshots == "snapshots" and model.startswith("models--"):
        return {"base_model_name_or_path": model.removeprefix("models--").replace("--", "/"), "revision": revision}
    return {"base_model_name_or_path": str(folder)}


@contextlib.contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to write in that takes its name and place once it is complete; refuses a place that is taken."""
    if folder.exists() or folder.is_symlink():
        raise ModelError(f"{folder} exists already and is not overwritten; name a new folder to save the model in.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _take_over(source: Path, folder: Path, dtype: str) -> None:
    """Copies everything but the weights, and no code."""
    contents = read_config(source)
    contents.pop("auto_map", None)  # names code that would come with the folder
    # Before transformers 5 it was torch_dtype, and programs of that time look for no other.
    contents["torch_dtype" if "torch_dtype" in contents else "dtype"] = dtype
    _write_json(folder / "config.json", contents)
    for name in _KEPT_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _write_weights(folder: Path, params: Params, dtype: str, max_shard_bytes: int) -> None:
    """Writes one file, or several with an index; one file's tensors are in memory at a time."""
    shards = list(_shards(params, dtype, max_shard_bytes))
    files = [f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors" for number in range(len(shards))]
    files = files if len(shards) > 1 else [WEIGHTS]
    total, places = 0, dict[str, str]()
    for file, shard in zip(files, shards, strict=True):
        tensors = {}
        for (name, transposed), leaf in shard:
            tensor = np.asarray(jax.device_get(leaf))
            tensors[name] = np.ascontiguousarray(tensor.T if transposed else tensor, jnp.dtype(dtype))
        # The metadata tells transformers how the tensors are laid out.
        save_file(tensors, folder / file, metadata={"format": "pt"})
        total += sum(tensor.nbytes for tensor in tensors.values())
        places |= dict.fromkeys(tensors, file)
    if len(shards) > 1:
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _shards(params: Params, dtype: str, max_shard_bytes: int) -> Iterator[list[tuple[tuple[str, bool], Any]]]:
    """Yields the parameters of each file, as (name, whether it is stored transposed) and array."""
    shard: list[tuple[tuple[str, bool], Any]] = []
    filled = 0
    for path, leaf in leaves(params):
        size = leaf.size * jnp.dtype(dtype).itemsize
        if shard and filled + size > max_shard_bytes:
            yield shard
            shard, filled = [], 0
        shard.append((tensor_name(path), leaf))
        filled += size
    yield shard


def _write_json(path: Path, contents: dict[str, Any]) -> None:
    path.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
