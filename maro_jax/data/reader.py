"""Reading a dataset: typed records over `tfds.data_source`, up to the last complete shard."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from maro_jax.data.record import Record, plain
from maro_jax.data.schema import VERSION
from maro_jax.data.writer import Manifest, Shard, read_manifest, unfinished
from maro_jax.run.fields import ConfigError


class EpisodeSource(Sequence[Record]):
    """The episodes of a split, to be indexed at random.

    Attributes:
      manifest: of the dataset.
      notes: what is missing of the split, a sentence each; empty where it is whole.
    """

    def __init__(self, folder: str | Path, split: str = "all"):
        """Opens a dataset.

        Args:
          folder: of one dataset, or a folder that holds one only.
          split: one of `splits`, or `all`.

        Raises:
          ConfigError: there is no dataset, none of this schema, no such split, or nothing of it can be read.
        """
        self.folder = find_dataset(folder)
        self.manifest: Manifest = read_manifest(self.folder)
        known = splits(self.manifest)
        if split != "all" and split not in known:
            raise ConfigError(f"{self.folder} has no split {split}; it has: {', '.join(known) or 'none so far'}")
        builder = open_builder(self.folder)
        self.notes: list[str] = []
        parts = []
        for name in known if split == "all" else [split]:
            whole, note = complete(self.folder, self.manifest, name)
            listed = builder.info.splits[name].shard_lengths if name in builder.info.splits else []
            whole = whole[: len(listed)]
            self.notes += [note] if note else []
            if whole:
                parts.append(f"{name}[:{sum(shard.episodes for shard in whole)}]")
        self.notes += [
            f"{part} is unfinished and left out: it is being written, or its writer was stopped"
            for part in unfinished(self.folder)
        ]
        for note in self.notes:
            warnings.warn(note, stacklevel=2)
        if not parts:
            raise ConfigError(f"{self.folder} holds no complete shard of {split} so far")
        self._source = builder.as_data_source(split="+".join(parts))
        self._names = {
            name: tuple(builder.info.features[name.split("/")[0]][name.split("/")[1]].feature.names) for name in LABELS
        }

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """The record of this number, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} episodes, no number {index}")
        return Record(self.manifest.header, self._names, plain(self._source[number]))

    def __iter__(self) -> Iterator[Record]:
        return (self[number] for number in range(len(self)))


LABELS = ("seats/role", "behaviours/role", "behaviours/phase", "behaviours/action", "events/kind")


def splits(manifest: Manifest) -> list[str]:
    """The splits of a dataset, in the order they were begun."""
    return list(dict.fromkeys(shard.split for shard in manifest.shards))


def find_datasets(root: str | Path) -> list[Path]:
    """The folders of all datasets in a folder, which may be that of a dataset, of several, or of a run.

    Raises:
      ConfigError: there is none.
    """
    folder = Path(root).expanduser().resolve()
    patterns = ("", f"*/{VERSION.split('.')[0]}.*", f"episodes/*/{VERSION.split('.')[0]}.*")
    found = [
        path for pattern in patterns for path in ([folder] if not pattern else sorted(folder.glob(pattern)))
        if (path / "episodes.json").is_file()
    ]  # fmt: skip
    if not found:
        raise ConfigError(f"{root} holds no dataset of episodes; name a folder such as runs/my-run/episodes")
    return found


def find_dataset(root: str | Path) -> Path:
    """The only dataset in a folder.

    Raises:
      ConfigError: there is none, or several.
    """
    found = find_datasets(root)
    if len(found) > 1:
        raise ConfigError(f"{root} holds {len(found)} datasets; name one of them, for example {found[0]}")
    return found[0]


def open_builder(folder: Path) -> tfds.core.DatasetBuilder:
    """TFDS's own view of a dataset.

    Raises:
      ConfigError: the files that TFDS reads are missing or damaged.
    """
    try:
        return tfds.builder_from_directory(str(folder))
    except Exception as error:  # whatever TFDS makes of a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"{folder} cannot be opened by TFDS: {reason}") from None


def complete(folder: Path, manifest: Manifest, split: str) -> tuple[list[Shard], str]:
    """The shards of a split before the first one that is missing or has another size, and a sentence about it."""
    shards = [shard for shard in manifest.shards if shard.split == split]
    for index, shard in enumerate(shards):
        path = folder / shard.file
        size = path.stat().st_size if path.is_file() else 0
        if size != shard.bytes:
            kept = sum(before.episodes for before in shards[:index])
            total = sum(each.episodes for each in shards)
            state = f"has {size} of {shard.bytes} bytes" if path.is_file() else "is missing"
            return shards[:index], (
                f"{path} {state}: {split} is read up to the last complete shard before it, {kept} of {total} episodes"
            )
    return shards, ""
