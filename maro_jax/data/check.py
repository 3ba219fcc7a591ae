"""The checker: files against their digests, records against themselves, games against their rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from games.core import GameError
from maro_jax.data.encode import NO_PURPOSE, Encoder
from maro_jax.data.reader import complete, open_builder, splits
from maro_jax.data.record import Record, plain, to_episodes
from maro_jax.data.retell import Replies, retell, text_table
from maro_jax.data.schema import features
from maro_jax.data.writer import Manifest, Shard, file_digest, read_manifest
from maro_jax.policy.config import ModelError
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import RolloutPlan
from maro_jax.selfplay.table import Table

BATCH = 64  # episodes that are told again together
HEADERS = ("dataset", "split", "shards", "episodes", "behaviours", "bytes each", "replayed")


@dataclasses.dataclass(frozen=True)
class Checked:
    """What was found right in a split.

    Attributes:
      name: of the dataset.
      split: its name.
      shards, episodes, behaviours, bytes: how much there is.
      replayed: episodes that were played again by the game's rules.
    """

    name: str
    split: str
    shards: int
    episodes: int
    behaviours: int
    bytes: int
    replayed: int

    def row(self) -> tuple[Any, ...]:
        """The cells of a table under `HEADERS`."""
        each = round(self.bytes / max(1, self.behaviours), 1)
        return self.name, self.split, self.shards, self.episodes, self.behaviours, each, self.replayed


def check_dataset(folder: Path, model: str = "") -> Iterator[Checked]:
    """Checks a dataset, a split at a time.

    Args:
      folder: of the dataset.
      model: whose tokenizer made the ids; default: as the header names it.

    Raises:
      ConfigError: the first thing that is wrong, in one sentence.
    """
    manifest = read_manifest(folder)
    table = _table(folder, manifest, model)
    builder = open_builder(folder)
    _check_features(folder, builder.info.features, table)
    checker = _Checker(folder, manifest, table)
    for split in splits(manifest):
        shards, note = complete(folder, manifest, split)
        if note:
            raise ConfigError(note)
        listed = builder.info.splits[split].shard_lengths if split in builder.info.splits else []
        if list(listed) != [shard.episodes for shard in shards]:
            raise ConfigError(
                f"{folder} has {sum(shard.episodes for shard in shards)} episodes of {split} by episodes.json and "
                f"{sum(listed)} by dataset_info.json; resume the run that writes it, or copy the folder anew"
            )
        source, first, replayed = builder.as_data_source(split=split), 0, 0
        for shard in shards:
            replayed += checker.check_shard(shard, source, first)
            first += shard.episodes
        yield Checked(
            f"{builder.name}", split, len(shards), first, sum(shard.behaviours for shard in shards),
            sum(shard.bytes for shard in shards), replayed,
        )  # fmt: skip


def _table(folder: Path, manifest: Manifest, model: str) -> Table:
    """The game laid out for the tokenizer that made the ids."""
    header, named = manifest.header, model or manifest.header.model
    try:
        table = text_table(header.game, header.parameters, named)
    except (GameError, ModelError) as error:
        raise ConfigError(f"{folder} cannot be checked: {error}") from None
    if table.tokenizer.digest() != header.tokenizer:
        raise ConfigError(
            f"{folder} was written with another tokenizer than that of {named}: name the model's folder, for example "
            "--model=/models/Qwen2.5-0.5B-Instruct"
        )
    return table


def _check_features(folder: Path, found: Any, table: Table) -> None:
    """The features as TFDS stores them must be those of the schema."""
    if found.to_json() != features(table.spec).to_json():
        raise ConfigError(f"{folder / 'features.json'} does not describe the records of this schema; restore the file")
    for name, names in _labels(table).items():
        path = folder / f"{name.replace('/', '-')}.labels.txt"
        if not path.is_file() or path.read_text().splitlines() != names:
            raise ConfigError(f"{path} does not hold the words of {table.spec.name}; restore the file")


def _labels(table: Table) -> dict[str, list[str]]:
    spec = table.spec
    actions = [label.strip() for label in spec.action_labels]
    return {
        "seats/role": [role.name for role in spec.roles],
        "behaviours/phase": [phase.name for phase in spec.phases],
        "behaviours/action": actions,
        "behaviours/legal": actions,
        "events/kind": [kind.name for kind in spec.event_kinds],
    }


class _Checker:
    """Checks the shards of one dataset."""

    def __init__(self, folder: Path, manifest: Manifest, table: Table):
        self._folder, self._header, self._table = folder, manifest.header, table
        self._encoder = Encoder(table)
        self._names = {name: tuple(names) for name, names in _labels(table).items()}
        self._names["behaviours/role"] = self._names["seats/role"]

    def check_shard(self, shard: Shard, source: Sequence[Any], first: int) -> int:
        """Checks one shard, whose episodes begin at index `first` of the source; returns how many were replayed."""
        path = self._folder / shard.file
        if file_digest(path) != shard.sha256:
            raise ConfigError(f"{path} does not hold the bytes that were written: its SHA-256 differs")
        behaviours = 0
        for start in range(0, shard.episodes, BATCH):
            count = min(BATCH, shard.episodes - start)
            batch = [
                Record(self._header, self._names, plain(source[first + start + number])) for number in range(count)
            ]
            for number, record in enumerate(batch):
                where = f"{path}, episode {start + number}"
                for fault in self._faults(record):
                    raise ConfigError(f"{where}: {fault}")
                behaviours += len(record.fields["behaviours"]["seat"])
            self._replay(batch, path, start)
        if behaviours != shard.behaviours:
            raise ConfigError(f"{path} holds {behaviours} behaviours and episodes.json counts {shard.behaviours}")
        return shard.episodes

    # ------------------------------------------------------------------ one record

    def _faults(self, record: Record) -> Iterator[str]:
        """What is wrong with a record by itself; later checks rely on the earlier ones."""
        spec, fields = self._table.spec, record.fields
        seats, made, sampled, events = (fields[name] for name in ("seats", "behaviours", "sampled", "events"))
        if fields["game"] != spec.name:
            yield f"it is of {fields['game']}, not of {spec.name}"
        for name, rows in (("seats", spec.num_seats), ("behaviours", None), ("sampled", None), ("events", None)):
            lengths = {len(column) for key, column in fields[name].items() if key != "legal"}
            if len(lengths) > 1 or (rows is not None and lengths != {rows}):
                yield f"the columns of {name} have different lengths: {', '.join(map(str, sorted(lengths)))}"
        if seats["length"].sum() != len(fields["tokens"]) or made["legal_count"].sum() != len(made["legal"]):
            yield "the counts of stream tokens or of legal actions do not add up"
        yield from self._out_of_range(record)
        if (np.abs(seats["outcome"]) > 1).any() or (sampled["log_prob"] > 1e-6).any():
            yield "an outcome lies outside [-1, 1], or a log-probability above 0"
        bounds = ("start", "thought_start", "thought_end", "speech_start", "speech_end", "action_start", "end")
        spans = np.stack([made[name] for name in bounds])
        if (np.diff(spans, axis=0) < 0).any() or (spans[-1] > seats["length"][made["seat"]]).any():
            yield "the sections of a reply lie in no order, or beyond their stream"
        if (seats["holder"][made["seat"]] != made["holder"]).any() or (
            seats["role"][made["seat"]] != made["role"]
        ).any():
            yield "the holder or the role of a behaviour is not that of its seat"
        yield from self._illegal(record)
        yield from self._other_texts(record)
        if (np.diff(events["step"]) < 0).any():
            yield "the events are out of order"

    def _out_of_range(self, record: Record) -> Iterator[str]:
        """Numbers that stand for nothing."""
        spec, fields = self._table.spec, record.fields
        for name, names in self._names.items():
            group, column = name.split("/")
            numbers = fields[group][column]
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(names):
                yield f"a number in {name} stands for nothing"
        for numbers, size, what in (
            (fields["behaviours"]["seat"], spec.num_seats, "seat"),
            (fields["tokens"], self._table.tokenizer.vocab_size, "token"),
            (fields["sampled"]["position"], len(fields["tokens"]), "position of a sampled token"),
        ):
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < size:
                yield f"a {what} does not exist"

    def _illegal(self, record: Record) -> Iterator[str]:
        for number, made in enumerate(record.decisions):
            if made.action and made.action not in made.legal:
                yield (
                    f"the action of Player {made.seat + 1} at decision {number}, {made.action!r}, is not legal there: "
                    f"{', '.join(made.legal)}"
                )

    def _other_texts(self, record: Record) -> Iterator[str]:
        """Texts that their ids do not give."""
        made, label_tokens = record.fields["behaviours"], self._table.grammar.label_tokens
        speeches = []
        for number, decision in enumerate(record.decisions):
            stream = record.seats[decision.seat].tokens
            for name, text in (("thought", decision.thought), ("speech", decision.speech)):
                raw = self._encoder.text(stream[made[f"{name}_start"][number] : made[f"{name}_end"][number]])
                speeches += [raw] if name == "speech" else []
                if raw.strip() != text:
                    yield f"the {name} at decision {number} reads {text!r} and its ids {raw.strip()!r}"
            label = label_tokens[made["action"][number]]
            ids = stream[made["action_start"][number] : made["end"][number]]
            if decision.action and ids.tolist() != label[label >= 0].tolist():
                yield f"the ids of the action at decision {number} are not those of {decision.action!r}"
        logged = record.fields["events"]
        rows = np.stack([logged[name] for name in ("kind", "actor", "target", "value")], axis=1).tolist()
        for number, row in enumerate(rows):
            text = self._encoder.event(row, speeches)
            if text != logged["text"][number]:
                yield f"event {number} reads {logged['text'][number]!r} and its numbers {text!r}"

    # ------------------------------------------------------------------ the rules

    def _replay(self, batch: Sequence[Record], path: Path, start: int) -> None:
        """Plays the replies of some episodes again and compares all that the rules and the renderer give."""
        whole = [*batch, *[batch[-1]] * (BATCH - len(batch))]  # one program for all batches
        recorded = to_episodes(whole, self._table.spec)
        replies = Replies.of(self._table, recorded)
        origins = [(record.fields["seed"], record.fields["purpose"]) for record in whole]
        plan = RolloutPlan(
            episode=np.array([record.fields["episode"] for record in whole], np.int32),
            deal=np.array([record.fields["deal"] for record in whole], np.int32),
            holders=np.zeros((BATCH, len(self._table.spec.sides)), np.int8),
        )
        for seed, purpose in dict.fromkeys(origins):
            again = retell(self._table, self._header.capacity, chance_key(seed, purpose), plan, replies)
            for number, origin in enumerate(origins[: len(batch)]):
                if origin == (seed, purpose) and (fault := _difference(recorded, again, number)):
                    raise ConfigError(f"{path}, episode {start + number}: {fault}")


def chance_key(seed: int, purpose: int) -> jax.Array:
    """The key of all chance of an episode, from which its deal and its steps are drawn."""
    key = jax.random.key(seed)
    return key if purpose == NO_PURPOSE else jax.random.fold_in(key, purpose)


def _difference(recorded: Any, again: Any, index: int) -> str:
    """The first thing of an episode that the rules give otherwise, in words; empty where there is none."""
    for part, names in (
        ("", ("roles",)),
        ("behaviours", ("seat", "role", "phase", "legal")),
        ("", ("terminated", "truncated", "overflowed", "outcome")),
        ("", ("event_count", "event_rows", "event_audience", "event_step")),
        ("", ("tokens", "node", "decision", "lengths")),
        ("behaviours", ("action", "start", "end")),
    ):
        for name in names:
            here, there = (
                getattr(getattr(episodes, part) if part else episodes, name)[index] for episodes in (recorded, again)
            )
            if not np.array_equal(here, there):
                shown = f": {_brief(here)} is recorded and the game gives {_brief(there)}" if here.ndim < 2 else ""
                return f"{f'{part} {name}'.strip()} is not what the rules of the game make of its actions{shown}"
    return ""


def _brief(values: Any) -> str:
    text = np.array2string(np.asarray(values), threshold=12, separator=" ")
    return " ".join(text.split())
