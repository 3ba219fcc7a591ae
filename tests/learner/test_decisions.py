"""Several games for one learner: each is learnt from as it would be alone."""

import jax
import numpy as np
import pytest

from games.registry import make
from maro_jax.learner.decisions import Decisions
from maro_jax.learner.loss import micro_batch_loss
from maro_jax.learner.packing import pack, packing_shapes
from maro_jax.selfplay.table import Table
from tests.learner.material import CHOSEN, SHAPE, material
from tests.learner.test_loss import KTO


def joined() -> Decisions:
    """Kuhn poker, the material's Werewolf with text, and liar's dice, whose labels are more."""
    table = material("text").table
    others = [Table.lay(make(name), table.policy, table.tokenizer) for name in ("kuhn-v0", "liars_dice-v0")]
    return Decisions.of([others[0], table, others[1]])


def test_a_game_among_others_has_the_loss_and_gradients_that_it_has_alone():
    given, several = material("text"), joined()
    assert several.num_actions > 0 and several.first_phase[1] == len(several.tables[0].spec.phases)

    def result(decisions: Decisions, game: int):
        batches = list(pack(decisions, game, (SHAPE,), given.episodes, given.sign, given.weight, CHOSEN))
        point = np.zeros(decisions.num_phases, np.float32)
        first = decisions.first_phase[game]
        point[first : first + len(given.point)] = given.point

        def loss(params, point, streams):
            return micro_batch_loss(params, decisions, KTO, given.reference, point, 0.02, 0.0, 0.0, 0.25, streams)

        compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
        return [compiled(given.params, point, streams) for streams in batches]

    alone, among = result(Decisions.of([given.table]), 0), result(several, 1)
    assert len(alone) == len(among) > 0
    first = several.first_phase[1]
    for ((loss, sums), grads), ((other_loss, other_sums), other_grads) in zip(alone, among, strict=True):
        assert float(loss) == pytest.approx(float(other_loss), rel=1e-6)
        for own, other in zip(jax.tree.leaves(grads), jax.tree.leaves(other_grads), strict=True):
            np.testing.assert_allclose(own, other, atol=1e-6 * float(np.abs(own).max() + 1e-9))
        for name in ("kl", "phase_behaviours"):
            inside = np.asarray(other_sums[name])[first : first + len(given.point)]
            np.testing.assert_allclose(inside, sums[name], rtol=1e-5, atol=1e-7)
            assert np.asarray(other_sums[name]).sum() == pytest.approx(float(np.asarray(sums[name]).sum()), rel=1e-5)


def test_the_tries_of_all_games_stand_side_by_side():
    decisions = joined()
    for game, table in enumerate(decisions.tables):
        grammar, first = table.grammar, decisions.first_node[game]
        for node in range(len(grammar.depth)):
            below = {
                (int(token), int(child))
                for token, child in zip(grammar.child_tokens[node], grammar.child_nodes[node], strict=True)
                if child >= 0
            }
            row = first + node
            found = {
                (int(token), int(child) - first)
                for token, child in zip(decisions.child_tokens[row], decisions.child_nodes[row], strict=True)
                if child >= 0
            }
            assert found == below
            labels = grammar.under.shape[1]
            np.testing.assert_array_equal(decisions.under[row, :labels], grammar.under[node])
            assert not decisions.under[row, labels:].any()


def test_rows_are_wide_enough_for_the_longest_stream_of_any_game():
    decisions = joined()
    capacities = [table.stream_capacity(0, "refuse") for table in decisions.tables]
    shapes = packing_shapes(decisions, capacities, tokens=1000, shards=2)
    longest = [
        table.lexicon.prefix_lengths.max() + room for table, room in zip(decisions.tables, capacities, strict=True)
    ]
    assert shapes[-1].width >= max(longest)
    assert packing_shapes(Decisions.of(decisions.tables[:1]), capacities[:1], 1000, 2)[-1].width < shapes[-1].width
