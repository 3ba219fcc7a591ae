"""What an iteration tells of its optimizer steps, and what one step hands to the next."""

import types

import numpy as np
import pytest

from maro_jax.credit.objective import CreditOptions
from maro_jax.league.played import choice_metrics, entropy_of, step_metrics
from maro_jax.league.trainer import following_point

SUMS = ("loss", "entropy", "magnet_kl", "tokens", "behaviours", "log_prob", "kl", "log_ratio_squared", "gradient_scale",
        "saturated", "clipped", "grad_norm", "skipped", "spikes")  # fmt: skip


def test_steps_that_were_not_finite_in_a_row_are_told_of_though_the_last_one_was():
    steps = [dict.fromkeys(SUMS, 1.0) | {"learning_rate": 0.1, "bad_steps": np.int32(bad)} for bad in (1, 2, 3, 0)]
    assert step_metrics(steps)["bad_steps"] == 3 and step_metrics(steps)["skipped"] == 4


def test_the_reference_point_outlives_a_kl_that_is_not_finite():
    step = {"kl": np.array([6.0, np.nan, np.inf, 0.0]), "phase_behaviours": np.array([3.0, 1.0, 1.0, 0.0])}
    before = np.array([9.0, 0.5, 0.25, 1.0])
    np.testing.assert_allclose(following_point(CreditOptions(), before, step), [2.0, 0.5, 0.25, 0.0])
    for stays in (CreditOptions(reference_point="zero"), CreditOptions(utility="ppo"), CreditOptions(utility="dro")):
        assert following_point(stays, before, step) is before


def test_entropy_of_many_draws_is_that_of_their_distribution():
    chance, distribution = np.random.default_rng(0), np.array([0.5, 0.2, 0.2, 0.1])
    exact = -(distribution * np.log(distribution)).sum()
    assert entropy_of(chance.choice(4, 100_000, p=distribution)) == pytest.approx(exact, abs=0.005)
    few = np.mean([entropy_of(chance.choice(4, 40, p=distribution)) for _ in range(2000)])
    assert few == pytest.approx(exact, abs=0.01)
    assert entropy_of(np.zeros(9, int)) == 0


@pytest.mark.parametrize("looks", [0.0, 1.0])
def test_actions_that_follow_what_was_seen_inform_of_it(looks):
    # In the second phase a seat sees one of two things and copies it, or throws a coin. In the third it has no choice.
    chance, shape = np.random.default_rng(1), (4000, 3)
    phase = np.broadcast_to(np.array([1, 1, 2]), shape)
    seen, coin = chance.integers(0, 2, shape), chance.integers(0, 2, shape)
    action = np.where(phase == 1, np.where(chance.random(shape) < looks, seen, coin), 3)
    legal = (np.arange(4) < 2) & (phase == 1)[..., None] | (np.arange(4) == 3) & (phase == 2)[..., None]
    spec = types.SimpleNamespace(phases=[types.SimpleNamespace(name=name) for name in ("night", "vote", "end")])
    made = types.SimpleNamespace(phase=phase, action=action, legal=legal)
    played = types.SimpleNamespace(
        arena=types.SimpleNamespace(table=types.SimpleNamespace(spec=spec)),
        episodes=types.SimpleNamespace(behaviours=made),
        credit=types.SimpleNamespace(eligible=chance.random(shape) < 0.5),
    )
    given = (1 - looks) * np.log(2)  # nats an action leaves open
    step = {"action_entropy": np.array([9.0, 0, given * 100, 0]), "phase_behaviours": np.array([9.0, 0, 100, 8])}
    report = choice_metrics(played, [step] * 3, first_phase=1)
    assert report.keys() == {"action_entropy/vote", "mutual_information/vote"}
    assert report["action_entropy/vote"] == pytest.approx(given)
    assert report["mutual_information/vote"] == pytest.approx(looks * np.log(2), abs=0.01)
