"""What the tests of `maro_jax.run.distributed` run in each of several processes.

python -m tests.run.distributed_worker SCENARIO FOLDER FLAGS OF TRAINING...
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from maro_jax.run import distributed
from maro_jax.run.config import TrainConfig
from maro_jax.run.devices import arrange_cpu_devices
from maro_jax.run.directory import FollowedDirectory, RunDirectory
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import parse

LOCAL_DEVICES = 2


def refusal(work: Any) -> str:
    """What `work` refuses in all processes alike."""
    try:
        distributed.together(work)
    except distributed.AgreedError as error:
        return str(error)
    return ""


def agreements(config: TrainConfig) -> dict[str, Any]:
    """What processes tell each other, and refuse together."""
    index = config.process_id

    def refuse_in_second() -> None:
        if index == 1:
            raise ConfigError("no such file")

    def refuse_other_command() -> None:
        distributed._refuse_other_commands(dataclasses.replace(config, seed=index))

    return {
        "first": distributed.is_first(),
        "count": distributed.num_processes(),
        "gathered": distributed.gathered(["é" * 100 * index, {"index": index}]),
        "done": distributed.together(lambda: index),
        "in one": refusal(refuse_in_second),
        "other command": refusal(refuse_other_command),
    }


def arrays() -> dict[str, Any]:
    """Arrays laid out over all devices, and fetched again."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    layouts = [jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in ((), ("a", "b"), ("b",))]
    values = [np.arange(24, dtype=np.int16).reshape(4, 6), np.array([True, False] * 4).reshape(4, 2)]
    values.append(jnp.arange(8, dtype=jnp.bfloat16).reshape(4, 2))
    placed = [(value, distributed.put(value, layout)) for value in values for layout in layouts]
    again = distributed.put([array for _, array in placed], layouts[1])
    key = distributed.put(jax.random.fold_in(jax.random.key(3), 5), layouts[0])
    draw = jax.jit(lambda key: jax.random.bits(key, (3,)))
    return {
        "equal": [bool(np.array_equal(distributed.fetch(array), value)) for value, array in placed],
        "moved": [
            array.sharding == layouts[1] and bool(np.array_equal(distributed.fetch(array), value))
            for (value, _), array in zip(placed, again, strict=True)
        ],
        "drawn": np.asarray(draw(key)).tolist() == np.asarray(draw(jax.random.fold_in(jax.random.key(3), 5))).tolist(),
    }


def checkpoints(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Steps that all write, of which one process cannot read the last."""
    import jax
    import numpy as np

    from maro_jax.run import checkpoint

    mesh = jax.make_mesh((4,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("a"))

    def whole(step: int) -> Any:
        return np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32)

    def state(step: int) -> dict[str, Any]:
        return {"split": distributed.put(whole(step), split), "plain": np.arange(step, step + 5, dtype=np.int32)}

    untouched = checkpoint._load

    def fails_here(manager: Any, step: int, *arguments: Any, **keywords: Any) -> Any:
        if config.process_id == 1 and step == 2:
            raise checkpoint._Damaged("half a file")
        return untouched(manager, step, *arguments, **keywords)

    checkpoint._load = fails_here
    with checkpoint.Checkpoints(folder / "steps", keep=3) as kept:
        for step in (1, 2):
            kept.save(step, state(step), {"step": step})
        restored = kept.restore(state(0))
        assert restored is not None
        found = [distributed.fetch(restored.state[name]).tolist() for name in ("split", "plain")]
        wanted = [whole(1).tolist(), state(1)["plain"].tolist()]
        return {"step": restored.step, "same": found == wanted, "steps": kept.steps()}


def folders(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """A run's folder that all see, and one that the second process does not."""
    seen = RunDirectory.open(folder / "run", config) if distributed.is_first() else FollowedDirectory(folder / "run")
    distributed.gathered(seen.mark("a text"))
    elsewhere = seen if distributed.is_first() else FollowedDirectory(folder / "elsewhere")
    found = {
        "seen": refusal(lambda: seen.check_mark("a text", seconds=20)),
        "elsewhere": refusal(lambda: elsewhere.check_mark("a text", seconds=0.3)),
    }
    seen.close()
    return found


def main(scenario: str, folder: Path, flags: list[str]) -> None:
    """Joins the others, plays the scenario and leaves what it found in a file."""
    config = parse(TrainConfig, flags)
    arrange_cpu_devices(LOCAL_DEVICES)
    with distributed.alone_at_once():
        distributed.join(config)
        print("joined", flush=True)
        if scenario == "sleep":
            time.sleep(300)
        if scenario == "crash" and config.process_id == 1:
            raise ArithmeticError("something unforeseen")
        found = agreements(config) | arrays()
        found |= {"checkpoint": checkpoints(config, folder), "folder": folders(config, folder)}
    (folder / f"{config.process_id}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
