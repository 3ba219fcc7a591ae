"""A critic for thoughts: `python -m maro_jax.pnlc collect | train | evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maro_jax.run import exit_codes
from maro_jax.run.console import Console
from maro_jax.run.devices import arrange_cpu_devices, keep_freed_memory
from maro_jax.run.directory import write_json
from maro_jax.run.flags import Command, run_commands
from maro_jax.run.pnlc_config import CollectConfig, CriticConfig
from maro_jax.run.pnlc_evaluate_config import PnlcEvaluateConfig

HELP = """Usage: python -m maro_jax.pnlc COMMAND [...]

A critic that tells how a thought will turn out, and agents that it guides; docs/pnlc.md explains both.

  collect           plays games of a player that thinks, and keeps them as a dataset
  train DATA        trains a critic from datasets, and tells whether it may guide
  evaluate          plays the agents that a critic guides against those that it does not

python -m maro_jax.pnlc COMMAND --help tells more."""


def _collect(config: CollectConfig) -> int:
    keep_freed_memory()
    arrange_cpu_devices(1)
    from maro_jax.pnlc.collect import run

    print(run(config, Console()))
    return exit_codes.DONE


def _train(config: CriticConfig) -> int:
    keep_freed_memory()
    arrange_cpu_devices(1)
    from maro_jax.pnlc.training import run

    run(config, Console())
    return exit_codes.DONE


def _evaluate(config: PnlcEvaluateConfig) -> int:
    config.validate()
    keep_freed_memory()
    arrange_cpu_devices(1)
    from maro_jax.pnlc.evaluate import report, run

    result = run(config, Console())
    print(report(result))
    if config.json:
        write_json(Path(config.json).expanduser(), result)
    return exit_codes.DONE


def main_cli(argv: Sequence[str] | None = None) -> None:
    """Console entry point."""
    commands: dict[str, Command] = {
        "collect": (CollectConfig, _collect),
        "train": (CriticConfig, _train),
        "evaluate": (PnlcEvaluateConfig, _evaluate),
    }
    run_commands(HELP, commands, argv)


if __name__ == "__main__":
    main_cli()
