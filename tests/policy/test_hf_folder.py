"""The model is the model: the same logits as transformers, however a folder is laid out and wherever it is read to."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedModel

from maro_jax.policy import hf_folder
from maro_jax.policy.attention import (
    CachedAttention,
    CausalAttention,
    KVCache,
    init_cache,
    prefill_prefix,
    token_positions,
)
from maro_jax.policy.config import DecoderConfig, ModelError
from maro_jax.policy.decoder import Params, Policy
from maro_jax.policy.hf_folder import load_model
from maro_jax.policy.sharding import make_mesh, parameter_shardings
from tests.games.recording import QUICKLY
from tests.policy.hf_fixture import FAMILIES, make_model_folder, make_tokenizer

each_family = pytest.mark.parametrize("family", FAMILIES)


@functools.partial(jax.jit, static_argnums=0)
def _logits(policy: Policy, params: Params, tokens: jax.Array) -> jax.Array:
    positions = token_positions(jnp.zeros(tokens.shape[0], jnp.int32), tokens.shape[1])
    hidden, _ = policy.forward(params, tokens, positions, CausalAttention())
    return policy.logits(params, hidden)


def our_logits(policy: Policy, params: Params, tokens: np.ndarray) -> np.ndarray:
    """Logits of `tokens [B, T]` in one causal pass."""
    return np.asarray(_logits(policy, params, jnp.asarray(tokens)))


def their_logits(model: PreTrainedModel, tokens: np.ndarray, **arguments: Any) -> np.ndarray:
    """Logits of `tokens [B, T]` by transformers."""
    with torch.no_grad():
        return model(torch.as_tensor(tokens), **arguments).logits.numpy()


def random_tokens(seed: int, shape: tuple[int, ...], vocab_size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


@each_family
def test_logits_equal_transformers_at_positions_up_to_8191(tmp_path, family):
    model = make_model_folder(tmp_path, family, num_heads=2, num_kv_heads=1, hidden_size=16)
    policy, params, _ = load_model(tmp_path, precision="highest")
    tokens = random_tokens(0, (1, 8192), policy.config.vocab_size)
    theirs = their_logits(model, tokens)
    assert np.abs(our_logits(policy, params, tokens) - theirs).max() < 1e-4
    assert theirs[:, -1024:].std() > 0.1  # otherwise agreement would say little


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("qwen2", {"num_layers": 3, "num_kv_heads": 1}),
        ("qwen3", {"num_kv_heads": 4, "attention_bias": True}),
        ("llama", {"attention_bias": True}),
    ],
    ids=str,
)
def test_logits_of_ragged_rows_equal_transformers(tmp_path, family, settings):
    """In transformers each row is a whole padded on the left; here a shared prefix and two chunks in the cache."""
    model = make_model_folder(tmp_path, family, tied=False, old_rope_layout=True, **settings)
    policy, params, _ = load_model(tmp_path, precision="highest")
    prefix = random_tokens(1, (20,), policy.config.vocab_size)
    rows = [random_tokens(2 + row, (length,), policy.config.vocab_size) for row, length in enumerate((60, 41, 33))]
    ours = _logits_in_chunks(policy, params, prefix, rows, ([28, 1, 32], [32, 40, 1]))
    width = len(prefix) + max(map(len, rows))
    padded, mask = np.zeros((len(rows), width), int), np.zeros((len(rows), width), int)
    for row, own in enumerate(rows):
        whole = np.concatenate([prefix, own])
        padded[row, width - len(whole) :], mask[row, width - len(whole) :] = whole, 1
    positions = torch.as_tensor(np.maximum(mask.cumsum(axis=1) - 1, 0))
    theirs = their_logits(model, padded, attention_mask=torch.as_tensor(mask), position_ids=positions)
    for row, own in enumerate(rows):
        assert ours[row].shape == (len(own), policy.config.vocab_size)
        assert np.abs(ours[row] - theirs[row, width - len(own) :]).max() < 1e-4
    assert theirs.std() > 0.1


def _logits_in_chunks(
    policy: Policy, params: Params, prefix: np.ndarray, rows: list[np.ndarray], chunks: tuple[list[int], ...]
) -> list[np.ndarray]:
    """Logits of each row's own tokens; `chunks` tells how many of them each row brings at a time."""

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def extend(params: Params, cache: KVCache, tokens: jax.Array, start: jax.Array, count: jax.Array) -> tuple:
        attention = CachedAttention(cache, jnp.arange(len(rows)), jnp.zeros(len(rows), jnp.int32), start, count)
        hidden, attention = policy.forward(params, tokens, attention.positions(tokens.shape[1]), attention)
        return policy.logits(params, hidden), attention.cache

    length = jnp.array([len(prefix)])
    prefill = jax.jit(functools.partial(prefill_prefix, policy), compiler_options=QUICKLY)
    prefix_k, prefix_v = prefill(params, jnp.asarray(prefix[None]), length)
    empty = init_cache(policy.config, len(rows), max(map(len, rows)), 1, len(prefix), "float32", 16)
    cache = dataclasses.replace(empty, prefix_k=prefix_k, prefix_v=prefix_v, prefix_length=length)
    start, width = np.zeros(len(rows), int), max(map(max, chunks))
    found: list[list[np.ndarray]] = [[] for _ in rows]
    for count in map(np.array, chunks):
        tokens = np.zeros((len(rows), width), int)
        for row, own in enumerate(rows):
            tokens[row, : count[row]] = own[start[row] : start[row] + count[row]]
        logits, cache = extend(params, cache, jnp.asarray(tokens), jnp.asarray(start), jnp.asarray(count))
        for row in range(len(rows)):
            found[row].append(np.asarray(logits[row, : count[row]]))
        start += count
    return [np.concatenate(parts) for parts in found]


@each_family
def test_bfloat16_weights_in_several_files(tmp_path, family):
    model = make_model_folder(tmp_path, family, dtype=torch.bfloat16, max_shard_size="20KB", tied=False)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    _, narrow, _ = load_model(tmp_path, param_dtype="bfloat16")
    kernel = narrow["layers"]["1"]["down"]["kernel"]
    assert kernel.dtype == jnp.bfloat16
    expected = model.model.layers[1].mlp.down_proj.weight.detach().float().numpy().T
    assert np.array_equal(np.asarray(kernel, np.float32), expected)

    policy, params, _ = load_model(tmp_path, dtype="bfloat16")
    assert params["embedding"].dtype == jnp.float32
    tokens = random_tokens(4, (2, 30), policy.config.vocab_size)
    rounded, exact = our_logits(policy, params, tokens), their_logits(model.float(), tokens)
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.1 * exact.std()


@each_family
def test_each_device_gets_its_part_and_no_more_is_read(tmp_path, family, monkeypatch):
    padding = -len(make_tokenizer(FAMILIES[family].tokenizer)) % 4
    make_model_folder(tmp_path, family, vocab_padding=padding, max_shard_size="20KB", tied=False)
    policy, params, _ = load_model(tmp_path)
    mesh = make_mesh(2, 2, 2)
    read: dict[str, int] = {}

    class Watched:
        """A tensor of a file that notes the largest part of it that was asked for."""

        def __init__(self, name: str, tensor: Any):
            self.name, self.tensor = name, tensor

        def __getitem__(self, cut: tuple[slice, ...]) -> np.ndarray:
            block = self.tensor[cut]
            read[self.name] = max(read.get(self.name, 0), block.size)
            return block

    untouched = hf_folder._open_weights

    def watched(*arguments: Any) -> dict[str, Any]:
        return {name: Watched(name, tensor) for name, tensor in untouched(*arguments).items()}

    monkeypatch.setattr(hf_folder, "_open_weights", watched)
    _, sharded, _ = load_model(tmp_path, mesh=mesh)
    shardings = parameter_shardings(policy, mesh)
    assert all(jax.tree.leaves(jax.tree.map(lambda leaf, where: leaf.sharding == where, sharded, shardings)))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, sharded, params)))
    layer = sharded["layers"]["0"]
    assert layer["down"]["kernel"].addressable_shards[0].data.shape == (64 // 2, 32 // 2)
    assert read["model.layers.0.mlp.down_proj.weight"] == 64 * 32 // 4
    assert read["model.layers.0.self_attn.q_proj.weight"] == layer["query"]["kernel"].size // 4
    assert read["model.embed_tokens.weight"] == read["lm_head.weight"] == sharded["head"].size // 4


def test_a_head_that_repeats_the_embedding_is_no_matter(tmp_path):
    make_model_folder(tmp_path, "llama")
    _, params, _ = load_model(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    save_file(tensors, tmp_path / "model.safetensors")
    _, again, _ = load_model(tmp_path)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again, params)))


@pytest.mark.parametrize("shared", [False, True])
def test_the_links_of_a_hub_cache_are_followed(tmp_path, shared):
    """A snapshot links to blobs of its model, and these in newer caches to blobs that all models share."""
    make_model_folder(tmp_path / "made")
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted((tmp_path / "made").iterdir())):
        if shared:
            (tmp_path / "blobs" / "ab").mkdir(parents=True, exist_ok=True)
            file.rename(tmp_path / "blobs" / "ab" / f"ab{number}")
            (blobs / str(number)).symlink_to(Path("../../blobs/ab") / f"ab{number}")
        else:
            file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    assert load_model(snapshot)[0].config.family == "qwen2"
    snapshot.rename(tmp_path / "models--a--b" / "0123")
    with pytest.raises(ModelError, match="outside of the model's folder; .* hf download MODEL --local-dir=FOLDER"):
        load_model(tmp_path / "models--a--b" / "0123")


def real_config(**changes: Any) -> dict[str, Any]:
    """What a released Llama 3.2 1B says of itself, of the time before transformers 5."""
    return {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072,
        "mlp_bias": False, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16,
        "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True,
        "vocab_size": 128256,
    } | changes  # fmt: skip


def test_configurations_of_released_models():
    llama = DecoderConfig.from_hf(real_config())
    assert llama.num_params == 1_235_814_400
    assert llama.rope_scaling is not None and llama.rope_scaling.factor == 32
    qwen2 = DecoderConfig.from_hf({
        "architectures": ["Qwen2ForCausalLM"], "hidden_size": 896, "intermediate_size": 4864, "max_window_layers": 21,
        "max_position_embeddings": 32768, "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936, "hidden_act": "silu",
    })  # fmt: skip
    assert (qwen2.num_params, qwen2.head_dim, qwen2.qkv_bias) == (494_032_768, 64, True)
    qwen3 = DecoderConfig.from_hf({
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
        "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None,
        "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936,
    })  # fmt: skip
    assert (qwen3.num_params, qwen3.head_dim, qwen3.qk_norm) == (596_049_920, 128, True)
    for config in (llama, qwen2, qwen3):
        assert DecoderConfig.from_hf(config.to_hf()) == config
