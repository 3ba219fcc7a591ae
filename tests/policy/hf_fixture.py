"""Small random Hugging Face folders of every family, made by transformers and torch, for tests."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.utils.logging import disable_progress_bar

torch.set_num_threads(1)  # models this small only wait for the other threads
disable_progress_bar()

_CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_QWEN3_TEMPLATE = (
    _CHATML_TEMPLATE.removesuffix("{% endif %}")
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
_LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

# How Qwen and Llama 3 cut text into words: they differ in how many digits one may have.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_SENTENCES = [
    "Player 1 votes Player 2.",
    "The village wins; the wolf was killed at night.",
    "Choose a player to protect\nPlayer 3 says: I am the seer!",
    "Größe, naïve café, 日本語 and émigré",
]


@dataclasses.dataclass(frozen=True)
class _Words:
    """A family of tokenizers.

    Attributes:
        control: its control tokens.
        digits: how many of them one word may have, as a regular expression.
        end: ends a turn.
        pad: fills rows.
        template: of chats.
        begin: what the tokenizer puts before every text.
    """

    control: tuple[str, ...]
    digits: str
    end: str
    pad: str
    template: str
    begin: str = ""


_CHATML = _Words(("<|im_start|>", "<|im_end|>", "<|endoftext|>"), "", "<|im_end|>", "<|endoftext|>", _CHATML_TEMPLATE)
_TOKENIZERS = {
    "chatml": _CHATML,
    "qwen3": dataclasses.replace(
        _CHATML, control=(*_CHATML.control, "<tool_call>", "<think>", "</think>"), template=_QWEN3_TEMPLATE
    ),
    "llama3": _Words(
        (
            *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
            *("<|eom_id|>", "<|eot_id|>"),
        ),
        "{1,3}", "<|eot_id|>", "<|end_of_text|>", _LLAMA3_TEMPLATE, "<|begin_of_text|>",
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Family:
    """An architecture with a tokenizer.

    Attributes:
        config_class: of transformers.
        model_class: of transformers.
        tokenizer: name for `make_tokenizer`.
        rope: the rotary base and its scaling.
        sizes: fields of the configuration that only this family has.
    """

    config_class: type[PreTrainedConfig]
    model_class: type[PreTrainedModel]
    tokenizer: str
    rope: dict[str, Any]
    sizes: dict[str, Any] = dataclasses.field(default_factory=dict)


# Of the four frequencies of a head here, Llama's scaling leaves two alone, mixes one and lowers one.
_LLAMA3_SCALING = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
FAMILIES = {
    "qwen2": Family(Qwen2Config, Qwen2ForCausalLM, "chatml", {"rope_type": "default", "rope_theta": 1e6}),
    # Heads of Qwen3 are wider than the stream divided by their number.
    "qwen3": Family(
        Qwen3Config, Qwen3ForCausalLM, "qwen3", {"rope_type": "default", "rope_theta": 5e6}, {"head_dim": 16}
    ),
    "llama": Family(LlamaConfig, LlamaForCausalLM, "llama3", _LLAMA3_SCALING, {"max_position_embeddings": 16384}),
}


def make_tokenizer(
    family: str = "chatml", texts: Iterable[str] = _SENTENCES, vocab_size: int = 320
) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer whose control tokens are added after the vocabulary.

    Args:
        family: `chatml`, `qwen3` or `llama3`.
        texts: what it is trained on.
        vocab_size: most tokens that are not control tokens.
    """
    words = _TOKENIZERS[family]
    tokenizer = Tokenizer(models.BPE(ignore_merges=bool(words.begin)))
    if not words.begin:
        tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_WORDS % words.digits), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([text for text in texts for _ in range(4)], trainer)
    named = {"eos_token": words.end, "pad_token": words.pad}
    if words.begin:
        tokenizer.add_special_tokens([words.begin])
        begin = (words.begin, tokenizer.token_to_id(words.begin))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{words.begin} $A", special_tokens=[begin])
        named["bos_token"] = words.begin
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        extra_special_tokens=list(words.control),
        chat_template=words.template,
        **named,
    )


def make_model_folder(
    path: Path,
    family: str = "qwen2",
    *,
    tied: bool = True,
    num_layers: int = 2,
    hidden_size: int = 32,
    num_heads: int = 4,
    num_kv_heads: int = 2,
    vocab_padding: int = 5,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "1GB",
    old_rope_layout: bool = False,
    seed: int = 0,
    **settings: Any,
) -> PreTrainedModel:
    """Writes a random model with tokenizer to `path`.

    Args:
        path: folder to write.
        family: one of `FAMILIES`.
        tied: whether the head is the embedding.
        num_layers: blocks.
        hidden_size: width of the stream.
        num_heads: query heads.
        num_kv_heads: key and value heads.
        vocab_padding: rows of the embedding beyond the tokenizer's size.
        dtype: of the weights.
        max_shard_size: splits the weights over several files when small.
        old_rope_layout: whether `config.json` says `rope_theta` and `rope_scaling` as before transformers 5.
        seed: of the weights.
        **settings: further fields of the configuration.

    Returns:
        The torch model, in evaluation mode.
    """
    made = FAMILIES[family]
    tokenizer = make_tokenizer(made.tokenizer)
    torch.manual_seed(seed)
    config = made.config_class(
        vocab_size=len(tokenizer) + vocab_padding,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        rope_parameters=dict(made.rope),
        tie_word_embeddings=tied,
        # Larger than usual, so that a wrong rotation or mask shows in the logits.
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{"max_position_embeddings": 8192, "intermediate_size": 2 * hidden_size} | made.sizes | settings,
    )
    model = made.model_class(config).eval().to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(path, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(path)
    if old_rope_layout:
        rewrite_config(path, _to_old_layout)
    return model


def rewrite_config(path: Path, change: Any) -> None:
    """Applies `change(contents)` to the contents of `config.json`, in place."""
    file = Path(path) / "config.json"
    contents = json.loads(file.read_text())
    change(contents)
    file.write_text(json.dumps(contents))


def _to_old_layout(contents: dict[str, Any]) -> None:
    """Moves the rotary base and its scaling to where transformers 4 wrote them."""
    rope = contents.pop("rope_parameters")
    contents["rope_theta"] = rope.pop("rope_theta")
    contents["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    contents["torch_dtype"] = contents.pop("dtype")
    contents.pop("layer_types", None)
