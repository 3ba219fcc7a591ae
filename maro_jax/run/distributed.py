"""Several processes that train one run together, each with its own devices: JAX's multi-controller mode.

All are started with the same command and hold the same things on their hosts, so that each can decide alike. What only
one can know (whether the run's folder may be used, when it is time to save) is told to all by the first; what is asked
of any one (to stop) counts for all. With one process nothing here does anything, or loads a framework.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from maro_jax.run import exit_codes
from maro_jax.run.config import TrainConfig
from maro_jax.run.fields import ConfigError
from maro_jax.run.storage import NotWrittenError

if TYPE_CHECKING:
    import numpy as np

Result = TypeVar("Result")

_OWN_SETTINGS = ("process_id",)  # all others are the same in every process
# How JAX's transports say that another process is gone: gloo, then the coordination service.
_GONE = ("gloo", "coordination", "heartbeat", "unavailable:")


class AgreedError(ConfigError):
    """A refusal that every process of the run raises at the same point."""


# ---------------------------------------------------------------------- beginning and end


def join(config: TrainConfig) -> None:
    """Waits for the other processes, before JAX uses any device.

    Args:
      config: says how they find each other: by the address of the first, or `auto`, as the cluster tells JAX.

    Raises:
      ConfigError: they cannot find each other.
      AgreedError: they were started with different commands.
    """
    import jax
    import numpy as np

    if config.distributed == "auto":
        arguments: dict[str, Any] = {}
        place = "--distributed=auto"
        who = "looking for the other processes"
    else:
        arguments = {
            "coordinator_address": config.coordinator,
            "num_processes": config.num_processes,
            "process_id": config.process_id,
        }
        place = f"--coordinator={config.coordinator}"
        who = f"process {config.process_id} of {config.num_processes}: looking for the others at {config.coordinator}"
    print(f"{who}, for up to {config.join_minutes:g} min", file=sys.stderr, flush=True)
    # JAX's own limit would abort the process without a word of ours.
    patience = threading.Timer(60 * config.join_minutes, _leave_alone, [place, config.join_minutes])
    patience.daemon = True
    patience.start()
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=int(60 * config.join_minutes) + 60,
            shutdown_timeout_seconds=int(60 * config.join_minutes) + 60,
            heartbeat_timeout_seconds=config.heartbeat_seconds,
        )
    except ValueError:
        raise ConfigError(
            "--distributed=auto found no job of Cloud TPU, SLURM, Open MPI or Kubernetes; name the processes instead: "
            "--coordinator=HOST:PORT --num_processes=N --process_id=I"
        ) from None
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{place}: the processes cannot be joined ({reason}); choose a free port of the first process's host, and "
            "join them before anything else uses JAX"
        ) from None
    finally:
        patience.cancel()
    _refuse_other_commands(config)
    # On CPUs devices give each other 30 s to connect; this connects them before programs that take long to compile do.
    everywhere = jax.sharding.NamedSharding(jax.sharding.Mesh(jax.devices(), "all"), jax.sharding.PartitionSpec("all"))
    fetch(put(np.arange(jax.device_count()), everywhere))


def _leave_alone(place: str, minutes: float) -> NoReturn:
    """Ends a process whose others did not come; it is stuck inside JAX and cannot be told."""
    print(
        f"error: {place}: the other processes did not come within {minutes:g} min; start the same command on every "
        "host, let them reach that port, or wait longer with --join_minutes",
        file=sys.stderr,
        flush=True,
    )
    os._exit(exit_codes.LOST)


def _refuse_other_commands(config: TrainConfig) -> None:
    import jax

    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in _OWN_SETTINGS}
    first, *others = gathered(settings | {"version of jax": jax.__version__})
    for index, other in enumerate(others, 1):
        for name, value in first.items():
            if other.get(name) != value:
                raise AgreedError(
                    f"process {index} was started with {name} {other.get(name)} and the first with {value}; start the "
                    "same command in every process"
                )


@contextlib.contextmanager
def alone_at_once(*agreed: type[BaseException]) -> Iterator[None]:
    """Ends this process at once on what strikes it alone: orderly clean-up would wait for the others in vain.

    They then notice: a connection breaks, or after `--heartbeat_seconds` JAX aborts them.

    Args:
      *agreed: exceptions that all processes raise together, beside `AgreedError`; these pass.
    """
    try:
        yield
    except BaseException as error:
        if _alone() or isinstance(error, (AgreedError, *agreed)):
            raise
        sys.stdout.flush()
        code = _explain(error)
        sys.stderr.flush()
        os._exit(code)


def _explain(error: BaseException) -> int:
    """Says on stderr why this process ends; returns its exit code."""
    import jax

    if isinstance(error, ConfigError | NotWrittenError):
        print(f"error: {error}", file=sys.stderr)
        return exit_codes.USAGE if isinstance(error, ConfigError) else exit_codes.STORAGE
    which = f"process {jax.process_index()} of {jax.process_count()}"
    text = str(error)
    if isinstance(error, jax.errors.JaxRuntimeError) and any(word in text.lower() for word in _GONE):
        print(
            f"error: {which} lost another one ({text.splitlines()[0]}); the same command goes on from the last "
            "checkpoint",
            file=sys.stderr,
        )
        return exit_codes.LOST
    traceback.print_exception(error)
    print(f"error: {which} ends with this, and the others with it", file=sys.stderr)
    return 1


# ---------------------------------------------------------------------- agreeing


def _alone() -> bool:
    """Whether no processes were joined."""
    jax = sys.modules.get("jax")
    return jax is None or not jax.distributed.is_initialized()


def is_first() -> bool:
    """Whether this is the process that writes and prints: the first of several, or the only one."""
    if _alone():
        return True
    import jax

    return jax.process_index() == 0


def num_processes() -> int:
    """How many processes train the run."""
    if _alone():
        return 1
    import jax

    return jax.process_count()


def gathered(value: Any) -> list[Any]:
    """What each process gives, first process first; every process must call it at the same point.

    Args:
      value: plain values that JSON knows.
    """
    if _alone():
        return [value]
    import numpy as np
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(text)))
    room = 1 << int(sizes.max()).bit_length()  # few sizes, hence few programs
    rows = multihost_utils.process_allgather(np.pad(text, (0, room - len(text))))
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def together(work: Callable[[], Result]) -> Result:
    """Returns what `work` does in this process, once it has succeeded in all.

    Args:
      work: may refuse in some processes only, if it does so before it exchanges anything with the others.

    Raises:
      AgreedError: it raised a `ConfigError` in any process; in several processes.
      ConfigError: it did, in the only process.
    """
    if _alone():
        return work()
    result, problem = None, ""
    try:
        result = work()
    except ConfigError as error:
        problem = str(error)
    problems = gathered(problem)
    for index, found in enumerate(problems):
        if found:
            raise AgreedError(f"in process {index} of {len(problems)}: {found}" if index else found)
    return result  # type: ignore[return-value]


# ---------------------------------------------------------------------- arrays


def put(tree: Any, sharding: Any) -> Any:
    """Lays out arrays that every process holds whole; each copies only what its own devices are to hold.

    Args:
      tree: arrays on the host, on one device, or laid out over all devices already.
      sharding: one for all of them, or a tree of shardings like `tree`.
    """
    import jax

    if _alone():
        return jax.device_put(tree, sharding)
    if isinstance(sharding, jax.sharding.Sharding):
        return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)
    return jax.tree.map(_put, tree, sharding)


def _put(leaf: Any, sharding: Any) -> Any:
    import jax
    import numpy as np

    if isinstance(leaf, jax.Array):
        if not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding))
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def fetch(array: Any) -> np.ndarray:
    """A whole array on the host of every process, however it is laid out."""
    import numpy as np

    if _alone() or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(array, tiled=True)
