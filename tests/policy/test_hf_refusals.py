"""Folders that cannot be used: each is refused in one sentence that names what is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from maro_jax.policy.config import ModelError
from maro_jax.policy.hf_folder import load_model
from maro_jax.policy.models import load_policy
from tests.policy.hf_fixture import make_model_folder, make_tokenizer, rewrite_config

Spoil = Callable[[Path], Any]
WEIGHTS, INDEX, NORM = "model.safetensors", "model.safetensors.index.json", "model.norm.weight"
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def config(**changes: Any) -> Spoil:
    return lambda path: rewrite_config(path, lambda contents: contents.update(changes))


def without(name: str) -> Spoil:
    return lambda path: (path / name).unlink()


def text(name: str, contents: str) -> Spoil:
    return lambda path: (path / name).write_text(contents)


def weights(change: Callable[[dict[str, np.ndarray]], Any]) -> Spoil:
    def apply(path: Path) -> None:
        tensors = load_file(path / WEIGHTS)
        change(tensors)
        save_file(tensors, path / WEIGHTS)

    return apply


def norm(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return weights(lambda tensors: tensors.update({NORM: change(tensors[NORM])}))


def cut(size: int) -> Spoil:
    return lambda path: (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:size])


def split(place: Callable[[str], str] = lambda name: "a.safetensors") -> Spoil:
    """Two files and an index that says for each tensor where it is: `a.safetensors` but for the norm."""

    def apply(path: Path) -> None:
        tensors = load_file(path / WEIGHTS)
        save_file({NORM: tensors.pop(NORM)}, path / "b.safetensors")
        save_file(tensors, path / "a.safetensors")
        (path / WEIGHTS).unlink()
        (path / INDEX).write_text(json.dumps({"weight_map": {name: place(name) for name in (*tensors, NORM)}}))

    return apply


def link_out(path: Path) -> None:
    outside = path.parent / "outside.safetensors"
    (path / WEIGHTS).rename(outside)
    (path / WEIGHTS).symlink_to(outside)


def index_out(path: Path) -> None:
    (path / WEIGHTS).rename(path.parent / "outside.safetensors")
    (path / INDEX).write_text(json.dumps({"weight_map": {NORM: "../outside.safetensors"}}))


def pickled(path: Path) -> None:
    (path / WEIGHTS).unlink()
    (path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")


REFUSALS: dict[str, tuple[Spoil, str]] = {
    # config.json
    "no config": (without("config.json"), "lacks config.json"),
    "broken config": (text("config.json", "{"), "not valid JSON"),
    "a list as config": (text("config.json", "[]"), "JSON object"),
    "unknown architecture": (config(architectures=["MistralForCausalLM"]), "LlamaForCausalLM (Llama-3.2-1B-Instruct)"),
    "no architecture": (config(architectures=None), "architectures is []"),
    "architecture and type disagree": (config(model_type="llama"), "which goes with 'qwen2'"),
    "another architecture": (config(architectures=["Qwen3ForCausalLM"], model_type="qwen3"), "k_norm"),
    "yarn": (config(rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}), "yarn"),
    "linear scaling, old layout": (config(rope_scaling={"type": "linear", "factor": 2.0}), "linear"),
    "scaling in one place only": (config(rope_scaling=LLAMA3 | {"rope_theta": 1e6}), "given in two places"),
    "incomplete scaling": (config(rope_parameters={"rope_type": "llama3", "rope_theta": 1e6}), "needs factor"),
    "nonsensical scaling": (config(rope_parameters=LLAMA3 | {"factor": 0.5}), "factor >= 1"),
    "rope by layer type": (config(rope_parameters={"full_attention": LLAMA3}), "one set of numbers for all layers"),
    "a part of the head rotated": (config(rope_parameters=LLAMA3 | {"partial_rotary_factor": 0.5}), "partial_rotary"),
    "no rope base": (config(rope_parameters=None), "lacks rope_theta"),
    "two rope bases": (config(rope_theta=5e5), "500000.0"),
    "rope base not a number": (config(rope_parameters={"rope_theta": float("nan")}), "rope_theta as a number"),
    "sliding window": (config(use_sliding_window=True, sliding_window=64, max_window_layers=0, layer_types=[]), "slid"),
    "sliding layers": (config(layer_types=["sliding_attention"] * 2), "sliding-window"),
    "other activation": (config(hidden_act="gelu"), "silu"),
    "biases in the feed-forward": (config(mlp_bias=True), "mlp_bias"),
    "quantized": (config(quantization_config={"bits": 4}), "quantization_config"),
    "a size in words": (config(hidden_size="large"), "hidden_size as a whole number"),
    "a flag in words": (config(tie_word_embeddings="yes"), "true or false"),
    "heads that do not divide": (config(num_key_value_heads=3), "num_kv_heads"),
    "no layers": (config(num_hidden_layers=0), "num_layers"),
    "more layers than stored": (config(num_hidden_layers=3), "lacks the tensor model.layers.2"),
    "fewer layers than stored": (config(num_hidden_layers=1), "unknown tensor model.layers.1"),
    "other width than stored": (config(intermediate_size=48), "config.json asks for [32, 48]"),
    "a head that is not stored": (config(tie_word_embeddings=False), "lacks the tensor lm_head.weight"),
    # weights
    "no weights": (without(WEIGHTS), "lacks model.safetensors"),
    "pickled weights": (pickled, "pytorch_model.bin, a pickle that could run code"),
    "not safetensors": (lambda path: (path / WEIGHTS).write_bytes(b"x" * 64), "not a readable safetensors"),
    "empty file": (cut(0), "not a readable safetensors"),
    "cut in the header": (cut(100), "not a readable safetensors"),
    "cut in the data": (cut(-4), "not a readable safetensors"),
    "missing tensor": (weights(lambda tensors: tensors.pop(NORM)), f"lacks the tensor {NORM}"),
    "extra tensor": (weights(lambda tensors: tensors.update(lora=np.ones(3, np.float32))), "unknown tensor lora"),
    "another head than the embedding": (
        weights(lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"] + 1})),
        "tie_word_embeddings",
    ),
    "a head of another size": (
        weights(lambda tensors: tensors.update({"lm_head.weight": np.ones((3, 32), np.float32)})), "lm_head.weight"
    ),
    "integers": (norm(lambda scale: scale.astype(np.int8)), "type I8"),
    "double precision": (norm(lambda scale: scale.astype(np.float64)), "type F64"),
    "transposed": (norm(lambda scale: scale[None]), "has shape [1, 32]"),
    "not finite": (norm(lambda scale: scale * np.float32("nan")), "not finite"),
    "a link out of the folder": (link_out, "outside of the model's folder"),
    # index
    "an index that leaves the folder": (index_out, "not a file in that folder"),
    "an index of a missing file": (split(lambda name: "c.safetensors"), "c.safetensors"),
    "an index with a tensor in the wrong file": (split(), f"which of them holds {NORM}"),
    "an index that is none": (
        lambda path: (split()(path), (path / INDEX).write_text('{"weight_map": ["a"]}')), "weight_map"
    ),
    # tokenizer
    "no tokenizer": (without("tokenizer.json"), "lacks tokenizer.json"),
    "broken tokenizer": (text("tokenizer.json", "{"), "not a readable fast tokenizer"),
    "the tokenizer of another model": (
        lambda path: make_tokenizer("llama3", vocab_size=290).save_pretrained(path), "the model's own tokenizer"
    ),
    "a vocabulary of another size": (config(vocab_size=100), "vocab_size is only 100"),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "model"
    make_model_folder(folder)
    load_model(folder)
    return folder


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses_what_it_cannot_use_in_one_sentence(tmp_path, good, case):
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    spoil, named = REFUSALS[case]
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert named in message
    assert len(message.splitlines()) == 1 and message.endswith(".") and not message.endswith("..")


def test_reads_two_files_with_a_true_index(tmp_path, good):
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    split(lambda name: "b.safetensors" if name == NORM else "a.safetensors")(folder)
    _, params, _ = load_model(folder)
    np.testing.assert_array_equal(params["final_norm"]["scale"], load_file(good / WEIGHTS)[NORM])


def test_refuses_a_missing_folder_and_other_words():
    with pytest.raises(ModelError, match="no/such is not a folder; a model is 'tiny' or"):
        load_policy("no/such")
