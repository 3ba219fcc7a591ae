"""The figures that a terminal's table shows."""

from maro_jax.league.report import sections


def test_figures_of_every_game_are_found_and_ends_of_intervals_left_out():
    report = {"loss": 1.0, "mfu": 0.2, "win_rate": 0.6, "win_rate_low": 0.5, "win_rate_high": 0.7, "truncated": 0.0}
    report |= {"kuhn-v0/mirror_win_rate/first": 0.4, "kuhn-v0/play/bluffs": 0.3, "opponent_win_rate": 0.45}
    shown = sections(report, warm=False)
    assert {title: list(figures) for title, figures in shown.items()} == {
        "play": ["win_rate", "kuhn-v0/mirror_win_rate/first", "kuhn-v0/play/bluffs", "opponent_win_rate"],
        "learning": ["loss"],
        "speed": ["mfu"],
    }
    assert sections(report, warm=True) == {"warm start": {"loss": 1.0}}
