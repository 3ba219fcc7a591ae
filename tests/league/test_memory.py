"""The memory a run will take is counted before it starts, and what cannot fit is refused with what would."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import optax
import pytest

from maro_jax.league import memory
from maro_jax.league.memory import (
    MemoryPlan,
    check_memory,
    device_memory,
    gradient_bytes,
    plan_memory,
    playing_bytes,
)
from maro_jax.league.session import run_session
from maro_jax.league.trainer import Trainer
from maro_jax.learner.decisions import Decisions
from maro_jax.learner.packing import empty_streams
from maro_jax.learner.update import Learner
from maro_jax.policy.config import TINY, DecoderConfig
from maro_jax.run.config import make_config
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.table import RolloutSizes
from maro_jax.train import _fitting

MEBIBYTE = 2**20
DEEP = dataclasses.replace(TINY, num_layers=6)
SCANNED = dataclasses.replace(TINY, num_layers=8, hidden_size=512, intermediate_size=1024)


@functools.cache
def trainer(remat: str = "auto", fsdp: int = 1) -> Trainer:
    devices = jax.device_count()
    changes = {"remat": remat, "reference_point": "token_kl", "fsdp": fsdp, "lanes": 512}
    config = make_config("werewolf-tiny", changes)
    return Trainer(run_session(config, mesh_shape=(devices // fsdp, fsdp, 1)).arenas, config)


@functools.cache
def plan() -> MemoryPlan:
    return plan_memory(trainer())


def test_what_is_always_held_is_what_the_state_holds():
    state = trainer().start(trainer().decisions.policy.init(jax.random.key(0)))
    held = (state.learner.params, state.learner.opt_state, state.opponent)
    bytes_of = [sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree)) for tree in held]
    assert list(plan().resident.values()) == bytes_of
    assert plan().learning["gradients"] == 2 * plan().learning["reference"] == 2 * bytes_of[0]


def test_split_parameters_take_a_part_on_each_device():
    whole, split = plan().resident, plan_memory(trainer(fsdp=4)).resident
    assert split["parameters"] < 0.3 * whole["parameters"] and split["optimizer"] < 0.3 * whole["optimizer"]


def test_lanes_that_fit_are_proposed():
    slim = MemoryPlan(plan().resident, plan().playing, {"gradients": 0})
    room = slim.peak - plan().playing["caches"] // 2
    with pytest.raises(ConfigError, match=r"--lanes=\d+ would fit") as refused:
        check_memory(trainer(), slim, room)
    arena = trainer().arenas[0]
    proposed = int(re.search(r"--lanes=(\d+)", str(refused.value)).group(1))  # type: ignore[union-attr]
    assert proposed % arena.mesh.size == 0 and trainer().config.lanes // 4 <= proposed < trainer().config.lanes
    sizes = RolloutSizes.fit(arena.table, proposed // arena.mesh.size, arena.sizes.capacity)
    assert sum(plan().resident.values()) + sum(playing_bytes(arena, sizes).values()) <= room


def test_lanes_that_are_ours_to_choose_are_as_many_as_fit(monkeypatch):
    monkeypatch.setattr(memory, "gradient_bytes", lambda *_: 0)  # so that playing takes more than learning
    config, arena = dataclasses.replace(trainer().config, lanes=0), trainer().arenas[0]
    monkeypatch.setattr(memory, "device_memory", lambda: None)
    assert _fitting(trainer(), config)[0] is trainer() and arena.lanes == 512
    whole, half = (
        sum(playing_bytes(arena, RolloutSizes.fit(arena.table, lanes, arena.sizes.capacity)).values())
        for lanes in (arena.sizes.lanes, arena.sizes.lanes // 2)
    )
    room = sum(plan().resident.values()) + (whole + half) // 2
    monkeypatch.setattr(memory, "device_memory", lambda: room)
    fewer, _ = _fitting(trainer(), config)
    assert fewer.arenas[0].lanes == 256 and fewer.arenas[0].table is arena.table and arena.lanes == 512
    assert plan_memory(fewer).peak <= room < plan_memory(trainer()).peak
    with pytest.raises(ConfigError, match="--lanes=256 would fit"):
        _fitting(trainer(), trainer().config)


def test_what_no_number_of_lanes_helps_is_refused():
    with pytest.raises(ConfigError, match="learning alone does not fit: keep less .*--remat=full.*--fsdp=4"):
        check_memory(trainer(), plan(), sum(plan().resident.values()) + MEBIBYTE)
    with pytest.raises(ConfigError, match="learning alone does not fit: split"):
        check_memory(trainer("full"), plan(), MEBIBYTE)
    slim = MemoryPlan(plan().resident, plan().playing, {"gradients": 0})
    with pytest.raises(ConfigError, match="not even a lane a device fits"):
        check_memory(trainer(), slim, sum(plan().resident.values()) + 1000)


def test_what_fits_or_is_unknown_goes_on():
    check_memory(trainer(), plan(), plan().peak)
    check_memory(trainer(), plan(), None)
    known = device_memory()
    assert known is not None and MEBIBYTE < known < 2**50
    assert re.fullmatch(r"0\.\d+ GiB a device \(always .*; playing .*; learning .*\)", plan().text())


@functools.cache
def deep_learner(remat: str, model: DecoderConfig = DEEP, dtype: str = "float32") -> Learner:
    """The learner of another model."""
    of = trainer(remat)
    tables = []
    for arena in of.arenas:
        config = dataclasses.replace(model, vocab_size=arena.table.policy.config.vocab_size)
        policy = dataclasses.replace(arena.table.policy, config=config, dtype=dtype)
        tables.append(dataclasses.replace(arena.table, policy=policy))
    return Learner(
        Decisions.of(tables),
        of.learner.shapes,
        of.arenas[0].mesh,
        of.learner.options,
        optax.constant_schedule(1e-3),
        optimizer="adam",
        max_grad_norm=1.0,
        max_spike=0.0,
        entropy_weight=0.0,
    )


def test_recomputing_takes_less():
    learners = deep_learner("none"), deep_learner("full")
    kept, recomputed = (gradient_bytes(each, each.shapes[-1]) for each in learners)
    assert recomputed < 0.5 * kept


@pytest.mark.parametrize(("dtype", "itemsize"), [("bfloat16", 2), ("float32", 4)])
def test_the_stacked_copy_of_the_layers_is_planned(dtype: str, itemsize: int):
    learner = deep_learner("full", SCANNED, dtype)
    layers = learner.decisions.policy.abstract_params()["layers"]
    copies = sum(itemsize * leaf.size for leaf in jax.tree.leaves(layers) if leaf.ndim > 1)
    few = dataclasses.replace(learner.shapes[-1], rows=8)
    assert copies < gradient_bytes(learner, few) < 2 * copies


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "full"])
def test_a_gradient_takes_about_the_memory_that_was_planned(remat: str):
    learner = deep_learner(remat)
    params, shape = learner.decisions.policy.abstract_params(), learner.shapes[-1]
    place = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        params,
        learner.params_sharding,
    )
    rows = jax.device_put(empty_streams(learner.decisions, shape), learner.batch_sharding)
    point = jnp.zeros((learner.decisions.num_phases,))
    sums = jax.tree.map(jnp.zeros_like, learner._zero_sums())
    lowered = learner._accumulate.lower(place, sums, place, None, place, point, jnp.float32(1), rows)
    used = lowered.compile().memory_analysis().temp_size_in_bytes
    gradient = sum(4 * leaf.size for leaf in jax.tree.leaves(params))
    assert 0.55 < used / (gradient + gradient_bytes(learner, shape)) < 1.25


def test_forks_are_planned_with_their_past():
    config = dataclasses.replace(trainer().config, decompose="fork", fork_behaviours=1024, fork_pairs=2)
    forking = Trainer(trainer().arenas, config)
    (of,) = forking.forking
    assert of.arena.episodes == 4096 and of.arena.lanes == trainer().arenas[0].lanes == 512
    planned = plan_memory(forking).playing
    assert planned["past of forks"] == planned["episodes"] > 7 * plan().playing["episodes"]
    assert planned["caches"] == plan().playing["caches"]
    few = Trainer(trainer().arenas, dataclasses.replace(config, fork_behaviours=5, fork_pairs=1))
    assert few.forking[0].arena.episodes == few.forking[0].arena.lanes == 16  # a multiple of the eight devices
    assert plan_memory(few).playing == plan().playing
