"""The loss of packed micro-batches against full logits and a loop over behaviours."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maro_jax.credit.objective import CreditOptions
from maro_jax.learner.loss import CONTEXT_CHUNK, context_loss, encode_streams, micro_batch_loss, score_tokens
from maro_jax.learner.packing import Streams
from maro_jax.policy.decoder import Policy
from maro_jax.selfplay.table import Table
from tests.learner.material import CHOSEN, SHAPE, Material, assert_close, material, measures_exactly, plain_loss

KTO = CreditOptions(utility="kto", beta=0.3)
REINFORCE = CreditOptions(utility="reinforce")
SAMPLED = CreditOptions(utility="kto", reference_point="sampled_kl", beta=0.3)
ZERO = CreditOptions(utility="kto", reference_point="zero", beta=0.3)
LAGGED = CreditOptions(utility="kto", reference="lagged", beta=0.3)
FIXED = CreditOptions(utility="kto", reference="warm_start", reference_point="zero", beta=0.3)
PPO = CreditOptions(utility="ppo", clip=0.1)
CLONE = CreditOptions(utility="clone")
DRO = CreditOptions(utility="dro", beta=0.3)
SCALE = 1 / 37.0


def loss_of(
    given: Material, options: CreditOptions, weights: tuple[float, float], params: Any, reference: Any, streams: Any
):
    """`micro_batch_loss` of a material, with weights of entropy and magnet."""
    entropy_weight, magnet_weight = weights
    known = reference if measures_exactly(options) or magnet_weight else None
    return micro_batch_loss(
        params,
        decisions=given.decisions,
        options=options,
        reference=known,
        reference_point=jnp.asarray(given.point),
        entropy_weight=entropy_weight,
        magnet_weight=magnet_weight,
        context_weight=0.0,
        scale=jnp.float32(SCALE),
        streams=streams,
    )


@functools.cache
def gradient_of(name: str, options: CreditOptions, weights: tuple[float, float]) -> Any:
    loss = functools.partial(loss_of, material(name), options, weights)
    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def summed(
    name: str, options: CreditOptions, weights: tuple[float, float], batches: list[Streams]
) -> tuple[Any, Any, Any]:
    """Loss, gradient and sums over micro-batches."""
    given, total = material(name), None
    assert batches
    for streams in batches:
        (loss, sums), gradient = gradient_of(name, options, weights)(given.params, given.reference, streams)
        part = jax.device_get((loss, gradient, sums))
        total = part if total is None else jax.tree.map(np.add, total, part)
    assert total is not None
    return total


CASES = [
    ("acts", KTO, (0.02, 0.0)),
    ("text", KTO, (0.02, 0.0)),
    ("acts", SAMPLED, (0.02, 0.3)),
    ("text", REINFORCE, (0.05, 0.2)),
    ("acts", LAGGED, (0.02, 0.0)),
    ("text", LAGGED, (0.0, 0.0)),
    ("acts", FIXED, (0.0, 0.0)),
    ("acts", PPO, (0.0, 0.0)),
    ("acts", ZERO, (0.0, 0.3)),
    ("acts", CLONE, (0.02, 0.0)),
    ("acts", DRO, (0.0, 0.0)),
]


@pytest.mark.parametrize("name, options, weights", CASES)
def test_loss_and_gradient_are_those_of_a_loop(name: str, options: CreditOptions, weights: tuple[float, float]):
    given = material(name)
    expected, expected_gradient, expected_sums = plain_loss(given, options, weights[0], SCALE, magnet_weight=weights[1])
    loss, gradient, sums = summed(name, options, weights, given.packed())
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert_close(expected_gradient, gradient, 2e-5)
    for key, value in expected_sums.items():
        np.testing.assert_allclose(sums[key], value, rtol=2e-5, atol=2e-5, err_msg=key)
    assert expected_sums["kl"].sum() > 1e-3


def test_a_stream_learns_the_same_whatever_it_is_packed_with():
    given = material("text")
    together = given.packed()
    assert max(streams.segment.max() for streams in together) >= 1
    alone, made = [], given.episodes.behaviours
    for episode in CHOSEN.tolist():
        for seat in range(given.table.spec.num_seats):
            mine = (made.seat == seat) & (np.arange(len(made.seat)) == episode)[:, None]
            alone += given.packed(weight=np.where(mine, given.weight, 0))
    assert all(streams.segment.max() == 0 and not (streams.segment[1:] >= 0).any() for streams in alone)
    one, other = (summed("text", KTO, (0.02, 0.0), batches) for batches in (together, alone))
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert_close(one[1], other[1])
    for key in one[2]:
        np.testing.assert_allclose(one[2][key], other[2][key], rtol=1e-5, atol=1e-5)


@functools.cache
def encoder(name: str) -> Any:
    return jax.jit(functools.partial(encode_streams, material(name).decisions))


def test_hidden_states_do_not_see_the_neighbours():
    given = material("text")
    streams = given.packed()[0]
    row = int(np.argmax(streams.segment.max(axis=1)))
    assert streams.segment[row].max() >= 1
    hidden = np.asarray(encoder("text")(given.params, streams))[row]
    for segment in range(streams.segment[row].max() + 1):
        inside = streams.segment[row] == segment
        changed = jax.tree.map(np.copy, streams)
        changed.tokens[row, ~inside] = (changed.tokens[row, ~inside] + 7) % 200
        other = np.asarray(encoder("text")(given.params, changed))[row]
        np.testing.assert_array_equal(other[inside], hidden[inside])
        assert not np.array_equal(other[~inside], hidden[~inside])


def test_many_micro_batches_are_one_large_one():
    given = material("text")
    apart = [streams for episode in CHOSEN for streams in given.packed(np.array([episode]))]
    assert len(apart) > len(given.packed())
    one, other = (summed("text", REINFORCE, (0.05, 0.0), batches) for batches in (given.packed(), apart))
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert_close(one[1], other[1])


def words_of_labels(given: Material) -> set[int]:
    """Tokens that occur in the label of an action."""
    return {int(token) for label in given.table.grammar.label_tokens for token in label if token >= 0}


@pytest.mark.parametrize("name, chunk", [("text", CONTEXT_CHUNK), ("text", 64), ("acts", CONTEXT_CHUNK)])
def test_context_loss_is_the_mean_over_every_token_that_can_be_chosen(
    name: str, chunk: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("maro_jax.learner.loss.CONTEXT_CHUNK", chunk)
    given = material(name)
    streams = given.packed()[0]
    hidden = encoder(name)(given.params, streams)
    vocabulary = given.table.policy.config.vocab_size
    choices = sorted(words_of_labels(given)) if name == "acts" else list(range(vocabulary))
    total, count = 0.0, 0
    for row, place in np.argwhere(streams.segment >= 0):
        following = place + 1 < SHAPE.width and streams.segment[row, place] == streams.segment[row, place + 1]
        if following and streams.tokens[row, place + 1] in choices:
            logits = np.asarray(given.params["embedding"]) @ np.asarray(hidden[row, place])
            other = logits[choices]
            total += np.log(np.exp(other - other.max()).sum()) + other.max() - logits[streams.tokens[row, place + 1]]
            count += 1
    assert count > 300 and len(choices) > 10
    value = jax.jit(functools.partial(context_loss, given.decisions))(given.params, hidden, streams)
    assert float(value) == pytest.approx(total / count, rel=1e-5)


def arrays(jaxpr: Any) -> Iterator[tuple[int, ...]]:
    """Shapes of all results of a jaxpr and of those within it."""
    for equation in jaxpr.eqns:
        yield from (each.aval.shape for each in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from arrays(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize("utility", [KTO, REINFORCE])
def test_no_logits_of_all_tokens_exist_at_once(utility: CreditOptions):
    given = material("text")
    vocabulary = 9001  # of no other size in the program, and large enough for action logits to be picked singly
    config = given.table.policy.config
    policy = Policy(type(config)(**(vars(config) | {"vocab_size": vocabulary})))
    wide = Material(**(vars(given) | {"table": Table.lay(given.table.game, policy, given.table.tokenizer)}))
    params = policy.abstract_params()
    streams = wide.packed()[0]
    loss = functools.partial(loss_of, wide, utility, (0.02, 0.0))
    traced = jax.jit(jax.grad(loss, has_aux=True)).trace(params, params, streams)
    sizes = {int(np.prod(shape)) for shape in arrays(traced.jaxpr.jaxpr) if vocabulary in shape}
    assert sizes
    assert max(sizes) * 2 < SHAPE.rows * SHAPE.queries * vocabulary


def scan_lengths(jaxpr: Any) -> Iterator[int]:
    """How often each scan of a jaxpr, and of those within it, goes round."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation.params["length"]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from scan_lengths(getattr(inner, "jaxpr", inner))


def test_devices_that_share_the_rows_take_whole_chunks_each(monkeypatch: pytest.MonkeyPatch):
    """With 4 the head takes 4 times the places at a time, in a quarter of the rounds, and the loss is the same."""
    monkeypatch.setattr("maro_jax.learner.loss.TEXT_CHUNK", SHAPE.rows)
    monkeypatch.setattr("maro_jax.learner.loss.CONTEXT_CHUNK", SHAPE.rows)
    given = material("text")
    streams, loss, rounds = given.packed()[0], [], []
    for shards in (1, 4):

        def value(params: Any, streams: Any, shards: int = shards) -> jax.Array:
            return micro_batch_loss(
                params, given.decisions, REINFORCE, None, jnp.asarray(given.point), 0.02, 0.0, 0.5, jnp.float32(1),
                streams, shards,
            )[0]  # fmt: skip

        traced = jax.jit(value).trace(given.params, streams)
        rounds.append(set(scan_lengths(traced.jaxpr.jaxpr)))
        loss.append(float(traced.lower().compile()(given.params, streams)))
    assert loss[0] == pytest.approx(loss[1], rel=1e-5)
    assert rounds[0] - rounds[1] == {SHAPE.queries, SHAPE.width}
    assert rounds[1] - rounds[0] == {-(-SHAPE.queries // 4), -(-SHAPE.width // 4)}


def test_rows_without_tokens_score_zero():
    given = material("acts")
    streams = given.packed(CHOSEN[:1])[0]
    scores = jax.jit(lambda params, streams: score_tokens(given.decisions, params, given.reference, streams))(
        given.params, streams
    )
    empty = streams.node == 0
    assert empty.any() and (~empty).any()
    for leaf in jax.tree.leaves(scores):
        assert np.isfinite(leaf).all() and not np.asarray(leaf)[empty].any()
    assert np.all(np.asarray(scores.log_prob) <= 0) and np.all(np.asarray(scores.kl) >= -1e-6)
