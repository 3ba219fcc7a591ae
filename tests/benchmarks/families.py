"""How far logits are from those of transformers, for each family: `python -m tests.benchmarks.families`.

Random models of two layers are made by transformers and torch, read from their folders, and both sides score the same
random tokens at positions 0 to 8,191, in float32 with precise products and with activations in bfloat16.
"""

import dataclasses
import os
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402

from maro_jax.policy.hf_folder import load_model  # noqa: E402
from maro_jax.run.console import table  # noqa: E402
from tests.policy.hf_fixture import FAMILIES, make_model_folder  # noqa: E402
from tests.policy.test_hf_folder import our_logits, random_tokens, their_logits  # noqa: E402

POSITIONS = 8192


def measure(family: str, folder: Path) -> list[str]:
    """A row of the table: family, spread of the logits, largest difference in float32 and in bfloat16."""
    model = make_model_folder(folder, family)
    policy, params, _ = load_model(folder, precision="highest")
    tokens = random_tokens(0, (1, POSITIONS), policy.config.vocab_size)
    theirs = their_logits(model, tokens)
    exact = np.abs(our_logits(policy, params, tokens) - theirs).max()
    rounded = np.abs(our_logits(dataclasses.replace(policy, dtype="bfloat16"), params, tokens) - theirs)
    return [family, f"{theirs.std():.2f}", f"{exact:.1e}", f"{rounded.max():.2f}", f"{rounded.mean():.3f}"]


def main() -> None:
    """Prints the table."""
    rows = []
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(family, Path(folder)))
    print(table(["family", "logits' deviation", "float32, largest", "bfloat16, largest", "bfloat16, mean"], rows))


if __name__ == "__main__":
    main()
