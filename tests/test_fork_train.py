"""Training with other replies tried for some behaviours, as a person starts it."""

import pytest

from tests.entry_points import assert_equal, checkpoint, metrics, small_config, train_quietly, train_until

pytestmark = pytest.mark.usefixtures("kept_programs")


def forking_config(folder):
    """A warm-start iteration and two of self-play in Kuhn poker, with 24 branches each."""
    forks = {"decompose": "fork_dr", "fork_behaviours": 6, "fork_pairs": 2}
    return small_config(folder, games="kuhn-v0", warm_start_games=16, eval_every=0, final_games=8, **forks)


@pytest.mark.slow
def test_a_run_with_forks_interrupted_ends_where_the_straight_one_does_and_tells_what_they_cost(tmp_path):
    summary, lines = train_quietly(forking_config(tmp_path / "straight"))
    train_until(forking_config(tmp_path / "cut"), 2)
    train_quietly(forking_config(tmp_path / "cut"))
    assert_equal(*(checkpoint(tmp_path / name, 3) for name in ("straight", "cut")))
    assert metrics(tmp_path / "straight") == metrics(tmp_path / "cut")

    first, *others = metrics(tmp_path / "straight")
    assert "forked_tokens" not in first and len(others) == 2
    for row in others:
        assert row["forked_behaviours"] == 6 and 0 < row["forked_share"] < 1
    told = summary["forks"]
    assert told["forked_tokens"] == sum(row["forked_tokens"] for row in others) and told["fork_seconds"] > 0
    said = f"forks: {told['forked_tokens']:.0f} tokens generated beside the games"
    assert any(line.startswith(said) for line in lines)
    assert any("fork_dr / role / role_label / kto; 6 behaviours forked, 4 games each" in line for line in lines)
