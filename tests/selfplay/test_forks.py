"""Forks: the past is repeated to the last token, branches share their luck, and U means the exact advantage in Kuhn."""

from __future__ import annotations

import dataclasses
import functools
import math
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.kuhn import KIND
from games.registry import make
from maro_jax.policy.tokenizer import tiny_tokenizer
from maro_jax.selfplay import lanes
from maro_jax.selfplay.episodes import Episodes, RolloutPlan
from maro_jax.selfplay.forks import Forks, branches, differences, had_choice, until
from maro_jax.selfplay.rollout import build_rollout
from maro_jax.selfplay.table import RolloutSizes, Table
from tests.selfplay.playing import (
    COMPILER_OPTIONS,
    LAYOUTS,
    decided,
    every_pairing,
    mesh_of,
    plan_of,
    smallest_policy,
    world,
)
from tests.selfplay.replies import behaviours_of, check_streams, reply_of

PLAN = plan_of(every_pairing())
FIRST = 7  # number of the first pair

# ---------------------------------------------------------------------- a game with speech, thoughts and every holder


@functools.cache
def go_on() -> Any:
    """The rollout of 16 episodes of the game with free text that have a past."""
    place, (devices, sizes) = world("text"), LAYOUTS["few lanes"]
    sizes = RolloutSizes(capacity=place.table.stream_capacity(0, "refuse"), **sizes)
    rollout = build_rollout(place.table, sizes, mesh_of(devices), models=2, scripted=True)
    compiled = jax.jit(rollout, compiler_options=COMPILER_OPTIONS)
    return lambda plan: jax.device_get(compiled(place.params, jnp.ones(2), jax.random.key(0), plan)[0])


@functools.cache
def original() -> Episodes:
    """Sixteen episodes of every pairing of holders; they begin with an empty past, which spares another program."""
    spec, capacity = world("text").table.spec, world("text").table.stream_capacity(0, "refuse")
    nothing = jax.device_get(Episodes.empty(spec, 16, capacity))
    return go_on()(dataclasses.replace(PLAN, past=nothing, fork=np.full(16, spec.max_decisions, np.int32)))


def some_forks() -> Forks:
    """Eight behaviours of any holder: one of each of eight games, from its first one to its last one."""
    episode = np.arange(8) * 2 + 1
    count = (original().behaviours.seat[episode] >= 0).sum(axis=1)
    return Forks(episode, np.linspace(0, count - 1, 8).diagonal().astype(int), 1.0)


@functools.cache
def branched() -> Episodes:
    """A pair of branches of each of these forks."""
    return go_on()(branches(PLAN, original(), some_forks(), 1, FIRST))


def assert_equal(one: Episodes, other: Episodes) -> None:
    for (path, left), right in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(left, right, err_msg=jax.tree_util.keystr(path))


def test_a_whole_past_is_repeated_to_the_last_token_and_event():
    episodes = original()
    decisions = np.full(16, world("text").table.spec.max_decisions)
    assert np.any(np.asarray(PLAN.holders) != 0) and (episodes.node == 2).any() and (episodes.node == 1).any()
    again = go_on()(dataclasses.replace(PLAN, past=until(episodes, decisions), fork=decisions.astype(np.int32)))
    assert_equal(again, episodes)


def test_a_branch_repeats_everything_before_its_fork_and_then_goes_its_own_way():
    episodes, forks, table = original(), some_forks(), world("text").table
    source, decision = np.repeat(forks.episode, 2), np.repeat(forks.decision, 2)
    before = jax.tree.map(lambda leaf: leaf[source], episodes)
    assert_equal(until(branched(), decision + [1, 0] * 8), until(before, decision + [1, 0] * 8))
    np.testing.assert_array_equal(branched().roles, before.roles)
    for branch, (rows, steps) in enumerate(zip(before.event_rows, before.event_step, strict=True)):
        known = (np.arange(len(rows)) < before.event_count[branch]) & (steps <= decision[branch])
        np.testing.assert_array_equal(branched().event_rows[branch][known], rows[known])
    assert check_streams(table, branched()) > decision.sum()
    others = [not np.array_equal(branched().tokens[branch], before.tokens[branch]) for branch in range(16)]
    assert sum(others) >= 10
    # What is marked as chosen is told apart from what was given, after a fork too.
    for branch in range(16):
        for made, seat, ids in behaviours_of(branched(), branch):
            marks = branched().node[branch, seat][branched().behaviours.start[branch, made] :][: len(ids)]
            choices = reply_of(table, branched(), branch, made, ids).choices
            assert np.flatnonzero(marks).tolist() == [choice.place for choice in choices]


def test_branches_of_a_pair_share_their_luck_and_other_pairs_have_another():
    """With the recorded reply in both branches of a pair they are one and the same game; another pair is another."""
    forks = some_forks()
    four = Forks(forks.episode[:4], forks.decision[:4], 1.0)
    plan = branches(PLAN, original(), four, 2, FIRST)
    assert plan.episode.tolist() == [n for n in range(FIRST, FIRST + 8) for _ in range(2)]
    keeping = jax.tree.map(lambda leaf: np.repeat(leaf[::2], 2, axis=0), plan)
    both = go_on()(keeping)
    assert_equal(jax.tree.map(lambda leaf: leaf[::2], both), jax.tree.map(lambda leaf: leaf[1::2], both))
    differ = [not np.array_equal(both.tokens[first], both.tokens[first + 2]) for first in (0, 4, 8, 12)]
    assert sum(differ) >= 3


def test_chance_is_the_deals_up_to_the_fork_and_the_pairs_from_there_on():
    root, deal, number = jax.random.key(3), np.array([5, 5, 5]), np.array([40, 40, 41])
    plan = RolloutPlan(number, deal, np.zeros((3, 2)), past=original(), fork=np.array([2, 2, 2]))

    def keys(plan: RolloutPlan, step: int) -> list:
        at = SimpleNamespace(slot=jnp.arange(3), game=SimpleNamespace(step=jnp.full(3, step, jnp.int16)))
        return jax.random.key_data(lanes._chance_keys(jax.tree.map(jnp.asarray, plan), root, at)).tolist()

    before, after = keys(plan, 1), keys(plan, 2)
    anew = dataclasses.replace(plan, past=None, fork=None)
    assert before == keys(anew, 1) and before[0] == before[1] == before[2]
    assert after[0] == after[1] and after[0] != after[2] and keys(anew, 2)[0] not in after


# ---------------------------------------------------------------------- on the host


def test_the_past_is_cut_at_the_last_repeated_reply_of_each_seat():
    episodes = original()
    decision = np.arange(16) % 6
    past, made = until(episodes, decision), episodes.behaviours
    for episode, number in enumerate(decision.tolist()):
        for seat in range(episodes.lengths.shape[1]):
            ends = [int(made.end[episode, b]) for b in range(number) if made.seat[episode, b] == seat]
            end = max(ends, default=0)
            assert past.lengths[episode, seat] == end
            for name in ("tokens", "node", "log_probs", "decision"):
                now, then = getattr(past, name)[episode, seat], getattr(episodes, name)[episode, seat]
                np.testing.assert_array_equal(now[:end], then[:end])
                assert not now[end:].any()
        np.testing.assert_array_equal(past.behaviours.action[episode, :number], made.action[episode, :number])
        assert np.all(past.behaviours.seat[episode, number:] == -1)
    assert not past.terminated.any() and np.all(past.event_rows == -1) and not past.outcome.any()


def test_only_behaviours_with_a_choice_can_be_forked():
    episodes, forced = original(), np.random.default_rng(3).random(original().behaviours.seat.shape) < 0.3
    of_token = np.take_along_axis(forced, episodes.decision.reshape(16, -1), axis=1).reshape(episodes.decision.shape)
    found = had_choice(dataclasses.replace(episodes, node=np.where(of_token, 0, episodes.node)))
    np.testing.assert_array_equal(found, (episodes.behaviours.seat >= 0) & ~forced)  # a thought is always chosen


def test_forks_are_drawn_from_the_candidates_each_as_likely_as_the_others():
    candidates = np.random.default_rng(0).random((6, 5)) < 0.5
    generator, counts = np.random.default_rng(1), np.zeros(candidates.shape)
    for _ in range(3000):
        forks = Forks.draw(generator, candidates, 4)
        assert len({*zip(forks.episode.tolist(), forks.decision.tolist(), strict=True)}) == 4
        counts[forks.episode, forks.decision] += 1
    assert forks.share == 4 / candidates.sum()
    assert not counts[~candidates].any()
    error = math.sqrt(forks.share * (1 - forks.share) / 3000)
    assert np.abs(counts[candidates] / 3000 - forks.share).max() < 4.5 * error
    whole = Forks.draw(generator, candidates, 1000)
    assert whole.share == 1 and len(whole.episode) == candidates.sum()
    nobody = Forks.draw(generator, candidates & False, 4)
    assert len(nobody.episode) == len(nobody.decision) == 0 and nobody.share == 1


def test_differences_equal_a_loop_and_leave_out_pairs_that_did_not_end():
    rng, pairs = np.random.default_rng(2), 3
    outcome, finished = rng.uniform(-1, 1, (24, 5)).astype(np.float32), rng.random(24) < 0.7
    finished[6:14] = [True, False, False, True, False, False, True, True]
    seat = np.array([0, 4, 2, 2], np.int8)
    told, known = differences(SimpleNamespace(outcome=outcome, finished=finished), seat, pairs)
    for fork in range(4):
        gains = []
        for pair in range(pairs):
            kept = (fork * pairs + pair) * 2
            if finished[kept] and finished[kept + 1]:
                gains.append(float(outcome[kept, seat[fork]]) - float(outcome[kept + 1, seat[fork]]))
        assert known[fork] == bool(gains)
        assert told[fork] == pytest.approx(sum(gains) / len(gains) if gains else 0.0, abs=1e-6)
    assert known.tolist() == [True, False, True, True]


# ---------------------------------------------------------------------- Kuhn poker, exactly

GAMES, PAIRS = 1024, 2
PASS, BET = range(2)


def chips(cards: tuple[int, int], acts: tuple[int, ...]) -> float | None:
    """What the first player wins, in stakes; None if it is not over. The rules, by heart."""
    high = 1.0 if cards[0] > cards[1] else -1.0
    ends = {(0, 0): high, (1, 0): 1.0, (1, 1): 2 * high, (0, 1, 0): -1.0, (0, 1, 1): 2 * high}
    return ends[acts] / 2 if acts in ends else None


def advantages(policy: dict[tuple, float]) -> dict[tuple, float]:
    """Q(x, a) − V(x) for x = (card, acts so far), by a walk over the tree; `policy` is π(a | x) by (card, acts, a)."""
    gain: dict[tuple, float] = {}
    reached: dict[tuple, float] = {}

    def value(cards: tuple[int, int], acts: tuple[int, ...], reach: float) -> float:
        """What the first player can expect."""
        if (end := chips(cards, acts)) is not None:
            return end
        seat = len(acts) % 2
        x = (cards[seat], acts)
        chances = [policy[*x, a] for a in (PASS, BET)]
        values = [value(cards, (*acts, a), reach * chances[a]) for a in (PASS, BET)]
        whole = chances[PASS] * values[PASS] + chances[BET] * values[BET]
        for a in (PASS, BET):
            gain[*x, a] = gain.get((*x, a), 0.0) + reach * (values[a] - whole) * (-1) ** seat
            reached[*x, a] = reached.get((*x, a), 0.0) + reach
        return whole

    for deal in [(a, b) for a in range(3) for b in range(3) if a != b]:
        value(deal, (), 1 / 6)
    return {at: gain[at] / reached[at] for at in gain}


def states_of(episodes: Episodes) -> dict[tuple[int, int], tuple]:
    """(card, acts so far, act) of each behaviour (episode, decision)."""
    dealt = episodes.event_rows[:, :, 0] == KIND["card"]
    cards = episodes.event_rows[:, :, 3][dealt].reshape(len(dealt), 2)
    found = {}
    for episode, (seats, acts) in enumerate(zip(episodes.behaviours.seat, episodes.behaviours.action, strict=True)):
        acts = tuple(acts[seats >= 0].tolist())
        for decision, act in enumerate(acts):
            found[episode, decision] = (int(cards[episode, decision % 2]), acts[:decision], act)
    return found


def test_the_mean_of_u_is_the_exact_advantage_in_kuhn():
    tokenizer = tiny_tokenizer()
    table = Table.lay(make("kuhn-v0"), smallest_policy(tokenizer.vocab_size), tokenizer)
    params = (decided(table.policy.init(jax.random.key(1))),)
    sizes = RolloutSizes.fit(table, 256, table.stream_capacity(0, "refuse"))
    rollout = build_rollout(table, sizes, mesh_of(1), models=1, scripted=False)
    rollout = jax.jit(rollout, compiler_options=COMPILER_OPTIONS)
    plan = plan_of(np.zeros((GAMES, 2)))
    episodes = jax.device_get(rollout(params, jnp.ones(1), jax.random.key(0), plan)[0])
    states, policy = states_of(episodes), {}
    for (episode, decision), x in states.items():
        seat = episodes.behaviours.seat[episode, decision]
        own = (episodes.decision[episode, seat] == decision) & (episodes.node[episode, seat] > 0)
        policy[x] = math.exp(float(episodes.log_probs[episode, seat][own].sum()))
    assert len(policy) == 24 and all(abs(policy[*x, PASS] + policy[*x, BET] - 1) < 1e-5 for *x, _ in policy)

    forks = Forks.draw(np.random.default_rng(0), had_choice(episodes), 2 * GAMES)
    taken_up = branches(plan, episodes, forks, PAIRS, 0)
    ends = jax.device_get(rollout(params, jnp.ones(1), jax.random.key(0), taken_up)[0])
    told, known = differences(ends, episodes.behaviours.seat[forks.episode, forks.decision], PAIRS)
    assert known.all() and ends.finished.all()

    of_state: dict[tuple, list[float]] = {}
    for place, difference in zip(zip(forks.episode.tolist(), forks.decision.tolist(), strict=True), told, strict=True):
        of_state.setdefault(states[place], []).append(float(difference))
    exact, scores, clear = advantages(policy), [], 0
    for x, values in of_state.items():
        if len(values) >= 20:
            error = max(np.std(values, ddof=1), 0.05) / math.sqrt(len(values))
            scores.append((np.mean(values) - exact[x]) / error)
            clear += abs(exact[x]) > 5 * error
    assert len(scores) >= 18 and clear >= 8
    assert max(map(abs, scores)) < 3.5 and np.mean(np.square(scores)) < 2
