"""Small random Qwen2 folders, made by transformers and torch, for tests."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# How Qwen cuts text into words; transformers assumes it for any folder of this model type.
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_SENTENCES = [
    "Player 1 votes Player 2.",
    "The village wins; the wolf was killed at night.",
    "Choose a player to protect\nPlayer 3 says: I am the seer!",
    "Größe, naïve café, 日本語 and émigré",
]


def make_chatml_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer whose control tokens are added after the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
        chat_template=CHAT_TEMPLATE,
    )


def make_qwen2_folder(
    path: Path,
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
) -> Qwen2ForCausalLM:
    """Writes a random Qwen2 model with tokenizer to `path`.

    Args:
        path: folder to write.
        tied: whether the head is the embedding.
        num_layers: blocks.
        hidden_size: width of the stream.
        num_heads: query heads.
        num_kv_heads: key and value heads.
        vocab_padding: rows of the embedding beyond the tokenizer's size.
        dtype: of the weights.
        max_shard_size: splits the weights over several files when small.
        old_rope_layout: whether `config.json` says `rope_theta` as before transformers 5.
        seed: of the weights.

    Returns:
        The torch model, in evaluation mode.
    """
    tokenizer = make_chatml_tokenizer()
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + vocab_padding,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=tied,
        # Larger than usual, so that a wrong rotation or mask shows in the logits.
        initializer_range=0.2,
    )
    model = Qwen2ForCausalLM(config).eval().to(dtype)
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
    """Moves the rotary base to where transformers 4 wrote it."""
    contents["rope_theta"] = contents.pop("rope_parameters")["rope_theta"]
    contents["rope_scaling"] = None
    contents.pop("layer_types", None)
