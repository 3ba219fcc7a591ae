"""Virtual devices on a CPU: to be arranged before JAX starts."""

from __future__ import annotations

import os
import sys

_COUNT_FLAG = "--xla_force_host_platform_device_count"
_MIN_WORKERS = 8


def arrange_cpu_devices(count: int) -> None:
    """Lets JAX see `count` devices on a CPU; does nothing where JAX is already imported or the user has chosen.

    Small programs run better as one single-threaded device a core than as one device with many threads. The devices of
    a collective wait for each other inside XLA's worker pool, so the pool (which takes its size from NPROC) must have
    more threads than devices; with as many as devices it can lock up.
    """
    if "jax" in sys.modules:
        return
    flags = os.environ.get("XLA_FLAGS", "")
    if _COUNT_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_COUNT_FLAG}={count}".strip()
    os.environ.setdefault("NPROC", str(max(_MIN_WORKERS, 4 * count)))
