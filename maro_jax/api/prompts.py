"""The words around a game's own: text files that a user may replace."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from string import Template

from maro_jax.run.fields import ConfigError

# Of each prompt what it must hold, and what it may hold besides.
PLACEHOLDERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "system": (("introduction", "role"), ()),
    "act": (("news", "choices"), ()),
    "speak": (("news",), ("room",)),
    "speak_and_act": (("news", "choices"), ("room",)),
    "again": (("problem",), ()),
}


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Templates in the syntax of `string.Template`.

    Attributes:
      system: the first message: rules, role and how to reply. `$introduction`, `$role`.
      act: asks for a choice. `$news`, `$choices`.
      speak: asks for a speech. `$news`, `$room` (most tokens of the speech).
      speak_and_act: asks for both. `$news`, `$choices`, `$room`.
      again: tells why a reply cannot be used. `$problem`.
    """

    system: Template
    act: Template
    speak: Template
    speak_and_act: Template
    again: Template

    @staticmethod
    def load(folder: str = "") -> Prompts:
        """Reads the prompts of this package, or those in their place.

        Args:
          folder: holds files such as `act.txt`; what it does not hold is the package's own. Empty: all are.

        Raises:
          ConfigError: a file has no place here, or lacks or misspells a placeholder.
        """
        replaced = _files(folder) if folder else {}
        own = resources.files("maro_jax.api") / "prompts"
        texts = {name: (own / f"{name}.txt").read_text(encoding="utf-8") for name in PLACEHOLDERS}
        for name, path in replaced.items():
            texts[name] = path.read_text(encoding="utf-8")
            _check(path, texts[name], *PLACEHOLDERS[name])
        return Prompts(**{name: Template(text.strip()) for name, text in texts.items()})


def _files(folder: str) -> dict[str, Path]:
    """The text files of a folder by name."""
    found = {path.stem: path for path in sorted(Path(folder).expanduser().glob("*.txt"))}
    allowed = ", ".join(f"{name}.txt" for name in PLACEHOLDERS)
    if not found:
        raise ConfigError(
            f"--api_prompts={folder} holds none of {allowed}; copy those to change from maro_jax/api/prompts"
        )
    for name, path in found.items():
        if name not in PLACEHOLDERS:
            raise ConfigError(f"{path} is none of the prompts, which are {allowed}; rename it or take it away")
    return found


def _check(path: Path, text: str, needed: tuple[str, ...], besides: tuple[str, ...]) -> None:
    template = Template(text)
    allowed = ", ".join(f"${name}" for name in (*needed, *besides))
    if not template.is_valid():
        raise ConfigError(f"{path} has a $ that begins no placeholder; write $$ for the sign, or one of {allowed}")
    used = set(template.get_identifiers())
    if unknown := sorted(used - {*needed, *besides}):
        raise ConfigError(f"{path} holds ${unknown[0]}, which is no placeholder of it; it has {allowed}")
    if missing := [name for name in needed if name not in used]:
        raise ConfigError(f"{path} lacks ${missing[0]}, without which the player could not reply; it has {allowed}")
