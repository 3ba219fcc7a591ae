"""On a terminal, a table that stays in place while iterations go on: how far they are, and each figure's course."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from maro_jax.run.console import Console, format_duration, format_value
from maro_jax.run.signals import StopSignal

if TYPE_CHECKING:
    from rich.console import Console as Screen
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

_BARS = "▁▂▃▄▅▆▇█"
_COURSE = 16  # bars of a course
_GAP = 4  # columns between sections beside each other
_FLAT = 1e-9  # a range that is a smaller part of the values is rounding

Sections = Mapping[str, Mapping[str, float]]


def job_console(stream: TextIO | None = None, enabled: bool = True) -> Console:
    """A console that keeps a table in place where the stream is a terminal that can, and prints lines elsewhere."""
    stream = stream or sys.stdout
    return Dashboard(stream) if enabled and _can_rewrite(stream) else Console(stream, enabled)


def _can_rewrite(stream: TextIO) -> bool:
    if not stream.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return False
    if "JPY_PARENT_PID" in os.environ:  # a notebook's shell command, whose output cannot move the cursor up
        return False
    from rich.console import Console as Screen

    try:
        _BARS.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return Screen(file=stream).is_interactive


def course(values: Sequence[float], width: int = _COURSE) -> str:
    """Bars that show how a figure went, the newest last, with gaps where it was not finite.

    Of more than `width` values each bar is the mean of a part.
    """
    count = min(width, len(values))
    edges = [index * len(values) // count for index in range(count + 1)] if count else []
    means = [math.fsum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    flat = high - low <= _FLAT * max(abs(low), abs(high))
    scale = 0.0 if flat else (len(_BARS) - 1) / (high - low)
    return "".join(_BARS[round((mean - low) * scale)] if math.isfinite(mean) else " " for mean in means)


class Dashboard(Console):
    """A console whose iterations fill a table in place of lines; notes stand above it."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic):
        """A console on `stream`, a terminal; `clock` gives seconds."""
        super().__init__(stream, True, clock)
        self._live: Live | None = None
        self._stop: StopSignal | None = None
        self._done, self._last = 0, self._start  # iterations, and when the last one ended
        self._history: dict[str, dict[str, list[float]]] = {}  # of this session

    def line(self, text: str = "") -> None:
        """Prints a line, above the table while there is one."""
        if self._live:
            self._live.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            super().line(text)

    @contextlib.contextmanager
    def iterations(self, done: int, total: int, stop: StopSignal | None = None) -> Iterator[None]:
        """Keeps the table in place until its block ends, and leaves it there as it was last."""
        from rich.console import Console as Screen
        from rich.live import Live

        with super().iterations(done, total, stop):
            self._done, self._last, self._stop = done, self._start, stop
            screen = Screen(file=self._stream)
            with (
                stop.shown_elsewhere() if stop else contextlib.nullcontext(),
                Live(
                    console=screen, refresh_per_second=1, redirect_stderr=sys.stderr.isatty(),
                    get_renderable=lambda: self._render(screen),
                ) as self._live,
            ):  # fmt: skip
                screen.show_cursor(True)  # a process that is killed cannot bring it back
                try:
                    yield
                finally:
                    self._live = None

    def iteration(self, step: int, columns: Mapping[str, object], sections: Sections | None = None) -> None:
        """Takes up an iteration's `sections`, and drops others; figures missing this time keep their last value."""
        sections = sections or {}
        before = {title: self._history.get(title, {}) for title in sections}
        self._done, self._last = step, self._clock()
        self._history = {  # new throughout, since another thread may be drawing the old one
            title: {name: [*before[title].get(name, ()), value] for name, value in figures.items()}
            | {name: values for name, values in before[title].items() if name not in figures}
            for title, figures in sections.items()
        }
        if self._live:
            self._live.refresh()

    def _render(self, screen: Screen) -> RenderableType:
        """The bar and the table as they are now: sections beside each other where they fit, else cut to the height."""
        from rich.console import Group
        from rich.table import Table

        history, head = self._history, ["", self._bar(), *self._status()]
        if len(history) > 1:
            first, *others = (_table(title, figures) for title, figures in history.items())
            widths = screen.measure(first).maximum, max(screen.measure(table).maximum for table in others)
            if sum(widths) + _GAP <= screen.width:
                beside = Table.grid(padding=(0, _GAP))
                beside.add_row(first, Group(*others))
                return Group(*head, beside)
        rows = max(2, (screen.height - len(head) - 1) // max(1, len(history)) - 2)  # beside a blank line and a heading
        return Group(*head, *(_table(title, figures, rows) for title, figures in history.items()))

    def _bar(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        now, done = self._clock(), self._done - self._first
        times = f"{format_duration(now - self._start)} elapsed"
        if done:
            left = (self._last - self._start) / done * (self._total - self._done) - (now - self._last)
            times += f", {format_duration(max(0.0, left))} left"
        line = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=self._total, completed=self._done, width=24)
        line.add_row(f"iteration {self._done}/{self._total}", bar, times)
        return line

    def _status(self) -> list[str]:
        return [self._stop.status()] if self._stop and self._stop.requested else []


def _table(title: str, figures: Mapping[str, Sequence[float]], most: int | None = None) -> Table:
    """A section: at most so many of its figures at first, now, and between."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1), title=" ", title_justify="left")
    table.add_column(title, no_wrap=True, min_width=28)
    table.add_column("first", justify="right", style="dim", min_width=7, no_wrap=True)
    table.add_column("now", justify="right", min_width=7, no_wrap=True)
    table.add_column("course", no_wrap=True, style="cyan", min_width=_COURSE)
    for name, values in list(figures.items())[:most]:
        table.add_row(name, format_value(values[0]), format_value(values[-1]), course(values))
    return table
