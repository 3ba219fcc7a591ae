"""The model is the model: the same logits as transformers, and folders that go both ways."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, Qwen2ForCausalLM

from maro_jax.policy.attention import CausalAttention, token_positions
from maro_jax.policy.config import ModelError, tiny_config
from maro_jax.policy.decoder import Params, Policy
from maro_jax.policy.hf_folder import load_model, save_model
from maro_jax.policy.models import load_policy
from maro_jax.policy.sharding import make_mesh, parameter_shardings
from tests.policy.hf_fixture import make_model_folder, rewrite_config


def our_logits(policy: Policy, params: Params, tokens: np.ndarray, first: int = 0) -> np.ndarray:
    """Logits of the positions from `first` on."""

    @jax.jit
    def run(params: Params, tokens: jax.Array) -> jax.Array:
        positions = token_positions(jnp.zeros(tokens.shape[0], jnp.int32), tokens.shape[1])
        hidden, _ = policy.forward(params, tokens, positions, CausalAttention())
        return policy.logits(params, hidden[:, first:])

    return np.asarray(run(params, jnp.asarray(tokens)))


def their_logits(model: Qwen2ForCausalLM, tokens: np.ndarray, first: int = 0) -> np.ndarray:
    with torch.no_grad():
        return model(torch.as_tensor(tokens)).logits[:, first:].numpy()


def random_tokens(seed: int, shape: tuple[int, int], vocab_size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


@pytest.mark.parametrize(
    ("tied", "num_layers", "num_kv_heads", "old_rope_layout"),
    [(True, 2, 2, False), (False, 3, 1, True), (True, 2, 4, True)],
)
def test_logits_equal_transformers(tmp_path, tied, num_layers, num_kv_heads, old_rope_layout):
    model = make_model_folder(
        tmp_path,
        tied=tied,
        num_layers=num_layers,
        num_kv_heads=num_kv_heads,
        old_rope_layout=old_rope_layout,
    )
    policy, params, _ = load_model(tmp_path, precision="highest")
    tokens = random_tokens(0, (3, 150), policy.config.vocab_size)
    ours, theirs = our_logits(policy, params, tokens), their_logits(model, tokens)
    assert np.abs(ours - theirs).max() < 1e-4
    assert theirs.std() > 0.1  # otherwise agreement would say little


def test_logits_equal_transformers_beyond_position_4096(tmp_path):
    model = make_model_folder(tmp_path, tied=False)
    policy, params, _ = load_model(tmp_path, precision="highest")
    tokens = random_tokens(1, (1, 4200), policy.config.vocab_size)
    ours = our_logits(policy, params, tokens, first=4096)
    theirs = their_logits(model, tokens, first=4096)
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("tied", [True, False])
def test_saved_model_reloads_exactly_here_and_in_transformers(tmp_path, tied):
    make_model_folder(tmp_path / "a", tied=tied)
    policy, params, tokenizer = load_model(tmp_path / "a", precision="highest")
    save_model(tmp_path / "b", policy, params, tokenizer)

    again, params_again, tokenizer_again = load_model(tmp_path / "b", precision="highest")
    assert again == policy
    assert jax.tree.structure(params_again) == jax.tree.structure(params)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params_again, params)))
    assert tokenizer_again.encode("Player 1 votes") == tokenizer.encode("Player 1 votes")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)

    model, info = Qwen2ForCausalLM.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert not any(info.values())
    tokens = random_tokens(2, (2, 40), policy.config.vocab_size)
    assert np.abs(our_logits(policy, params, tokens) - their_logits(model, tokens)).max() < 1e-4
    theirs = AutoTokenizer.from_pretrained(tmp_path / "b")
    assert theirs.encode("Player 1 votes") == tokenizer.encode("Player 1 votes")
    assert "<|im_start|>user" in theirs.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)


def test_tiny_model_saves_as_a_folder_that_transformers_reads(tmp_path):
    policy, params, tokenizer = load_policy("tiny", precision="highest")
    assert params is None
    params = policy.init(jax.random.key(0))
    save_model(tmp_path / "tiny", policy, params, tokenizer)
    model = Qwen2ForCausalLM.from_pretrained(tmp_path / "tiny")
    tokens = random_tokens(3, (2, 50), policy.config.vocab_size)
    assert np.abs(our_logits(policy, params, tokens) - their_logits(model, tokens)).max() < 1e-4
    again, params_again, tokenizer_again = load_policy(str(tmp_path / "tiny"), precision="highest")
    assert again == policy
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params_again, params)))
    assert tokenizer_again.vocabulary_version == tokenizer.vocabulary_version


def test_bfloat16_weights_and_shards(tmp_path):
    model = make_model_folder(tmp_path, dtype=torch.bfloat16, num_layers=3, max_shard_size="20KB", tied=False)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    _, params, _ = load_model(tmp_path, param_dtype="bfloat16")
    kernel = params["layers"]["2"]["down"]["kernel"]
    assert kernel.dtype == jnp.bfloat16
    expected = model.model.layers[2].mlp.down_proj.weight.detach().float().numpy().T
    assert np.array_equal(np.asarray(kernel, np.float32), expected)

    policy, params, tokenizer = load_model(tmp_path, dtype="bfloat16")
    assert params["embedding"].dtype == jnp.float32
    tokens = random_tokens(4, (2, 30), policy.config.vocab_size)
    rounded = our_logits(policy, params, tokens)
    exact = our_logits(Policy(policy.config, "float32", "highest"), params, tokens)
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.1 * exact.std()


def test_parameters_load_onto_a_mesh(tmp_path):
    make_model_folder(tmp_path, vocab_padding=0)
    policy, params, _ = load_model(tmp_path)
    shardings = parameter_shardings(policy, make_mesh(2, 4, 1))
    _, sharded, _ = load_model(tmp_path, shardings=shardings)
    same = jax.tree.map(lambda leaf, sharding: leaf.sharding == sharding, sharded, shardings)
    assert all(jax.tree.leaves(same))
    assert sharded["embedding"].addressable_shards[0].data.shape[1] == 32 // 4
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, sharded, params)))


def _set(name, value):
    return lambda path: rewrite_config(path, lambda contents: contents.update({name: value}))


def _delete(name):
    return lambda path: (path / name).unlink()


def _change_weights(change):
    def apply(path: Path) -> None:
        file = path / "model.safetensors"
        tensors = dict(load_file(file))
        change(tensors)
        save_file(tensors, file)

    return apply


def _to_pickle(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def _bad_index(path: Path) -> None:
    (path / "model.safetensors").rename(path.parent / "outside.safetensors")
    index = {"weight_map": {"lm_head.weight": "../outside.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


NORM = "model.norm.weight"

REFUSALS = {
    "architecture": (_set("architectures", ["LlamaForCausalLM"]), "Qwen2ForCausalLM"),
    "scaled rope": (
        _set("rope_parameters", {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}),
        "yarn",
    ),
    "scaled rope, old layout": (_set("rope_scaling", {"type": "linear", "factor": 2.0}), "linear"),
    "no rope base": (_set("rope_parameters", None), "rope_theta"),
    "two rope bases": (_set("rope_theta", 5e5), "500000.0"),
    "sliding window": (_set("use_sliding_window", True), "sliding-window"),
    "sliding layers": (_set("layer_types", ["sliding_attention"] * 2), "sliding-window"),
    "activation": (_set("hidden_act", "gelu"), "silu"),
    "quantized": (_set("quantization_config", {"bits": 4}), "quantization_config"),
    "odd size": (_set("hidden_size", "large"), "hidden_size"),
    "heads": (_set("num_key_value_heads", 3), "num_kv_heads"),
    "zero layers": (_set("num_hidden_layers", 0), "num_layers"),
    "small vocabulary": (_set("vocab_size", 100), "vocab_size"),
    "other shape": (_set("intermediate_size", 48), "has shape"),
    "no config": (_delete("config.json"), "config.json"),
    "no tokenizer": (_delete("tokenizer.json"), "tokenizer.json"),
    "no weights": (_delete("model.safetensors"), "model.safetensors"),
    "broken config": (lambda path: (path / "config.json").write_text("{"), "config.json"),
    "config is a list": (lambda path: (path / "config.json").write_text("[]"), "JSON object"),
    "broken tokenizer": (lambda path: (path / "tokenizer.json").write_text("{"), "tokenizer.json"),
    "broken weights": (
        lambda path: (path / "model.safetensors").write_bytes(b"x" * 64),
        "not a readable safetensors",
    ),
    "pickle": (_to_pickle, "pytorch_model.bin"),
    "index leaves the folder": (_bad_index, "not a file in that folder"),
    "missing tensor": (_change_weights(lambda t: t.pop(NORM)), f"lacks the tensor {NORM}"),
    "extra tensor": (
        _change_weights(lambda t: t.update({"lora.weight": np.ones(3, np.float32)})),
        "unknown tensor lora.weight",
    ),
    "integer tensor": (
        _change_weights(lambda t: t.update({NORM: t[NORM].astype(np.int8)})),
        "type I8",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses_what_it_cannot_use_in_one_sentence(tmp_path, case):
    folder = tmp_path / "model"
    make_model_folder(folder)
    load_model(folder)
    spoil, named = REFUSALS[case]
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert named in message
    if case != "broken tokenizer":  # quotes the library
        assert "\n" not in message
    assert message.endswith(".") or case == "broken tokenizer"


def test_refuses_a_missing_folder_and_other_words():
    with pytest.raises(ModelError, match="no/such is not a folder; a model is 'tiny' or"):
        load_policy("no/such")


def test_does_not_save_over_anything(tmp_path):
    policy, _, tokenizer = load_policy("tiny")
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ModelError, match="not empty"):
        save_model(tmp_path, policy, policy.init(jax.random.key(0)), tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_refuses_to_save_a_model_smaller_than_its_tokenizer(tmp_path):
    make_model_folder(tmp_path / "a")
    _, _, large = load_model(tmp_path / "a")
    policy = Policy(tiny_config(large.vocab_size - 1))
    with pytest.raises(ModelError, match="vocab_size"):
        save_model(tmp_path / "b", policy, policy.init(jax.random.key(0)), large)
    assert not (tmp_path / "b").exists()
