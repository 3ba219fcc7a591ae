"""What a reader gets: an episode with its seats, decisions and events, rebuilt from a record."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from games.core import GameSpec
from maro_jax.data.schema import Header
from maro_jax.selfplay.episodes import HOLDERS, Behaviours, Episodes


@dataclasses.dataclass(frozen=True)
class Seat:
    """Who sat where.

    Attributes:
      role, side: what the seat secretly was.
      holder: who decided for it, one of `HOLDERS`.
      player: the same in more words, where there is more to tell.
      weights: iterations that its weights had been trained for, -1 where no trained model held it.
      outcome: in [-1, 1].
      tokens: int32[length], its stream after the role prefix.
    """

    role: str
    side: str
    holder: str
    player: str
    weights: int
    outcome: float
    tokens: np.ndarray


@dataclasses.dataclass(frozen=True)
class Decision:
    """One behaviour.

    Attributes:
      seat: index of who decided.
      role, phase, holder: by name.
      thought, speech, action: the parts of the reply as text, empty where there is none; an action is one of `legal`.
      legal: labels of what was allowed.
      tokens: int32[...], of the reply.
      log_prob: of all that was sampled of it, under the policy that sampled; 0 where nobody sampled.
      start, end: where the reply lies in its seat's stream.
    """

    seat: int
    role: str
    phase: str
    holder: str
    thought: str
    speech: str
    action: str
    legal: tuple[str, ...]
    tokens: np.ndarray
    log_prob: float
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Event:
    """One row of the log.

    Attributes:
      kind: by name.
      text: the line that seats read.
      visible_to: the seats that may read it.
      step: decisions made before it.
    """

    kind: str
    text: str
    visible_to: tuple[int, ...]
    step: int


@dataclasses.dataclass(frozen=True)
class Record:
    """An episode of a dataset.

    Attributes:
      header: what the dataset's episodes share.
      names: the words that the numbers of a field stand for, by field.
      fields: the record as TFDS reads it, with arrays for lists of numbers.
    """

    header: Header
    names: Mapping[str, Sequence[str]]
    fields: Mapping[str, Any]

    @functools.cached_property
    def seats(self) -> list[Seat]:
        """All seats in order."""
        seats, names = self.fields["seats"], self.names["seats/role"]
        stops = np.cumsum(seats["length"])
        return [
            Seat(
                role=names[role],
                side=self.header.sides[names[role]],
                holder=HOLDERS[seats["holder"][index]],
                player=seats["player"][index],
                weights=int(seats["weights"][index]),
                outcome=float(seats["outcome"][index]),
                tokens=self.fields["tokens"][stops[index] - seats["length"][index] : stops[index]],
            )
            for index, role in enumerate(seats["role"])
        ]

    @functools.cached_property
    def decisions(self) -> list[Decision]:
        """All behaviours in the order they were made."""
        made, labels = self.fields["behaviours"], self.names["behaviours/action"]
        first = np.cumsum(self.fields["seats"]["length"]) - self.fields["seats"]["length"]
        allowed = np.split(made["legal"], np.cumsum(made["legal_count"])[:-1]) if len(made["seat"]) else []
        sampled, places = self.fields["sampled"], self.fields["sampled"]["position"]
        found = []
        for index, seat in enumerate(made["seat"].tolist()):
            start, end = int(made["start"][index]), int(made["end"][index])
            chosen = slice(*np.searchsorted(places, [first[seat] + start, first[seat] + end]))
            found.append(
                Decision(
                    seat=seat,
                    role=self.names["behaviours/role"][made["role"][index]],
                    phase=self.names["behaviours/phase"][made["phase"][index]],
                    holder=HOLDERS[made["holder"][index]],
                    thought=made["thought"][index],
                    speech=made["speech"][index],
                    action=labels[made["action"][index]] if made["action_start"][index] < end else "",
                    legal=tuple(labels[action] for action in allowed[index].tolist()),
                    tokens=self.seats[seat].tokens[start:end],
                    log_prob=float(sampled["log_prob"][chosen].sum()),
                    start=start,
                    end=end,
                )
            )
        return found

    @functools.cached_property
    def events(self) -> list[Event]:
        """The whole log."""
        logged, names = self.fields["events"], self.names["events/kind"]
        seats = range(len(self.fields["seats"]["role"]))
        return [
            Event(
                kind=names[kind],
                text=logged["text"][index],
                visible_to=tuple(seat for seat in seats if int(logged["visible_to"][index]) >> seat & 1),
                step=int(logged["step"][index]),
            )
            for index, kind in enumerate(logged["kind"])
        ]

    def seen(self, decision: int) -> list[str]:
        """All that the acting seat had read and said before it replied, oldest first, a line each.

        Its news come as the events it may see; after them what it was asked, and its own reply. The last line is what
        it is asked now. What its role was told stands in `header.introduction` and `header.role_texts`.
        """
        actor, shown, lines = self.decisions[decision].seat, 0, []
        for index, made in enumerate(self.decisions[: decision + 1]):
            if made.seat != actor:
                continue
            while shown < len(self.events) and self.events[shown].step <= index:
                event = self.events[shown]
                lines += [event.text] if actor in event.visible_to else []
                shown += 1
            lines += [prompt] if (prompt := self.header.prompts[made.phase].strip()) else []
            if index < decision:
                lines += [part for part in (made.thought, made.speech, made.action) if part]
        return lines


def to_episodes(records: Sequence[Record], spec: GameSpec) -> Episodes:
    """Rebuilds the batch of episodes that the records were made of, on the host, for the learner or a replay.

    Args:
      records: of one game.
      spec: its static description.
    """
    capacity = max(record.header.capacity for record in records)
    parts = [_rebuilt(record.fields, spec, capacity) for record in records]
    made = [part.pop("behaviours") for part in parts]

    def stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    return Episodes(**stacked(parts), behaviours=Behaviours(**stacked(made)))


def _rebuilt(fields: Mapping[str, Any], spec: GameSpec, capacity: int) -> dict[str, Any]:
    """The arrays of one episode by name, padded as `Episodes.empty` makes them."""
    made, seats, logged = fields["behaviours"], fields["seats"], fields["events"]
    lengths = np.asarray(seats["length"], np.int32)
    used = np.arange(capacity) < lengths[:, None]
    streams = {name: np.zeros(used.shape, dtype) for name, dtype in _STREAMS.items()}
    streams["tokens"][used] = fields["tokens"]
    row, place = (index[fields["sampled"]["position"]] for index in np.nonzero(used))
    streams["node"][row, place] = fields["sampled"]["node"]
    streams["log_probs"][row, place] = fields["sampled"]["log_prob"]
    for decision, (seat, start, end) in enumerate(zip(made["seat"], made["start"], made["end"], strict=True)):
        reply = streams["decision"][seat, start:end]
        reply[streams["node"][seat, start:end] > 0] = decision

    def padded(values: Any, dtype: Any, size: int, fill: int = 0) -> np.ndarray:
        array = np.full((size, *np.shape(values)[1:]), fill, dtype)
        array[: len(values)] = values
        return array

    count = len(made["seat"])
    legal = np.zeros((spec.max_decisions, spec.num_actions), bool)
    legal[np.repeat(np.arange(count), made["legal_count"]), made["legal"]] = True
    rows = np.stack([np.asarray(logged[name]) for name in ("kind", "actor", "target", "value")], axis=1)
    return {
        **streams,
        "lengths": lengths,
        "roles": np.asarray(seats["role"], np.int8),
        "outcome": np.asarray(seats["outcome"], np.float32),
        **{name: np.bool_(fields[name]) for name in ("terminated", "truncated", "overflowed")},
        "behaviours": {
            "legal": legal,
            **{
                name: padded(made[name], dtype, spec.max_decisions, -1 if name in ("seat", "holder") else 0)
                for name, dtype in _BEHAVIOURS.items()
            },
        },
        "event_rows": padded(rows, np.int16, spec.max_events, -1),
        "event_audience": padded(logged["visible_to"], np.uint16, spec.max_events),
        "event_count": np.int16(len(rows)),
        "event_step": padded(logged["step"], np.int16, spec.max_events),
    }


_STREAMS = {"tokens": np.int32, "log_probs": np.float32, "node": np.int16, "decision": np.int16}
_BEHAVIOURS = {
    "seat": np.int8, "role": np.int8, "phase": np.int8, "holder": np.int8, "action": np.int16, "start": np.int32,
    "end": np.int32,
}  # fmt: skip


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A record as TFDS reads it, with text for bytes and arrays for lists of numbers."""
    return dict(_plain(fields))


def _plain(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield name, dict(_plain(value))
        elif isinstance(value, bytes):
            yield name, value.decode()
        elif name in _TEXTS:
            yield name, [text.decode() for text in value]
        elif isinstance(value, list):
            yield name, np.asarray(value, np.int64)
        else:
            yield name, value


_TEXTS = ("player", "thought", "speech", "text")
