"""The one form that the data of all task files here have: a JSON object a line."""

import re
from collections.abc import Iterable
from typing import Any


def checked(items: Any) -> Any:
    """Returns the items as they are.

    Args:
        items: a `datasets.Dataset`.

    Raises:
        ValueError: one of them does not have the documented form.
    """
    for number, item in enumerate(items, 1):
        problem = _problem(item)
        if problem:
            raise ValueError(f"item {number} {problem} (the form of the items is in docs/evaluation.md)")
    return items


def _problem(item: dict[str, Any]) -> str:
    """What is wrong with an item; empty for nothing."""
    for name in ("story", "question"):
        if not isinstance(item.get(name), str) or not item[name].strip():
            return f"needs {name!r}, a text"
    choices = item.get("choices")
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
        return f"needs 'choices', a list of 2 to {len(LETTERS)} texts"
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        return "has a choice that is no text"
    answer = item.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        return f"needs 'answer', the index of the right choice, 0 to {len(choices) - 1}"
    return ""


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def question(item: dict[str, Any]) -> str:
    """The story, the question and the choices by letter, up to where the letter of the answer follows."""
    choices = [f"{letter}. {choice.strip()}" for letter, choice in zip(LETTERS, item["choices"], strict=False)]
    return "\n".join([item["story"].strip(), "", f"Question: {item['question'].strip()}", *choices, "Answer:"])


def letters(item: dict[str, Any]) -> list[str]:
    """The letters of the choices."""
    return list(LETTERS[: len(item["choices"])])


def right_letter(item: dict[str, Any]) -> str:
    """The letter of the right choice."""
    return LETTERS[item["answer"]]


# A letter that stands alone, but not the word for oneself. (So of nine choices or more the ninth cannot be chosen.)
_LETTER = r"(?<![A-Za-z])([A-HJ-Z])(?![A-Za-z'’])"
_OPENERS = r"[\s*_\"'(“\[$`:]*"
_NO_ARTICLE = r"(?!A[ \t]+(?!because\b|since\b|as\b|and\b|or\b|is\b|for\b|in\b)[a-z])"
_ORDER = (
    re.compile(r"\\boxed\{\s*(?:\\text\{)?" + _LETTER),
    re.compile(r"(?i:\banswer\s+is|\banswer\W*:)" + _OPENERS + _LETTER),
    re.compile("^" + _OPENERS + _NO_ARTICLE + _LETTER + r"(?!\W+(?:or|and)\b)"),
    re.compile(_NO_ARTICLE + _LETTER),
)


def letters_said(replies: Iterable[list[str]], items: Iterable[dict[str, Any]]) -> list[list[str]]:
    """The letter that each reply means, `[invalid]` where it names none: a filter of the harness.

    The last one that is boxed counts, else the last after "answer is" or "answer:", else the one that the reply begins
    with, else the last one that stands alone.
    """
    return [[_letter_said(text) for text in texts] for texts, _ in zip(replies, items, strict=True)]


def _letter_said(text: str) -> str:
    return next((found[-1] for pattern in _ORDER if (found := pattern.findall(text))), "[invalid]")
