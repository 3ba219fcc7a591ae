"""Checkpoints: exact, whole, verified, and laid out as asked."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maro_jax.run.checkpoint import Checkpoints, digest, digests, read_newest
from maro_jax.run.fields import ConfigError


def _state(scale: float = 1.0, sharding=None):
    params = {
        "w": scale * jax.random.normal(jax.random.key(0), (16, 8)),
        "layers": [jnp.full(8, scale, jnp.bfloat16), jnp.arange(8, dtype=jnp.int32)],
    }
    if sharding is not None:
        params["w"] = jax.device_put(params["w"], sharding)
    return {
        "params": params,
        "optimizer": optax.adam(1e-3).init(params),
        "key": jax.random.key_data(jax.random.key(7)),
        "mask": jnp.array([True, False]),
        "step": jnp.int32(3),
    }


def _assert_equal(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def _shardings():
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    return [
        NamedSharding(mesh, PartitionSpec("data", "fsdp")),
        NamedSharding(mesh, PartitionSpec(("data", "fsdp"))),
        NamedSharding(mesh, PartitionSpec()),
    ]


def _data_files(folder, step):
    """Files that hold array data, the largest first."""
    files = [path for path in (folder / str(step)).rglob("d/*") if path.is_file()]
    assert files
    return sorted(files, key=lambda path: path.stat().st_size, reverse=True)


def test_roundtrip_is_exact_and_keeps_structure_and_meta(tmp_path):
    state = _state()
    meta = {"iteration": 3, "statistics": {"wolf": [0.25, 1e-9]}, "name": "ä"}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(state) is None
        checkpoints.save(3, state, meta)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        restored = checkpoints.restore(jax.eval_shape(_state))
    assert (restored.step, restored.meta) == (3, meta)
    _assert_equal(restored.state, state)


def test_resume_ends_where_the_uninterrupted_run_does(tmp_path):
    optimizer = optax.adam(1e-2)
    data = jax.random.normal(jax.random.key(1), (16, 8))

    @jax.jit
    def update(state):
        key = jax.random.fold_in(jax.random.wrap_key_data(state["key"]), state["step"])
        noise = jax.random.normal(key, (8,))
        gradients = jax.grad(lambda w: jnp.sum((w * noise - data) ** 2))(state["w"])
        updates, moments = optimizer.update(gradients, state["optimizer"])
        w = optax.apply_updates(state["w"], updates)
        return {**state, "w": w, "optimizer": moments, "step": state["step"] + 1}

    def initial():
        w = jnp.zeros((16, 8))
        key = jax.random.key_data(jax.random.key(0))
        return {"w": w, "optimizer": optimizer.init(w), "step": jnp.int32(0), "key": key}

    straight = initial()
    for _ in range(9):
        straight = update(straight)
    state = initial()
    while int(state["step"]) < 9:  # three sessions of three steps
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            restored = checkpoints.restore(state)
            state = restored.state if restored else initial()
            for _ in range(3):
                state = update(state)
            checkpoints.save(int(state["step"]), state, {})
        state = jax.tree.map(jnp.zeros_like, state) | {"step": state["step"]}
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        _assert_equal(checkpoints.restore(state).state, straight)


def test_digest_does_not_depend_on_sharding():
    array = jax.random.normal(jax.random.key(0), (16, 8))
    expected = int(digest(np.asarray(array)))
    for sharding in _shardings():
        assert int(jax.jit(digest)(jax.device_put(array, sharding))) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool", "uint32", "int16"])
def test_digest_sees_any_changed_bit_and_any_swap(dtype):
    array = np.asarray(jnp.asarray(np.arange(12).reshape(3, 4) % 2).astype(dtype))
    expected = int(digest(array))
    for index in np.ndindex(array.shape):
        changed = array.copy()
        if dtype == "bool":
            changed[index] = not changed[index]
        else:
            view = changed.view(f"uint{8 * array.dtype.itemsize}")
            view[index] ^= 1 << (8 * array.dtype.itemsize - 1)
        assert int(digest(changed)) != expected
    swapped = array.copy()
    swapped[0, 0], swapped[0, 1] = array[0, 1], array[0, 0]
    assert int(digest(swapped)) != expected


def test_digest_follows_its_formula():
    array = np.random.default_rng(0).integers(0, 2**32, (2, 3, 5), dtype=np.uint32)
    expected = sum((2 * i + 1) * int(bits) for i, bits in enumerate(array.ravel())) % 2**32
    assert int(digest(array)) == expected


def test_restore_into_another_layout(tmp_path):
    first, second, replicated = _shardings()
    state = _state(sharding=first)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state, {})
        for sharding in (second, replicated):
            wanted = _state(sharding=sharding)
            restored = checkpoints.restore(wanted)
            assert restored.state["params"]["w"].sharding == sharding
            _assert_equal(restored.state, state)


def test_donated_arrays_are_saved_as_they_were(tmp_path):
    overwrite = jax.jit(lambda x: x + 1, donate_argnums=0)
    expected = np.arange(1 << 20, dtype=np.float32)
    array = jnp.arange(1 << 20, dtype=jnp.float32)
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        for step in range(1, 4):
            checkpoints.save(step, {"a": array}, {})
            array = overwrite(array)
        restored = checkpoints.restore({"a": array})
    assert restored.step == 3
    np.testing.assert_array_equal(restored.state["a"], expected + 2)


def test_a_save_tells_how_long_the_one_before_took(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.save(1, _state(), {}) == 0
        took = checkpoints.save(2, _state(), {})
        checkpoints.wait()
        assert 0 < took < 60 and checkpoints.save(2, _state(), {}) == 0
        written = json.loads((tmp_path / "1" / "_CHECKPOINT_METADATA").read_text())
        between = written["commit_timestamp_nsecs"] - written["init_timestamp_nsecs"]
        assert took == pytest.approx(between / 1e9, rel=1e-6)


def test_only_the_newest_are_kept_and_a_stored_step_is_not_written_again(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, _state(step), {"step": step})
        assert checkpoints.steps() == [2, 3]
        checkpoints.save(3, _state(99.0), {"step": 99})
        assert checkpoints.restore(_state()).meta == {"step": 3}
        with pytest.raises(ValueError, match="not newer"):
            checkpoints.save(1, _state(), {})


def _flip_byte_in_array(folder):
    """Finds the array's own bytes in the data file, so that no header is hit instead."""
    needle = np.asarray(_incompressible()["a"]).tobytes()[400:464]
    for file in _data_files(folder, 2):
        content = bytearray(file.read_bytes())
        at = content.find(needle)
        if at >= 0:
            content[at] ^= 1
            file.write_bytes(content)
            return
    pytest.fail("the array's bytes were not found in any data file")


def _truncate(folder):
    for file in _data_files(folder, 2):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _remove_manifest(folder):
    for file in (folder / "2").rglob("manifest.ocdbt"):
        file.unlink()


def _change_meta(folder):
    for file in (folder / "2" / "meta").iterdir():
        file.write_bytes(file.read_bytes().replace(b'"iteration": 2', b'"iteration": 3'))


def _empty(folder):
    (folder / "2").rename(folder.parent / "moved")
    (folder / "2").mkdir()


def _incompressible(step: int = 2):
    bits = np.random.default_rng(step).integers(0, 2**32, 4096, dtype=np.uint32)
    return {"a": jnp.asarray(bits)}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_flip_byte_in_array, "a does not hold the values that were saved"),
        (_change_meta, "JSON document"),
        (_truncate, ""),
        (_remove_manifest, ""),
        (_empty, ""),
    ],
)
def test_damaged_newest_is_set_aside_and_the_one_before_used(tmp_path, capsys, damage, reason):
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, _incompressible(step), {"iteration": step})
    damage(folder)
    with Checkpoints(folder, keep=3) as checkpoints:
        restored = checkpoints.restore(_incompressible())
        assert (restored.step, restored.meta) == (1, {"iteration": 1})
        _assert_equal(restored.state, _incompressible(1))
        warning = capsys.readouterr().err
        assert "checkpoint 2 is damaged" in warning and reason in warning
        assert len(list(folder.glob("2.bad-*"))) == 1
        # The run goes on, past the number of the damaged step.
        checkpoints.save(2, _incompressible(3), {"iteration": 2})
        assert checkpoints.steps() == [1, 2]
    with Checkpoints(folder, keep=3) as checkpoints:
        _assert_equal(checkpoints.restore(_incompressible()).state, _incompressible(3))


def test_all_damaged_is_refused(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(2, _incompressible(), {})
    _remove_manifest(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    for _ in range(2):  # a second start begins no new run in the place of the old one either
        with Checkpoints(tmp_path, keep=2) as checkpoints, pytest.raises(ConfigError, match=r"\[2\] in .* can be read"):
            checkpoints.restore(_incompressible())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    (tmp_path / "2").rename(tmp_path / "2.bad-20260101-000000")  # as the version before this one left it
    with Checkpoints(tmp_path, keep=2) as checkpoints, pytest.raises(ConfigError, match="2.bad-.* can be read"):
        checkpoints.restore(_incompressible())


def test_a_step_that_could_not_be_read_once_is_read_again(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(2, _incompressible(), {})
    hidden, away = tmp_path / "2" / "state" / "manifest.ocdbt", tmp_path / "away"
    hidden.rename(away)
    monkeypatch.setattr("maro_jax.run.checkpoint.time.sleep", lambda seconds: away.rename(hidden))
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(_incompressible()).step == 2 and checkpoints.steps() == [2]


def test_unfinished_step_is_not_trusted(tmp_path):
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        checkpoints.save(1, _state(), {})
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        assert checkpoints.steps() == [1]
        checkpoints.save(2, _state(), {})
        assert checkpoints.restore(_state()).step == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s["params"].update(w=jnp.zeros((16, 9))), r"params\.w is float32\[16,8\] there"),
        (lambda s: s.update(step=jnp.float32(0)), r"step is int32\[\] there and float32\[\] in"),
        (lambda s: s.update(extra=jnp.zeros(1)), r"extra is absent there"),
        (lambda s: s.pop("mask"), r"mask is bool\[2\] there and absent"),
    ],
)
def test_another_state_is_refused_and_nothing_renamed(tmp_path, change, sentence):
    wanted = _state()
    change(wanted)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(1, _state(), {})
        with pytest.raises(ConfigError, match=sentence):
            checkpoints.restore(wanted)
        assert checkpoints.steps() == [1]


def test_arrays_that_would_lose_bits_are_refused(tmp_path):
    with (
        Checkpoints(tmp_path, keep=1) as checkpoints,
        pytest.raises(ValueError, match="a is int64"),
    ):
        checkpoints.save(1, {"a": np.arange(3)}, {})


def _files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_reader_takes_a_part_in_any_layout_and_changes_nothing(tmp_path):
    assert read_newest(tmp_path / "none", {"params": _state()["params"]}) is None
    first, second, _ = _shardings()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert read_newest(tmp_path, {"params": _state()["params"]}) is None
        for step in (1, 2):
            checkpoints.save(step, _state(step, sharding=first), {"step": step})
        checkpoints.wait()
        (tmp_path / "3.orbax-checkpoint-tmp").mkdir()  # as if this process were writing the next one
        before = _files(tmp_path)
        wanted = _state(sharding=second)["params"]
        found = read_newest(tmp_path, {"params": wanted})
        assert (found.step, found.meta) == (2, {"step": 2})
        _assert_equal(found.state, {"params": _state(2)["params"]})
        assert found.state["params"]["w"].sharding == second
        with pytest.raises(ConfigError, match=r"params\.w is float32\[16,8\] there and float32\[16,9\]"):
            read_newest(tmp_path, {"params": wanted | {"w": jnp.zeros((16, 9))}})
        with pytest.raises(ConfigError, match="other is absent there"):
            read_newest(tmp_path, {"other": wanted["w"]})
        assert _files(tmp_path) == before


@pytest.mark.parametrize("damage", [_flip_byte_in_array, _change_meta, _truncate, _remove_manifest, _empty])
def test_a_reader_passes_over_a_damaged_step(tmp_path, damage):
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, _incompressible(step) | {"rest": jnp.zeros(3)}, {"iteration": step})
    damage(folder)
    before = _files(folder)
    assert read_newest(folder, _incompressible()).step == 1
    assert _files(folder) == before


def test_arrays_may_lie_on_devices_in_several_orders():
    """A mesh of TPUs follows their links, and what is laid out in no way their numbers."""
    array, devices = np.arange(16, dtype=np.float32), np.array(jax.devices())
    placed = {
        str(order[0]): jax.device_put(array, NamedSharding(jax.sharding.Mesh(order, "all"), PartitionSpec("all")))
        for order in (devices, devices[::-1])
    }
    assert set(digests(placed).values()) == {int(digest(array))} and len(placed) == 2
