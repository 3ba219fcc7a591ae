"""What `--model` names: the embedded tiny model, or a Hugging Face folder."""

from games.text.vocabulary import SLOTS
from maro_jax.policy.config import tiny_config
from maro_jax.policy.decoder import Params, Policy
from maro_jax.policy.hf_folder import load_model
from maro_jax.policy.tokenizer import TextTokenizer, tiny_tokenizer


def load_policy(
    model: str, *, dtype: str = "float32", precision: str = "default"
) -> tuple[Policy, Params | None, TextTokenizer]:
    """Returns a model by name.

    Args:
        model: `tiny`, or the path of a Hugging Face folder.
        dtype: of activations, see `Policy`.
        precision: of matrix products, see `Policy`.

    Returns:
        The model; its parameters, or `None` where they are yet to be drawn with `Policy.init`; and
        its tokenizer.

    Raises:
        ModelError: the folder cannot be used.
    """
    if model != "tiny":
        return load_model(model, dtype=dtype, precision=precision)
    tokenizer = tiny_tokenizer()
    return Policy(tiny_config(SLOTS), dtype, precision), None, tokenizer
