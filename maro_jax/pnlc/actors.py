"""Actors: whoever can propose thoughts for a reply, and reply after one of them.

An actor opens the games that it can reply in; its replies go into these games, so that a policy can go on from what is
already in its cache. `agents` decides which thought is followed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from games.core import GameError, view_of_actor
from games.players.scripted import random_legal
from maro_jax.selfplay.episodes import RolloutPlan
from maro_jax.selfplay.hosted import HostedGames, Reply, Turn
from maro_jax.selfplay.lanes import LaneState, purpose_key
from maro_jax.selfplay.table import Table
from maro_jax.selfplay.thoughts import SampledThought, ThinkingGames

PLAN = 128  # keeps scripted proposals apart from the purposes of `maro_jax.selfplay.lanes`


@dataclasses.dataclass(frozen=True)
class Thought:
    """A thought for one reply.

    Attributes:
      text: as a critic reads it.
      tokens: as a stream has it.
      source: what the actor needs to follow it.
    """

    text: str
    tokens: tuple[int, ...] = ()
    source: Any = None

    @property
    def is_own(self) -> bool:
        """Whether it is the actor's own."""
        return self.source is not None


NO_THOUGHT = Thought("")


class Actor(Protocol):
    """Whoever proposes thoughts and replies."""

    def open(self, plan: RolloutPlan, lanes: int, key: jax.Array) -> HostedGames:
        """Games of a plan that it can reply in, so many side by side; its seats are those of `API`."""

    def propose(self, games: Any, turns: Sequence[Turn], count: int) -> list[list[Thought]]:
        """So many thoughts for each of the replies that are due, all of which begin with a thought.

        The first one is that which the actor would have had by itself. An actor whose thoughts may fail to come gives
        fewer; where none came the turn is lost, and `act` has a scripted player reply.
        """

    def rate(self, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> list[list[float]]:
        """How highly it rates each of its thoughts, comparable among those of one turn."""

    def act(self, games: Any, turns: Sequence[Turn], thoughts: Sequence[Thought | None]) -> None:
        """Replies for the turns after a thought each; None: as it would by itself."""


class PolicyActor:
    """A policy of ours, batched on the device."""

    def __init__(self, table: Table, params: Any, temperature: float = 1.0):
        """Prepares the actor.

        Args:
          table: the game laid out for the policy.
          params: its parameters.
          temperature: of sampling.
        """
        self._table, self._params, self._temperature = table, params, temperature
        self._capacity = table.stream_capacity(0, "refuse")

    def open(self, plan: RolloutPlan, lanes: int, key: jax.Array) -> ThinkingGames:
        """See `Actor`; the plan's seats of `LEARNER` are played by the policy without being asked."""
        return ThinkingGames(self._table, self._capacity, lanes, plan, key, self._params, self._temperature)

    def propose(self, games: ThinkingGames, turns: Sequence[Turn], count: int) -> list[list[Thought]]:
        """See `Actor`; thoughts are sampled."""
        decode = self._table.tokenizer.decode
        return [
            [Thought(decode(list(each.tokens)).strip(), each.tokens, each) for each in sampled]
            for sampled in games.propose(turns, count)
        ]

    def rate(self, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> list[list[float]]:
        """See `Actor`: by their log-probability."""
        return [[sum(thought.source.log_probs) for thought in thoughts] for thoughts in proposed]

    def act(self, games: ThinkingGames, turns: Sequence[Turn], thoughts: Sequence[Thought | None]) -> None:
        """See `Actor`."""
        games.go_on(turns, [_of_policy(thought) for thought in thoughts])


def _of_policy(thought: Thought | None) -> SampledThought | Sequence[int] | None:
    if thought is None:
        return None
    return thought.source if thought.is_own else thought.tokens


class ScriptedActor:
    """A scripted player, whose thoughts are its plans.

    It proposes the plans of actions that it draws, and follows a plan by the action that was drawn for it: the chance
    of an action after a plan is then that of the player, given that its action serves the plan.
    """

    def __init__(self, table: Table, player: str):
        """Prepares the actor.

        Args:
          table: the game laid out for any tokenizer.
          player: `heuristic` or `random`.

        Raises:
          GameError: the game has no plans.
        """
        plans = table.plans
        if plans is None:
            raise GameError(f"scripted players of {table.spec.name} have no plans that could be proposed as thoughts")
        self._table, self._capacity = table, table.stream_capacity(0, "refuse")
        self._tokens = [tuple(table.tokenizer.encode(text)[: table.spec.thought_tokens]) for text in plans.texts]
        self._texts = [table.tokenizer.decode(list(tokens)).strip() for tokens in self._tokens]
        drawn_by = table.heuristic if player == "heuristic" else random_legal

        def draw(plan: RolloutPlan, root: jax.Array, lanes: LaneState, number: jax.Array) -> tuple:
            """The number-th action int32[L] in each lane, and its plan int32[L]."""
            views = jax.vmap(lambda game: view_of_actor(table.game, game))(lanes.game)
            episode = plan.episode[jnp.minimum(lanes.slot, plan.episode.shape[0] - 1)]
            keys = purpose_key(jax.random.fold_in(root, number), PLAN, episode, lanes.game.step)
            action = jax.vmap(drawn_by)(views, keys)
            return action, jax.vmap(plans.of)(views, action)

        self._draw = jax.jit(jax.vmap(draw, in_axes=(None, None, None, 0)))

    def open(self, plan: RolloutPlan, lanes: int, key: jax.Array) -> HostedGames:
        """See `Actor`."""
        return HostedGames(self._table, self._capacity, lanes, plan, key)

    def propose(self, games: HostedGames, turns: Sequence[Turn], count: int) -> list[list[Thought]]:
        """See `Actor`."""
        drawn = games.look(lambda plan, key, lanes: self._draw(plan, key, lanes, jnp.arange(count)))
        action, plan = (np.asarray(array)[:, [turn.lane for turn in turns]].T.tolist() for array in drawn)
        return [
            [Thought(self._texts[plans[n]], self._tokens[plans[n]], source=actions[n]) for n in range(count)]
            for actions, plans in zip(action, plan, strict=True)
        ]

    def rate(self, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> list[list[float]]:
        """See `Actor`: it finds all of its plans equally good."""
        return [[0.0] * len(thoughts) for thoughts in proposed]

    def act(self, games: HostedGames, turns: Sequence[Turn], thoughts: Sequence[Thought | None]) -> None:
        """See `Actor`; a thought that is none of its proposals is written down, and followed by what it would do."""
        undecided = [turn for turn, thought in zip(turns, thoughts, strict=True) if not thought or not thought.is_own]
        drawn = iter(self.propose(games, undecided, 1) if undecided else ())
        replies = {}
        for turn, thought in zip(turns, thoughts, strict=True):
            action = thought.source if thought and thought.is_own else None
            if action is None:
                [own] = next(drawn)
                action, thought = own.source, thought or own
            assert thought
            replies[turn.lane] = Reply(action, self._table.scripted_speech(action), thought.tokens)
        games.reply(replies)
