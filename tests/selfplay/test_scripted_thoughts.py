"""Scripted players think the plan of what they do, and nothing where a game has no room for thoughts."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import SeatView
from games.plans import plans_of
from games.registry import make
from games.text.grammar import THOUGHT_TOKEN
from maro_jax.selfplay.episodes import HEURISTIC, RANDOM, Episodes
from maro_jax.selfplay.rollout import play
from maro_jax.selfplay.table import RolloutSizes, Table
from tests.games.recording import QUICKLY
from tests.games.text import host
from tests.selfplay.playing import plan_of, smallest_policy
from tests.selfplay.replies import behaviours_of, check_streams

EPISODES = 16


@functools.cache
def scripted(name: str, **parameters: Any) -> tuple[Table, Episodes]:
    """Games of heuristic players and games of random ones."""
    tokenizer = host.tokenizer_of("tiny")
    table = Table.lay(make(name, **parameters), smallest_policy(tokenizer.vocab_size), tokenizer)
    sizes = RolloutSizes.fit(table, EPISODES, table.stream_capacity(0, "refuse"))
    holders = np.where(np.arange(EPISODES)[:, None] % 2, HEURISTIC, RANDOM) * np.ones((1, len(table.spec.sides)))
    program = functools.partial(play, table, sizes, 0, True, None, jnp.ones((0,)), jax.random.key(3))
    episodes, _ = jax.device_get(jax.jit(program, compiler_options=QUICKLY)(plan_of(holders)))
    return table, episodes


def plan_at(table: Table, episodes: Episodes, episode: int, decision: int, seat: int) -> str:
    """The plan of a decision, from what its seat knew then."""
    rows, made = episodes.event_rows[episode], episodes.behaviours
    number = np.arange(len(rows))
    happened = (number < episodes.event_count[episode]) & (episodes.event_step[episode] <= decision)
    shown = (episodes.event_audience[episode].astype(int) >> seat) & 1 == 1
    view = SeatView(
        rows=np.where((happened & (shown | (rows[:, 1] == seat)))[:, None], rows, -1),
        seat=np.int8(seat),
        role=made.role[episode, decision],
        phase=made.phase[episode, decision],
        legal=made.legal[episode, decision],
        spec=table.spec,
    )
    plans = plans_of(table.spec)
    return plans.texts[int(_plan_of(plans)(view, made.action[episode, decision]))]


@functools.cache
def _plan_of(plans: Any) -> Any:
    return jax.jit(plans.of, compiler_options=QUICKLY)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("kuhn-v0", {"thought_tokens": 1, "speech_tokens": 2}),
        pytest.param(
            *("persuasion-v0", {"persuadee": "seat", "max_exchanges": 3, "thought_tokens": 3}), marks=pytest.mark.slow
        ),
    ],
)
def test_a_thought_is_the_plan_of_the_action_cut_at_the_budget(name: str, parameters: dict[str, Any]):
    table, episodes = scripted(name, **parameters)
    assert check_streams(table, episodes) >= EPISODES
    budget, seen = parameters["thought_tokens"], set()
    for episode in range(EPISODES):
        for decision, seat, ids in behaviours_of(episodes, episode):
            start = int(episodes.behaviours.start[episode, decision])
            nodes = episodes.node[episode, seat, start : start + len(ids)]
            thought = ids[(nodes == THOUGHT_TOKEN) & (ids != table.lexicon.section_close)].tolist()
            plan = plan_at(table, episodes, episode, decision, seat)
            assert thought == table.tokenizer.encode(plan)[:budget]
            seen.add(plan)
    assert len(seen) > 4


def test_without_room_for_thoughts_there_are_no_plans():
    table = scripted("kuhn-v0", thought_tokens=1, speech_tokens=2)[0]
    silent = Table.lay(make("kuhn-v0"), table.policy, table.tokenizer)
    assert table.plans is not None and silent.plans is None and not len(silent.lexicon.scripted_thought)
