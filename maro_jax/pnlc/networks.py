"""The networks: chances from embeddings, by two hidden layers of 128.

The paper concatenates the embeddings. The first layer of a concatenation is a sum of one product for each part, and is
written so here: n thoughts at G goals then cost n + G products of the long vectors, not n · G.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from maro_jax.pnlc.transitions import Transitions
from maro_jax.run.fields import ConfigError

HIDDEN = 128

Params = dict[str, Any]


class GoalNetwork(nnx.Module):
    """Log-odds of reaching a goal from a state, and from a thought where there is one."""

    def __init__(self, size: int, with_thought: bool, rngs: nnx.Rngs):
        """Draws the kernels.

        Args:
          size: d of the embeddings.
          with_thought: whether a thought is read (Q) or not (V).
          rngs: of the parameters.
        """
        self.state = nnx.Linear(size, HIDDEN, rngs=rngs)
        self.thought = nnx.Linear(size, HIDDEN, use_bias=False, rngs=rngs) if with_thought else None
        self.goal = nnx.Linear(size, HIDDEN, use_bias=False, rngs=rngs)
        self.hidden = nnx.Linear(HIDDEN, HIDDEN, rngs=rngs)
        self.output = nnx.Linear(HIDDEN, 1, rngs=rngs)

    def __call__(self, state: jax.Array, thought: jax.Array | None, goal: jax.Array) -> jax.Array:
        """Maps `[..., d]` each, of shapes that broadcast, to `[...]`."""
        first = self.state(state) + self.goal(goal)
        if self.thought is not None:
            assert thought is not None
            first = first + self.thought(thought)
        return self.output(nnx.relu(self.hidden(nnx.relu(first))))[..., 0]


def init(size: int, with_thought: bool, key: jax.Array) -> Params:
    """New parameters, float32: plain nested dicts of arrays."""
    return nnx.to_pure_dict(nnx.state(GoalNetwork(size, with_thought, nnx.Rngs(params=key)), nnx.Param))


def log_odds(params: Params, state: jax.Array, thought: jax.Array | None, goal: jax.Array) -> jax.Array:
    """Applies a network; whether it reads the thought follows from its parameters.

    Args:
      params: of `init`.
      state: `[..., d]`, standardised.
      thought: the same; not read by a network that has no place for it.
      goal: the same.

    Returns:
      `[...]`, the shapes broadcast.
    """
    return nnx.merge(_graph(state.shape[-1], "thought" in params), params)(state, thought, goal)


@functools.cache
def _graph(size: int, with_thought: bool) -> Any:
    """The network's structure, without arrays."""
    return nnx.split(nnx.eval_shape(lambda: GoalNetwork(size, with_thought, nnx.Rngs(0))))[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scaling:
    """Embeddings of a kind are moved to mean 0 and brought to a mean square of 1, by one factor for all coordinates.

    Attributes:
      mean: float32[d].
      factor: float32[].
    """

    mean: jax.Array
    factor: jax.Array

    @classmethod
    def of(cls, embeddings: Any) -> Scaling:
        """The scaling of `embeddings [n, d]`; where they are all the same, they are only moved."""
        mean = np.mean(embeddings, axis=0, dtype=np.float64)
        spread = np.sqrt(np.mean(np.square(np.asarray(embeddings, np.float64) - mean)))
        return cls(jnp.asarray(mean, jnp.float32), jnp.float32(1 / spread if spread > 1e-8 else 1))

    def __call__(self, embeddings: Any) -> jax.Array:
        """Maps `[..., d]` to the same shape."""
        return (jnp.asarray(embeddings, jnp.float32) - self.mean) * self.factor


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Critic:
    """Q(s, thought, g) and V(s, g) as probabilities, of the goals they were trained for.

    Attributes:
      networks: parameters of `q` and `v`; and of `baseline` where V is an optimistic value: as V, but a mean.
      scaling: of `state`, `thought` and `goal`.
      goal: float32[G, d].
    """

    networks: dict[str, Params]
    scaling: dict[str, Scaling]
    goal: jax.Array

    def q(self, state: Any, thought: Any) -> jax.Array:
        """float32[..., G], the chance of each goal after a thought.

        Args:
          state: `[..., d]`.
          thought: `[..., d]`; its shape and that of the state broadcast: n thoughts in one state are one call.

        Raises:
          ConfigError: an embedding is not of d numbers.
        """
        return _chances(self.networks["q"], *self._scaled(state, thought))

    def v(self, state: Any) -> jax.Array:
        """float32[..., G], V of each goal in `state [..., d]`; with an expectile of ½ the chance before a thought."""
        return _chances(self.networks["v"], *self._scaled(state, None))

    def before_thought(self, state: Any) -> jax.Array:
        """float32[..., G], the mean chance of each goal in `state [..., d]` before a thought is known."""
        return _chances(self.networks.get("baseline", self.networks["v"]), *self._scaled(state, None))

    def on_host(self) -> QOnHost:
        """`q` without a device, for few rows."""
        return QOnHost(self)

    def _scaled(self, state: Any, thought: Any) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        for name, given in (("state", state), ("thought", thought)):
            if given is not None:
                _check(name, given, self.goal.shape[-1])
        scaled = {"state": state, "thought": thought, "goal": self.goal}
        parts = {name: self.scaling[name](value) for name, value in scaled.items() if value is not None}
        return parts["state"], parts.get("thought"), parts["goal"]


class QOnHost:
    """`Critic.q` in NumPy: of a few rows a call to the device takes longer than the products themselves.

    A state, a thought and the goals enter the first layer apart, and their products can be kept.
    """

    def __init__(self, critic: Critic):
        """Copies the parameters, and reads the goals.

        Args:
          critic: its arrays may be anywhere.
        """
        self._params, self._scaling, goal = jax.device_get((critic.networks["q"], critic.scaling, critic.goal))
        self._goal = self._product("goal", goal)

    def states(self, embeddings: np.ndarray) -> np.ndarray:
        """float32[n, 128]: what states `[n, d]` are to the first layer."""
        return self._product("state", embeddings) + self._params["state"]["bias"]

    def thoughts(self, embeddings: np.ndarray) -> np.ndarray:
        """The same of thoughts."""
        return self._product("thought", embeddings)

    def chances(self, state: np.ndarray, thought: np.ndarray) -> np.ndarray:
        """float32[n, G], the chance of each goal.

        Args:
          state: float32[n, 128], of `states`.
          thought: float32[n, 128], of `thoughts`.
        """
        hidden, output = self._params["hidden"], self._params["output"]
        first = np.maximum((state + thought)[:, None] + self._goal, 0).reshape(-1, HIDDEN)
        second = np.maximum(first @ hidden["kernel"] + hidden["bias"], 0)
        odds = (second @ output["kernel"] + output["bias"]).reshape(len(state), len(self._goal))
        return 0.5 + 0.5 * np.tanh(0.5 * odds)  # the logistic function, which overflows nowhere in this form

    def _product(self, name: str, embeddings: np.ndarray) -> np.ndarray:
        scaling, kernel = self._scaling[name], self._params[name]["kernel"]
        _check(name, embeddings, len(kernel))
        return (np.asarray(embeddings, np.float32) - scaling.mean) * scaling.factor @ kernel


def _check(name: str, embeddings: Any, size: int) -> None:
    if np.shape(embeddings)[-1:] != (size,):
        raise ConfigError(
            f"the critic reads embeddings of {size} numbers, not a {name} of shape {list(np.shape(embeddings))}; "
            "use the embedder that it was trained with"
        )


@jax.jit
def _chances(params: Params, state: jax.Array, thought: jax.Array | None, goal: jax.Array) -> jax.Array:
    lifted = None if thought is None else thought[..., None, :]
    return jax.nn.sigmoid(log_odds(params, state[..., None, :], lifted, goal))


def scaling_of(data: Transitions, rows: np.ndarray) -> dict[str, Scaling]:
    """How the embeddings of these rows, and the goals, are scaled."""
    parts = {"state": data.state[rows], "thought": data.thought[rows], "goal": data.goal}
    return {name: Scaling.of(embeddings) for name, embeddings in parts.items()}
