"""Which mesh axis splits which dimension of which parameter: two tables."""

import math
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from maro_jax.policy.config import ModelError
from maro_jax.policy.decoder import Policy

MESH_AXES = ("data", "fsdp", "tensor")

# Mesh axis of each logical axis. `fsdp` splits the stream's width, `tensor` what each device can
# compute alone: whole heads, parts of the feed-forward layer, parts of the vocabulary.
RULES: dict[str, str | None] = {
    "embed": "fsdp",
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "norm": None,
    "rank": None,
}

# Logical axes of each parameter, by the end of its path.
LOGICAL_AXES: dict[str, tuple[str, ...]] = {
    "embedding": ("vocab", "embed"),
    "head": ("vocab", "embed"),
    "query/kernel": ("embed", "heads"),
    "query/bias": ("heads",),
    "key/kernel": ("embed", "kv_heads"),
    "key/bias": ("kv_heads",),
    "value/kernel": ("embed", "kv_heads"),
    "value/bias": ("kv_heads",),
    "query_norm/scale": ("norm",),
    "key_norm/scale": ("norm",),
    "output/kernel": ("heads", "embed"),
    "output/bias": ("embed",),
    "gate/kernel": ("embed", "mlp"),
    "up/kernel": ("embed", "mlp"),
    "down/kernel": ("mlp", "embed"),
    "attention_norm/scale": ("norm",),
    "mlp_norm/scale": ("norm",),
    "final_norm/scale": ("norm",),
}


def make_mesh(data: int, fsdp: int, tensor: int) -> Mesh:
    """Returns a mesh over all devices with the axes `data`, `fsdp` and `tensor`, all Auto.

    Args:
        data: how many times the parameters are held.
        fsdp: over how many devices the stream's width is split.
        tensor: over how many devices heads, feed-forward and vocabulary are split.

    Raises:
        ModelError: the product is not the number of devices.
    """
    sizes = (data, fsdp, tensor)
    if min(sizes) < 1 or math.prod(sizes) != jax.device_count():
        raise ModelError(
            f"data {data} x fsdp {fsdp} x tensor {tensor} must be {jax.device_count()}, the number "
            f"of devices, for example data {jax.device_count()}, fsdp 1, tensor 1."
        )
    types = (AxisType.Auto,) * len(MESH_AXES)
    try:
        return jax.make_mesh(sizes, MESH_AXES, axis_types=types)
    except NotImplementedError:  # a TPU's torus has no axes of these sizes
        devices = mesh_utils.create_device_mesh(sizes, allow_split_physical_axes=True)
        return Mesh(devices, MESH_AXES, axis_types=types)


def partition_specs(shapes: Any) -> Any:
    """Returns a `PartitionSpec` for each parameter, of a model or an adapter, as a tree like `shapes`."""

    def spec(path: tuple[jax.tree_util.DictKey, ...], _: Any) -> PartitionSpec:
        return PartitionSpec(*(RULES[axis] for axis in _logical_axes(path)))

    return jax.tree_util.tree_map_with_path(spec, shapes)


def trained_shardings(policy: Policy, mesh: Mesh) -> Any:
    """Returns a `NamedSharding` for each array that training changes; else as `parameter_shardings`."""
    parameter_shardings(policy, mesh)  # refuses what it cannot split
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), partition_specs(policy.abstract_trained()))


def parameter_shardings(policy: Policy, mesh: Mesh) -> Any:
    """Returns a `NamedSharding` for each parameter, as a tree like the parameters.

    Args:
        policy: the model.
        mesh: with the axes of `make_mesh`.

    Raises:
        ModelError: a mesh axis does not divide what it splits.
    """
    config = policy.config
    # Heads are counted whole: a device that held part of a head could not attend alone.
    sizes = {
        "hidden_size": ("embed", config.hidden_size),
        "vocab_size": ("vocab", config.vocab_size),
        "num_heads": ("heads", config.num_heads),
        "num_kv_heads": ("kv_heads", config.num_kv_heads),
        "intermediate_size": ("mlp", config.intermediate_size),
    }
    for name, (logical, size) in sizes.items():
        axis = RULES[logical]
        if axis is not None and size % mesh.shape[axis]:
            divisors = [str(n) for n in range(1, mesh.size + 1) if size % n == 0]
            raise ModelError(
                f"the mesh axis {axis!r} has {mesh.shape[axis]} devices, which does not divide "
                f"{name} {size}; possible here: {', '.join(divisors)}."
            )
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), partition_specs(policy.abstract_params()))


def _logical_axes(path: tuple[jax.tree_util.DictKey, ...]) -> tuple[str, ...]:
    """Returns the logical axes of the parameter at `path`."""
    keys = [str(entry.key) for entry in path]
    if keys[-1] in ("lora_a", "lora_b"):  # an adapter's factors are split as the kernel they change
        outer, inner = LOGICAL_AXES[f"{keys[-2]}/kernel"]
        return (outer, "rank") if keys[-1] == "lora_a" else ("rank", inner)
    return LOGICAL_AXES["/".join(keys[-2:])] if len(keys) > 1 else LOGICAL_AXES[keys[0]]
