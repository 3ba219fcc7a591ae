"""What outcome is to be expected before a behaviour: linear in what the policy itself makes of the stream so far.

Φ(x) = w · f(x), where f holds the policy's last hidden state before the first token that is sampled of a reply, scaled
to a mean square of 1, and an indicator of the phase. w is the ridge solution over past iterations, whose sums fade,

  w = (Σ f fᵀ + 50 I)⁻¹ Σ f R,

so that there is neither a learning rate nor a second network. The sums are *lagged*: an iteration is judged by what
earlier ones have shown, and no behaviour moves its own expectation. The first has nothing to look back on and is judged
by itself.

How values become credit is said in `maro_jax.credit.decomposition.by_value`; that this is a form of MARO's
decomposition (arXiv:2601.12323) is our reading.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from maro_jax.learner.decisions import Decisions
from maro_jax.learner.loss import encode_streams
from maro_jax.learner.packing import PackingShape, Streams, pack
from maro_jax.run.distributed import fetch, put
from maro_jax.selfplay.episodes import Episodes

RIDGE = 50.0  # as many behaviours of outcome 0 along every feature
DECAY = 0.7  # what an iteration's sums count one iteration later: features move with the policy
LARGEST_NUMBER = 2**24  # that float32 counts to


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ValueStatistics:
    """Faded sums over past behaviours, of F features.

    Attributes:
      gram: float32[F, F], Σ f fᵀ.
      moment: float32[F], Σ f R.
    """

    gram: jax.Array
    moment: jax.Array


@dataclasses.dataclass(frozen=True)
class Judged:
    """What an iteration's behaviours looked like beforehand.

    Attributes:
      values: float32[E, B], Φ; 0 where there was no choice or none was asked for.
      judged: bool[E, B], where there is a value.
      explained: part of the outcomes' variance that the values explain; below 0 they are worse than the mean.
      sums: of these behaviours alone.
    """

    values: np.ndarray
    judged: np.ndarray
    explained: float
    sums: ValueStatistics


class FadingRidge:
    """The sums of past iterations and what follows from them.

    Attributes:
      num_features: F.
    """

    num_features: int

    def __init__(self, num_features: int, replicated: NamedSharding):
        """Prepares the compiled functions.

        Args:
          num_features: F.
          replicated: how the sums lie on the devices.
        """
        self.num_features, self._replicated = num_features, replicated
        self._solve = jax.jit(_ridge)
        self._add = jax.jit(lambda old, new: jax.tree.map(lambda a, b: DECAY * a + b, old, new))

    def init(self) -> ValueStatistics:
        """Statistics before anything was seen."""
        size = self.num_features
        return put(ValueStatistics(jnp.zeros((size, size)), jnp.zeros((size,))), self._replicated)

    def add(self, statistics: ValueStatistics, sums: ValueStatistics) -> ValueStatistics:
        """The statistics for the next iteration."""
        return self._add(statistics, sums)

    def weights(self, statistics: ValueStatistics) -> jax.Array:
        """float32[F], w."""
        return self._solve(statistics)


class ValueFunction(FadingRidge):
    """Judges behaviours and learns to, compiled once for each width of micro-batch."""

    def __init__(
        self,
        decisions: Decisions,
        shapes: tuple[PackingShape, ...],
        rows: NamedSharding,
        replicated: NamedSharding,
    ):
        """Prepares the compiled functions; nothing is compiled before the first use.

        Args:
          decisions: the games.
          shapes: of the micro-batches.
          rows: how their rows lie on the devices.
          replicated: how the statistics do.
        """
        super().__init__(decisions.policy.config.hidden_size + decisions.num_phases, replicated)
        self._decisions, self._shapes, self._rows = decisions, shapes, rows
        self._read = jax.jit(self._read_fn, donate_argnums=0, out_shardings=(replicated, rows))

    def judge(
        self,
        params: Any,
        statistics: ValueStatistics | None,
        game: int,
        episodes: Episodes,
        outcome: np.ndarray,
        eligible: np.ndarray,
    ) -> Judged:
        """Judges the behaviours of an iteration.

        Args:
          params: of the policy, as it played.
          statistics: of earlier iterations; None judges the first by itself.
          game: index of the game.
          episodes: on the host.
          outcome: float32[E, N], what the values are to tell.
          eligible: bool[E, B], the behaviours wanted.
        """
        weights = np.zeros((self.num_features,), np.float32)
        if statistics is None:
            statistics = self._judge(params, weights, game, episodes, outcome, eligible).sums
        return self._judge(params, self.weights(statistics), game, episodes, outcome, eligible)

    def _judge(
        self, params: Any, weights: Any, game: int, episodes: Episodes, outcome: np.ndarray, eligible: np.ndarray
    ) -> Judged:
        seat = episodes.behaviours.seat
        if seat.size >= LARGEST_NUMBER:
            raise ValueError(f"{seat.size} behaviours an iteration; a value is told for fewer than {LARGEST_NUMBER}")
        number = np.where(eligible, 1 + np.arange(seat.size).reshape(seat.shape), 0).astype(np.float32)
        target = np.take_along_axis(outcome, np.maximum(seat, 0).astype(np.int64), axis=1).astype(np.float32)
        found, judged, sums = np.zeros(1 + seat.size, np.float32), np.zeros(1 + seat.size, bool), self.init()
        weights, parts = put(weights, self._replicated), []
        # Packing carries two numbers for each behaviour: here they are its outcome and which one it is.
        for streams in pack(self._decisions, game, self._shapes, episodes, target, number, np.arange(len(seat))):
            sums, values = self._read(sums, params, weights, put(streams, self._rows))
            parts.append((streams.weight.astype(np.int64), values))
        for place, values in parts:  # asked for at last, so that no device waits for the host
            found[place], judged[place] = fetch(values), True
        values, judged = found[1:].reshape(seat.shape), judged[1:].reshape(seat.shape)
        return Judged(np.where(judged, values, 0.0), judged, variance_explained(target[judged], values[judged]), sums)

    def _read_fn(
        self, sums: ValueStatistics, params: Any, weights: jax.Array, streams: Streams
    ) -> tuple[ValueStatistics, jax.Array]:
        """Adds a micro-batch to the sums; float32[R, K], the values of its behaviours."""
        present = streams.weight > 0
        features = features_of(self._decisions, params, streams) * present[..., None]
        highest = jax.lax.Precision.HIGHEST
        gram = jnp.einsum("rkf,rkg->fg", features, features, precision=highest)
        moment = jnp.einsum("rkf,rk->f", features, streams.sign, precision=highest)
        values = jnp.einsum("rkf,f->rk", features, weights, precision=highest)
        return ValueStatistics(sums.gram + gram, sums.moment + moment), values


def variance_explained(outcome: np.ndarray, values: np.ndarray) -> float:
    """Part of the variance of outcomes float[n] that the values float[n] explain; not a number if they do not vary."""
    variance = float(outcome.var()) if len(outcome) else 0.0
    return 1 - float(np.square(outcome - values).mean()) / variance if variance else float("nan")


def features_of(decisions: Decisions, params: Any, streams: Streams) -> jax.Array:
    """float32[R, K, F]: the features of each behaviour of a micro-batch; where there is none they mean nothing."""
    behaviours = jnp.arange(streams.weight.shape[1])
    first = jnp.argmax(streams.behaviour[:, None, :] == behaviours[:, None], axis=2)
    places = jnp.take_along_axis(streams.query, first, axis=1)
    hidden = encode_streams(decisions, params, streams, places).astype(jnp.float32)
    hidden *= jax.lax.rsqrt(jnp.mean(jnp.square(hidden), axis=-1, keepdims=True) + 1e-6)
    return jnp.concatenate([hidden, jax.nn.one_hot(streams.phase, decisions.num_phases)], axis=-1)


def _ridge(statistics: ValueStatistics) -> jax.Array:
    """float32[F], w."""
    with jax.default_matmul_precision("highest"):
        penalised = statistics.gram + RIDGE * jnp.eye(len(statistics.moment))
        return jax.scipy.linalg.solve(penalised, statistics.moment, assume_a="pos")
