"""Games of Kuhn poker in which anything may be thought and said, told by the rules; and datasets of them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from maro_jax.data.encode import Encoder, Origin
from maro_jax.data.retell import Replies, retell, text_table
from maro_jax.data.schema import Header
from maro_jax.data.writer import EpisodeWriter
from maro_jax.selfplay.episodes import PERSON, Episodes, RolloutPlan
from maro_jax.selfplay.table import Table

GAME = "kuhn-v0"
PARAMETERS = {"speech_tokens": 4, "thought_tokens": 3}
SEED = 7
EPISODES = 64  # as many as the checker and the importer tell together, so that they share a program


def table() -> Table:
    """The game laid out for the tiny tokenizer: the very table that the commands use."""
    return text_table(GAME, PARAMETERS, "tiny")


def capacity() -> int:
    """Stream tokens of a seat."""
    return table().lexicon.max_stream


def plan_of(first: int = 0) -> RolloutPlan:
    """Games numbered from `first`, of other deals, between persons."""
    number = np.arange(first, first + EPISODES, dtype=np.int32)
    return RolloutPlan(number, number + 100, np.full((EPISODES, len(table().spec.sides)), PERSON, np.int8))


@functools.cache
def told(seed: int = 0) -> Episodes:
    """Games with random replies: actions, thoughts and speeches of any length, from tokens that may be used there."""
    generator, laid = np.random.default_rng(seed), table()
    replies = Replies.empty(laid, EPISODES)
    replies.action[:] = generator.integers(2, size=replies.action.shape)
    for tokens, lengths, mask in (
        (replies.thought, replies.thought_length, laid.lexicon.thought_mask),
        (replies.speech, replies.speech_length, laid.lexicon.speech_mask),
    ):
        tokens[:] = generator.choice(np.flatnonzero(mask), size=tokens.shape)
        lengths[:] = generator.integers(tokens.shape[2] + 1, size=lengths.shape)
    return retell(laid, capacity(), jax.random.key(SEED), plan_of(), replies)


def examples(seed: int = 0, *, iteration: int = 0) -> list[dict[str, Any]]:
    """The records of `told`."""
    return list(Encoder(table()).examples(told(seed), plan_of(), Origin(SEED, iteration=iteration)))


def header() -> Header:
    """Of the datasets made here."""
    return Header.of(table(), capacity=capacity(), model="tiny", source="test")


def writer(root: Path, *, shard_episodes: int = 24) -> EpisodeWriter:
    """A dataset to write to."""
    return EpisodeWriter(root, table().spec, header(), shard_episodes=shard_episodes)


def dataset(root: Path, records: list[dict[str, Any]] | None = None) -> Path:
    """The folder of a dataset of three shards of 24, 24 and 16 games in the split `train`."""
    made = writer(root)
    made.append("train", examples() if records is None else records)
    return made.folder


def assert_same(left: Episodes, right: Episodes) -> None:
    """Asserts that two batches are equal in every field, types included."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(left), jax.tree_util.tree_leaves_with_path(right), strict=True)
    for (path, one), (_, other) in pairs:
        name = jax.tree_util.keystr(path)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)
