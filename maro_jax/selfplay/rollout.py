"""The rollout: a batch of episodes played to their ends in one compiled program.

    while some lane has work:
        advance the games               (step, refill, render, scripted seats)
        a few model steps               (ingest many pending tokens of few rows, or decode few tokens of many rows)

Each lane is at its own place, so that nobody waits for the longest reply or the longest news. On several devices every
device plays its share of the episodes under `shard_map`, with no collective inside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from maro_jax.policy.attention import KVCache, init_cache, prefill_prefix
from maro_jax.policy.lora import Adapted, select
from maro_jax.selfplay.episodes import LEARNER, OPPONENT, Episodes, RolloutPlan
from maro_jax.selfplay.lanes import IDLE, WAITING, LaneState, advance
from maro_jax.selfplay.reply import model_step, pending
from maro_jax.selfplay.table import RolloutSizes, Table

ROLLOUT_AXES = ("data", "fsdp", "tensor")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Usage:
    """What a rollout spent; one entry a device, to be summed.

    Attributes:
      ingest: float32[D, 2], useful and issued token slots of ingest steps.
      decode: float32[D, 2], the same of decode steps.
      steps: float32[D, 2], ingest and decode steps.
      sampled: float32[D], tokens sampled by the model.
      busy: float32[D, 2], lanes with an episode and lanes, summed over slices.
    """

    ingest: jax.Array
    decode: jax.Array
    steps: jax.Array
    sampled: jax.Array
    busy: jax.Array

    @staticmethod
    def zero() -> Usage:
        """Nothing spent yet, on one device."""
        pair = jnp.zeros((1, 2), jnp.float32)
        return Usage(ingest=pair, decode=pair, steps=pair, sampled=jnp.zeros((1,), jnp.float32), busy=pair)


Rollout = Callable[[Any, jax.Array, jax.Array, RolloutPlan], tuple[Episodes, Usage]]


def build_rollout(table: Table, sizes: RolloutSizes, mesh: Mesh, *, models: int, scripted: bool) -> Rollout:
    """Compiles the rollout of a game.

    Args:
      table: the game laid out for a policy.
      sizes: static sizes, per device.
      mesh: devices to share the episodes.
      models: number of parameter sets: 0 (all seats scripted), 1 (`LEARNER`) or 2 (and `OPPONENT`).
      scripted: whether seats may be held by scripted players.

    Returns:
      `rollout(params, temperature, key, plan) -> (episodes, usage)`: `params` are `parameter_sets`, `temperature` is
      float32[models], the plan's episodes divide by the number of devices.
    """

    def local(params: Any, temperature: jax.Array, key: jax.Array, plan: RolloutPlan) -> tuple[Episodes, Usage]:
        return play(table, sizes, models, scripted, params, temperature, key, plan)

    share = PartitionSpec(ROLLOUT_AXES)
    everywhere = PartitionSpec()
    sharded = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(everywhere, everywhere, everywhere, share),
        out_specs=(share, share),
        check_vma=False,
    )
    return jax.jit(sharded)


def play(
    table: Table,
    sizes: RolloutSizes,
    models: int,
    scripted: bool,
    params: Any,
    temperature: jax.Array,
    key: jax.Array,
    plan: RolloutPlan,
) -> tuple[Episodes, Usage]:
    """Plays one device's share of the plan; see `build_rollout`."""
    episodes = plan.episode.shape[0]
    cache = prefilled_cache(table, sizes, models, params) if models else None
    scripted_rows = sizes.scripted_rows(models) if scripted else 0

    def has_work(carry: tuple) -> jax.Array:
        lanes, _, _, next_episode, _ = carry
        return jnp.any(lanes.mode != IDLE) | (next_episode < episodes)

    def work(carry: tuple) -> tuple:
        lanes, records, cache, next_episode, usage = carry
        lanes, records, next_episode = advance(table, plan, key, scripted_rows, lanes, records, next_episode)
        busy = jnp.stack([jnp.sum(lanes.mode != IDLE), jnp.asarray(sizes.lanes)]).astype(jnp.float32)
        usage = dataclasses.replace(usage, busy=usage.busy + busy)
        if models:

            def step(_: jax.Array, carry: tuple) -> tuple:
                return take_step(table, sizes, models, plan, key, params, temperature, *carry)

            carry = (lanes, records, cache, usage)
            lanes, records, cache, usage = jax.lax.fori_loop(0, sizes.decode_steps, step, carry)
        return lanes, records, cache, next_episode, usage

    start = (
        LaneState.idle(table, sizes.lanes, episodes),
        Episodes.empty(table.spec, episodes, sizes.capacity) if plan.past is None else plan.past,
        cache,
        jnp.int32(0),
        Usage.zero(),
    )
    _, records, _, _, usage = jax.lax.while_loop(has_work, work, start)
    return records, usage


def prefilled_cache(table: Table, sizes: RolloutSizes, models: int, params: Any) -> KVCache:
    """An empty cache with every role's prefix computed once for every parameter set."""
    policy, lexicon, spec = table.policy, table.lexicon, table.spec
    roles = len(spec.roles)
    cache = init_cache(
        policy.config,
        rows=sizes.lanes * spec.num_seats,
        capacity=sizes.capacity,
        prefix_rows=models * roles,
        prefix_capacity=lexicon.prefix_tokens.shape[1],
        dtype=policy.dtype,
        block=sizes.block,
    )
    tokens, lengths = jnp.asarray(lexicon.prefix_tokens), jnp.asarray(lexicon.prefix_lengths)
    parts = [
        prefill_prefix(policy, select(params, index), tokens, lengths) for index in range(models)
    ]
    keys, values = (
        tuple(jnp.concatenate(layer) for layer in zip(*(part[which] for part in parts), strict=True))
        for which in range(2)
    )
    return dataclasses.replace(cache, prefix_k=keys, prefix_v=values, prefix_length=jnp.tile(lengths, models))


def take_step(
    table: Table,
    sizes: RolloutSizes,
    models: int,
    plan: RolloutPlan,
    key: jax.Array,
    params: Any,
    temperature: jax.Array,
    lanes: LaneState,
    records: Episodes,
    cache: KVCache,
    usage: Usage,
) -> tuple[LaneState, Episodes, KVCache, Usage]:
    """Takes the model step that is fullest: ingest or decode, for the learner or for the opponent; none if none is due.

    Adapters over one base take their steps together, each row with its own. Arguments as those of `play`, and what it
    carries from step to step.
    """
    tokens = pending(lanes)
    holder = lanes.of_actor(lanes.holder)
    waiting = (lanes.mode == WAITING) & (tokens > 0)
    kinds = jnp.stack([tokens > sizes.decode_tokens, tokens <= sizes.decode_tokens])
    sets = jnp.stack([holder == LEARNER, holder == OPPONENT])[:models]
    together = isinstance(params, Adapted)
    if together:
        sets = jnp.any(sets, axis=0, keepdims=True)
    wanted = waiting & kinds[:, None] & sets  # [kind, set, lane]
    rows = jnp.array([[sizes.ingest_rows], [sizes.decode_rows]])
    fullness = jnp.minimum(jnp.sum(wanted, axis=-1) / rows, 1.0)
    best = jnp.argmax(fullness)
    kind, chosen_set = best // len(sets), best % len(sets)
    want = wanted[kind, chosen_set]
    is_ingest, is_decode = (jnp.any(want) & (kind == number) for number in range(2))

    def step(width: int, chunk: int, number: int) -> Callable[[jax.Array, tuple], tuple]:
        def run(_: jax.Array, carry: tuple) -> tuple:
            lanes, records, cache, _ = carry
            _, lane = jax.lax.top_k(jnp.where(want, tokens, -1), width)
            chosen = (lane.astype(jnp.int32), want[lane])
            # Lanes that are not wanted may be anybody's: their rows lead nowhere.
            of_row = jnp.clip(holder[lane], 0, models - 1) if together else jnp.full((width,), number)
            return model_step(
                table, plan, key, select(params, of_row if together else number), temperature[of_row], of_row,
                chunk, chosen, lanes, records, cache,
            )  # fmt: skip

        return run

    # Loops of no or one turn: unlike branches of a conditional, they update the caches in place.
    carry = (lanes, records, cache, jnp.zeros((2,), jnp.int32))
    for number in range(len(sets)):
        turns = [(due & (chosen_set == number)).astype(jnp.int32) for due in (is_ingest, is_decode)]
        carry = jax.lax.fori_loop(0, turns[0], step(sizes.ingest_rows, sizes.ingest_tokens, number), carry)
        carry = jax.lax.fori_loop(0, turns[1], step(sizes.decode_rows, sizes.decode_tokens, number), carry)
    lanes, records, cache, counts = carry
    counts = counts.astype(jnp.float32)
    ingest, decode = sizes.ingest_rows * sizes.ingest_tokens, sizes.decode_rows * sizes.decode_tokens
    usage = dataclasses.replace(
        usage,
        ingest=usage.ingest + is_ingest * jnp.stack([counts[0], jnp.float32(ingest)]),
        decode=usage.decode + is_decode * jnp.stack([counts[0], jnp.float32(decode)]),
        steps=usage.steps + jnp.stack([is_ingest, is_decode]),
        sampled=usage.sampled + counts[1],
    )
    return lanes, records, cache, usage
