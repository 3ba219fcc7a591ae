"""A contest of agents: all of them on the same deals, so that what is compared is a difference deal by deal."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from games.core import GameSpec
from maro_jax.pnlc.actors import Actor
from maro_jax.pnlc.agents import Agent
from maro_jax.selfplay.episodes import API, HEURISTIC, Episodes, RolloutPlan

NORMAL_95 = 1.959964
CALLS_OF_LANES = 4  # games of one call for each lane, so that few lanes wait for the last game


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over independent deals with its 95 % interval; without two deals the interval is not a number."""

    mean: float
    low: float
    high: float
    deals: int

    @staticmethod
    def of(values: np.ndarray) -> Estimate:
        """From one value a deal, float[D]; the normal interval of their mean."""
        count = len(values)
        mean = float(np.mean(values)) if count else float("nan")
        half = NORMAL_95 * float(np.std(values, ddof=1)) / np.sqrt(count) if count > 1 else float("nan")
        return Estimate(mean, mean - half, mean + half, count)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is measured of a game.

    Attributes:
      name: of the measure.
      scale, shift: the measure is scale · outcome + shift, as the game's page says.
    """

    name: str
    scale: float
    shift: float


MEASURES = {
    "persuasion-v0": Measured("donation, $", 1.0, 1.0),
    "shopping-v0": Measured("score, 0 to 100", 50.0, 50.0),
}
WIN_RATE = Measured("win rate", 0.5, 0.5)  # a draw counts one half


def measure_of(game: str) -> Measured:
    """What is measured of a game."""
    return MEASURES.get(game, WIN_RATE)


def contest_plan(spec: GameSpec, sides: Sequence[int], games: int, opponent: int, first: int = 0) -> RolloutPlan:
    """Games in which the agent holds each of these sides in turn, on every deal once.

    Args:
      spec: of the game.
      sides: that are measured, by number.
      games: a multiple of their number.
      opponent: who holds the other sides.
      first: number of the first deal.
    """
    index = np.arange(games)
    side = np.asarray(sides)[index % len(sides)]
    holders = np.where(np.arange(len(spec.sides)) == side[:, None], API, opponent)
    number = first * len(sides) + index
    return RolloutPlan(number.astype(np.int32), (first + index // len(sides)).astype(np.int32), holders.astype(np.int8))


@dataclasses.dataclass(frozen=True)
class Played:
    """How an agent fared.

    Attributes:
      value: float64[E], the measure of each game of the plan, the mean of the agent's seats.
      faulty: bool[E], games in which a scripted player had to make a move for the agent.
      decisions: replies that were due.
      games_per_second: of the plan's games, in all calls but the first, which compiles the programs; of that one if
        there is no other.
    """

    value: np.ndarray
    faulty: np.ndarray
    decisions: int
    games_per_second: float


@dataclasses.dataclass(frozen=True)
class Batch:
    """Games of a plan that were played together.

    Attributes:
      plan: these games of it.
      episodes: on the host.
      faulty: bool[E], games in which a scripted player had to make a move for the agent.
      decisions: replies that were due.
      seconds: that it took.
    """

    plan: RolloutPlan
    episodes: Episodes
    faulty: np.ndarray
    decisions: int
    seconds: float


def play_batches(
    actor: Actor, agent: Agent, plan: RolloutPlan, lanes: int, key: jax.Array, progress: Callable[[int], None]
) -> Iterator[Batch]:
    """Plays a plan to its end, some games after the other; arguments as those of `play`."""
    total = len(plan.episode)
    lanes = min(lanes, total)
    size = min(CALLS_OF_LANES * lanes, total)
    for first in range(0, total, size):
        began, decisions = time.perf_counter(), 0
        kept = min(size, total - first)
        games = actor.open(_filled(plan, first, size), lanes, key)
        while turns := games.run():
            agent.decide(games, turns)
            decisions += len(turns)
            progress(min(first + games.over, total))
        faulty = np.zeros(size, bool)
        faulty[[episode for episode, _ in games.replaced]] = True
        episodes = jax.tree.map(lambda leaf, n=kept: leaf[:n], games.episodes())
        mine = jax.tree.map(lambda leaf, at=first, n=kept: leaf[at : at + n], plan)
        yield Batch(mine, episodes, faulty[:kept], decisions, time.perf_counter() - began)


def _filled(plan: RolloutPlan, first: int, size: int) -> RolloutPlan:
    """So many games of a plan from the first on; what is missing at its end repeats games among scripted players.

    All batches are of one size, so that one program serves them. Nobody is asked for a reply in a repeated game, which
    is dropped: a model behind an API is paid for every reply.
    """
    total = len(plan.episode)
    index = np.arange(first, first + size)
    part = jax.tree.map(lambda leaf: leaf[index % total], plan)
    holders = np.where(index[:, None] < total, part.holders, HEURISTIC).astype(np.int8)
    return dataclasses.replace(part, holders=holders)


def play(
    actor: Actor,
    agent: Agent,
    spec: GameSpec,
    plan: RolloutPlan,
    lanes: int,
    key: jax.Array,
    progress: Callable[[int], None] = lambda over: None,
    keep: Callable[[Batch], None] = lambda batch: None,
) -> Played:
    """Plays a plan to its end and measures the agent.

    Args:
      actor: opens the games.
      agent: replies for the seats of `API`.
      spec: of the game.
      plan: E games.
      lanes: games side by side.
      key: of all chance; the same for all agents.
      progress: told the number of games that are over.
      keep: given each batch once it is over.
    """
    measured, values, faulty, costs = measure_of(spec.name), [], [], []
    for batch in play_batches(actor, agent, plan, lanes, key, progress):
        values.append(measured.scale * outcome_of(spec, batch.episodes, batch.plan) + measured.shift)
        faulty.append(batch.faulty)
        costs.append((batch.decisions, len(batch.faulty), batch.seconds))
        keep(batch)
    decisions, games, seconds = np.array(costs).T
    later = slice(1 if len(costs) > 1 else 0, None)
    rate = games[later].sum() / seconds[later].sum()
    return Played(np.concatenate(values), np.concatenate(faulty), int(decisions.sum()), float(rate))


def outcome_of(spec: GameSpec, episodes: Episodes, plan: RolloutPlan) -> np.ndarray:
    """float64[E]: the mean outcome of the seats that the plan gives to `API`."""
    side = np.asarray(spec.side_of_role)[episodes.roles]
    mine = np.take_along_axis(np.asarray(plan.holders), side, axis=1) == API
    return (episodes.outcome * mine).sum(axis=1, dtype=np.float64) / mine.sum(axis=1)


def seconds_per_decision(actor: Actor, agent: Agent, plan: RolloutPlan, key: jax.Array, *, most: int) -> list[float]:
    """Wall time of each decision with one game at a time, from the turn's being known to its reply's being played.

    Args:
      actor: opens the games.
      agent: replies.
      plan: games to play, the first of which compiles the programs and is not counted.
      key: of all chance.
      most: decisions that are counted.
    """
    games = actor.open(plan, 1, key)
    seconds: list[float] = []
    while len(seconds) < most and (turns := games.run()):
        began = time.perf_counter()
        agent.decide(games, turns)
        jax.block_until_ready(games.lanes)
        if games.over:
            seconds.append(time.perf_counter() - began)
    return seconds


@dataclasses.dataclass(frozen=True)
class Standing:
    """An agent's place in a contest.

    Attributes:
      agent: its name.
      measure: of the deals that all agents played without a fault.
      sides: of each side by itself.
      difference: to the first agent, deal by deal; None for that agent.
      own: its measure of the deals that it played without a fault itself, whatever became of the others there.
      with_faulty_games: its measure of all deals, with a scripted player's moves where it made none.
      faulty_games: games in which a scripted player had to move for it.
      games_per_second: in a batch, environment and opponents included.
      seconds_per_decision: the median with one game at a time; None where it was not taken.
    """

    agent: str
    measure: Estimate
    sides: dict[str, Estimate]
    difference: Estimate | None
    own: Estimate
    with_faulty_games: Estimate
    faulty_games: int
    games_per_second: float
    seconds_per_decision: float | None


def standings(played: dict[str, Played], sides: Sequence[str], seconds: dict[str, list[float]]) -> list[Standing]:
    """Compares agents with the first of them on the deals that all of them played without a fault.

    One agent's faults so take deals from all of them, and all deals where a server gave up early; what an agent did by
    itself is therefore told too.

    Args:
      played: by agent, on one `contest_plan`.
      sides: names of the sides that are measured.
      seconds: per decision, by agent.
    """
    turns = len(sides)
    sound = {name: ~each.faulty.reshape(-1, turns).any(axis=1) for name, each in played.items()}
    of_all = {name: each.value.reshape(-1, turns) for name, each in played.items()}
    clean = np.all(list(sound.values()), axis=0)
    values = {name: each[clean] for name, each in of_all.items()}
    reference = next(iter(values))
    found = []
    for name, value in values.items():
        taken = seconds.get(name)
        found.append(Standing(
            agent=name,
            measure=Estimate.of(value.mean(axis=1)),
            sides={side: Estimate.of(value[:, index]) for index, side in enumerate(sides)},
            difference=None if name == reference else Estimate.of((value - values[reference]).mean(axis=1)),
            own=Estimate.of(of_all[name][sound[name]].mean(axis=1)),
            with_faulty_games=Estimate.of(of_all[name].mean(axis=1)),
            faulty_games=int(played[name].faulty.sum()),
            games_per_second=played[name].games_per_second,
            seconds_per_decision=float(np.median(taken)) if taken else None,
        ))  # fmt: skip
    return found


def rows(found: Sequence[Standing], measured: Measured) -> tuple[list[str], list[list[Any]]]:
    """Headers and lines of a table for people."""
    reference = found[0]
    headers = ["agent", measured.name, "95 % interval", f"more than {reference.agent}", "95 % interval"]
    headers += ["s a decision", "times", "games/s"]
    lines = []
    for each in found:
        line = [each.agent, f"{each.measure.mean:.3f}", f"{each.measure.low:.3f} to {each.measure.high:.3f}"]
        gap = each.difference
        line += ["", ""] if gap is None else [f"{gap.mean:+.3f}", f"{gap.low:+.3f} to {gap.high:+.3f}"]
        taken, own = each.seconds_per_decision, reference.seconds_per_decision
        line += ["", ""] if taken is None or own is None else [f"{taken:.4f}", f"{taken / own:.2f}"]
        lines.append([*line, f"{each.games_per_second:.1f}"])
    return headers, lines
