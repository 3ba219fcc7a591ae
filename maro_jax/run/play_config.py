"""The configuration of `python -m maro_jax.play`."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

from maro_jax.run.directory import recorded_config
from maro_jax.run.evaluate_config import SCRIPTED
from maro_jax.run.fields import ConfigError, check, setting
from maro_jax.run.inputs import EXAMPLE_GAME, check_output, check_player, is_run, parse_games, split_games


@dataclasses.dataclass(frozen=True)
class PlayConfig:
    """A game in the terminal: you hold one seat, a policy or scripted players hold the others."""

    game: str = setting(
        "", "the game, as name[:key=value,...]; empty: that of the run in --others, or Werewolf", group="game",
        example=EXAMPLE_GAME,
    )  # fmt: skip
    seat: int = setting(0, "your seat, from 1; 0: drawn from the seed", group="game", low=0)
    others: str = setting(
        "heuristic", "who holds the other seats: heuristic, random, a run (its newest weights) or a model folder",
        group="game", example="runs/werewolf-tiny",
    )  # fmt: skip
    temperature: float = setting(1.0, "sampling temperature of a policy", group="game", positive=True)
    seed: int = setting(
        -1, "of the deal and of all chance; -1: a new one each time", group="game", low=-1, high=2**31 - 1
    )
    output: str = setting(
        "", "file for the replay of the game; empty: game.html, or game-2.html and so on", group="game",
        example="mine.html",
    )  # fmt: skip
    record: str = setting(
        "", "folder of datasets that the game is added to as an episode (docs/data.md); empty: none", group="game",
        example="data/mine",
    )  # fmt: skip

    def validate(self) -> None:
        """Checks everything that can be known without the game or weights.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        check(self)
        check_player("others", self.others, SCRIPTED)
        chosen = self.chosen_game
        if len(parse_games(chosen)) > 1:
            raise ConfigError(
                f"--game={chosen} are several games and one is played; name it, for example "
                f"--game={split_games(chosen)[0]}"
            )
        check_output("output", self.output or "game.html")

    @property
    def chosen_game(self) -> str:
        """The game as text."""
        recorded = recorded_config(Path(self.others).expanduser()) if is_run(self.others) else None
        return self.game or (recorded or {}).get("games", EXAMPLE_GAME)

    @property
    def replay(self) -> Path:
        """The file to write: as told, or the first free name."""
        if self.output:
            return Path(self.output).expanduser()
        names = itertools.chain(["game.html"], (f"game-{number}.html" for number in itertools.count(2)))
        return next(Path(name) for name in names if not Path(name).exists())
