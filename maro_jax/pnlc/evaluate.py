"""Agents on the same deals: `python -m maro_jax.pnlc evaluate`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import jax

from games.core import GameError
from games.registry import make
from maro_jax.data.encode import Origin
from maro_jax.data.hosted import HostedRecorder
from maro_jax.data.retell import text_table
from maro_jax.pnlc import agents, contest
from maro_jax.pnlc.actors import PolicyActor, ScriptedActor
from maro_jax.pnlc.agents import Agent
from maro_jax.pnlc.critic import Guide
from maro_jax.pnlc.embedders import embedder_for
from maro_jax.pnlc.embedding_cache import cached
from maro_jax.pnlc.prompts import ThoughtPrompts
from maro_jax.pnlc.recognition import Recognition
from maro_jax.pnlc.states import state_of_turn
from maro_jax.pnlc.storage import SavedCritic, load
from maro_jax.policy.config import ModelError
from maro_jax.policy.trained import open_trained
from maro_jax.run.api_config import is_api, model_of
from maro_jax.run.console import Console
from maro_jax.run.embedder_names import is_api_embedder
from maro_jax.run.fields import ConfigError, check_choice
from maro_jax.run.inputs import GameParameters, parse_games
from maro_jax.run.pnlc_evaluate_config import SCRIPTED, SELF, PnlcEvaluateConfig
from maro_jax.selfplay.episodes import API, HEURISTIC, LEARNER, RANDOM
from maro_jax.selfplay.table import Table

HOLDERS = {"": HEURISTIC, "heuristic": HEURISTIC, "random": RANDOM, SELF: LEARNER}
PURPOSE = 3_000_000  # keeps the games apart from those that a run or `collect` of the same seed has played
TIMED = 1 << 20  # first deal of the games in which decisions are timed


def run(config: PnlcEvaluateConfig, console: Console) -> dict[str, Any]:
    """Plays every agent on the same deals.

    Args:
      config: who plays what.
      console: is told how far it is.

    Returns:
      `measure`, the name of what is measured; `agents`, a `Standing` of each as plain data; `table`; `config`; with
      refine, the critic's `recognition`.

    Raises:
      ConfigError: game, actor or critic cannot be used, in one sentence.
    """
    config.validate()
    saved = load(config.critic) if config.critic else None
    guide = embedder = None
    with contextlib.ExitStack() as stack:
        if saved:
            embedder = _embedder(config, saved)
            through = stack.enter_context(cached(embedder, config.embeddings, console))
            guide = Guide(saved, through, whatever_it_knows=config.ignore_calibration)
        table, actor = _open(config, saved, stack)
        if saved and (otherwise := _played_otherwise(saved, table)):
            console.line(f"note: the critic learnt from other games: {otherwise}")
        sides, alone = _sides(config, table), len(table.spec.sides) == 1
        found = _play(config, table, actor, _agents(config, table, actor, guide), sides, console)
        api = {"api": actor.summary()} if is_api(config.actor) else {}
    if embedder and is_api_embedder(embedder.name):
        api["embedder_calls"] = embedder.calls.summary()
    if saved and saved.recognition and "refine" in config.agent_names:
        api["recognition"] = dataclasses.asdict(saved.recognition)
    measured = contest.measure_of(table.spec.name)
    headers, lines = contest.rows(found, measured)
    return {
        "game": table.spec.name,
        "opponent": None if alone else config.opponent or "heuristic",
        "measure": measured.name,
        "agents": [dataclasses.asdict(standing) for standing in found],
        "table": {"headers": headers, "rows": lines},
        "config": dataclasses.asdict(config),
    } | api


def _embedder(config: PnlcEvaluateConfig, saved: SavedCritic) -> Any:
    """The critic's embedder, at a server of its own where the critic keeps its address."""
    if not is_api_embedder(config.embedder or saved.embedder):
        return embedder_for(saved, config.embedder)
    from maro_jax.api.ledger import Prices

    asking = {
        "timeout": config.api_timeout, "attempts": config.api_attempts, "concurrency": config.api_concurrency,
        "prices": Prices(config.api_price_in),
    }  # fmt: skip
    if is_api(config.actor) and saved.embedder_address and not config.embedder:
        return embedder_for(saved, asking=asking)  # address and key of the flags are the actor's
    return embedder_for(
        saved, config.embedder, base_url=config.api_base, key_variable=config.api_key_variable, asking=asking
    )


def _open(config: PnlcEvaluateConfig, saved: SavedCritic | None, stack: contextlib.ExitStack) -> tuple[Table, Any]:
    """The game laid out for the actor, and the actor."""
    name, parameters = _game(config, saved)
    try:
        if is_api(config.actor):
            table = text_table(name, parameters, "tiny")
            _check_thoughts(table)
            return table, stack.enter_context(_api_actor(config, table))
        if config.actor in SCRIPTED:
            table = text_table(name, parameters, "tiny")
            _check_thoughts(table)
            return table, ScriptedActor(table, config.actor)
        trained = open_trained(config.actor)
        table = Table.lay(make(name, **parameters), trained.policy, trained.tokenizer)
        _check_thoughts(table)
        return table, PolicyActor(table, trained.params, config.temperature)
    except (GameError, ModelError) as error:
        raise ConfigError(str(error)) from None


def _api_actor(config: PnlcEvaluateConfig, table: Table) -> Any:
    if importlib.util.find_spec("openai") is None:
        raise ConfigError("actors behind an API need the openai client; install it with: pip install 'maro-jax[api]'")
    from maro_jax.api.client import ChatClient, ClientSettings
    from maro_jax.api.ledger import Prices
    from maro_jax.api.player import ApiPlayer
    from maro_jax.api.prompts import Prompts
    from maro_jax.pnlc.api_actor import ApiActor

    settings = ClientSettings(
        model=model_of(config.actor), base_url=config.api_base, key_variable=config.api_key_variable,
        temperature=config.temperature, max_tokens=config.api_max_tokens, timeout=config.api_timeout,
        attempts=config.api_attempts, concurrency=config.api_concurrency,
        prices=Prices(config.api_price_in, config.api_price_out),
    )  # fmt: skip
    client = ChatClient(settings, config.api_transcript)
    player = ApiPlayer(table, client, Prompts.load(config.api_prompts), config.api_asks)
    return ApiActor(player, ThoughtPrompts.load(config.prompts))


def _game(config: PnlcEvaluateConfig, saved: SavedCritic | None) -> tuple[str, GameParameters]:
    """Name and parameters, of the flag or of the critic."""
    if not config.game:
        assert saved
        return saved.game, _as_text(saved.parameters)
    [(name, parameters)] = parse_games(config.game)
    if saved and saved.game != name:
        raise ConfigError(f"--critic={config.critic} judges thoughts of {saved.game}, and --game={config.game} is "
                          "another game; leave --game out, or name that game's critic")  # fmt: skip
    return name, _as_text(parameters)


def _played_otherwise(saved: SavedCritic, table: Table) -> str:
    """Which parameters of the game were others when the critic learnt, in words; empty if none were."""
    now = dict(table.spec.parameters)
    return ", ".join(
        f"{name} was {saved.parameters.get(name)} and is {now.get(name)}"
        for name in sorted({*saved.parameters, *now})
        if saved.parameters.get(name) != now.get(name)
    )


def _as_text(parameters: Any) -> GameParameters:
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in parameters.items()}


def _check_thoughts(table: Table) -> None:
    if not table.spec.thought_tokens:
        raise ConfigError(
            f"{table.spec.name} is played without thoughts, and agents differ in what they think; give it some, for "
            f"example --game={table.spec.name}:thought_tokens=12"
        )


def _sides(config: PnlcEvaluateConfig, table: Table) -> list[str]:
    """The sides that are measured; refuses an opponent where there is no side for one."""
    if config.opponent and len(table.spec.sides) == 1:
        raise ConfigError(f"--opponent={config.opponent}: {table.spec.name} has one side only; leave it out")
    if not config.sides:
        return list(table.spec.sides)
    sides = config.sides.split(",")
    for side in sides:
        check_choice("sides", side, table.spec.sides)
    return sides


def _agents(config: PnlcEvaluateConfig, table: Table, actor: Any, guide: Guide | None) -> dict[str, Agent]:
    """The agents by name, in the order of the flag."""
    state_of = functools.partial(state_of_turn, table)
    best_of = functools.partial(agents.BestOf, actor, config.num_thoughts)
    prompts = ThoughtPrompts.load(config.prompts)

    def made(name: str) -> Agent:
        if name == "plain":
            return agents.Plain(actor)
        if name == "no_thought":
            return agents.Unthinking(actor)
        if name == "react":
            return agents.BestOf(actor, 1, agents.as_proposed)
        if name == "self_rated":
            return best_of(agents.by_own_rating(actor))
        if name == "random":
            return best_of(agents.at_random(config.seed))
        if name == "self_refine":
            return agents.Refine(actor, actor.expect, prompts, prompts.reconsider, config.rounds)
        assert guide
        if name == "refine":
            expect = agents.critics_likelihoods(guide, state_of)
            return agents.Refine(actor, expect, prompts, prompts.refine, config.rounds)
        score = agents.by_critic(guide, state_of)
        return best_of(agents.shuffled(score, config.seed) if name == "shuffled" else score)

    return {name: made(name) for name in config.agent_names}


def _play(
    config: PnlcEvaluateConfig, table: Table, actor: Any, by_name: dict[str, Agent], sides: list[str], console: Console
) -> list[contest.Standing]:
    """All agents in turn."""
    spec, opponent = table.spec, HOLDERS[config.opponent]
    numbers = [spec.sides.index(side) for side in sides]
    games = config.num_games + -config.num_games % len(sides)
    plan = contest.contest_plan(spec, numbers, games, opponent)
    timed = contest.contest_plan(spec, numbers, max(8, config.timed_decisions) * len(sides), opponent, TIMED)
    key = jax.random.fold_in(jax.random.key(config.seed), PURPOSE)
    recorder = None
    if config.record:  # only an actor behind an API is: its games are laid out for the tiny model's tokenizer
        capacity = table.stream_capacity(0, "refuse")
        recorder = HostedRecorder(config.record, table, capacity=capacity, model="tiny", source="evaluate")
    played, seconds = {}, {}
    for name, agent in by_name.items():
        phase = console.phase(name, games)
        keep = _keeper(config, recorder, name, console)
        played[name] = contest.play(actor, agent, spec, plan, config.lanes, key, phase.update, keep)
        phase.finish()
        if config.timed_decisions:
            seconds[name] = contest.seconds_per_decision(actor, agent, timed, key, most=config.timed_decisions)
    return contest.standings(played, sides, seconds)


def _keeper(
    config: PnlcEvaluateConfig, recorder: HostedRecorder | None, agent: str, console: Console
) -> Callable[[contest.Batch], None]:
    """What adds an agent's games to the dataset of `--record`, if there is one."""
    origin = Origin(config.seed, PURPOSE, players={API: f"{config.actor}, {agent}"})

    def keep(batch: contest.Batch) -> None:
        if recorder:
            kept = recorder.keep(batch.episodes, batch.plan, origin)
            console.line(f"{agent}: {kept} of {len(batch.faulty)} games recorded: {recorder.folder}")

    return keep


def report(result: dict[str, Any]) -> str:
    """The result as text for people."""
    from maro_jax.run.console import table

    config, found = result["config"], result["agents"]
    against = f" against {result['opponent']}" if result["opponent"] else ""
    lines = [f"{config['actor']} in {result['game']}{against}, {config['num_games']} games each"]
    lines.append(table(result["table"]["headers"], result["table"]["rows"]))
    if len(found[0]["sides"]) > 1:
        sides = list(found[0]["sides"])
        lines.append("")
        lines.append(table(
            ["agent", *(f"as {side}" for side in sides)],
            [[each["agent"], *(_with_interval(each["sides"][side]) for side in sides)] for each in found],
        ))  # fmt: skip
    if "recognition" in result:
        lines.append(f"refine: {Recognition(**result['recognition']).in_words}")
    return "\n".join([*lines, *_of_faults(found)])


def _of_faults(found: list[dict[str, Any]]) -> list[str]:
    """What is told where a scripted player had to move for an agent: each agent by itself."""
    from maro_jax.run.console import table

    faulty = sum(each["faulty_games"] for each in found)
    if not faulty:
        return []
    lines = [f"{faulty} games with moves that a scripted player made are left out above, with their deals, for all"]
    headers = ("by itself", "faulty games", "deals without", "in these", "in all deals")
    of_each = [
        (each["agent"], each["faulty_games"], each["own"]["deals"], _with_interval(each["own"]),
         _with_interval(each["with_faulty_games"]))
        for each in found
    ]  # fmt: skip
    return [*lines, "", table(headers, of_each)]


def _with_interval(estimate: dict[str, Any]) -> str:
    return f"{estimate['mean']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
