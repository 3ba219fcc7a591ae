"""What a person sees: a banner, aligned progress lines with the time left, and plain tables.

Plain lines, so that a log file reads well; only a counter that is still moving rewrites its line, and only on a
terminal. There `maro_jax.run.dashboard` shows iterations as a table instead.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from maro_jax.run.signals import StopSignal

_QUIET_SECONDS = 2.0  # nothing that is over sooner is worth a line
_LOG_SECONDS = 10.0  # between lines of one phase where lines cannot be rewritten


def format_duration(seconds: float) -> str:
    """`42s`, `3m05s` or `2h07m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def format_value(value: object) -> str:
    """A number with about four significant digits; anything else as it is, control signs off."""
    if isinstance(value, float):
        if value == 0 or 0.001 <= abs(value) < 1000:
            return f"{value:.3f}"
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.2e}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "".join(character for character in str(value) if character.isprintable())


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A plain-text table: the first column to the left, the others to the right."""
    cells = [list(headers), *([format_value(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


class Phase:
    """Progress of one longish piece of work; prints nothing if it ends within two seconds."""

    def __init__(self, name: str, total: int, stream: TextIO | None, clock: Callable[[], float]):
        self._name, self._total, self._stream, self._clock = name, total, stream, clock
        self._start = self._last_shown = clock()
        self._rewrites = stream is not None and stream.isatty()
        self._shown = False

    def update(self, done: int, note: str = "") -> None:
        """Tells how much is done, in the units of `total`; cheap to call often."""
        now = self._clock()
        pause = 0.2 if self._rewrites else _LOG_SECONDS
        first = not self._shown and now - self._start >= _QUIET_SECONDS
        if not first and (not self._shown or now - self._last_shown < pause):
            return
        self._shown, self._last_shown = True, now
        left = (now - self._start) / done * (self._total - done) if done else None
        text = f"{self._name}  {done:,}/{self._total:,}  {format_duration(now - self._start)}"
        text += "" if left is None else f", {format_duration(left)} left"
        self._write(f"{text}  {note}".rstrip(), final=False)

    def finish(self, note: str = "") -> None:
        """Ends the phase with one line, if it took long enough to matter."""
        elapsed = self._clock() - self._start
        if self._shown or elapsed >= _QUIET_SECONDS:
            text = f"{self._name}  {self._total:,} in {format_duration(elapsed)}"
            self._write(f"{text}  {note}".rstrip(), final=True)

    def _write(self, text: str, final: bool) -> None:
        if self._stream is None:
            return
        if self._rewrites:
            self._stream.write("\r\x1b[2K" + text + ("\n" if final else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


class Console:
    """Where a job tells what it does; `enabled=False` for all processes of a job but the first."""

    def __init__(
        self,
        stream: TextIO | None = None,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._stream = stream or sys.stdout
        self._enabled = enabled
        self._clock = clock
        self._start = clock()
        self._first = self._total = 0  # iterations before this session, and in all
        self._columns: list[str] = []
        self._widths: dict[str, int] = {}

    def line(self, text: str = "") -> None:
        """Prints a line."""
        if self._enabled:
            print(text, file=self._stream, flush=True)

    def banner(self, title: str, facts: Mapping[str, object]) -> None:
        """Prints a title and aligned `name  value` lines."""
        width = max(map(len, facts), default=0)
        self.line(title)
        for name, value in facts.items():
            self.line(f"  {name:<{width}}  {format_value(value)}")
        self.line()

    @contextlib.contextmanager
    def iterations(self, done: int, total: int, stop: StopSignal | None = None) -> Iterator[None]:
        """A block of iterations, whose clock starts now.

        Args:
          done: iterations made before, which cost no time now.
          total: iterations in all.
          stop: what a terminal's table tells of once it has come.
        """
        self._first, self._total, self._start = done, total, self._clock()
        yield

    def iteration(
        self, step: int, columns: Mapping[str, object], sections: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        """Prints an iteration's line: how far, its columns, elapsed and left.

        Args:
          step: iterations done now.
          columns: values by name; a heading is printed whenever the names change.
          sections: more figures, by name in sections by title; a terminal's table shows them in place of a line.
        """
        if list(columns) != self._columns:
            self._columns = list(columns)
            self._widths = {name: max(len(name), 8) for name in columns}
            names = "  ".join(f"{name:>{self._widths[name]}}" for name in columns)
            self.line(f"{'iteration':<11}  {names}  {'elapsed':>7}  {'left':>7}")
        elapsed = self._clock() - self._start
        left = elapsed / (step - self._first) * (self._total - step)
        cells = "  ".join(f"{format_value(value):>{self._widths[name]}}" for name, value in columns.items())
        times = f"{format_duration(elapsed):>7}  {format_duration(left):>7}"
        self.line(f"{f'{step}/{self._total}':<11}  {cells}  {times}")

    def phase(self, name: str, total: int) -> Phase:
        """Starts the progress of a piece of work of `total` units."""
        return Phase(name, total, self._stream if self._enabled else None, self._clock)
