"""Recorded games and learning curves of a run as one HTML file: `python -m maro_jax.replay runs/werewolf-tiny`."""

from __future__ import annotations

from pathlib import Path

from maro_jax.run import exit_codes
from maro_jax.run.flags import run_cli
from maro_jax.run.replay_config import ReplayConfig
from maro_jax.run.replay_html import write_replay


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
