"""The language model: decoder, KV cache, tokenizer, sharding and Hugging Face folders."""

import os

# transformers is used for configurations and tokenizers only; it need not advise to install PyTorch.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
