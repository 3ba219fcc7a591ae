"""What is installed only for some is imported only where it is used."""

import os
import subprocess
import sys

from tests.entry_points import ROOT

# Extras and what comes along with them (rich is not among these: Flax imports it).
ABSENT = ("tensorflow", "torch", "matplotlib", "tensorboardX", "lm_eval", "peft", "accelerate")
IMPORT_ALL = f"""
import importlib.machinery, pkgutil, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {ABSENT} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
for top in ("games", "launch", "maro_jax"):
    for module in pkgutil.walk_packages([top], f"{{top}}."):
        if not module.name.startswith("maro_jax.harness."):  # behind --tasks, which asks for its extra
            importlib.import_module(module.name)
            print(module.name)
"""


def test_all_modules_are_imported_without_what_is_installed_only_for_some():
    command = [sys.executable, "-c", IMPORT_ALL]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    files = [path for top in ("games", "launch", "maro_jax") for path in (ROOT / top).rglob("*.py")]
    assert len(result.stdout.split()) > 0.8 * len(files)
