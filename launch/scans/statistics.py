"""Means over seeds with intervals. The unit is always the training seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 10_000
MIN_FOR_INTERVAL = 3
MIN_FOR_EQUIVALENCE = 16
# Two-sided 95 % quantiles of Student's distribution for 2 to 31 values; more are treated as 31.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def iqm(values: np.ndarray) -> np.ndarray:
    """Mean of the last axis without its lowest and highest quarter (each rounded down, as rliable does)."""
    cut = values.shape[-1] // 4
    kept = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut]
    return np.mean(kept, axis=-1)


def bootstrap(values: np.ndarray) -> np.ndarray:
    """Samples with replacement of the last axis, as many as `RESAMPLES`, always the same ones."""
    draws = np.random.default_rng(0).integers(0, values.shape[-1], (RESAMPLES, values.shape[-1]))
    return values[..., draws]


def describe(numbers: Sequence[float]) -> dict[str, Any]:
    """n, mean and interquartile mean with percentile bootstrap intervals, and Student's interval of the mean.

    Intervals are None for fewer than three values.
    """
    values = np.asarray(numbers, dtype=float)
    n = len(values)
    result: dict[str, Any] = {"n": n, "mean": None, "iqm": None, "mean_95": None, "iqm_95": None, "student_95": None}
    if n:
        result |= {"mean": float(np.mean(values)), "iqm": float(iqm(values))}
    if n >= MIN_FOR_INTERVAL:
        samples = bootstrap(values)
        half = _STUDENT[min(n, len(_STUDENT) + 1) - 2] * float(np.std(values, ddof=1)) / np.sqrt(n)
        mean = float(np.mean(values))
        result |= {
            "mean_95": _percentiles(np.mean(samples, axis=-1)),
            "iqm_95": _percentiles(iqm(samples)),
            "student_95": [mean - half, mean + half],
        }
    return result


def paired(of_seed: Mapping[int, float], baseline: Mapping[int, float]) -> dict[str, Any]:
    """`describe` of the differences to the baseline on the seeds that both have."""
    common = sorted(of_seed.keys() & baseline.keys())
    return describe([of_seed[seed] - baseline[seed] for seed in common]) | {"seeds": common}


def contrast(
    plus: Sequence[Mapping[int, float]], minus: Sequence[Mapping[int, float]], seeds: Sequence[int]
) -> dict[str, Any]:
    """`describe` of a difference of means over trials, seed by seed.

    Args:
      plus: of each trial on one side, its seeds' values.
      minus: of each trial on the other side.
      seeds: that are asked for; those that a trial has no value for are left out.

    Returns:
      Its figures with the `seeds` used, `p` (two-sided, Student's test of a mean of 0) and `student_90`; None each for
      fewer than three seeds.
    """
    common = [seed for seed in seeds if all(seed in of for of in (*plus, *minus))]
    of_plus, of_minus = (np.array([np.mean([of[seed] for of in side]) for seed in common]) for side in (plus, minus))
    differences = of_plus - of_minus
    found = describe(differences.tolist()) | {"seeds": common, "p": None, "student_90": None}
    if len(common) >= MIN_FOR_INTERVAL:
        from scipy import stats

        n, mean, error = len(common), found["mean"], float(np.std(differences, ddof=1) / np.sqrt(len(common)))
        half = float(stats.t.ppf(0.95, n - 1)) * error
        found["p"] = 2 * float(stats.t.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
        found["student_90"] = [mean - half, mean + half]
    return found


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusts p-values for their number (Holm 1979): the k-th smallest of m is multiplied by m - k + 1, none falls.

    Those that are None are no tests and stay so.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def equivalent(figures: Mapping[str, Any], margin: float | None) -> bool | None:
    """Whether a contrast lies within the margin: its 90 % interval does (two one-sided tests at 5 %).

    None where that was not asked, or there are fewer than 16 seeds.
    """
    if margin is None or figures["n"] < MIN_FOR_EQUIVALENCE:
        return None
    low, high = figures["student_90"]
    return -margin < low and high < margin


def band(curves: Sequence[Mapping[int, float]]) -> list[tuple[int, float, float | None, float | None]]:
    """Step, mean and 95 % bootstrap interval over curves, at the steps that all of them have."""
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    rows: list[tuple[int, float, float | None, float | None]] = []
    for step in steps:
        found = describe([curve[step] for curve in curves])
        low, high = found["mean_95"] or (None, None)
        rows.append((step, found["mean"], low, high))
    return rows


def _percentiles(samples: np.ndarray) -> list[float]:
    return [float(x) for x in np.percentile(samples, [2.5, 97.5])]
