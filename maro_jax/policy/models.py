"""What `--model` names: the embedded tiny model, or a Hugging Face folder."""

from jax.sharding import Mesh

from games.text.vocabulary import SLOTS
from maro_jax.policy.config import tiny_config
from maro_jax.policy.decoder import Params, Policy
from maro_jax.policy.hf_folder import load_model, open_model
from maro_jax.policy.tokenizer import TextTokenizer, tiny_tokenizer


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
