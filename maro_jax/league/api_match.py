"""A match against a model behind an API: dealt and scored as any other, with its faults apart from its results."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from maro_jax.api.client import ChatClient, ClientSettings
from maro_jax.api.games import play_games
from maro_jax.api.ledger import Prices
from maro_jax.api.player import ENGINE, ApiPlayer, Fault
from maro_jax.api.prompts import Prompts
from maro_jax.league.match import SCRIPTED_HOLDERS, MatchResult, score_match
from maro_jax.league.plans import games_per_deal, match_plan
from maro_jax.league.session import Session
from maro_jax.run.api_config import ApiConfig, model_of
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import API, LEARNER, Episodes, RolloutPlan
from maro_jax.selfplay.hosted import HostedGames
from maro_jax.selfplay.table import Table

LISTED = 100  # faults that a result lists one by one


@dataclasses.dataclass(frozen=True)
class ApiMatch:
    """How a match went.

    Attributes:
      result: of the deals in whose games the model made every move itself; None if there is no such deal.
      with_faults: of all deals, with a scripted player's moves where the model made none.
      faults: these moves.
      faulty_games: games with such a move.
      unusable: replies that could not be played, most of which were followed by one that could.
      calls: the client's counters.
      gave_up: why the model was not asked to the end; empty if it was.
      seconds: wall time.
    """

    result: MatchResult | None
    with_faults: MatchResult
    faults: list[Fault]
    faulty_games: int
    unusable: int
    calls: dict[str, Any]
    gave_up: str
    seconds: float

    def as_data(self) -> dict[str, Any]:
        """The match as plain data: the result's own fields first."""
        result = dataclasses.asdict(self.result) if self.result else {"games": 0}
        kinds = collections.Counter(fault.kind for fault in self.faults)
        return result | {
            "games_per_second": self.with_faults.games / max(self.seconds, 1e-9),
            "with_faulty_games": dataclasses.asdict(self.with_faults),
            "api": {
                "faults": {
                    "moves": len(self.faults) - kinds[ENGINE],
                    "by_kind": {kind: count for kind, count in sorted(kinds.items()) if kind != ENGINE},
                    "games": self.faulty_games,
                    "listed": [dataclasses.asdict(fault) for fault in self.faults[:LISTED]],
                },
                "engine_errors": kinds[ENGINE],
                "unusable_replies": self.unusable,
                "gave_up": self.gave_up,
                "calls": self.calls,
            },
        }


def open_player(config: ApiConfig, name: str, table: Table, temperature: float) -> ApiPlayer:
    """A player as the flags ask for it; nothing is sent yet.

    Raises:
      ConfigError: key or prompts cannot be used.
    """
    settings = ClientSettings(
        model=model_of(name), base_url=config.api_base, key_variable=config.api_key_variable, temperature=temperature,
        max_tokens=config.api_max_tokens, timeout=config.api_timeout, attempts=config.api_attempts,
        concurrency=config.api_concurrency, prices=Prices(config.api_price_in, config.api_price_out),
    )  # fmt: skip
    prompts = Prompts.load(config.api_prompts)
    return ApiPlayer(table, ChatClient(settings, config.api_transcript), prompts, config.api_asks)


def play_api_match(
    session: Session,
    who: Any,
    player: ApiPlayer,
    games: int,
    *,
    lanes: int,
    purpose: int,
    temperature: float = 1.0,
    progress: Callable[[int], None] = lambda over: None,
    keep: Callable[[Episodes, RolloutPlan], object] | None = None,
) -> ApiMatch:
    """Plays a match on the deals that `play_match` would play, and scores it for the first player.

    Args:
      session: the game and the first player's model.
      who: the first player's parameters for a plain model, or `heuristic` or `random`.
      player: the model behind an API.
      games: rounded up to a multiple of `games_per_deal`.
      lanes: games in progress at once.
      purpose: keeps the randomness of different matches apart.
      temperature: the first player's sampling temperature.
      progress: told the number of games that are over.
      keep: given the games, on the host, and their plan, however the match ends: games that it cut short are not over.

    Raises:
      ConfigError: the server never gave an answer.
    """
    arena, scripted = session.arena, isinstance(who, str)
    sides = len(arena.table.spec.sides)
    turns = games_per_deal(sides)
    games += -games % turns
    plan = match_plan(0, games, sides, SCRIPTED_HOLDERS[who] if scripted else LEARNER, API)
    hosted = HostedGames(
        player.table, arena.sizes.capacity, min(lanes, games), plan, jax.random.fold_in(arena.root, purpose),
        None if scripted else who, temperature,
    )  # fmt: skip
    began = time.perf_counter()
    try:
        episodes, faults = play_games(hosted, player, progress)
        seconds = time.perf_counter() - began
    finally:
        if keep:
            keep(hosted.episodes(), plan)
    ledger = player.client.ledger
    if faults and not ledger.answered and ledger.requests:
        raise ConfigError(f"{player.client.settings.model} never answered; {faults[0].reason}")
    kept, faulty = clean_deals(episodes, faults, turns)
    return ApiMatch(
        result=score_match(arena, kept) if len(kept.terminated) else None,
        with_faults=score_match(arena, episodes),
        faults=faults,
        faulty_games=faulty,
        unusable=player.unusable,
        calls=ledger.summary(),
        gave_up=player.client.gave_up,
        seconds=seconds,
    )


def clean_deals(episodes: Episodes, faults: Sequence[Fault], turns: int) -> tuple[Episodes, int]:
    """The episodes of deals without a fault, and the number of games with one.

    A deal is left out as a whole, so that sides stay swapped on common deals.

    Args:
      episodes: of a match, `turns` games a deal.
      faults: moves that the player did not make itself.
      turns: see `games_per_deal`.
    """
    faulty = np.zeros(len(episodes.terminated), bool)
    faulty[[fault.episode for fault in faults]] = True
    clean = np.repeat(~faulty.reshape(-1, turns).any(axis=1), turns)
    return jax.tree.map(lambda leaf: leaf[clean], episodes), int(faulty.sum())
