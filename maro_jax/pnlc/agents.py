"""Agents: which thought an actor follows.

| agent | what it does |
|---|---|
| plain | the actor's own reply |
| no_thought | the reply after an empty thought |
| react | a thought, then the reply after it (Yao et al. 2023) |
| self_rated | of n thoughts the one that the actor itself rates highest |
| random | of n thoughts any: a control |
| shuffled | of n thoughts one by the critic's scores, dealt to the thoughts by chance: a control |
| rerank | of n thoughts the one of which the critic expects most |
| refine | a thought that the actor has rewritten after reading what the critic says of it |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from maro_jax.pnlc.actors import NO_THOUGHT, Actor, Thought
from maro_jax.pnlc.critic import Guide, in_words
from maro_jax.pnlc.prompts import ThoughtPrompts
from maro_jax.selfplay.hosted import Turn

# float[turns, n]: what each of the thoughts proposed for each turn is worth.
Score = Callable[[Any, Sequence[Turn], Sequence[Sequence[Thought]]], np.ndarray]
StateOf = Callable[[Turn], str]


class Agent(Protocol):
    """Whoever replies in hosted games."""

    def decide(self, games: Any, turns: Sequence[Turn]) -> None:
        """Replies for all turns that are due."""


@dataclasses.dataclass(frozen=True)
class Plain:
    """The actor's own reply.

    Attributes:
      actor: who replies.
    """

    actor: Actor

    def decide(self, games: Any, turns: Sequence[Turn]) -> None:
        """See `Agent`."""
        self.actor.act(games, turns, [None] * len(turns))


@dataclasses.dataclass(frozen=True)
class Unthinking:
    """The reply after an empty thought.

    Attributes:
      actor: who replies.
    """

    actor: Actor

    def decide(self, games: Any, turns: Sequence[Turn]) -> None:
        """See `Agent`."""
        self.actor.act(games, turns, [NO_THOUGHT if games.thought_budget(turn) else None for turn in turns])


@dataclasses.dataclass(frozen=True)
class BestOf:
    """Of several thoughts the one with the highest score, the first of equals.

    Attributes:
      actor: proposes and replies.
      count: thoughts proposed for each reply.
      score: of thoughts.
    """

    actor: Actor
    count: int
    score: Score

    def decide(self, games: Any, turns: Sequence[Turn]) -> None:
        """See `Agent`; where a phase has no thoughts, the actor replies by itself."""
        thinking = [turn for turn in turns if games.thought_budget(turn)]
        chosen: dict[int, Thought] = {}
        if thinking:
            proposed = self.actor.propose(games, thinking, self.count)
            best = self.score(games, thinking, proposed).argmax(axis=1)
            chosen = {
                turn.lane: thoughts[index] for turn, thoughts, index in zip(thinking, proposed, best, strict=True)
            }
        self.actor.act(games, turns, [chosen.get(turn.lane) for turn in turns])


def as_proposed(games: Any, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> np.ndarray:
    """The same for all: the first thought, which is the actor's own."""
    return np.zeros((len(turns), len(proposed[0])))


def by_own_rating(actor: Actor) -> Score:
    """What the actor itself thinks of its thoughts."""

    def score(games: Any, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> np.ndarray:
        return np.array(actor.rate(turns, proposed))

    return score


def at_random(seed: int) -> Score:
    """Uniform numbers, which depend on episode and decision only."""

    def score(games: Any, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> np.ndarray:
        return np.stack([
            _chance(seed, games, turn).random(len(thoughts)) for turn, thoughts in zip(turns, proposed, strict=True)
        ])  # fmt: skip

    return score


def by_critic(guide: Guide, state_of: StateOf) -> Score:
    """What the critic expects after each thought.

    Args:
      guide: the critic.
      state_of: the text of all that an actor has seen.
    """

    def score(games: Any, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> np.ndarray:
        texts = [[thought.text for thought in thoughts] for thoughts in proposed]
        return guide.scores(guide.chances([state_of(turn) for turn in turns], texts))

    return score


def shuffled(score: Score, seed: int) -> Score:
    """The scores of each turn's thoughts, dealt to these thoughts by chance."""

    def dealt(games: Any, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> np.ndarray:
        scores = score(games, turns, proposed)
        return np.stack([
            _chance(seed, games, turn).permutation(row) for turn, row in zip(turns, scores, strict=True)
        ])  # fmt: skip

    return dealt


def _chance(seed: int, games: Any, turn: Turn) -> np.random.Generator:
    return np.random.default_rng([seed, games.number_of(turn), turn.decision])


class Rewriter(Actor, Protocol):
    """An actor that can put futures and better thoughts into words."""

    def imagine(self, turns: Sequence[Turn], thoughts: Sequence[Thought]) -> list[list[str]]:
        """What may come of each thought, hoped for or feared."""

    def refine(self, turns: Sequence[Turn], thoughts: Sequence[Thought], likelihoods: Sequence[str]) -> list[Thought]:
        """A thought in the place of each, after reading how likely what is."""


@dataclasses.dataclass(frozen=True)
class Refine:
    """A thought that the actor rewrites after reading how likely are the futures that it imagines (the paper's way).

    Attributes:
      actor: thinks, imagines, rewrites and replies.
      guide: the critic.
      state_of: the text of all that an actor has seen.
      prompts: how chances are said.
      rounds: most times that a thought is rewritten; fewer once all thoughts stay as they are.
    """

    actor: Rewriter
    guide: Guide
    state_of: StateOf
    prompts: ThoughtPrompts
    rounds: int

    def decide(self, games: Any, turns: Sequence[Turn]) -> None:
        """See `Agent`; where a phase has no thoughts, the actor replies by itself."""
        thinking = [turn for turn in turns if games.thought_budget(turn)]
        thoughts = [first for [first] in self.actor.propose(games, thinking, 1)] if thinking else []
        states, open_turns = [self.state_of(turn) for turn in thinking], list(range(len(thinking)))
        for _ in range(self.rounds):
            if not open_turns:
                break
            asked, old = [thinking[index] for index in open_turns], [thoughts[index] for index in open_turns]
            words = [
                self._words(states[index], thought, futures)
                for index, thought, futures in zip(open_turns, old, self.actor.imagine(asked, old), strict=True)
            ]
            new = self.actor.refine(asked, old, words)
            for index, thought in zip(open_turns, new, strict=True):
                thoughts[index] = thought
            open_turns = [
                index for index, before, after in zip(open_turns, old, new, strict=True) if before.text != after.text
            ]
        chosen = {turn.lane: thought for turn, thought in zip(thinking, thoughts, strict=True)}
        self.actor.act(games, turns, [chosen.get(turn.lane) for turn in turns])

    def _words(self, state: str, thought: Thought, futures: Sequence[str]) -> str:
        chances = self.guide.likelihoods(state, thought.text, futures)
        return in_words(self.prompts.likelihood, futures, chances, self.prompts.unknown)
