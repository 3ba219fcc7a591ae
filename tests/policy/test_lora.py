"""Adapters: that they start as nothing, compute what PEFT's do, and serve each row of a batch with its own."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from maro_jax.learner.decisions import Decisions
from maro_jax.learner.loss import score_tokens
from maro_jax.policy.attention import CausalAttention, token_positions
from maro_jax.policy.config import ModelError
from maro_jax.policy.decoder import SCANNED_LAYERS, Policy
from maro_jax.policy.hf_folder import load_model
from maro_jax.policy.hf_writer import save_adapter
from maro_jax.policy.lora import Adapted, Lora, parameter_sets, select, with_base
from maro_jax.policy.sharding import make_mesh, parameter_shardings, trained_shardings
from maro_jax.selfplay.episodes import LEARNER, OPPONENT
from maro_jax.selfplay.rollout import build_rollout
from maro_jax.selfplay.table import RolloutSizes
from tests.policy.hf_fixture import FAMILIES, make_model_folder
from tests.policy.test_hf_folder import our_logits, random_tokens, their_logits
from tests.selfplay.playing import COMPILER_OPTIONS, LAYOUTS, mesh_of, plan_of, world
from tests.selfplay.test_trained_tokens import TOLERANCE, learner_rows

EVERYTHING = Lora(rank=3, alpha=12.0, targets=".*")
ATTENTION = Lora(rank=2, alpha=2.0, targets="query|value")


def drawn(policy: Policy, seed: int):
    """An adapter of which both factors are random."""
    leaves, tree = jax.tree.flatten(policy.abstract_trained())
    random = np.random.default_rng(seed)
    return tree.unflatten([jnp.asarray(random.normal(0, 0.2, leaf.shape), leaf.dtype) for leaf in leaves])


def small(lora: Lora, layers: int = 2) -> tuple[Policy, dict]:
    """A policy with LoRA and parameters of its model."""
    plain = world("acts").table.policy
    config = dataclasses.replace(plain.config, num_layers=layers, hidden_size=32, intermediate_size=48, vocab_size=50)
    policy = dataclasses.replace(plain, config=config, lora=lora)
    return policy, policy.init(jax.random.key(0))


def hidden(policy: Policy, params, tokens, how: str = "forward"):
    positions = token_positions(jnp.zeros(tokens.shape[0], jnp.int32), tokens.shape[1])
    out = getattr(policy, how)(params, tokens, positions, CausalAttention())
    return out[0] if how == "forward" else out


@pytest.mark.parametrize("lora", [EVERYTHING, ATTENTION])
def test_a_new_adapter_changes_nothing_and_has_the_shapes_announced(lora):
    policy, base = small(lora)
    adapter = policy.init_trained(jax.random.key(1))
    assert jax.tree.map(lambda leaf: leaf.shape, adapter) == jax.tree.map(
        lambda leaf: leaf.shape, policy.abstract_trained()
    )
    block = adapter["layers"]["1"]
    assert set(block) == set(lora.matrices) and block["query"]["lora_a"].shape == (32, lora.rank)
    assert 0 < np.abs(block["query"]["lora_a"]).max() <= 32**-0.5 and not np.asarray(block["value"]["lora_b"]).any()
    tokens = random_tokens(0, (2, 9), 50)
    np.testing.assert_array_equal(our_logits(policy, Adapted(base, adapter), tokens), our_logits(policy, base, tokens))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lora", [EVERYTHING, ATTENTION])
def test_an_adapter_computes_what_peft_computes_from_its_folder(tmp_path, family, lora):
    make_model_folder(tmp_path / "model", family)
    policy, base, _ = load_model(tmp_path / "model", precision="highest")
    policy = dataclasses.replace(policy, lora=lora)
    adapter = drawn(policy, 1)
    save_adapter(tmp_path / "adapter", policy, adapter, tmp_path / "model", dtype="float32")
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "model"), tmp_path / "adapter"
    ).eval()
    tokens = random_tokens(0, (2, 40), policy.config.vocab_size)
    expected = their_logits(theirs, tokens)
    assert np.abs(expected - our_logits(policy, base, tokens)).max() > 0.1  # it does change something
    assert np.abs(our_logits(policy, Adapted(base, adapter), tokens) - expected).max() < 1e-4
    plain = dataclasses.replace(policy, lora=None)
    assert np.abs(our_logits(plain, policy.merged(Adapted(base, adapter)), tokens) - expected).max() < 1e-4
    with pytest.raises(ModelError, match="exists already"):
        save_adapter(tmp_path / "adapter", policy, adapter, tmp_path / "model", dtype="float32")


def test_every_row_of_a_batch_has_its_own_adapter():
    policy, base = small(EVERYTHING)
    adapters = [drawn(policy, seed) for seed in range(3)]
    tokens, of_row = random_tokens(0, (5, 7), 50), np.array([2, 0, 1, 1, 2])
    rows = select(parameter_sets(base, adapters), of_row)
    together = hidden(policy, rows, tokens)
    for row, number in enumerate(of_row):
        alone = hidden(policy, Adapted(base, adapters[number]), tokens[row : row + 1])
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5)


def test_the_loop_over_layers_gives_the_gradients_of_the_adapter_of_layers_written_out():
    policy, base = small(EVERYTHING, SCANNED_LAYERS)
    adapter, tokens = drawn(policy, 0), random_tokens(0, (2, 6), 50)
    weights = np.random.default_rng(1).normal(size=(2, 6, 32))

    def gradient(how: str):
        def loss(adapter):
            return jnp.sum(hidden(policy, Adapted(base, adapter), tokens, how) * weights)

        return jax.jit(jax.grad(loss))

    looped, written = (jax.tree.leaves(gradient(how)(adapter)) for how in ("encode", "forward"))
    largest = max(np.abs(leaf).max() for leaf in written)  # of all leaves: smaller ones are sums of larger terms
    for one, other in zip(looped, written, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=5e-5 * largest)
        assert np.abs(other).max() > 1e-3 * largest


def test_sampler_and_learner_agree_on_every_players_adapter():
    """Two adapters play each other in common model steps; each one's log-probabilities are its own."""
    place = world("qwen3")
    policy = dataclasses.replace(place.table.policy, lora=EVERYTHING)
    table = dataclasses.replace(place.table, policy=policy)
    base, adapters = place.params[0], [drawn(policy, seed) for seed in (1, 2)]
    devices, sizes = LAYOUTS["few lanes"]
    rollout = build_rollout(
        table, RolloutSizes(capacity=table.stream_capacity(0, "refuse"), **sizes), mesh_of(devices), models=2,
        scripted=False,
    )  # fmt: skip
    holders = np.array([[LEARNER, OPPONENT], [OPPONENT, LEARNER]] * 8)
    play = jax.jit(rollout, compiler_options=COMPILER_OPTIONS)
    params = parameter_sets(base, adapters)
    episodes, usage = jax.device_get(play(params, jnp.ones(2), jax.random.key(0), plan_of(holders)))
    assert float(usage.sampled.sum()) == (episodes.node > 0).sum() > 100
    score = jax.jit(
        functools.partial(score_tokens, Decisions.of([table])), static_argnums=1, compiler_options=COMPILER_OPTIONS
    )
    made = episodes.behaviours
    for holder, adapter in enumerate(adapters):
        as_learner = np.where(made.holder == holder, LEARNER, OPPONENT).astype(made.holder.dtype)
        seen = dataclasses.replace(episodes, behaviours=dataclasses.replace(made, holder=as_learner))
        compared = 0
        for streams in learner_rows("qwen3", seen):
            sampled = streams.node > 0
            found = score(with_base(base, adapter), None, streams).log_prob
            np.testing.assert_allclose(found[sampled], streams.log_prob[sampled], rtol=1e-6, atol=TOLERANCE)
            compared += int(sampled.sum())
        assert compared > 50


def test_an_adapter_is_split_as_the_kernels_it_changes():
    policy, _ = small(EVERYTHING)
    mesh = make_mesh(2, 2, 2)
    kernels, factors = parameter_shardings(policy, mesh), trained_shardings(policy, mesh)
    for name in EVERYTHING.matrices:
        outer, inner = kernels["layers"]["0"][name]["kernel"].spec
        of = factors["layers"]["0"][name]
        assert tuple(of["lora_a"].spec) == (outer, None) and tuple(of["lora_b"].spec) == (None, inner)


@pytest.mark.parametrize("rank, targets", [(0, ".*"), (4, "query.*value"), (4, "embedding")])
def test_an_adapter_of_nothing_is_refused(rank, targets):
    with pytest.raises(ModelError, match="rank of at least 1 and changes some of query, key"):
        Lora(rank, 1.0, targets)


def test_parameters_with_an_adapter_need_a_policy_that_knows_of_it():
    policy, base = small(EVERYTHING)
    with pytest.raises(ValueError, match="need a policy with LoRA"):
        hidden(dataclasses.replace(policy, lora=None), Adapted(base, drawn(policy, 0)), random_tokens(0, (1, 3), 50))
