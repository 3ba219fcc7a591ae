"""The table of pairings tells how often each side won."""

import numpy as np
import pytest

from games.kuhn import Kuhn
from tests.benchmarks import pairings


def test_the_sides_of_a_zero_sum_game_never_win_together_and_a_sensible_player_gains():
    wins = [pairings.side_wins(Kuhn(), held, 600, seed=0, batch=300) for held in ((0, 0), (1, 0))]
    assert all(won.shape == (600, 2) and np.array_equal(won.sum(axis=1), np.ones(600)) for won in wins)
    assert wins[1][:, 0].mean() != wins[0][:, 0].mean()


def test_all_pairings_are_printed(capsys: pytest.CaptureFixture[str]):
    pairings.main(["kuhn-v0", "--games=50"])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["first", "second"]
    assert [tuple(row.split()[:2]) for row in rows] == [
        ("random", "random"), ("random", "heuristic"), ("heuristic", "random"), ("heuristic", "heuristic"),
    ]  # fmt: skip
