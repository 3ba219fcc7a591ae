"""The table that stays in place on a terminal."""

import io
import math
import signal

import pytest

from maro_jax.run.dashboard import Dashboard, course, job_console
from maro_jax.run.signals import StopSignal


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Latin(Terminal):
    encoding = "latin-1"


def shown(dashboard, width, height=50):
    """What the table looks like now, as lines of text."""
    from rich.console import Console

    screen = Console(file=(page := io.StringIO()), width=width, height=height)
    screen.print(dashboard._render(screen))
    return [line.rstrip() for line in page.getvalue().splitlines()]


def test_a_course_shows_how_a_figure_went():
    assert course([0.1] * 40) == "▁" * 16  # whose means are not the same to the last bit
    assert course([]) == "" and course([3.0]) == "▁" and course([2.0, 2.0]) == "▁▁"
    assert course([0.0, 1.0, 7.0]) == "▁▂█"
    assert course([float(value) for value in range(160)], width=8) == "▁▂▃▄▅▆▇█"  # each bar is the mean of 20
    assert len(course([0.0] * 30 + [1.0] * 3)) == 16
    assert course([1.0, math.nan, 2.0, math.inf]) == "▁ █ " and course([math.nan]) == " "


@pytest.mark.parametrize(("term", "kept"), [("xterm-256color", True), ("dumb", False), (None, False)])
def test_a_table_is_kept_in_place_on_terminals_that_can(monkeypatch, term, kept):
    monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM", raising=False)
    assert isinstance(job_console(Terminal()), Dashboard) == kept
    assert not isinstance(job_console(Latin()), Dashboard)  # has no bars
    assert not isinstance(job_console(io.StringIO()), Dashboard)  # a log file
    assert not isinstance(job_console(Terminal(), enabled=False), Dashboard)  # another process of the job


def test_figures_are_shown_at_first_now_and_between_with_the_time_left():
    clock = Clock()
    dashboard, stop = Dashboard(Terminal(), clock), StopSignal()
    with stop, dashboard.iterations(2, 12, stop):  # resumed: two iterations cost nothing today
        assert shown(dashboard, 80)[1].split() == ["iteration", "2/12", "━" * 4, "0s", "elapsed"]
        dashboard.iteration(3, {}, {"warm start": {"loss": 9.0}})
        for step in (4, 5):
            clock.now += 20
            values = {"loss": 1 / step, "win_rate": 0.5} if step == 4 else {"loss": 1 / step}
            dashboard.iteration(step, {}, {"play": values, "speed": {"tokens": 1e6 * step}})
        clock.now += 5  # into the next iteration
        narrow, wide = shown(dashboard, 80), shown(dashboard, 140)
        signal.raise_signal(signal.SIGINT)
        assert shown(dashboard, 80)[2].startswith("SIGINT: stopping after this step and saving")
    bar, text = narrow[1].split("━")[0].split(), [line.split() for line in narrow]
    assert bar == ["iteration", "5/12"]
    assert narrow[1].endswith("45s elapsed, 1m28s left")  # 7 iterations of 40/3 s, less 5 s
    assert ["loss", "0.250", "0.200", "█▁"] in text and ["win_rate", "0.500", "0.500", "▁"] in text
    assert ["tokens", "4,000,000", "5,000,000", "▁█"] in text and not any("warm" in line for line in narrow)
    assert any("play" in line and "speed" in line for line in wide) and len(wide) < len(narrow)
    assert max(map(len, narrow)) <= 80 and max(map(len, wide)) <= 140


def test_a_low_terminal_shows_the_first_figures_of_every_section():
    dashboard = Dashboard(Terminal(), Clock())
    figures = {f"figure {number}": float(number) for number in range(12)}
    with dashboard.iterations(0, 3):
        dashboard.iteration(1, {}, {"play": figures, "learning": figures, "speed": figures})
        low = shown(dashboard, 80, height=24)
    assert len(low) <= 24 and [line.split()[0] for line in low if "first" in line] == ["play", "learning", "speed"]
    assert sum("figure 4 " in line for line in low) == 3


def test_a_narrow_terminal_keeps_the_current_figures():
    dashboard = Dashboard(Terminal(), Clock())
    long = "a figure with a name of some length"
    with dashboard.iterations(0, 3):
        for step, value in ((1, 0.25), (2, 0.75)):
            dashboard.iteration(step, {}, {"play": {"win_rate": value, long: value}, "speed": {"tokens": 1e6 * value}})
        lines = {width: shown(dashboard, width) for width in (80, 60, 40, 30)}
    for width, found in lines.items():
        assert max(map(len, found)) <= width and sum("0.750" in line for line in found) == 2, width
    cells = [next(line.split() for line in found if "win_rate" in line) for found in lines.values()]
    assert cells == [["win_rate", "0.250", "0.750", "▁█"], ["win_rate", "0.250", "0.750"],
                     ["win_rate", "0.750"], ["win_rate", "0.750"]]  # fmt: skip


def test_lines_stand_above_the_table_which_stays_when_it_ends():
    stream = Terminal()
    dashboard = Dashboard(stream, Clock())
    dashboard.line("before")
    with pytest.raises(KeyboardInterrupt), dashboard.iterations(0, 2):
        dashboard.iteration(1, {"not": "a line"}, {"play": {"win_rate": 0.75}})
        dashboard.line("note: [b]as it is[/b] " + "x" * 100)
        raise KeyboardInterrupt
    dashboard.line("after")
    text = stream.getvalue()
    assert text.startswith("before\n") and text.endswith("after\n") and "not" not in text.replace("note:", "")
    assert "note: [b]as it is[/b] " + "x" * 100 + "\n" in text  # neither markup nor broken
    assert text.index("x" * 100) < text.rindex("win_rate") and text.rindex("0.750") < text.index("after")


def test_a_notebook_gets_lines(monkeypatch):
    """Its shell commands have a terminal in which the cursor does not move up."""
    monkeypatch.setenv("TERM", "xterm-color")
    assert isinstance(job_console(Terminal()), Dashboard)
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert not isinstance(job_console(Terminal()), Dashboard)
