"""The least time in which a machine could play recorded games or learn from them: the work over its measured rates.

A roofline (Williams et al. 2009, "Roofline: an insightful visual performance model"): the work needed is counted in
floating-point operations and in bytes, each is divided by the rate the machine reached in the same run, and the larger
of the two times is the floor. Nothing that an engine wastes is counted: no padding, no idle lanes, no games' rules.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from games.text.grammar import SPEECH_TOKEN, THOUGHT_TOKEN, TRIE, Grammar
from maro_jax.learner.packing import Streams
from maro_jax.selfplay.episodes import OPPONENT, Episodes
from maro_jax.selfplay.rollout import ROLLOUT_AXES
from maro_jax.selfplay.table import Table


@dataclasses.dataclass(frozen=True)
class MachineRates:
    """What all devices reach together.

    Attributes:
      gflops: matrix products, 10⁹ floating-point operations a second.
      gigabytes: memory traffic of an in-place update, 10⁹ bytes read or written a second.
    """

    gflops: float
    gigabytes: float

    def seconds(self, work: Work) -> float:
        """The floor of `work`, in seconds."""
        return max(work.flops / self.gflops, work.bytes / self.gigabytes) / 1e9


@dataclasses.dataclass(frozen=True)
class Work:
    """What a batch of games needs of a model.

    Attributes:
      tokens: stream tokens that have to go through the model: all that precede a stream's last sampled token.
      sampled: tokens sampled.
      flops: floating-point operations, a multiplication and an addition each counted.
      bytes: parameters, keys and values that have to be read or written.
    """

    tokens: int
    sampled: int
    flops: float
    bytes: float


def measure_rates(
    mesh: Mesh, *, dtype: str = "float32", matrix: int = 1024, mebibytes: int = 256, repetitions: int = 5
) -> MachineRates:
    """Measures the machine: the best of some repetitions, with every device at work.

    Args:
      mesh: the devices.
      dtype: of the matrix products.
      matrix: side of the square matrices multiplied on each device.
      mebibytes: size of the array updated on each device; larger than the caches.
      repetitions: timed calls of each kind.
    """
    spec = PartitionSpec(ROLLOUT_AXES)
    share = NamedSharding(mesh, spec)
    square = jax.jit(lambda: jnp.ones((mesh.size, matrix, matrix), dtype), out_shardings=share)()
    product = jax.jit(jax.shard_map(lambda a: (a[0] @ a[0])[None], mesh=mesh, in_specs=spec, out_specs=spec))
    gemm = _best_seconds(lambda: product(square), repetitions)
    array = jax.jit(lambda: jnp.zeros((mesh.size, mebibytes * 2**18), jnp.float32), out_shardings=share)()
    # Donated, so that no time goes into mapping fresh pages.
    update = jax.jit(lambda a: a + 1.0, donate_argnums=0, in_shardings=share, out_shardings=share)

    def step() -> jax.Array:
        nonlocal array
        array = update(array)
        return array

    copy = _best_seconds(step, repetitions)
    return MachineRates(
        gflops=mesh.size * 2 * matrix**3 / gemm / 1e9, gigabytes=mesh.size * 2 * mebibytes * 2**20 / copy / 1e9
    )


def needed_work(table: Table, lanes: int, episodes: Episodes) -> Work:
    """Counts what recorded games need of the model that holds seats in them (or of two of the same size).

    A token costs two operations a weight of the matrix products, and 4·H·D a layer for each token that it attends to;
    in the last layer only keys and values are needed, except where a token is sampled from. That costs besides two
    operations a number in the head's rows that it is chosen from. The stretch between two sampled
    tokens needs one pass over what the cache holds; `lanes` passes at once share one reading of the parameters. Each
    role's prefix is computed once.

    Args:
      table: the game laid out for the policy.
      lanes: games in progress at once.
      episodes: the recorded games.
    """
    config, lexicon = table.policy.config, table.lexicon
    held_by_model = np.asarray(episodes.behaviours.holder) <= OPPONENT
    decision = np.asarray(episodes.decision, np.int64)
    of_model = np.take_along_axis(held_by_model, decision.reshape(len(decision), -1), axis=1).reshape(decision.shape)
    chosen = (np.asarray(episodes.node) > 0) & of_model
    prefixes = lexicon.prefix_lengths.astype(np.int64)
    prefix = prefixes[np.asarray(episodes.roles, np.int64)]
    place = np.arange(chosen.shape[-1])
    fed = np.where(chosen, place, 0).max(axis=-1).astype(np.int64)  # all before the last sampled token
    tokens, sampled = int(fed.sum()), int(chosen.sum())
    attended = int((fed * prefix + fed * (fed + 1) // 2).sum() + (prefixes * (prefixes + 1) // 2).sum())
    attended_last = int(np.where(chosen, place + prefix[..., None], 0).sum())  # from the places that are read

    weights, last = kernel_weights(table), unless_read_weights(table)
    options = int(_options(table, episodes, chosen).sum())
    flops = 2 * (weights - last) * (tokens + int(prefixes.sum())) + 2 * last * sampled
    flops += 4 * config.num_heads * config.head_dim * ((config.num_layers - 1) * attended + attended_last)
    flops += 2 * config.hidden_size * options

    # Of an earlier sampled token's place, the cache holds all before it.
    held = np.where(chosen, place, 0)
    held = np.maximum.accumulate(np.pad(held, ((0, 0), (0, 0), (1, 0)))[..., :-1], axis=-1) + prefix[..., None]
    entry = 2 * config.num_layers * config.num_kv_heads * config.head_dim * jnp.dtype(table.policy.dtype).itemsize
    traffic = entry * (tokens + int(prefixes.sum()) + int(held[chosen].sum()))
    traffic += jnp.dtype(table.policy.dtype).itemsize * weights * -(-sampled // lanes)
    return Work(tokens=tokens, sampled=sampled, flops=float(flops), bytes=float(traffic))


def learning_flops(table: Table, streams: Streams) -> float:
    """Counts what a micro-batch needs of the layers, forward and backward: three times the forward operations.

    Weights that LoRA leaves frozen need no gradient of their own and count twice.

    As in `needed_work` the last layer counts where a token is sampled from. Padding does not count, nor the reference
    policy, nor what is computed twice, nor the head, of which few rows are read.

    Args:
      table: any game laid out for the policy.
      streams: the micro-batch, on the host.
    """
    config = table.policy.config
    weights, last = kernel_weights(table), unless_read_weights(table)
    held, read = streams.segment >= 0, streams.node > 0
    attended = int((streams.position + 1)[held].sum())
    attended_last = int((np.take_along_axis(streams.position, streams.query, axis=1) + 1)[read].sum())
    products = 2 * (weights - last) * int(held.sum()) + 2 * last * int(read.sum())
    attention = 4 * config.num_heads * config.head_dim * ((config.num_layers - 1) * attended + attended_last)
    if table.policy.lora is None:
        return 3.0 * (products + attention)
    factors = 2 * table.policy.num_trained() * int(held.sum())
    return 2.0 * products + 3.0 * (attention + factors)


def unless_read_weights(table: Table) -> int:
    """Weights of the last layer that serve only what is read of it: all but those of keys and values."""
    config = table.policy.config
    return config.hidden_size * (2 * config.num_heads * config.head_dim + 3 * config.intermediate_size)


def kernel_weights(table: Table) -> int:
    """Numbers in the kernels of a model's layers: each is multiplied once for every token."""
    leaves = jax.tree_util.tree_leaves_with_path(table.policy.abstract_params())
    return sum(leaf.size for path, leaf in leaves if path[-1].key == "kernel")


def _options(table: Table, episodes: Episodes, chosen: np.ndarray) -> np.ndarray:
    """int[sampled]: how many tokens each sampled one was chosen from."""
    grammar: Grammar = table.grammar
    episode, seat, place = np.nonzero(chosen)
    node = np.asarray(episodes.node)[episode, seat, place]
    decision = np.asarray(episodes.decision)[episode, seat, place]
    legal = np.asarray(episodes.behaviours.legal)[episode, decision]
    children = grammar.child_nodes[np.maximum(node - TRIE, 0)]
    # [sampled, children] = any over labels of (label under the child and legal)
    live = np.stack(
        [(grammar.under[np.maximum(child, 0)] & legal).any(axis=-1) & (child >= 0) for child in children.T], axis=-1
    )
    free = {THOUGHT_TOKEN: table.lexicon.thought_mask, SPEECH_TOKEN: table.lexicon.speech_mask}
    count = live.sum(axis=-1)
    for kind, mask in free.items():
        count = np.where(node == kind, int(mask.sum()) + 1, count)  # or the section's end
    return count


def _best_seconds(run: Callable[[], jax.Array], repetitions: int) -> float:
    """Shortest time of a call, after one that is not counted."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return min(seconds)
