"""Rollouts of every game: streams hold what their seats may see and have said, whatever the tokenizer.

`games.testing.check_hiding` finds that what a seat may see depends on nothing secret; so neither does any stream.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.registry import make
from maro_jax.selfplay.episodes import HEURISTIC, LEARNER, OPPONENT, RANDOM, Episodes
from maro_jax.selfplay.rollout import build_rollout
from maro_jax.selfplay.table import RolloutSizes, Table
from tests.games.test_testing import SMALL
from tests.games.text import host
from tests.selfplay.playing import COMPILER_OPTIONS, decided, mesh_of, plan_of, smallest_policy
from tests.selfplay.replies import check_streams

EPISODES = 24
SILENT = ("shopping-v0",)
HOLDERS = (LEARNER, OPPONENT, HEURISTIC, RANDOM)


def played(name: str, family: str) -> tuple[Table, Episodes]:
    """Episodes of a game with holders of every kind, two of them small models that say anything."""
    tokenizer = host.tokenizer_of(family)
    policy = smallest_policy(tokenizer.vocab_size)
    speech = {} if name in SILENT else {"speech_tokens": 3}
    table = Table.lay(make(name, **SMALL[name] | speech), policy, tokenizer)
    sizes = RolloutSizes.fit(table, lanes=8, capacity=table.stream_capacity(0, "refuse"))
    sizes = dataclasses.replace(sizes, decode_steps=1)  # the fewer, the less to compile
    holders = np.random.default_rng(1).choice(HOLDERS, (EPISODES, len(table.spec.sides)))
    params = tuple(decided(policy.init(jax.random.key(seed))) for seed in range(2))
    program = build_rollout(table, sizes, mesh_of(), models=2, scripted=True)
    rollout = jax.jit(program, compiler_options=COMPILER_OPTIONS)
    episodes, _ = rollout(params, jnp.ones(2), jax.random.key(5), plan_of(holders))
    return table, jax.device_get(episodes)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["tiny", "qwen3"])
@pytest.mark.parametrize("name", SMALL)
def test_every_stream_is_what_the_seat_was_told_and_replied(name: str, family: str):
    table, episodes = played(name, family)
    assert not episodes.overflowed.any() and (episodes.terminated | episodes.truncated).all()
    assert check_streams(table, episodes) >= 2 * EPISODES
    assert set(HOLDERS) <= set(np.unique(episodes.behaviours.holder).tolist())
    spoken = any(phase.speech_tokens for phase in table.spec.phases)
    assert spoken == (name not in SILENT)
