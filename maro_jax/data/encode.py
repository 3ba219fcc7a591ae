"""From `Episodes` to records: the fields of the schema, and their bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from games.text.grammar import SPEECH_TOKEN, THOUGHT_TOKEN
from games.text.transcript import event_text
from maro_jax.selfplay.episodes import HOLDERS, Episodes, RolloutPlan
from maro_jax.selfplay.table import Table

NO_WEIGHTS = -1  # of a seat that no trained model held
NO_PURPOSE = -1  # chance comes from the seed itself
MOST_TEXTS = 100_000  # kept by an encoder


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a batch of episodes comes from.

    Attributes:
      seed: root of all chance.
      purpose: folded into the seed's key before anything is drawn; `NO_PURPOSE`: nothing is.
      iteration: of the run, counted from 1 as in its metrics.jsonl; 0 outside a run.
      players: what is to be told of a holder, by its number in `HOLDERS`; default: its name there.
      weights: iterations that a holder's weights had been trained for; default: `NO_WEIGHTS`.
      seats: int8[N], who held each seat, where it is not by sides as a plan has it.
    """

    seed: int
    purpose: int = NO_PURPOSE
    iteration: int = 0
    players: Mapping[int, str] = dataclasses.field(default_factory=dict)
    weights: Mapping[int, int] = dataclasses.field(default_factory=dict)
    seats: np.ndarray | None = None


class Encoder:
    """Makes records of a game's episodes; keeps the texts it has rendered."""

    def __init__(self, table: Table):
        """Prepares for episodes of a table."""
        self.table, spec = table, table.spec
        self._label_length = (table.grammar.label_tokens >= 0).sum(axis=1)
        self._acts = np.array([phase.action for phase in spec.phases])
        self._side = np.asarray(spec.side_of_role)
        self._utters = ["{utterance}" in kind.template for kind in spec.event_kinds]
        self._decoded: dict[tuple[int, ...], str] = {}
        self._events: dict[tuple[Any, ...], str] = {}

    def examples(
        self, episodes: Episodes, plan: RolloutPlan, origin: Origin, indices: Iterable[int] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yields the record of each episode as nested fields.

        Args:
          episodes: on the host.
          plan: as they were asked for.
          origin: where they come from.
          indices: which of them; default: all, in order.
        """
        for index in range(len(episodes.terminated)) if indices is None else indices:
            yield self._example(episodes, plan, origin, int(index))

    def _example(self, episodes: Episodes, plan: RolloutPlan, origin: Origin, index: int) -> dict[str, Any]:
        made = episodes.behaviours
        count = int((made.seat[index] >= 0).sum())
        lengths = np.asarray(episodes.lengths[index])
        used = np.arange(episodes.tokens.shape[2]) < lengths[:, None]
        node = episodes.node[index][used]
        position = np.flatnonzero(node)
        spans, thoughts, speeches = self._spans(episodes, index, count)
        said = [text.strip() for text in speeches]
        decision, action = np.nonzero(made.legal[index, :count])
        return {
            "game": self.table.spec.name,
            "iteration": origin.iteration,
            "episode": int(plan.episode[index]),
            "deal": int(plan.deal[index]),
            "seed": origin.seed,
            "purpose": origin.purpose,
            "terminated": bool(episodes.terminated[index]),
            "truncated": bool(episodes.truncated[index]),
            "overflowed": bool(episodes.overflowed[index]),
            "seats": self._seats(episodes, plan, origin, index),
            "tokens": episodes.tokens[index][used],
            "sampled": {
                "position": position.astype(np.int32),
                "node": node[position],
                "log_prob": episodes.log_probs[index][used][position],
            },
            "behaviours": {
                **{name: getattr(made, name)[index, :count] for name in ("seat", "role", "phase", "holder", "action")},
                "legal": action,
                "legal_count": np.bincount(decision, minlength=count).astype(np.int16),
                "start": made.start[index, :count],
                **spans,
                "end": made.end[index, :count],
                "thought": [text.strip() for text in thoughts],
                "speech": said,
            },
            "events": self._logged(episodes, index, speeches),
        }

    def _seats(self, episodes: Episodes, plan: RolloutPlan, origin: Origin, index: int) -> dict[str, Any]:
        roles = np.asarray(episodes.roles[index])
        holders = np.asarray(plan.holders)[index, self._side[roles]] if origin.seats is None else origin.seats
        return {
            "role": roles,
            "holder": holders,
            "player": [origin.players.get(holder, HOLDERS[holder]) for holder in holders.tolist()],
            "weights": np.array([origin.weights.get(holder, NO_WEIGHTS) for holder in holders.tolist()], np.int32),
            "outcome": episodes.outcome[index],
            "length": episodes.lengths[index],
        }

    def _spans(
        self, episodes: Episodes, index: int, count: int
    ) -> tuple[dict[str, np.ndarray], Sequence[str], Sequence[str]]:
        """Where the sections of each reply lie in its seat's stream; the text of thoughts and speeches."""
        made = episodes.behaviours
        seat, phase, action = (getattr(made, name)[index, :count] for name in ("seat", "phase", "action"))
        spans: dict[str, np.ndarray] = {}
        before, texts = made.start[index, :count], []
        for name, kind in (("thought", THOUGHT_TOKEN), ("speech", SPEECH_TOKEN)):
            start, end = before, before
            if self.table.spec.thought_tokens + self.table.spec.speech_tokens:
                free = (episodes.node[index] == kind) & (episodes.tokens[index] != self.table.lexicon.section_close)
                rows, places = np.nonzero(free)
                decisions = episodes.decision[index][rows, places]
                found, first = np.unique(decisions, return_index=True)
                start = before.copy()
                start[found] = places[first]
                end = start + np.bincount(decisions, minlength=count).astype(start.dtype)
            spans |= {f"{name}_start": start, f"{name}_end": end}
            texts.append([self.text(episodes.tokens[index, seat[i], start[i] : end[i]]) for i in range(count)])
            before = end
        labels = np.where(self._acts[phase], self._label_length[action], 0)
        return spans | {"action_start": (made.end[index, :count] - labels).astype(np.int32)}, texts[0], texts[1]

    def _logged(self, episodes: Episodes, index: int, speeches: Sequence[str]) -> dict[str, Any]:
        size = int(episodes.event_count[index])
        rows = episodes.event_rows[index, :size]
        return {
            "kind": rows[:, 0],
            "actor": rows[:, 1],
            "target": rows[:, 2],
            "value": rows[:, 3],
            "visible_to": episodes.event_audience[index, :size].astype(np.int32),
            "step": episodes.event_step[index, :size],
            "text": [self.event(row, speeches) for row in rows.tolist()],
        }

    def event(self, row: Sequence[int], speeches: Sequence[str]) -> str:
        """An event as a line of text.

        Args:
          row: (kind, actor, target, value).
          speeches: what was said at each decision.
        """
        said = speeches[row[3]] if self._utters[row[0]] else ""
        key = (*row, said)
        if key not in self._events:
            self._events[key] = event_text(self.table.spec, row, said)
        return self._events[key]

    def text(self, tokens: np.ndarray) -> str:
        """The text of some tokens."""
        key = tuple(tokens.tolist())
        if key not in self._decoded:
            if len(self._decoded) > MOST_TEXTS:
                self._decoded.clear()
                self._events.clear()
            self._decoded[key] = self.table.tokenizer.decode(list(key)) if key else ""
        return self._decoded[key]


def serialise(example: Mapping[str, Any]) -> bytes:
    """The bytes of a record, a `tf.train.Example` as TFDS writes it (which takes ten times as long)."""
    record = tf_example_pb2.Example()
    features = record.features.feature
    for name, value in _flat(example):
        feature = features[name]
        if isinstance(value, np.ndarray):
            numbers = feature.float_list if value.dtype.kind == "f" else feature.int64_list
            numbers.value.extend(value.tolist())
        elif isinstance(value, list):
            feature.bytes_list.value.extend([text.encode() for text in value])
        elif isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        else:
            feature.int64_list.value.append(int(value))
    return record.SerializeToString(deterministic=True)


def _flat(example: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in example.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value
