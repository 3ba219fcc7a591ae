"""What a run will hold in a device's memory, counted from shapes before anything is compiled."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from maro_jax.league.arena import Arena
from maro_jax.league.trainer import Trainer
from maro_jax.learner.loss import micro_batch_loss
from maro_jax.learner.packing import PackingShape, empty_streams
from maro_jax.learner.update import Learner
from maro_jax.policy.attention import init_cache
from maro_jax.policy.config import DecoderConfig
from maro_jax.policy.lora import with_base
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import Episodes
from maro_jax.selfplay.lanes import LaneState
from maro_jax.selfplay.table import RolloutSizes

MODELS = 2  # parameter sets of a self-play rollout: the learner's and the frozen opponent's


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one device, by what they are for.

    Attributes:
      resident: held all the time.
      playing: held while episodes are played, of the game that needs most.
      learning: held during an optimizer step, at the widest micro-batch.
    """

    resident: Mapping[str, int]
    playing: Mapping[str, int]
    learning: Mapping[str, int]

    @property
    def peak(self) -> int:
        """The most there is at once: playing and learning take turns."""
        return sum(self.resident.values()) + max(sum(self.playing.values()), sum(self.learning.values()))

    def text(self) -> str:
        """One line: the peak, then each sum with its largest part."""
        parts = []
        for name, sizes in (("always", self.resident), ("playing", self.playing), ("learning", self.learning)):
            largest = max(sizes, key=lambda part: sizes[part])
            parts.append(f"{name} {gibibytes(sum(sizes.values()))}, {largest} {gibibytes(sizes[largest])} of it")
        return f"{gibibytes(self.peak)} GiB a device ({'; '.join(parts)})"


def plan_memory(trainer: Trainer) -> MemoryPlan:
    """Counts what the trainer's programs and state will take on each device.

    State, caches and episodes are counted exactly. A step of the model while playing is estimated. A gradient is
    counted as what its backward pass reads of the forward one, before XLA fuses: on a CPU learning then took 0.6 to
    1.15 times that in float32, and up to 1.6 times in bfloat16, which a CPU computes by way of float32.
    """
    learner = trainer.learner
    policy = learner.decisions.policy
    shapes, shardings = learner.optimizer_layout(policy.abstract_trained())
    params = _sharded(policy.abstract_trained(), learner.params_sharding)
    kinds = [learner] + [trainer.cloner] * (trainer.warm_iterations > 0)
    activations = max(gradient_bytes(each, each.shapes[-1]) for each in kinds)
    learning = {"gradients": 2 * params, "activations": activations}  # the sum, and those to be added
    if learner.uses_kl:
        learning["reference"] = params
    resident = {"parameters": params, "optimizer": _sharded(shapes, shardings), "warm start": params}
    if trainer.base is not None:  # for learning, and whole for playing, where that is not the same
        shares = jax.tree.map(lambda leaf: leaf.sharding, trainer.base)
        resident["frozen model"] = _sharded(trainer.base, shares)
        if resident["frozen model"] < _bytes(trainer.base):
            resident["frozen model, whole"] = _bytes(trainer.base)
    if trainer.config.keeps_magnet:
        resident["magnet"] = params
    if trainer.config.meets_past_selves:
        resident["past selves"] = trainer.config.pool_size * params
    if trainer.value:  # sums so far, and those of the iteration
        resident["value function"] = 2 * 4 * trainer.value.num_features**2
    return MemoryPlan(
        resident=resident,
        playing=max(_all_playing(trainer, trainer.arenas[0].sizes.lanes), key=lambda of: sum(of.values())),
        learning=learning,
    )


def _all_playing(trainer: Trainer, lanes: int) -> Iterator[dict[str, int]]:
    """What each rollout of self-play takes on a device with so many lanes."""
    for arena in trainer.arenas:
        yield playing_bytes(arena, RolloutSizes.fit(arena.table, lanes, arena.sizes.capacity))
    for forking in trainer.forking:
        arena = forking.arena
        sizes = RolloutSizes.fit(arena.table, min(lanes, arena.sizes.lanes), arena.sizes.capacity)
        playing = playing_bytes(arena, sizes)
        yield playing | {"past of forks": playing["episodes"]}  # beside what comes of it


def playing_bytes(arena: Arena, sizes: RolloutSizes) -> dict[str, int]:
    """What a rollout of the arena's game takes on a device with some other sizes."""
    table, spec = arena.table, arena.table.spec
    policy, config = table.policy, table.policy.config
    cache = jax.eval_shape(
        lambda: init_cache(
            config,
            rows=sizes.lanes * spec.num_seats,
            capacity=sizes.capacity,
            prefix_rows=MODELS * len(spec.roles),
            prefix_capacity=table.lexicon.prefix_tokens.shape[1],
            dtype=policy.dtype,
            block=sizes.block,
        )
    )
    episodes = arena.episodes // arena.mesh.size
    lanes = jax.eval_shape(lambda: LaneState.idle(table, sizes.lanes, episodes))
    weights = jax.eval_shape(policy.for_computing, policy.abstract_trained())
    return {
        "weights": MODELS * _bytes(weights),
        "caches": _bytes(cache),
        "episodes": _bytes(jax.eval_shape(lambda: Episodes.empty(spec, episodes, sizes.capacity))) + _bytes(lanes),
        "a step": _step_bytes(config, sizes, jnp.dtype(policy.dtype).itemsize),
    }


def _step_bytes(config: DecoderConfig, sizes: RolloutSizes, itemsize: int) -> int:
    """About what a layer and the head hold for the widest model step."""
    rows = max(sizes.ingest_rows, sizes.decode_rows)
    tokens = max(sizes.ingest_rows * sizes.ingest_tokens, sizes.decode_rows * sizes.decode_tokens)
    layer = 4 * config.hidden_size + 3 * config.intermediate_size
    scores = config.num_heads * (sizes.block + config.head_dim)
    return tokens * (layer * itemsize + scores * 4) + 3 * rows * config.vocab_size * 4


def gradient_bytes(learner: Learner, shape: PackingShape) -> int:
    """What the backward pass of a micro-batch's share of a device reads of its forward pass, parameters apart.

    Where layers are computed again, what one of them then keeps is added.
    """
    policy = learner.decisions.policy
    kept = _kept_bytes(learner, shape, policy.chosen_remat)
    if policy.chosen_remat == "none":
        return kept
    return kept + (_kept_bytes(learner, shape, "none") - kept) // policy.config.num_layers


def _kept_bytes(learner: Learner, shape: PackingShape, remat: str) -> int:
    """What the forward pass keeps for the backward one; of parameters the copies alone, as those stacked for a loop."""
    rows = dataclasses.replace(shape, rows=shape.rows // learner.shards)
    tables = [
        dataclasses.replace(table, policy=dataclasses.replace(table.policy, remat=remat))
        for table in learner.decisions.tables
    ]
    decisions = dataclasses.replace(learner.decisions, tables=tuple(tables))
    params = decisions.policy.abstract_trained()
    reference = params if learner.uses_reference else None
    residuals = jax.make_jaxpr(
        lambda params, base, reference, streams: jax.vjp(
            lambda params: micro_batch_loss(
                with_base(base, params),
                decisions,
                learner.options,
                None if reference is None else with_base(base, reference),
                jnp.zeros((decisions.num_phases,)),
                learner.entropy_weight,
                learner.magnet_weight,
                learner.context_weight,
                jnp.float32(1),
                streams,
            )[0],
            params,
        )[1]
    )(params, learner.base, reference, empty_streams(decisions, rows)).jaxpr
    kept = dict.fromkeys(var for var in residuals.outvars if not isinstance(var, Literal))
    held = residuals.invars[: len(jax.tree.leaves((params, learner.base, reference)))]
    return _bytes([var.aval for var in kept if var not in held])


def check_memory(trainer: Trainer, plan: MemoryPlan, available: int | None) -> None:
    """Refuses a run that cannot fit.

    Args:
      trainer: of the run.
      plan: from `plan_memory`.
      available: bytes of a device, None where nothing is known.

    Raises:
      ConfigError: what is needed, what there is, and what would fit.
    """
    if available is None or plan.peak <= available:
        return
    needed = f"the run needs {plan.text()}, but a device has {gibibytes(available)}"
    policy, room = trainer.decisions.policy, available - sum(plan.resident.values())
    if sum(plan.learning.values()) > room:
        way = "split the parameters over more devices, for example --fsdp=4"
        if policy.chosen_remat != "full":
            way = f"keep less for the gradient (--remat=full), or {way}"
        raise ConfigError(f"{needed}; learning alone does not fit: {way}")
    lanes = most_lanes(trainer, plan, available)
    if not lanes:
        raise ConfigError(f"{needed}; not even a lane a device fits: ask for shorter streams (--capacity) or a game "
                          "with fewer seats")  # fmt: skip
    raise ConfigError(f"{needed}; --lanes={lanes} would fit")


def most_lanes(trainer: Trainer, plan: MemoryPlan, available: int | None) -> int:
    """The most lanes that fit, of those the trainer's arenas have, half as many, and so on; 0 if none do.

    Args:
      trainer: of the run.
      plan: from `plan_memory`.
      available: bytes of a device, None where nothing is known: then everything fits.
    """
    lanes, devices = trainer.arenas[0].sizes.lanes, trainer.arenas[0].mesh.size
    room = math.inf if available is None else available - sum(plan.resident.values())
    while lanes and not _lanes_fit(trainer, lanes, room):
        lanes //= 2
    return lanes * devices


def _lanes_fit(trainer: Trainer, lanes: int, room: float) -> bool:
    """Whether every game fits with so many lanes on a device."""
    return all(sum(playing.values()) <= room for playing in _all_playing(trainer, lanes))


def device_memory() -> int | None:
    """Bytes that a device can hold, None where nothing is known; virtual CPU devices share the machine's."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    text = limit.read_text().strip() if limit.is_file() else ""
    return (min(total, int(text)) if text.isdigit() else total) // jax.local_device_count()


def gibibytes(size: int) -> str:
    """A size in GiB with as many digits as matter."""
    value = size / 2**30
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def _bytes(tree: Any) -> int:
    """Bytes of the arrays of a tree; keys of random numbers do not count."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def _sharded(shapes: Any, shardings: Any) -> int:
    """Bytes of a tree's arrays on one device."""
    return sum(
        int(np.prod(sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
        for leaf, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True)
    )
