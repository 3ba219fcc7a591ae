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

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_BARS = "▁▂▃▄▅▆▇█"
_COURSE = 16  # bars of a course
_WIDE = 132  # columns from which the first section stands beside the others


def job_console(stream: TextIO | None = None, enabled: bool = True) -> Console:
    """A console that keeps a table in place where the stream is a terminal that can, and prints lines elsewhere."""
    stream = stream or sys.stdout
    capable = stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return Dashboard(stream) if capable and enabled else Console(stream, enabled)


def course(values: Sequence[float], width: int = _COURSE) -> str:
    """Bars that show how a figure went, the newest last, with gaps where it was not finite.

    Of more than `width` values each bar is the mean of a part.
    """
    count = min(width, len(values))
    edges = [index * len(values) // count for index in range(count + 1)] if count else []
    means = [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low = min(finite, default=0.0)
    scale = (len(_BARS) - 1) / (max(finite, default=0.0) - low or 1.0)
    return "".join(_BARS[round((mean - low) * scale)] if math.isfinite(mean) else " " for mean in means)


class Dashboard(Console):
    """A console whose iterations fill a table in place of lines; notes stand above it."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic):
        """A console on `stream`, a terminal; `clock` gives seconds."""
        super().__init__(stream, True, clock)
        self._live: Live | None = None
        self._done, self._last = 0, self._start  # iterations, and when the last one ended
        self._status: Callable[[], str] = str
        self._history: dict[str, dict[str, list[float]]] = {}

    def line(self, text: str = "") -> None:
        """Prints a line, above the table while there is one."""
        if self._live:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            super().line(text)

    @contextlib.contextmanager
    def iterations(self, done: int, total: int, status: Callable[[], str] = str) -> Iterator[None]:
        """Keeps the table in place until its block ends, and leaves it there as it was last."""
        from rich.console import Console as Screen
        from rich.live import Live

        with super().iterations(done, total, status):
            self._done, self._last, self._status = done, self._start, status
            screen = Screen(file=self._stream)
            with Live(console=screen, refresh_per_second=2, get_renderable=lambda: self._render(screen.width)) as live:
                self._live = live
                try:
                    yield
                finally:
                    self._live = None

    def iteration(
        self, step: int, columns: Mapping[str, object], sections: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        """Takes up an iteration's `sections`, and drops others; figures missing this time keep their last value."""
        self._done, self._last = step, self._clock()
        self._history = {title: self._history.get(title, {}) for title in sections or {}}
        for title, figures in (sections or {}).items():
            for name, value in figures.items():
                self._history[title].setdefault(name, []).append(value)
        if self._live:
            self._live.refresh()

    def _render(self, width: int) -> RenderableType:
        """The bar and the table as they are now."""
        from rich.console import Group
        from rich.table import Table

        tables = [_table(title, figures) for title, figures in self._history.items()]
        if width < _WIDE or len(tables) < 2:
            return Group("", self._bar(), *tables)
        beside = Table.grid(padding=(0, 4))
        beside.add_row(tables[0], Group(*tables[1:]))
        return Group("", self._bar(), beside)

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
        line.add_row(f"iteration {self._done}/{self._total}", bar, times, self._status())
        return line


def _table(title: str, figures: Mapping[str, Sequence[float]]) -> RenderableType:
    """A section: its figures at first, now, and between."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1), title=" ", title_justify="left")
    table.add_column(title, no_wrap=True, min_width=28)
    table.add_column("first", justify="right", style="dim", min_width=7)
    table.add_column("now", justify="right", min_width=7)
    table.add_column("course", no_wrap=True, style="cyan", min_width=_COURSE)
    for name, values in figures.items():
        table.add_row(name, format_value(values[0]), format_value(values[-1]), course(values))
    return table
