"""The language model: decoder, KV cache, tokenizer, sharding and Hugging Face folders."""
