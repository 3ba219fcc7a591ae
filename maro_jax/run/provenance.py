"""Where a result came from: versions, commit, machine and command, and how they differ from those a run began with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_PACKAGES = (
    "maro-jax", "jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "transformers",
    "tokenizers", "numpy",
)  # fmt: skip


class Code(NamedTuple):
    """Which code this is; None where that is not known.

    Attributes:
      commit: its commit.
      changed: whether it has uncommitted changes.
      diff: those of tracked files; untracked ones may hold anything.
    """

    commit: str | None = None
    changed: bool | None = None
    diff: str | None = None


def code(root: Path | None = None) -> Code:
    """What git says of this code's own repository, or else what launch/tpu.sh has shipped beside it."""
    root = root or Path(__file__).resolve().parents[2]
    shipped = root / "code.txt"
    if (root / ".git").exists():
        status = _git(root, "status", "--porcelain")
        commit = (_git(root, "rev-parse", "HEAD") or "").strip() or None
        return Code(commit, None if status is None else bool(status), _git(root, "diff", "HEAD"))
    if shipped.is_file() and (words := shipped.read_text().split()):
        diff = root / "code.diff"
        return Code(words[0], len(words) > 1, diff.read_text() if diff.is_file() else None)
    return Code()


def _git(root: Path, *arguments: str) -> str | None:
    """Output of git in a repository; None if it fails."""
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout


def environment(devices: Mapping[str, Any]) -> dict[str, Any]:
    """Versions, commit, machine and command of this session.

    Args:
      devices: plain facts about the devices.
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    this = code()
    return {
        "versions": versions,
        "commit": this.commit,
        "uncommitted_changes": this.changed,
        "platform": platform.platform(),
        "devices": dict(devices),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "command": sys.argv,
    }


def differences(recorded: Mapping[str, Any], today: Mapping[str, Any]) -> list[str]:
    """One sentence for each difference of `today`'s environment to the one a run began in."""
    old, new = recorded.get("versions", {}), today["versions"]
    notes = [
        f"the run began with {name} {old.get(name)}, this is {new.get(name)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if recorded.get("devices") != today["devices"]:
        notes.append(
            f"the run began on {_devices_text(recorded.get('devices') or {})}, this is "
            f"{_devices_text(today['devices'])}; numbers may differ in their last digits"
        )
    if recorded.get("commit") != today["commit"]:
        notes.append(f"the run began at commit {recorded.get('commit')}, this is {today['commit']}")
    return notes


def _devices_text(devices: Mapping[str, Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in devices.items()) or "unknown devices"
