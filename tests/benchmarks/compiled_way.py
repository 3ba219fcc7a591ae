"""The compiled rollout under measurement: one program for a number of lanes, and what a call of it did."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maro_jax.league.floor import Work, needed_work
from maro_jax.selfplay.episodes import LEARNER, RolloutPlan
from maro_jax.selfplay.rollout import ROLLOUT_AXES, build_rollout
from maro_jax.selfplay.table import RolloutSizes, Table

# What the names of primitives that run on the host, or wait for it, contain.
_HOST_WORDS = ("callback", "debug", "infeed", "outfeed")


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of the rollout.

    Attributes:
      seconds: from the call to its last result.
      games: games played to their ends.
      decisions: replies.
      stream_tokens: tokens that the seats have read and said, each once.
      sampled: of these, sampled by the model; the others were rendered, or forced by the grammar.
      ingest: useful and issued token slots of ingest steps.
      decode: the same of decode steps.
      occupied: lanes that held a game, and lanes, summed over slices.
      model_steps: ingest and decode steps, of all devices.
      village_wins: games won by the village.
      work: what the games needed of the model.
    """

    seconds: float
    games: int
    decisions: int
    stream_tokens: int
    sampled: int
    ingest: tuple[float, float]
    decode: tuple[float, float]
    occupied: tuple[float, float]
    model_steps: int
    village_wins: int
    work: Work


class CompiledWay:
    """The rollout of a game, all seats held by one model, compiled for a number of lanes.

    Attributes:
      lanes: games in progress at once, on all devices together.
      episodes: games of a call.
      sizes: static sizes, per device.
      compile_seconds: to trace, lower and compile.
      host_primitives: names of primitives in the program that would involve the host.
      program_bytes: arguments, results and temporaries of the program, on all devices together.
    """

    def __init__(self, table: Table, params: Any, mesh: Mesh, *, lanes: int, episodes: int):
        """Compiles.

        Args:
          table: the game laid out for the policy.
          params: the policy's parameters.
          mesh: devices that share lanes and episodes; both counts divide by their number.
          lanes: games in progress at once.
          episodes: games of a call.
        """
        self.lanes, self.episodes = lanes, episodes
        self.sizes = RolloutSizes.fit(table, lanes // mesh.size, table.stream_capacity(0, "refuse"))
        self._table = table
        everywhere, share = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec(ROLLOUT_AXES)))
        self._params = jax.device_put((params,), everywhere)
        self._temperature = jax.device_put(jnp.ones(1), everywhere)
        number = jnp.arange(episodes, dtype=jnp.int32)
        holders = jnp.full((episodes, len(table.spec.sides)), LEARNER, jnp.int8)
        self._plan = jax.device_put(RolloutPlan(episode=number, deal=number, holders=holders), share)
        self._everywhere = everywhere
        rollout = jax.jit(build_rollout(table, self.sizes, mesh, models=1, scripted=False))
        start = time.perf_counter()
        traced = rollout.trace(self._params, self._temperature, self._key(0), self._plan)
        self._program = traced.lower().compile()
        self.compile_seconds = time.perf_counter() - start
        self.host_primitives = host_primitives(traced.jaxpr)
        memory = self._program.memory_analysis()
        self.program_bytes = mesh.size * (
            memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        )

    def play(self, seed: int) -> Call:
        """Plays the episodes once, in one dispatch."""
        key = self._key(seed)
        start = time.perf_counter()
        episodes, usage = jax.block_until_ready(self._program(self._params, self._temperature, key, self._plan))
        seconds = time.perf_counter() - start
        spent = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64).sum(axis=0), usage)
        seer = np.argmax(np.asarray(episodes.roles) == 1, axis=1)
        return Call(
            seconds=seconds,
            games=int(np.asarray(episodes.terminated | episodes.truncated).sum()),
            decisions=int((np.asarray(episodes.behaviours.seat) >= 0).sum()),
            stream_tokens=int(np.asarray(episodes.lengths).sum()),
            sampled=int(spent.sampled),
            ingest=tuple(spent.ingest.tolist()),
            decode=tuple(spent.decode.tolist()),
            occupied=tuple(spent.busy.tolist()),
            model_steps=int(spent.steps.sum()),
            village_wins=int((np.asarray(episodes.outcome)[np.arange(self.episodes), seer] > 0).sum()),
            work=needed_work(self._table, self.lanes, episodes),
        )

    def _key(self, seed: int) -> jax.Array:
        return jax.device_put(jax.random.key(seed), self._everywhere)


def host_primitives(jaxpr: Any) -> list[str]:
    """Names of the primitives, at any depth of a jaxpr, that call the host or wait for it."""
    return sorted({name for name in _primitives(jaxpr) if any(word in name for word in _HOST_WORDS)})


def _primitives(jaxpr: Any) -> Iterator[str]:
    """Names of all primitives of a jaxpr and of those within it."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(list(equation.params.values())):
            if hasattr(inner, "eqns"):
                yield from _primitives(inner)
