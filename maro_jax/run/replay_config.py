"""The configuration of `python -m maro_jax.replay`."""

from __future__ import annotations

import dataclasses

from maro_jax.run.fields import ConfigError, check, setting
from maro_jax.run.inputs import check_output, is_run


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """A run's recorded games and learning curves as one HTML file."""

    run: str = setting("", "folder of the run", group="replay", positional=True, example="runs/werewolf-tiny")
    output: str = setting(
        "", "file to write; empty: replay.html in the run's folder", group="replay",
        example="replay.html",
    )  # fmt: skip
    max_games: int = setting(500, "newest games shown; 0: all", group="replay", low=0)

    def validate(self) -> None:
        """Checks that the run exists.

        Raises:
          ConfigError: one sentence naming what is missing, and an example.
        """
        check(self)
        if not self.run:
            raise ConfigError("name the run to show, for example: python -m maro_jax.replay runs/werewolf-tiny")
        if not is_run(self.run):
            raise ConfigError(
                f"{self.run} is not the folder of a run; training makes one, for example runs/werewolf-tiny"
            )
        if self.output:
            check_output("output", self.output)
