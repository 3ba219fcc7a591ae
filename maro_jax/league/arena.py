"""The arena: the compiled rollouts of a game, fed with plans of any length in batches of one size."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maro_jax.policy.lora import parameter_sets
from maro_jax.run.distributed import fetch, put
from maro_jax.selfplay.episodes import HOLDERS, OPPONENT, Episodes, RolloutPlan
from maro_jax.selfplay.rollout import ROLLOUT_AXES, Rollout, Usage, build_rollout
from maro_jax.selfplay.table import RolloutSizes, Table


@dataclasses.dataclass
class Tally:
    """What rollouts have cost so far, on the host.

    Attributes:
      games: episodes played.
      seconds: wall time of compiled calls.
      compile_seconds: time to build the programs.
      ingest, decode: useful and issued token slots.
      sampled: tokens sampled by a model.
      busy: share of lanes that held an episode.
    """

    games: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    ingest: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    decode: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    sampled: float = 0.0
    busy: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))

    def add(self, games: int, seconds: float, usage: Usage) -> None:
        """Adds one call."""
        self.games += games
        self.seconds += seconds
        self.ingest = self.ingest + np.asarray(usage.ingest, np.float64).sum(0)
        self.decode = self.decode + np.asarray(usage.decode, np.float64).sum(0)
        self.busy = self.busy + np.asarray(usage.busy, np.float64).sum(0)
        self.sampled += float(np.asarray(usage.sampled).sum())

    @staticmethod
    def total(tallies: Sequence[Tally]) -> Tally:
        """The sum of some tallies."""
        names = [field.name for field in dataclasses.fields(Tally)]
        return Tally(**{name: sum(getattr(tally, name) for tally in tallies) for name in names})

    def rates(self) -> dict[str, float]:
        """Rates for the log; a ratio with nothing issued is 0."""
        seconds = max(self.seconds, 1e-9)
        return {
            "games_per_second": self.games / seconds,
            "sampled_tokens_per_second": self.sampled / seconds,
            "model_tokens_per_second": (self.ingest[0] + self.decode[0]) / seconds,
            "useful_ingest_slots": self.ingest[0] / max(self.ingest[1], 1.0),
            "useful_decode_slots": self.decode[0] / max(self.decode[1], 1.0),
            "lane_occupancy": self.busy[0] / max(self.busy[1], 1.0),
        }


class Arena:
    """Plays plans with compiled rollouts; programs are shared by everything that plays the same game."""

    def __init__(
        self,
        table: Table,
        mesh: Mesh,
        *,
        lanes: int,
        episodes: int,
        capacity: int,
        seed: int,
        name: str = "",
        base: Any = None,
    ):
        """Prepares the arena; programs are compiled at their first use.

        Args:
          table: the game laid out for the policy.
          mesh: devices that share the episodes of a call.
          lanes: episodes in progress over all devices.
          episodes: episodes of one call.
          capacity: stream tokens after the role prefix.
          seed: root of all that is random.
          name: of the game in reports; default: the game's own.
          base: with LoRA, the frozen model's parameters, whole on every device; parameter sets are then adapters.
        """
        if lanes % mesh.size or episodes % mesh.size:
            raise ValueError(f"{lanes} lanes and {episodes} episodes do not divide by {mesh.size} devices")
        self.table, self.mesh, self.episodes = table, mesh, episodes
        self.name = name or table.spec.name
        self.sizes = RolloutSizes.fit(table, lanes // mesh.size, capacity)
        self.root = jax.random.key(seed)
        self.tally = Tally()
        self._shared = NamedSharding(mesh, PartitionSpec())
        self._spread = NamedSharding(mesh, PartitionSpec(ROLLOUT_AXES))
        self._programs: dict[int, Rollout] = {}  # by the number of parameter sets; each seats scripted players too
        self._for_computing = jax.jit(table.policy.for_computing, out_shardings=self._shared)
        self.base = base

    @property
    def lanes(self) -> int:
        """Episodes in progress at once, over all devices."""
        return self.sizes.lanes * self.mesh.size

    def with_lanes(self, lanes: int, episodes: int = 0) -> Arena:
        """An arena of the same game and model with other sizes, nothing of which is compiled yet.

        Args:
          lanes: episodes in progress over all devices.
          episodes: episodes of one call; 0: as many as here.
        """
        changed = copy.copy(self)
        changed.episodes = episodes or self.episodes
        changed.sizes = RolloutSizes.fit(self.table, lanes // self.mesh.size, self.sizes.capacity)
        changed.tally, changed._programs = Tally(), {}
        return changed

    def play(
        self,
        params: Sequence[Any],
        plan: RolloutPlan,
        purpose: int,
        *,
        temperature: Sequence[float] | None = None,
        tally: Tally | None = None,
    ) -> Episodes:
        """Plays all episodes of a plan.

        Args:
          params: parameter sets: none, the learner's, or the learner's and the opponent's.
          plan: any number of episodes.
          purpose: keeps the randomness of different uses apart.
          temperature: of sampling, one for each parameter set; default 1.
          tally: counts this call too, beside the arena's own.

        Returns:
          The episodes in the plan's order, on the host.
        """
        held = np.unique(plan.holders)
        models = held[held <= OPPONENT]
        if len(models) and models.max() >= len(params):
            raise ValueError(
                f"the plan's seats are held by {', '.join(HOLDERS[h] for h in held)}: {len(params)} parameter sets do "
                "not suffice"
            )
        total = plan.episode.shape[0]
        heat = list(temperature or [1.0] * len(params))
        ready = [self._for_computing(tree) for tree in params]
        if len(ready) == 1:  # one program serves both numbers: to compile takes longer than many matches
            ready, heat = [*ready, *ready], [*heat, *heat]
        sets = parameter_sets(self.base, ready) if ready else ()
        heat = put(np.asarray(heat, np.float32), self._shared)
        key = put(jax.random.fold_in(self.root, purpose), self._shared)
        parts = []
        for first in range(0, total, self.episodes):
            index = np.arange(first, first + self.episodes) % total  # a short last batch repeats; repeats are dropped
            batch = put(jax.tree.map(lambda leaf, i=index: np.asarray(leaf)[i], plan), self._spread)
            program = self._program(len(ready), sets, heat, key, batch)
            start = time.perf_counter()
            episodes, usage = jax.block_until_ready(program(sets, heat, key, batch))
            seconds = time.perf_counter() - start
            usage = jax.tree.map(fetch, usage)
            kept = min(self.episodes, total - first)
            for counter in (self.tally, tally) if tally else (self.tally,):
                counter.add(kept, seconds, usage)
            parts.append(jax.tree.map(lambda leaf, n=kept: fetch(leaf)[:n], episodes))
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def _program(self, models: int, *arguments: Any) -> Rollout:
        if models not in self._programs:
            start = time.perf_counter()
            rollout = build_rollout(self.table, self.sizes, self.mesh, models=models, scripted=True)
            self._programs[models] = rollout.lower(*arguments).compile()  # type: ignore[attr-defined]
            self.tally.compile_seconds += time.perf_counter() - start
        return self._programs[models]
