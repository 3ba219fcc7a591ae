"""Which goal other words mean: against plain loops, with an embedder that knows and with those that do not."""

import math

import numpy as np
import pytest

from games.goals import goals_of
from games.registry import make
from maro_jax.pnlc.embedders import embedder_of
from maro_jax.pnlc.medoids import REFUSED, Vicinity, directions
from maro_jax.pnlc.recognition import recognised
from maro_jax.run.fields import ConfigError


def meanings(knows: float, goals: int = 12, size: int = 16, wordings: int = 3) -> list[np.ndarray]:
    """Wordings of goals that share as much as the embedder knows, each of a length of its own."""
    rng = np.random.default_rng(3)
    meaning = rng.normal(size=(goals, 1, size))
    found = knows * meaning + rng.normal(size=(goals, wordings, size))
    return list((found * rng.uniform(0.1, 9, (goals, wordings, 1))).astype(np.float32))


def test_an_embedder_that_knows_meanings_may_refine_and_one_that_does_not_may_not():
    vicinity, found = recognised(meanings(knows=4), None, 0)
    assert found.wordings == 36 and found.found > 0.8 and found.mistaken < 0.2 < found.low and found.may_refine
    found.require_refinement()
    assert vicinity.nearest(np.concatenate(meanings(knows=4))).tolist() == np.repeat(np.arange(12), 3).tolist()
    _, blind = recognised(meanings(knows=0), None, 0)
    assert blind.found < 0.1 and blind.mistaken == pytest.approx(0.1, abs=0.05) and not blind.may_refine
    with pytest.raises(ConfigError, match=r"may not refine.* of 36 wordings .* \(95 %\), all of which must be above 0"):
        blind.require_refinement()


@pytest.mark.parametrize("medoids", [0, 3])
def test_shares_are_those_of_plain_loops(medoids):
    """Goals with two to four wordings; medoids take texts within their reach away from goals."""
    rng = np.random.default_rng(5)
    wordings = [each[: 2 + goal % 3] for goal, each in enumerate(meanings(knows=2, goals=9, size=5, wordings=4))]
    further = Vicinity(directions(rng.normal(size=(3, 5))), np.array([0.3, 0.6, 0.9], np.float32))
    vicinity, found = recognised(wordings, further if medoids else None, 0)
    assert len(vicinity.point) == len(vicinity.reach) == 9 + medoids

    def distance(one, other):
        return math.sqrt(2 - 2 * float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other)))

    tries = []
    for goal, of_goal in enumerate(wordings):
        for number, text in enumerate(of_goal):
            left = [np.mean([w for n, w in enumerate(each) if n != number], axis=0) for each in wordings]
            to_goals = [distance(text, point) for point in left]
            tries.append((goal, to_goals, [distance(text, point) for point in further.point[:medoids]]))
    reach = np.quantile([min(d for g, d in enumerate(to) if g != goal) for goal, to, _ in tries], 0.1)
    assert vicinity.reach[:9] == pytest.approx(reach, abs=1e-5)
    right, wrong = 0, 0
    for goal, to_goals, to_medoids in tries:
        near_medoid = min(to_medoids, default=math.inf)
        right += min(range(9), key=to_goals.__getitem__) == goal and to_goals[goal] <= min(reach, near_medoid)
        other = min(d for g, d in enumerate(to_goals) if g != goal)
        within = bool(to_medoids) and near_medoid <= further.reach[int(np.argmin(to_medoids))]
        wrong += other <= reach if other <= near_medoid else within
    assert (found.found, found.mistaken) == (right / len(tries), wrong / len(tries))


def test_a_goal_that_is_alone_reaches_no_text():
    [alone] = meanings(knows=4, goals=1)
    vicinity, found = recognised([alone], None, 0)
    assert vicinity.nearest(2 + alone).tolist() == [REFUSED] * 3 and not found.may_refine


def test_words_refuse_what_is_of_another_game_and_may_not_refine():
    """Other words for the same are strangers to them, as all others are."""
    embedder = embedder_of("words:512")
    goals, others = (
        [embedder.embed(goal.texts) for goal in goals_of(make(name, thought_tokens=12).spec)]
        for name in ("werewolf-v0", "shopping-v0")
    )
    vicinity, found = recognised(goals, None, 0)
    assert np.mean(vicinity.nearest(np.concatenate(others)) == REFUSED) > 0.8
    assert found.found < 0.1 and not found.may_refine
