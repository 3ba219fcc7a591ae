"""Which goal a text is: the nearest one, unless that is too far away; and goals that are medoids of training states.

k-means (Lloyd 1982) from k-means++ (Arthur and Vassilvitskii 2007), and of each cluster the state nearest to its mean.
A state's cluster is that of its nearest medoid, and a medoid is reached where the next state falls into its cluster.
Distances are those of directions, embeddings of length 1: how long an embedding is tells nothing of what a text means.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from maro_jax.run.fields import ConfigError

FARTHEST = 0.99  # share of states that lie within the reach of their medoid
ROUNDS = 50  # of k-means at most; it ends when nothing changes any more
ROWS_AT_A_TIME = 4096
REFUSED = -1


@dataclasses.dataclass(frozen=True)
class Vicinity:
    """Directions in the space of embeddings, and how far around them texts still count as theirs.

    Attributes:
      point: float32[P, d], of length 1.
      reach: float32[P], a distance each.
    """

    point: np.ndarray
    reach: np.ndarray

    def nearest(self, embeddings: np.ndarray) -> np.ndarray:
        """int32[n]: the nearest point of each of `embeddings [n, d]`, `REFUSED` where it lies beyond the reach."""
        index, distance = nearest(directions(embeddings), self.point)
        return np.where(distance <= self.reach[index], index, REFUSED).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Medoids:
    """Medoids of some states.

    Attributes:
      row: int32[K], which of the states they are.
      vicinity: of their embeddings; the reach is the distance within which 99 of 100 states lie from their medoid.
    """

    row: np.ndarray
    vicinity: Vicinity


def directions(embeddings: np.ndarray) -> np.ndarray:
    """float32[n, d]: `embeddings [n, d]` brought to length 1; 0 stays 0."""
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return (embeddings / np.maximum(length, 1e-12)).astype(np.float32)


def nearest(embeddings: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int32[n] and float32[n]: the nearest of `points [P, d]` to each of `embeddings [n, d]`, and its distance."""
    square, index, distance = np.sum(np.square(points), axis=1), [], []
    for first in range(0, max(1, len(embeddings)), ROWS_AT_A_TIME):
        part = embeddings[first : first + ROWS_AT_A_TIME]
        best = np.argmin(square - 2 * part @ points.T, axis=1)
        index.append(best)
        distance.append(np.linalg.norm(part - points[best], axis=1))  # exact where the difference is small
    return np.concatenate(index).astype(np.int32), np.concatenate(distance).astype(np.float32)


def medoids_of(states: np.ndarray, number: int, seed: int) -> Medoids:
    """Finds medoids.

    Args:
      states: float32[T, d], embeddings of length 1.
      number: K.
      seed: of the first choice.

    Raises:
      ConfigError: there are fewer than K different states.
    """
    centre = states[_first_centres(states, number, np.random.default_rng(seed))].astype(np.float64)
    cluster = np.full(len(states), REFUSED)
    for _ in range(ROUNDS):
        before, (cluster, _) = cluster, nearest(states, centre.astype(np.float32))
        if np.array_equal(before, cluster):
            break
        size = np.bincount(cluster, minlength=number)
        total = np.zeros_like(centre)
        np.add.at(total, cluster, states)
        centre = np.where(size[:, None] > 0, total / np.maximum(size, 1)[:, None], centre)
    row = np.array(sorted({int(nearest(centre[k : k + 1].astype(np.float32), states)[0][0]) for k in range(number)}))
    point = states[row]
    _, distance = nearest(states, point)
    reach = np.full(len(row), np.quantile(distance, FARTHEST), np.float32)
    return Medoids(row.astype(np.int32), Vicinity(point, reach))


def _first_centres(states: np.ndarray, number: int, rng: np.random.Generator) -> list[int]:
    """k-means++: each further centre is drawn in proportion to its squared distance from the nearest one so far."""
    chosen = [int(rng.integers(len(states)))]
    square = np.sum(np.square(states - states[chosen[0]]), axis=1, dtype=np.float64)
    while len(chosen) < number:
        if not square.sum() > 0:
            raise ConfigError(
                f"--medoids={number} are more than the {len(chosen)} different states there are; ask for fewer, for "
                f"example --medoids={len(chosen)}"
            )
        chosen.append(int(rng.choice(len(states), p=square / square.sum())))
        square = np.minimum(square, np.sum(np.square(states - states[chosen[-1]]), axis=1, dtype=np.float64))
    return chosen
