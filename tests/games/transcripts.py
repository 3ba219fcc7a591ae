"""Games as a reader has them: decisions and events in order, in names and labels."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from games.core import Game, GameSpec
from games.players.scripted import Player, random_legal
from games.testing import Played, play


@dataclasses.dataclass(frozen=True)
class Event:
    kind: str
    actor: int
    target: int
    value: int


@dataclasses.dataclass(frozen=True)
class Decision:
    """Decision number `index` of its game."""

    index: int
    seat: int
    role: str
    phase: str
    label: str
    legal: tuple[str, ...]

    @property
    def picked(self) -> int:
        """The seat that ends the label, -1 if none does."""
        word = self.label.split()[-1]
        return int(word) - 1 if "Player" in self.label and word.isdigit() else -1


@dataclasses.dataclass(frozen=True)
class Transcript:
    items: tuple[Event | Decision, ...]
    roles: tuple[str, ...]
    outcome: tuple[float, ...]

    @property
    def decisions(self) -> list[Decision]:
        return [item for item in self.items if isinstance(item, Decision)]

    def events(self, *kinds: str) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event) and item.kind in kinds]

    def until(self, decision: Decision) -> "Transcript":
        """What came before a decision."""
        return dataclasses.replace(self, items=self.items[: self.items.index(decision)])

    def since(self, decision: Decision) -> "Transcript":
        """What came after it."""
        return dataclasses.replace(self, items=self.items[self.items.index(decision) + 1 :])


def record(game: Game, episodes: int, seed: int, player: Player = random_legal) -> tuple[tuple, list[Transcript]]:
    """Plays games; returns what `games.credit_rules.judge` is given, and the same as transcripts."""
    return told(game.spec, play(game, episodes, seed, player))


def told(spec: GameSpec, played: Played) -> tuple[tuple, list[Transcript]]:
    """The same of games that have been played."""
    last = spec.max_decisions
    seat = np.where(played.over, -1, played.actor)[:, :last].astype(np.int8)
    number = np.arange(played.rows.shape[1])
    steps = (played.size[:, :, None] <= number).sum(axis=1).astype(np.int16)  # decisions made when a row was logged
    decisions = seat, played.phase[:, :last], played.legal[:, :last], played.action[:, :last].astype(np.int16)
    arrays = (*decisions, played.roles, played.outcome[:, -1], played.rows, played.size[:, -1], steps)
    return arrays, list(_transcripts(spec, played, seat))


def _transcripts(spec: Any, played: Played, seat: np.ndarray) -> Iterator[Transcript]:
    for episode, sizes in enumerate(played.size):
        names = [spec.roles[role].name for role in played.roles[episode]]
        items, row = [], 0
        for index in range(seat.shape[1] + 1):
            for kind, actor, target, value in played.rows[episode, row : sizes[index]].tolist():
                items.append(Event(spec.event_kinds[kind].name, actor, target, value))
            row = sizes[index]
            if index < seat.shape[1] and (who := int(seat[episode, index])) >= 0:
                legal = np.flatnonzero(played.legal[episode, index])
                items.append(
                    Decision(
                        index,
                        who,
                        names[who],
                        spec.phases[played.phase[episode, index]].name,
                        spec.action_labels[played.action[episode, index]],
                        tuple(spec.action_labels[action] for action in legal),
                    )  # fmt: skip
                )
        yield Transcript(tuple(items), tuple(names), tuple(played.outcome[episode, -1].tolist()))


class Replay:
    """The same games once more, so that other actions can be tried."""

    def __init__(self, game: Game, episodes: int, seed: int):
        self.game, self.keys = game, jax.random.split(jax.random.key(seed), episodes)
        self.step = jax.jit(game.step)

    def states(self, episode: int, labels: list[str]) -> Iterator[tuple[Any, Any]]:
        """Each state before a decision, with a function from a label to the state it leads to."""
        state = self.game.init(jax.random.fold_in(self.keys[episode], 0))
        for time, label in enumerate(labels):

            def tried(label: str, state: Any = state, time: int = time) -> Any:
                _, key = jax.random.split(jax.random.fold_in(self.keys[episode], 1 + time))
                return self.step(state, np.int32(self.game.spec.action_labels.index(label)), key)

            yield state, tried
            state = tried(label)
