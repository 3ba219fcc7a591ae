"""Small games played by small models, each in a program that the tests share."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from games.registry import make
from maro_jax.policy.config import tiny_config
from maro_jax.policy.decoder import Policy
from maro_jax.policy.models import load_policy
from maro_jax.policy.sharding import MESH_AXES
from maro_jax.selfplay.episodes import Episodes, RolloutPlan
from maro_jax.selfplay.rollout import build_rollout
from maro_jax.selfplay.table import RolloutSizes, Table
from tests.compiling import FASTER
from tests.games.recording import QUICKLY
from tests.policy.hf_fixture import make_model_folder

# What is played: parameters of Werewolf, and the model.
GAMES: dict[str, dict[str, Any]] = {
    "acts": {"num_seats": 6, "max_days": 2},
    "text": {"num_seats": 5, "max_days": 2, "speech_tokens": 4, "thought_tokens": 3},
    "folder": {"num_seats": 5, "max_days": 1, "speech_tokens": 4, "speech_acts": False},
}
# Other families of models, in a game that takes less time to compile.
OTHER_FAMILIES = ("qwen3", "llama")
EPISODES = 16

# Three ways to lay the same episodes out: number of devices and sizes on each of them.
LAYOUTS: dict[str, tuple[int, dict[str, int]]] = {
    "few lanes": (1, {"lanes": 5, "ingest_rows": 2, "ingest_tokens": 16, "decode_rows": 3, "decode_tokens": 4,
                      "decode_steps": 1, "block": 64}),
    "a lane a game": (1, {"lanes": 16, "ingest_rows": 9, "ingest_tokens": 33, "decode_rows": 16, "decode_tokens": 1,
                          "decode_steps": 2, "block": 40}),
    "eight devices": (8, {"lanes": 1, "ingest_rows": 1, "ingest_tokens": 5, "decode_rows": 1, "decode_tokens": 2,
                          "decode_steps": 1, "block": 16}),
}  # fmt: skip


# Half the compile time of `QUICKLY` alone.
COMPILER_OPTIONS = QUICKLY | FASTER


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """A game with two parameter sets of a model.

    Attributes:
      name: of the game, see `GAMES`, or of the family, see `OTHER_FAMILIES`.
      table: the game laid out for the model.
      params: the learner's parameters and the opponent's.
      torch_model: the same model by transformers, where it comes from a folder.
    """

    name: str
    table: Table
    params: tuple[Any, Any]
    torch_model: Any


@functools.cache
def world(name: str) -> World:
    """A world by name; products are as exact as the device can make them."""
    other, torch_model = name in OTHER_FAMILIES, None
    game = make("kuhn-v0", speech_tokens=4) if other else make("werewolf-v0", **GAMES[name])
    if other or name == "folder":
        with tempfile.TemporaryDirectory() as folder:
            torch_model = make_model_folder(Path(folder), name if other else "qwen2")
            policy, loaded, tokenizer = load_policy(folder, precision="highest")
        params = (loaded, loaded)
    else:
        policy, _, tokenizer = load_policy("tiny", precision="highest")
        params = tuple(decided(policy.init(jax.random.key(seed))) for seed in range(2))
    return World(name, Table.lay(game, policy, tokenizer), params, torch_model)


def smallest_policy(vocab_size: int) -> Policy:
    """A policy of one layer for any tokenizer, with room for long streams."""
    config = dataclasses.replace(
        tiny_config(vocab_size), hidden_size=16, intermediate_size=16, num_layers=1, num_heads=2, num_kv_heads=1,
        head_dim=8, max_positions=16384,
    )  # fmt: skip
    return Policy(config)


def decided(params: Any) -> Any:
    """Parameters whose choices are far from uniform, so that a wrong mask or position shows."""
    return params | {"embedding": params["embedding"] * 3.0}


def mesh_of(data: int = 1, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """A mesh over the first devices."""
    devices = np.array(jax.devices()[: data * fsdp * tensor]).reshape(data, fsdp, tensor)
    return Mesh(devices, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def plan_of(holders: np.ndarray, first: int = 0) -> RolloutPlan:
    """Episodes numbered from `first`, each with a deal of its own; holders int[E, sides]."""
    number = np.arange(first, first + len(holders), dtype=np.int32)
    return RolloutPlan(episode=number, deal=number, holders=holders.astype(np.int8))


def every_pairing() -> np.ndarray:
    """int[16, 2]: every kind of holder on one side with every kind on the other."""
    return np.stack([np.arange(EPISODES) // 4, np.arange(EPISODES) % 4], axis=1)


def all_learners() -> np.ndarray:
    """int[16, 2]: the learner against itself."""
    return np.zeros((EPISODES, 2))


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A compiled rollout of a world.

    Attributes:
      models: number of parameter sets.
      traced: the traced program, with its jaxpr.
      compiled: the program.
    """

    models: int
    traced: Any
    compiled: Callable[..., tuple[Episodes, Any]]

    def play(
        self, params: tuple[Any, ...], plan: RolloutPlan, *, seed: int = 0, temperature: float = 1.0
    ) -> tuple[Episodes, Any]:
        """Plays a plan of as many episodes as the program was compiled for; the result is on the host."""
        heat = jnp.full((self.models,), temperature, jnp.float32)
        return jax.device_get(self.compiled(params[: self.models], heat, jax.random.key(seed), plan))


@functools.cache
def program(name: str, layout: str, *, models: int, scripted: bool, capacity: int = 0) -> Program:
    """The program of a world in one of the `LAYOUTS`, for `EPISODES` episodes; capacity 0 is the game's worst case."""
    place = world(name)
    devices, sizes = LAYOUTS[layout]
    rollout = build_rollout(
        place.table,
        RolloutSizes(capacity=capacity or place.table.stream_capacity(0, "refuse"), **sizes),
        mesh_of(devices),
        models=models,
        scripted=scripted,
    )
    quick = jax.jit(rollout, compiler_options=COMPILER_OPTIONS)
    traced = quick.trace(place.params[:models], jnp.ones(models), jax.random.key(0), plan_of(all_learners()))
    return Program(models, traced, traced.lower().compile())


# What most tests look at: games of the learner alone, or of every pairing of holders where the game is cheap enough.
@functools.cache
def played(name: str) -> Episodes:
    """The episodes that most tests of a world look at."""
    if name == "text":
        return program(name, "few lanes", models=2, scripted=True).play(world(name).params, plan_of(every_pairing()))[0]
    return program(name, "few lanes", models=1, scripted=False).play(world(name).params, plan_of(all_learners()))[0]
