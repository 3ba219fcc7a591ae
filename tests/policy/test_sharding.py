"""Parameters on meshes of eight devices."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maro_jax.policy.attention import CausalAttention, token_positions
from maro_jax.policy.config import TINY, ModelError
from maro_jax.policy.decoder import Policy
from maro_jax.policy.models import usual_dtype
from maro_jax.policy.sharding import make_mesh, parameter_shardings, partition_specs

CONFIG = dataclasses.replace(TINY, vocab_size=256, num_layers=1, tie_embeddings=False)
POLICY = Policy(CONFIG, precision="highest")


def test_every_parameter_has_a_spec_of_its_rank():
    specs = partition_specs(POLICY.abstract_params())
    params = POLICY.abstract_params()
    assert jax.tree.structure(specs) == jax.tree.structure(params)
    assert all(jax.tree.leaves(jax.tree.map(lambda spec, leaf: len(spec) == leaf.ndim, specs, params)))
    layer = specs["layers"]["0"]
    assert specs["embedding"] == specs["head"] == PartitionSpec("tensor", "fsdp")
    assert layer["query"] == {
        "kernel": PartitionSpec("fsdp", "tensor"),
        "bias": PartitionSpec("tensor"),
    }
    assert layer["down"]["kernel"] == layer["output"]["kernel"] == PartitionSpec("tensor", "fsdp")
    assert specs["final_norm"]["scale"] == PartitionSpec(None)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 8, 1)])
def test_sharded_model_computes_the_same(sizes):
    mesh = make_mesh(*sizes)
    assert mesh.axis_names == ("data", "fsdp", "tensor")
    assert mesh.axis_types == (AxisType.Auto,) * 3
    shardings = parameter_shardings(POLICY, mesh)
    params = POLICY.init(jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (8, 20), 0, 256)

    def loss(params, tokens):
        positions = token_positions(jnp.zeros(8, jnp.int32), 20)
        hidden, _ = POLICY.forward(params, tokens, positions, CausalAttention())
        return jax.nn.log_softmax(POLICY.logits(params, hidden))[..., 7].mean()

    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    replicated = NamedSharding(mesh, PartitionSpec())
    step = jax.jit(
        jax.value_and_grad(loss),
        in_shardings=(shardings, rows),
        out_shardings=(replicated, shardings),
    )
    value, gradients = step(jax.device_put(params, shardings), jax.device_put(tokens, rows))
    expected, expected_gradients = jax.jit(jax.value_and_grad(loss))(params, tokens)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for sharded, single in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        assert np.linalg.norm(sharded - single) <= 1e-5 * np.linalg.norm(single)
    kernel = gradients["layers"]["0"]["gate"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (96 // sizes[1], 256 // sizes[2])


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 2, 1), (16, 1, 1), (-8, -1, 1)])
def test_refuses_a_mesh_of_another_size(sizes):
    with pytest.raises(ModelError, match="must be 8, the number of devices"):
        make_mesh(*sizes)


@pytest.mark.parametrize(
    ("config", "sizes", "message"),
    [
        (POLICY.config, (1, 2, 4), "'tensor' has 4 devices, .* num_kv_heads 2; .*: 1, 2"),
        (
            dataclasses.replace(TINY, hidden_size=100, vocab_size=256),
            (1, 8, 1),
            "'fsdp' has 8 devices, .* hidden_size 100; .*: 1, 2, 4, 5",
        ),
        (dataclasses.replace(TINY, vocab_size=257), (4, 1, 2), "vocab_size 257; .*: 1"),
    ],
)
def test_refuses_what_does_not_divide(config, sizes, message):
    with pytest.raises(ModelError, match=message):
        parameter_shardings(Policy(config), make_mesh(*sizes))


def test_where_no_axes_of_a_torus_have_the_sizes_they_are_split(monkeypatch):
    def refused(*_, **__):
        raise NotImplementedError

    expected = make_mesh(2, 4, 1)
    monkeypatch.setattr(jax, "make_mesh", refused)
    mesh = make_mesh(2, 4, 1)
    assert mesh.shape == expected.shape and set(mesh.devices.flat) == set(jax.devices())
    assert mesh.axis_types == expected.axis_types


@pytest.mark.parametrize(
    ("platform", "capability", "dtype"),
    [("cpu", None, "float32"), ("tpu", None, "bfloat16"), ("gpu", "9.0", "bfloat16"), ("gpu", "7.5", "float32")],
)
def test_activations_are_of_the_type_that_the_devices_multiply(monkeypatch, platform, capability, dtype):
    device = SimpleNamespace(platform=platform, compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert usual_dtype() == dtype
