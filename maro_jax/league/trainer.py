"""The trainer: iterations of play and learning, as functions of a state that a checkpoint holds whole."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from games.credit_rules import judge
from maro_jax.credit import balance
from maro_jax.credit.objective import CreditOptions, credit
from maro_jax.league.arena import Arena, Tally
from maro_jax.league.floor import MachineRates, learning_flops, measure_rates, needed_work
from maro_jax.league.forking import Forking, fork_costs
from maro_jax.league.plans import training_plan, warm_start_plan
from maro_jax.league.played import Played, balance_metrics, choice_metrics, mean, outcome_metrics, step_metrics
from maro_jax.league.pool import Pool, learner_scores
from maro_jax.learner.decisions import Decisions
from maro_jax.learner.packing import Streams, pack, packing_shapes
from maro_jax.learner.update import Learner, LearnerState
from maro_jax.learner.value import ValueFunction, ValueStatistics
from maro_jax.policy.lora import with_base
from maro_jax.run.config import TrainConfig
from maro_jax.run.distributed import put
from maro_jax.selfplay.episodes import LEARNER, Episodes

if TYPE_CHECKING:
    from maro_jax.league.cloned import ClonedGames
    from maro_jax.pnlc.expectation import CriticExpectation

# Purposes that keep the randomness of a run's parts apart.
PLAY, CLONE, SHUFFLE, MATCH = range(4)
NUM_PURPOSES = 4
RIVAL, FORKED = 1_000, 1_001  # of host draws alone

CONTEXT_WEIGHT = 1.0  # of language modelling in the warm start, per reply token
# About as many tokens of a micro-batch fall to a device. Measured on a CPU only, which gains nothing by more, while
# small ones fill better.
CPU_TOKENS = {"self-play": 2048, "warm start": 640}
ACCELERATOR_TOKENS = {"self-play": 8192, "warm start": 2048}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a run carries from one iteration to the next; with LoRA all parameters are those of adapters.

    Attributes:
      learner: parameters, optimizer state and counters.
      opponent: parameters of the frozen opponent: the warm start.
      statistics: running statistics of the balance, of each game.
      pool: past selves; None if the warm start alone is met.
      magnet: parameters of the magnet or of KTO's lagged reference, which follow the learner's slowly; or None.
      value: what the value function rests on; None without one.
    """

    learner: LearnerState
    opponent: Any
    statistics: tuple[balance.BalanceStatistics, ...]
    pool: Pool | None = None
    magnet: Any = None
    value: ValueStatistics | None = None


class Batch(NamedTuple):
    """What an optimizer step learns from.

    Attributes:
      chosen: the indices of its episodes, of each game.
      micro_batches: these, packed.
      normaliser: divides its loss.
    """

    chosen: tuple[np.ndarray, ...]
    micro_batches: Iterator[Streams]
    normaliser: float


class Trainer:
    """Warm start by cloning, then self-play iterations."""

    def __init__(
        self, arenas: Sequence[Arena], config: TrainConfig, base: Any = None, tokens: Mapping[str, int] | None = None
    ):
        """Prepares both learners; nothing is compiled yet.

        Args:
          arenas: where to play, one a game, all on the same devices.
          config: a validated configuration.
          base: with LoRA, the frozen model's parameters.
          tokens: of a micro-batch that fall to a device, by kind; what suits the devices, if not given.
        """
        self.base = base
        self.arenas, self.config, mesh = tuple(arenas), config, arenas[0].mesh
        self.decisions = Decisions.of([arena.table for arena in arenas])
        shards = mesh.shape["data"] * mesh.shape["fsdp"]  # of a micro-batch's rows
        capacities = [arena.sizes.capacity for arena in arenas]
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        tokens = tokens or (CPU_TOKENS if on_cpu else ACCELERATOR_TOKENS)

        def learner(
            kind: str, credit: CreditOptions, rate: float, final: float, steps: int, **weights: float
        ) -> Learner:
            shapes = packing_shapes(self.decisions, capacities, shards * tokens[kind], shards)
            schedule = optax.linear_schedule(rate, rate * final, max(1, steps))
            return Learner(
                self.decisions, shapes, mesh, credit, schedule,
                optimizer=config.optimizer, max_grad_norm=config.max_grad_norm, max_spike=config.max_spike, base=base,
                **weights,
            )  # fmt: skip

        self.warm_iterations = config.warm_iterations
        clone_steps = self.warm_iterations * -(-config.episodes // config.warm_start_batch)
        cloning = CreditOptions(utility="reinforce", baseline="none", balance="none")
        self.cloner = learner(
            "warm start", cloning, config.warm_start_learning_rate, 0.1, clone_steps,
            entropy_weight=0.0, context_weight=CONTEXT_WEIGHT,
        )  # fmt: skip
        steps = config.iterations * config.epochs * config.minibatches
        self.learner = learner(
            "self-play", credit_options(config), config.learning_rate, config.learning_rate_final, steps,
            entropy_weight=config.entropy, magnet_weight=config.magnet,
        )  # fmt: skip
        self.value = self._value() if config.judges_by_value else None
        self.cloned = self._cloned() if config.warm_start_data else None
        forks = config.fork_behaviours, config.fork_pairs
        self.forking = [Forking(arena, *forks) for arena in arenas] if config.forks else []
        self.total_iterations = self.warm_iterations + config.iterations
        self._flops, self._tokens = 0.0, 0  # of the micro-batches of an iteration of self-play
        self._efficiency_of: list[dict[str, float]] = []  # of the session's iterations of self-play
        self._follow = jax.jit(  # the magnet goes a part of the way to the learner
            lambda magnet, params: jax.tree.map(lambda m, p: m + config.magnet_rate * (p - m), magnet, params),
            donate_argnums=0,
        )
        self._credit = [
            jax.jit(functools.partial(credit, self.learner.options, side_of_role=arena.table.spec.side_of_role))
            for arena in arenas
        ]

    def _value(self) -> ValueFunction | CriticExpectation:
        """What tells which outcome was to be expected."""
        layout = self.learner.batch_sharding, self.learner.replicated
        if self.config.decompose == "pnlc":
            from maro_jax.pnlc.expectation import CriticExpectation  # most runs need no critic, nor datasets

            named = self.config.critic, self.config.critic_embedder
            return CriticExpectation(*named, self.decisions.tables, layout[1], self.config.critic_api_base)
        return ValueFunction(self.decisions, self.learner.shapes, *layout)

    def _cloned(self) -> ClonedGames:
        """The games on disk that are cloned."""
        from maro_jax.league.cloned import ClonedGames

        config, [arena] = self.config, self.arenas
        sources = config.cloned_folders, config.cloned_holders
        return ClonedGames(*sources, arena.table, arena.sizes.capacity, config.seed)

    def start(self, params: Any) -> TrainState:
        """The state before the first iteration."""
        state = self.cloner.init(params)
        specs = [arena.table.spec for arena in self.arenas]
        nothing = tuple(balance.init(len(spec.roles), len(spec.phases)) for spec in specs)
        return TrainState(
            learner=state,
            opponent=jax.tree.map(jnp.copy, state.params),
            statistics=put(nothing, self.learner.replicated),
            pool=Pool.empty(state.params, self.config.pool_size) if self.config.meets_past_selves else None,
            magnet=jax.tree.map(jnp.copy, state.params) if self.config.keeps_magnet else None,
            value=self.value.init() if self.value else None,
        )

    def iterate(self, state: TrainState, iteration: int) -> tuple[TrainState, dict[str, float], list[Played]]:
        """Plays and learns from iteration number `iteration` (warm start first).

        Returns:
          The next state, metrics, and what was played of each game.
        """
        if iteration < self.warm_iterations:
            return self._clone(state, iteration)
        return self._self_play(state, iteration - self.warm_iterations)

    # ------------------------------------------------------------------ warm start

    def _clone(self, state: TrainState, iteration: int) -> tuple[TrainState, dict[str, float], list[Played]]:
        """Clones scripted or recorded games; the last iteration makes the result the frozen opponent, and resets the
        optimizer."""
        config, tally, clock = self.config, Tally(), time.perf_counter()
        first, count = iteration * config.episodes, config.episodes
        played = []
        for arena in self.arenas:
            plan = warm_start_plan(first, count, len(arena.table.spec.sides))
            if self.cloned:
                episodes, wanted = self.cloned.episodes(first, count, tally)
            else:
                # A program without a model: that of self-play would do, but its caches slow the learner by a fifth.
                episodes = arena.play([], plan, CLONE, tally=tally)
                wanted = (episodes.behaviours.seat >= 0) & ~episodes.overflowed[:, None]
            played.append(Played(arena, plan, episodes, None, wanted.astype(np.float32)))
        learner, sums = state.learner, []
        for batch in self.batches(played, iteration):
            learner, step = self.cloner.step(learner, batch.micro_batches, batch.normaliser, None, self.no_point())
            sums.append(step)
        opponent, magnet = state.opponent, state.magnet
        if iteration + 1 == self.warm_iterations:
            opponent = jax.tree.map(jnp.copy, learner.params)
            magnet = jax.tree.map(jnp.copy, learner.params) if self.config.keeps_magnet else None
            learner = self.learner.init(learner.params)
        report = step_metrics(sums) | tally.rates() | self._times(tally, clock)
        return dataclasses.replace(state, learner=learner, opponent=opponent, magnet=magnet), report, played

    # ------------------------------------------------------------------ self-play

    def _self_play(self, state: TrainState, iteration: int) -> tuple[TrainState, dict[str, float], list[Played]]:
        tally, forks, clock = Tally(), Tally(), time.perf_counter()
        played, statistics = [], []
        entry, rival = self._rival(state, iteration)
        for game, arena in enumerate(self.arenas):
            of, after = self._play(arena, state, rival, game, iteration, tally, forks)
            played.append(of)
            statistics.append(after)
        learner, sums = self._learn(state, played, iteration)
        report = step_metrics(sums) | tally.rates() | self._times(tally, clock, forks.seconds)
        report |= self._efficiency(played, report)
        report |= fork_costs(forks, tally) if self.forking else {}
        for of, first_phase in zip(played, self.decisions.first_phase, strict=True):
            prefix = f"{of.arena.name}/" if len(played) > 1 else ""
            told = outcome_metrics(of) | balance_metrics(of) | choice_metrics(of, sums, first_phase)
            report |= {prefix + name: value for name, value in told.items()}
        pool, met = self._pool_after(state.pool, entry, played, learner.params, iteration + 1)
        magnet = self._follow(state.magnet, learner.params) if self.config.keeps_magnet else None
        value = self._value_after(state.value, played)
        return TrainState(learner, state.opponent, tuple(statistics), pool, magnet, value), report | met, played

    def _value_after(self, value: ValueStatistics | None, played: list[Played]) -> ValueStatistics | None:
        """What the value function rests on after an iteration."""
        if self.value is None or value is None:
            return None
        sums = [of.judged.sums for of in played if of.judged is not None]
        return self.value.add(value, jax.tree.map(lambda *leaves: sum(leaves), *sums))

    def _rival(self, state: TrainState, iteration: int) -> tuple[int, Any]:
        """The frozen opponent of an iteration: its entry in the pool, and its parameters."""
        if state.pool is None:
            return 0, state.opponent
        generator = np.random.default_rng((self.config.seed, RIVAL, iteration))
        entry = state.pool.choose(self.config.matchmaking, generator)
        return entry, state.pool.params(entry, state.opponent)

    def _pool_after(
        self, pool: Pool | None, entry: int, played: list[Played], params: Any, done: int
    ) -> tuple[Pool | None, dict[str, float]]:
        """The pool after `done` iterations of self-play, and what is reported of it."""
        if pool is None:
            return None, {}
        scores = np.concatenate(
            [learner_scores(of.plan, of.episodes, of.arena.table.spec.side_of_role) for of in played]
        )
        after = pool.record(entry, float(scores.sum()), len(scores))
        met = {"opponent_born": float(pool.born[entry]), "opponent_win_rate": mean(scores)}
        met["pool_least_win_rate"] = float(after.win_rates()[after.present()].min())
        if done % self.config.pool_every == 0:
            after = after.freeze(params, done)
        return after, met

    def _play(
        self, arena: Arena, state: TrainState, rival: Any, game: int, iteration: int, tally: Tally, forks: Tally
    ) -> tuple[Played, balance.BalanceStatistics]:
        """Plays an iteration's episodes of a game and credits the learner's behaviours."""
        config = self.config
        sides = len(arena.table.spec.sides)
        first = iteration * config.episodes
        plan = training_plan(config.opponents, first, config.episodes, sides, config.deal_group)
        episodes = arena.play([state.learner.params, rival], plan, PLAY, tally=tally)
        outcome = self._shuffled(arena, episodes, game, iteration) if config.shuffle_outcomes else episodes.outcome
        made = episodes.behaviours
        eligible, judged, values = (made.holder == LEARNER) & episodes.finished[:, None] & (made.seat >= 0), None, None
        if self.value:
            known = state.value if iteration else None
            params = with_base(self.base, state.learner.params)
            judged = self.value.judge(params, known, game, episodes, outcome, eligible)
            eligible, values = judged.judged, judged.values
        forked = None
        if self.forking:
            generator = np.random.default_rng((config.seed, FORKED, game, iteration))
            original = [state.learner.params, rival], plan, PLAY, episodes
            forked = self.forking[game].play(*original, eligible, generator, iteration, forks)
        rules = _rules(arena, episodes) if config.decompose == "rules" else None
        scores, spoken_of = rules or (None, None)
        given, statistics = self._credit[game](
            state.statistics[game], seat=made.seat, role=made.role, phase=made.phase, eligible=eligible,
            outcome=outcome, values=values, scores=scores, judged=spoken_of, forked=forked,
        )  # fmt: skip
        return Played(arena, plan, episodes, given, None, judged, rules, forked), statistics

    def _learn(self, state: TrainState, played: list[Played], iteration: int) -> tuple[LearnerState, list[dict]]:
        """Some optimizer steps on the iteration's episodes."""
        learner, sums, point = state.learner, [], self.no_point()
        self._flops, self._tokens = 0.0, 0
        reference = self.reference(state)
        for batch in self.batches(played, self.warm_iterations + iteration):
            learner, step = self.learner.step(learner, batch.micro_batches, batch.normaliser, reference, point)
            point = following_point(self.learner.options, point, step)  # at first it is 0
            sums.append(step)
        return learner, sums

    def reference(self, state: TrainState) -> Any:
        """Parameters that an iteration of self-play measures to: of KTO's reference or the magnet; else None."""
        if self.learner.uses_kl:
            return jax.tree.map(jnp.copy, state.learner.params)
        return state.opponent if self.config.reference == "warm_start" else state.magnet

    def batches(self, played: list[Played], iteration: int) -> Iterator[Batch]:
        """What the optimizer steps of an iteration learn from, one after the other.

        Every step holds as many episodes of each game. In self-play every game counts the same: the loss is the mean
        of theirs.

        Args:
          played: in that iteration.
          iteration: its number, those of the warm start first.
        """
        config, later = self.config, iteration - self.warm_iterations
        if later < 0:
            weights = [of.cloned for of in played if of.cloned is not None]
            for chosen in self._batches(config.warm_start_batch, CLONE, iteration):
                total = sum(float(weight[index].sum()) for weight, index in zip(weights, chosen, strict=True))
                packed = self._packed(self.cloner, played, weights, weights, chosen)
                yield Batch(chosen, packed, max(1.0, total))
            return
        signs, weights, normaliser = self._shares(played)
        for epoch in range(config.epochs):
            for chosen in self._batches(config.episodes // config.minibatches, PLAY, later, epoch):
                packed = self._packed(self.learner, played, signs, weights, chosen)
                yield Batch(chosen, packed, normaliser / config.minibatches)

    @staticmethod
    def _shares(played: list[Played]) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        """Signs and weights of each game's behaviours, every game counting the same, and the sum of normalisers."""
        credits = [of.credit for of in played if of.credit is not None]
        normalisers = np.array([float(given.normaliser) for given in credits])
        weights = [
            np.asarray(given.weights) * np.float32(normalisers.mean() / own)
            for given, own in zip(credits, normalisers, strict=True)
        ]
        return [np.asarray(given.signs) for given in credits], weights, float(normalisers.sum())

    def _batches(self, size: int, purpose: int, *numbers: int) -> list[tuple[np.ndarray, ...]]:
        """Random batches that together hold every episode of every game once; an array of indices a game."""
        of_game = []
        for game in range(len(self.arenas)):
            order = np.random.default_rng(self._seed(purpose, game, *numbers)).permutation(self.config.episodes)
            of_game.append([np.sort(order[first : first + size]) for first in range(0, len(order), size)])
        return list(zip(*of_game, strict=True))

    def _seed(self, purpose: int, game: int, *numbers: int) -> tuple[int, ...]:
        return (self.config.seed, purpose + NUM_PURPOSES * game, *numbers)

    def _packed(
        self,
        learner: Learner,
        played: list[Played],
        signs: list[np.ndarray],
        weights: list[np.ndarray],
        chosen: tuple[np.ndarray, ...],
    ) -> Iterator[Streams]:
        """Micro-batches of the chosen episodes, one game after the other."""
        for game, of in enumerate(played):
            given = of.episodes, signs[game], weights[game], chosen[game]
            for streams in pack(self.decisions, game, learner.shapes, *given):
                if learner is self.learner:
                    self._flops += learning_flops(of.arena.table, streams)
                    self._tokens += int((streams.segment >= 0).sum())
                yield streams

    def no_point(self) -> jax.Array:
        """float32[phases], KTO's reference point where policy and reference agree."""
        return put(np.zeros((self.decisions.num_phases,), np.float32), self.learner.replicated)

    def _shuffled(self, arena: Arena, episodes: Episodes, game: int, iteration: int) -> np.ndarray:
        """Each finished episode gets the result of another one: sides keep their win rates, nothing else remains."""
        generator, spec = np.random.default_rng(self._seed(SHUFFLE, game, iteration)), arena.table.spec
        finished = np.flatnonzero(episodes.finished)
        side = np.asarray(spec.side_of_role)[episodes.roles]
        of_side = np.stack(
            [np.where(side == s, episodes.outcome, 0).sum(1) / np.maximum((side == s).sum(1), 1)
             for s in range(len(spec.sides))], axis=1,
        )  # fmt: skip
        of_side[finished] = of_side[generator.permutation(finished)]
        return np.take_along_axis(of_side, side, axis=1).astype(np.float32)

    def _efficiency(self, played: list[Played], report: dict[str, float]) -> dict[str, float]:
        """How near an iteration of self-play came to what the machine could do; includes compiling, the first time."""
        floor = sum(self.machine.seconds(needed_work(of.arena.table, of.arena.lanes, of.episodes)) for of in played)
        seconds = report["learner_seconds"]
        shares = {
            "rollout_of_floor": floor / report["rollout_seconds"],
            "learner_tokens_per_second": self._tokens / seconds,
            "mfu": self._flops / seconds / self.machine.gflops / 1e9,
        }
        names = (
            "sampled_tokens_per_second", "lane_occupancy", "useful_decode_slots", "useful_ingest_slots",
            "rollout_seconds", "learner_seconds",
        )  # fmt: skip
        self._efficiency_of.append(shares | {name: report[name] for name in names})
        return shares

    def efficiency(self) -> dict[str, float]:
        """Means over the session's iterations of self-play but the first, which compiles; empty without any."""
        later = self._efficiency_of[1:]
        return {name: sum(each[name] for each in later) / len(later) for name in later[0]} if later else {}

    @functools.cached_property
    def machine(self) -> MachineRates:
        """What the devices reach together, measured at the first use."""
        on_cpu = self.arenas[0].mesh.devices.flat[0].platform == "cpu"
        size = {"matrix": 1024, "mebibytes": 64} if on_cpu else {"matrix": 8192, "mebibytes": 1024}
        return measure_rates(self.arenas[0].mesh, dtype=self.decisions.policy.dtype, **size)

    @staticmethod
    def _times(tally: Tally, clock: float, forks: float = 0.0) -> dict[str, float]:
        total = time.perf_counter() - clock
        return {"seconds": total, "rollout_seconds": tally.seconds, "learner_seconds": total - tally.seconds - forks}


def following_point(options: CreditOptions, point: jax.Array, step: dict[str, Any]) -> jax.Array:
    """float32[phases]: KTO's reference point of the next step, the KL that this one measured; else as it was.

    A step that was skipped because its KL is not finite leaves the point as it was; a NaN would spoil the next one too.
    """
    if options.utility != "kto" or options.reference_point == "zero":
        return point
    kl = step["kl"] / jnp.maximum(step["phase_behaviours"], 1.0)
    return jnp.where(jnp.isfinite(kl), kl, point)


def credit_options(config: TrainConfig) -> CreditOptions:
    """Credit's switches as the configuration sets them."""
    return CreditOptions(
        decompose=config.decompose,
        discount=config.discount,
        value_decay=config.value_decay,
        rules_weight=config.rules_weight,
        baseline=config.baseline,
        balance=config.balance,
        deal_group=config.deal_group,
        utility=config.utility,
        beta=config.beta,
        reference_point=config.reference_point,
        reference=config.reference,
        clip=config.clip,
    )


def _rules(arena: Arena, episodes: Episodes) -> tuple[jax.Array, jax.Array]:
    """What the game's rules say of each behaviour, float32[E, B], and of which they say something, bool[E, B]."""
    made = episodes.behaviours
    decisions = made.seat, made.phase, made.legal, made.action
    log = episodes.event_rows, episodes.event_count, episodes.event_step
    return judge(arena.table.spec, *decisions, episodes.roles, episodes.outcome, *log)
