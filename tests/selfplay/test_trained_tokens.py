"""What is trained was sampled: by the seat credited for it, with the log-probability that the learner computes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from maro_jax.learner.decisions import Decisions
from maro_jax.learner.loss import score_tokens
from maro_jax.learner.packing import Streams, pack, packing_shapes
from maro_jax.policy.attention import CausalAttention
from maro_jax.selfplay.episodes import LEARNER, OPPONENT, Episodes
from tests.selfplay.playing import (
    COMPILER_OPTIONS,
    EPISODES,
    GAMES,
    OTHER_FAMILIES,
    all_learners,
    plan_of,
    played,
    program,
    world,
)
from tests.selfplay.replies import behaviours_of, full_stream, mark_of, reply_of

TOLERANCE = 1e-5


def learner_rows(name: str, episodes: Episodes) -> list[Streams]:
    """All behaviours of the learner, packed; the sign of each is its number, from 1."""
    table = world(name).table
    made = episodes.behaviours
    weight = ((made.holder == LEARNER) & (made.seat >= 0)).astype(np.float32)
    number = 1 + np.arange(weight.size, dtype=np.float32).reshape(weight.shape)
    decisions = Decisions.of([table])
    shapes = packing_shapes(decisions, [episodes.tokens.shape[2]], tokens=1024, shards=1)[-1:]
    return list(pack(decisions, 0, shapes, episodes, number, weight, np.arange(len(weight))))


@functools.cache
def scorer(name: str) -> Any:
    table = world(name).table
    return jax.jit(
        lambda params, streams: score_tokens(Decisions.of([table]), params, None, streams),
        compiler_options=COMPILER_OPTIONS,
    )


@functools.cache
def full_logits(name: str, rows: int, width: int) -> Any:
    """A program from streams int32[rows, width] to logits of every token after every one of their places."""
    policy = world(name).table.policy

    def logits(params: Any, tokens: jax.Array) -> jax.Array:
        positions = jnp.broadcast_to(jnp.arange(width), (rows, width))
        return policy.logits(params, policy.forward(params, tokens, positions, CausalAttention())[0])

    return jax.jit(logits, compiler_options=COMPILER_OPTIONS)


def logits_of_episode(name: str, params: Any, episodes: Episodes, episode: int) -> list[np.ndarray]:
    """float[length, V] for each seat: logits after each place of its whole stream, from one plain pass."""
    table = world(name).table
    streams = [full_stream(table, episodes, episode, seat) for seat in range(table.spec.num_seats)]
    width = int(table.lexicon.prefix_lengths.max()) + episodes.tokens.shape[2]
    padded = np.stack([np.pad(stream, (0, width - len(stream))) for stream in streams]).astype(np.int32)
    logits = np.asarray(full_logits(name, len(streams), width)(params, padded), np.float64)
    return [logits[seat, : len(stream)] for seat, stream in enumerate(streams)]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


@pytest.mark.parametrize("name", GAMES)
def test_learner_computes_the_log_probabilities_of_the_sampler(name: str):
    episodes, params = played(name), world(name).params[0]
    made = episodes.behaviours
    mine = np.take_along_axis(made.holder == LEARNER, episodes.decision.reshape(len(made.seat), -1).astype(int), axis=1)
    mine = mine.reshape(episodes.node.shape) & (episodes.node > 0)
    compared = 0
    for streams in learner_rows(name, episodes):
        scores = scorer(name)(params, streams)
        sampled = streams.node > 0
        np.testing.assert_allclose(scores.log_prob[sampled], streams.log_prob[sampled], rtol=0, atol=TOLERANCE)
        assert not np.asarray(scores.log_prob)[~sampled].any()
        # The packed log-probabilities are the recorded ones, of the right behaviour and the right token.
        row, _ = np.nonzero(sampled)
        number = streams.sign[row, streams.behaviour[sampled]].astype(int) - 1
        for episode, decision in np.unique(np.stack(np.divmod(number, made.seat.shape[1]), axis=1), axis=0).tolist():
            this = number == episode * made.seat.shape[1] + decision
            place = (episode, int(made.seat[episode, decision]))
            chosen = (episodes.decision[place] == decision) & (episodes.node[place] > 0)
            assert streams.log_prob[sampled][this].tolist() == episodes.log_probs[place][chosen].tolist()
            assert streams.token[sampled][this].tolist() == episodes.tokens[place][chosen].tolist()
        compared += int(sampled.sum())
    assert compared == mine.sum() > 300


@pytest.mark.parametrize("name", GAMES)
def test_exactly_the_chosen_tokens_are_marked_and_by_whom(name: str):
    table, episodes = world(name).table, played(name)
    holders, sections = set(), set()
    for episode in range(len(episodes.lengths)):
        expected = np.zeros_like(episodes.node[episode])
        owner = np.full_like(episodes.decision[episode], -1)
        for decision, seat, ids in behaviours_of(episodes, episode):
            reply = reply_of(table, episodes, episode, decision, ids)
            made = episodes.behaviours
            start = made.start[episode, decision]
            for choice in reply.choices:
                expected[seat, start + choice.place] = mark_of(table, choice)
                owner[seat, start + choice.place] = decision
                sections.add(choice.section)
            lowest = int(np.argmax(made.legal[episode, decision]))
            assert made.action[episode, decision] == (reply.action if reply.action >= 0 else lowest)
            assert made.role[episode, decision] == episodes.roles[episode, seat]
            holders.add(int(made.holder[episode, decision]))
        np.testing.assert_array_equal(episodes.node[episode], expected)
        np.testing.assert_array_equal(episodes.decision[episode][expected > 0], owner[expected > 0])
        assert not episodes.log_probs[episode][expected == 0].any()
    parameters = GAMES[name]
    assert holders == (set(range(4)) if name == "text" else {LEARNER})
    assert ("speech" in sections) == (parameters.get("speech_tokens", 0) > 0)
    assert ("thought" in sections) == (parameters.get("thought_tokens", 0) > 0)


@pytest.mark.parametrize("name", GAMES)
def test_only_the_learners_tokens_are_trained(name: str):
    episodes = played(name)
    made = episodes.behaviours
    trained = set()
    for streams in learner_rows(name, episodes):
        assert np.all((streams.node > 0) == (streams.behaviour < streams.weight.shape[1]))
        trained |= {int(number) - 1 for number in streams.sign[streams.weight > 0]}
    holder = made.holder.ravel()
    assert {int(holder[number]) for number in trained} == {LEARNER}
    # All of them, but those that the grammar left no choice at all.
    some = {
        (episode, decision)
        for episode, seat, place in zip(*np.nonzero(episodes.node), strict=True)
        if made.holder[episode, (decision := int(episodes.decision[episode, seat, place]))] == LEARNER
    }
    assert trained == {episode * made.seat.shape[1] + decision for episode, decision in some}


@pytest.mark.parametrize("name", GAMES)
def test_log_probabilities_are_those_of_the_masked_renormalised_distribution(name: str):
    place, episodes = world(name), played(name)
    made, compared = episodes.behaviours, 0
    for episode in (0, 1, 6):
        for holder in (LEARNER, OPPONENT):
            if not (made.holder[episode] == holder).any():
                continue
            logits = logits_of_episode(name, place.params[holder], episodes, episode)
            for decision, seat, ids in behaviours_of(episodes, episode):
                if made.holder[episode, decision] != holder:
                    continue
                prefix = int(place.table.lexicon.prefix_lengths[episodes.roles[episode, seat]])
                for choice in reply_of(place.table, episodes, episode, decision, ids).choices:
                    at = int(made.start[episode, decision]) + choice.place
                    allowed = list(choice.allowed)
                    log_probs = log_softmax(logits[seat][prefix + at - 1, allowed])
                    expected = log_probs[allowed.index(int(ids[choice.place]))]
                    assert episodes.log_probs[episode, seat, at] == pytest.approx(expected, abs=TOLERANCE)
                    compared += 1
    assert compared > 50


@pytest.mark.parametrize("name", ["folder", *OTHER_FAMILIES])
def test_log_probabilities_of_a_folder_are_those_of_its_transformers_model(name: str):
    place, episodes = world(name), played(name)
    made, compared = episodes.behaviours, 0
    for episode in range(3 if name in GAMES else EPISODES):
        for seat in range(place.table.spec.num_seats):
            stream = full_stream(place.table, episodes, episode, seat)
            with torch.no_grad():
                logits = place.torch_model(torch.tensor(stream[None].astype(np.int64))).logits[0].double().numpy()
            prefix = int(place.table.lexicon.prefix_lengths[episodes.roles[episode, seat]])
            for decision, who, ids in behaviours_of(episodes, episode):
                for choice in reply_of(place.table, episodes, episode, decision, ids).choices if who == seat else ():
                    at = int(made.start[episode, decision]) + choice.place
                    allowed = list(choice.allowed)
                    expected = log_softmax(logits[prefix + at - 1, allowed])[allowed.index(int(ids[choice.place]))]
                    assert episodes.log_probs[episode, seat, at] == pytest.approx(expected, abs=1e-4)
                    compared += 1
    assert compared > 50


def test_a_low_temperature_is_greedy_and_any_temperature_is_in_the_log_probability():
    place, rollout = world("acts"), program("acts", "few lanes", models=1, scripted=False)
    for temperature in (1e-3, 0.5):
        episodes, _ = rollout.play(place.params, plan_of(all_learners()), temperature=temperature)
        made, compared = episodes.behaviours, 0
        for episode in range(3):
            logits = logits_of_episode("acts", place.params[0], episodes, episode)
            for decision, seat, ids in behaviours_of(episodes, episode):
                prefix = int(place.table.lexicon.prefix_lengths[episodes.roles[episode, seat]])
                for choice in reply_of(place.table, episodes, episode, decision, ids).choices:
                    at = int(made.start[episode, decision]) + choice.place
                    scores, chosen = logits[seat][prefix + at - 1], int(ids[choice.place])
                    if temperature < 0.01:
                        assert scores[chosen] >= scores[list(choice.allowed)].max() - 1e-2
                    else:
                        log_probs = log_softmax(scores[list(choice.allowed)] / temperature)
                        expected = log_probs[choice.allowed.index(chosen)]
                        assert episodes.log_probs[episode, seat, at] == pytest.approx(expected, abs=TOLERANCE)
                    compared += 1
        assert compared > 30
