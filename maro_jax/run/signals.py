"""Stopping in good order: a signal asks, the loop saves and leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class StopSignal:
    """Turns the first SIGINT or SIGTERM into `requested`; a second one ends the process, or a notebook's cell, at once.

    A context manager, to be entered in the main thread; it restores the previous handlers.

    Attributes:
      requested: whether a signal has come.
      name: the signal's name, or an empty string.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self.name = ""
        self._silent = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in self._SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def status(self) -> str:
        """What follows from the signal, in words; nothing before it."""
        return f"{self.name}: stopping after this step and saving; once more stops at once" if self.name else ""

    @contextlib.contextmanager
    def shown_elsewhere(self) -> Iterator[None]:
        """A block in which `status` is being shown, so that nothing is printed when the signal comes."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and "ipykernel" in sys.modules:
            raise KeyboardInterrupt  # a notebook's kernel, and all that it holds, outlives the run
        if self.requested:
            # Not sys.exit: whatever is stuck may catch exceptions.
            os._exit(128 + number)
        self.requested = True
        self.name = signal.Signals(number).name
        if not self._silent:
            # os.write, since print may be interrupted in the middle of its own buffer.
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{self.status()}\n".encode())
