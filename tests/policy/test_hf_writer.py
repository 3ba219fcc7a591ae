"""Folders that are written: whole, exact, and read by transformers as by us."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from maro_jax.policy import hf_writer
from maro_jax.policy.config import ModelError, tiny_config
from maro_jax.policy.decoder import Params, Policy
from maro_jax.policy.hf_folder import load_model
from maro_jax.policy.hf_writer import save_model
from maro_jax.policy.models import load_policy
from tests.policy.hf_fixture import FAMILIES, make_model_folder
from tests.policy.test_hf_folder import our_logits, random_tokens, their_logits

CHAT = [{"role": "user", "content": "Who is the wolf?"}]


def equal(params: Params, others: Params) -> bool:
    """Whether two trees of parameters are the same, bit for bit."""
    return jax.tree.structure(params) == jax.tree.structure(others) and all(
        np.asarray(one).tobytes() == np.asarray(other).tobytes()
        for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(others), strict=True)
    )


def our_continuation(policy: Policy, params: Params, tokens: np.ndarray, length: int) -> np.ndarray:
    """Greedy continuations of `tokens [B, T]`."""
    known = np.pad(tokens, ((0, 0), (0, length)))
    for place in range(tokens.shape[1], known.shape[1]):
        known[:, place] = our_logits(policy, params, known)[:, place - 1].argmax(axis=-1)
    return known


def their_continuation(model: PreTrainedModel, tokens: np.ndarray, length: int) -> np.ndarray:
    """The same by transformers; no token ends it."""
    model.generation_config.eos_token_id = None
    inputs = torch.as_tensor(tokens)
    with torch.no_grad():
        ids = model.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=length, do_sample=False)
    assert ids.shape[1] == tokens.shape[1] + length
    return ids.numpy()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("anew", [False, True])
def test_a_saved_model_reloads_exactly_and_goes_on_the_same_in_transformers(tmp_path, family, anew):
    """In several files, taking the rest over from the folder it began as, or in one, with everything written anew."""
    made = make_model_folder(tmp_path / "a", family, tied=anew, old_rope_layout=not anew)
    policy, params, tokenizer = load_model(tmp_path / "a", precision="highest")
    settings = {} if anew else {"began_as": tmp_path / "a", "max_shard_bytes": 20_000}
    save_model(tmp_path / "b", policy, params, tokenizer, **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    files = sorted((tmp_path / "b").glob("*.safetensors"))
    assert (len(files) > 1) == (tmp_path / "b" / "model.safetensors.index.json").exists() == (not anew)

    again, params_again, tokenizer_again = load_model(tmp_path / "b", precision="highest")
    assert again == policy and equal(params_again, params)
    before = load_file(tmp_path / "a" / "model.safetensors")
    after = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    text = "Player 12 votes\n\nPlayer 3:<|im_end|>"
    assert tokenizer_again.encode(text) == tokenizer.encode(text)

    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert type(model) is type(made) and not any(info.values())
    assert model.generation_config.pad_token_id == tokenizer.pad_id
    tokens = random_tokens(2, (2, 40), policy.config.vocab_size)
    assert np.array_equal(their_logits(model, tokens), their_logits(made, tokens))
    continued = their_continuation(made, tokens, 24)
    assert np.array_equal(their_continuation(model, tokens, 24), continued)
    assert np.array_equal(our_continuation(again, params_again, tokens, 24), continued)
    theirs, original = (AutoTokenizer.from_pretrained(tmp_path / name) for name in "ab")
    assert theirs.encode(text) == original.encode(text)
    assert theirs.apply_chat_template(CHAT, tokenize=False) == original.apply_chat_template(CHAT, tokenize=False)


def test_what_the_model_began_as_is_taken_over_and_code_is_not(tmp_path):
    make_model_folder(tmp_path / "a", "llama", old_rope_layout=True)
    generation = {"do_sample": True, "temperature": 0.6, "eos_token_id": [5, 7]}
    (tmp_path / "a" / "generation_config.json").write_text(json.dumps(generation))
    (tmp_path / "a" / "LICENSE").write_text("as you like")
    (tmp_path / "a" / "modeling.py").write_text("raise SystemExit")
    config = json.loads((tmp_path / "a" / "config.json").read_text()) | {"auto_map": {"AutoModel": "modeling.Model"}}
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    policy, params, tokenizer = load_model(tmp_path / "a")
    save_model(tmp_path / "b", policy, params, tokenizer, dtype="bfloat16", began_as=tmp_path / "a")
    assert not (tmp_path / "b" / "modeling.py").exists()
    for name in ("LICENSE", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    del config["auto_map"]
    assert json.loads((tmp_path / "b" / "config.json").read_text()) == config | {"torch_dtype": "bfloat16"}
    _, rounded, _ = load_model(tmp_path / "b")
    assert equal(rounded, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), params))


def test_generation_settings_are_written_where_there_were_none(tmp_path):
    make_model_folder(tmp_path / "a", "llama")
    (tmp_path / "a" / "generation_config.json").unlink()
    policy, params, tokenizer = load_model(tmp_path / "a")
    save_model(tmp_path / "b", policy, params, tokenizer, began_as=tmp_path / "a")
    written = json.loads((tmp_path / "b" / "generation_config.json").read_text())
    assert written == {"eos_token_id": tokenizer.end_id, "pad_token_id": tokenizer.pad_id}


def test_the_tiny_model_saves_as_a_folder_that_transformers_reads(tmp_path):
    policy, params, tokenizer = load_policy("tiny", precision="highest")
    assert params is None
    params = policy.init(jax.random.key(0))
    save_model(tmp_path / "tiny", policy, params, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tiny")
    tokens = random_tokens(3, (2, 50), policy.config.vocab_size)
    assert np.abs(our_logits(policy, params, tokens) - their_logits(model, tokens)).max() < 1e-4
    again, params_again, tokenizer_again = load_policy(str(tmp_path / "tiny"), precision="highest")
    assert again == policy and equal(params_again, params)
    assert tokenizer_again.vocabulary_version == tokenizer.vocabulary_version


@pytest.fixture(scope="module")
def tiny():
    policy, _, tokenizer = load_policy("tiny")
    return policy, jax.jit(policy.init)(jax.random.key(0)), tokenizer


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_does_not_save_over_anything(tmp_path, tiny, kind):
    place = tmp_path / "taken"
    {"file": place.touch, "folder": place.mkdir, "link": lambda: place.symlink_to(tmp_path / "nowhere")}[kind]()
    with pytest.raises(ModelError, match="exists already and is not overwritten"):
        save_model(place, *tiny)
    assert os.listdir(tmp_path) == ["taken"]


def test_a_save_that_fails_leaves_nothing(tmp_path, tiny, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hf_writer, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(tmp_path / "model", *tiny)
    assert os.listdir(tmp_path) == []


def test_refuses_to_save_a_model_smaller_than_its_tokenizer(tmp_path):
    make_model_folder(tmp_path / "a")
    _, _, large = load_model(tmp_path / "a")
    policy = Policy(tiny_config(large.vocab_size - 1))
    with pytest.raises(ModelError, match="vocab_size"):
        save_model(tmp_path / "b", policy, policy.init(jax.random.key(0)), large)
    shutil.rmtree(tmp_path / "a")
    assert not os.listdir(tmp_path)
