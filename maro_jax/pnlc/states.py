"""The text of a state: all that an actor saw and did before a decision, summarised line by line.

    You are Merlin                                   its role
    You are Player 2                                 what it was told at the beginning, and later to it or few others
    Player 4 is evil
    Quest 1: a team of 2 ...                         what everybody was told and what it said and did, the newest lines
    You: Player 3
    Propose a team                                   what it is asked now

Thoughts are left out. The text is the same whether it is made of a record on disk or of a reply that is due.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from games.text.grammar import SPEECH_TOKEN
from games.text.transcript import event_text
from maro_jax.api.chat import news
from maro_jax.data.record import Record
from maro_jax.selfplay.episodes import Episodes
from maro_jax.selfplay.hosted import Exchange, Turn, told_in_secret
from maro_jax.selfplay.table import Table

MOST_DECODED = 1 << 14  # news that are remembered as text
MOST_WORDS = 240  # of a state: the oldest lines that everybody knows are left out beyond


@dataclasses.dataclass(frozen=True)
class _Told:
    """A turn of the actor: the lines it read, what it was asked, and the lines of its reply (empty while it is due)."""

    lines: tuple[str, ...]
    question: str
    reply: tuple[str, ...]


def state_of_turn(table: Table, turn: Turn) -> str:
    """The state in which a reply is due."""
    return _text(table, turn.role, [_told(table, each) for each in turn.exchanges], _secrets(table, turn.secrets))


def state_of_record(table: Table, record: Record, number: int) -> str:
    """The state before decision `number` of a record; see `states_of_record`."""
    return states_of_record(table, record)[number]


def states_of_record(table: Table, record: Record) -> list[str]:
    """The states before all decisions of a record.

    Args:
      table: the game laid out for the tokenizer that made the record's ids.
      record: an episode on disk.
    """
    made, logged, lengths = record.fields["behaviours"], record.fields["events"], record.fields["seats"]["length"]
    nodes = np.zeros(int(np.sum(lengths)), np.int16)
    nodes[record.fields["sampled"]["position"]] = record.fields["sampled"]["node"]
    past = _Past(
        role=np.asarray(record.fields["seats"]["role"]),
        made={name: np.asarray(made[name]).tolist() for name in _MADE},
        tokens=[seat.tokens for seat in record.seats],
        nodes=np.split(nodes, np.cumsum(lengths)[:-1]),
        rows=np.stack([np.asarray(logged[name], np.int16) for name in _ROW], axis=1),
        audience=np.asarray(logged["visible_to"]),
        step=np.asarray(logged["step"]),
    )
    return _states(table, past, range(len(past.made["seat"])))


def states_of_episode(table: Table, episodes: Episodes, index: int, decisions: Iterable[int]) -> list[str]:
    """The states before some decisions of an episode that was just played.

    Args:
      table: the game laid out for the policy that played.
      episodes: on the host.
      index: of the episode.
      decisions: numbers of decisions, in order.
    """
    made, events = episodes.behaviours, int(episodes.event_count[index])
    count = int((made.seat[index] >= 0).sum())
    past = _Past(
        role=episodes.roles[index],
        made={name: getattr(made, name)[index, :count].tolist() for name in _MADE},
        tokens=episodes.tokens[index],
        nodes=episodes.node[index],
        rows=episodes.event_rows[index, :events],
        audience=episodes.event_audience[index, :events],
        step=episodes.event_step[index, :events],
    )
    return _states(table, past, decisions)


_MADE = ("seat", "phase", "action", "start", "end")  # what is needed of behaviours
_ROW = ("kind", "actor", "target", "value")  # of the log


@dataclasses.dataclass(frozen=True, eq=False)
class _Past:
    """An episode that is over: roles [N], behaviours by field, streams and how their tokens came about, and the log."""

    role: np.ndarray
    made: Mapping[str, list[int]]
    tokens: Sequence[np.ndarray]
    nodes: Sequence[np.ndarray]
    rows: np.ndarray
    audience: np.ndarray
    step: np.ndarray


def _states(table: Table, past: _Past, decisions: Iterable[int]) -> list[str]:
    """The states before these decisions."""
    seats, wanted = len(past.role), frozenset(decisions)
    told: list[list[_Told]] = [[] for _ in past.role]
    secret = [told_in_secret(past.rows, past.audience, seat, seats) for seat in range(seats)]
    read, found = [0] * seats, []
    for number in range(max(wanted, default=-1) + 1):
        seat, phase, action, start, end = (past.made[name][number] for name in _MADE)
        exchange = Exchange(
            phase=phase,
            news=past.tokens[seat][read[seat] : start],
            reply=past.tokens[seat][start:end],
            nodes=past.nodes[seat][start:end],
            action=action,
        )
        now = _told(table, exchange)
        if number in wanted:
            secrets = _secrets(table, past.rows[secret[seat] & (past.step <= number)])
            found.append(_text(table, int(past.role[seat]), [*told[seat], dataclasses.replace(now, reply=())], secrets))
        told[seat].append(now)
        read[seat] = end
    return found


def _told(table: Table, exchange: Exchange) -> _Told:
    ids = np.ascontiguousarray(exchange.news, np.int32).tobytes()
    lines, question = _news(table, exchange.phase, ids)
    return _Told(lines, question, _replied(table, exchange) if len(exchange.reply) else ())


@functools.lru_cache(maxsize=MOST_DECODED)
def _news(table: Table, phase: int, ids: bytes) -> tuple[tuple[str, ...], str]:
    """The lines of news, and what is asked. A turn's news come again in each later turn, and are decoded once."""
    tokens, question = np.frombuffer(ids, np.int32), table.spec.phases[phase].prompt.strip()
    text = news(table, Exchange(phase, tokens, tokens[:0], np.zeros(0, np.int16), -1))
    lines = [line.strip() for line in text.removesuffix(question).split("\n")]
    return tuple(filter(None, lines)), question


def _replied(table: Table, exchange: Exchange) -> tuple[str, ...]:
    """The lines of a reply: what was said and what was done."""
    said = (exchange.nodes == SPEECH_TOKEN) & (exchange.reply != table.lexicon.section_close)
    speech = table.tokenizer.decode(exchange.reply[said].tolist()).strip() if said.any() else ""
    acts = table.spec.phases[exchange.phase].action
    action = table.spec.action_labels[exchange.action].strip() if acts else ""
    return tuple(f"You: {text}" for text in (speech, action) if text)


def _secrets(table: Table, rows: np.ndarray) -> frozenset[str]:
    """The lines of what an actor was told and not everybody."""
    return frozenset(event_text(table.spec, row).strip() for row in rows.tolist())


def _text(table: Table, role: int, told: Sequence[_Told], secrets: frozenset[str]) -> str:
    """The state's lines, cut to `MOST_WORDS`; role, what was told at the beginning, secrets and question are kept."""
    brief = table.tokenizer.family == "tiny"
    lines = [(table.spec.role_texts[role][brief].strip(), True)]
    for number, turn in enumerate(told):
        lines += [(line, number == 0 or line in secrets) for line in turn.lines]
        lines += [(line, False) for line in turn.reply]
    lines.append((told[-1].question, True))
    surplus, kept = sum(len(line.split()) for line, _ in lines) - MOST_WORDS, []
    for line, always in lines:
        if always or surplus <= 0:
            kept.append(line)
        else:
            surplus -= len(line.split())
    return "\n".join(filter(None, kept))
