"""The optimizers against their formulas."""

import jax
import numpy as np
import optax
import pytest

from maro_jax.learner.optimizer import ADAM_SHARE, MUON_RMS, make_optimizer
from maro_jax.policy.config import tiny_config
from maro_jax.policy.decoder import Policy

RATE = 1e-2


def first_step(name: str, max_grad_norm: float = 1e9):
    """Parameters, gradients, and the step an optimizer takes first."""
    params = Policy(tiny_config(50)).init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    gradients = tree.unflatten([jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)])
    optimizer = make_optimizer(name, optax.constant_schedule(RATE), max_grad_norm)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return gradients, updates


def test_muon_moves_every_direction_of_a_layers_matrix_alike():
    gradients, updates = first_step("muon")
    block, step = gradients["layers"]["0"], updates["layers"]["0"]
    for name in ("query", "output", "gate", "down"):
        left, _, right = np.linalg.svd(np.asarray(block[name]["kernel"]), full_matrices=False)
        moved = np.asarray(step[name]["kernel"])
        scale = RATE * MUON_RMS * np.sqrt(max(moved.shape))
        # The iteration maps all but the smallest singular values to about 1.
        inner = np.quantile(np.linalg.svd(moved, compute_uv=False), [0.1, 0.9])
        np.testing.assert_allclose(inner, scale, rtol=0.35)
        direction = np.sum(-moved * (left @ right)) / (np.linalg.norm(moved) * np.linalg.norm(left @ right))
        assert direction > 0.98


def test_muon_leaves_embedding_norms_and_biases_to_adam():
    gradients, updates = first_step("muon")
    slope, step = gradients["layers"]["0"], updates["layers"]["0"]
    for gradient, moved in (
        (gradients["embedding"], updates["embedding"]),
        (slope["attention_norm"]["scale"], step["attention_norm"]["scale"]),
        (slope["query"]["bias"], step["query"]["bias"]),
    ):
        # Nesterov's momentum: b1 (1 - b1) / (1 - b1²) of the gradient to come, and the gradient itself.
        size = ADAM_SHARE * RATE * (1 + 0.9 * 0.1 / (1 - 0.9**2))
        np.testing.assert_allclose(moved, -size * np.sign(np.asarray(gradient)), rtol=1e-3)


def test_adam_takes_a_first_step_of_the_learning_rate():
    gradients, updates = first_step("adam")
    np.testing.assert_allclose(updates["embedding"], -RATE * np.sign(gradients["embedding"]), rtol=1e-3)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="muon, adam, not 'sgd'"):
        make_optimizer("sgd", optax.constant_schedule(RATE), 1.0)
