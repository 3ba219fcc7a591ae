"""What a decoder looks like, read from and written to Hugging Face's `config.json`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

MAX_TINY_PARAMETERS = 500_000


class ModelError(ValueError):
    """A model folder, a configuration or a mesh that cannot be used; the message says what can."""


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape of a decoder-only transformer; static and hashable.

    Attributes:
        vocab_size: rows of the embedding, `V`; may exceed the tokenizer's size.
        hidden_size: width of the residual stream, `d`.
        intermediate_size: width of the gated feed-forward layer.
        num_layers: number of blocks.
        num_heads: query heads, `H`.
        num_kv_heads: key and value heads, `K`; divides `H`.
        head_dim: width of one head, `D`; even.
        rope_theta: base of the rotary frequencies.
        rms_norm_eps: added to the mean square in RMSNorm.
        tie_embeddings: whether the output head is the embedding.
        qkv_bias: whether the query, key and value projections have a bias.
        max_positions: longest sequence the model was made for, in tokens.
        family: architecture, one of `qwen2`.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float
    rms_norm_eps: float
    tie_embeddings: bool
    qkv_bias: bool
    max_positions: int
    family: str

    def __post_init__(self) -> None:
        """Raises `ModelError` where the sizes do not fit each other."""
        for field in dataclasses.fields(self):
            if field.type is int and getattr(self, field.name) < 1:
                raise ModelError(f"{field.name} must be a positive integer, not {getattr(self, field.name)}.")
        if self.num_heads % self.num_kv_heads:
            raise ModelError(
                f"num_heads must be a multiple of num_kv_heads, but {self.num_heads} is not one of {self.num_kv_heads}."
            )
        if self.head_dim % 2:
            raise ModelError(f"head_dim must be even for rotary positions, not {self.head_dim}.")

    @property
    def num_params(self) -> int:
        """How many numbers the parameters hold."""
        query, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = 2 * self.hidden_size * (query + kv) + self.qkv_bias * (query + 2 * kv)
        feed_forward = 3 * self.hidden_size * self.intermediate_size
        tables = (1 if self.tie_embeddings else 2) * self.vocab_size
        block = attention + feed_forward + 2 * self.hidden_size
        return self.num_layers * block + (tables + 1) * self.hidden_size

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "DecoderConfig":
        """Reads the contents of a `config.json`.

        Takes both layouts of the rotary base: `rope_theta` and, since transformers 5,
        `rope_parameters`.

        Args:
            config: the parsed file.

        Returns:
            The configuration.

        Raises:
            ModelError: the model is not a plain Qwen2, or a field is missing or odd.
        """
        _refuse_other_models(config)
        num_heads = _integer(config, "num_attention_heads")
        hidden_size = _integer(config, "hidden_size")
        return cls(
            vocab_size=_integer(config, "vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=_integer(config, "intermediate_size"),
            num_layers=_integer(config, "num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=_integer(config, "num_key_value_heads", num_heads),
            head_dim=_integer(config, "head_dim", hidden_size // num_heads),
            rope_theta=_rope_theta(config),
            rms_norm_eps=_number(config, "rms_norm_eps", 1e-6),
            tie_embeddings=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=True,
            max_positions=_integer(config, "max_position_embeddings"),
            family="qwen2",
        )

    def to_hf(self) -> dict[str, Any]:
        """Returns the contents of a `config.json`, with the rotary base in both layouts."""
        return {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_embeddings,
            "max_position_embeddings": self.max_positions,
            "use_sliding_window": False,
            "attention_dropout": 0.0,
        }


TINY = DecoderConfig(
    vocab_size=1024,
    hidden_size=96,
    intermediate_size=256,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=24,
    rope_theta=10_000.0,
    rms_norm_eps=1e-6,
    tie_embeddings=True,
    qkv_bias=True,
    max_positions=8192,
    family="qwen2",
)
"""The embedded model; `tiny_config` sets the vocabulary size of the tokenizer in use."""


def tiny_config(vocab_size: int) -> DecoderConfig:
    """Returns `TINY` for a vocabulary.

    Args:
        vocab_size: number of token ids.

    Raises:
        ModelError: the model would have more than half a million parameters.
    """
    config = dataclasses.replace(TINY, vocab_size=vocab_size)
    surplus = config.num_params - MAX_TINY_PARAMETERS
    if surplus > 0:
        largest = vocab_size + -surplus // config.hidden_size
        raise ModelError(f"the tiny model takes a vocabulary of at most {largest} tokens, not {vocab_size}.")
    return config


def _refuse_other_models(config: Mapping[str, Any]) -> None:
    """Raises `ModelError` for anything in `config` that the decoder does not compute."""
    architectures = config.get("architectures") or []
    if list(architectures) != ["Qwen2ForCausalLM"]:
        raise ModelError(
            f"architectures is {architectures!r}, but only ['Qwen2ForCausalLM'] is supported "
            "(for example Qwen2.5-0.5B)."
        )
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"hidden_act is {config['hidden_act']!r}, but only 'silu' is supported.")
    if config.get("use_sliding_window") or any(kind != "full_attention" for kind in config.get("layer_types") or ()):
        raise ModelError(
            "the model uses sliding-window attention, but only full attention is supported (use_sliding_window false)."
        )
    if config.get("quantization_config"):
        raise ModelError(
            "the model is quantized (quantization_config), but only float32, bfloat16 and "
            "float16 weights are supported."
        )


def _rope_theta(config: Mapping[str, Any]) -> float:
    """Returns the rotary base; raises `ModelError` if scaled, missing or told twice differently."""
    parameters = dict(config.get("rope_parameters") or {})
    for scaling in (parameters, config.get("rope_scaling") or {}):
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if kind != "default":
            raise ModelError(
                f"rotary scaling {kind!r} is not supported, only plain rotary positions (rope_type 'default')."
            )
    found = [_number(place, "rope_theta") for place in (config, parameters) if "rope_theta" in place]
    if not found:
        raise ModelError("the configuration lacks rope_theta, for example 1000000.0.")
    if len(set(found)) > 1:
        raise ModelError(f"rope_theta is given as {found[0]} and in rope_parameters as {found[1]}.")
    return found[0]


def _integer(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Returns a whole number of the configuration; `None` in the file means the default."""
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelError(f"the configuration needs {name} as a whole number, not {value!r}.")
    return value


def _number(config: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """Returns a number of the configuration as a float."""
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ModelError(f"the configuration needs {name} as a number, not {value!r}.")
    return float(value)
