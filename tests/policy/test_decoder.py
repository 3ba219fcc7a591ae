"""The policy's pure functions."""

import dataclasses
import math
import subprocess
import sys
from functools import partial
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from games.text.vocabulary import SLOTS
from maro_jax.policy.attention import CausalAttention, token_positions
from maro_jax.policy.config import MAX_TINY_PARAMETERS, TINY, DecoderConfig, ModelError, tiny_config
from maro_jax.policy.decoder import Policy
from maro_jax.policy.models import load_policy

UNTIED = dataclasses.replace(TINY, vocab_size=50, num_layers=11, tie_embeddings=False)


@partial(jax.jit, static_argnums=0)
def forward(policy: Policy, params, tokens: jax.Array) -> jax.Array:
    positions = token_positions(jnp.zeros(tokens.shape[0], jnp.int32), tokens.shape[1])
    return policy.forward(params, tokens, positions, CausalAttention())[0]


@pytest.mark.parametrize("config", [TINY, UNTIED])
def test_abstract_params_describe_what_init_draws(config):
    policy = Policy(config)
    params = policy.init(jax.random.key(0))
    described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
    assert described == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), policy.abstract_params())
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(params)]
    assert sum(sizes) == policy.num_params()
    assert all(type(key) is str for key in (*params, *params["layers"]))


def test_the_tiny_model_has_at_most_half_a_million_parameters():
    policy, _, tokenizer = load_policy("tiny")
    assert tokenizer.vocab_size <= policy.config.vocab_size == SLOTS
    assert policy.num_params() <= MAX_TINY_PARAMETERS == 500_000
    with pytest.raises(ModelError, match=r"at most (\d+) tokens, not 5000") as caught:
        tiny_config(5000)
    largest = int(str(caught.value).split("at most ")[1].split()[0])
    assert (
        tiny_config(largest).num_params
        <= MAX_TINY_PARAMETERS
        < tiny_config(1).num_params + (largest * TINY.hidden_size)
    )


def test_layers_run_in_order_with_more_than_ten():
    """Layer "10" sorts before layer "2" as text; the tree must not be matched by that order."""
    policy = Policy(UNTIED)
    params = policy.init(jax.random.key(0))
    tokens = jnp.arange(6)[None]
    seen = []

    class Spy:
        def attention(self, layer, q, k, v, places):
            seen.append((layer, np.asarray(q[0, 0, 0, 0])))
            return q, self

    # A query bias marks each layer; position 0 is not rotated, and zero kernels leave the bias.
    for layer in range(11):
        query = params["layers"][str(layer)]["query"]
        query["kernel"] = jnp.zeros_like(query["kernel"])
        query["bias"] = jnp.full_like(query["bias"], layer)
    policy.forward(params, tokens, token_positions(jnp.zeros(1, jnp.int32), 6), Spy())
    assert seen == [(layer, layer) for layer in range(11)]


@pytest.mark.parametrize("config", [tiny_config(50), UNTIED])
def test_token_logits_are_the_logits_of_those_tokens(config):
    policy = Policy(config, precision="highest")
    params = policy.init(jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (2, 7), 0, 50)
    hidden = forward(policy, params, tokens)
    logits = policy.logits(params, hidden)
    assert logits.dtype == jnp.float32
    ids = jax.random.randint(jax.random.key(2), (2, 7, 5), 0, 50)
    expected = jnp.take_along_axis(logits, ids, axis=-1)
    np.testing.assert_allclose(policy.token_logits(params, hidden, ids), expected, atol=1e-6)
    outside = policy.token_logits(params, hidden, jnp.full((2, 7, 1), 99))
    np.testing.assert_allclose(outside[..., 0], logits[..., 49], atol=1e-6)


def test_later_tokens_change_nothing_before_them():
    policy = Policy(tiny_config(50))
    params = policy.init(jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (1, 100), 0, 50)
    changed = tokens.at[0, 70:].set(3)
    before, after = forward(policy, params, tokens), forward(policy, params, changed)
    np.testing.assert_array_equal(before[0, :70], after[0, :70])
    assert (before[0, 70:] != after[0, 70:]).any()


def test_a_new_model_is_near_uniform_and_every_parameter_gets_a_gradient():
    policy = Policy(tiny_config(64))
    params = policy.init(jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (4, 32), 0, 64)

    @jax.jit
    def loss(params):
        log_probs = jax.nn.log_softmax(policy.logits(params, forward(policy, params, tokens)))
        return -jnp.take_along_axis(log_probs[:, :-1], tokens[:, 1:, None], axis=-1).mean()

    assert abs(float(loss(params)) - math.log(64)) < 0.25
    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(params)):
        # A key bias shifts all scores of a query alike but for rotation: small, not zero.
        assert np.isfinite(gradient).all() and jnp.abs(gradient).max() > 0, path


def test_works_where_modules_are_trees():
    """Flax announces modules without graph semantics; the decoder must not depend on them."""
    policy = Policy(dataclasses.replace(TINY, vocab_size=51))
    tokens = jnp.arange(5)[None]
    expected = forward(policy, policy.init(jax.random.key(0)), tokens)
    with nnx.set_graph_mode(False), nnx.set_graph_updates(False):
        fresh = Policy(dataclasses.replace(TINY, vocab_size=51, max_positions=4096))
        hidden = forward(fresh, fresh.init(jax.random.key(0)), tokens)
    np.testing.assert_array_equal(hidden, expected)


def test_precision_reaches_every_matrix_product():
    policy = Policy(tiny_config(50), precision="highest")
    params = policy.abstract_params()
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)

    def everything(params, tokens):
        hidden = forward(policy, params, tokens)
        return policy.logits(params, hidden), policy.token_logits(params, hidden, tokens[..., None])

    text = str(jax.make_jaxpr(everything)(params, tokens))
    products = text.count("dot_general[")
    assert products == policy.config.num_layers * 9 + 2
    assert text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == products


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("dtype", "float64", "float32, bfloat16"), ("precision", "best", "default, high, highest")],
)
def test_refuses_unknown_settings(field, value, message):
    with pytest.raises(ModelError, match=f"{field} must be one of {message}, not '{value}'"):
        Policy(TINY, **{field: value})


def test_refuses_an_odd_head():
    with pytest.raises(ModelError, match="head_dim must be even"):
        dataclasses.replace(TINY, head_dim=25)


def test_config_goes_both_ways():
    assert DecoderConfig.from_hf(TINY.to_hf()) == TINY
    assert DecoderConfig.from_hf(UNTIED.to_hf()) == UNTIED


def test_importing_starts_no_backend():
    code = (
        "import maro_jax.policy.models, maro_jax.policy.sharding, sys\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, 'a backend was started'\n"
    )
    known = tuple(int(part) for part in version("transformers").split(".")[:2])
    if known >= (5, 18):  # older ones import it by themselves
        code += "assert 'torch' not in sys.modules, 'torch was imported'\n"
    subprocess.run([sys.executable, "-c", code], check=True)


SMALL = dataclasses.replace(TINY, vocab_size=50, hidden_size=32, intermediate_size=48, head_dim=8, qk_norm=True)
DEEP = dataclasses.replace(SMALL, num_layers=8)


@partial(jax.jit, static_argnums=(0, 1))
def encoded_gradient(policy: Policy, written_out: bool, params, tokens: jax.Array, segment: jax.Array, places):
    """A loss of the hidden states, and its gradient; by `forward` if the layers are to be written out."""

    def loss(params):
        positions = token_positions(jnp.zeros(tokens.shape[0], jnp.int32), tokens.shape[1])
        given = params, tokens, positions, CausalAttention(segment), places
        hidden = policy.forward(*given)[0] if written_out else policy.encode(*given)
        return jnp.sum(jnp.sin(hidden.astype(jnp.float32) * jnp.arange(hidden.shape[-1])))

    return jax.value_and_grad(loss)(params)


@pytest.mark.parametrize("config, remats, some", [(DEEP, ("none", "full"), False), (SMALL, ("dots", "full"), True)])
def test_the_loop_over_layers_gives_the_gradients_of_layers_written_out(config, remats, some):
    params = Policy(config).init(jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (3, 20), 0, 50)
    segment = jnp.repeat(jnp.array([[0, 1], [0, 0], [0, -1]]), 10, axis=1)
    places = jnp.array([[0, 3, 19], [5, 5, 6], [9, 1, 0]]) if some else None
    want = encoded_gradient(Policy(config, precision="highest"), True, params, tokens, segment, places)
    for remat in remats:
        policy = Policy(config, precision="highest", remat=remat)
        got = encoded_gradient(policy, False, params, tokens, segment, places)
        terms = (tokens if places is None else places).size * config.hidden_size
        assert float(got[0]) == pytest.approx(float(want[0]), abs=1e-6 * terms)
        for one, other in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1]), strict=True):
            assert float(jnp.abs(one - other).max()) < 1e-4 * max(1.0, float(jnp.abs(other).max()))


def test_a_deep_model_makes_no_longer_a_program_and_remat_saves_memory():
    def compiled(layers: int, remat: str):
        policy = Policy(dataclasses.replace(SMALL, num_layers=layers), remat=remat)
        shapes = policy.abstract_params()
        tokens = jax.ShapeDtypeStruct((4, 128), jnp.int32)
        return encoded_gradient.lower(policy, False, shapes, tokens, tokens, None).compile()

    few, many = compiled(9, "full"), compiled(18, "full")
    assert len(many.as_text()) < 1.3 * len(few.as_text())
    kept = compiled(18, "none").memory_analysis().temp_size_in_bytes
    dots = compiled(18, "dots").memory_analysis().temp_size_in_bytes
    assert many.memory_analysis().temp_size_in_bytes < 0.6 * dots < 0.6 * kept


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_for_computing_are_smaller_and_give_the_same_bits(tied):
    policy = Policy(dataclasses.replace(SMALL, tie_embeddings=tied), dtype="bfloat16")
    params = policy.init(jax.random.key(0))
    small = policy.for_computing(params)
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (small, params)]
    assert sizes[0] < 0.55 * sizes[1]
    tokens = jax.random.randint(jax.random.key(1), (2, 9), 0, 50)
    one, other = (forward(policy, tree, tokens) for tree in (small, params))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(policy.logits(small, one), policy.logits(params, one))
    ids = jnp.array([[[3, 49]]])
    np.testing.assert_array_equal(policy.token_logits(small, one, ids), policy.token_logits(params, one, ids))
