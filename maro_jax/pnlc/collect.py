"""Games that a critic learns from: a player with thoughts, often a weaker one, on every side by turns.

Or games that a policy learns from: with `--critic` the player follows, of several thoughts, the one of which a critic
expects most. The seats that were guided so are held by `api` in the records.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.core import GameError
from games.registry import make
from maro_jax.data.encode import Encoder, Origin
from maro_jax.data.retell import text_table
from maro_jax.data.schema import Header
from maro_jax.data.scripted import holders_of
from maro_jax.data.writer import write_dataset
from maro_jax.pnlc.actors import PolicyActor, ScriptedActor
from maro_jax.pnlc.agents import BestOf, by_critic
from maro_jax.pnlc.contest import play_batches
from maro_jax.pnlc.critic import Guide
from maro_jax.pnlc.embedders import embedder_for
from maro_jax.pnlc.embedding_cache import cached
from maro_jax.pnlc.states import state_of_turn
from maro_jax.pnlc.storage import load
from maro_jax.policy.config import ModelError
from maro_jax.policy.lora import parameter_sets
from maro_jax.policy.trained import Trained, open_trained
from maro_jax.run.console import Console
from maro_jax.run.fields import ConfigError
from maro_jax.run.inputs import parse_games
from maro_jax.run.pnlc_config import CollectConfig
from maro_jax.selfplay.episodes import API, HEURISTIC, HOLDERS, LEARNER, RANDOM, RolloutPlan
from maro_jax.selfplay.rollout import play
from maro_jax.selfplay.table import RolloutSizes, Table

SPLIT = "collected"
CALLS_OF_LANES = 4  # episodes of one call, for each lane: so that few lanes wait for the last game


def run(config: CollectConfig, console: Console) -> str:
    """Plays the games and writes the dataset.

    Args:
      config: who plays what, and where to.
      console: is told how far it is.

    Returns:
      The dataset's folder.

    Raises:
      ConfigError: the game or the player cannot be used, or the game has no room for thoughts.
    """
    [(name, parameters)] = parse_games(config.game)
    parameters = {key: str(value) for key, value in parameters.items()}
    trained = None
    try:
        if config.is_scripted:
            table = text_table(name, parameters, "tiny")
        else:
            trained = open_trained(config.player)
            table = Table.lay(make(name, **parameters), trained.policy, trained.tokenizer)
        capacity = table.stream_capacity(0, "refuse")
    except (GameError, ModelError) as error:
        raise ConfigError(str(error)) from None
    _check(table, config)
    phase = console.phase("games", config.episodes)
    header = Header.of(table, capacity=capacity, model=trained.model if trained else "tiny", source="collect")
    with _guide(config, table, console) as guide:
        if guide:
            examples = guided_examples(table, guide, config, trained, phase.update)
        else:
            examples = played_examples(table, capacity, config, trained, phase.update)
        folder, shards = write_dataset(config.out, table.spec, header, SPLIT, examples)
    phase.finish()
    console.line(f"{config.episodes} episodes, {sum(shard.behaviours for shard in shards)} behaviours")
    return str(folder)


def played_examples(
    table: Table, capacity: int, config: CollectConfig, trained: Trained | None, progress: Any = lambda done: None
) -> Iterator[dict[str, Any]]:
    """Plays games and yields a record of each.

    Args:
      table: the game laid out for the player.
      capacity: stream tokens of a seat.
      config: who plays, how often, by which chance.
      trained: the model that plays; None where scripted players do.
      progress: told the number of games that are over.
    """
    lanes = min(config.lanes, config.episodes)
    count = min(CALLS_OF_LANES * lanes, config.episodes)
    models = 0 if trained is None else 1
    sizes, key = RolloutSizes.fit(table, lanes, capacity), jax.random.key(config.seed)
    batch = jax.jit(functools.partial(play, table, sizes, models, True))
    params = parameter_sets(None, [trained.params]) if trained else None
    heat = jnp.full((models,), config.temperature, jnp.float32)
    encoder = Encoder(table)
    players = {LEARNER: config.player}
    origin = Origin(config.seed, players=players, weights={LEARNER: trained.iterations} if trained else {})
    for first in range(0, config.episodes, count):
        number = first + np.arange(count)
        plan = RolloutPlan(number.astype(np.int32), number.astype(np.int32), seated(config, number, table))
        played, _ = jax.device_get(batch(params, heat, key, plan))
        kept = min(count, config.episodes - first)  # a short last batch plays more than is asked for
        yield from encoder.examples(played, plan, origin, range(kept))
        progress(first + kept)


@contextlib.contextmanager
def _guide(config: CollectConfig, table: Table, console: Console) -> Iterator[Guide | None]:
    """The critic that chooses the player's thoughts, if there is one.

    Raises:
      ConfigError: the critic cannot be read, is of another game, or may not guide.
    """
    if not config.critic:
        yield None
        return
    saved = load(config.critic)
    if saved.game != table.spec.name:
        raise ConfigError(
            f"--critic={config.critic} judges thoughts of {saved.game}, and --game={config.game} is another game; name "
            "a critic of that game"
        )
    embedder = embedder_for(saved, config.embedder, base_url=config.api_base, key_variable=config.api_key_variable)
    with cached(embedder, config.embeddings, console) as through:
        yield Guide(saved, through, whatever_it_knows=config.ignore_calibration)


def guided_examples(
    table: Table, guide: Guide, config: CollectConfig, trained: Trained | None, progress: Any = lambda done: None
) -> Iterator[dict[str, Any]]:
    """Plays games in which a critic chooses the player's thoughts; the other arguments as those of `played_examples`.

    Args:
      guide: the critic.
    """
    actor = PolicyActor(table, trained.params, config.temperature) if trained else ScriptedActor(table, config.player)
    agent = BestOf(actor, config.num_thoughts, by_critic(guide, functools.partial(state_of_turn, table)))
    number = np.arange(config.episodes)
    holders, sides = seated(config, number, table), len(table.spec.sides)
    guided = number[:, None] % sides == np.arange(sides) if config.opponent else np.ones_like(holders, bool)
    holders = np.where(guided, API, holders).astype(np.int8)
    plan = RolloutPlan(number.astype(np.int32), number.astype(np.int32), holders)
    told = f"{config.player}, guided by {config.critic}"
    origin = Origin(config.seed, players={API: told}, weights={API: trained.iterations} if trained else {})
    encoder = Encoder(table)
    for batch in play_batches(actor, agent, plan, config.lanes, jax.random.key(config.seed), progress):
        yield from encoder.examples(batch.episodes, batch.plan, origin)


def seated(config: CollectConfig, number: np.ndarray, table: Table) -> np.ndarray:
    """int8[E, sides]: who holds each side of the games of these numbers."""
    sides = len(table.spec.sides)
    if config.is_scripted and not config.opponent:
        return holders_of(config.player, number, sides)
    by_name = {HOLDERS[kind]: kind for kind in (HEURISTIC, RANDOM)}
    own = by_name.get(config.player, LEARNER)
    held = np.full((len(number), sides), by_name.get(config.opponent, own), np.int8)
    held[np.arange(len(number)), number % sides] = own
    return held


def _check(table: Table, config: CollectConfig) -> None:
    """Raises `ConfigError` where the game has no room for thoughts, or no side for an opponent."""
    if not table.spec.thought_tokens:
        raise ConfigError(
            f"--game={config.game} has no room for thoughts, and a critic judges thoughts; give it some, for example "
            f"--game={table.spec.name}:thought_tokens=12"
        )
    if config.opponent and len(table.spec.sides) == 1:
        raise ConfigError(f"--opponent={config.opponent}: {config.game} has one side only; leave it out")
