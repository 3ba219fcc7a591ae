"""From games on disk to what a critic learns from: every decision that has a thought, and the goals it led to.

A transition lasts from a decision with a thought to the same seat's next one with a thought, or to the episode's end.
Decisions without a thought in between belong to it: what they reach, it reaches. Only episodes that ended by the rules
are read; where a game was cut off nobody knows what would have come.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from games.core import GameError
from games.goals import Goal, goals_of, reached
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.record import Record, to_episodes
from maro_jax.data.retell import text_table
from maro_jax.pnlc.embedders import Embedder
from maro_jax.pnlc.medoids import Vicinity, directions, medoids_of, nearest
from maro_jax.pnlc.states import states_of_record
from maro_jax.pnlc.transitions import Transitions
from maro_jax.policy.config import ModelError
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import HOLDERS
from maro_jax.selfplay.table import Table

RECORDS_AT_A_TIME = 128  # looked back on together
TEXTS_AT_A_TIME = 512  # embedded between two lines of progress
OUTCOME = "outcome"  # the goal that the seat's outcome is above 0, which every game has

Progress = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class Texts:
    """T decisions with thoughts, in words; rows of one seat in one episode are in order.

    Attributes:
      state, thought: their texts.
      following: int32[T], the row of the seat's next decision; its own where `done`.
      done: bool[T].
      reached: bool[T, G].
      episode: int32[T].
      goals: the G goals.
      table: the game laid out for the tokenizer of the data.
      left_out: episodes that did not end by the rules.
    """

    state: tuple[str, ...]
    thought: tuple[str, ...]
    following: np.ndarray
    done: np.ndarray
    reached: np.ndarray
    episode: np.ndarray
    goals: tuple[Goal, ...]
    table: Table
    left_out: int


def chosen_goals(table: Table, which: str) -> tuple[Goal, ...]:
    """The goals of a game: `all`, or that the seat's `outcome` is above 0, alone and worth 1.

    Raises:
      ConfigError: the game has none.
    """
    try:
        goals = goals_of(table.spec)
    except GameError as error:
        raise ConfigError(str(error)) from None
    if which == "all":
        return goals
    return tuple(dataclasses.replace(goal, utility=1.0) for goal in goals if goal.name == OUTCOME)


def open_sources(folders: Sequence[str], model: str = "") -> tuple[list[EpisodeSource], Table]:
    """Datasets of one game, and the game laid out for the tokenizer that made their ids.

    Args:
      folders: each a dataset, or a folder that holds one only.
      model: where that tokenizer's model is now; empty: where it was.

    Raises:
      ConfigError: one cannot be read, or they are not of one game and one tokenizer.
    """
    sources = [EpisodeSource(folder) for folder in folders]
    headers = [source.manifest.header for source in sources]
    first = headers[0]
    for folder, header in zip(folders, headers, strict=True):
        for name in ("game", "parameters", "tokenizer"):
            if getattr(header, name) != getattr(first, name):
                raise ConfigError(
                    f"{folder} and {folders[0]} differ in their {name}; a critic learns from games of one"
                )
    try:
        table = text_table(first.game, first.parameters, model or first.model)
    except (GameError, ModelError) as error:
        raise ConfigError(str(error)) from None
    if table.tokenizer.digest() != first.tokenizer:
        raise ConfigError(f"{model or first.model} has not the tokenizer that made the ids in {folders[0]}")
    return sources, table


def read_texts(
    sources: Sequence[EpisodeSource], table: Table, goals: tuple[Goal, ...], holders: Sequence[str], progress: Progress
) -> Texts:
    """Reads all decisions with thoughts.

    Args:
      sources: datasets of the table's game.
      table: see `open_sources`.
      goals: to be labelled.
      holders: whose decisions, of `HOLDERS`.
      progress: told the number of episodes read.

    Raises:
      ConfigError: there is no such decision.
    """
    rows = _Rows(table, goals, frozenset(HOLDERS.index(holder) for holder in holders))
    for source in sources:
        for first in range(0, len(source), RECORDS_AT_A_TIME):
            rows.add(source[first : first + RECORDS_AT_A_TIME])
            progress(rows.episodes)
    if not rows.state:
        raise ConfigError(
            f"there is no decision of {', '.join(holders)} with a thought in {rows.episodes} episodes; record games "
            "with --thought_tokens above 0, for example by python -m maro_jax.pnlc collect"
        )
    return rows.texts()


class _Rows:
    """Collects rows."""

    def __init__(self, table: Table, goals: tuple[Goal, ...], holders: frozenset[int]):
        self.table, self.goals, self.holders = table, goals, holders
        self.state: list[str] = []
        self.thought: list[str] = []
        self.following: list[int] = []
        self.done: list[bool] = []
        self.reached: list[np.ndarray] = []
        self.episode: list[int] = []
        self.episodes = self.left_out = 0

    def add(self, records: Sequence[Record]) -> None:
        """Adds the decisions of some episodes."""
        came = self._came(records)
        for record, of_record in zip(records, came, strict=True):
            if record.fields["terminated"] and not record.fields["overflowed"]:
                self._add(record, of_record)
            else:
                self.left_out += 1
            self.episodes += 1

    def _came(self, records: Sequence[Record]) -> np.ndarray:
        """bool[E, B, G], see `games.goals.reached`; a short batch is filled up, so that one program serves all."""
        filled = [*records, *[records[0]] * (RECORDS_AT_A_TIME - len(records))]
        played = to_episodes(filled, self.table.spec)
        made = played.behaviours
        return np.asarray(
            reached(
                self.table.spec, self.goals, made.seat, made.phase, made.legal, made.action, played.roles,
                played.outcome, played.event_rows, played.event_count, played.event_step,
            )
        )[: len(records)]  # fmt: skip

    def _add(self, record: Record, came: np.ndarray) -> None:
        made = record.fields["behaviours"]
        states = states_of_record(self.table, record)
        last: dict[int, int] = {}  # of each seat the row that its next decision follows
        for number, seat in enumerate(np.asarray(made["seat"]).tolist()):
            thought = made["thought"][number]
            if thought and int(made["holder"][number]) in self.holders:
                row = len(self.state)
                if seat in last:
                    self.following[last[seat]], self.done[last[seat]] = row, False
                last[seat] = row
                self.state.append(states[number])
                self.thought.append(thought)
                self.following.append(row)
                self.done.append(True)
                self.reached.append(came[number].copy())
                self.episode.append(self.episodes)
            elif seat in last:
                self.reached[last[seat]] |= came[number]

    def texts(self) -> Texts:
        """All rows so far."""
        return Texts(
            state=tuple(self.state),
            thought=tuple(self.thought),
            following=np.array(self.following, np.int32),
            done=np.array(self.done),
            reached=np.stack(self.reached),
            episode=np.array(self.episode, np.int32),
            goals=self.goals,
            table=self.table,
            left_out=self.left_out,
        )


def transitions(texts: Texts, embedder: Embedder, progress: Progress) -> tuple[Transitions, list[np.ndarray]]:
    """Embeds all texts. A goal's embedding is the mean of those of its wordings.

    Args:
      texts: of `read_texts`.
      embedder: of everything.
      progress: told the number of different texts embedded, of those that `different` counts.

    Returns:
      The transitions, and of each goal the embeddings float32[n, d] of its wordings.
    """
    known = _embedded(different(texts), embedder, progress)
    wordings = [np.stack([known[text] for text in goal.texts]) for goal in texts.goals]
    goal = np.stack([of_goal.mean(axis=0) for of_goal in wordings])
    data = Transitions(
        state=np.stack([known[text] for text in texts.state]),
        thought=np.stack([known[text] for text in texts.thought]),
        following=texts.following,
        done=texts.done,
        reached=texts.reached,
        goal=goal,
        episode=texts.episode,
    )
    return data, wordings


def different(texts: Texts) -> list[str]:
    """All different texts, in the order they first occur."""
    return list(dict.fromkeys([*texts.state, *texts.thought, *(text for goal in texts.goals for text in goal.texts)]))


def _embedded(wanted: Sequence[str], embedder: Embedder, progress: Progress) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for first in range(0, len(wanted), TEXTS_AT_A_TIME):
        part = wanted[first : first + TEXTS_AT_A_TIME]
        found |= dict(zip(part, embedder.embed(part), strict=True))
        progress(len(found))
    return found


def with_medoids(
    data: Transitions, rows: np.ndarray, number: int, seed: int
) -> tuple[Transitions, Vicinity, np.ndarray]:
    """Adds medoids of the states in `rows` as goals: reached where the next state falls into the cluster.

    Args:
      data: with the goals so far.
      rows: int32[R], those that are trained on.
      number: of medoids.
      seed: of k-means.

    Returns:
      Transitions with the further goals, the vicinity of these, and the rows that are the medoids.

    Raises:
      ConfigError: there are fewer different states.
    """
    states = directions(data.state)
    found = medoids_of(states[rows], number, seed)
    medoid, (cluster, _) = rows[found.row], nearest(states, found.vicinity.point)
    comes = ~np.asarray(data.done)[:, None] & (cluster[data.following][:, None] == np.arange(len(found.row)))
    wider = dataclasses.replace(
        data,
        reached=np.concatenate([data.reached, comes], axis=1),
        goal=np.concatenate([data.goal, data.state[medoid]]),
    )
    return wider, found.vicinity, medoid
