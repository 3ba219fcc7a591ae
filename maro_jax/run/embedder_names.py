"""The text that names an embedder: `words:SIZE`, `policy:RUN@LAYERS`, `sentence:FOLDER`, `api:MODEL`."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from maro_jax.run.fields import ConfigError, check_choice
from maro_jax.run.inputs import check_player

KINDS = ("words", "policy", "sentence", "api")
EXAMPLE = "policy:runs/werewolf-tiny"


def is_api_embedder(text: str) -> bool:
    """Whether texts go to a server."""
    return text.startswith("api:")


def embedder_of_folder(critic: str) -> str:
    """The name of the embedder that a critic's folder keeps; empty where none can be read, which `load` explains."""
    try:
        document = json.loads((Path(critic).expanduser() / "critic.json").read_text(encoding="utf-8"))
        return str(document["critic"]["embedder"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@dataclasses.dataclass(frozen=True)
class EmbedderName:
    """An embedder's name in parts.

    Attributes:
      kind: one of `KINDS`.
      place: a run, a folder, `tiny`, a model at a server, or the size of the embeddings.
      layers: of a policy, after which hidden states are read; 0: not told.
      digest: of its weights, after a `#`; empty: not told.
    """

    kind: str
    place: str
    layers: int
    digest: str


def parse_embedder(text: str, flag: str = "--embedder") -> EmbedderName:
    """Reads an embedder's name.

    Raises:
      ConfigError: it has another form, or names a folder that cannot be used.
    """
    kind, colon, rest = text.partition(":")
    if not colon or not rest:
        raise ConfigError(
            f"{flag}={text} is not of the form words:SIZE, policy:RUN, sentence:FOLDER or api:MODEL, for example "
            f"{flag}={EXAMPLE}"
        )
    check_choice(flag, kind, KINDS, flag)
    found = re.fullmatch(r"(?P<place>.+?)(@(?P<layers>[1-9][0-9]*))?(#(?P<digest>[0-9a-f]{12}))?", rest)
    assert found  # whatever the rest is, it is a place
    name = EmbedderName(kind, found["place"], int(found["layers"] or 0), found["digest"] or "")
    if name.layers and kind != "policy":
        raise ConfigError(f"{flag}={text}: @{name.layers} is of a policy; leave it out")
    if kind == "policy":
        check_player(flag.removeprefix("--"), name.place, ())
    if kind == "sentence" and not (Path(name.place).expanduser() / "config.json").is_file():
        raise ConfigError(f"{flag}={text} is no model: {name.place} has no config.json; name the folder of a sentence "
                          f"encoder, for example {flag}=sentence:/models/all-MiniLM-L6-v2")  # fmt: skip
    return name
