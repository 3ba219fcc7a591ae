"""The part of a training configuration that is about the warm start: what a policy clones before it plays itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Self

from maro_jax.run.directory import recorded_config
from maro_jax.run.fields import ConfigError, check_choice, setting
from maro_jax.run.inputs import HOLDERS, parse_games, split_games


@dataclasses.dataclass(frozen=True)
class WarmStartConfig:
    """What is cloned, and how."""

    warm_start_games: int = setting(
        10240, "scripted games to clone first, of each game; 0: none", group="warm start", low=0
    )
    warm_start_from: str = setting(
        "", "a run of the same model that cloned these games (and others): begin with its warm start, clone nothing",
        group="warm start", example="runs/werewolf-tiny",
    )  # fmt: skip
    warm_start_data: str = setting(
        "", "datasets (docs/data.md) of the game to clone over and over in place of scripted games: a,b",
        group="warm start", example="data/guided",
    )  # fmt: skip
    warm_start_holders: str = setting(
        "all", "whose behaviours in them: all, or some of learner, opponent, heuristic, random, person, api",
        group="warm start", example="api,person",
    )  # fmt: skip
    warm_start_batch: int = setting(12, "games an optimizer step", group="warm start", low=1)
    warm_start_learning_rate: float = setting(4e-3, "of the optimizer, at first", group="warm start", positive=True)

    @property
    def cloned_folders(self) -> tuple[str, ...]:
        """The datasets that the warm start clones."""
        return tuple(name.strip() for name in self.warm_start_data.split(",")) if self.warm_start_data else ()

    @property
    def cloned_holders(self) -> tuple[str, ...]:
        """Whose behaviours in them."""
        return HOLDERS if self.warm_start_holders == "all" else tuple(
            name.strip() for name in self.warm_start_holders.split(",")
        )  # fmt: skip

    def with_warm_start_of(self, run: str) -> Self:
        """The same configuration, but for its warm start, which is that of another run."""
        return dataclasses.replace(self, warm_start_from=run, warm_start_data="", warm_start_holders="all")

    def check_warm_start(self, games: str, model: str) -> None:
        """Checks where the warm start comes from.

        Args:
          games, model: of the run.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        if self.warm_start_from:
            self._check_source(games, model)
        if self.warm_start_data:
            self._check_cloned(games)

    def _check_source(self, games: str, model: str) -> None:
        """The run that a warm start is taken from must be one, of the same model, and have cloned all of the games."""
        source = recorded_config(Path(self.warm_start_from).expanduser())
        if source is None:
            raise ConfigError(
                f"--warm_start_from={self.warm_start_from} is no folder of a run, for example "
                "--warm_start_from=runs/werewolf-tiny"
            )
        if source.get("model") != model:
            raise ConfigError(
                f"--warm_start_from={self.warm_start_from} was trained with --model={source.get('model')}, not "
                f"--model={model}; set the same, or leave --warm_start_from out"
            )
        known = parse_games(source.get("games", ""))
        for game, text in zip(parse_games(games), split_games(games), strict=True):
            if game not in known:
                raise ConfigError(
                    f"--warm_start_from={self.warm_start_from} cloned --games={source['games']}, not {text}; name "
                    "games of these, or leave --warm_start_from out"
                )

    def _check_cloned(self, games: str) -> None:
        """Datasets to clone: of one game, and instead of another warm start."""
        if self.warm_start_from or not self.warm_start_games:
            other = f"--warm_start_from={self.warm_start_from}" if self.warm_start_from else "--warm_start_games=0"
            raise ConfigError(
                f"--warm_start_data={self.warm_start_data} is cloned in the warm start, and {other} leaves that out; "
                "name one of the two"
            )
        if len(parse_games(games)) > 1:
            raise ConfigError(
                f"--warm_start_data={self.warm_start_data} holds games of one kind, and --games={games} are several"
            )
        for folder in self.cloned_folders:
            if not folder or not Path(folder).expanduser().is_dir():
                raise ConfigError(
                    f"--warm_start_data={folder} is no folder; name datasets, for example --warm_start_data=data/guided"
                )
        for name in self.cloned_holders:
            check_choice("warm_start_holders", name, HOLDERS)
