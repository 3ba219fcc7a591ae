"""Training language models by self-play in social games."""
