"""Means over seeds with intervals. The unit is always the training seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 10_000
MIN_FOR_INTERVAL = 3
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
