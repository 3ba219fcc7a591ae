"""Models behind an OpenAI-compatible API as players: what is sent, what is read, what is counted (docs/api.md)."""
