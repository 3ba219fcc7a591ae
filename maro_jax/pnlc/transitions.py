"""What a critic learns from: an actor's decisions in order, and the goals reached after each of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from maro_jax.run.fields import ConfigError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Transitions:
    """T decisions and G goals, as embeddings of d numbers.

    A transition lasts from a decision of an actor to the next one of the same actor in the same episode, or to the
    episode's end. Decisions of several actors of an episode make several trajectories; rows of one are in order.

    Attributes:
      state: float32[T, d], all that the actor had seen when it decided.
      thought: float32[T, d], the thought it followed.
      following: int32[T], the row of the actor's next decision; anything where `done`.
      done: bool[T], whether the episode ended before the actor decided again.
      reached: bool[T, G], whether the goal was reached in this transition, after the thought.
      goal: float32[G, d], the goals: predicates of the game, or medoids of states.
      episode: int32[T], the number of the episode.
    """

    state: Any
    thought: Any
    following: Any
    done: Any
    reached: Any
    goal: Any
    episode: Any


def check(data: Transitions) -> None:
    """Holds data against what `Transitions` says.

    Raises:
      ConfigError: shapes do not agree, a number is not finite, or a row is not followed by a later one of its episode.
    """
    rows, size = np.shape(data.state)
    goals = len(data.goal)
    shapes = {
        "thought": (rows, size), "following": (rows,), "done": (rows,), "reached": (rows, goals),
        "goal": (goals, size), "episode": (rows,),
    }  # fmt: skip
    for name, shape in shapes.items():
        if np.shape(getattr(data, name)) != shape:
            found = list(np.shape(getattr(data, name)))
            raise ConfigError(f"{name} must have the shape {list(shape)} of {rows} rows and {goals} goals, not {found}")
    if not rows or not goals:
        raise ConfigError(f"a critic needs transitions and goals; there are {rows} and {goals}")
    for name in ("state", "thought", "goal"):
        if not np.isfinite(getattr(data, name)).all():
            raise ConfigError(f"the embeddings of {name} hold a number that is not finite; embed these texts anew")
    goes_on = np.flatnonzero(~np.asarray(data.done))
    following, episode = np.asarray(data.following)[goes_on], np.asarray(data.episode)
    bad = (following <= goes_on) | (following >= rows)
    bad |= episode[np.clip(following, 0, rows - 1)] != episode[goes_on]
    if bad.any():
        row = goes_on[bad][0]
        raise ConfigError(
            f"row {row} is followed by row {data.following[row]}, which must be a later row of the same episode, or be "
            "marked as done"
        )


def split_by_episode(data: Transitions, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to judge by, int32[...] each; no episode has rows in both.

    Args:
      data: the transitions.
      held_out: share of the episodes that are held out, above 0 and below 1; at least one is, and one is not.
      seed: of the choice.

    Raises:
      ConfigError: there are fewer than two episodes, or the share is not between 0 and 1.
    """
    episodes = np.unique(data.episode)
    if not 0 < held_out < 1:
        raise ConfigError(f"held_out must be above 0 and below 1, not {held_out}; for example 0.2")
    if len(episodes) < 2:
        raise ConfigError(f"some episodes are held out, which takes two at least; there are {len(episodes)}")
    number = min(max(round(held_out * len(episodes)), 1), len(episodes) - 1)
    chosen = np.random.default_rng(seed).permutation(episodes)[:number]
    judged = np.isin(data.episode, chosen)
    return np.flatnonzero(~judged).astype(np.int32), np.flatnonzero(judged).astype(np.int32)


def reached_later(data: Transitions) -> np.ndarray:
    """bool[T, G]: whether the goal was reached in this transition or a later one of the trajectory."""
    return times_reached(data) > 0


def times_reached(data: Transitions) -> np.ndarray:
    """int32[T, G]: in how many transitions of the trajectory, from this one on, the goal was reached."""
    times = np.array(data.reached, np.int32)
    following, done = np.asarray(data.following), np.asarray(data.done)
    for row in range(len(times) - 1, -1, -1):
        if not done[row]:
            times[row] += times[following[row]]
    return times
