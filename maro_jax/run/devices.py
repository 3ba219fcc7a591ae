"""The process that JAX finds on a CPU: its virtual devices and its memory, to be arranged before JAX starts."""

from __future__ import annotations

import ctypes
import os
import sys

from maro_jax.run.fields import ConfigError

_COUNT_FLAG = "--xla_force_host_platform_device_count"
_WORKERS_PER_DEVICE = 2  # with four, the workers of a busy machine mostly wait for each other: a quarter slower
# A machine that is busy, or a laptop that sleeps, must not be taken for a deadlock (XLA aborts after 40 s).
_PATIENCE = (
    "--xla_cpu_collective_call_terminate_timeout_seconds=86400",
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=600",
)

# Parameters of glibc's malloc, from its malloc.h, and the most that it takes as the second.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_TWO_HEAPS = 2**27  # an arena gives an empty heap of 64 MiB back only where more than the pad would be left


def keep_freed_memory() -> None:
    """Keeps freed memory in the process; does nothing without glibc.

    XLA takes the memory of intermediate results anew for each program it runs. By default large pieces go back to the
    system at once, and the next program waits for as many page faults. Every thread keeps an arena of its own: with one
    for all, which could hold pieces of any size, threads waited for each other and everything took half as long again.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, _TWO_HEAPS)


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
        os.environ["XLA_FLAGS"] = " ".join([flags, f"{_COUNT_FLAG}={count}", *_PATIENCE]).strip()
    os.environ.setdefault("NPROC", str(max(4, _WORKERS_PER_DEVICE * count)))


def check_cpu_devices(asked: int) -> None:
    """Starts JAX, and makes sure that it has the virtual devices that were asked for.

    Args:
      asked: the value of --cpu_devices; 0: any number.

    Raises:
      ConfigError: JAX had started, or XLA_FLAGS had been set, with another number of CPU devices.
    """
    import jax

    if asked and jax.default_backend() == "cpu" and jax.device_count() != asked:
        raise ConfigError(
            f"--cpu_devices={asked} came too late, since JAX already has {jax.device_count()} CPU devices (it was "
            f"imported before, or XLA_FLAGS says so); leave it out, or ask for --cpu_devices={jax.device_count()}"
        )
