"""Checkpoints that are whole or are not used.

One Orbax step holds the arrays of a state and a JSON document beside them, so a kill leaves either
both or neither. Orbax itself reads a flipped byte in an array without complaint; so a digest of
each array is stored and compared when it is read. A step that cannot be read twice in a row is never deleted; the one
before it is tried, and once that was read the other is set aside. Where none can be read all stay, and nothing begins.

Several processes write a step together, each what its devices hold, into a folder that all of them see; the first says
which steps there are. A step is read by each for itself, and used only where all of them can read it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from maro_jax.run.distributed import gathered, is_first, num_processes, put
from maro_jax.run.fields import ConfigError
from maro_jax.run.storage import saving_to

RETRY_SECONDS = 1.0  # before a step that could not be read is read once more

_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


class Restored(NamedTuple):
    """What `Checkpoints.restore` found.

    Attributes:
      step: its number.
      state: arrays in the structure, shapes, dtypes and shardings that were asked for.
      meta: the JSON document stored beside them.
    """

    step: int
    state: Any
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run; a context manager that waits for the last save.

    Writing goes on in the background; `wait` (and `save`, for the one before) raises what went
    wrong there.

    Attributes:
      directory: where they are.
    """

    def __init__(self, directory: str | Path, keep: int):
        """Opens `directory`, creating it; the newest `keep` steps are kept."""
        self.directory = Path(directory).resolve()
        _silence_orbax()
        if is_first():
            self.directory.mkdir(parents=True, exist_ok=True)
        gathered(True)  # the others wait for the folder
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, create=False, multiprocessing_options=_jointly()
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=("state", "meta"))
        self._saved: int | None = None  # the step that this has written last

    def steps(self) -> list[int]:
        """Steps that were completely written, oldest first."""
        self.wait()
        return gathered(sorted(self._manager.all_steps(read=True)))[0]

    def save(self, step: int, state: Any, meta: Mapping[str, Any]) -> float:
        """Starts writing `state` and `meta` as `step`; does nothing if that step is stored.

        The arrays may be donated as soon as this returns.

        Args:
          step: a number above all steps stored.
          state: a pytree of arrays (PRNG keys as `jax.random.key_data`).
          meta: plain values that JSON knows.

        Returns:
          How many seconds the save before this one took until it was whole; 0 if it is the first.

        Raises:
          ValueError: `step` is older than a stored one, or an array has a type JAX does not hold.
          NotWrittenError: the folder cannot be written.
        """
        if step in self.steps():
            return 0.0
        took = self._seconds()
        leaves = {name: _on_device(name, leaf) for name, leaf in _flatten(state).items()}
        document = {
            "meta": dict(meta),
            "meta_digest": _text_digest(meta),
            "arrays": {name: _describe(leaf) for name, leaf in leaves.items()},
            "digests": digests(leaves),
        }
        with saving_to(self.directory):
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(leaves), meta=ocp.args.JsonSave(document)),
            )
        if not saved:
            raise ValueError(f"checkpoint {step} is not newer than those stored: {self.steps()}")
        self._saved = step
        return took

    def restore(self, abstract_state: Any) -> Restored | None:
        """Reads the newest good step, and renames damaged ones above it to `<step>.bad-<time>`.

        Args:
          abstract_state: the state's structure with `jax.ShapeDtypeStruct` leaves (or arrays),
            whose shardings say where the arrays go; default: the first device.

        Returns:
          The step, or None if nothing was ever saved.

        Raises:
          ConfigError: the arrays stored are not those asked for, or all steps are damaged.
        """
        wanted = {name: _abstract(leaf) for name, leaf in _flatten(abstract_state).items()}
        treedef = jax.tree.structure(abstract_state)
        steps, damaged = self.steps(), dict[int, str]()
        for step in reversed(steps):
            try:
                with _reader(self.directory) as reader:
                    leaves, meta = _read(reader, step, wanted, whole=True)
            except _Damaged as damage:
                damaged[step] = str(damage)
                continue
            for newer, reason in damaged.items():
                self._set_aside(newer, reason)
            state = jax.tree.unflatten(treedef, [leaves[name] for name in wanted])
            return Restored(step, state, meta)
        aside = gathered(sorted(path.name for path in self.directory.glob("*.bad-*")))[0]
        if steps or aside:  # never a new run in the place of one that was there
            why = f" ({steps[-1]}: {damaged[steps[-1]]})" if steps else ""
            raise ConfigError(
                f"none of the checkpoints {steps or aside} in {self.directory} can be read{why}; choose "
                "another --run_dir to start anew"
            )
        return None

    def wait(self) -> None:
        """Waits until all is written.

        Raises:
          NotWrittenError: something went wrong in the background.
        """
        with saving_to(self.directory):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Waits and frees what Orbax holds."""
        self.wait()
        self._manager.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _seconds(self) -> float:
        """From the beginning of the last save to its end."""
        if self._saved is None or not is_first():
            return 0.0
        times = self._manager.metadata(self._saved)
        return ((times.commit_timestamp_nsecs or 0) - (times.init_timestamp_nsecs or 0)) / 1e9

    def _set_aside(self, step: int, reason: str) -> None:
        if is_first():
            aside = self.directory / f"{step}.bad-{time.strftime('%Y%m%d-%H%M%S')}"
            (self.directory / str(step)).rename(aside)
            print(
                f"warning: checkpoint {step} is damaged ({reason}); it is now {aside}, and the one before it is tried",
                file=sys.stderr,
                flush=True,
            )
        gathered(True)  # the others wait for the new name
        self._manager.reload()


def read_newest(directory: str | Path, abstract_part: Any) -> Restored | None:
    """Reads some arrays of the newest good step and changes nothing, even while another process goes on saving there.

    Args:
      directory: where `Checkpoints` saves.
      abstract_part: a part of the state that was saved, as `Checkpoints.restore` takes the whole.

    Returns:
      The step with that part of its state, or None if nothing was ever saved.

    Raises:
      ConfigError: the arrays stored are not those asked for, or all steps are damaged.
    """
    directory = Path(directory).resolve()
    if not directory.is_dir():
        return None
    _silence_orbax()
    wanted = {name: _abstract(leaf) for name, leaf in _flatten(abstract_part).items()}
    with _reader(directory) as manager:
        steps = gathered(sorted(manager.all_steps()))[0]
        for step in reversed(steps):
            try:
                leaves, meta = _read(manager, step, wanted, whole=False)
            except _Damaged:
                continue
            state = jax.tree.unflatten(jax.tree.structure(abstract_part), [leaves[name] for name in wanted])
            return Restored(step, state, meta)
    if steps:
        raise ConfigError(f"none of the checkpoints {steps} in {directory} can be read")
    return None


class _Damaged(Exception):
    """A step's files do not hold what was saved; `str()` says why, in a line."""


def _jointly() -> ocp.options.MultiprocessingOptions:
    """Orbax's options for what all processes do together; naming them makes it wait with time limits."""
    return ocp.options.MultiprocessingOptions(primary_host=0, active_processes=set(range(jax.process_count())))


def _reader(directory: Path) -> ocp.CheckpointManager:
    """Reads steps in this process alone: one that fails leaves no other waiting."""
    alone = ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()})
    options = ocp.CheckpointManagerOptions(read_only=True, create=False, multiprocessing_options=alone)
    return ocp.CheckpointManager(directory, options=options, item_names=("state", "meta"))


def _read(
    manager: ocp.CheckpointManager, step: int, wanted: Mapping[str, jax.ShapeDtypeStruct], *, whole: bool
) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    """Reads and verifies arrays and the JSON document of a step.

    Args:
      manager: of the folder.
      step: which.
      wanted: the arrays by name.
      whole: whether these must be all that the step holds.

    Raises:
      ConfigError: the step holds other arrays.
      _Damaged: it cannot be read, in some process at least, or other values than were saved.
    """
    leaves: dict[str, jax.Array] = {}
    document: dict[str, Any] = {}
    refusal = "", ""
    try:
        try:
            leaves, document = _load(manager, step, wanted, whole=whole)
        except _Damaged:
            time.sleep(RETRY_SECONDS)  # a file server may have faltered
            leaves, document = _load(manager, step, wanted, whole=whole)
    except (ConfigError, _Damaged) as error:
        refusal = type(error).__name__, str(error)
    kind, reason = next((found for found in gathered(refusal) if found[0]), ("", ""))
    if kind:
        raise (ConfigError if kind == ConfigError.__name__ else _Damaged)(reason)
    wrong = [name for name, value in digests(leaves).items() if document["digests"].get(name) != value]
    if wrong:
        raise _Damaged(f"{wrong[0]} does not hold the values that were saved")
    return leaves, document["meta"]


def _load(
    manager: ocp.CheckpointManager, step: int, wanted: Mapping[str, jax.ShapeDtypeStruct], *, whole: bool
) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    """Reads what `_read` verifies, and the whole JSON document, without asking other processes."""
    try:
        document = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        if document["meta_digest"] != _text_digest(document["meta"]):
            raise ValueError("its JSON document does not hold the values that were saved")
        stored = {name: text for name, text in document["arrays"].items() if whole or name in wanted}
        # Compared here, since Orbax may cut or pad an array to the shape asked for.
        _check_same(step, stored, {name: _describe(leaf) for name, leaf in wanted.items()})
        item = dict(wanted)
        how = ocp.args.StandardRestore(item) if whole else ocp.args.PyTreeRestore(
            item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
        )  # fmt: skip
        leaves = manager.restore(step, args=ocp.args.Composite(state=how))["state"]
    except (ConfigError, MemoryError, jax.errors.JaxRuntimeError):
        raise  # no fault of the files
    except Exception as error:  # whatever a damaged file makes Orbax raise
        reason = str(error).strip() or type(error).__name__
        raise _Damaged(reason.splitlines()[0][:200]) from error
    return leaves, document


def _silence_orbax() -> None:
    """Each tick of Orbax's own log would interrupt the progress lines."""
    logging.getLogger("absl").setLevel(logging.ERROR)


def digest(array: Any) -> jax.Array:
    """A checksum of an array's bits, the same for every sharding and every byte order of work.

    sum_i (2i + 1) · bits_i mod 2³², with bits_i the i-th element in row-major order as an unsigned
    integer (an element of eight bytes counts as two). All factors are odd and so have an inverse:
    a change of any single element changes the sum.

    Args:
      array: any shape, of a number type or bool.

    Returns:
      `uint32[]`.
    """
    array = jnp.asarray(array)
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.uint8)
    if array.dtype.itemsize not in _UNSIGNED:
        # Eight bytes become a last axis of two words.
        array = jax.lax.bitcast_convert_type(array, jnp.uint32)
    bits = jax.lax.bitcast_convert_type(array, _UNSIGNED[array.dtype.itemsize])
    # The index is built from one iota an axis, since flattening would gather a sharded array.
    index = jnp.zeros(bits.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(bits.ndim)):
        offset = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
        index = index + offset * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(bits.astype(jnp.uint32) * (2 * index + 1), dtype=jnp.uint32)


@jax.jit
def _jitted_digests(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: digest(leaf) for name, leaf in leaves.items()}


def digests(leaves: Mapping[str, jax.Array]) -> dict[str, int]:
    """`digest` of each array; one program for each order of devices in which arrays lie on them."""
    groups: dict[tuple[jax.Device, ...], dict[str, jax.Array]] = {}
    for name, leaf in leaves.items():
        groups.setdefault(_devices_of(leaf.sharding), {})[name] = leaf
    found: dict[str, jax.Array] = {}
    for group in groups.values():
        found |= _jitted_digests(group)
    return {name: int(found[name]) for name in leaves}


def fingerprint(tree: Any) -> str:
    """The dtype of a tree's first array and a checksum of all arrays, or '' of none; all processes call it together."""
    leaves = {name: jnp.asarray(leaf) for name, leaf in _flatten(tree).items()}
    if not leaves:
        return ""
    found = zlib.crc32(json.dumps(digests(leaves), sort_keys=True).encode())
    return f"{next(iter(leaves.values())).dtype}:{found:08x}"


def _devices_of(sharding: jax.sharding.Sharding) -> tuple[jax.Device, ...]:
    """In the order in which a program must have them: a mesh of TPUs follows their links, not their numbers."""
    if isinstance(sharding, jax.sharding.NamedSharding):
        return tuple(sharding.mesh.devices.flat)
    return tuple(sorted(sharding.device_set, key=lambda device: device.id))


def _flatten(tree: Any) -> dict[str, Any]:
    """The leaves by a readable path; Orbax then stores a flat dictionary, whatever the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError("two leaves of the state have the same path; name their fields apart")
    return named


def _on_device(name: str, leaf: Any) -> jax.Array:
    array = jnp.asarray(leaf)
    if isinstance(leaf, np.ndarray) and array.dtype != leaf.dtype:
        raise ValueError(f"{name} is {leaf.dtype}, of which JAX would keep {array.dtype} only")
    return put(array, _anywhere()) if num_processes() > 1 and array.is_fully_addressable else array


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None or (num_processes() > 1 and sharding.is_fully_addressable):
        sharding = _anywhere()
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=sharding)


def shapes_of(state: Any) -> Any:
    """The structure of a state, by which another can be restored, without its arrays."""

    def shape(leaf: Any) -> Any:
        known = isinstance(leaf, jax.Array)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) if known else leaf

    return jax.tree.map(shape, state)


def _anywhere() -> jax.sharding.Sharding:
    """Where an array goes that is laid out in no way: to the first device, or to all of several processes."""
    devices = jax.devices()
    if num_processes() == 1:
        return jax.sharding.SingleDeviceSharding(devices[0])
    return jax.sharding.NamedSharding(jax.sharding.Mesh(devices, "all"), jax.sharding.PartitionSpec())


def _check_same(step: int, stored: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    for name in sorted(stored.keys() | wanted.keys()):
        there, here = stored.get(name, "absent"), wanted.get(name, "absent")
        if there != here:
            raise ConfigError(
                f"checkpoint {step} does not fit: {name} is {there} there and {here} in this "
                "program; use the model and the settings it was made with"
            )


def _describe(array: jax.Array | jax.ShapeDtypeStruct) -> str:
    return f"{array.dtype.name}[{','.join(map(str, array.shape))}]"


def _text_digest(meta: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())
