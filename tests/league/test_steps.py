"""What an iteration tells of its optimizer steps, and what one step hands to the next."""

import numpy as np

from maro_jax.league.played import step_metrics
from maro_jax.league.trainer import following_point

SUMS = ("loss", "entropy", "magnet_kl", "tokens", "behaviours", "log_prob", "kl", "log_ratio_squared", "gradient_scale",
        "saturated", "grad_norm", "skipped", "spikes")  # fmt: skip


def test_steps_that_were_not_finite_in_a_row_are_told_of_though_the_last_one_was():
    steps = [dict.fromkeys(SUMS, 1.0) | {"learning_rate": 0.1, "bad_steps": np.int32(bad)} for bad in (1, 2, 3, 0)]
    assert step_metrics(steps)["bad_steps"] == 3 and step_metrics(steps)["skipped"] == 4


def test_the_reference_point_outlives_a_kl_that_is_not_finite():
    step = {"kl": np.array([6.0, np.nan, np.inf, 0.0]), "phase_behaviours": np.array([3.0, 1.0, 1.0, 0.0])}
    np.testing.assert_allclose(following_point(np.array([9.0, 0.5, 0.25, 1.0]), step), [2.0, 0.5, 0.25, 0.0])
