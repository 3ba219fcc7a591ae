"""How replies are sampled, against transformers' own processors and the whole model without a cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.generation import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from maro_jax.harness.generation import STEPS, Sampling, choose, generate
from maro_jax.harness.scoring import Row, padded_width, score
from maro_jax.policy.attention import CausalAttention
from maro_jax.policy.config import DecoderConfig, ModelError
from maro_jax.policy.decoder import Policy

CONFIG = DecoderConfig(
    vocab_size=61, hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8,
    rope_theta=1e4, rms_norm_eps=1e-6, tie_embeddings=True, qkv_bias=True, max_positions=512, family="qwen2",
)  # fmt: skip
PROMPTS = [[3, 5, 7], [9] * 30, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]


@pytest.fixture(scope="module")
def model():
    policy = Policy(CONFIG, precision="highest")
    return policy, jax.tree.map(lambda leaf: leaf * 3, policy.init(jax.random.key(0)))


def _keys(count, seed=0):
    return jax.vmap(lambda index: jax.random.fold_in(jax.random.key(seed), index))(jnp.arange(count))


def _generate(model, prompts=PROMPTS, rows=4, ends=(60,), max_new=3 * STEPS + 5, sampling=None, stop_at=None, seed=0):
    return generate(
        *model, prompts, keys=_keys(rows, seed), sampling=sampling or Sampling(), ends=ends, max_new=max_new,
        stop_at=stop_at or (lambda tokens: None),
    )  # fmt: skip


@jax.jit
def _next_logits(params, tokens, length):
    policy = Policy(CONFIG, precision="highest")
    hidden, _ = policy.forward(params, tokens[None], jnp.arange(len(tokens))[None], CausalAttention())
    return policy.logits(params, hidden)[0, length - 1]


def _naive(params, prompt, max_new, end, penalty):
    """Greedy decoding that reads everything again for each token."""
    tokens = list(prompt)
    for _ in range(max_new):
        padded = np.zeros(192, np.int32)
        padded[: len(tokens)] = tokens
        logits = np.array(_next_logits(params, padded, len(tokens)))
        for token in set(tokens):
            logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        tokens.append(int(np.argmax(logits)))
        if tokens[-1] == end:
            break
    return tokens[len(prompt) :]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_replies_are_those_of_the_model_without_a_cache(model, penalty):
    found = _generate(model, sampling=Sampling(repetition_penalty=penalty))
    assert found == [_naive(model[1], prompt, 3 * STEPS + 5, 60, penalty) for prompt in PROMPTS]
    # An end token that comes sooner ends the reply, and only that one.
    end = found[1][20]
    again = _generate(model, ends=(end, 60), sampling=Sampling(repetition_penalty=penalty))
    assert again == [reply[: reply.index(end) + 1] if end in reply else reply for reply in found]


def test_a_reply_does_not_depend_on_its_batch_and_stops_soon(model):
    sampling = Sampling(temperature=1.0, top_k=20)
    found = _generate(model, sampling=sampling)
    alone = generate(
        *model, PROMPTS[1:2], keys=_keys(4)[1:2], sampling=sampling, ends=(60,), max_new=3 * STEPS + 5,
        stop_at=lambda tokens: None,
    )  # fmt: skip
    assert alone == found[1:2] and found != _generate(model, sampling=sampling, seed=1)
    stopped = _generate(model, sampling=sampling, ends=(), stop_at=lambda tokens: 7 if len(tokens) >= 7 else None)
    assert stopped == [reply[:7] for reply in _generate(model, sampling=sampling, ends=(), max_new=9)]
    assert [len(reply) for reply in _generate(model, ends=(), max_new=5)] == [5] * 3


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(1.0),
        Sampling(0.7, top_k=5),
        Sampling(1.3, top_p=0.6),
        Sampling(0.9, top_k=12, top_p=0.8, repetition_penalty=1.5),
        Sampling(1.0, top_p=1e-6),
    ],
)
def test_probabilities_are_those_of_transformers(sampling):
    random = np.random.default_rng(0)
    logits = random.normal(size=(1, 30)).astype(np.float32) * 2
    read = [3, 4, 4, 17]
    tensor, ids = torch.tensor(logits), torch.tensor([read])
    tensor = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(ids, tensor)
    tensor = TemperatureLogitsWarper(sampling.temperature)(ids, tensor)
    tensor = TopKLogitsWarper(sampling.top_k)(ids, tensor) if sampling.top_k else tensor
    tensor = TopPLogitsWarper(sampling.top_p)(ids, tensor) if sampling.top_p < 1 else tensor
    expected = torch.softmax(tensor, dim=-1)[0].numpy()
    # The share of evenly spread uniforms that lead to a token is its probability.
    count = 40_000
    uniforms = (jnp.arange(count) + 0.5) / count
    seen = jnp.zeros((1, 30), bool).at[0, jnp.array(read)].set(True)
    tokens = choose(
        jnp.tile(logits, (count, 1)), jnp.tile(seen, (count, 1)), uniforms,
        temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
    )  # fmt: skip
    shares = np.bincount(np.asarray(tokens), minlength=30) / count
    np.testing.assert_allclose(shares, expected, atol=2 / count + 1e-6)


def test_what_a_task_asks_for_comes_before_what_the_model_says():
    settings = {"temperature": 0.7, "top_p": 0.8, "top_k": None, "repetition_penalty": 1.1, "do_sample": True}
    assert Sampling.of({"do_sample": False, "temperature": 0.0}, settings) == Sampling(repetition_penalty=1.1)
    assert Sampling.of({"do_sample": True, "temperature": 0.6}, settings) == Sampling(0.6, 50, 0.8, 1.1)
    assert Sampling.of({"do_sample": True, "top_k": 3}, {}) == Sampling(1.0, 3, 1.0, 1.0)
    with pytest.raises(ModelError, match="num_beams=4"):
        Sampling.of({"num_beams": 4}, {})
    with pytest.raises(ModelError, match="temperature > 0"):
        Sampling.of({"do_sample": True, "temperature": 0.0}, {})


def test_scores_are_those_of_each_row_by_itself(model):
    policy, params = model
    random = np.random.default_rng(1)
    rows = []
    for length, count in ((3, 1), (40, 4), (70, 9), (130, 17), (8, 8), (65, 2)):
        inputs = random.integers(60, size=length).tolist()
        shared = inputs[len(inputs) - count + 1 :]
        rows.append(Row(inputs, [[*shared, int(last)] for last in random.integers(60, size=3)]))
    likeliest = int(np.argmax(_next_logits(params, np.pad(rows[0].inputs, (0, 192 - 3)), 3)))
    rows[0] = Row(rows[0].inputs, [[likeliest], *rows[0].continuations])
    found = score(policy, params, rows, batch_size=4, max_length=130)
    assert [greedy for _, greedy in found[0]][0]
    for row, answers in zip(rows, found, strict=True):
        for continuation, (log_prob, greedy) in zip(row.continuations, answers, strict=True):
            tokens, count = np.array([*row.inputs, continuation[-1]]), len(continuation)
            logits = [
                np.array(_next_logits(params, np.pad(tokens, (0, 192 - len(tokens))), at)).astype(np.float64)
                for at in range(len(tokens) - count, len(tokens))
            ]
            expected = sum(
                each[token] - np.logaddexp.reduce(each) for each, token in zip(logits, continuation, strict=True)
            )
            assert abs(log_prob - expected) < 1e-4
            assert greedy == all(np.argmax(each) == token for each, token in zip(logits, continuation, strict=True))


def test_few_widths_serve_all_lengths():
    assert [padded_width(length, 64, 160) for length in (1, 64, 65, 128, 129, 160)] == [64, 64, 128, 128, 160, 160]
    assert len({padded_width(length, 64, 32_768) for length in range(1, 32_769)}) == 10
