"""Keeps the key out of everything that is printed or written."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

HIDDEN = "[key]"
SHORTEST = 8  # characters; what is shorter is a placeholder that servers without keys ask for, and may be a plain word


def redactor(key: str) -> Callable[[str], str]:
    """A function that puts `[key]` wherever a text spells the key, as it is or as JSON or an address would have it."""
    spellings = {key, json.dumps(key)[1:-1], quote(key, safe="")} if len(key) >= SHORTEST else set()

    def hidden(text: str) -> str:
        for spelling in spellings:
            text = text.replace(spelling, HIDDEN)
        return text

    return hidden
