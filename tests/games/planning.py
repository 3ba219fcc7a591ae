"""Games in which some play well and some at random, with the plan that every action serves."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.core import Game, SeatView
from games.plans import plans_of
from games.players.scripted import heuristic_player, random_legal
from games.registry import make
from games.testing import Played, play
from tests.games.recording import QUICKLY
from tests.games.transcripts import Transcript, told

SEED = 11
SENSIBLE = 0.75  # of the decisions


@dataclasses.dataclass(frozen=True, eq=False)
class Planned:
    """Games as they were played, as the functions of `games` take them, and as a reader has them."""

    game: Game
    arrays: tuple
    transcripts: list[Transcript]
    plans: np.ndarray  # int32[E, B], indices of plans

    def plan_texts(self, episode: int) -> list[str]:
        """The plan of each decision of an episode."""
        texts = plans_of(self.game.spec).texts
        return [texts[plan] for plan in self.plans[episode, : len(self.transcripts[episode].decisions)]]


@functools.cache
def planned(name: str, episodes: int, player: str = "either", **parameters: Any) -> Planned:
    """Plays games of `heuristic` or `random` players, or of both by turns, drawn anew for each decision."""
    game = make(name, **parameters)
    heuristic = heuristic_player(name)

    def either(view: SeatView, key: jax.Array) -> jax.Array:
        draw, own = jax.random.split(key)
        sensible = jax.random.uniform(draw) < SENSIBLE
        return jnp.where(sensible, heuristic(view, own), random_legal(view, own))

    chosen = {"heuristic": heuristic, "random": random_legal, "either": either}[player]
    played = play(game, episodes, SEED, chosen)
    arrays, transcripts = told(game.spec, played)
    return Planned(game, arrays, transcripts, plans_of_played(game, played))


def plans_of_played(game: Game, played: Played) -> np.ndarray:
    """int32[E, B]: the plan of every action, from views put together here."""
    spec, last = game.spec, game.spec.max_decisions
    seat = np.maximum(played.actor[:, :last], 0)
    known = np.arange(played.rows.shape[1]) < played.size[:, :last, None]
    shown = (played.audience[:, None].astype(int) >> seat[..., None]) & 1 == 1
    own = played.rows[:, None, :, 1] == seat[..., None]
    rows = np.where((known & (shown | own))[..., None], played.rows[:, None], -1)
    view = SeatView(
        rows=rows,
        seat=seat,
        role=np.take_along_axis(played.roles, seat.astype(int), axis=1),
        phase=np.minimum(played.phase[:, :last], len(spec.phases) - 2),
        legal=played.legal[:, :last],
        spec=spec,
    )
    program = jax.jit(jax.vmap(jax.vmap(plans_of(spec).of)), compiler_options=QUICKLY)
    return np.asarray(program(view, played.action[:, :last]))
