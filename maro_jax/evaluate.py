"""A match of two players: `python -m maro_jax.evaluate --policy=runs/werewolf-tiny --opponent=heuristic`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from maro_jax.run import exit_codes
from maro_jax.run.config import EvaluateConfig
from maro_jax.run.console import Console, table
from maro_jax.run.devices import arrange_cpu_devices
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import run_cli

SCRIPTED = ("heuristic", "random")


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Plays a match on common deals, each player on every side.

    Args:
      config: who plays whom, at what.

    Returns:
      The first player's rates in all, by side and by role, each with its 95 % interval clustered by deal.

    Raises:
      ConfigError: if a player cannot be used, in one sentence.
    """
    config.validate()
    arrange_cpu_devices(config.num_cpu_devices())
    from maro_jax.league.match import play_match

    session, params = _player(config, config.policy)
    if config.opponent in SCRIPTED:
        opponent: Any = config.opponent
    elif config.opponent == "warm_start":
        opponent = _weights(config, _run_folder(config.policy), session, "opponent")
    else:
        other, opponent = _player(config, config.opponent)
        if other.arena.table.policy != session.arena.table.policy:
            raise ConfigError(
                f"--policy={config.policy} and --opponent={config.opponent} are models of different shapes; a match "
                "needs two of the same, for example a run and its warm start (--opponent=warm_start)"
            )
    phase = Console().phase("match", config.num_games)
    result = play_match(
        session.arena, params, opponent, config.num_games, purpose=config.seed, temperature=config.temperature,
        opponent_temperature=config.opponent_temperature,
    )  # fmt: skip
    phase.finish()
    return dataclasses.asdict(result) | session.arena.tally.rates() | {"config": dataclasses.asdict(config)}


def _player(config: EvaluateConfig, name: str) -> tuple[Any, Any]:
    """A session for a player and its parameters."""
    from maro_jax.league.session import run_session

    import jax

    recorded = _recorded(Path(name).expanduser()) if name != "tiny" else None
    base = dict(recorded) if recorded else _defaults(name)
    if config.games:
        base["games"] = config.games
    changes = {
        "seed": config.seed,
        "lanes": config.lanes,
        "episodes": min(config.num_games, 4 * config.lanes),
        "mesh_shape": (jax.device_count(), 1, 1),
    }
    session = run_session(base, **changes)
    if recorded is None:
        return session, session.params
    return session, _weights(config, Path(name).expanduser(), session, "params")


def _defaults(model: str) -> dict[str, Any]:
    from maro_jax.run.config import TrainConfig

    return dataclasses.asdict(TrainConfig(model=model))


def _recorded(folder: Path) -> dict[str, Any] | None:
    """The configuration of a run folder; None for a model folder (whose config.json is the model's)."""
    content = json.loads((folder / "config.json").read_text())
    return content.get("config")


def _run_folder(name: str) -> Path:
    folder = Path(name).expanduser()
    if name == "tiny" or _recorded(folder) is None:
        raise ConfigError(f"--opponent=warm_start needs a run as --policy, for example runs/werewolf-tiny, not {name}")
    return folder


def _weights(config: EvaluateConfig, folder: Path, session: Any, which: str) -> Any:
    """The newest parameters of a run: the learner's (`params`) or its warm start's (`opponent`)."""
    import jax

    from maro_jax.league.trainer import Trainer
    from maro_jax.run.checkpoint import Checkpoints
    from maro_jax.run.config import TrainConfig

    recorded = _recorded(folder)
    trainer = Trainer(session.arena, TrainConfig(**recorded))  # type: ignore[arg-type]
    with Checkpoints(folder / "checkpoints", keep=10**6) as checkpoints:
        restored = checkpoints.restore(trainer.start(session.params))
    if restored is None:
        raise ConfigError(f"{folder} holds no checkpoint yet; train first, for example python -m maro_jax.train")
    chosen = restored.state.learner.params if which == "params" else restored.state.opponent
    return jax.tree.map(lambda leaf: leaf, chosen)


def _main(config: EvaluateConfig) -> int:
    result = evaluate(config)
    rows = [["all sides", *_cells(result["total"])]]
    rows += [[f"as {side}", *_cells(rate)] for side, rate in result["sides"].items()]
    rows += [[f"seats of the {role}", *_cells(rate)] for role, rate in result["roles"].items()]
    print(f"{config.policy} against {config.opponent}, {result['games']} games")
    print(table(["", "win rate", "95 % interval", "deals"], rows))
    print(
        f"{result['games_per_second']:.0f} games/s, {result['truncated']:.1%} of the games cut off (counted as one half)"
    )
    if config.json:
        Path(config.json).write_text(json.dumps(result, indent=2) + "\n")
    return exit_codes.DONE


def _cells(rate: dict[str, Any]) -> list[Any]:
    return [f"{rate['mean']:.3f}", f"{rate['low']:.3f} to {rate['high']:.3f}", rate["count"]]


def main_cli() -> None:
    """Console entry point."""
    run_cli(EvaluateConfig, _main)


if __name__ == "__main__":
    main_cli()
