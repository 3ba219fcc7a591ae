"""A match of two players: `python -m maro_jax.evaluate --policy=runs/werewolf-tiny --opponent=heuristic`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maro_jax.run import exit_codes
from maro_jax.run.config import SCRIPTED, EvaluateConfig, TrainConfig
from maro_jax.run.console import Console, table
from maro_jax.run.devices import arrange_cpu_devices, check_cpu_devices, keep_freed_memory
from maro_jax.run.directory import recorded_config, write_json
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import run_cli
from maro_jax.run.inputs import is_run, split_games

if TYPE_CHECKING:
    from maro_jax.league.session import Session

PURPOSE = 2_000_000  # keeps the deals apart from those a run of the same seed has trained on


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
    keep_freed_memory()
    arrange_cpu_devices(config.num_cpu_devices())
    check_cpu_devices(config.cpu_devices)
    from maro_jax.league.match import play_match

    settings = _settings(config.policy)
    session = _session(config, settings)
    opponent = _opponent(config, settings, session)
    phase = Console().phase("match", config.num_games)
    result = play_match(
        session.arena, _params(session, config.policy), opponent, config.num_games, purpose=PURPOSE,
        temperature=config.temperature, opponent_temperature=config.opponent_temperature,
    )  # fmt: skip
    phase.finish()
    return dataclasses.asdict(result) | session.arena.tally.rates() | {"config": dataclasses.asdict(config)}


def _settings(player: str) -> dict[str, Any]:
    """What a player was trained with; for a model, the defaults."""
    recorded = recorded_config(Path(player).expanduser()) if is_run(player) else {"model": player}
    return dataclasses.asdict(TrainConfig()) | (recorded or {})


def _session(config: EvaluateConfig, settings: dict[str, Any]) -> Session:
    import jax

    from maro_jax.league.session import run_session

    games = config.games or settings["games"]
    if len(split_games(games)) > 1:
        raise ConfigError(
            f"--games={games} are several games and a match plays one; name it, for example "
            f"--games={split_games(games)[0]}"
        )
    lanes = min(config.lanes, config.num_games)
    return run_session(
        settings,
        games=games,
        seed=config.seed,
        lanes=lanes,
        episodes=min(config.num_games, 4 * lanes),
        mesh_shape=config.mesh_shape(jax.device_count()),
    )


def _opponent(config: EvaluateConfig, settings: dict[str, Any], session: Session) -> Any:
    """The opponent as `play_match` takes it: a scripted player's name, or parameters for the session's model."""
    from maro_jax.league.session import stored_params

    if config.opponent in SCRIPTED:
        return config.opponent
    if config.opponent == "warm_start":
        return stored_params(session, config.policy, "opponent")[0]
    model = _settings(config.opponent)["model"]
    other = session if model == settings["model"] else _session(config, settings | {"model": model})
    if not _same_model(session, other):
        raise ConfigError(
            f"--policy={config.policy} and --opponent={config.opponent} are models of different shapes or tokenizers; "
            "a match needs two alike, for example a run and its warm start (--opponent=warm_start)"
        )
    return _params(other, config.opponent)


def _same_model(one: Session, other: Session) -> bool:
    """Whether two models have the same shape and spell the game in the same tokens."""
    import jax
    import numpy as np

    tables = one.arena.table, other.arena.table
    words, other_words = (jax.tree.leaves((table.lexicon, table.grammar)) for table in tables)
    return tables[0].policy.config == tables[1].policy.config and all(map(np.array_equal, words, other_words))


def _params(session: Session, player: str) -> Any:
    """A run's newest weights, or those of a model as they are."""
    from maro_jax.league.session import stored_params

    return stored_params(session, player, "learner.params")[0] if is_run(player) else session.params


def _main(config: EvaluateConfig) -> int:
    result = evaluate(config)
    rows = [["all sides", *_cells(result["total"])]]
    rows += [[f"as {side}", *_cells(rate)] for side, rate in result["sides"].items()]
    rows += [[f"seats of the {role}", *_cells(rate)] for role, rate in result["roles"].items()]
    print(f"{config.policy} against {config.opponent}, {result['games']} games")
    print(table(["", "win rate", "95 % interval", "deals"], rows))
    print(
        f"{result['games_per_second']:.0f} games/s, {result['truncated']:.1%} of the games cut off "
        "(counted as one half)"
    )
    if config.json:
        write_json(Path(config.json).expanduser(), result)
    return exit_codes.DONE


def _cells(rate: dict[str, Any]) -> list[Any]:
    return [f"{rate['mean']:.3f}", f"{rate['low']:.3f} to {rate['high']:.3f}", rate["count"]]


def main_cli() -> None:
    """Console entry point."""
    run_cli(EvaluateConfig, _main)


if __name__ == "__main__":
    main_cli()
