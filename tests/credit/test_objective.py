"""The whole of credit against plain loops, its edges, and its layout on devices."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import maro_jax.credit as library
from maro_jax.credit import balance, objective
from tests.credit import naive

SIDE_OF_ROLE = (0, 1, 1)
REFUSED = {("none", "role_label"), *((b, "deal") for b in ("none", "role", "cell"))}
COMBINATIONS = [
    library.CreditOptions(decompose=d, baseline=b, balance=w, deal_group=3 if b == "deal" else 1)
    for d, b, w in itertools.product(
        objective.OPTIONS["decompose"], objective.OPTIONS["baseline"], objective.OPTIONS["balance"]
    )
    if (b, w) not in REFUSED and (d in ("none", "outcome") or b != "deal")
]
credit = jax.jit(objective.credit, static_argnames=("options", "side_of_role", "decay"))


def forked_of(batch: naive.Batch) -> library.Forked:
    return library.Forked(batch.differences, batch.forked, np.float32(batch.share))


@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
def test_equals_loops_over_several_batches(options):
    """The first batch leans on itself, the later ones on those before."""
    statistics, oracle = balance.init(3, 2), naive.Statistics()
    for seed in range(3):
        batch = naive.random_batch(seed, naive.SHAPES[-1])
        got, statistics = credit(
            options, statistics, **batch.arrays, side_of_role=SIDE_OF_ROLE, values=batch.values,
            scores=batch.scores, judged=batch.judged, forked=forked_of(batch), decay=0.8,
        )  # fmt: skip
        want = naive.credit(options, oracle, batch, SIDE_OF_ROLE, decay=0.8)
        np.testing.assert_array_equal(got.eligible, want.eligible)
        for name in ("returns", "advantages", "weights"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-4, atol=1e-5, err_msg=name)
        clear = np.abs(want.advantages) > 1e-4  # nearer 0 the sign is a matter of rounding
        np.testing.assert_array_equal(np.asarray(got.signs)[clear], np.sign(want.advantages)[clear])
        assert float(got.normaliser) == pytest.approx(want.normaliser, rel=1e-5)


@pytest.mark.parametrize("baseline", ["none", "role", "cell"])
def test_rules_touch_nothing_that_they_do_not_speak_of(baseline):
    """Their mean is 0 in every cell, so that no baseline moves; only m, the common divisor of a role, may."""
    statistics, after = {}, {}
    for name in ("outcome", "rules"):
        options = library.CreditOptions(decompose=name, baseline=baseline, balance="role")
        statistics = balance.init(3, 2)
        for seed in range(2):
            batch = naive.random_batch(seed, naive.SHAPES[-1])
            told = {"scores": batch.scores, "judged": batch.judged}
            after[name, seed], statistics = credit(
                options, statistics, **batch.arrays, side_of_role=SIDE_OF_ROLE, **told
            )
    for seed in range(2):
        batch = naive.random_batch(seed, naive.SHAPES[-1])
        spoken_of = batch.judged & batch.eligible
        for leaf in ("returns", "advantages", "weights"):
            one, other = (np.asarray(getattr(after[name, seed], leaf)) for name in ("outcome", "rules"))
            np.testing.assert_allclose(one[~spoken_of], other[~spoken_of], atol=1e-5)
            assert np.abs(one - other)[spoken_of].max() > 0.1
        changed = np.asarray(after["rules", seed].returns) - np.asarray(after["outcome", seed].returns)
        for role, phase in itertools.product(range(3), range(2)):
            cell = batch.eligible & (batch.role == role) & (batch.phase == phase)
            assert changed[cell].sum() == pytest.approx(0, abs=1e-5)


def test_what_a_decomposition_needs_has_to_be_passed():
    batch = naive.random_batch(0, naive.SHAPES[0])
    needed = {"value": "values", "pnlc": "values", "fork_dr": "values", "rules": "scores", "fork": "forked"}
    for name, argument in needed.items():
        with pytest.raises(ValueError, match=f"decompose='{name}' does not go by outcomes alone: pass {argument}="):
            credit(library.CreditOptions(decompose=name), balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)


@pytest.mark.parametrize("name", ["fork", "fork_dr"])
def test_whatever_is_forked_the_expected_gradient_is_that_of_every_u(name):
    """Over all ways to fork 2 of 5 candidates, what a behaviour's −∇log π is multiplied by is on average U / (E n̄)."""
    batch, places = naive.random_batch(3, naive.SHAPES[1]), [(0, 0), (0, 2), (1, 1), (2, 0), (2, 3)]
    eligible = np.zeros(batch.seat.shape, bool)
    eligible[tuple(zip(*places, strict=True))] = True
    arrays = batch.arrays | {"seat": np.abs(batch.seat), "role": np.abs(batch.role), "phase": np.abs(batch.phase)}
    arrays["eligible"] = eligible
    options = library.CreditOptions(decompose=name, baseline="none", balance="none", utility="reinforce")
    cells = jnp.ones((3, 2))
    earlier = balance.BalanceStatistics(cells, cells, cells, jnp.float32(4.0))  # n̄ = 6 / 4
    ways, total = list(itertools.combinations(places, 2)), np.zeros(eligible.shape)
    for way in ways:
        forked = np.zeros(eligible.shape, bool)
        forked[tuple(zip(*way, strict=True))] = True
        shown = library.Forked(batch.differences, forked, np.float32(2 / 5))
        given, _ = credit(
            options, earlier, **arrays, values=batch.values, forked=shown, side_of_role=SIDE_OF_ROLE, decay=0.9
        )
        total += np.asarray(given.signs * given.weights) / float(given.normaliser) / len(ways)
    assert np.abs(batch.differences[eligible]).max() > 0.4
    np.testing.assert_allclose(total, np.where(eligible, batch.differences / (3 * 1.5), 0.0), atol=1e-5)


def test_kto_at_the_reference_is_role_baselined_reinforce_divided_by_the_roles_scale():
    """The gradient of a behaviour is ω A / m, A the outcome less the role's mean, m the role's mean |A|."""
    batch = wins_and_losses(seed=4)
    given, _ = credit(library.CreditOptions(), balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)
    log_prob = jnp.asarray(np.random.default_rng(0).uniform(-3, 0, batch.seat.shape), jnp.float32)
    slopes = {}
    for utility, weights in (("kto", given.weights), ("reinforce", jnp.abs(given.advantages))):
        options = library.CreditOptions(utility=utility, beta=0.7)
        slopes[utility] = np.asarray(
            jax.grad(lambda x, o=options, w=weights: jnp.sum(
                objective.behaviour_loss(o, x, log_prob, jnp.zeros(()), given.signs, w)))(log_prob)
        )  # fmt: skip
    mine = np.asarray(given.eligible)
    results = np.take_along_axis(batch.outcome, np.maximum(batch.seat, 0).astype(int), axis=1)
    share = {role: (batch.role[mine] == role).mean() for role in range(3)}
    for role, mass in ((0, 1 / 2), (1, 1 / 4), (2, 1 / 4)):
        here = mine & (batch.role == role)
        advantage = results[here] - results[here].mean()
        np.testing.assert_allclose(slopes["reinforce"][here], -advantage, rtol=1e-4, atol=1e-5)
        factor = mass / share[role] / np.abs(advantage).mean()
        np.testing.assert_allclose(slopes["kto"][here], -factor * advantage, rtol=1e-4, atol=1e-5)


def test_a_deal_is_judged_by_itself():
    """What all its episodes share cancels, nobody gains on average, and the spread is divided out."""
    options = library.CreditOptions(baseline="deal", balance="deal", deal_group=3)
    batch = naive.random_batch(5, naive.SHAPES[-1])
    got, _ = credit(options, balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)
    luck = np.repeat(np.random.default_rng(0).normal(size=(2, 4)), 3, axis=0).astype(np.float32)
    moved = batch.arrays | {"outcome": batch.outcome / 2 + luck}
    other, _ = credit(options, balance.init(3, 2), **moved, side_of_role=SIDE_OF_ROLE)
    assert np.abs(got.advantages).max() > 0.1
    np.testing.assert_allclose(other.advantages, np.asarray(got.advantages) / 2, atol=1e-5)
    clear = np.abs(np.asarray(got.advantages)) > 1e-4
    np.testing.assert_allclose(np.asarray(other.weights)[clear], np.asarray(got.weights)[clear], rtol=1e-3)
    for first in (0, 3):
        for seat in range(4):
            mine = [(batch.seat[e] == seat) & batch.eligible[e] for e in range(first, first + 3)]
            values = [np.asarray(got.advantages)[first + e][mine[e]] for e in range(3)]
            assert sum(value[0] for value in values if len(value)) == pytest.approx(0, abs=1e-5)


def test_a_deal_whose_results_agree_teaches_nothing():
    """Results that have no exact sum leave rounding behind, which must not become an advantage."""
    options = library.CreditOptions(baseline="deal", balance="deal", deal_group=3)
    batch = naive.random_batch(5, naive.SHAPES[-1])
    batch.outcome = np.full_like(batch.outcome, 0.7)
    got, _ = credit(options, balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)
    assert batch.eligible.any() and np.asarray(got.weights).max() < 1e-3


def wins_and_losses(seed=0, episodes=64):
    """Binary outcomes by side: a wolf (role 0) against a seer and two villagers."""
    rng = np.random.default_rng(seed)
    batch = naive.random_batch(seed, (episodes, 20, 4), binary=True)
    role_of_seat = np.array([0, 1, 2, 2])
    batch.role = np.where(batch.seat >= 0, role_of_seat[batch.seat], -1).astype(np.int8)
    wolf = np.where(rng.random(episodes) < 0.3, 1.0, -1.0)
    batch.outcome = np.stack([wolf, -wolf, -wolf, -wolf], axis=1).astype(np.float32)
    return batch


def test_masses_on_a_first_batch_of_wins_and_losses():
    """Sides 1 : 1, roles of a side 1 : 1, and inside each role good : bad 1 : 1."""
    batch = wins_and_losses()
    options = library.CreditOptions()
    got, _ = credit(options, balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)
    shown = objective.metrics(got, jnp.asarray(batch.role), 3)
    total = float(jnp.sum(got.weights))
    assert total == pytest.approx(int(batch.eligible.sum()), rel=1e-4)
    half = total * np.array([1 / 2, 1 / 4, 1 / 4]) / 2
    np.testing.assert_allclose(shown["good_mass"], half, rtol=1e-4)
    np.testing.assert_allclose(shown["bad_mass"], half, rtol=1e-4)
    # So the loss of a batch is divided by its own weight: an average.
    assert float(got.normaliser) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("kind", ["none", "role", "role_label", "deal"])
def test_dro_splits_the_weight_into_how_good_and_how_much(kind):
    """The product is that of the other utilities; a behaviour of advantage 0 counts too, and is held where it is."""
    baseline = {"baseline": "deal", "deal_group": 3} if kind == "deal" else {"baseline": "cell"}
    batch = naive.random_batch(5, naive.SHAPES[-1])
    batch.outcome[:3] = 0.25  # of the first deal, so that nothing in it is better than the rest
    both = {}
    for utility in ("reinforce", "dro"):
        options = library.CreditOptions(utility=utility, balance=kind, **baseline)
        both[utility], _ = credit(options, balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)
    usual, split = both["reinforce"], both["dro"]
    np.testing.assert_allclose(split.signs * split.weights, usual.signs * usual.weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(split.weights) > 0, split.eligible)
    if kind in ("none", "deal"):
        np.testing.assert_array_equal(split.weights, split.eligible.astype(np.float32))
    if kind == "none":
        np.testing.assert_allclose(split.signs, split.advantages, rtol=1e-6)
    if kind == "deal":
        assert not np.any(split.signs[:3]) and np.any(split.weights[:3]) and not np.any(usual.weights[:3])


@pytest.mark.parametrize("utility", ["kto", "dro"])
def test_metrics_equal_loops(utility):
    batch = naive.random_batch(3, naive.SHAPES[-1])
    options = library.CreditOptions(utility=utility)
    shown_of, _ = credit(options, balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)
    shown = objective.metrics(shown_of, jnp.asarray(batch.role), 3)
    got, _ = credit(library.CreditOptions(), balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)
    for role in range(3):
        mine = [s for s in batch.slots() if batch.eligible[s] and batch.role[s] == role]
        returns = [float(got.returns[s]) for s in mine]
        advantages = [float(got.advantages[s]) for s in mine]
        weights = [float(got.weights[s]) for s in mine]
        good = sum(w for w, a in zip(weights, advantages, strict=True) if a > 0)
        want = {
            "behaviours": len(mine),
            "mean_return": np.mean(returns) if mine else 0,
            "mean_advantage": np.mean(advantages) if mine else 0,
            "good_mass": good,
            "bad_mass": sum(weights) - good,
            "effective_sample_size": sum(weights) ** 2 / sum(w * w for w in weights),
        }
        assert set(want) == set(shown)
        for name, value in want.items():
            assert float(shown[name][role]) == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_cloning_gives_bad_behaviours_no_sign_and_changes_nothing_else():
    batch, found = naive.random_batch(0, naive.SHAPES[-1]), {}
    for utility in ("reinforce", "clone"):
        options = library.CreditOptions(decompose="outcome", baseline="role", balance="none", utility=utility)
        found[utility], _ = credit(options, balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)
    plain, cloned = found["reinforce"], found["clone"]
    assert (np.asarray(plain.signs) < 0).any() and (np.asarray(plain.signs) > 0).any()
    np.testing.assert_array_equal(cloned.signs, np.maximum(plain.signs, 0))
    for name in ("returns", "advantages", "weights", "eligible", "normaliser"):
        np.testing.assert_array_equal(getattr(cloned, name), getattr(plain, name))


def test_no_advantage_no_weight():
    """A role that always draws has A = 0 throughout: sign and weight are exactly 0."""
    batch = naive.random_batch(0, naive.SHAPES[-1])
    batch.outcome = np.zeros_like(batch.outcome)
    for kind in ("none", "role", "cell"):
        got, _ = credit(
            library.CreditOptions(baseline=kind, balance="role"),
            balance.init(3, 2),
            **batch.arrays,
            side_of_role=SIDE_OF_ROLE,
        )
        assert not np.any(got.signs) and not np.any(got.weights) and np.any(got.eligible)


def test_a_batch_with_nothing_to_learn_from_gives_zero_and_teaches_nothing():
    batch = naive.random_batch(0, naive.SHAPES[-1])
    batch.eligible = np.zeros_like(batch.eligible)
    start = balance.init(3, 2)
    got, statistics = credit(library.CreditOptions(), start, **batch.arrays, side_of_role=SIDE_OF_ROLE)
    assert float(got.normaliser) == 1
    for leaf in (got.returns, got.advantages, got.signs, got.weights, got.eligible):
        assert not np.any(leaf)
    # The next batch still is a first batch.
    batch = naive.random_batch(1, naive.SHAPES[-1])
    after, _ = credit(library.CreditOptions(), statistics, **batch.arrays, side_of_role=SIDE_OF_ROLE)
    fresh, _ = credit(library.CreditOptions(), start, **batch.arrays, side_of_role=SIDE_OF_ROLE)
    np.testing.assert_array_equal(after.weights, fresh.weights)


def test_a_batch_cannot_move_its_own_baseline_or_divisor():
    """With statistics at hand, turning one outcome round changes that one advantage only."""
    batch = wins_and_losses(seed=1)
    _, statistics = credit(library.CreditOptions(), balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)
    plain, _ = credit(library.CreditOptions(), statistics, **batch.arrays, side_of_role=SIDE_OF_ROLE)
    # New arrays: a call still under way may read the old ones in place.
    first, second = (np.arange(batch.seat.shape[0])[:, None] == row for row in (0, 1))
    batch.outcome = np.where(first, -batch.outcome, batch.outcome)
    batch.eligible = np.where(second, False, batch.eligible)
    turned, _ = credit(library.CreditOptions(), statistics, **batch.arrays, side_of_role=SIDE_OF_ROLE)
    np.testing.assert_array_equal(plain.weights[2:], turned.weights[2:])
    assert np.any(np.asarray(plain.advantages[0]) != np.asarray(turned.advantages[0]))
    assert float(plain.normaliser) == float(turned.normaliser)


def test_same_on_one_and_on_eight_devices():
    devices = jax.devices("cpu")
    assert len(devices) >= 8, "tests/conftest.py asks XLA for 8 virtual CPU devices"
    mesh = Mesh(np.array(devices[:8]), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    batch = wins_and_losses(seed=2)
    options = library.CreditOptions(decompose="discounted", baseline="cell")
    run = functools.partial(jax.jit(_two_batches, static_argnames="options"), options, balance.init(3, 2))
    one = run({name: jax.device_put(x, devices[0]) for name, x in batch.arrays.items()})
    eight = run({name: jax.device_put(x, split) for name, x in batch.arrays.items()})
    assert len(eight[0].weights.sharding.device_set) == 8
    assert not eight[0].weights.sharding.is_fully_replicated
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6)


def _two_batches(options, statistics, arrays):
    for _ in range(2):
        got, statistics = objective.credit(options, statistics, **arrays, side_of_role=SIDE_OF_ROLE)
    z0 = library.REFERENCE_POINTS["token_kl"](got.weights, arrays["phase"], got.eligible, 2)
    return got, statistics, objective.metrics(got, arrays["role"], 3), z0


def test_order_of_episodes_does_not_matter():
    batch = wins_and_losses(seed=3)
    options = library.CreditOptions(baseline="cell")
    order = np.random.default_rng(0).permutation(batch.seat.shape[0])
    plain, _ = credit(options, balance.init(3, 2), **batch.arrays, side_of_role=SIDE_OF_ROLE)
    mixed, _ = credit(
        options,
        balance.init(3, 2),
        **{name: x[order] for name, x in batch.arrays.items()},
        side_of_role=SIDE_OF_ROLE,
    )
    np.testing.assert_allclose(plain.weights[order], mixed.weights, rtol=1e-5, atol=1e-6)


def test_no_host_in_credit():
    """One program with no callback in it."""
    batch = naive.random_batch(0, naive.SHAPES[-1])
    options = library.CreditOptions()
    jaxpr = jax.make_jaxpr(lambda statistics, arrays: _two_batches(options, statistics, arrays))(
        balance.init(3, 2), batch.arrays
    )
    assert "callback" not in str(jaxpr)


def test_behaviour_loss_follows_the_option():
    log_prob, reference = jnp.asarray([-1.0, -2.0]), jnp.asarray([-1.5, -1.0])
    z0, sign, weight = jnp.asarray([0.1, 0.2]), jnp.asarray([1.0, -1.0]), jnp.asarray([0.5, 2.0])
    got = objective.behaviour_loss(library.CreditOptions(utility="reinforce"), log_prob, reference, z0, sign, weight)
    np.testing.assert_allclose(got, [0.5, -4.0])
    got = objective.behaviour_loss(library.CreditOptions(beta=0.5), log_prob, reference, z0, sign, weight)
    want = [
        8 * naive.published_kto(0.5, True, 0.5, 0.5, 0.1),
        8 * naive.published_kto(-1.0, False, 2.0, 0.5, 0.2),
    ]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    clone = library.CreditOptions(utility="clone")
    np.testing.assert_allclose(objective.behaviour_loss(clone, log_prob, reference, z0, sign, weight), [0.5, 0.0])
    dro = library.CreditOptions(utility="dro", beta=0.5)
    want = [0.5 * (0.25 * 0.5**2 - 0.5), 2.0 * (0.25 - 1.0)]
    np.testing.assert_allclose(objective.behaviour_loss(dro, log_prob, reference, z0, sign, weight), want, rtol=1e-6)
    ppo = library.CreditOptions(utility="ppo", clip=0.3)
    want = [0.5 * naive.published_ppo(np.exp(0.5), 1, 0.3), 2.0 * naive.published_ppo(np.exp(-1.0), -1, 0.3)]
    np.testing.assert_allclose(objective.behaviour_loss(ppo, log_prob, reference, z0, sign, weight), want, rtol=1e-6)


@pytest.mark.parametrize("utility", ["kto", "dro", "ppo"])
def test_the_reference_carries_no_gradient(utility):
    options = library.CreditOptions(utility=utility)
    one = jnp.ones(())
    gradient = jax.grad(lambda reference: objective.behaviour_loss(options, one, reference, one, one, one))(one)
    assert float(gradient) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"decompose": "rule"}, "decompose must be one of none, outcome, discounted, value, pnlc,"),
        ({"rules_weight": 0.0}, "rules_weight must be above 0"),
        ({"baseline": "seat"}, "baseline must be one of none, role, cell"),
        ({"balance": "label"}, "balance must be one of none, role, role_label"),
        ({"utility": "dpo"}, "utility must be one of kto, dro, reinforce, ppo, clone"),
        ({"clip": 1.0}, "clip must lie between 0 and 1"),
        ({"balance": "deal"}, "set baseline='deal' too"),
        ({"baseline": "deal"}, "at least 2"),
        ({"baseline": "deal", "deal_group": 2, "decompose": "discounted"}, "whole outcomes"),
        ({"baseline": "deal", "deal_group": 2, "decompose": "rules"}, "whole outcomes"),
        ({"reference": "self"}, "reference must be one of iteration, warm_start, lagged, not 'self'"),
        ({"reference": "lagged", "reference_point": "sampled_kl"}, "the reference itself has sampled"),
        ({"reference_point": "one"}, "reference_point must be one of token_kl, sampled_kl, zero"),
        ({"discount": 0.0}, r"discount must lie in \(0, 1\], not 0.0"),
        ({"discount": 1.1}, r"discount must lie in \(0, 1\], not 1.1"),
        ({"discount": float("nan")}, r"discount must lie in \(0, 1\], not nan"),
        ({"beta": 0.0}, "beta must be above 0, not 0.0"),
        ({"beta": float("nan")}, "beta must be above 0, not nan"),
        ({"baseline": "none", "balance": "role_label"}, "needs a baseline"),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        library.CreditOptions(**wrong)
