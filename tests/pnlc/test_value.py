"""Networks, batches, losses and steps against NumPy and plain loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maro_jax.pnlc import networks
from maro_jax.pnlc.transitions import Transitions, check, reached_later, split_by_episode, times_reached
from maro_jax.pnlc.value import Batch, Tables, ValueOptions, bootstrapped, draw, losses, new_networks, train
from maro_jax.run.fields import ConfigError

SIZE = 5
NUMBERS = {"expectile": 0.8, "discount": 0.9, "stop_at_goal": 1.0}


def random_data(seed: int = 0, goals: int = 3) -> Transitions:
    """Three episodes of two actors who decide in turn, five decisions each."""
    rng = np.random.default_rng(seed)
    place = np.arange(30) % 10
    return Transitions(
        state=rng.normal(size=(30, SIZE)).astype(np.float32),
        thought=rng.normal(size=(30, SIZE)).astype(np.float32),
        following=np.arange(2, 32).astype(np.int32),
        done=place >= 8,
        reached=rng.random((30, goals)) < 0.2,
        goal=rng.normal(size=(goals, SIZE)).astype(np.float32),
        episode=(np.arange(30) // 10).astype(np.int32),
    )


def random_batch(rng: np.random.Generator, rows: int = 32) -> Batch:
    embeddings = rng.normal(size=(4, rows, SIZE)).astype(np.float32)
    flags = (rng.random((2, rows)) < 0.3).astype(np.float32)
    return Batch(*map(jnp.asarray, (*embeddings, *flags)))


def naive_forward(params, *parts):
    """Log-odds, and what the backward pass needs; the parts are concatenated, as the paper has it."""
    kernels = [params[name]["kernel"] for name in ("state", "thought", "goal") if name in params]
    x = np.concatenate(parts, axis=-1)
    a = x @ np.concatenate(kernels) + params["state"]["bias"]
    b = np.maximum(a, 0) @ params["hidden"]["kernel"] + params["hidden"]["bias"]
    return (np.maximum(b, 0) @ params["output"]["kernel"] + params["output"]["bias"])[:, 0], (x, a, b)


def naive_backward(params, kept, slope):
    """Gradients of the concatenated first kernel, the hidden and the output kernel, and of the first bias."""
    x, a, b = kept
    output = np.maximum(b, 0).T @ slope[:, None]
    back = slope[:, None] @ params["output"]["kernel"].T * (b > 0)
    hidden = np.maximum(a, 0).T @ back
    back = back @ params["hidden"]["kernel"].T * (a > 0)
    return {"first": x.T @ back, "hidden": hidden, "output": output, "bias": back.sum(axis=0)}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_q_and_v_have_fewer_than_a_million_numbers():
    count = {}
    for size in (384, 1536):
        made = jax.eval_shape(lambda size=size: new_networks(size, ValueOptions(), jax.random.key(0)))
        count[size] = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in made.items()}
    for size, numbers in count.items():
        above = 129 * 128 + 129
        assert numbers == {"q": (3 * size + 1) * 128 + above, "v": (2 * size + 1) * 128 + above}
    assert sum(count[384].values()) < 1_000_000


def test_loss_and_gradient_are_those_of_the_formula():
    rng = np.random.default_rng(1)
    params = new_networks(SIZE, ValueOptions(expectile=0.8), jax.random.key(0))
    target = networks.init(SIZE, True, jax.random.key(1))
    batch = random_batch(rng)
    grad = jax.jit(
        jax.grad(
            lambda p: (lambda parts: (sum(parts.values()), parts))(losses(p, target, batch, NUMBERS)), has_aux=True
        )
    )
    found, parts = jax.device_get(grad(params))
    p, t, b = (jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree) for tree in (params, target, batch))
    next_value = sigmoid(naive_forward(p["v"], b.next_state, b.goal)[0])
    y = np.where(b.reached > 0, 1, np.where(b.done > 0, 0, 0.9 * next_value))
    q_hat = sigmoid(naive_forward(t, b.state, b.thought, b.goal)[0])
    inputs = {"q": (b.state, b.thought, b.goal), "v": (b.state, b.goal), "baseline": (b.state, b.goal)}
    for name, wanted in {"q": y, "v": q_hat, "baseline": y}.items():
        x, kept = naive_forward(p[name], *inputs[name])
        told = sigmoid(x)
        weight = np.where(q_hat < told, 0.2, 0.8) if name == "v" else np.ones(len(x))
        loss = -weight * (wanted * np.log(told) + (1 - wanted) * np.log(1 - told))
        assert parts[name] == pytest.approx(loss.mean(), rel=1e-5)
        slopes = naive_backward(p[name], kept, weight * (told - wanted) / len(x))
        kernels = [found[name][part]["kernel"] for part in ("state", "thought", "goal") if part in found[name]]
        got = {"first": np.concatenate(kernels), "bias": found[name]["state"]["bias"]}
        got |= {part: found[name][part]["kernel"] for part in ("hidden", "output")}
        for part, slope in slopes.items():
            np.testing.assert_allclose(got[part], slope, rtol=1e-3, atol=1e-6, err_msg=f"{name} {part}")


def test_masks():
    reached, done, value = jnp.array([1.0, 1, 0, 0]), jnp.array([0.0, 1, 1, 0]), jnp.full(4, 0.3)
    plain = {"discount": 1.0, "stop_at_goal": 1.0}
    np.testing.assert_allclose(bootstrapped(reached, done, value, plain), [1, 1, 0, 0.3], rtol=1e-6)
    without = plain | {"stop_at_goal": 0.0}
    np.testing.assert_allclose(bootstrapped(reached, done, value, without), [1.3, 1, 0, 0.3], rtol=1e-6)


def test_batches_hold_rows_as_they_are():
    data, rows = random_data(), np.array([3, 8, 11], np.int32)
    nowhere = dataclasses.replace(data, following=np.where(data.done, 10**6, data.following).astype(np.int32))
    tables = Tables(jax.tree.map(jnp.asarray, nowhere), jnp.asarray(rows), None)
    batch = jax.device_get(draw(jax.random.key(0), tables, jnp.float32(0), 300))
    seen = set()
    for i in range(300):
        row = next(row for row in rows if (data.state[row] == batch.state[i]).all())
        goal = next(goal for goal in range(3) if (data.goal[goal] == batch.goal[i]).all())
        seen.add((int(row), goal))
        assert (batch.thought[i] == data.thought[row]).all()
        assert (batch.reached[i], batch.done[i]) == (data.reached[row, goal], data.done[row])
        if not data.done[row]:
            assert (batch.next_state[i] == data.state[data.following[row]]).all()
    assert len(seen) == 9


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_goals_are_drawn_as_said(share):
    """Of each row, against the frequencies that a plain loop over its future gives."""
    data = random_data(seed=3)
    future = jnp.cumsum(jnp.asarray(times_reached(data), jnp.float32), axis=1) if share else None
    for row in (0, 13, 29):
        tables = Tables(jax.tree.map(jnp.asarray, data), jnp.array([row]), future)
        batch = jax.device_get(jax.jit(draw, static_argnums=3)(jax.random.key(row), tables, jnp.float32(share), 4000))
        found = [(batch.goal == goal).all(axis=1).mean() for goal in data.goal]
        later = np.zeros(3)
        for other in range(row, 10 * (row // 10 + 1), 2):
            later += data.reached[other]
        wanted = np.full(3, 1 / 3)
        if later.sum():
            wanted = (1 - share) / 3 + share * later / later.sum()
        assert np.abs(np.array(found) - wanted).max() < 0.035
        assert all(drawn == 0 for drawn, chance in zip(found, wanted, strict=True) if chance == 0)


def test_what_was_reached_later_is_what_a_loop_finds():
    data = random_data(seed=4)
    for row in range(30):
        ahead = data.reached[row : 10 * (row // 10 + 1) : 2]
        np.testing.assert_array_equal(times_reached(data)[row], ahead.sum(axis=0))
        np.testing.assert_array_equal(reached_later(data)[row], ahead.any(axis=0))


def test_training_is_the_plain_loop():
    """Five steps with a Polyak average written out, one step at a time."""
    data = random_data()
    options = ValueOptions(steps=5, batch_size=8, target_rate=0.3, learning_rate=0.05, weight_decay=0.1, expectile=0.7)
    critic, told = train(data, np.arange(20, dtype=np.int32), options)
    scaled = dataclasses.replace(data, **{name: scale(getattr(data, name)) for name, scale in critic.scaling.items()})
    tables = Tables(jax.tree.map(jnp.asarray, scaled), jnp.arange(20), None)
    init_key, key = jax.random.split(jax.random.key(0))
    params = new_networks(SIZE, options, init_key)
    target, numbers = params["q"], {"expectile": 0.7, "discount": 1.0, "stop_at_goal": 1.0}
    optimizer = optax.adamw(lambda step: 0.05 * 0.5 * (1 + jnp.cos(jnp.pi * step / 5)), weight_decay=0.1)
    state = optimizer.init(params)
    grad = jax.jit(jax.grad(lambda *given: sum(losses(*given, numbers).values())))
    for step in range(5):
        batch = draw(jax.random.fold_in(key, step), tables, jnp.float32(0), 8)
        assert losses(params, target, batch, numbers)["v"] == pytest.approx(told["v"][step], rel=1e-4)
        updates, state = optimizer.update(grad(params, target, batch), state, params)
        params = jax.tree.map(lambda a, b: a + b, params, updates)
        target = jax.tree.map(lambda old, new: np.asarray(0.7 * old + 0.3 * new), target, params["q"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), critic.networks, params)


def test_scaling_and_chances_of_many_thoughts():
    data = random_data()
    scaling = networks.scaling_of(data, np.arange(20))
    seen = np.asarray(scaling["state"](data.state[:20]))
    assert np.abs(seen.mean(axis=0)).max() < 1e-6 and np.mean(seen**2) == pytest.approx(1, rel=1e-5)
    same = networks.Scaling.of(np.full((4, SIZE), 3.0))
    assert not np.any(same(np.full((4, SIZE), 3.0)))
    params = new_networks(SIZE, ValueOptions(), jax.random.key(2))
    critic = networks.Critic(params, scaling, jnp.asarray(data.goal))
    together = critic.q(data.state[:4, None], data.thought[:6])
    assert together.shape == (4, 6, 3)
    parts = scaling["state"](data.state[1]), scaling["thought"](data.thought[5]), scaling["goal"](data.goal[2])
    alone = sigmoid(naive_forward(jax.device_get(params["q"]), *(np.asarray(part)[None] for part in parts))[0])
    np.testing.assert_allclose(together[1, 5, 2], alone[0], rtol=1e-5)
    with pytest.raises(ConfigError, match="5 numbers, not a thought of shape"):
        critic.q(data.state[0], np.zeros(7))


def test_the_split_is_by_episode():
    data = random_data()
    kept, held_out = split_by_episode(data, 0.3, seed=1)
    assert sorted([*kept, *held_out]) == list(range(30)) and len(held_out) == 10
    assert not set(data.episode[kept]) & set(data.episode[held_out])
    for share in (0.001, 0.999):
        assert all(len(rows) for rows in split_by_episode(data, share, seed=1))
    with pytest.raises(ConfigError, match="between|below 1"):
        split_by_episode(data, 1.0, seed=1)


def change(**fields):
    return dataclasses.replace(random_data(), **fields)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (change(thought=np.zeros((30, 4), np.float32)), r"thought must have the shape \[30, 5\]"),
        (change(reached=np.zeros((30, 2), bool)), r"reached must have the shape \[30, 3\]"),
        (change(goal=np.full((3, SIZE), np.nan)), "embeddings of goal hold a number that is not finite"),
        (change(following=np.arange(30)), "row 0 is followed by row 0"),
        (change(done=np.zeros(30, bool)), "row 8 is followed by row 10"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        check(data)


@pytest.mark.parametrize("name", ["expectile", "future_goals", "discount", "steps", "target_rate"])
def test_options_out_of_range_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must be"):
        ValueOptions(**{name: -1})
