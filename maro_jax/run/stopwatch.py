"""How long the parts of a job take beside its main work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Stopwatch:
    """Adds up the seconds in which a job waits for one of its parts.

    Attributes:
      seconds: of each part that was timed so far, by name.
    """

    seconds: dict[str, float]

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.seconds, self._clock, self._begun = {}, clock, clock()

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times what is done within, also if it fails."""
        begun = self._clock()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + self._clock() - begun

    def shares(self) -> dict[str, float]:
        """Each part's share of all the time since this began."""
        whole = max(self._clock() - self._begun, 1e-9)
        return {part: seconds / whole for part, seconds in self.seconds.items()}
