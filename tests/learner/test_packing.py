"""Packing: every weighted behaviour once, rows within their limits, streams whole."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from maro_jax.learner.packing import PackingShape, Streams, pack, packing_shapes
from tests.learner.material import SHAPE, material
from tests.selfplay.replies import full_stream


def check_row(name: str, streams: Streams, row: int) -> list[tuple[int, int]]:
    """Asserts that a row is streams as the seats have them; returns its behaviours as (episode, decision)."""
    given = material(name)
    episodes, made = given.episodes, given.episodes.behaviours
    used = int((streams.segment[row] >= 0).sum())
    assert np.all(streams.segment[row, used:] == -1) and not streams.tokens[row, used:].any()
    assert np.all(np.diff(streams.segment[row, :used]) >= 0)
    found = []
    (present,) = np.nonzero(streams.weight[row])
    stream_of_behaviour = {}
    for behaviour in present.tolist():
        episode, decision = divmod(int(streams.sign[row, behaviour]) - 1, made.seat.shape[1])
        seat = int(made.seat[episode, decision])
        found.append((episode, decision))
        assert streams.phase[row, behaviour] == made.phase[episode, decision]
        np.testing.assert_array_equal(streams.legal[row, behaviour], made.legal[episode, decision])
        chosen = np.flatnonzero((episodes.node[episode, seat] > 0) & (episodes.decision[episode, seat] == decision))
        mine = (streams.behaviour[row] == behaviour) & (streams.node[row] > 0)
        query = streams.query[row, mine]
        prefix = int(given.table.lexicon.prefix_lengths[episodes.roles[episode, seat]])
        np.testing.assert_array_equal(streams.position[row, query] + 1, prefix + chosen)
        np.testing.assert_array_equal(streams.tokens[row, query + 1], episodes.tokens[episode, seat, chosen])
        for field, source in (("token", episodes.tokens), ("node", episodes.node), ("log_prob", episodes.log_probs)):
            np.testing.assert_array_equal(getattr(streams, field)[row, mine], source[episode, seat, chosen])
        (segment,) = set(streams.segment[row, query].tolist())
        assert set(streams.segment[row, query + 1].tolist()) == {segment}
        assert stream_of_behaviour.setdefault(segment, (episode, seat)) == (episode, seat)
    for segment, (episode, seat) in stream_of_behaviour.items():
        inside = streams.segment[row] == segment
        np.testing.assert_array_equal(streams.position[row, inside], np.arange(inside.sum()))
        whole = full_stream(given.table, episodes, episode, seat)
        np.testing.assert_array_equal(streams.tokens[row, inside], whole[: inside.sum()])
    assert set(range(len(stream_of_behaviour))) == set(streams.segment[row, :used].tolist())
    unused = streams.node[row] == 0
    assert np.all(streams.behaviour[row, unused] == streams.weight.shape[1])
    return found


@pytest.mark.parametrize("name", ["acts", "text"])
def test_every_weighted_behaviour_is_packed_exactly_once(name: str):
    given = material(name)
    made = given.episodes.behaviours.seat >= 0
    number = 1 + np.arange(made.size, dtype=np.float32).reshape(made.shape)
    shapes = packing_shapes(given.decisions, [given.episodes.tokens.shape[2]], tokens=600, shards=2)

    @hypothesis.settings(max_examples=15, deadline=None, derandomize=True, database=None)
    @hypothesis.given(strategies.integers(0, 2**32 - 1), strategies.sampled_from([0.02, 0.3, 1.0]))
    def check(seed: int, share: float) -> None:
        chance = np.random.default_rng(seed)
        weight = (made * (chance.random(made.shape) < share) * chance.uniform(0.1, 3, made.shape)).astype(np.float32)
        chosen = np.sort(chance.permutation(len(made))[: chance.integers(1, 17)])
        found = []
        for streams in pack(given.decisions, 0, shapes, given.episodes, number, weight, chosen):
            shape = PackingShape(*streams.tokens.shape, streams.node.shape[1], streams.weight.shape[1])
            assert shape in shapes
            found += [pair for row in range(shape.rows) for pair in check_row(name, streams, row)]
            np.testing.assert_array_equal(
                np.sort(streams.weight[streams.weight > 0]),
                np.sort(weight.ravel()[streams.sign[streams.weight > 0].astype(int) - 1]),
            )
        # A behaviour that the grammar left no choice has nothing to learn and is not packed.
        episodes = given.episodes
        chosen_tokens = {
            (int(e), int(episodes.decision[e, s, p])) for e, s, p in zip(*np.nonzero(episodes.node), strict=True)
        }
        weighted = {(e, d) for e, d in zip(*np.nonzero(weight), strict=True) if e in chosen}
        assert len(found) == len(set(found))
        assert set(found) == {(int(e), int(d)) for e, d in weighted} & chosen_tokens

    check()


def test_shapes_hold_the_longest_stream_and_divide_by_the_shards():
    given = material("text")
    for shards in (1, 4, 8):
        shapes = packing_shapes(given.decisions, [300], tokens=1000, shards=shards)
        assert [shape.width for shape in shapes] == sorted({shape.width for shape in shapes})
        assert shapes[-1].width >= int(given.table.lexicon.prefix_lengths.max()) + 300
        assert all(shape.rows % shards == 0 and shape.rows * shape.width >= 1000 - shape.width for shape in shapes)
        assert all(shape.queries <= shape.width for shape in shapes)


@pytest.mark.parametrize("limit", ["queries", "behaviours", "width"])
def test_no_limit_of_a_row_is_exceeded(limit: str):
    given = material("text")
    number = 1 + np.arange(given.weight.size, dtype=np.float32).reshape(given.weight.shape)
    tight = {"queries": 60, "behaviours": 8, "width": 208}
    shape = dataclasses.replace(SHAPE, **{limit: tight[limit]})
    found = []
    batches = list(pack(given.decisions, 0, (shape,), given.episodes, number, given.weight, np.arange(16)))
    for streams in batches:
        found += [pair for row in range(shape.rows) for pair in check_row("text", streams, row)]
    assert len(found) == len(set(found)) == sum((batch.weight > 0).sum() for batch in batches) > 100
    full = {
        "queries": max((batch.node > 0).sum(1).max() for batch in batches),
        "behaviours": max((batch.weight > 0).sum(1).max() for batch in batches),
        "width": max((batch.segment >= 0).sum(1).max() for batch in batches),
    }[limit]
    assert tight[limit] * 0.8 < full <= tight[limit]


def test_nothing_to_learn_packs_nothing():
    given = material("acts")
    assert list(pack(given.decisions, 0, (SHAPE,), given.episodes, given.sign, 0 * given.weight, np.arange(16))) == []


def test_a_stream_too_long_for_every_row_is_refused():
    given = material("text")
    narrow = dataclasses.replace(SHAPE, width=64)
    with pytest.raises(ValueError, match="exceeds the widest row, 64"):
        list(pack(given.decisions, 0, (narrow,), given.episodes, given.sign, given.weight, np.arange(16)))
