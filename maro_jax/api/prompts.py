"""The words around a game's own: text files that a user may replace."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
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
        return Prompts(**load_templates("maro_jax.api", PLACEHOLDERS, folder, "--api_prompts"))


def load_templates(
    package: str, placeholders: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]], folder: str, flag: str
) -> dict[str, Template]:
    """The prompts of a package by name, or those in their place.

    Args:
      package: whose folder `prompts` holds a text file for each.
      placeholders: of each prompt what it must hold, and what it may hold besides.
      folder: holds files of these names; what it does not hold is the package's own. Empty: all are.
      flag: that names the folder.

    Raises:
      ConfigError: a file has no place here, or lacks or misspells a placeholder.
    """
    own = resources.files(package) / "prompts"
    texts = {name: (own / f"{name}.txt").read_text(encoding="utf-8") for name in placeholders}
    for name, path in (_files(package, placeholders, folder, flag) if folder else {}).items():
        texts[name] = path.read_text(encoding="utf-8")
        _check(path, texts[name], *placeholders[name])
    return {name: Template(text.strip()) for name, text in texts.items()}


def _files(package: str, names: Collection[str], folder: str, flag: str) -> dict[str, Path]:
    """The text files of a folder by name."""
    found = {path.stem: path for path in sorted(Path(folder).expanduser().glob("*.txt"))}
    allowed = ", ".join(f"{name}.txt" for name in names)
    if not found:
        place = f"{package.replace('.', '/')}/prompts"
        raise ConfigError(f"{flag}={folder} holds none of {allowed}; copy those to change from {place}")
    for name, path in found.items():
        if name not in names:
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
