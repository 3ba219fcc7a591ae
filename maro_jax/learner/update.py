"""The update: gradients summed over micro-batches, and one optimizer step, unless the guard does not let it pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maro_jax.credit.objective import CreditOptions
from maro_jax.learner.decisions import Decisions
from maro_jax.learner.guard import Norms
from maro_jax.learner.loss import micro_batch_loss
from maro_jax.learner.optimizer import make_optimizer
from maro_jax.learner.packing import PackingShape, Streams
from maro_jax.policy.lora import with_base
from maro_jax.policy.sharding import trained_shardings
from maro_jax.run.distributed import put

BATCH_AXES = ("data", "fsdp")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LearnerState:
    """What the optimizer changes.

    Attributes:
      params: the policy's parameters, or with LoRA those of the adapter alone.
      opt_state: the optimizer's state.
      step: int32[], optimizer steps taken or skipped.
      bad_steps: int32[], steps skipped in a row because something was not finite.
      norms: the last gradient norms.
    """

    params: Any
    opt_state: Any
    step: jax.Array
    bad_steps: jax.Array
    norms: Norms


class Learner:
    """Learning steps of a policy in its games, compiled once for each width of micro-batch.

    Gradients, parameters and optimizer state keep the parameters' shardings; rows are split over `data` and `fsdp`.
    """

    def __init__(
        self,
        decisions: Decisions,
        shapes: tuple[PackingShape, ...],
        mesh: Mesh,
        options: CreditOptions,
        schedule: Callable[[jax.Array], jax.Array],
        *,
        optimizer: str,
        max_grad_norm: float,
        max_spike: float,
        entropy_weight: float,
        magnet_weight: float = 0.0,
        context_weight: float = 0.0,
        base: Any = None,
    ):
        """Prepares the compiled functions; nothing is compiled before the first use.

        Args:
          decisions: the games that are learnt.
          shapes: of the micro-batches.
          mesh: with the axes data, fsdp, tensor.
          options: credit's switches.
          schedule: learning rate by optimizer step.
          optimizer: `muon` or `adam`.
          max_grad_norm: gradients are clipped to this global norm.
          max_spike: steps whose norm stands out by more standard deviations are skipped; 0: none for that.
          entropy_weight: weight of the entropy bonus.
          magnet_weight: weight of the KL to the magnet, which then takes the reference's place.
          context_weight: weight of language modelling beside the replies (for cloning).
          base: with LoRA, the frozen model's parameters.
        """
        self.decisions, self.shapes, self.options = decisions, shapes, options
        self.shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
        self.schedule = schedule
        self.optimizer = make_optimizer(optimizer, schedule, max_grad_norm)
        kto, elsewhere = options.utility == "kto", options.reference != "iteration"
        self.uses_kl = kto and options.reference_point == "token_kl" and not elsewhere
        if magnet_weight and (self.uses_kl or (kto and elsewhere)):
            raise ValueError("a magnet takes the place of the reference that KTO measures to")
        self.uses_reference = self.uses_kl or (kto and elsewhere) or magnet_weight > 0
        self.base = base
        self.params_sharding = trained_shardings(decisions.policy, mesh)
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self.batch_sharding = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
        self.max_spike = max_spike
        self.entropy_weight, self.context_weight = entropy_weight, context_weight
        self.magnet_weight = magnet_weight
        sums_sharding = jax.tree.map(lambda _: self.replicated, self._zero_sums())
        self._accumulate = jax.jit(
            self._accumulate_fn, donate_argnums=(0, 1), out_shardings=(self.params_sharding, sums_sharding)
        )
        self._apply = jax.jit(self._apply_fn, donate_argnums=0)
        self._zeros = jax.jit(
            lambda params: (jax.tree.map(jnp.zeros_like, params), self._zero_sums()),
            out_shardings=(self.params_sharding, sums_sharding),
        )

    def init(self, params: Any) -> LearnerState:
        """A fresh state around parameters (copied, and laid out as the mesh asks)."""
        params = put(params, self.params_sharding)
        params = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=self.params_sharding)(params)
        zero = put(np.int32(0), self.replicated)
        shardings = self.optimizer_layout(params)[1]
        opt_state = jax.jit(self.optimizer.init, out_shardings=shardings)(params)
        norms = jax.jit(Norms.none, out_shardings=self.replicated)()
        return LearnerState(params, opt_state, zero, jnp.copy(zero), norms)

    def optimizer_layout(self, params: Any) -> tuple[Any, Any]:
        """Shapes and shardings of the optimizer's state for parameters, or for their shapes."""
        shape = jax.eval_shape(self.optimizer.init, params)
        shardings = optax.tree.map_params(
            self.optimizer,
            lambda leaf, sharding: leaf if isinstance(leaf, optax.MaskedNode) else sharding,
            shape,
            self.params_sharding,
            transform_non_params=lambda _: self.replicated,
            is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode),
        )
        return shape, shardings

    def step(
        self,
        state: LearnerState,
        micro_batches: Iterable[Streams],
        normaliser: float,
        reference: Any,
        reference_point: jax.Array,
    ) -> tuple[LearnerState, dict[str, Any]]:
        """One optimizer step over some micro-batches.

        Args:
          state: before the step; donated.
          micro_batches, normaliser, reference, reference_point: as for `gradients`.

        Returns:
          The state after the step, and sums of `micro_batch_loss` with `grad_norm`, `skipped`, `spikes`, `bad_steps`.
        """
        given = micro_batches, normaliser, reference, reference_point
        return self._apply(state, *self.gradients(state.params, *given))

    def gradients(
        self,
        params: Any,
        micro_batches: Iterable[Streams],
        normaliser: float,
        reference: Any,
        reference_point: jax.Array,
    ) -> tuple[Any, dict[str, Any]]:
        """The loss's gradients over some micro-batches.

        Args:
          params: where they are taken.
          micro_batches: their behaviours are learnt from.
          normaliser: E n̄ of the episodes they come from.
          reference: parameters of the reference policy or the magnet (read only if `uses_reference`).
          reference_point: float32[phases], z0 in force.

        Returns:
          Gradients, laid out as the parameters are, and sums of `micro_batch_loss`.
        """
        grads, sums = self._zeros(params)
        scale = put(np.float32(1.0 / normaliser), self.replicated)
        for streams in micro_batches:
            placed = put(streams, self.batch_sharding)
            known = reference if self.uses_reference else None
            grads, sums = self._accumulate(grads, sums, params, self.base, known, reference_point, scale, placed)
        return grads, sums

    def _zero_sums(self) -> dict[str, jax.Array]:
        names = (
            "loss", "entropy", "magnet_kl", "tokens", "behaviours", "log_prob", "log_ratio_squared", "gradient_scale",
            "saturated", "clipped",
        )  # fmt: skip
        phases = self.decisions.num_phases
        return {name: jnp.float32(0) for name in names} | {
            name: jnp.zeros((phases,), jnp.float32) for name in ("kl", "action_entropy", "phase_behaviours")
        }

    def _accumulate_fn(
        self,
        grads: Any,
        sums: Any,
        params: Any,
        base: Any,
        reference: Any,
        point: jax.Array,
        scale: jax.Array,
        streams: Streams,
    ) -> tuple[Any, Any]:
        def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            return micro_batch_loss(
                with_base(base, params),
                self.decisions,
                self.options,
                None if reference is None else with_base(base, reference),
                point,
                self.entropy_weight,
                self.magnet_weight,
                self.context_weight,
                scale,
                streams,
                self.shards,
            )

        (_, new_sums), new = jax.value_and_grad(loss, has_aux=True)(params)
        # Under Auto axes gradients would lose the fsdp axis of their parameters.
        new = jax.lax.with_sharding_constraint(new, self.params_sharding)
        return jax.tree.map(jnp.add, grads, new), jax.tree.map(jnp.add, sums, new_sums)

    def _apply_fn(self, state: LearnerState, grads: Any, sums: dict) -> tuple[LearnerState, dict]:
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(sums["loss"])
        spike = finite & state.norms.stands_out(norm, self.max_spike)
        good = finite & ~spike
        safe = jax.tree.map(lambda g: jnp.where(good, g, 0.0), grads)
        updates, opt_state = self.optimizer.update(safe, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)

        following = LearnerState(
            params=keep(params, state.params),
            opt_state=keep(opt_state, state.opt_state),
            step=state.step + 1,
            bad_steps=jnp.where(finite, 0, state.bad_steps + 1),
            norms=state.norms.remember(norm),
        )
        rate = jnp.asarray(self.schedule(state.step), jnp.float32)
        told = {"grad_norm": norm, "skipped": 1.0 - good, "spikes": 1.0 * spike, "learning_rate": rate}
        told["bad_steps"] = following.bad_steps
        return following, sums | told
