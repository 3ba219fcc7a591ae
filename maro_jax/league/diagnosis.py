"""What is not finite where optimizer steps are not: for whoever has to find out why a run ended so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.league.played import Played
from maro_jax.league.trainer import Trainer, TrainState


def diagnose(trainer: Trainer, state: TrainState, played: list[Played], iteration: int) -> dict[str, Any]:
    """Looks for what is not finite after an iteration whose steps were skipped for it.

    A step that is skipped leaves the weights as they were, so the gradients that are taken here, at the weights of now,
    are those of the last step, and of the others too where all were skipped.

    Args:
      trainer: of the run.
      state: after the iteration.
      played: in the iteration.
      iteration: its number, those of the warm start first.

    Returns:
      Plain values. `parameters` and `optimizer`: by name, how many numbers are not finite, where there are any.
      `games`: by game, the episodes in which recorded log-probabilities or credit are not finite. `steps`: for each
      optimizer step of the iteration its loss, its `episodes` by game, the norm of each parameter's gradient, and how
      many of its numbers are not finite.
    """
    warm = iteration < trainer.warm_iterations
    learner, params = trainer.cloner if warm else trainer.learner, state.learner.params
    reference = trainer.reference(state)
    measured = jax.jit(_measure, out_shardings=trainer.learner.replicated)
    steps = []
    for batch in trainer.batches(played, iteration):
        gradients, sums = learner.gradients(
            params, batch.micro_batches, batch.normaliser, reference, trainer.no_point()
        )
        norms, counts = measured(gradients)
        steps.append({
            "loss": float(sums["loss"]),
            "episodes": {of.arena.name: each.tolist() for of, each in zip(played, batch.chosen, strict=True)},
            "gradient_norms": _by_name(norms, float),
            "not_finite": _some(counts),
        })  # fmt: skip
    return {
        "iteration": iteration + 1,
        "optimizer_step": int(state.learner.step),
        "parameters": _some(measured(params)[1]),
        "optimizer": _some(measured(state.learner.opt_state)[1]),
        "games": {of.arena.name: _games(of) for of in played},
        "steps": steps,
    }


def _measure(tree: Any) -> tuple[Any, Any]:
    """Each leaf's norm, and how many of its numbers are not finite."""
    norms = jax.tree.map(lambda leaf: jnp.sqrt(jnp.sum(jnp.square(leaf.astype(jnp.float32)))), tree)
    return norms, jax.tree.map(lambda leaf: jnp.sum(~jnp.isfinite(leaf)), tree)


def _by_name(tree: Any, plain: Callable[[Any], Any]) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): plain(leaf) for path, leaf in leaves}


def _some(counts: Any) -> dict[str, int]:
    return {name: count for name, count in _by_name(counts, int).items() if count}


def _games(played: Played) -> dict[str, list[int]]:
    """By field, the episodes in which it is not finite, where there are any."""
    fields = {"log_probs": played.episodes.log_probs}
    if credit := played.credit:
        fields |= {"returns": credit.returns, "advantages": credit.advantages, "weights": credit.weights}
    found = {}
    for name, values in fields.items():
        wrong = ~np.isfinite(np.asarray(values))
        if wrong.any():
            found[name] = np.flatnonzero(wrong.reshape(len(wrong), -1).any(1)).tolist()
    return found
