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
| self_refine | the same after reading what the actor itself expects of it: a control |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from string import Template
from typing import Any, Protocol

import numpy as np

from maro_jax.pnlc.actors import NO_THOUGHT, Actor, Thought
from maro_jax.pnlc.critic import Guide, in_words
from maro_jax.pnlc.prompts import ThoughtPrompts
from maro_jax.selfplay.hosted import Turn

Scores = Sequence[Sequence[float]]
# What each of the thoughts proposed for each turn is worth; every turn has one, and some may have more than others.
Score = Callable[[Any, Sequence[Turn], Sequence[Sequence[Thought]]], Scores]
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
        thinking, proposed = _proposed(self.actor, games, turns, self.count)
        chosen: dict[int, Thought] = {}
        if thinking:
            scores = self.score(games, thinking, proposed)
            chosen = {
                turn.lane: thoughts[int(np.argmax(row))]
                for turn, thoughts, row in zip(thinking, proposed, scores, strict=True)
            }
        self.actor.act(games, turns, [chosen.get(turn.lane) for turn in turns])


def _proposed(
    actor: Actor, games: Any, turns: Sequence[Turn], count: int
) -> tuple[list[Turn], list[Sequence[Thought]]]:
    """The turns that have a thought, and their thoughts; those for which none came are lost to the actor."""
    thinking = [turn for turn in turns if games.thought_budget(turn)]
    proposed = actor.propose(games, thinking, count) if thinking else []
    found = [(turn, thoughts) for turn, thoughts in zip(thinking, proposed, strict=True) if thoughts]
    return [turn for turn, _ in found], [thoughts for _, thoughts in found]


def as_proposed(games: Any, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> Scores:
    """The same for all: the first thought, which is the actor's own."""
    return [[0.0] * len(thoughts) for thoughts in proposed]


def by_own_rating(actor: Actor) -> Score:
    """What the actor itself thinks of its thoughts."""

    def score(games: Any, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> Scores:
        return actor.rate(turns, proposed)

    return score


def at_random(seed: int) -> Score:
    """Uniform numbers, which depend on episode and decision only."""

    def score(games: Any, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> Scores:
        return [
            _chance(seed, games, turn).random(len(thoughts)).tolist()
            for turn, thoughts in zip(turns, proposed, strict=True)
        ]

    return score


def by_critic(guide: Guide, state_of: StateOf) -> Score:
    """What the critic expects after each thought; 0 where all thoughts of a turn are equal, and there is no choice.

    Args:
      guide: the critic.
      state_of: the text of all that an actor has seen.
    """

    def score(games: Any, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> Scores:
        texts = [[thought.text for thought in thoughts] for thoughts in proposed]
        found = [[0.0] * len(some) for some in texts]
        if open_to := [row for row, some in enumerate(texts) if len(set(some)) > 1]:
            most = max(len(texts[row]) for row in open_to)
            # All turns are scored by one call: one with fewer thoughts repeats its first one, which is then cut off.
            filled = [[*texts[row], *[texts[row][0]] * (most - len(texts[row]))] for row in open_to]
            scores = guide.scores(guide.chances([state_of(turns[row]) for row in open_to], filled))
            for row, of_row in zip(open_to, scores, strict=True):
                found[row] = of_row[: len(texts[row])].tolist()
        return found

    return score


def shuffled(score: Score, seed: int) -> Score:
    """The scores of each turn's thoughts, dealt to these thoughts by chance."""

    def dealt(games: Any, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> Scores:
        scores = score(games, turns, proposed)
        return [_chance(seed, games, turn).permutation(row).tolist() for turn, row in zip(turns, scores, strict=True)]

    return dealt


def _chance(seed: int, games: Any, turn: Turn) -> np.random.Generator:
    return np.random.default_rng([seed, games.number_of(turn), turn.decision])


class Rewriter(Actor, Protocol):
    """An actor that can put futures and better thoughts into words."""

    def imagine(self, turns: Sequence[Turn], thoughts: Sequence[Thought]) -> list[list[str]]:
        """What may come of each thought, hoped for or feared."""

    def expect(
        self, turns: Sequence[Turn], thoughts: Sequence[Thought], futures: Sequence[Sequence[str]]
    ) -> list[list[float | None]]:
        """The chances that it gives some futures of each thought itself, None where it gives none."""

    def refine(
        self, turns: Sequence[Turn], thoughts: Sequence[Thought], likelihoods: Sequence[str], prompt: Template
    ) -> list[Thought]:
        """A thought in the place of each, after reading how likely what is, put as a prompt says."""


# The chances of some futures after each thought, None for what nothing is known of.
Expect = Callable[[Sequence[Turn], Sequence[Thought], Sequence[Sequence[str]]], Sequence[Sequence[float | None]]]


def critics_likelihoods(guide: Guide, state_of: StateOf) -> Expect:
    """What the critic expects.

    Args:
      guide: the critic.
      state_of: the text of all that an actor has seen.

    Raises:
      ConfigError: the critic's embedder does not know its goals in other words.
    """
    guide.require_refinement()

    def expect(
        turns: Sequence[Turn], thoughts: Sequence[Thought], futures: Sequence[Sequence[str]]
    ) -> list[list[float | None]]:
        return [
            guide.likelihoods(state_of(turn), thought.text, some)
            for turn, thought, some in zip(turns, thoughts, futures, strict=True)
        ]

    return expect


@dataclasses.dataclass(frozen=True)
class Refine:
    """A thought that the actor rewrites after reading how likely are the futures that it imagines (the paper's way).

    Attributes:
      actor: thinks, imagines, rewrites and replies.
      expect: who says how likely they are.
      prompts: how chances are said.
      prompt: asks for another thought.
      rounds: most times that a thought is rewritten; fewer once all thoughts stay as they are.
    """

    actor: Rewriter
    expect: Expect
    prompts: ThoughtPrompts
    prompt: Template
    rounds: int

    def decide(self, games: Any, turns: Sequence[Turn]) -> None:
        """See `Agent`; where a phase has no thoughts, the actor replies by itself."""
        thinking, proposed = _proposed(self.actor, games, turns, 1)
        thoughts = [first for [first] in proposed]
        open_turns = list(range(len(thinking)))
        for _ in range(self.rounds):
            if not open_turns:
                break
            asked, old = [thinking[index] for index in open_turns], [thoughts[index] for index in open_turns]
            futures = self.actor.imagine(asked, old)
            chances = self.expect(asked, old, futures)
            new = self.actor.refine(asked, old, list(map(self._words, futures, chances)), self.prompt)
            for index, thought in zip(open_turns, new, strict=True):
                thoughts[index] = thought
            open_turns = [
                index for index, before, after in zip(open_turns, old, new, strict=True) if before.text != after.text
            ]
        chosen = {turn.lane: thought for turn, thought in zip(thinking, thoughts, strict=True)}
        self.actor.act(games, turns, [chosen.get(turn.lane) for turn in turns])

    def _words(self, futures: Sequence[str], chances: Sequence[float | None]) -> str:
        return in_words(self.prompts.likelihood, futures, chances, self.prompts.unknown)
