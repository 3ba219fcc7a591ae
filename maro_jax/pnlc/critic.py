"""A critic at play: texts in, chances out; what a thought is worth, and how that is said in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import Template

import jax
import numpy as np

from maro_jax.pnlc.embedders import Embedder
from maro_jax.pnlc.medoids import REFUSED, Vicinity, directions
from maro_jax.pnlc.networks import Critic
from maro_jax.pnlc.storage import SavedCritic
from maro_jax.run.fields import ConfigError

MOST_REMEMBERED = 1 << 16  # embeddings of thoughts, of which scripted and small players have few
ROWS_ON_HOST = 1024  # of thought and goal: with more the device is faster


class Guide:
    """Tells how thoughts will turn out.

    Attributes:
      goals: the text of each of the G goals.
      utilities: float32[G], what reaching each goal is worth.
    """

    goals: tuple[str, ...]
    utilities: np.ndarray

    def __init__(self, saved: SavedCritic, embedder: Embedder, *, whatever_it_knows: bool = False):
        """Prepares the critic.

        Args:
          saved: the critic with its goals.
          embedder: the one that it was trained with.
          whatever_it_knows: let it guide though held-out episodes did not show that the thought tells it anything, and
            tell chances in words though its embedder does not know goals in other words.

        Raises:
          ConfigError: it may not guide.
        """
        if not whatever_it_knows:
            saved.calibration.require_guidance()
        self.goals, self.utilities = saved.goals, np.asarray(saved.utilities, np.float32)
        self._critic, self._embedder = saved.critic, embedder
        self._vicinity = Vicinity(directions(np.asarray(saved.critic.goal)), np.asarray(saved.reach, np.float32))
        self._recognition, self._whatever_it_knows = saved.recognition, whatever_it_knows
        self._on_host = saved.critic.on_host()
        self._remembered: dict[str, np.ndarray] = {}
        self._products: dict[str, np.ndarray] = {}

    def chances(self, states: Sequence[str], thoughts: Sequence[Sequence[str]]) -> np.ndarray:
        """float32[n, k, G], the chance of each goal after each thought.

        Args:
          states: n texts, all that each actor has seen.
          thoughts: k for each of them.
        """
        state = np.asarray(self._embedder.embed(list(states)), np.float32)
        pairs = dict.fromkeys((row, text) for row, some in enumerate(thoughts) for text in some)
        if len(pairs) * len(self.goals) > ROWS_ON_HOST:
            return self._many(state, thoughts)
        few = dict(zip(pairs, self._few(state, list(pairs)), strict=True))  # equal thoughts tie exactly
        return np.stack([np.stack([few[row, text] for text in some]) for row, some in enumerate(thoughts)])

    def scores(self, chances: np.ndarray) -> np.ndarray:
        """float32[...], what is to be expected: the sum over goals of utility · chance, for chances [..., G]."""
        return (chances * self.utilities).sum(axis=-1)  # not by a product of matrices, whose rows are rounded by place

    def require_refinement(self) -> None:
        """Raises `ConfigError` where the critic may not tell the chances of futures in any words."""
        if not self._recognition:
            raise ConfigError(
                "this critic cannot refine: it was stored before its embedder was tried on other words for its goals; "
                "train it anew, or leave refine out"
            )
        if not self._whatever_it_knows:
            self._recognition.require_refinement()

    def likelihoods(self, state: str, thought: str, futures: Sequence[str]) -> list[float | None]:
        """The chance of each imagined future: that of the goal nearest to it, None for what is like no goal
        (farther from it than the critic's `reach`).

        Args:
          state: all that the actor has seen.
          thought: what it means to do.
          futures: texts.
        """
        if not futures:
            return []
        chance = self.chances([state], [[thought]])[0, 0]
        nearest = self._vicinity.nearest(np.asarray(self._embedder.embed(list(futures)), np.float32))
        return [None if index == REFUSED else float(chance[index]) for index in nearest]

    def _few(self, state: np.ndarray, pairs: Sequence[tuple[int, str]]) -> np.ndarray:
        """float32[p, G], of pairs of a row of `state [n, d]` and a thought; without the device."""
        rows, texts = zip(*pairs, strict=True)
        thought = _recalled(self._products, texts, lambda new: self._on_host.thoughts(self._embedded(new)))
        return self._on_host.chances(self._on_host.states(state)[list(rows)], thought)

    def _many(self, state: np.ndarray, thoughts: Sequence[Sequence[str]]) -> np.ndarray:
        """float32[n, k, G], on the device."""
        thought = self._embedded([text for some in thoughts for text in some]).reshape(len(state), -1, state.shape[1])
        rows = 1 << (len(state) - 1).bit_length()  # few sizes, so that few programs are compiled
        padded = (np.pad(array, ((0, rows - len(state)), (0, 0), (0, 0))) for array in (state[:, None], thought))
        chances = np.asarray(_chances(self._critic, *padded))[: len(state)]
        first = np.array([[list(some).index(text) for text in some] for some in thoughts])
        return np.take_along_axis(chances, first[:, :, None], axis=1)  # equal thoughts tie exactly

    def _embedded(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, d]; each text is embedded once."""
        return _recalled(self._remembered, texts, lambda new: np.asarray(self._embedder.embed(new), np.float32))


def _recalled(
    memory: dict[str, np.ndarray], texts: Sequence[str], make: Callable[[list[str]], np.ndarray]
) -> np.ndarray:
    """What `make` makes of texts, a row each; of each text once, as long as there is room."""
    new = [text for text in dict.fromkeys(texts) if text not in memory]
    if len(memory) + len(new) > MOST_REMEMBERED:
        memory.clear()
        new = list(dict.fromkeys(texts))
    if new:
        memory.update(zip(new, make(new), strict=True))
    return np.stack([memory[text] for text in texts])


@jax.jit
def _chances(critic: Critic, state: jax.Array, thought: jax.Array) -> jax.Array:
    """See `Critic.q`; in one dispatch."""
    return critic.q(state, thought)


def in_words(template: Template, goals: Sequence[str], chances: Sequence[float | None], unknown: Template) -> str:
    """Goals with their likelihood, a line each.

    Args:
      template: of a line: `$goal`, `$percent`.
      goals: texts.
      chances: of each; None where nothing is known of it.
      unknown: of such a line: `$goal`.
    """
    return "\n".join(
        unknown.substitute(goal=goal) if chance is None else template.substitute(goal=goal, percent=round(100 * chance))
        for goal, chance in zip(goals, chances, strict=True)
    )
