"""A critic for thoughts: `python -m maro_jax.pnlc collect | train | evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from maro_jax.run import exit_codes
from maro_jax.run.console import Console
from maro_jax.run.devices import arrange_cpu_devices, keep_freed_memory
from maro_jax.run.directory import write_json
from maro_jax.run.fields import nearest
from maro_jax.run.flags import run_cli
from maro_jax.run.pnlc_config import COMMANDS, CollectConfig, CriticConfig
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
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else ""
    if command in ("", "--help", "-h", "--helpfull", "--helpshort"):
        print(HELP)
        raise SystemExit(exit_codes.DONE if command else exit_codes.USAGE)
    if command == "collect":
        run_cli(CollectConfig, _collect, arguments[1:])
    if command == "train":
        run_cli(CriticConfig, _train, arguments[1:])
    if command == "evaluate":
        run_cli(PnlcEvaluateConfig, _evaluate, arguments[1:])
    print(f"error: there is no command {command}{nearest(command, COMMANDS)}; there are: {', '.join(COMMANDS)}",
          file=sys.stderr)  # fmt: skip
    raise SystemExit(exit_codes.USAGE)


if __name__ == "__main__":
    main_cli()
