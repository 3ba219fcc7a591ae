"""On a terminal, a table that stays in place while iterations go on: how far they are, and each figure's course."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from maro_jax.run.console import Console, format_duration, format_value
from maro_jax.run.signals import StopSignal

if TYPE_CHECKING:
    from rich.console import Console as Screen
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

_BARS = "▁▂▃▄▅▆▇█"
_COURSE = 16  # bars of a course
_BAR = 24  # columns of the progress bar
_NUMBER = 7  # columns of a figure, at least
_COLUMNS: dict[str, Any] = {  # beside the names
    "first": {"justify": "right", "style": "dim", "min_width": _NUMBER},
    "now": {"justify": "right", "min_width": _NUMBER},
    "course": {"style": "cyan", "min_width": _COURSE},
}
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
        """The bar and the table as they are now: sections beside each other where they fit, else cut to the height.

        On a narrow screen the courses go first, then the first figures, then the ends of names.
        """
        from rich.console import Group
        from rich.table import Table

        history, head = self._history, ["", self._bar(screen.width), *self._status()]
        if len(history) > 1:
            first, *others = (_table(title, figures) for title, figures in history.items())
            widths = screen.measure(first).maximum, max(screen.measure(table).maximum for table in others)
            if sum(widths) + _GAP <= screen.width:
                beside = Table.grid(padding=(0, _GAP))
                beside.add_row(first, Group(*others))
                return Group(*head, beside)
        rows = max(2, (screen.height - len(head) - 1) // max(1, len(history)) - 2)  # beside a blank line and a heading
        wide = screen.options.update(width=1000)  # measured without limits of the screen's own
        for shown in (tuple(_COLUMNS), ("first", "now"), ("now",)):
            room = screen.width - _NUMBER - 2 if len(shown) == 1 else None
            tables = [_table(title, figures, rows, shown, room) for title, figures in history.items()]
            if max((screen.measure(table, options=wide).maximum for table in tables), default=0) <= screen.width:
                break
        return Group(*head, *tables)

    def _bar(self, width: int) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        now, done = self._clock(), self._done - self._first
        times = f"{format_duration(now - self._start)} elapsed"
        if done:
            left = (self._last - self._start) / done * (self._total - self._done) - (now - self._last)
            times += f", {format_duration(max(0.0, left))} left"
        count = f"iteration {self._done}/{self._total}"
        line = Table.grid(padding=(0, 2))
        if len(count) + len(times) + 4 + _BAR <= width:
            line.add_row(count, ProgressBar(total=self._total, completed=self._done, width=_BAR), times)
        else:
            line.add_row(f"{count}, {times}")
        return line

    def _status(self) -> list[str]:
        return [self._stop.status()] if self._stop and self._stop.requested else []


def _table(
    title: str,
    figures: Mapping[str, Sequence[float]],
    most: int | None = None,
    shown: Sequence[str] = tuple(_COLUMNS),
    room: int | None = None,
) -> Table:
    """A section: at most so many of its figures, in the columns that are shown, beside names cut to their room."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1), title=" ", title_justify="left")
    table.add_column(title, no_wrap=True, min_width=28 if room is None else 0, max_width=room)
    for column in shown:
        table.add_column(column, no_wrap=True, **_COLUMNS[column])
    for name, values in list(figures.items())[:most]:
        cells = {"first": format_value(values[0]), "now": format_value(values[-1]), "course": course(values)}
        table.add_row(name, *(cells[column] for column in shown))
    return table
