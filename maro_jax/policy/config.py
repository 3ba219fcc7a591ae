"""What a decoder looks like, read from and written to Hugging Face's `config.json`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

MAX_TINY_PARAMETERS = 500_000


class ModelError(ValueError):
    """A model folder, a configuration or a mesh that cannot be used; the message says what can."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What tells one architecture from another, beside the sizes in its `config.json`.

    Attributes:
        name: Hugging Face's name of it.
        example: a model that has it.
        qkv_bias: whether the query, key and value projections always have a bias; else `attention_bias` of the
            `config.json` says whether these and the output projection have one.
        qk_norm: whether each head's query and key are normed before they are rotated.
        head_dim: width of a head where the `config.json` does not tell; `None`: hidden_size / num_heads.
    """

    name: str
    example: str
    qkv_bias: bool = False
    qk_norm: bool = False
    head_dim: int | None = None


# By model_type.
ARCHITECTURES: dict[str, Architecture] = {
    "qwen2": Architecture("Qwen2ForCausalLM", "Qwen2.5-0.5B-Instruct", qkv_bias=True),
    "qwen3": Architecture("Qwen3ForCausalLM", "Qwen3-0.6B", qk_norm=True, head_dim=128),
    "llama": Architecture("LlamaForCausalLM", "Llama-3.2-1B-Instruct"),
}


@dataclasses.dataclass(frozen=True)
class Llama3Scaling:
    """How Llama 3.1 and later stretch rotary positions beyond the length they were first trained at.

    Attributes:
        factor: by which frequencies are divided that turn too seldom in that length; at least 1.
        low_freq_factor: fewer turns than this are too few.
        high_freq_factor: from so many turns on a frequency stays as it is; in between the two are mixed.
        original_max_positions: that length, in tokens.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int

    def __post_init__(self) -> None:
        """Raises `ModelError` for numbers that scale nothing."""
        if not (1 <= self.factor < math.inf and 0 < self.low_freq_factor < self.high_freq_factor):
            raise ModelError(
                f"llama3 rotary scaling needs factor >= 1 and 0 < low_freq_factor < high_freq_factor, not "
                f"{self.factor}, {self.low_freq_factor} and {self.high_freq_factor}."
            )
        if self.original_max_positions < 1:
            raise ModelError(
                f"original_max_position_embeddings must be a positive integer, not {self.original_max_positions}."
            )


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
        family: architecture, one of `ARCHITECTURES`.
        output_bias: whether the projection of the heads' outputs has a bias.
        qk_norm: whether each head's query and key are normed before they are rotated.
        rope_scaling: of the rotary frequencies; `None` for none.
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
    output_bias: bool = False
    qk_norm: bool = False
    rope_scaling: Llama3Scaling | None = None

    def __post_init__(self) -> None:
        """Raises `ModelError` where the sizes do not fit each other."""
        for field in dataclasses.fields(self):
            if field.type is int and getattr(self, field.name) < 1:
                raise ModelError(f"{field.name} must be a positive integer, not {getattr(self, field.name)}.")
        for name in ("rope_theta", "rms_norm_eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ModelError(f"{name} must be a positive number, not {getattr(self, name)}.")
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
        attention += self.output_bias * self.hidden_size + self.qk_norm * 2 * self.head_dim
        feed_forward = 3 * self.hidden_size * self.intermediate_size
        tables = (1 if self.tie_embeddings else 2) * self.vocab_size
        block = attention + feed_forward + 2 * self.hidden_size
        return self.num_layers * block + (tables + 1) * self.hidden_size

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "DecoderConfig":
        """Reads the contents of a `config.json`.

        Takes both layouts of the rotary base and its scaling: `rope_theta` with `rope_scaling` and, since
        transformers 5, `rope_parameters`.

        Args:
            config: the parsed file.

        Returns:
            The configuration.

        Raises:
            ModelError: the decoder does not compute such a model, or a field is missing or odd.
        """
        family = _family(config)
        _refuse_other_models(config)
        architecture = ARCHITECTURES[family]
        attention_bias = not architecture.qkv_bias and _flag(config, "attention_bias")
        num_heads = _integer(config, "num_attention_heads")
        hidden_size = _integer(config, "hidden_size")
        rope_theta, rope_scaling = _rope(config)
        return cls(
            vocab_size=_integer(config, "vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=_integer(config, "intermediate_size"),
            num_layers=_integer(config, "num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=_integer(config, "num_key_value_heads", num_heads),
            head_dim=_integer(config, "head_dim", architecture.head_dim or hidden_size // max(1, num_heads)),
            rope_theta=rope_theta,
            rms_norm_eps=_number(config, "rms_norm_eps", 1e-6),
            tie_embeddings=_flag(config, "tie_word_embeddings"),
            qkv_bias=architecture.qkv_bias or attention_bias,
            max_positions=_integer(config, "max_position_embeddings"),
            family=family,
            output_bias=attention_bias,
            qk_norm=architecture.qk_norm,
            rope_scaling=rope_scaling,
        )

    def to_hf(self) -> dict[str, Any]:
        """Returns the contents of a `config.json`, with the rotary base and its scaling in both layouts."""
        rope: dict[str, Any] = {"rope_type": "default"}
        if self.rope_scaling:
            rope = {
                "rope_type": "llama3",
                "factor": self.rope_scaling.factor,
                "low_freq_factor": self.rope_scaling.low_freq_factor,
                "high_freq_factor": self.rope_scaling.high_freq_factor,
                "original_max_position_embeddings": self.rope_scaling.original_max_positions,
            }
        contents = {
            "architectures": [ARCHITECTURES[self.family].name],
            "model_type": self.family,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rope_theta": self.rope_theta,
            "rope_scaling": rope if self.rope_scaling else None,
            "rope_parameters": rope | {"rope_theta": self.rope_theta},
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_embeddings,
            "max_position_embeddings": self.max_positions,
            "attention_dropout": 0.0,
        }
        if self.family == "llama":
            return contents | {"attention_bias": self.output_bias, "mlp_bias": False}
        return contents | {"use_sliding_window": False} | ({"attention_bias": self.output_bias} if self.qk_norm else {})


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


def _family(config: Mapping[str, Any]) -> str:
    """Returns the model_type of a known architecture; raises `ModelError` for any other."""
    architectures = config.get("architectures") or []
    found = [family for family, known in ARCHITECTURES.items() if [known.name] == architectures]
    if not found:
        known = ", ".join(f"{each.name} ({each.example})" for each in ARCHITECTURES.values())
        raise ModelError(f"architectures is {architectures!r}, but must be one of {known}.")
    if config.get("model_type", found[0]) != found[0]:
        raise ModelError(
            f"model_type is {config['model_type']!r}, but architectures is {architectures!r}, which goes with "
            f"{found[0]!r}."
        )
    return found[0]


def _refuse_other_models(config: Mapping[str, Any]) -> None:
    """Raises `ModelError` for anything in `config` that the decoder does not compute."""
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"hidden_act is {config['hidden_act']!r}, but only 'silu' is supported.")
    if _flag(config, "mlp_bias"):
        raise ModelError("the model has biases in its feed-forward layers (mlp_bias), which are not supported.")
    if _slides(config):
        raise ModelError(
            "the model uses sliding-window attention, but only full attention is supported (use_sliding_window false)."
        )
    if config.get("quantization_config"):
        raise ModelError(
            "the model is quantized (quantization_config), but only float32, bfloat16 and "
            "float16 weights are supported."
        )


def _slides(config: Mapping[str, Any]) -> bool:
    """Whether a layer attends to anything less than all before it; a window that no layer uses is no matter."""
    kinds = config.get("layer_types")
    if kinds:
        return any(kind != "full_attention" for kind in kinds)
    if not _flag(config, "use_sliding_window") or config.get("sliding_window", 4096) is None:
        return False
    return _integer(config, "num_hidden_layers") > _integer(config, "max_window_layers", 28)


def _rope(config: Mapping[str, Any]) -> tuple[float, Llama3Scaling | None]:
    """Returns the rotary base and its scaling; raises `ModelError` if missing, unknown or told twice differently."""
    places = {name: config.get(name) or {} for name in ("rope_parameters", "rope_scaling")}
    for name, place in places.items():
        if not isinstance(place, Mapping) or any(isinstance(value, Mapping) for value in place.values()):
            raise ModelError(f"{name} must be one set of numbers for all layers, not {place!r}.")
    thetas = [_number(place, "rope_theta") for place in (config, *places.values()) if "rope_theta" in place]
    if not thetas:
        raise ModelError("the configuration lacks rope_theta, for example 1000000.0.")
    scalings = [_scaling(place) for place in places.values() if place]
    for name, found in (("rope_theta", thetas), ("the rotary scaling", scalings)):
        if any(each != found[0] for each in found):
            raise ModelError(f"{name} is given in two places, once as {found[0]} and once as {found[-1]}.")
    return thetas[0], scalings[0] if scalings else None


def _scaling(parameters: Mapping[str, Any]) -> Llama3Scaling | None:
    """Reads `rope_parameters` or `rope_scaling`; raises `ModelError` for a kind that the decoder does not compute."""
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ModelError(f"rotary scaling {kind!r} is not supported, only 'llama3' or none (rope_type 'default').")
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise ModelError("only a part of each head is rotated (partial_rotary_factor), which is not supported.")
    if kind == "default":
        return None
    return Llama3Scaling(
        factor=_number(parameters, "factor"),
        low_freq_factor=_number(parameters, "low_freq_factor"),
        high_freq_factor=_number(parameters, "high_freq_factor"),
        original_max_positions=_integer(parameters, "original_max_position_embeddings"),
    )


def _flag(config: Mapping[str, Any], name: str) -> bool:
    """Returns a yes or no of the configuration; no where it is missing."""
    value = config.get(name) or False
    if not isinstance(value, bool):
        raise ModelError(f"the configuration needs {name} as true or false, not {value!r}.")
    return value


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
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ModelError(f"the configuration needs {name} as a number, not {value!r}.")
    return float(value)
