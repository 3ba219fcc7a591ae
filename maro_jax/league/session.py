"""What an entry point needs before it can play: devices, games laid out for a model, their arenas."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from games.core import GameError
from games.registry import make
from maro_jax.league.arena import Arena
from maro_jax.league.pool import FREE
from maro_jax.policy.config import ModelError
from maro_jax.policy.decoder import Policy
from maro_jax.policy.lora import Adapted, Lora, lora_of
from maro_jax.policy.models import load_policy, usual_dtype
from maro_jax.policy.sharding import make_mesh, parameter_shardings, trained_shardings
from maro_jax.policy.tokenizer import TextTokenizer
from maro_jax.run.checkpoint import read_newest
from maro_jax.run.config import MEETING_PAST_SELVES
from maro_jax.run.distributed import num_processes, together
from maro_jax.run.fields import ConfigError
from maro_jax.run.inputs import GameParameters, parse_games, split_games
from maro_jax.selfplay.table import Table

ADAPTER = 1  # keeps the draw of an adapter apart from the model's


@dataclasses.dataclass(frozen=True)
class Session:
    """Games, a model and devices, ready to play.

    Attributes:
      arenas: play episodes, one a game.
      params: what training changes: the model's parameters, loaded or drawn from the seed; with LoRA a new adapter.
      base: with LoRA, the frozen model's parameters as it computes with them, split over the mesh.
    """

    arenas: tuple[Arena, ...]
    params: Any
    base: Any = None

    def whole(self, trained: Any) -> Any:
        """Parameters of a plain model: with LoRA, an adapter merged into its base, else as they are."""
        policy = self.arena.table.policy
        return trained if policy.lora is None else jax.jit(policy.merged)(Adapted(self.base, trained))

    @property
    def arena(self) -> Arena:
        """The only game's, or the first one's: model and devices are the same for all."""
        return self.arenas[0]


def device_facts() -> dict[str, Any]:
    """Plain facts about the devices, for the run's record."""
    first = jax.devices()[0]
    facts = {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count()}
    return facts | ({"processes": num_processes()} if num_processes() > 1 else {})


def open_session(
    *,
    model: str,
    games: str,
    seed: int,
    lanes: int,
    episodes: int,
    capacity: int,
    overflow: str,
    mesh_shape: tuple[int, int, int],
    precision: str,
    remat: str = "auto",
    lora: Lora | None = None,
) -> Session:
    """Loads the model, lays out the games and prepares an arena for each.

    Args:
      model: `tiny` or a Hugging Face folder.
      games: as name[:key=value,...], one or several.
      seed: root of all randomness.
      lanes: episodes in progress over all devices.
      episodes: episodes of one rollout call.
      capacity: stream tokens a seat, 0 for each game's worst case.
      overflow: `refuse` or `truncate` what cannot fit.
      mesh_shape: sizes of the mesh axes data, fsdp and tensor.
      precision: of matrix products.
      remat: what a gradient computes again instead of keeping it, see `Policy`.
      lora: of an adapter to train instead of the model.

    Raises:
      ConfigError: one sentence on what cannot be used.
    """
    dtype = usual_dtype()
    chosen = parse_games(games)
    names = [name for name, _ in chosen]
    labels = [name if names.count(name) == 1 else text for name, text in zip(names, split_games(games), strict=True)]
    arenas = []
    try:
        mesh: Mesh = make_mesh(*mesh_shape)
        # Read in each process; only where all can do so they go on.
        policy, params, tokenizer = together(lambda: _loaded(model, dtype, precision, mesh))
        policy = dataclasses.replace(policy, remat=remat, lora=lora)
        params, base = _trained_and_base(policy, params, mesh, seed)
        whole = None if base is None else jax.device_put(base, NamedSharding(mesh, PartitionSpec()))
        for (name, parameters), label in zip(chosen, labels, strict=True):
            table = Table.lay(make(name, **_as_text(parameters)), policy, tokenizer)
            room = table.stream_capacity(capacity, overflow)
            sizes = {"lanes": lanes, "episodes": episodes, "capacity": room}
            arenas.append(Arena(table, mesh, **sizes, seed=seed, name=label, base=whole))
    except (GameError, ModelError) as error:
        raise ConfigError(str(error)) from None
    return Session(tuple(arenas), params, base)


def _loaded(model: str, dtype: str, precision: str, mesh: Mesh) -> tuple[Policy, Any, TextTokenizer]:
    try:
        return load_policy(model, dtype=dtype, precision=precision, mesh=mesh)
    except ModelError as error:
        raise ConfigError(str(error)) from None


def _trained_and_base(policy: Policy, params: Any, mesh: Mesh, seed: int) -> tuple[Any, Any]:
    """What training changes, and what it leaves frozen, from parameters that were loaded or (None) are to be drawn."""
    key = jax.random.key(seed)
    params = policy.init(key) if params is None else params
    if policy.lora is None:
        return params, None
    split = jax.jit(policy.for_computing, out_shardings=parameter_shardings(policy, mesh))
    adapter = jax.jit(policy.init_trained, out_shardings=trained_shardings(policy, mesh))
    return adapter(jax.random.fold_in(key, ADAPTER)), split(params)


def _as_text(parameters: GameParameters) -> dict[str, Any]:
    """Parameters as a game's constructor reads them from the command line."""
    return {key: str(value).lower() if isinstance(value, bool) else value for key, value in parameters.items()}


def stored_params(session: Session, run: str, which: str) -> tuple[Any, int]:
    """Parameters kept in a run's newest checkpoint, laid out for the session's devices.

    Args:
      session: of the run's model.
      run: its folder.
      which: `learner.params`, or `opponent` for the warm start.

    Returns:
      The parameters, and the iterations the run had finished by then.

    Raises:
      ConfigError: there is no such checkpoint, or it is of another model.
    """
    state, step = _stored(run, {which: _wanted_params(session)})
    return state[which], step


def stored_past_selves(session: Session, run: str, settings: Mapping[str, Any]) -> list[tuple[int, Any]]:
    """The past selves in a run's newest checkpoint, oldest first, each with the iterations it had learnt for.

    Args:
      session: of the run's model.
      run: its folder.
      settings: its configuration.

    Raises:
      ConfigError: the run keeps none, or has none so far.
    """
    size = settings["pool_size"] if settings["opponents"] in MEETING_PAST_SELVES else 0
    if not size:
        raise ConfigError(f"{run} was trained with --opponents={settings['opponents']} and keeps no past selves; leave "
                          "past out, for example --opponent=warm_start")  # fmt: skip
    wanted = {
        "pool": {"members": (_wanted_params(session),) * size, "born": jax.ShapeDtypeStruct((1 + size,), "int32")}
    }
    pool = _stored(run, wanted)[0]["pool"]
    found = sorted((at, index) for index, at in enumerate(pool["born"].tolist()[1:]) if at != FREE)
    if not found:
        raise ConfigError(f"{run} has no past self so far: one is kept every --pool_every={settings['pool_every']} "
                          "iterations of self-play")  # fmt: skip
    return [(at, pool["members"][index]) for at, index in found]


def _wanted_params(session: Session) -> Any:
    """Shapes and shardings of what training changes."""
    policy, mesh = session.arena.table.policy, session.arena.mesh
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        policy.abstract_trained(),
        trained_shardings(policy, mesh),
    )


def _stored(run: str, wanted: Any) -> tuple[Any, int]:
    """A part of the state in a run's newest checkpoint, and its step."""
    restored = read_newest(Path(run).expanduser() / "checkpoints", wanted)
    if restored is None:
        raise ConfigError(f"{run} holds no checkpoint that was completely written; train on first")
    return restored.state, restored.step


def run_session(config: Any, **changes: Any) -> Session:
    """The session of a training configuration, with some settings changed.

    Args:
      config: a `TrainConfig`, or the mapping recorded in a run's config.json.
      **changes: arguments of `open_session` to replace.
    """
    values: Mapping[str, Any] = config if isinstance(config, Mapping) else dataclasses.asdict(config)
    settings = {name: values[name] for name in ("model", "games", "seed", "lanes", "episodes", "capacity", "overflow")}
    settings |= {"precision": values["matmul_precision"], "remat": values.get("remat", "auto")}
    settings["lora"] = lora_of(values)
    return open_session(**(settings | changes))
