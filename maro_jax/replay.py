"""Recorded games of a run as one HTML file: `python -m maro_jax.replay runs/werewolf-tiny`."""

from __future__ import annotations

from pathlib import Path

from maro_jax.run import exit_codes
from maro_jax.run.config import ReplayConfig
from maro_jax.run.directory import read_games
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import run_cli
from maro_jax.run.replay_html import render


def write_replay(run: Path, output: Path, max_games: int = 0) -> Path:
    """Writes a run's recorded games as a self-contained page.

    Args:
      run: folder of the run.
      output: file to write.
      max_games: newest games to show, 0 for all.

    Returns:
      The file's absolute path.

    Raises:
      ConfigError: if the run has no recorded games.
    """
    games = read_games(run)
    if not games:
        raise ConfigError(f"{run} holds no recorded games; train first, for example python -m maro_jax.train")
    output.write_text(render(games[-max_games:] if max_games else games, f"maro-jax replay: {run.name}"))
    return output.resolve()


def _main(config: ReplayConfig) -> int:
    run = Path(config.run).expanduser().resolve()
    output = Path(config.output).expanduser() if config.output else run / "replay.html"
    print(write_replay(run, output, config.max_games))
    return exit_codes.DONE


def main_cli() -> None:
    """Console entry point."""
    run_cli(ReplayConfig, _main)


if __name__ == "__main__":
    main_cli()
