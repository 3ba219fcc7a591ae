"""The schema of a dataset: the features of a record, and the header that all records of a dataset share.

One record is one episode. docs/data.md explains every field and why a record is not a single behaviour.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from games.core import GameSpec
from maro_jax.selfplay.episodes import HOLDERS
from maro_jax.selfplay.table import Table

VERSION = "1.0.0"  # of the schema: a new field raises the second number, a change of an old one the first


@dataclasses.dataclass(frozen=True)
class Header:
    """What all episodes of a dataset share; stored as JSON in `episodes.json`.

    Attributes:
      game: versioned name of the game.
      parameters: its rule parameters.
      capacity: most stream tokens of a seat after its role prefix.
      model: whose tokenizer made the ids: `tiny`, or the folder of a model as it was named then.
      tokenizer: digest of that tokenizer's vocabulary, see `TextTokenizer.digest`.
      source: the command that the episodes come from: train, scripted, import, collect, play or evaluate.
      introduction: what every seat is told first.
      role_texts: what a seat is told after it, by role.
      sides: the side of each role.
      prompts: what a phase asks of the seat that acts, by phase.
    """

    game: str
    parameters: dict[str, Any]
    capacity: int
    model: str
    tokenizer: str
    source: str
    introduction: str
    role_texts: dict[str, str]
    sides: dict[str, str]
    prompts: dict[str, str]

    @staticmethod
    def of(table: Table, *, capacity: int, model: str, source: str) -> Header:
        """The header for games of a table; arguments as the attributes of the same name."""
        spec, brief = table.spec, table.tokenizer.family == "tiny"
        return Header(
            game=spec.name,
            parameters=dict(spec.parameters),
            capacity=capacity,
            model=model,
            tokenizer=table.tokenizer.digest(),
            source=source,
            introduction=spec.introduction[brief],
            role_texts={role.name: texts[brief] for role, texts in zip(spec.roles, spec.role_texts, strict=True)},
            sides={role.name: role.side for role in spec.roles},
            prompts={phase.name: phase.prompt for phase in spec.phases},
        )


def dataset_name(game: str) -> str:
    """The name by which TFDS knows a dataset of a game: `werewolf_v0` for `werewolf-v0`.

    Args:
      game: its name, with its parameters where they tell two games of one name apart.
    """
    return re.sub(r"[^a-z0-9]+", "_", game.lower()).strip("_")


def features(spec: GameSpec) -> tfds.features.FeaturesDict:
    """The features of a record of this game.

    Lists of lists are stored as one list and its counts: TFDS cannot write ragged ones without TensorFlow.
    """
    label, sequence = tfds.features.ClassLabel, tfds.features.Sequence
    text = tfds.features.Text

    def labels(names: Any) -> Any:
        return sequence(label(names=[name.strip() for name in names]))

    def numbers(dtype: Any) -> Any:
        return tfds.features.Tensor(shape=(None,), dtype=dtype)

    roles = [role.name for role in spec.roles]
    return tfds.features.FeaturesDict(
        {
            "game": text(),
            "iteration": np.int64,
            "episode": np.int64,
            "deal": np.int64,
            "seed": np.int64,
            "purpose": np.int64,
            "terminated": np.bool_,
            "truncated": np.bool_,
            "overflowed": np.bool_,
            "seats": {
                "role": labels(roles),
                "holder": labels(HOLDERS),
                "player": sequence(text()),
                "weights": numbers(np.int32),
                "outcome": numbers(np.float32),
                "length": numbers(np.int32),
            },
            "tokens": numbers(np.int32),
            "sampled": {
                "position": numbers(np.int32),
                "node": numbers(np.int16),
                "log_prob": numbers(np.float32),
            },
            "behaviours": {
                "seat": numbers(np.int8),
                "role": labels(roles),
                "phase": labels(phase.name for phase in spec.phases),
                "holder": labels(HOLDERS),
                "action": labels(spec.action_labels),
                "legal": labels(spec.action_labels),
                "legal_count": numbers(np.int16),
                "start": numbers(np.int32),
                "thought_start": numbers(np.int32),
                "thought_end": numbers(np.int32),
                "speech_start": numbers(np.int32),
                "speech_end": numbers(np.int32),
                "action_start": numbers(np.int32),
                "end": numbers(np.int32),
                "thought": sequence(text()),
                "speech": sequence(text()),
            },
            "events": {
                "kind": labels(kind.name for kind in spec.event_kinds),
                "actor": numbers(np.int16),
                "target": numbers(np.int16),
                "value": numbers(np.int16),
                "visible_to": numbers(np.int32),
                "step": numbers(np.int16),
                "text": sequence(text()),
            },
        }
    )
