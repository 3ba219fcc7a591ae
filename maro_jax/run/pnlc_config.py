"""The configurations of `python -m maro_jax.pnlc`: collect and train."""

from __future__ import annotations

import dataclasses

from maro_jax.run.evaluate_config import SCRIPTED
from maro_jax.run.fields import ConfigError, check, setting
from maro_jax.run.inputs import check_new_folder, check_player, parse_games

COMMANDS = ("collect", "train", "evaluate")
EITHER = "either"
_GAME = "persuasion-v0:thought_tokens=12"


@dataclasses.dataclass(frozen=True)
class CollectConfig:
    """Plays games of a player that thinks, often a weaker one, and keeps them as a dataset for a critic."""

    out: str = setting("", "folder of datasets to write; it must not exist", group="collect", example="data/persuasion")
    game: str = setting(
        _GAME, "the game, as name[:key=value,...]; thought_tokens above 0, so that there are thoughts", group="collect"
    )
    player: str = setting(
        EITHER, "who plays: heuristic, random, either of them on each side by turns, a run (its newest weights), a "
        "model folder or tiny", group="collect", example="runs/persuasion",
    )  # fmt: skip
    opponent: str = setting(
        "", "who holds the other sides: heuristic or random, and the player every side by turns; empty: the player",
        group="collect", example="heuristic",
    )  # fmt: skip
    episodes: int = setting(2500, "games to play", group="collect", low=1)
    temperature: float = setting(1.0, "sampling temperature of a model", group="collect", positive=True)
    lanes: int = setting(128, "games played side by side", group="collect", low=1)
    seed: int = setting(0, "root of all chance", group="collect", low=0, high=2**31 - 1)

    def validate(self) -> None:
        """Checks everything that can be known without the game or weights.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        check(self)
        if not self.out:
            raise ConfigError(
                f"name --out, the folder to write, for example: python -m maro_jax.pnlc collect --game={_GAME} "
                "--out=data/persuasion"
            )
        if len(parse_games(self.game)) > 1:
            raise ConfigError(f"--game={self.game} are several games; a dataset holds one, for example --game={_GAME}")
        check_player("player", self.player, (*SCRIPTED, EITHER))
        if self.opponent not in ("", *SCRIPTED):
            raise ConfigError(
                f"--opponent={self.opponent} is not one of {', '.join(SCRIPTED)}; leave it out where the player holds "
                "every side"
            )
        if self.opponent and self.player == EITHER:
            raise ConfigError(
                f"--player={EITHER} seats scripted players on every side; leave out --opponent={self.opponent}, or "
                "name one player, for example --player=random"
            )
        if self.is_scripted and self.temperature != 1:
            raise ConfigError(f"--temperature={self.temperature} means nothing to --player={self.player}, who samples "
                              "no tokens; leave it out")  # fmt: skip
        check_new_folder("out", self.out)

    @property
    def is_scripted(self) -> bool:
        """Whether no model plays."""
        return self.player in (*SCRIPTED, EITHER)
