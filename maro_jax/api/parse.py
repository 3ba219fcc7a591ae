"""From a model's free text to a thought, a speech and one of the legal choices, or a sentence on what is wrong."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence

SECTIONS = ("thought", "speech", "action")
_HEADING = re.compile(r"^[ \t>#*_`-]*(thought|speech|action)[ \t*_`]*:[ \t*_`]*", re.IGNORECASE | re.MULTILINE)
_THINKING = re.compile(r"<think>(.*?)</think>", re.DOTALL | re.IGNORECASE)
_OPENED = re.compile(r"<think>", re.IGNORECASE)
_CLOSED = re.compile(r"^(.*)</think>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^```[a-z]*\n(.*?)\n?```$", re.DOTALL)
_AROUND = " \t\r\n\"'`*_.,;:!?()[]{}<>“”‘’-"


class Unusable(ValueError):
    """A reply that does not say what is to be done; the message is one sentence for the model."""


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A reply's parts; `choice` is an index among the choices, -1 where there are none."""

    thought: str
    speech: str
    choice: int


def split_thinking(text: str) -> tuple[str, str]:
    """What a reply thinks, and what it says.

    Some servers send only the mark that ends the thinking; a reply that was cut short has only the one that begins it.
    """
    thoughts, rest = _THINKING.findall(text), _THINKING.sub("", text)
    if closed := _CLOSED.match(rest):
        thoughts, rest = [*thoughts, closed.group(1)], rest[closed.end() :]
    rest, *unfinished = _OPENED.split(rest, maxsplit=1)
    return "\n".join(filter(None, (thought.strip() for thought in [*thoughts, *unfinished]))), rest.strip()


def parse(text: str, choices: Sequence[str], speaks: bool) -> Parsed:
    """Reads a reply.

    Headings may be in any case and in Markdown, the whole may be a JSON object, and what stands in `<think>` is a
    thought. A reply without headings counts as what is asked for if only one thing is. The last heading of a kind
    counts.

    Args:
      text: the reply.
      choices: the legal labels; empty where no action is asked for.
      speaks: whether a speech is asked for.

    Raises:
      Unusable: no single legal choice can be read, or there is no speech where nothing else is asked for.
    """
    thinking, said = split_thinking(text)
    parts = _sections(said, "action" if choices else "speech")
    speech = parts.get("speech", "") if speaks else ""
    if not choices and not speech:
        raise Unusable("it has no line that begins with Speech: and goes on with what you say.")
    choice = _choice(parts.get("action", ""), choices) if choices else -1
    return Parsed("\n".join(filter(None, [thinking, parts.get("thought", "")])), speech, choice)


def _sections(text: str, wanted: str) -> dict[str, str]:
    """The parts of a reply by name."""
    fenced = _FENCE.match(text)
    body = fenced.group(1).strip() if fenced else text
    if body.startswith("{"):
        try:
            fields = json.loads(body)
        except ValueError:
            fields = {}
        found = {str(name).lower(): value for name, value in fields.items()}
        if found.keys() & set(SECTIONS):
            return {name: str(value).strip() for name, value in found.items() if name in SECTIONS and value is not None}
    headings = list(_HEADING.finditer(body))
    if not headings:
        return {wanted: body}
    ends = [heading.start() for heading in headings[1:]] + [len(body)]
    return {
        heading.group(1).lower(): body[heading.end() : end].strip() for heading, end in zip(headings, ends, strict=True)
    }


def _choice(said: str, choices: Sequence[str]) -> int:
    """The index of the one choice that an action's text names."""
    legal = "The choices are: " + "; ".join(choices) + "."
    first = next(iter(said.strip().splitlines()), "").strip()
    if first in choices:
        return list(choices).index(first)
    line = _plain(first)
    if not line:
        raise Unusable(f"it has no line that begins with Action: and goes on with one of the choices. {legal}")
    plain = [_plain(choice) for choice in choices]
    if line in plain:
        return plain.index(line)
    named = [index for index, label in enumerate(plain) if _names(line, label)]
    # The label may be followed by a reason, but by nothing that names another choice.
    longest = max(named, key=lambda index: len(plain[index]), default=-1)
    if longest >= 0 and line.startswith(plain[longest]):
        rest = line[len(plain[longest]) :]
        if not any(_names(rest, label) for label in plain):
            return longest
        raise Unusable(f"its action names more than one choice. {legal}")
    raise Unusable(f"its action, {line[:80]!r}, is none of the choices. {legal}")


def _names(text: str, label: str) -> bool:
    """Whether a label stands in a text, not as a part of longer words or numbers."""
    return re.search(rf"(?<![\w.]){re.escape(label)}(?!\w|\.\d)", text) is not None


def _plain(text: str) -> str:
    """Without case, runs of space, and quotes or stops around it."""
    return " ".join(text.casefold().split()).strip(_AROUND)
