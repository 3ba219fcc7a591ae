"""A match of two players: `python -m maro_jax.evaluate runs/werewolf-tiny --opponent=heuristic`.

Or tasks outside of the games: `python -m maro_jax.evaluate runs/qwen --tasks=gsm8k,ifeval`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maro_jax.run import exit_codes
from maro_jax.run.config import TrainConfig
from maro_jax.run.console import Console, table
from maro_jax.run.devices import arrange_cpu_devices, check_cpu_devices, keep_freed_memory
from maro_jax.run.directory import recorded_config, write_json
from maro_jax.run.evaluate_config import SCRIPTED, EvaluateConfig
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import run_cli
from maro_jax.run.inputs import is_run, split_games

if TYPE_CHECKING:
    from maro_jax.league.match import Rate
    from maro_jax.league.session import Session
    from maro_jax.selfplay.episodes import Episodes, RolloutPlan

POLICY = "--policy"  # its name among the players: no folder or model is called so
PURPOSE = 2_000_000  # keeps the deals apart from those a run of the same seed has trained on


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Plays a match on common deals, each player on every side; or with several opponents everybody plays everybody.

    With `config.tasks` nobody plays: tasks of lm-evaluation-harness are answered.

    Args:
      config: who plays whom, at what.

    Returns:
      Of a match: the first player's rates in all, by side and by role, each with its 95 % interval clustered by deal.
      Of several: `matches`, the same of each pair, and in Elo points `ratings` by player and `side_ratings` by side.
      Of tasks: see `maro_jax.harness.report.compare`.

    Raises:
      ConfigError: if a player cannot be used, in one sentence.
    """
    config.validate()
    keep_freed_memory()
    if config.tasks:
        return _answer_tasks(config) | {"config": dataclasses.asdict(config)}
    if config.plays_api:
        return _match_api(config) | {"config": dataclasses.asdict(config)}
    arrange_cpu_devices(config.num_cpu_devices())
    check_cpu_devices(config.cpu_devices)
    settings = _settings(config.policy)
    own = _session(config, settings)
    players = {POLICY: _params(own, config.policy)}
    for name in config.opponents:
        players |= _opponents(config, name, settings, own)
    session = own
    if settings["lora_rank"] and config.strangers:  # whose model may be any: adapters are merged into theirs
        kept = (*SCRIPTED, *config.strangers)
        players = {name: of if name in kept else own.whole(of) for name, of in players.items()}
        session = _session(config, settings | {"lora_rank": 0})
    result = _everybody(config, session, players) if config.plays_everybody else _match(config, session, players)
    return result | session.arena.tally.rates() | {"config": dataclasses.asdict(config)}


def _match(config: EvaluateConfig, session: Session, players: dict[str, Any]) -> dict[str, Any]:
    """A match of two."""
    from maro_jax.league.match import play_match

    player, against = players.values()
    phase = Console().phase("match", config.num_games)
    result = play_match(
        session.arena, player, against, config.num_games, purpose=PURPOSE,
        temperature=config.temperature, opponent_temperature=config.opponent_temperature,
    )  # fmt: skip
    phase.finish()
    return dataclasses.asdict(result)


def _match_api(config: EvaluateConfig) -> dict[str, Any]:
    """A match against a model behind an API."""
    if importlib.util.find_spec("openai") is None:
        raise ConfigError("players behind an API need the openai client; install it with: pip install 'maro-jax[api]'")
    arrange_cpu_devices(1)
    import jax

    from maro_jax.league.api_match import open_player, play_api_match

    scripted = config.policy in SCRIPTED
    settings = _settings("tiny" if scripted else config.policy)
    # Weights are read onto all devices; the games take one.
    count = jax.device_count()
    session = _session(dataclasses.replace(config, lanes=count, num_games=count), settings)
    params, iterations = _weights(session, config.policy)
    params = config.policy if scripted else jax.device_put(session.whole(params), jax.devices()[0])
    keep = _keeper(config, session, settings["model"], iterations) if config.record else None
    player = open_player(config, config.opponent, session.arena.table, config.opponent_temperature)
    phase = Console().phase("match", config.num_games)
    played = play_api_match(
        session, params, player, config.num_games, lanes=config.lanes, purpose=PURPOSE,
        temperature=config.temperature, progress=phase.update, keep=keep,
    )  # fmt: skip
    phase.finish()
    return played.as_data()


def _keeper(
    config: EvaluateConfig, session: Session, model: str, iterations: int
) -> Callable[[Episodes, RolloutPlan], None]:
    """What adds games to the dataset of `--record`, which is opened now.

    Args:
      config: of the match.
      session: of the game.
      model: whose tokenizer makes the ids.
      iterations: that the first player's weights were trained for.
    """
    from maro_jax.data.encode import Origin
    from maro_jax.data.hosted import HostedRecorder
    from maro_jax.selfplay.episodes import API, LEARNER

    arena = session.arena
    recorder = HostedRecorder(config.record, arena.table, capacity=arena.sizes.capacity, model=model, source="evaluate")
    players = {LEARNER: config.policy, API: config.opponent}
    origin = Origin(config.seed, PURPOSE, players=players, weights={LEARNER: iterations})

    def keep(episodes: Episodes, plan: RolloutPlan) -> None:
        kept = recorder.keep(episodes, plan, origin)
        Console().line(f"{kept} of {len(plan.episode)} games recorded: {recorder.folder}")

    return keep


def _everybody(config: EvaluateConfig, session: Session, players: dict[str, Any]) -> dict[str, Any]:
    """A match of each pair, and ratings."""
    from maro_jax.league.standings import round_robin

    pairs = len(players) * (len(players) - 1) // 2
    phase = Console().phase(f"{pairs} matches", pairs * config.num_games)
    standings = round_robin(
        session.arena,
        players,
        config.num_games,
        purpose=PURPOSE,
        temperatures=[config.temperature] + [config.opponent_temperature] * (len(players) - 1),
        finished=lambda done: phase.update(done * config.num_games),
    )
    phase.finish()
    names, (headers, lines) = standings.names, standings.rows()

    def by_name(ratings: Sequence[Rate]) -> dict[str, Any]:
        return {name: dataclasses.asdict(rating) for name, rating in zip(names, ratings, strict=True)}

    return {
        "matches": [
            {"player": names[one], "against": names[other]} | dataclasses.asdict(result)
            for (one, other), result in standings.matches.items()
        ],
        "ratings": by_name(standings.ratings),
        "side_ratings": {side: by_name(ratings) for side, ratings in standings.side_ratings.items()},
        "table": {"headers": headers, "rows": lines},
    }


def _answer_tasks(config: EvaluateConfig) -> dict[str, Any]:
    """The tasks' scores of the policy, and of whom it is compared with."""
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError("--tasks needs lm-evaluation-harness; install it with: pip install 'maro-jax[harness]'")
    arrange_cpu_devices(1)
    from maro_jax.harness.loading import load_tasks, load_weights
    from maro_jax.harness.model import PolicyLM
    from maro_jax.harness.report import compare, rows_of, run_tasks
    from maro_jax.policy.config import ModelError

    tasks = load_tasks(config.task_names, tasks_path=config.tasks_path, tasks_data=config.tasks_data)
    if config.num_fewshot > 0 and tasks.without_examples:
        print(f"note: asked without examples all the same, as their files say: {', '.join(tasks.without_examples)}")
    players = {"policy": config.policy, "base": config.base or config.began_as(config.policy)}
    players = {name: player for name, player in players.items() if player}
    results = []
    try:
        for name, player in players.items():
            model = load_weights(
                name, config.began_as(player) or player,
                run=player if is_run(player) else None, precision=_settings(player)["matmul_precision"],
            )  # fmt: skip
            lm = PolicyLM(
                model, batch_size=config.batch_size, max_length=config.max_length or None, seed=config.seed,
                console=Console(),
            )  # fmt: skip
            results.append(run_tasks(
                lm, tasks,
                num_fewshot=None if config.num_fewshot < 0 else config.num_fewshot, limit=config.limit or None,
                apply_chat_template=config.apply_chat_template, gen_kwargs=config.gen_kwargs,
            ))  # fmt: skip
            del lm, model  # one model's weights at a time
    except ModelError as error:
        raise ConfigError(str(error)) from None
    report = compare(tasks, results, list(players))
    headers, rows = rows_of(report, list(players))
    return {
        "tasks": report,
        "players": players,
        "versions": results[0]["versions"],
        "num_fewshot": results[0]["n-shot"],
        "lm_eval": results[0]["lm_eval_version"],
        "table": {"headers": headers, "rows": rows},
    }


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


def _opponents(config: EvaluateConfig, name: str, settings: dict[str, Any], session: Session) -> dict[str, Any]:
    """Opponents as `play_match` takes them: a scripted player's name, or parameters for the session's model."""
    from maro_jax.league.session import stored_params, stored_past_selves

    if name in SCRIPTED:
        return {name: name}
    if name == "warm_start":
        return {name: stored_params(session, config.policy, "opponent")[0]}
    if name == "past":
        return {f"after {born}": params for born, params in stored_past_selves(session, config.policy, settings)}
    theirs = {key: of for key, of in _settings(name).items() if key == "model" or key.startswith("lora_")}
    other = session if theirs.items() <= settings.items() else _session(config, settings | theirs)
    if not _same_model(session, other):
        raise ConfigError(
            f"--policy={config.policy} and --opponent={name} are models of different shapes or tokenizers; a match "
            "needs two alike, for example a run and its warm start (--opponent=warm_start)"
        )
    return {name: other.whole(_params(other, name))}


def _same_model(one: Session, other: Session) -> bool:
    """Whether two models have the same shape and spell the game in the same tokens."""
    import jax
    import numpy as np

    tables = one.arena.table, other.arena.table
    words, other_words = (jax.tree.leaves((table.lexicon, table.grammar)) for table in tables)
    return tables[0].policy.config == tables[1].policy.config and all(map(np.array_equal, words, other_words))


def _params(session: Session, player: str) -> Any:
    """A run's newest weights (with LoRA, of its adapter), or those of a model as they are."""
    return _weights(session, player)[0]


def _weights(session: Session, player: str) -> tuple[Any, int]:
    """What `_params` gives, and the iterations that it was trained for."""
    from maro_jax.league.session import stored_params
    from maro_jax.policy.trained import UNTRAINED

    return stored_params(session, player, "learner.params") if is_run(player) else (session.params, UNTRAINED)


def _main(config: EvaluateConfig) -> int:
    result = evaluate(config)
    if config.tasks:
        print(table(result["table"]["headers"], result["table"]["rows"]))
    elif config.plays_everybody:
        _print_standings(config, result)
    elif config.plays_api:
        _print_api_match(config, result)
    else:
        _print_match(config, result)
    if config.json:
        write_json(Path(config.json).expanduser(), result)
    return exit_codes.DONE


def _print_match(config: EvaluateConfig, result: dict[str, Any]) -> None:
    rows = [["all sides", *_cells(result["total"])]]
    rows += [[f"as {side}", *_cells(rate)] for side, rate in result["sides"].items()]
    rows += [[f"seats of the {role}", *_cells(rate)] for role, rate in result["roles"].items()]
    print(f"{config.policy} against {config.opponent}, {result['games']} games")
    print(table(["", "win rate", "95 % interval", "deals"], rows))
    did = [[name.replace("_", " "), *_cells(rate)] for name, rate in result["play"].items()]
    if did:
        print("\n" + table(["what it did", "how often", "95 % interval", "chances"], did) + "\n")
    print(
        f"{result['games_per_second']:.0f} games/s, {result['truncated']:.1%} of the games cut off "
        "(counted as one half)"
    )


def _print_api_match(config: EvaluateConfig, result: dict[str, Any]) -> None:
    if result["games"]:
        _print_match(config, result)
    else:
        print(f"{config.policy} against {config.opponent}: no deal without a fault, so that there is no result")
    api, played = result["api"], result["with_faulty_games"]["games"]
    faults, calls, latency = api["faults"], api["calls"], api["calls"]["latency"]
    if faults["moves"] or api["engine_errors"]:
        print(
            f"\n{faults['games']} of {played} games set apart with their deals: a scripted player made "
            f"{faults['moves']} moves for {config.opponent} and {api['engine_errors']} after errors of this program; "
            f"the first: {faults['listed'][0]['reason']}"
        )
    rows = [[name.replace("_", " "), calls[name]] for name in ("calls", "requests", "retries", "failed")]
    rows += [[f"requests failed: {kind.replace('_', ' ')}", count] for kind, count in calls["failures"].items()]
    rows += [["replies asked for again", api["unusable_replies"]], ["tokens in", calls["tokens_in"]]]
    rows += [["tokens out", calls["tokens_out"]]]
    rows += [["dollars", calls["dollars"]]] if calls["dollars"] is not None else []
    rows += [[f"latency {name}, s", seconds] for name, seconds in latency.items() if seconds is not None]
    print("\n" + table([config.opponent, ""], rows))
    if api["gave_up"]:
        print(f"no more requests were sent after a while: {api['gave_up']}")


def _print_standings(config: EvaluateConfig, result: dict[str, Any]) -> None:
    print(f"{POLICY}={config.policy}; {config.num_games} games a match; win rates of the row's player")
    print(table(result["table"]["headers"], result["table"]["rows"]))
    print(f"{result['games_per_second']:.0f} games/s")


def _cells(rate: dict[str, Any]) -> list[Any]:
    return [f"{rate['mean']:.3f}", f"{rate['low']:.3f} to {rate['high']:.3f}", rate["count"]]


def main_cli() -> None:
    """Console entry point."""
    run_cli(EvaluateConfig, _main)


if __name__ == "__main__":
    main_cli()
