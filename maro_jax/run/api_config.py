"""The flags of players behind an OpenAI-compatible API (docs/api.md), shared by the commands that know such players."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from maro_jax.run.fields import ConfigError, setting
from maro_jax.run.inputs import check_output

PREFIX = "api:"
GROUP = "API models"
EXAMPLE = "--opponent=api:my-model --api_base=http://localhost:8000/v1"


@dataclasses.dataclass(frozen=True)
class ApiConfig:
    """How models behind an API are asked."""

    api_base: str = setting(
        "", "address of the server; empty: that in OPENAI_BASE_URL, or OpenAI's", group=GROUP,
        example="http://localhost:8000/v1",
    )  # fmt: skip
    api_key_variable: str = setting(
        "OPENAI_API_KEY", "environment variable with the key; a server of your own may need none", group=GROUP
    )
    api_max_tokens: int = setting(512, "most tokens of an answer, thoughts included", group=GROUP, low=1)
    api_asks: int = setting(
        3, "how often a model is asked for one move before a scripted player makes it, marked as a fault",
        group=GROUP, low=1,
    )  # fmt: skip
    api_concurrency: int = setting(8, "most requests in flight", group=GROUP, low=1)
    api_attempts: int = setting(
        6, "requests for one answer while the server fails, with growing pauses between them", group=GROUP, low=1
    )
    api_timeout: float = setting(60.0, "seconds until a request counts as failed", group=GROUP, positive=True)
    api_price_in: float = setting(0.0, "dollars for a million tokens sent, to count costs", group=GROUP, low=0)
    api_price_out: float = setting(0.0, "dollars for a million tokens received", group=GROUP, low=0)
    api_prompts: str = setting(
        "", "folder with prompts in place of those in maro_jax/api/prompts", group=GROUP, example="my_prompts"
    )
    api_transcript: str = setting(
        "", "new file for a transcript of every call (JSON lines); empty: none", group=GROUP, example="calls.jsonl"
    )
    record: str = setting(
        "", "folder of datasets that the games of these models are added to as episodes (docs/data.md); empty: none",
        group=GROUP, example="data/api",
    )  # fmt: skip

    def check_api(self, names: tuple[str, ...], flag: str) -> None:
        """Checks the flags of this group against the players of a command.

        Args:
          names: all players that may be models behind an API.
          flag: that names them.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        if not any(is_api(name) for name in names):
            for field in dataclasses.fields(ApiConfig):
                value: Any = getattr(self, field.name)
                if value != field.default:
                    raise ConfigError(f"--{field.name}={value} is of models behind an API and --{flag} names none; "
                                      f"leave it out, or name one, for example --{flag}=api:my-model")  # fmt: skip
            return
        for name in names:
            if is_api(name) and not model_of(name):
                raise ConfigError(f"--{flag}={name} names no model; write it after the colon, for example {EXAMPLE}")
        check_address(self.api_base, self.api_key_variable)
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_variable):
            raise ConfigError(
                "--api_key_variable is the name of an environment variable and never the key itself, for example "
                "--api_key_variable=OPENAI_API_KEY"
            )
        if self.api_prompts and not Path(self.api_prompts).expanduser().is_dir():
            raise ConfigError(f"--api_prompts={self.api_prompts} is not a folder; name the one with the prompts")
        if self.api_transcript:
            check_output("api_transcript", self.api_transcript)
            if Path(self.api_transcript).expanduser().exists():
                raise ConfigError(f"--api_transcript={self.api_transcript} exists already and is never overwritten; "
                                  "name a new file")  # fmt: skip


def check_address(address: str, key_variable: str, flag: str = "--api_base") -> None:
    """Checks the address of a server; empty: none is given.

    Raises:
      ConfigError: it is none, or holds what is to be secret.
    """
    if not address:
        return
    example = f"for example {flag}=http://localhost:8000/v1"
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{flag}={address} is no address of a server, {example}")
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not repeated here: it may hold a key.
        raise ConfigError(
            f"{flag} may hold no user, password or query, since it is printed and recorded; put the key into "
            f"the environment variable {key_variable}, {example}"
        )


def is_api(player: str) -> bool:
    """Whether a player is a model behind an API."""
    return player.startswith(PREFIX)


def model_of(player: str) -> str:
    """The model's name at its server."""
    return player.removeprefix(PREFIX)
