"""The optimizers, by name: gradient clipping, then Muon or Adam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from optax import contrib

ADAM_DECAY = 0.99  # of the second moment: runs of a few dozen steps cannot wait for 0.999
# Newton-Schulz steps of Muon, written out: optax then loops over them, which compiles and runs faster than unrolled.
MUON_STEPS = ((3.4445, -4.7750, 2.0315),) * 5
MUON_RMS = 0.2  # root mean square of a Muon step in learning rates, about what Adam's is (Liu et al. 2025)
ADAM_SHARE = 0.5  # of Muon's learning rate, for the parameters that Muon leaves to Adam


def adam(schedule: Callable[[jax.Array], jax.Array]) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015) on every parameter."""
    return optax.adam(schedule, b2=ADAM_DECAY)


def muon(schedule: Callable[[jax.Array], jax.Array]) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) on the matrices of the layers, Adam on embedding, head, norms, biases and adapters.

    Muon replaces a matrix's momentum U Σ Vᵀ by U Vᵀ, so that every direction moves alike: noise cannot pile up in a few
    of them. Steps are scaled to the size of Adam's, so that one learning rate serves matrices of every shape.
    """
    return contrib.muon(
        schedule,
        adam_learning_rate=lambda step: ADAM_SHARE * schedule(step),
        adam_b2=ADAM_DECAY,
        ns_coeffs=MUON_STEPS,
        consistent_rms=MUON_RMS,
        muon_weight_dimension_numbers=_layer_matrices,
    )


OPTIMIZERS: dict[str, Callable[[Callable[[jax.Array], jax.Array]], optax.GradientTransformation]] = {
    "muon": muon,
    "adam": adam,
}


def make_optimizer(
    name: str, schedule: Callable[[jax.Array], jax.Array], max_grad_norm: float
) -> optax.GradientTransformation:
    """An optimizer behind gradient clipping.

    Args:
      name: one of `OPTIMIZERS`.
      schedule: learning rate by optimizer step.
      max_grad_norm: gradients are clipped to this global norm.

    Raises:
      ValueError: no optimizer has this name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {name!r}; for example 'muon'.")
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), OPTIMIZERS[name](schedule))


def _layer_matrices(params: Any) -> Any:
    """Marks the parameters that Muon takes."""

    def mark(path: tuple, leaf: jax.Array) -> contrib.MuonDimensionNumbers | None:
        in_layer = getattr(path[0], "key", None) == "layers"
        is_factor = path[-1].key in ("lora_a", "lora_b")  # it is their product that should move alike in all directions
        return contrib.MuonDimensionNumbers() if in_layer and leaf.ndim == 2 and not is_factor else None

    return jax.tree_util.tree_map_with_path(mark, params)
