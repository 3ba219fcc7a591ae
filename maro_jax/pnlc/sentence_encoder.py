"""Sentence encoders of the shape of BERT (Devlin et al. 2019), as sentence-transformers keeps them: MiniLM and its kin.

A folder holds `config.json`, `model.safetensors` and `tokenizer.json`. A sentence's embedding is the mean of the last
hidden states over its tokens, brought to length 1 (Reimers and Gurevych 2019, "Sentence-BERT"). It reads as many
tokens at once as `sentence_bert_config.json`, where there is one, says: what the encoder was trained for. A longer text
is read in parts, and its embedding is the mean of theirs by their tokens, so that nothing of it is lost: what is newest
in a state stands at its end.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from maro_jax.pnlc.embedders import digest_of, in_batches
from maro_jax.policy.config import ModelError
from maro_jax.policy.hf_folder import read_config

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": functools.partial(nnx.gelu, approximate=False),
    "relu": nnx.relu,
}
# Files of sentence-transformers, none of which need be there.
_MODULES, _POOLING, _LENGTH = "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"
# Our modules' places in a layer, and what they are called in the weights.
_OF_LAYER = {
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "mix": "attention.output.dense", "attention_norm": "attention.output.LayerNorm",
    "widen": "intermediate.dense", "narrow": "output.dense", "output_norm": "output.LayerNorm",
}  # fmt: skip
_OF_EMBEDDINGS = {
    "word": "word_embeddings", "place": "position_embeddings", "kind": "token_type_embeddings", "norm": "LayerNorm",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The encoder's shape, as `config.json` tells it.

    Attributes:
      vocab_size, hidden_size, num_layers, num_heads, inner_size: numbers.
      max_positions: longest text in tokens.
      num_kinds: of token type embeddings, of which only the first is used.
      epsilon: of layer norms.
      activation: one of `ACTIVATIONS`.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    inner_size: int
    max_positions: int
    num_kinds: int
    epsilon: float
    activation: str

    @classmethod
    def of(cls, contents: Mapping[str, Any]) -> EncoderConfig:
        """Reads the contents of a `config.json`.

        Raises:
          ModelError: it is of another kind of model, or lacks something.
        """
        kind, activation = contents.get("model_type"), contents.get("hidden_act", "gelu")
        if kind != "bert":
            raise ModelError(f"model_type is {kind!r}, but a sentence encoder must be of the shape of 'bert'")
        if activation not in ACTIVATIONS:
            raise ModelError(f"hidden_act is {activation!r}, but must be one of {', '.join(ACTIVATIONS)}")
        if contents.get("position_embedding_type", "absolute") != "absolute":
            raise ModelError("position_embedding_type must be 'absolute'")
        try:
            return cls(
                vocab_size=int(contents["vocab_size"]),
                hidden_size=int(contents["hidden_size"]),
                num_layers=int(contents["num_hidden_layers"]),
                num_heads=int(contents["num_attention_heads"]),
                inner_size=int(contents["intermediate_size"]),
                max_positions=int(contents["max_position_embeddings"]),
                num_kinds=int(contents.get("type_vocab_size", 2)),
                epsilon=float(contents.get("layer_norm_eps", 1e-12)),
                activation=activation,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"config.json lacks a number that a sentence encoder needs: {error}") from None


class Layer(nnx.Module):
    """One block: attention, then a wider layer, each with a norm after it."""

    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        """Draws the kernels."""
        size = config.hidden_size
        self.query, self.key, self.value, self.mix = (nnx.Linear(size, size, rngs=rngs) for _ in range(4))
        self.widen = nnx.Linear(size, config.inner_size, rngs=rngs)
        self.narrow = nnx.Linear(config.inner_size, size, rngs=rngs)
        self.attention_norm, self.output_norm = (
            nnx.LayerNorm(size, epsilon=config.epsilon, use_fast_variance=False, rngs=rngs) for _ in range(2)
        )

    def __call__(self, x: jax.Array, valid: jax.Array, config: EncoderConfig) -> jax.Array:
        """Maps `x [B, T, d]`, of whose tokens `valid [B, T]` are read."""
        heads = (*x.shape[:-1], config.num_heads, -1)
        q, k, v = (part(x).reshape(heads) for part in (self.query, self.key, self.value))
        mixed = jax.nn.dot_product_attention(q, k, v, mask=valid[:, None, None, :]).reshape(x.shape)
        x = self.attention_norm(x + self.mix(mixed))
        return self.output_norm(x + self.narrow(ACTIVATIONS[config.activation](self.widen(x))))


class SentenceEncoder(nnx.Module):
    """The whole encoder, pooling included."""

    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        """Draws the parameters."""
        size = config.hidden_size
        self.word = nnx.Embed(config.vocab_size, size, rngs=rngs)
        self.place = nnx.Embed(config.max_positions, size, rngs=rngs)
        self.kind = nnx.Embed(config.num_kinds, size, rngs=rngs)
        self.norm = nnx.LayerNorm(size, epsilon=config.epsilon, use_fast_variance=False, rngs=rngs)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_layers)])

    def __call__(self, tokens: jax.Array, lengths: jax.Array, config: EncoderConfig) -> jax.Array:
        """Maps int32[B, T] tokens and int32[B] lengths to float32[B, d] of length 1."""
        valid = jnp.arange(tokens.shape[1]) < lengths[:, None]
        x = self.word(tokens) + self.place(jnp.arange(tokens.shape[1])) + self.kind(jnp.zeros_like(tokens))
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, valid, config)
        mean = jnp.sum(jnp.where(valid[..., None], x, 0), axis=1) / lengths[:, None]
        return mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)


class SentenceEmbedder:
    """A sentence encoder as an embedder.

    Attributes:
      name: `sentence:FOLDER#DIGEST`.
    """

    name: str

    def __init__(self, place: str, batch: int):
        """Reads a folder.

        Args:
          place: the folder.
          batch: most texts of a call.

        Raises:
          ModelError: something in it is missing or not supported.
        """
        folder = Path(place).expanduser()
        try:
            self._config = EncoderConfig.of(read_config(folder))
        except ModelError as error:
            raise ModelError(f"{folder / 'config.json'}: {error}") from None
        _check_modules(folder)
        self._longest = _longest(folder, self._config.max_positions)
        self._tokenizer = _read_tokenizer(folder, self._config.vocab_size, self._longest)
        self._graph, shapes = nnx.split(nnx.eval_shape(lambda: SentenceEncoder(self._config, nnx.Rngs(0))))
        self._params = _filled(nnx.to_pure_dict(shapes), _read_weights(folder))
        self._batch = batch
        self.name = f"sentence:{place}#{digest_of({'weights': self._params, 'part': np.int32(self._longest)})}"

    @property
    def size(self) -> int:
        """The width of the hidden states."""
        return self._config.hidden_size

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, d]; of a text that is read in parts their mean, brought to length 1."""
        encoded = self._tokenizer.encode_batch(list(texts))
        parts = [(first, *first.overflowing) for first in encoded]
        rows = [part.ids for of_text in parts for part in of_text]
        found = in_batches(rows, self._batch, 0, self._run, self.size) * np.array([len(ids) for ids in rows])[:, None]
        total = np.zeros((len(texts), self.size), np.float32)
        np.add.at(total, np.repeat(np.arange(len(texts)), [len(of_text) for of_text in parts]), found)
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)

    def _run(self, tokens: np.ndarray, lengths: np.ndarray) -> jax.Array:
        narrow = tokens[:, : self._longest]  # the padded width may exceed the positions
        return self._program(self._params, narrow, lengths)

    @functools.cached_property
    def _program(self):  # type: ignore[no-untyped-def]
        graph, config = self._graph, self._config
        return jax.jit(lambda params, tokens, lengths: nnx.merge(graph, params)(tokens, lengths, config))


def _read_table(path: Path, example: str) -> Any:
    """What a JSON file holds; nothing where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        raise ModelError(f"{path} is not JSON; it should read like {example}") from None


def _check_modules(folder: Path) -> None:
    """Raises `ModelError` where sentence-transformers would make more of the hidden states than their mean."""
    modules = _read_table(folder / _MODULES, '[{"type": "sentence_transformers.models.Transformer"}]') or []
    kinds = {str(module.get("type", "")).rpartition(".")[2] for module in modules}
    if more := sorted(kinds - {"Transformer", "Pooling", "Normalize"}):
        raise ModelError(
            f"{folder / _MODULES} has the modules {', '.join(more)}; computed are Transformer, Pooling and Normalize"
        )
    path = folder / _POOLING
    pooling = _read_table(path, '{"pooling_mode_mean_tokens": true}') or {}
    modes = sorted(name for name, used in pooling.items() if name.startswith("pooling_mode_") and used is True)
    if modes and modes != ["pooling_mode_mean_tokens"]:
        raise ModelError(f"{path} asks for {', '.join(modes)}; only the mean of the tokens is computed")


def _longest(folder: Path, max_positions: int) -> int:
    """Most tokens that are read at once."""
    path = folder / _LENGTH
    longest = (_read_table(path, '{"max_seq_length": 256}') or {}).get("max_seq_length")
    if longest is None:
        return max_positions
    if not isinstance(longest, int) or not 1 <= longest <= max_positions:
        raise ModelError(f"{path}: max_seq_length is {longest!r}, but must be from 1 to the {max_positions} positions")
    return longest


def _read_tokenizer(folder: Path, vocab_size: int, longest: int) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelError(f"{path} cannot be read: {error}") from None
    if tokenizer.get_vocab_size() > vocab_size:
        raise ModelError(f"{path} has more tokens than the {vocab_size} of the model")
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return tokenizer


def _read_weights(folder: Path) -> dict[str, np.ndarray]:
    """The tensors by name, without the prefix that a model with a head gives them."""
    path = folder / "model.safetensors"
    try:
        return {name.removeprefix("bert."): array for name, array in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file: {error}") from None


def _filled(shapes: Any, weights: Mapping[str, np.ndarray]) -> Any:
    """The parameters; a pooler, which the mean does not use, is left out."""

    def of(path: tuple[Any, ...], leaf: Any) -> jax.Array:
        name = _tensor(*(entry.key for entry in path))
        if name not in weights:
            raise ModelError(f"model.safetensors lacks the tensor {name}")
        array = np.asarray(weights[name], np.float32)
        array = array.T if path[-1].key == "kernel" else array
        if array.shape != leaf.shape:
            raise ModelError(f"the tensor {name} is of shape {list(array.shape)} and not as config.json has it")
        return jnp.asarray(array)

    return jax.tree_util.tree_map_with_path(of, shapes)


def _tensor(*path: Any) -> str:
    """What a parameter is called in the weights."""
    if path[0] == "layers":
        place = f"encoder.layer.{path[1]}.{_OF_LAYER[path[2]]}"
    else:
        place = f"embeddings.{_OF_EMBEDDINGS[path[0]]}"
    return f"{place}.{'bias' if path[-1] == 'bias' else 'weight'}"
