"""Whether a critic may be believed: its chances against what came, on episodes it was not trained on.

Q makes a forecast for every goal of every held-out transition; what came is whether the goal was reached before the
episode's end, in that transition or later. The log loss of a chance p is −log p where the goal was reached and
−log(1 − p) where not. The gain is the log loss of the chance before the thought less that of Q: what the thought tells.
Its interval resamples whole episodes, since forecasts of one episode are about the same events.

The gain compares two networks that were trained alike and sees nothing that is wrong with both. So Q is also held
against how often each goal was reached in the other episodes, a forecast that knows neither state nor thought.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from maro_jax.pnlc.networks import Critic
from maro_jax.pnlc.transitions import Transitions, reached_later
from maro_jax.run.fields import ConfigError

ROWS_AT_A_TIME = 1024
RESAMPLES_AT_A_TIME = 100
SMALLEST_CHANCE = 1e-7  # what float32 tells from 0 and 1


@dataclasses.dataclass(frozen=True)
class Bin:
    """A bar of a reliability diagram.

    Attributes:
      low, high: the chances that belong here, the first bin's low and every bin's high among them.
      forecasts: how many there were.
      forecast: their mean; 0 where there were none.
      frequency: the share of them that came true; 0 where there were none.
    """

    low: float
    high: float
    forecasts: int
    forecast: float
    frequency: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How a critic did on held-out episodes.

    Attributes:
      episodes, transitions, goals: how many were judged; transitions · goals are the forecasts.
      q_log_loss: of Q, the mean over forecasts in nats.
      v_log_loss: of V.
      before_log_loss: of the mean chance before the thought; V's where V is a mean.
      gain: before_log_loss − q_log_loss.
      gain_low, gain_high: the bootstrap interval of the gain.
      confidence: of the interval.
      error: Q's expected calibration error, Σ forecasts · |forecast − frequency| of the bins, over all forecasts.
      bins: Q's reliability diagram.
      rates_log_loss: of each goal's share in the other episodes as its forecast; None of critics kept before this was
        measured.
    """

    episodes: int
    transitions: int
    goals: int
    q_log_loss: float
    v_log_loss: float
    before_log_loss: float
    gain: float
    gain_low: float
    gain_high: float
    confidence: float
    error: float
    bins: tuple[Bin, ...]
    rates_log_loss: float | None = None

    @property
    def beats_rates(self) -> bool:
        """Whether Q forecasts better than the mere shares of the goals."""
        return self.rates_log_loss is None or self.q_log_loss < self.rates_log_loss

    @property
    def may_guide(self) -> bool:
        """Whether the thought was shown to tell something, the gain's whole interval above 0, by a sound forecast."""
        return self.gain_low > 0 and self.beats_rates

    def require_guidance(self) -> None:
        """Raises `ConfigError` for a critic that may not guide."""
        if not self.beats_rates:
            raise ConfigError(
                f"this critic may not guide: on {self.episodes} held-out episodes its log loss is "
                f"{self.q_log_loss:.4f}, and to forecast each goal by how often it is reached gives "
                f"{self.rates_log_loss:.4f}; train it with --future_goals=0 --expectile=0.5, or on more episodes"
            )
        if not self.may_guide:
            raise ConfigError(
                f"this critic may not guide: on {self.episodes} held-out episodes its log loss with the thought is "
                f"{self.q_log_loss:.4f} and without {self.before_log_loss:.4f}, a gain of {self.gain:.4f} "
                f"[{self.gain_low:.4f}, {self.gain_high:.4f}] that must be above 0; record more episodes, or thoughts "
                "that say what the actor will do"
            )


def calibrate(
    critic: Critic,
    data: Transitions,
    rows: np.ndarray,
    *,
    num_bins: int = 10,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Calibration:
    """Judges a critic by rows it was not trained on.

    Args:
      critic: what is judged.
      data: with the goals it was trained for.
      rows: int32[R], held out; whole trajectories to the end of their episodes, or what came is not known.
      num_bins: of the reliability diagram, of equal width.
      resamples: of the bootstrap.
      confidence: of the interval, between 0 and 1.
      seed: of the bootstrap.

    Raises:
      ConfigError: there is no row, or the data have other goals than the critic.
    """
    if not np.array_equal(critic.goal, data.goal):
        raise ConfigError("the data have other goals than the critic; judge it by data with its own goals")
    if not len(rows):
        raise ConfigError("there is no held-out transition to judge the critic by; hold out more episodes")
    all_came = reached_later(data)
    came, others = all_came[rows], np.delete(all_came, rows, axis=0)
    rates = (others.sum(axis=0) + 1) / (len(others) + 2)  # of Laplace: never 0 or 1
    chances: dict[str, list[np.ndarray]] = {"q": [], "v": [], "before": []}
    for part in np.array_split(rows, -(-len(rows) // ROWS_AT_A_TIME)):
        chances["q"].append(np.asarray(critic.q(data.state[part], data.thought[part])))
        chances["v"].append(np.asarray(critic.v(data.state[part])))
        chances["before"].append(np.asarray(critic.before_thought(data.state[part])))
    found = {name: np.concatenate(parts) for name, parts in chances.items()}
    missed = {name: log_loss(chance, came) for name, chance in found.items()}
    gains = missed["before"] - missed["q"]
    low, high = bootstrap(gains.mean(axis=1), data.episode[rows], resamples, confidence, seed)
    bins = reliability(found["q"], came, num_bins)
    return Calibration(
        episodes=len(np.unique(data.episode[rows])),
        transitions=len(rows),
        goals=came.shape[1],
        q_log_loss=float(missed["q"].mean()),
        v_log_loss=float(missed["v"].mean()),
        before_log_loss=float(missed["before"].mean()),
        gain=float(gains.mean()),
        gain_low=low,
        gain_high=high,
        confidence=confidence,
        error=calibration_error(bins),
        bins=bins,
        rates_log_loss=float(log_loss(rates, came).mean()),
    )


def log_loss(chances: np.ndarray, came: np.ndarray) -> np.ndarray:
    """float64, of the shape of its arguments: −log of the chance given to what came."""
    chances = np.clip(np.asarray(chances, np.float64), SMALLEST_CHANCE, 1 - SMALLEST_CHANCE)
    return -np.log(np.where(came, chances, 1 - chances))


def reliability(chances: np.ndarray, came: np.ndarray, num_bins: int) -> tuple[Bin, ...]:
    """The reliability diagram of forecasts in bins of equal width.

    Args:
      chances: float[...], from 0 to 1.
      came: bool[...], of the same shape.
      num_bins: 1 or more.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    chances = np.asarray(chances, np.float64).ravel()
    place = np.clip(np.searchsorted(edges, chances, side="left") - 1, 0, num_bins - 1)
    counts = np.bincount(place, minlength=num_bins)
    sums = [np.bincount(place, weights=values, minlength=num_bins) for values in (chances, np.ravel(came))]
    forecast, frequency = (total / np.maximum(counts, 1) for total in sums)
    return tuple(
        Bin(float(edges[b]), float(edges[b + 1]), int(counts[b]), float(forecast[b]), float(frequency[b]))
        for b in range(num_bins)
    )


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """The mean distance of forecast and frequency, bins weighted by their forecasts (Naeini et al. 2015)."""
    total = sum(each.forecasts for each in bins)
    return sum(each.forecasts * abs(each.forecast - each.frequency) for each in bins) / total


def bootstrap(
    values: np.ndarray, episode: np.ndarray, resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """The percentile interval of the mean over rows when episodes are drawn with replacement.

    Args:
      values: float[R].
      episode: int[R], the episode of each row.
      resamples: how often all episodes are drawn anew.
      confidence: share of the resampled means inside.
      seed: of the draws.
    """
    _, place = np.unique(episode, return_inverse=True)
    sums, counts = np.bincount(place, weights=values), np.bincount(place)
    rng, means = np.random.default_rng(seed), []
    for first in range(0, resamples, RESAMPLES_AT_A_TIME):
        number = min(RESAMPLES_AT_A_TIME, resamples - first)
        drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=number)
        means.append((drawn @ sums) / (drawn @ counts))
    outside = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [outside, 1 - outside])
    return float(low), float(high)
