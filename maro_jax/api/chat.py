"""What a seat reads, as turns of a chat: the text of its own stream and the legal choices, nothing else."""

from __future__ import annotations

from games.text.framing import FRAMINGS, encode_span
from games.text.grammar import ACTION, SPEECH, SPEECH_TOKEN, THOUGHT, THOUGHT_TOKEN, sections_of
from maro_jax.api.prompts import Prompts
from maro_jax.selfplay.hosted import Exchange, Turn
from maro_jax.selfplay.table import Table

Message = dict[str, str]


def messages(table: Table, turn: Turn, prompts: Prompts) -> list[Message]:
    """The chat that asks for a reply.

    Args:
      table: the game laid out for a policy.
      turn: whose reply is due.
      prompts: the words around the game's.

    Returns:
      First the rules and the role, then by turns what the seat read and replied, last what it is asked now.
    """
    spec = table.spec
    introduction, role = spec.introduction[0], spec.role_texts[turn.role][0]
    chat = [_said("system", prompts.system.substitute(introduction=introduction.strip(), role=role.strip()))]
    for exchange in turn.exchanges[:-1]:
        chat += [_said("user", news(table, exchange)), _said("assistant", reply(table, exchange))]
    return [*chat, _said("user", _question(table, turn, prompts))]


def choices(table: Table, turn: Turn) -> list[str]:
    """The labels that are legal, in the order of `turn.legal`; none where the phase asks for no action."""
    if not table.spec.phases[turn.phase].action:
        return []
    return [table.spec.action_labels[action].strip() for action in turn.legal]


def news(table: Table, exchange: Exchange) -> str:
    """What a seat was shown and asked at a turn: its stream's tokens without the frame of the model's family."""
    framing, tokenizer = FRAMINGS[table.tokenizer.family], table.tokenizer
    first = sections_of(table.spec.phases[exchange.phase])[0]
    opens = {THOUGHT: framing.thought_open, SPEECH: framing.speech_open, ACTION: framing.action_open}
    before = encode_span(framing.turn_open, tokenizer)
    after = encode_span(framing.turn_close, tokenizer) + encode_span(opens[first], tokenizer)
    return tokenizer.decode(exchange.news[len(before) : len(exchange.news) - len(after)].tolist()).strip()


def reply(table: Table, exchange: Exchange) -> str:
    """A seat's own reply at an earlier turn, in the form in which replies are asked for."""
    spec, close = table.spec, int(table.lexicon.section_close)

    def text(kind: int) -> str:
        return table.tokenizer.decode(exchange.reply[(exchange.nodes == kind) & (exchange.reply != close)].tolist())

    lines = [("Thought", text(THOUGHT_TOKEN)), ("Speech", text(SPEECH_TOKEN))]
    if spec.phases[exchange.phase].action:
        lines.append(("Action", spec.action_labels[exchange.action]))
    return "\n".join(f"{name}: {said.strip()}" for name, said in lines if said.strip()) or "(nothing)"


def _question(table: Table, turn: Turn, prompts: Prompts) -> str:
    phase = table.spec.phases[turn.phase]
    legal = "\n".join(f"- {label}" for label in choices(table, turn))
    told, room = news(table, turn.exchanges[-1]), phase.speech_tokens
    if not phase.speech_tokens:
        return prompts.act.substitute(news=told, choices=legal)
    if not phase.action:
        return prompts.speak.substitute(news=told, room=room)
    return prompts.speak_and_act.substitute(news=told, choices=legal, room=room)


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def tokens_of(table: Table, text: str) -> list[int]:
    """Free text as a stream would have it, on one line."""
    words = " ".join(text.split())
    return table.tokenizer.encode(f" {words}") if words else []
