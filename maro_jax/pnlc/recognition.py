"""Which goal other words mean, and whether an embedder can tell at all.

One wording of every goal is left out at a time, and what remains stands for the goals. A wording that was left out is a
text in words nobody gave: it should be taken for its own goal, and for none once its own is taken away. What is left
out of one goal is left out of all, since goals of a game share turns of phrase ("I get $0.50 or more").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from maro_jax.pnlc.calibration import bootstrap
from maro_jax.pnlc.medoids import REFUSED, Vicinity, directions, nearest
from maro_jax.run.fields import ConfigError

STRANGERS = 0.1  # share of the wordings without their goal that lie within the reach of another
RESAMPLES, CONFIDENCE = 2000, 0.95


@dataclasses.dataclass(frozen=True)
class Recognition:
    """How an embedder took wordings that were left out.

    Attributes:
      wordings: how many there were.
      found: share that was taken for its own goal.
      mistaken: share that was taken for any goal or medoid once its own goal was taken away.
      low, high: the bootstrap interval of found − mistaken, over goals. To refuse every text scores 0.
      confidence: of the interval.
    """

    wordings: int
    found: float
    mistaken: float
    low: float
    high: float
    confidence: float

    @property
    def in_words(self) -> str:
        """What was measured, for people."""
        return (
            f"of {self.wordings} wordings of goals, left out in turn, {100 * self.found:.0f} % are taken for their own "
            f"goal, and {100 * self.mistaken:.0f} % for another where their own is taken away: "
            f"{self.found - self.mistaken:+.2f} [{self.low:+.2f}, {self.high:+.2f}] ({100 * self.confidence:g} %)"
        )

    @property
    def may_refine(self) -> bool:
        """Whether the whole interval is above what it scores to refuse every text."""
        return self.low > 0

    def require_refinement(self) -> None:
        """Raises `ConfigError` for an embedder that does not know goals in other words."""
        if not self.may_refine:
            raise ConfigError(
                f"this critic may not refine, since its embedder does not know goals in other words: {self.in_words}, "
                "all of which must be above 0; train it with one that does, for example --embedder=sentence:FOLDER or "
                "api:MODEL"
            )


def recognised(wordings: Sequence[np.ndarray], medoids: Vicinity | None, seed: int) -> tuple[Vicinity, Recognition]:
    """Finds out how far around goals a text is theirs, and how well that tells texts apart.

    The reach is the same for all goals, and such that one in ten wordings without their goal is within that of another.
    A goal that is alone reaches no text, since nothing tells how far it should.

    Args:
      wordings: of each of G goals the embeddings float32[n, d] of two texts or more.
      medoids: K further goals, if there are any.
      seed: of the bootstrap.

    Returns:
      The vicinity of the G goals and of the K medoids after them, and how wordings that were left out were taken.
    """
    points = directions(np.stack([each.mean(axis=0) for each in wordings]))
    further = medoids or Vicinity(points[:0], np.zeros(0, np.float32))
    tries = list(_left_out(wordings))
    if len(wordings) == 1:
        return _around(points, 0, further), Recognition(len(tries), 0, 0, 0, 0, CONFIDENCE)
    strangers = [nearest(text, np.delete(left, goal, axis=0))[1] for goal, text, left in tries]
    reach = float(np.quantile(strangers, STRANGERS))
    found = np.array([_around(left, reach, further).nearest(text)[0] == goal for goal, text, left in tries])
    mistaken = np.array([
        _around(np.delete(left, goal, axis=0), reach, further).nearest(text)[0] != REFUSED for goal, text, left in tries
    ])  # fmt: skip
    of_goal = np.array([goal for goal, _, _ in tries])
    low, high = bootstrap(found.astype(float) - mistaken, of_goal, RESAMPLES, CONFIDENCE, seed)
    measured = Recognition(len(tries), float(found.mean()), float(mistaken.mean()), low, high, CONFIDENCE)
    return _around(points, reach, further), measured


def _left_out(wordings: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Of each wording its goal, its direction [1, d], and those [G, d] of all goals without a wording each."""
    for number in range(max(map(len, wordings))):
        left = directions(np.stack([each[np.arange(len(each)) != number].mean(axis=0) for each in wordings]))
        for goal, each in enumerate(wordings):
            if number < len(each):
                yield goal, directions(each[number : number + 1]), left


def _around(points: np.ndarray, reach: float, further: Vicinity) -> Vicinity:
    """The points with this reach, and the further ones with theirs."""
    reaches = np.full(len(points), reach, np.float32)
    return Vicinity(np.concatenate([points, further.point]), np.concatenate([reaches, further.reach]))
