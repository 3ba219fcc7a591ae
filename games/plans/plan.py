"""What a plan is: a short sentence that says what an action is meant for, by what the acting seat knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from games.core import SeatView


@dataclasses.dataclass(frozen=True)
class Plans:
    """The closed list of a game's plans.

    Attributes:
      texts: each plan as it stands in a thought, with its leading space.
      of: takes what a seat sees and an action int32[] of it, and gives the index int32[] of the plan that the action
        serves; pure JAX, to be `vmap`ped. Several actions may serve one plan, and one action may serve another plan in
        another situation. Of an action that is not legal it says nothing that is worth knowing.
    """

    texts: tuple[str, ...]
    of: Callable[[SeatView, jax.Array], jax.Array]


def first_of(*cases: tuple[jax.Array, int | jax.Array], otherwise: int) -> jax.Array:
    """int32[]: the plan of the first of the cases (a condition bool[] and a plan) that holds."""
    conditions, plans = zip(*cases, strict=True)
    return jnp.select(conditions, [jnp.asarray(plan, jnp.int32) for plan in plans], jnp.int32(otherwise))
