"""The configurations of `python -m maro_jax.data`: check, import and scripted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from maro_jax.run.fields import ConfigError, check, setting
from maro_jax.run.inputs import EXAMPLE_GAME, check_model, check_new_folder, parse_games

_MODEL = "'tiny' (embedded) or the Hugging Face model folder whose tokenizer makes the ids"


@dataclasses.dataclass(frozen=True)
class CheckConfig:
    """Checks datasets of episodes: files, counts, texts and ids, and every game once more by its rules."""

    folder: str = setting(
        "", "a dataset, a folder of datasets, or a run", group="check", positional=True, example="runs/my-run/episodes"
    )
    model: str = setting(
        "", "where the model whose tokenizer made the ids is now; empty: where it was then", group="check",
        example="/models/Qwen2.5-0.5B-Instruct",
    )  # fmt: skip

    def validate(self) -> None:
        """Checks that there is a folder.

        Raises:
          ConfigError: one sentence naming what is missing, and an example.
        """
        check(self)
        example = "for example: python -m maro_jax.data check runs/werewolf-tiny/episodes"
        if not self.folder:
            raise ConfigError(f"name the folder to check, {example}")
        if not Path(self.folder).expanduser().is_dir():
            raise ConfigError(f"{self.folder} is no folder, {example}")
        if self.model:
            check_model(self.model)


@dataclasses.dataclass(frozen=True)
class ImportConfig:
    """Imports games from a JSONL file, one game a line, as a dataset of episodes (docs/data.md has the format)."""

    file: str = setting("", "the JSONL file", group="import", positional=True, example="games.jsonl")
    out: str = setting("", "folder of datasets to write; it must not exist", group="import", example="data/expert")
    game: str = setting(EXAMPLE_GAME, "the game, as name[:key=value,...]", group="import", example="shopping-v0")
    model: str = setting("tiny", _MODEL, group="import", example="/models/Qwen2.5-0.5B-Instruct")
    seed: int = setting(0, "root of the chance in the file's deals", group="import", low=0, high=2**31 - 1)

    def validate(self) -> None:
        """Checks everything that can be known without the game.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        check(self)
        example = "for example: python -m maro_jax.data import games.jsonl --game=shopping-v0 --out=data/expert"
        if not self.file or not self.out:
            missing = "--out, the folder to write" if self.file else "the file to import"
            raise ConfigError(f"name {missing}, {example}")
        if not Path(self.file).expanduser().is_file():
            raise ConfigError(f"{self.file} is no file, {example}")
        _check_one_game(self.game)
        check_model(self.model)
        check_new_folder("out", self.out)


@dataclasses.dataclass(frozen=True)
class ScriptedConfig:
    """Plays games between scripted players and keeps them as a dataset of episodes."""

    out: str = setting("", "folder of datasets to write; it must not exist", group="scripted", example="data/scripted")
    game: str = setting(EXAMPLE_GAME, "the game, as name[:key=value,...]", group="scripted", example="shopping-v0")
    episodes: int = setting(1024, "games to play", group="scripted", low=1)
    players: str = setting(
        "heuristic", "who plays: heuristic, random, or either of them on each side, all ways in turn",
        group="scripted", choices=("heuristic", "random", "either"),
    )  # fmt: skip
    seed: int = setting(0, "root of all chance", group="scripted", low=0, high=2**31 - 1)
    model: str = setting("tiny", _MODEL, group="scripted", example="/models/Qwen2.5-0.5B-Instruct")

    def validate(self) -> None:
        """Checks everything that can be known without the game.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        check(self)
        if not self.out:
            raise ConfigError(
                "name --out, the folder to write, for example: python -m maro_jax.data scripted --game=shopping-v0 "
                "--out=data/scripted"
            )
        _check_one_game(self.game)
        check_model(self.model)
        check_new_folder("out", self.out)


def _check_one_game(game: str) -> None:
    if len(parse_games(game)) > 1:
        raise ConfigError(f"--game={game} are several games; a dataset holds one, for example --game=shopping-v0")
