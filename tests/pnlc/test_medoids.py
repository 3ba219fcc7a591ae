"""Clusters of states, and which goal a text is taken for, against plain loops."""

import dataclasses

import numpy as np
import pytest

from maro_jax.pnlc.labelling import with_medoids
from maro_jax.pnlc.medoids import REFUSED, Vicinity, directions, medoids_of, nearest
from maro_jax.run.fields import ConfigError
from tests.pnlc.test_value import random_data


def clouds(number: int = 6, each: int = 40, spread: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Directions around centres that lie far apart, and the cloud of each."""
    rng = np.random.default_rng(2)
    cloud = np.repeat(np.arange(number), each)
    centre = 10 * np.eye(number, 8)
    return directions(centre[cloud] + spread * rng.normal(size=(len(cloud), 8))), cloud


def test_each_cloud_gets_its_medoid():
    states, cloud = clouds()
    found = medoids_of(states, 6, seed=0)
    assert sorted(cloud[found.row]) == list(range(6))
    for row in found.row:
        members = states[cloud == cloud[row]]
        mean = members.mean(axis=0)
        assert np.linalg.norm(states[row] - mean) == pytest.approx(np.linalg.norm(members - mean, axis=1).min())
    np.testing.assert_array_equal(found.vicinity.point, states[found.row])
    distance = [min(np.linalg.norm(state - states[row]) for row in found.row) for state in states]
    np.testing.assert_allclose(found.vicinity.reach, np.quantile(distance, 0.99), rtol=1e-5)


def test_the_nearest_point_or_none():
    states, cloud = clouds()
    found = medoids_of(states, 6, seed=1)
    inside = found.vicinity.nearest(states)
    assert 0 < np.mean(inside == REFUSED) <= 0.02
    kept = inside != REFUSED
    np.testing.assert_array_equal(cloud[found.row[inside[kept]]], cloud[kept])
    between = (states[found.row[0]] + states[found.row[1]]) / 2
    assert found.vicinity.nearest(np.stack([between, states[found.row[3]]])).tolist() == [REFUSED, 3]
    one = Vicinity(np.array([[1, 0]], np.float32), np.array([1.0], np.float32))
    angles = np.radians([-59, 61, 59, -61])[:, None]  # at 60 degrees the distance is 1
    texts = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * [[0.1], [0.1], [9], [9]]
    assert one.nearest(texts).tolist() == [0, REFUSED, 0, REFUSED]


def test_nearest_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    states, points = rng.normal(size=(5000, 3)).astype(np.float32), rng.normal(size=(7, 3)).astype(np.float32)
    index, distance = nearest(states, points)
    for state, found, far in zip(states[::97], index[::97], distance[::97], strict=True):
        each = [float(np.linalg.norm(state - point)) for point in points]
        assert each[found] == pytest.approx(min(each)) and far == pytest.approx(min(each), rel=1e-5)


def test_more_medoids_than_states_are_refused():
    states = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    assert len(medoids_of(states, 3, seed=0).row) == 3
    with pytest.raises(ConfigError, match="--medoids=4 are more than the 3 different states"):
        medoids_of(states, 4, seed=0)


def test_a_medoid_is_reached_where_the_next_state_falls_into_its_cluster():
    data = random_data()
    data = dataclasses.replace(data, following=np.where(data.done, np.arange(30), data.following).astype(np.int32))
    rows = np.arange(20, dtype=np.int32)
    wider, vicinity, medoid = with_medoids(data, rows, 5, seed=0)
    assert len(medoid) == 5 and set(medoid) <= set(rows) and wider.goal.shape == (8, 5)
    np.testing.assert_array_equal(wider.reached[:, :3], data.reached)
    np.testing.assert_array_equal(wider.goal[3:], data.state[medoid])
    np.testing.assert_array_equal(vicinity.point, directions(data.state[medoid]))
    for row in range(30):
        for number, centre in enumerate(medoid):
            reached = False
            if not data.done[row]:
                state = data.state[data.following[row]]
                each = [state @ data.state[other] / np.linalg.norm(data.state[other]) for other in medoid]
                reached = int(np.argmax(each)) == number
            assert wider.reached[row, 3 + number] == reached, (row, centre)
