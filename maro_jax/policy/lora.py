"""LoRA (Hu et al. 2022, arXiv:2106.09685): a frozen model's matrices W, each changed by a product of two thin ones.

    y = x W + (alpha / rank) (x A) B,   A [in, rank], B [rank, out]

B begins as zero, so that a new adapter changes nothing: an adapter switched off is the model itself. Only A and B are
trained, kept by an optimizer and saved. A batch may hold rows of different adapters over one base: A is then
`[rows, in, rank]`.

We compute it ourselves instead of intercepting a plain model's products: that way the products see each row's own
adapter. The tests hold it against PEFT.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from maro_jax.policy.config import ModelError
from maro_jax.run.inputs import LAYER_MATRICES

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which matrices are changed, and how.

    Attributes:
        rank: columns of A, rows of B.
        alpha: the change is multiplied by alpha / rank.
        targets: regular expression; in every layer those of `LAYER_MATRICES` are changed whose whole name it matches.
    """

    rank: int
    alpha: float
    targets: str

    def __post_init__(self) -> None:
        """Raises `ModelError` for a rank below 1 or targets that match nothing."""
        if self.rank < 1 or not self.matrices:
            raise ModelError(
                f"an adapter has a rank of at least 1 and changes some of {', '.join(LAYER_MATRICES)}, not "
                f"{self.targets!r} with rank {self.rank}; for example 'query|value' with rank 8."
            )

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the matrices that are changed."""
        return tuple(name for name in LAYER_MATRICES if re.fullmatch(self.targets, name))

    @property
    def scale(self) -> float:
        """What the product of A and B is multiplied by."""
        return self.alpha / self.rank


def lora_of(settings: Mapping[str, Any]) -> Lora | None:
    """Returns LoRA as the settings of a run have it; those of older runs know none."""
    if not settings.get("lora_rank"):
        return None
    return Lora(settings["lora_rank"], settings["lora_alpha"], settings["lora_targets"])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Adapted:
    """A frozen model and an adapter, which together are a policy's parameters.

    Attributes:
        base: parameters of the model.
        adapter: `layers/<layer>/<matrix>/{lora_a, lora_b}`; leaves may have an axis before their two, over adapters or
            over the rows of a batch.
    """

    base: Params
    adapter: Params


def abstract_adapter(lora: Lora, shapes: Params) -> Params:
    """Returns shapes and types of an adapter, as `jax.ShapeDtypeStruct`s, for a model of these shapes."""

    def factors(kernel: Any) -> Params:
        return {
            "lora_a": jax.ShapeDtypeStruct((kernel.shape[0], lora.rank), jnp.float32),
            "lora_b": jax.ShapeDtypeStruct((lora.rank, kernel.shape[1]), jnp.float32),
        }

    layers = {
        layer: {name: factors(block[name]["kernel"]) for name in lora.matrices}
        for layer, block in shapes["layers"].items()
    }
    return {"layers": layers}


def new_adapter(lora: Lora, shapes: Params, key: jax.Array) -> Params:
    """Draws an adapter that changes nothing yet: A uniform within ±1/sqrt(in), as PEFT has it, and B zero.

    Args:
        lora: which matrices, and the rank.
        shapes: of the model's parameters.
        key: of the draw.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(abstract_adapter(lora, shapes))

    def draw(index: int, path: Any, leaf: Any) -> jax.Array:
        if path[-1].key == "lora_b":
            return jnp.zeros(leaf.shape, leaf.dtype)
        bound = 1 / math.sqrt(leaf.shape[0])
        return jax.random.uniform(jax.random.fold_in(key, index), leaf.shape, leaf.dtype, -bound, bound)

    return jax.tree.unflatten(tree, [draw(index, path, leaf) for index, (path, leaf) in enumerate(leaves)])


def join(lora: Lora, params: Adapted) -> Params:
    """Returns the base with the adapter's factors beside its kernels; B holds the scale."""

    def beside(matrix: Params, factors: Params) -> Params:
        return matrix | {"lora_a": factors["lora_a"], "lora_b": factors["lora_b"] * lora.scale}

    layers = {
        layer: block | {name: beside(block[name], of) for name, of in params.adapter["layers"][layer].items()}
        for layer, block in params.base["layers"].items()
    }
    return params.base | {"layers": layers}


def merged(lora: Lora, params: Adapted) -> Params:
    """Returns parameters of a plain model that computes the same: W + scale · A B, in float32."""

    def change(matrix: Params, factors: Params) -> Params:
        product = jnp.matmul(factors["lora_a"], factors["lora_b"], precision=jax.lax.Precision.HIGHEST)
        return matrix | {"kernel": matrix["kernel"].astype(jnp.float32) + lora.scale * product}

    layers = {
        layer: block | {name: change(block[name], of) for name, of in params.adapter["layers"][layer].items()}
        for layer, block in params.base["layers"].items()
    }
    return params.base | {"layers": layers}


def with_base(base: Params | None, trained: Any) -> Any:
    """Returns a policy's parameters from what is trained: an adapter on `base`, or all of them (`base` None)."""
    return trained if base is None else Adapted(base, trained)


def parameter_sets(base: Params | None, trained: Sequence[Any]) -> tuple[Params, ...] | Adapted:
    """Returns the parameter sets of a rollout: one after the other, or adapters of one `base` along a new first axis.

    Whole sets stay apart: a program that picked one from an array would copy it before every step.
    """
    if base is None:
        return tuple(trained)
    return Adapted(base, _stacked(*trained))


@jax.jit
def _stacked(*trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def select(sets: tuple[Params, ...] | Adapted, index: Any) -> Any:
    """Picks one of the `parameter_sets`.

    Args:
        sets: whole ones, or adapters of one base.
        index: int, or for adapters also int32[rows]: one for each row.
    """
    if isinstance(sets, Adapted):
        return Adapted(sets.base, jax.tree.map(lambda leaf: leaf[index], sets.adapter))
    return sets[index]
