"""What `--model` names: the embedded tiny model, or a Hugging Face folder; and what a run made of it."""

from pathlib import Path

import jax
from jax.sharding import Mesh

from games.text.vocabulary import SLOTS
from maro_jax.policy.config import ModelError, tiny_config
from maro_jax.policy.decoder import Params, Policy
from maro_jax.policy.hf_folder import load_model, open_model
from maro_jax.policy.tokenizer import TextTokenizer, tiny_tokenizer
from maro_jax.run.checkpoint import read_newest


def usual_dtype() -> str:
    """The type of activations that suits the devices: bfloat16, where they multiply it."""
    device = jax.devices()[0]
    # XLA converts the weights to float32 on every call, on CPUs and on GPUs before Ampere (Colab's T4).
    capability = float(getattr(device, "compute_capability", None) or 8)
    return "float32" if device.platform == "cpu" or capability < 8 else "bfloat16"


def load_policy(
    model: str, *, dtype: str = "float32", precision: str = "default", mesh: Mesh | None = None
) -> tuple[Policy, Params | None, TextTokenizer]:
    """Returns a model by name.

    Args:
        model: `tiny`, or the path of a Hugging Face folder.
        dtype: of activations, see `Policy`.
        precision: of matrix products, see `Policy`.
        mesh: over which parameters that are read are split; `None`: the first device.

    Returns:
        The model; its parameters, or `None` where they are yet to be drawn with `Policy.init`; and
        its tokenizer.

    Raises:
        ModelError: the folder cannot be used, or the mesh does not divide the model.
    """
    if model != "tiny":
        return load_model(model, dtype=dtype, precision=precision, mesh=mesh)
    policy, tokenizer = open_policy(model, dtype=dtype, precision=precision)
    return policy, None, tokenizer


def open_policy(model: str, *, dtype: str = "float32", precision: str = "default") -> tuple[Policy, TextTokenizer]:
    """Returns a model by name without any parameters; arguments and errors as those of `load_policy`."""
    if model != "tiny":
        return open_model(model, dtype=dtype, precision=precision)
    return Policy(tiny_config(SLOTS), dtype, precision), tiny_tokenizer()


def newest_params(run: str, policy: Policy, device: jax.Device) -> tuple[Params, int]:
    """Returns what a run has made of a model so far; the run may go on meanwhile.

    Args:
        run: its folder.
        policy: the model that it began with, with LoRA as the run has it.
        device: that holds the parameters.

    Returns:
        What was trained, in the newest checkpoint: parameters or an adapter; and the iterations finished by then.

    Raises:
        ModelError: the run has no checkpoint.
        ConfigError: the newest one is of another model.
    """
    place = jax.sharding.SingleDeviceSharding(device)
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), policy.abstract_trained()
    )
    restored = read_newest(Path(run).expanduser() / "checkpoints", {"learner.params": wanted})
    if restored is None:
        raise ModelError(f"{run} holds no checkpoint that was completely written; train on first")
    return restored.state["learner.params"], restored.step
