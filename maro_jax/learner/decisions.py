"""What the learner knows of a run's games: their label tries in one set of tables, so that one program serves all."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from maro_jax.policy.decoder import Policy
from maro_jax.selfplay.table import Table


@dataclasses.dataclass(frozen=True, eq=False)
class Decisions:
    """Label tries and phases of G games, one game's after the other's.

    Attributes:
      tables: the games, all laid out for one policy.
      child_tokens: int32[nodes, C], as in `Grammar`.
      child_nodes: int32[nodes, C], as in `Grammar`.
      under: bool[nodes, A], as in `Grammar`; A is the most labels of any game.
      first_node: G numbers, where each game's nodes begin.
      first_phase: G numbers, where each game's phases begin.
      num_phases: P, of all games.
    """

    tables: tuple[Table, ...]
    child_tokens: np.ndarray
    child_nodes: np.ndarray
    under: np.ndarray
    first_node: tuple[int, ...]
    first_phase: tuple[int, ...]
    num_phases: int

    @staticmethod
    def of(tables: Sequence[Table]) -> Decisions:
        """Joins the games' tables."""
        grammars = [table.grammar for table in tables]
        first_node = _starts([len(grammar.depth) for grammar in grammars])
        first_phase = _starts([len(table.spec.phases) for table in tables])
        children = max(grammar.child_tokens.shape[1] for grammar in grammars)
        labels = max(grammar.under.shape[1] for grammar in grammars)
        nodes = [
            np.where(grammar.child_nodes < 0, -1, grammar.child_nodes + first)
            for grammar, first in zip(grammars, first_node, strict=False)
        ]
        return Decisions(
            tables=tuple(tables),
            child_tokens=np.concatenate([_widen(grammar.child_tokens, children, 0) for grammar in grammars]),
            child_nodes=np.concatenate([_widen(part, children, -1) for part in nodes]).astype(np.int32),
            under=np.concatenate([_widen(grammar.under, labels, False) for grammar in grammars]),
            first_node=first_node[:-1],
            first_phase=first_phase[:-1],
            num_phases=first_phase[-1],
        )

    @property
    def policy(self) -> Policy:
        """The policy that plays all games."""
        return self.tables[0].policy

    @property
    def num_actions(self) -> int:
        """A, the most labels of any game."""
        return self.under.shape[1]

    @functools.cached_property
    def choice_tokens(self) -> np.ndarray:
        """int32[K], rising: the tokens that players can choose in any game; all of them where any has free text."""
        if self.free_text:
            return np.arange(self.policy.config.vocab_size, dtype=np.int32)
        return np.unique(self.child_tokens[self.child_nodes >= 0]).astype(np.int32)

    @property
    def free_text(self) -> bool:
        """Whether any game has thoughts or speeches."""
        return any(table.spec.thought_tokens + table.spec.speech_tokens for table in self.tables)


def _starts(sizes: list[int]) -> tuple[int, ...]:
    """Where each part begins, and the end of the last one."""
    return (0, *np.cumsum(sizes).tolist())


def _widen(table: np.ndarray, width: int, value: int) -> np.ndarray:
    return np.pad(table, ((0, 0), (0, width - table.shape[1])), constant_values=value)
