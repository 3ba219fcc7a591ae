"""Episodes as plain data for people: transcripts with roles, channels and the credit of each behaviour."""

from __future__ import annotations

from typing import Any

import numpy as np

from games.text.grammar import SPEECH_TOKEN, THOUGHT_TOKEN, TRIE
from games.text.transcript import event_text
from maro_jax.credit.objective import BehaviourCredit
from maro_jax.selfplay.episodes import HOLDERS, Episodes
from maro_jax.selfplay.table import Table

RECORDED_TIMES = 40  # most iterations of a run whose games are kept, however long it is


def recorded_iterations(warm: int, total: int, match_every: int) -> list[int]:
    """Which iterations leave games for people to read: ends of each part, and where matches are played, thinned evenly.

    They follow from the plan of the run alone, so that a run that was interrupted keeps the same ones.

    Args:
      warm: iterations of cloning.
      total: iterations, those of cloning with them.
      match_every: iterations of self-play from one match to the next, 0 for none.

    Returns:
      Their numbers, beginning with 1, at most `RECORDED_TIMES` of them.
    """
    ends = {step for step in (1, warm, warm + 1, total) if 1 <= step <= total}
    others = sorted(set(range(warm + match_every, total, match_every)) - ends) if match_every else []
    room = RECORDED_TIMES - len(ends)
    if len(others) > room:
        others = [others[round(place * (len(others) - 1) / (room - 1))] for place in range(room)]
    return sorted(ends | set(others))


def game_records(
    table: Table, episodes: Episodes, credit: BehaviourCredit | None, indices: np.ndarray, iteration: int, seed: int
) -> list[dict[str, Any]]:
    """Records some episodes.

    Args:
      table: the game laid out for the policy.
      episodes: on the host.
      credit: what each behaviour was given, if anything was learnt from the episodes.
      indices: which episodes.
      iteration: when they were played.
      seed: of the run.
    """
    return [_record(table, episodes, credit, int(index), iteration, seed) for index in indices]


def _record(
    table: Table, episodes: Episodes, credit: BehaviourCredit | None, index: int, iteration: int, seed: int
) -> dict[str, Any]:
    spec, made = table.spec, episodes.behaviours
    count = int((made.seat[index] >= 0).sum())
    behaviours = [_behaviour(table, episodes, credit, index, decision) for decision in range(count)]
    spoken = {decision: behaviour["speech"] for decision, behaviour in enumerate(behaviours)}
    items: list[dict[str, Any]] = []
    following = 0
    for row in range(int(episodes.event_count[index])):
        while following < min(count, int(episodes.event_step[index, row])):
            items.append(behaviours[following])
            following += 1
        items.append(_event(table, episodes, index, row, spoken))
    items += behaviours[following:]
    holders = {int(seat): HOLDERS[holder] for seat, holder in zip(made.seat[index], made.holder[index], strict=True)
               if seat >= 0}  # fmt: skip
    seats = [
        {
            "name": f"Player {seat + 1}",
            "role": spec.roles[role].name,
            "side": spec.roles[role].side,
            "holder": holders.get(seat, ""),
            "outcome": float(episodes.outcome[index, seat]),
        }
        for seat, role in enumerate(episodes.roles[index])
    ]
    winners = {seat["side"] for seat in seats if seat["outcome"] > 0}
    return {
        "game": spec.name,
        "iteration": iteration,
        "episode": index,
        "seed": seed,
        "seats": seats,
        "terminated": bool(episodes.terminated[index]),
        "truncated": bool(episodes.truncated[index] | episodes.overflowed[index]),
        "winner": ", ".join(sorted(winners)),
        "items": items,
    }


def _event(table: Table, episodes: Episodes, index: int, row: int, spoken: dict[int, str]) -> dict[str, Any]:
    spec = table.spec
    event, audience = episodes.event_rows[index, row], int(episodes.event_audience[index, row])
    seats = [seat for seat in range(spec.num_seats) if audience >> seat & 1]
    actor = int(event[1])
    public = {*seats, actor} >= set(range(spec.num_seats))  # whoever caused it knows of it
    return {
        "type": "event",
        "kind": spec.event_kinds[int(event[0])].name,
        "text": event_text(spec, event, spoken.get(int(event[3]), "")).strip(),
        "channel": "public" if public else "private",
        "actor": actor if actor >= 0 else None,
        "audience": seats,
    }


def _behaviour(
    table: Table, episodes: Episodes, credit: BehaviourCredit | None, index: int, decision: int
) -> dict[str, Any]:
    spec, made = table.spec, episodes.behaviours
    seat, start, end = (int(field[index, decision]) for field in (made.seat, made.start, made.end))
    tokens, node = episodes.tokens[index, seat, start:end], episodes.node[index, seat, start:end]
    log_probs = episodes.log_probs[index, seat, start:end]
    close = int(table.lexicon.section_close)

    def text(kind: int) -> str:
        return table.tokenizer.decode([int(token) for token in tokens[(node == kind) & (tokens != close)]]).strip()

    record = {
        "type": "behaviour",
        "seat": seat,
        "role": spec.roles[int(made.role[index, decision])].name,
        "phase": spec.phases[int(made.phase[index, decision])].name,
        "holder": HOLDERS[int(made.holder[index, decision])],
        "thought": text(THOUGHT_TOKEN),
        "speech": text(SPEECH_TOKEN),
        "action": spec.action_labels[int(made.action[index, decision])].strip(),
        "legal": [spec.action_labels[action].strip() for action in np.flatnonzero(made.legal[index, decision])],
        "log_prob": float(log_probs.sum()),
        "action_log_prob": float(log_probs[node >= TRIE].sum()),
    }
    learnt = credit is not None and bool(credit.eligible[index, decision])
    for name, field in (("return", "returns"), ("advantage", "advantages"), ("weight", "weights"), ("sign", "signs")):
        record[name] = float(getattr(credit, field)[index, decision]) if learnt else None
    return record
