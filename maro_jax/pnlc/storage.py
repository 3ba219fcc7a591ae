"""A critic's folder: `critic.safetensors` holds its arrays, `critic.json` all else, and a digest of each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from maro_jax.pnlc.calibration import Bin, Calibration
from maro_jax.pnlc.networks import Critic, Scaling
from maro_jax.pnlc.recognition import Recognition
from maro_jax.pnlc.value import ValueOptions, new_networks
from maro_jax.run.fields import ConfigError

WEIGHTS, DOCUMENT = "critic.safetensors", "critic.json"
FORMAT, OLDEST = 3, 2  # in the second `reach` is of other distances, and there is no `recognition`


@dataclasses.dataclass(frozen=True)
class SavedCritic:
    """What a critic's folder holds.

    Attributes:
      critic: with arrays on the device.
      goals: the text of each of its G goals.
      utilities: what reaching each goal is worth to the actor.
      reach: how far from each goal a text may lie and still be taken for it (`maro_jax.pnlc.recognition`).
      game: versioned name of the game whose thoughts it judges.
      parameters: all rule parameters of the game.
      embedder: which embedder its texts went through: `Embedder.name`, from which `embedder_of` opens it again.
      embedder_address: of the server that embedded them; empty: none did, or OpenAI's.
      recognition: how the embedder took other words for goals; None of critics stored before this was measured.
      options: how it was trained.
      calibration: how it did on held-out episodes.
    """

    critic: Critic
    goals: tuple[str, ...]
    utilities: tuple[float, ...]
    reach: tuple[float, ...]
    game: str
    parameters: Mapping[str, Any]
    embedder: str
    options: ValueOptions
    calibration: Calibration
    embedder_address: str = ""
    recognition: Recognition | None = None


def save(folder: str | Path, saved: SavedCritic) -> None:
    """Writes a critic's folder, which appears whole or not at all.

    Raises:
      ConfigError: there is something in its place, or the goals have not a text, a utility and a reach each.
    """
    folder = Path(folder).expanduser()
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"{folder} exists already and is not overwritten; name a new folder to save the critic in")
    for name, of_goals in (("texts", saved.goals), ("utilities", saved.utilities), ("distances", saved.reach)):
        if len(of_goals) != len(saved.critic.goal):
            raise ConfigError(f"{len(of_goals)} {name} were given for the {len(saved.critic.goal)} goals of the critic")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        arrays = {name: np.ascontiguousarray(leaf) for name, leaf in _leaves(saved.critic).items()}
        safetensors.numpy.save_file(arrays, part / WEIGHTS)
        document = {
            "format": FORMAT,
            "embedding_size": int(saved.critic.goal.shape[1]),
            "goals": list(saved.goals),
            "utilities": list(saved.utilities),
            "reach": list(saved.reach),
            "game": saved.game,
            "parameters": dict(saved.parameters),
            "embedder": saved.embedder,
            "embedder_address": saved.embedder_address,
            "options": dataclasses.asdict(saved.options),
            "calibration": dataclasses.asdict(saved.calibration),
            "recognition": dataclasses.asdict(saved.recognition) if saved.recognition else None,
            "weights_sha256": _sha256((part / WEIGHTS).read_bytes()),
        }
        text = json.dumps({"critic": document, "sha256": _sha256(_canonical(document))}, indent=2, allow_nan=False)
        (part / DOCUMENT).write_text(text + "\n", encoding="utf-8")
        part.chmod(0o755)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def load(folder: str | Path) -> SavedCritic:
    """Reads a critic's folder.

    Raises:
      ConfigError: there is no critic, one of another format, or one whose files are not those that were saved.
    """
    folder = Path(folder).expanduser()
    document = _document(folder)
    damaged = ConfigError(f"{folder / WEIGHTS} is not the file that was saved; copy the critic's folder again")
    try:
        contents = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError:
        raise damaged from None
    if _sha256(contents) != document["weights_sha256"]:
        raise damaged
    options, goals = ValueOptions(**document["options"]), tuple(document["goals"])
    bins = tuple(Bin(**each) for each in document["calibration"].pop("bins"))
    critic = _filled(options, document["embedding_size"], len(goals), safetensors.numpy.load(contents))
    calibration, measured = Calibration(**document["calibration"], bins=bins), document.get("recognition")
    return SavedCritic(
        critic=critic,
        goals=goals,
        utilities=tuple(document["utilities"]),
        reach=tuple(document["reach"]),
        game=document["game"],
        parameters=document["parameters"],
        embedder=document["embedder"],
        options=options,
        calibration=calibration,
        embedder_address=document.get("embedder_address", ""),  # critics of before 2026-11 keep none
        recognition=Recognition(**measured) if measured else None,
    )


def _document(folder: Path) -> dict[str, Any]:
    """What `critic.json` says of the critic, held against its digest."""
    path = folder / DOCUMENT
    try:
        outer = json.loads(path.read_text(encoding="utf-8"))
        document, digest = outer["critic"], outer["sha256"]
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{folder} is no critic: it has no {DOCUMENT}; name a folder that training wrote") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} is damaged; copy the critic's folder again") from None
    if _sha256(_canonical(document)) != digest:
        raise ConfigError(f"{path} is not the file that was saved; copy the critic's folder again")
    if not OLDEST <= document["format"] <= FORMAT:
        raise ConfigError(
            f"{path} is of format {document['format']}, and this version reads {OLDEST} to {FORMAT}; train it anew"
        )
    return document


def _leaves(critic: Critic) -> dict[str, Any]:
    """The critic's arrays by path, such as `networks.q.state.kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(critic)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _filled(options: ValueOptions, size: int, goals: int, arrays: Mapping[str, np.ndarray]) -> Critic:
    """A critic of these sizes with these arrays."""

    def empty() -> Critic:
        scaling = {name: Scaling(jnp.zeros(size), jnp.float32(0)) for name in ("state", "thought", "goal")}
        return Critic(new_networks(size, options, jax.random.key(0)), scaling, jnp.zeros((goals, size)))

    shapes = jax.eval_shape(empty)
    return jax.tree.unflatten(jax.tree.structure(shapes), [jnp.asarray(arrays[name]) for name in _leaves(shapes)])


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, allow_nan=False).encode()


def _sha256(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()
