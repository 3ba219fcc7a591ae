"""Datasets of episodes: `python -m maro_jax.data check | import | scripted`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maro_jax.run import exit_codes
from maro_jax.run.console import table
from maro_jax.run.data_config import CheckConfig, ImportConfig, ScriptedConfig
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import Command, run_commands

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from maro_jax.selfplay.table import Table

HELP = """Usage: python -m maro_jax.data COMMAND [...]

Datasets of episodes on disk; docs/data.md explains what they hold.

  check FOLDER      checks a dataset, a folder of datasets, or a run's
  import FILE       makes a dataset of games written down in JSONL
  scripted          makes a dataset of games between scripted players

python -m maro_jax.data COMMAND --help tells more."""


def _check(config: CheckConfig) -> int:
    from maro_jax.data.check import HEADERS, check_dataset
    from maro_jax.data.reader import find_datasets
    from maro_jax.data.writer import unfinished

    rows: list[tuple[Any, ...]] = []
    try:
        for folder in find_datasets(config.folder):
            for part in unfinished(folder):
                print(f"note: {part} is unfinished and left out: it is being written, or its writer was stopped")
            rows += [checked.row() for checked in check_dataset(folder, config.model)]
    finally:
        if rows:
            print(table(HEADERS, rows))
    print("all is as it was written" if rows else "there are no episodes so far")
    return exit_codes.DONE


def _import(config: ImportConfig) -> int:
    from maro_jax.data.jsonl import imported_examples

    laid = _laid(config.game, config.model)
    capacity = laid.lexicon.max_stream
    examples = imported_examples(Path(config.file).expanduser(), laid, capacity, config.seed)
    return _write(config.out, laid, capacity, config.model, "import", "imported", examples)


def _scripted(config: ScriptedConfig) -> int:
    from maro_jax.data.scripted import scripted_examples

    laid = _laid(config.game, config.model)
    capacity = laid.lexicon.max_stream
    examples = scripted_examples(laid, capacity, config.players, config.episodes, config.seed)
    return _write(config.out, laid, capacity, config.model, "scripted", "scripted", examples)


def _laid(text: str, model: str) -> Table:
    """The game laid out for a model's tokenizer."""
    from games.core import GameError
    from maro_jax.data.retell import text_table
    from maro_jax.policy.config import ModelError
    from maro_jax.run.inputs import parse_games

    [(name, parameters)] = parse_games(text)
    try:
        return text_table(name, {key: str(value) for key, value in parameters.items()}, model)
    except (GameError, ModelError) as error:
        raise ConfigError(str(error)) from None


def _write(
    out: str, laid: Table, capacity: int, model: str, source: str, split: str, examples: Iterable[Mapping[str, Any]]
) -> int:
    """Writes a whole dataset and tells what it holds."""
    from maro_jax.data.schema import Header
    from maro_jax.data.writer import write_dataset

    header = Header.of(laid, capacity=capacity, model=model, source=source)
    folder, shards = write_dataset(out, laid.spec, header, split, examples)
    behaviours = sum(shard.behaviours for shard in shards)
    print(f"{sum(shard.episodes for shard in shards)} episodes, {behaviours} behaviours, split {split}")
    print(folder)
    return exit_codes.DONE


def main_cli(argv: Sequence[str] | None = None) -> None:
    """Console entry point."""
    commands: dict[str, Command] = {
        "check": (CheckConfig, _check),
        "import": (ImportConfig, _import),
        "scripted": (ScriptedConfig, _scripted),
    }
    run_commands(HELP, commands, argv)


if __name__ == "__main__":
    main_cli()
