"""Charts of a run's metrics, against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maro_jax.run.curves import MOST_POINTS, WINDOW, charts, final_results, window


def _lines(sections, title):
    [chart] = [chart for section in sections for chart in section["charts"] if chart["title"] == title]
    return {line["name"]: line for line in chart["lines"]}


def _rows(count, **columns):
    return [{"step": step + 1, **{name: values[step] for name, values in columns.items()}} for step in range(count)]


@settings(deadline=None)
@given(count=st.integers(8, 700), seed=st.integers(0, 2**31))
def test_a_band_is_the_middle_of_the_neighbours(count, seed):
    values = np.random.default_rng(seed).normal(size=count)
    line = _lines(charts(_rows(count, entropy=values.tolist()), 0), "Entropy of sampled tokens, nats")["all"]
    assert len(line["x"]) == min(count, MOST_POINTS) and (line["x"][0], line["x"][-1]) == (1, count)
    assert np.all(np.diff(line["x"]) >= 1)
    half = window(count) // 2
    near = [values[max(0, step - 1 - half) : step + half] for step in line["x"]]
    np.testing.assert_allclose(line["y"], values[np.array(line["x"]) - 1], rtol=1e-4)
    np.testing.assert_allclose(line["mean"], [part.mean() for part in near], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(line["low"], [np.quantile(part, 0.1) for part in near], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(line["high"], [np.quantile(part, 0.9) for part in near], rtol=1e-4, atol=1e-9)
    assert str(window(count)) in line["band"]


def test_a_window_is_odd_and_within_its_bounds():
    for count in range(1, 3000):
        assert window(count) % 2 and WINDOW[0] <= window(count) <= WINDOW[1]
    assert (window(50), window(200), window(5000)) == (5, 21, 101)


def test_a_measured_rate_keeps_its_own_interval():
    rows = _rows(20, loss=[1.0] * 20)
    for step, rate in ((5, 0.5), (10, 0.55), (20, 0.625)):
        rows[step - 1] |= {"win_rate": rate, "win_rate_low": rate - 0.03, "win_rate_high": rate + 0.03}
        rows[step - 1] |= {"win_rate/village": rate - 0.2}
    lines = _lines(charts(rows, 0), "Win rate against the warm start")
    assert lines["all"] == {
        "name": "all", "x": [5, 10, 20], "y": [0.5, 0.55, 0.625], "mean": None, "low": [0.47, 0.52, 0.595],
        "high": [0.53, 0.58, 0.655], "band": "95 % interval",
    }  # fmt: skip
    assert (lines["village"]["low"], lines["village"]["band"]) == (None, None)  # three points have no neighbours


def test_cloning_is_shown_apart_from_self_play():
    rows = _rows(6, loss=[3.0, 2.5, 2.0, 18.0, 17.0, 16.0])
    sections = {section["title"]: section["charts"] for section in charts(rows, 3)}
    assert list(sections) == ["Learning", "Cloning, before self-play"]
    assert [[chart["title"] for chart in of] for of in sections.values()] == [["Loss"], ["Loss"]]
    [played], [cloned] = (of[0]["lines"] for of in sections.values())
    assert (played["x"], played["y"], cloned["x"], cloned["y"]) == ([4, 5, 6], [18, 17, 16], [1, 2, 3], [3, 2.5, 2])


def test_every_game_has_charts_of_its_own():
    names = ("win_rate", "werewolf-v0/win_rate", "kuhn-v0/win_rate", "kuhn-v0/mirror_win_rate/first", "kuhn-v0/new")
    sections = charts(_rows(3, **{name: [0.1, 0.2, 0.3] for name in names}), 0)
    titles = [chart["title"] for section in sections for chart in section["charts"]]
    assert titles == [
        "Win rate against the warm start", "Win rate against the warm start: werewolf-v0",
        "Win rate against the warm start: kuhn-v0", "Win rate by side, the learner in every seat: kuhn-v0",
        "new: kuhn-v0",
    ]  # fmt: skip
    assert sections[-1]["title"] == "Everything else"


def test_a_rate_of_zero_is_a_result_beside_another():
    rates = {"mirror_win_rate/good": [0.0] * 3, "mirror_win_rate/evil": [1.0] * 3}
    roles = {"mean_return/percival": [0.0] * 3, "mean_return/merlin": [0.5] * 3}
    sections = charts(_rows(3, **rates, **roles), 0)
    assert _lines(sections, "Win rate by side, the learner in every seat")["good"]["y"] == [0, 0, 0]
    assert list(_lines(sections, "Mean return")) == ["merlin"]


def test_zeros_and_missing_values_draw_nothing():
    rows = _rows(3, overflowed=[0.0] * 3, truncated=[0.0, 0.5, None], kl=[None] * 3)
    sections = charts(rows, 0)
    assert [chart["title"] for section in sections for chart in section["charts"]] == ["Share of games cut off"]
    assert _lines(sections, "Share of games cut off")["truncated"]["x"] == [1, 2]
    assert charts([], 0) == charts(rows[:1], 0) == []


@pytest.mark.parametrize("sides", [1, 2])
def test_final_matches_with_their_sides(sides):
    rate = {"mean": 0.5, "low": 0.4, "high": float("nan"), "count": 8}
    entries = {"win_rate": 0.6, "win_rate_low": 0.5, "win_rate_high": 0.7, "win_rate_games": 16}
    entries["win_rate_sides"] = dict.fromkeys(("wolves", "village")[:sides], rate)
    [match] = final_results({"werewolf-v0": entries})
    assert (match["game"], match["title"], match["games"]) == ("werewolf-v0", "trained against its warm start", 16)
    assert match["rates"][0] == {"name": "both sides", "mean": 0.6, "low": 0.5, "high": 0.7}
    assert [rate["name"] for rate in match["rates"][1:]] == (["as wolves", "as village"] if sides == 2 else [])
    assert all(rate["high"] is None for rate in match["rates"][1:])
