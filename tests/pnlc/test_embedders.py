"""Embedders against slower ways to the same numbers: one text at a time, torch, and a server that fails."""

import collections
import dataclasses
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from maro_jax.api.ledger import Prices
from maro_jax.pnlc.api_embedder import ApiEmbedder
from maro_jax.pnlc.embedders import embedder_for, embedder_of
from maro_jax.pnlc.policy_embedder import PolicyEmbedder
from maro_jax.pnlc.training import address_of
from maro_jax.policy import trained
from maro_jax.policy.attention import CausalAttention
from maro_jax.policy.trained import open_trained
from maro_jax.run.embedder_names import parse_embedder
from maro_jax.run.fields import ConfigError
from maro_jax.run.pnlc_config import CriticConfig
from tests.api.server import chat_server
from tests.pnlc import worlds
from tests.pnlc.test_agents import saved_critic

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("kept_programs")

TEXTS = [
    "You are a wolf", "You are Player 2", "Vote", "Player 1 votes Player 3\nPlayer 2 votes Player 3\nThe village wins",
    "", "accuse Player 2 and defend Player 1, for I am the seer",
]  # fmt: skip
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "you", "are", "a", "wolf", "player", "vote", "##s", "1", "2", "3", ","]


@pytest.fixture(scope="module")
def tiny():
    return open_trained("tiny")


@pytest.fixture
def opened_once(tiny, monkeypatch):
    """To draw the tiny model's weights takes longer than all else here."""
    monkeypatch.setattr(trained, "open_trained", lambda place: tiny)


def test_a_policy_embeds_by_the_mean_of_its_hidden_states(tiny):
    """In a padded batch as alone, after all three layers, by the policy itself."""
    embedder = PolicyEmbedder(tiny, "tiny", 3, batch=4)
    found = embedder.embed(TEXTS)
    assert found.shape == (len(TEXTS), embedder.size) and found.dtype == np.float32
    for text, row in zip(TEXTS[2:5], found[2:5], strict=True):
        ids = jnp.asarray([tiny.tokenizer.encode(text)], jnp.int32)
        if not ids.size:
            np.testing.assert_array_equal(row, 0)
            continue
        hidden, _ = tiny.policy.forward(tiny.params, ids, jnp.arange(ids.shape[1])[None], CausalAttention())
        np.testing.assert_allclose(row, hidden[0].mean(axis=0), rtol=1e-4, atol=1e-5)


def test_layers_that_are_left_out_have_no_part_in_it(tiny):
    """Two of three: as if the third added nothing to the residual stream."""
    silent = jax.tree.map(jnp.zeros_like, tiny.params["layers"]["2"])
    params = tiny.params | {"layers": tiny.params["layers"] | {"2": silent}}
    whole = PolicyEmbedder(dataclasses.replace(tiny, params=params), "tiny", 3, batch=4).embed(TEXTS[:2])
    np.testing.assert_allclose(PolicyEmbedder(tiny, "tiny", 2, batch=4).embed(TEXTS[:2]), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("opened_once")
def test_an_embedder_is_opened_again_by_its_name_and_not_with_other_weights(tiny):
    first = embedder_of("policy:tiny")
    assert first.name.startswith("policy:tiny@2#") and embedder_of(first.name).name == first.name
    assert embedder_of("policy:tiny@1").name.partition("#")[2] != first.name.partition("#")[2]
    wrong = "policy:tiny@2#0123456789ab"
    with pytest.raises(ConfigError, match=f"the weights of policy:tiny are no longer those of {wrong}"):
        embedder_of(wrong)
    with pytest.raises(ConfigError, match="policy:tiny@9: the model has 3 layers"):
        embedder_of("policy:tiny@9")
    other = dataclasses.replace(tiny, params=jax.tree.map(lambda leaf: leaf + 1, tiny.params))
    assert PolicyEmbedder(other, "tiny", 2, 4).name != first.name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tiny", "not of the form words:SIZE, policy:RUN"),
        ("bert:x", "not one of words, policy, sentence, api"),
        ("words:x", "a multiple of 8 from 16 to 8192"),
        ("words:20", "a multiple of 8 from 16 to 8192"),
        ("words:512@2", "@2 is of a policy"),
        ("policy:/nowhere", "a folder of a run or a model"),
        ("sentence:/nowhere", "has no config.json"),
        ("api:model@3", "@3 is of a policy"),
    ],
)
def test_wrong_names_are_refused(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        embedder_of(text)


def test_texts_are_as_near_as_the_words_pairs_and_lines_they_share():
    """Against the cosine of the counts themselves, which random directions keep but for their noise of 1/√d."""

    def counted(text):
        found = collections.Counter()
        for line in text.lower().split("\n"):
            words = line.split()
            found.update(words + list(itertools.pairwise(words)) + [("a line", *words)] * bool(words))
        return {feature: 1 + math.log(count) for feature, count in found.items()}

    def cosine(one, other):
        shared = sum(weight * other.get(feature, 0) for feature, weight in one.items())
        return shared / math.hypot(*one.values()) / math.hypot(*other.values())

    texts = [text for text in TEXTS if text] + ["You are a seer", "YOU are a  wolf", "wolf a are you", "Vote\n\nVote"]
    embedder = embedder_of("words:8192")
    found = embedder.embed([*texts, ""])
    assert (embedder.name, embedder.size, found.shape) == ("words:8192", 8192, (len(texts) + 1, 8192))
    np.testing.assert_allclose(np.linalg.norm(found[:-1], axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found[-1], 0)
    wanted = [[cosine(counted(one), counted(other)) for other in texts] for one in texts]
    np.testing.assert_allclose(found[:-1] @ found[:-1].T, wanted, atol=5 / 8192**0.5)
    np.testing.assert_array_equal(embedder_of("words:8192").embed(texts[::-1]), found[-2::-1])


def test_names_come_apart():
    found = parse_embedder("api:text-embedding-3-small")
    assert (found.kind, found.place, found.layers, found.digest) == ("api", "text-embedding-3-small", 0, "")
    found = parse_embedder("policy:tiny@12#00ff00ff00ff")
    assert (found.kind, found.place, found.layers, found.digest) == ("policy", "tiny", 12, "00ff00ff00ff")


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory):
    """A random encoder as transformers saves it, with a pooler that is not used, and its tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=16,
    )  # fmt: skip
    model = BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # fresh norms and biases would be ones and zeros
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder, model, tokenizer


def test_a_sentence_encoder_computes_what_transformers_computes(sentence_folder):
    folder, model, tokenizer = sentence_folder
    embedder = embedder_of(f"sentence:{folder}", batch=4)
    found = embedder.embed(TEXTS)
    assert found.shape == (len(TEXTS), embedder.size) == (len(TEXTS), 24)
    for text, row in zip(TEXTS, found, strict=True):
        ids = tokenizer.encode(text).ids[1:-1]
        total = torch.zeros(24)
        for first in range(0, max(1, len(ids)), 14):
            part = [2, *ids[first : first + 14], 3]
            with torch.no_grad():
                mean = model(torch.tensor([part])).last_hidden_state[0].mean(dim=0)
            total += len(part) * mean / mean.norm()
        np.testing.assert_allclose(row, (total / total.norm()).numpy(), atol=1e-5)
    assert max(len(tokenizer.encode(text).ids) for text in TEXTS) > 16  # and the longest one was read in parts
    assert embedder.embed([]).shape == (0, 24)


def test_a_sentence_encoder_reads_at_once_as_much_as_it_was_trained_for_and_nothing_is_lost(sentence_folder, tmp_path):
    """sentence-transformers keeps the length in a file of its own, MiniLM's for example as half of the positions."""
    folder, _, _ = sentence_folder
    _copy(folder, tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 6, "do_lower_case": false}')
    longest = "you are a wolf you are a wolf"
    shorter, whole = embedder_of(f"sentence:{tmp_path}"), embedder_of(f"sentence:{folder}")
    assert shorter.name.partition("#")[2] != whole.name.partition("#")[2]
    np.testing.assert_allclose(shorter.embed([longest]), whole.embed(["you are a wolf"]), atol=1e-6)
    assert np.abs(shorter.embed([longest]) - whole.embed([longest])).max() > 1e-3
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": null}')
    np.testing.assert_array_equal(embedder_of(f"sentence:{tmp_path}").embed([longest]), whole.embed([longest]))
    told = "you are a wolf\n" + 5 * "player 1 vote player 2\n" + "vote"
    first, last = told.replace("wolf", "seer"), told.removesuffix("vote") + "you"
    found = whole.embed([told, first, last])
    assert np.abs(found[1:] - found[0]).max(axis=1).min() > 1e-4  # neither the role nor the newest line is cut off


def _copy(folder, to):
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("file", "contents", "sentence"),
    [
        ("1_Pooling/config.json", '{"pooling_mode_cls_token": true}', "pooling_mode_cls_token; only the mean"),
        ("modules.json", '[{"type": "sentence_transformers.models.Dense"}]', "has the modules Dense; computed"),
        ("modules.json", "[", "is not JSON; it should read like"),
        ("sentence_bert_config.json", '{"max_seq_length": 17}', "is 17, but must be from 1 to the 16 positions"),
        ("sentence_bert_config.json", '{"max_seq_length": "6"}', "is '6', but must be from 1"),
    ],
)
def test_what_is_pooled_or_cut_otherwise_is_refused(sentence_folder, tmp_path, file, contents, sentence):
    _copy(sentence_folder[0], tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(contents)
    with pytest.raises(ConfigError, match=sentence):
        embedder_of(f"sentence:{tmp_path}")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"hidden_act": "silu"}, "hidden_act is 'silu'"),
        ({"hidden_size": 32}, "is of shape .* and not as config.json has it"),
        ({"num_hidden_layers": 4}, "lacks the tensor encoder.layer.3"),
        ({"vocab_size": 9}, "more tokens than the 9"),
        ({"num_attention_heads": None}, "lacks a number"),
    ],
)
def test_other_encoders_are_refused(sentence_folder, tmp_path, change, sentence):
    folder, _, _ = sentence_folder
    _copy(folder, tmp_path)
    contents = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(contents))
    with pytest.raises(ConfigError, match=sentence):
        embedder_of(f"sentence:{tmp_path}")


def test_a_critics_texts_go_to_its_own_server_and_the_key_only_to_one_that_is_named(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "canary-0123456789")
    monkeypatch.setenv("ANOTHER_KEY", "another-0123456789")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with chat_server() as kept, chat_server() as named:
        saved = dataclasses.replace(
            saved_critic(worlds.chain(), range(8)), embedder="api:small", embedder_address=kept.address
        )
        embedder_for(saved).embed(TEXTS)
        embedder_for(saved, key_variable="ANOTHER_KEY").embed(TEXTS)
        embedder_for(saved, base_url=named.address).embed(TEXTS)
        monkeypatch.setenv("OPENAI_BASE_URL", kept.address)
        embedder_for(saved, asking={"prices": Prices(2.0)}).embed(TEXTS)
    keys = ["none", "another-0123456789", "canary-0123456789"]
    assert kept.keys == [f"Bearer {key}" for key in keys] and named.keys == [f"Bearer {keys[-1]}"]
    assert embedder_for(dataclasses.replace(saved, embedder="words:16")).name == "words:16"


def test_training_keeps_the_address_of_the_server_and_no_secret(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:secret@host:8000/v1?key=secret")
    assert address_of(CriticConfig(embedder="api:small")) == "http://host:8000/v1"
    assert address_of(CriticConfig(embedder="api:small", api_base="http://other/v1")) == "http://other/v1"
    assert address_of(CriticConfig()) == ""


def test_a_server_that_fails_now_and_then_still_embeds(monkeypatch):
    """In the order of the texts, each once; a key is sent and never told."""
    monkeypatch.setenv("EMBEDDING_KEY", "canary-0123456789")
    plan = {0: "429 0", 2: "malformed", 3: "500 0"}
    with chat_server(lambda number: plan.get(number, "")) as server:
        embedder = ApiEmbedder("small", 2, server.address, "EMBEDDING_KEY")
        found = embedder.embed(TEXTS)
        np.testing.assert_array_equal(found[:, 0], [len(text or " ") for text in TEXTS])
        np.testing.assert_array_equal(found[:, 2], [0, 1] * 3)
        assert (embedder.size, embedder.name) == (3, "api:small")
        assert embedder.calls.answered == 4 and embedder.calls.retries == 3 and embedder.calls.tokens_in == 7
        assert {body["model"] for body in server.bodies} == {"small"}
        assert set(server.keys) == {"Bearer canary-0123456789"}
    with chat_server(lambda number: "401") as server:
        embedder = ApiEmbedder("small", 2, server.address, "EMBEDDING_KEY")
        with pytest.raises(ConfigError, match="api:small gave no embeddings: no answer after 1 request") as refused:
            embedder.embed(TEXTS)
        assert "canary" not in str(refused.value)
