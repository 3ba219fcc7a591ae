"""Goal-conditioned implicit Q-learning, whose Q is a probability.

With h = 1 where goal g was reached in the transition from s to s' and e = 1 where the episode ended in it,

  y = h + γ (1 − h) (1 − e) V(s', g)            L_Q = H(y, Q(s, thought, g))
  L_V = |τ − 1[Q̂ < V]| H(Q̂(s, thought, g), V(s, g))

H is the cross-entropy, Q and V are sigmoids, Q̂ has the Polyak average of Q's parameters, and no gradient flows into y,
Q̂ or the weight. The slope of H in the log-odds is Q − y, so that Q settles at the mean of y and V at the τ-expectile of
Q̂, as with squared errors. Where γ = 1, τ = ½, and goals are drawn independently of what came of the trajectory, Q is
the probability to reach g before the episode ends.

The form is Kostrikov et al.'s (arXiv:2110.06169), its use Hong et al.'s (arXiv:2505.18098); docs/pnlc.md says what of
it is our reading.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from maro_jax.pnlc.networks import Critic, Params, init, log_odds, scaling_of
from maro_jax.pnlc.transitions import Transitions, check, times_reached
from maro_jax.run.fields import ConfigError

STEPS_AT_A_TIME = 500  # of one call, so that there is something to tell of long trainings


@dataclasses.dataclass(frozen=True)
class ValueOptions:
    """How a critic is trained.

    Attributes:
      expectile: τ. ½: V is the mean of Q over the thoughts of the data, and Q a probability; above it V leans to the
        better thoughts, and Q is an optimistic value (the paper's is 0.8).
      future_goals: share of the goals drawn from those that the trajectory reached from the transition on, where it
        reached any (hindsight: 1 is the paper's); the others are drawn from all goals alike. Above 0 chances are
        overstated wherever luck decides.
      discount: γ; below 1 Q is E[γ^k], k the transitions until the goal.
      stop_at_goal: the factor (1 − h) in y. Without it Q counts how often the goal is reached, up to 1.
      steps: of the optimizer.
      batch_size: transitions, with a goal each, a step.
      learning_rate: of AdamW at the beginning; it falls to 0 along a cosine.
      weight_decay: of AdamW.
      target_rate: what Q's parameters add to their Polyak average in a step.
      seed: of parameters and batches.
    """

    expectile: float = 0.5
    future_goals: float = 0.0
    discount: float = 1.0
    stop_at_goal: bool = True
    steps: int = 4000
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    target_rate: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `ConfigError` for a number out of its range."""
        ranges = {
            "expectile": (0 < self.expectile < 1, "above 0 and below 1", 0.5),
            "future_goals": (0 <= self.future_goals <= 1, "from 0 to 1", 0),
            "discount": (0 < self.discount <= 1, "above 0 and at most 1", 1),
            "steps": (self.steps >= 1, "1 or more", 4000),
            "batch_size": (self.batch_size >= 1, "1 or more", 256),
            "learning_rate": (self.learning_rate > 0, "above 0", 0.001),
            "weight_decay": (self.weight_decay >= 0, "0 or more", 0.01),
            "target_rate": (0 < self.target_rate <= 1, "above 0 and at most 1", 0.02),
        }
        for name, (fits, allowed, example) in ranges.items():
            if not fits:
                raise ConfigError(f"{name} must be {allowed}, not {getattr(self, name)}; for example {example}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """B transitions with a goal each; embeddings standardised.

    Attributes:
      state, thought, next_state, goal: float32[B, d].
      reached: float32[B], h.
      done: float32[B], e.
    """

    state: jax.Array
    thought: jax.Array
    next_state: jax.Array
    goal: jax.Array
    reached: jax.Array
    done: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tables:
    """What batches are drawn from, on the device.

    Attributes:
      data: the transitions, embeddings standardised.
      rows: int32[R], those that are trained on.
      future: float32[T, G], `times_reached` summed up along the goals; None where no goal is drawn from the future.
    """

    data: Transitions
    rows: jax.Array
    future: jax.Array | None


def train(
    data: Transitions, rows: np.ndarray, options: ValueOptions, progress: Callable[[int], None] = lambda done: None
) -> tuple[Critic, dict[str, np.ndarray]]:
    """Trains a critic, many steps in one call on the device.

    Args:
      data: the transitions.
      rows: int32[R], those to train on; leave out the last of an episode that was cut off, where nobody knows what it
        would have reached. See `split_by_episode`.
      options: how.
      progress: told the number of steps taken, now and then.

    Returns:
      The critic, and float32[steps] the loss of each of its networks.

    Raises:
      ConfigError: the data do not fit together, or there is no row.
    """
    check(data)
    if not len(rows):
        raise ConfigError("there is no transition to train on; hold out fewer episodes or record more")
    scaling = scaling_of(data, rows)
    scaled = {name: scale(getattr(data, name)) for name, scale in scaling.items()}
    future = jnp.cumsum(jnp.asarray(times_reached(data), jnp.float32), axis=1) if options.future_goals else None
    tables = Tables(jax.tree.map(jnp.asarray, dataclasses.replace(data, **scaled)), jnp.asarray(rows), future)
    init_key, key = jax.random.split(jax.random.key(options.seed))
    networks = new_networks(np.shape(data.state)[1], options, init_key)
    numbers = dataclasses.asdict(options)
    steps, batch_size = numbers.pop("steps"), numbers.pop("batch_size")
    # Numbers are arguments of the program, so that options differ without compiling again.
    numbers = {name: jnp.float32(value) for name, value in numbers.items()}
    carry, parts = (networks, networks["q"], _optimizer(numbers, steps).init(networks)), []
    for first in range(0, steps, STEPS_AT_A_TIME):
        last = min(first + STEPS_AT_A_TIME, steps)
        carry, part = _train(carry, tables, numbers, key, jnp.arange(first, last), steps, batch_size)
        parts.append(jax.device_get(part))
        progress(last)
    losses = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Critic(carry[0], scaling, jnp.asarray(data.goal)), losses


def new_networks(size: int, options: ValueOptions, key: jax.Array) -> dict[str, Params]:
    """New parameters of `q` and `v`, and of `baseline` where V will not be a mean."""
    names = ("q", "v") if options.expectile == 0.5 else ("q", "v", "baseline")
    keys = jax.random.split(key, len(names))
    return {name: init(size, name == "q", each) for name, each in zip(names, keys, strict=True)}


def _optimizer(numbers: dict[str, jax.Array], steps: int) -> optax.GradientTransformation:
    schedule = optax.cosine_decay_schedule(numbers["learning_rate"], steps)
    return optax.adamw(schedule, weight_decay=numbers["weight_decay"])


@functools.partial(jax.jit, static_argnames=("steps", "batch_size"))
def _train(
    carry: Any,
    tables: Tables,
    numbers: dict[str, jax.Array],
    key: jax.Array,
    steps_now: jax.Array,
    steps: int,
    batch_size: int,
) -> tuple[Any, dict[str, jax.Array]]:
    """Takes the steps of these numbers, of `steps` in all; the carry is networks, Q̂'s parameters, optimizer state."""
    optimizer = _optimizer(numbers, steps)

    def step(carry: Any, number: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        networks, target, state = carry
        batch = draw(jax.random.fold_in(key, number), tables, numbers["future_goals"], batch_size)

        def total(networks: dict[str, Params]) -> tuple[jax.Array, dict[str, jax.Array]]:
            parts = losses(networks, target, batch, numbers)
            return sum(parts.values(), jnp.float32(0)), parts

        gradient, parts = jax.grad(total, has_aux=True)(networks)
        updates, state = optimizer.update(gradient, state, networks)
        networks = optax.apply_updates(networks, updates)
        target = optax.incremental_update(networks["q"], target, numbers["target_rate"])
        return (networks, target, state), parts

    return jax.lax.scan(step, carry, steps_now)


def draw(key: jax.Array, tables: Tables, future_goals: jax.Array, batch_size: int) -> Batch:
    """Draws transitions with equal chances, and a goal for each (`ValueOptions.future_goals`)."""
    data = tables.data
    row_key, goal_key, kind_key, future_key = jax.random.split(key, 4)
    row = tables.rows[jax.random.randint(row_key, (batch_size,), 0, len(tables.rows))]
    goal = jax.random.randint(goal_key, (batch_size,), 0, len(data.goal))
    if tables.future is not None:
        sums = tables.future[row]
        # The largest number below all is exact in float32, so that a goal never reached is never drawn.
        point = jnp.floor(jax.random.uniform(future_key, (batch_size,)) * sums[:, -1])
        later = jnp.sum(sums <= point[:, None], axis=1)
        wanted = jax.random.uniform(kind_key, (batch_size,)) < future_goals
        goal = jnp.where(wanted & (sums[:, -1] > 0), later, goal)
    done = data.done[row]
    return Batch(
        state=data.state[row],
        thought=data.thought[row],
        next_state=data.state[jnp.where(done, row, data.following[row])],
        goal=data.goal[goal],
        reached=data.reached[row, goal].astype(jnp.float32),
        done=done.astype(jnp.float32),
    )


def losses(
    networks: dict[str, Params], target: Params, batch: Batch, numbers: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """The mean loss of each network, float32[]: L_Q, L_V, and H(y, baseline) where there is one.

    Args:
      networks: what the gradient is taken of; no loss has one in another network.
      target: Q̂'s parameters.
      batch: the transitions.
      numbers: of `ValueOptions`: expectile, discount, stop_at_goal.
    """
    state, goal = batch.state, batch.goal
    next_value = jax.nn.sigmoid(log_odds(networks["v"], batch.next_state, None, goal))
    y = jax.lax.stop_gradient(bootstrapped(batch.reached, batch.done, next_value, numbers))
    found = {"q": cross_entropy(log_odds(networks["q"], state, batch.thought, goal), y)}
    q = jax.lax.stop_gradient(jax.nn.sigmoid(log_odds(target, state, batch.thought, goal)))
    v = log_odds(networks["v"], state, None, goal)
    weight = jnp.abs(numbers["expectile"] - (q < jax.lax.stop_gradient(jax.nn.sigmoid(v))))
    found["v"] = weight * cross_entropy(v, q)
    if "baseline" in networks:
        found["baseline"] = cross_entropy(log_odds(networks["baseline"], state, None, goal), y)
    return {name: jnp.mean(loss) for name, loss in found.items()}


def bootstrapped(
    reached: jax.Array, done: jax.Array, next_value: jax.Array, numbers: dict[str, jax.Array]
) -> jax.Array:
    """y, of the shape of its arguments."""
    goes_on = (1 - numbers["stop_at_goal"] * reached) * (1 - done)
    return reached + numbers["discount"] * goes_on * next_value


def cross_entropy(log_odds: jax.Array, y: jax.Array) -> jax.Array:
    """−y log σ(x) − (1 − y) log(1 − σ(x)), for each x of the log-odds."""
    return optax.sigmoid_binary_cross_entropy(log_odds, y)
