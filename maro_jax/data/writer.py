"""Datasets on disk: shards that are whole or not listed, and the files by which TFDS knows them.

DIR/werewolf_v0/1.0.0/
  features.json, *.labels.txt   the features of a record, as TFDS stores them
  dataset_info.json             splits and the number of records in each shard, as TFDS stores them
  episodes.json                 the header; of each shard its size, digest, behaviours and iteration
  werewolf_v0-SPLIT.array_record-00000, ...

A shard is written under a name that begins with a dot, made durable, renamed, and only then listed: first in
episodes.json, then in dataset_info.json. Whatever is listed is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from games.core import GameSpec
from maro_jax.data.encode import serialise
from maro_jax.data.schema import VERSION, Header, dataset_name, features
from maro_jax.run.directory import write_json
from maro_jax.run.fields import ConfigError
from maro_jax.run.storage import saving_to

SHARD_EPISODES = 1024  # at most; what an iteration keeps beyond that goes to further shards
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"  # a shard's name does not change when others follow
OPTIONS = "group_size:1,zstd:3"  # every record is compressed by itself, so that any can be read alone


@dataclasses.dataclass(frozen=True)
class Shard:
    """A complete shard.

    Attributes:
      split: train, scripted and so on.
      file: its name.
      iteration: of the run that its episodes were played in; 0 outside a run.
      episodes, behaviours: how many it holds.
      bytes: size of the file.
      record_bytes: of its records before compression.
      sha256: digest of the file, in hexadecimal.
    """

    split: str
    file: str
    iteration: int
    episodes: int
    behaviours: int
    bytes: int
    record_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `episodes.json` holds.

    Attributes:
      schema: version of the schema it was written with.
      header: what its episodes share.
      shards: all complete ones, in the order they were written.
    """

    schema: str
    header: Header
    shards: tuple[Shard, ...]


class EpisodeWriter:
    """Appends shards to a dataset.

    Attributes:
      folder: of the dataset.
      shards: the complete ones, in the order they were written.
    """

    def __init__(
        self, root: str | Path, spec: GameSpec, header: Header, *, label: str = "", shard_episodes: int = SHARD_EPISODES
    ):
        """Creates a dataset, or opens it to append.

        Args:
          root: folder of datasets, as TFDS takes it for `data_dir`.
          spec: the game's static description.
          header: what its episodes share.
          label: of the game; default: its name.
          shard_episodes: most episodes of a shard.

        Raises:
          ConfigError: the folder holds a dataset of something else, or a damaged one.
        """
        self.name = dataset_name(label or spec.name)
        self.folder = Path(root).expanduser().resolve() / self.name / VERSION
        self.shard_episodes = shard_episodes
        self._header, self._features = header, features(spec)
        self.shards: list[Shard] = []
        if (self.folder / "episodes.json").exists():
            found = read_manifest(self.folder)
            _refuse_other_header(self.folder, found.header, header)
            self.shards = list(found.shards)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._features.save_config(str(self.folder))
        self._list()
        self._sweep()

    def append(self, split: str, examples: Iterable[Mapping[str, Any]], iteration: int = 0) -> int:
        """Writes episodes as further shards; returns how many they were.

        Args:
          split: which they belong to.
          examples: records as `Encoder` makes them; they are drawn one by one, so that any number fits.
          iteration: in which they were played, for `rewind`.
        """
        total, examples = 0, iter(examples)
        while part := self._write(split, examples, iteration):
            self.shards.append(part)
            self._list()
            total += part.episodes
        return total

    def rewind(self, iteration: int) -> None:
        """Drops what was played after an iteration, so that a resumed run may play it again."""
        kept = [shard for shard in self.shards if shard.iteration <= iteration]
        if len(kept) < len(self.shards):
            self.shards = kept
            self._write_info()  # first: what TFDS lists must be there
            self._list()
            self._sweep()

    def _write(self, split: str, examples: Iterator[Mapping[str, Any]], iteration: int) -> Shard | None:
        """Writes one shard, unless no episode is left."""
        first = next(examples, None)
        if first is None:
            return None
        number = sum(shard.split == split for shard in self.shards)
        name = f"{self.name}-{split}.array_record-{number:05d}"
        part = self.folder / f".{name}.part"
        episodes = behaviours = record_bytes = 0
        with saving_to(self.folder, RuntimeError):
            writer = ArrayRecordWriter(str(part), OPTIONS)
            for example in itertools.chain([first], itertools.islice(examples, self.shard_episodes - 1)):
                record = serialise(example)
                writer.write(record)
                episodes += 1
                behaviours += len(example["behaviours"]["seat"])
                record_bytes += len(record)
            writer.close()
        digest = file_digest(part)
        _make_durable(part)
        part.replace(self.folder / name)
        _make_durable(self.folder)
        size = (self.folder / name).stat().st_size
        return Shard(split, name, iteration, episodes, behaviours, size, record_bytes, digest)

    def _list(self) -> None:
        """Lists the shards in both files."""
        document = {
            "schema": VERSION,
            "header": dataclasses.asdict(self._header),
            "shards": [dataclasses.asdict(shard) for shard in self.shards],
        }
        if _changed(self.folder / "episodes.json", document):
            write_json(self.folder / "episodes.json", document)
        self._write_info()

    def _write_info(self) -> None:
        identity = tfds.core.dataset_info.DatasetIdentity(
            name=self.name, version=tfds.core.Version(VERSION), data_dir=str(self.folder), module_name=""
        )
        info = tfds.core.DatasetInfo(
            builder=identity,
            description=f"Episodes of {self._header.game}, one a record; the schema is explained in docs/data.md.",
            features=self._features,
            disable_shuffling=True,
        )
        info.set_file_format("array_record")
        splits = dict.fromkeys(shard.split for shard in self.shards)
        info.set_splits(tfds.core.splits.SplitDict([self._split(split) for split in splits]))
        document = json.loads(info.as_json)
        if _changed(self.folder / "dataset_info.json", document):
            write_json(self.folder / "dataset_info.json", document)

    def _split(self, name: str) -> tfds.core.SplitInfo:
        shards = [shard for shard in self.shards if shard.split == name]
        template = tfds.core.naming.ShardedFileTemplate(
            data_dir=self.folder, template=TEMPLATE, dataset_name=self.name, split=name, filetype_suffix="array_record"
        )
        return tfds.core.SplitInfo(
            name=name,
            shard_lengths=[shard.episodes for shard in shards],
            num_bytes=sum(shard.record_bytes for shard in shards),
            filename_template=template,
        )

    def _sweep(self) -> None:
        """Removes shards that are not listed, whole or not: those of an interrupted write, and of what was rewound."""
        listed = {shard.file for shard in self.shards}
        for file in self.folder.glob(f"*{self.name}-*.array_record-*"):
            if file.name not in listed:
                file.unlink()


def write_dataset(
    out: str | Path, spec: GameSpec, header: Header, split: str, examples: Iterable[Mapping[str, Any]]
) -> tuple[Path, list[Shard]]:
    """Writes a whole dataset beside its place and moves it there, so that none is left where something is wrong.

    Args:
      out: folder of datasets, which must not exist.
      spec: the game's static description.
      header: what its episodes share.
      split: that all episodes belong to.
      examples: of `Encoder.examples`.

    Returns:
      The dataset's folder and its shards.
    """
    place = Path(out).expanduser().resolve()
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        writer = EpisodeWriter(part, spec, header)
        writer.append(split, examples)
        part.rename(place)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return place / writer.folder.relative_to(part), writer.shards


@contextlib.contextmanager
def locked(root: str | Path, name: str) -> Iterator[None]:
    """Keeps other processes from a dataset while the block lasts, and waits while another keeps it.

    A writer reads which shards there are when it is opened, removes all others and lists its own: whoever shares a
    dataset opens and closes it within this. The system drops the lock when the process ends in any way.

    Args:
      root: folder of datasets.
      name: of the dataset's game, or its label.

    Raises:
      ConfigError: the folder cannot be written.
    """
    folder = Path(root).expanduser().resolve() / dataset_name(name) / VERSION
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}); name another folder") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> Manifest:
    """Reads `episodes.json`.

    Raises:
      ConfigError: it is missing, damaged, or of a schema that this version does not know.
    """
    path = folder / "episodes.json"
    try:
        document = json.loads(path.read_text())
        schema = document["schema"]
        if schema.split(".")[0] != VERSION.split(".")[0]:
            raise ConfigError(
                f"{path} is of schema {schema} and this version reads {VERSION}; use the maro-jax that wrote it"
            )
        shards = tuple(Shard(**shard) for shard in document["shards"])
        return Manifest(schema, Header(**document["header"]), shards)
    except FileNotFoundError:
        raise ConfigError(f"{folder} is no dataset of episodes: it has no episodes.json") from None
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is damaged; restore it from a copy, or write the dataset anew") from None


def unfinished(folder: Path) -> list[Path]:
    """Shards that are being written, or whose writer was stopped."""
    return sorted(folder.glob(".*.part"))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_other_header(folder: Path, found: Header, wanted: Header) -> None:
    fields = [field.name for field in dataclasses.fields(Header)]
    differing = [name for name in fields if getattr(found, name) != getattr(wanted, name)]
    if differing:
        name = differing[0]
        raise ConfigError(
            f"{folder} holds episodes of another kind: {name} is {getattr(found, name)!r} there and "
            f"{getattr(wanted, name)!r} here; name another folder"
        )


def _changed(path: Path, document: Any) -> bool:
    """Whether a file does not hold a document yet."""
    try:
        return bool(json.loads(path.read_text()) != document)
    except (FileNotFoundError, ValueError):
        return True


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
