"""How much of a process's time goes into compiling, as JAX itself reports it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

_EVENT = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass
class Compiling:
    """What has been compiled since it was first asked for.

    Attributes:
      programs: their number.
      seconds: that XLA took for them; tracing apart, which is Python's.
    """

    programs: int = 0
    seconds: float = 0.0

    def hear(self, event: str, duration_secs: float, **_: Any) -> None:
        """Counts one of JAX's events."""
        if event == _EVENT:
            self.programs += 1
            self.seconds += duration_secs


@functools.cache
def compiling() -> Compiling:
    """The process's count, which begins with the first call: JAX keeps those it tells for ever."""
    import jax

    counted = Compiling()
    jax.monitoring.register_event_duration_secs_listener(counted.hear)
    return counted
