"""How far logits are from those of transformers, for each family: `python -m tests.benchmarks.families`.

Random models of two layers are made by transformers and torch, read from their folders, and both sides score the same
random tokens at positions 0 to 8,191, in float32 with precise products and with activations in bfloat16.
"""

import argparse
import dataclasses
import json
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
FIGURES = ("logits' deviation", "float32, largest", "bfloat16, largest", "bfloat16, mean")


def measure(family: str, folder: Path) -> list[float]:
    """`FIGURES` of a family: spread of the logits, largest difference in float32, largest and mean in bfloat16."""
    model = make_model_folder(folder, family)
    policy, params, _ = load_model(folder, precision="highest")
    tokens = random_tokens(0, (1, POSITIONS), policy.config.vocab_size)
    theirs = their_logits(model, tokens)
    exact = np.abs(our_logits(policy, params, tokens) - theirs).max()
    rounded = np.abs(our_logits(dataclasses.replace(policy, dtype="bfloat16"), params, tokens) - theirs)
    return [float(figure) for figure in (theirs.std(), exact, rounded.max(), rounded.mean())]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    found = {}
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            found[family] = measure(family, Path(folder))
    forms = (".2f", ".1e", ".2f", ".3f")
    rows = [[name, *(format(x, form) for x, form in zip(of, forms, strict=True))] for name, of in found.items()]
    print(table(["family", *FIGURES], rows))
    if options.json:
        figures = {name: dict(zip(FIGURES, of, strict=True)) for name, of in found.items()}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
