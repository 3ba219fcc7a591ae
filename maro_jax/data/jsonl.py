"""Games written down in JSONL, told again by the rules: the format is explained in docs/data.md."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from maro_jax.data.deals import Deals
from maro_jax.data.encode import Encoder, Origin
from maro_jax.data.retell import Replies, retell
from maro_jax.run.fields import ConfigError, nearest
from maro_jax.selfplay.episodes import PERSON, Episodes, RolloutPlan
from maro_jax.selfplay.table import Table

BATCH = 64  # games that are told together
GAME_KEYS = ("deal", "roles", "given", "moves", "outcome", "players")
MOVE_KEYS = ("seat", "action", "speech", "thought")


@dataclasses.dataclass(frozen=True)
class Line:
    """A game as it is written down.

    Attributes:
      number: of the line, from 1.
      deal: seed of its chance.
      moves: seat (from 0), action, speech and thought of each decision; texts may be empty.
      outcome: of each seat, if it is told.
      players: who they were, if it is told.
    """

    number: int
    deal: int
    moves: tuple[tuple[int, str, str, str], ...]
    outcome: tuple[float, ...] | None
    players: tuple[str, ...] | None


def imported_examples(path: Path, table: Table, capacity: int, seed: int) -> Iterator[dict[str, Any]]:
    """Reads games and yields a record of each.

    Args:
      path: of the file.
      table: the game laid out for a tokenizer.
      capacity: stream tokens of a seat.
      seed: root of the chance in the file's deals.

    Raises:
      ConfigError: the first line that is wrong, with its number and, for an action, what was legal.
    """
    encoder, lines, deals, found = Encoder(table), _lines(path), Deals(table, seed), False
    while batch := [parse(number, text, table, deals) for number, text in itertools.islice(lines, BATCH)]:
        found = True
        whole = [*batch, *batch[-1:] * (BATCH - len(batch))]  # one program for all batches
        replies, faults = _replies(table, whole)
        plan = RolloutPlan(
            episode=np.array([line.number for line in whole], np.int32),
            deal=np.array([line.deal for line in whole], np.int32),
            holders=np.full((BATCH, len(table.spec.sides)), PERSON, np.int8),
        )
        told = retell(table, capacity, jax.random.key(seed), plan, replies)
        for index, line in enumerate(batch):
            _check_told(table, told, index, line, faults)
        for line, example in zip(batch, encoder.examples(told, plan, Origin(seed), range(len(batch))), strict=True):
            if line.players:
                example["seats"]["player"] = list(line.players)
            yield example
    if not found:
        raise ConfigError(f"{path} holds no game; a line is one, see docs/data.md")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from ((number, text) for number, text in enumerate(file, 1) if text.strip())
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no UTF-8 text; a line is a JSON object, see docs/data.md") from None


# ---------------------------------------------------------------------- one line


def parse(number: int, text: str, table: Table, deals: Deals) -> Line:
    """Reads a line.

    Raises:
      ConfigError: it is no JSON, has another form, or no deal is as it says.
    """
    try:
        game = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"line {number} is no JSON: {error}") from None
    seats = table.spec.num_seats
    _require(isinstance(game, dict), number, 'is no JSON object; for example {"deal": 3, "moves": [...]}')
    _known(number, game, GAME_KEYS)
    moves = game.get("moves")
    _require(isinstance(moves, list) and bool(moves), number, 'has no "moves", a list of decisions')
    for name, kind in (("outcome", (int, float)), ("players", str), ("roles", str)):
        values = game.get(name)
        right = values is None or (
            isinstance(values, list) and len(values) == seats and all(isinstance(value, kind) for value in values)
        )
        _require(right, number, f'"{name}" must have one entry for each of the {seats} seats')
    deal = game.get("deal")
    if deal is None:
        given = game.get("given", [])
        right = isinstance(given, list) and all(isinstance(line, str) for line in given)
        _require(right, number, '"given" must be a list of lines that seats read at the beginning')
        _require("roles" in game or "given" in game, number, 'must tell the deal: "deal", or "roles" or "given"')
        deal = deals.find(number, game.get("roles"), given)
    else:
        right = type(deal) is int and 0 <= deal < 2**31
        _require(right, number, f'"deal" must be a whole number from 0 to {2**31 - 1}, not {deal!r}')
        both = [name for name in ("roles", "given") if name in game]
        _require(not both, number, f'tells "deal" and {both}: either is enough')
    outcome, players = game.get("outcome"), game.get("players")
    return Line(
        number,
        deal,
        tuple(_move(number, index, move, seats) for index, move in enumerate(moves, 1)),
        None if outcome is None else tuple(float(value) for value in outcome),
        None if players is None else tuple(players),
    )


def _move(number: int, index: int, move: Any, seats: int) -> tuple[int, str, str, str]:
    where = f"move {index}"
    _require(isinstance(move, dict), number, f"{where} is no JSON object")
    _known(number, move, MOVE_KEYS, where)
    seat = move.get("seat")
    right = type(seat) is int and 1 <= seat <= seats
    _require(right, number, f'{where} needs "seat", from 1 to {seats}, not {seat!r}')
    texts = [move.get(name, "") for name in ("action", "speech", "thought")]
    _require(all(isinstance(text, str) for text in texts), number, f"{where} has an entry that is no text")
    return seat - 1, texts[0].strip(), texts[1].strip(), texts[2].strip()


def _known(number: int, entries: Mapping[str, Any], known: Sequence[str], where: str = "") -> None:
    for name in entries:
        _require(
            name in known, number, f"{where} has an unknown entry {name!r}{nearest(name, known)}; known are "
            f"{', '.join(known)}".strip()
        )  # fmt: skip


def _require(holds: bool, number: int, what: str) -> None:
    if not holds:
        raise ConfigError(f"line {number} {what.strip()}")


# ---------------------------------------------------------------------- what was decided


def _replies(table: Table, lines: Iterable[Line]) -> tuple[Replies, dict[tuple[int, int], str]]:
    """The moves as token ids; texts that cannot be written, by line and move."""
    lines = list(lines)
    spec, faults = table.spec, {}
    replies = Replies.empty(table, len(lines))
    actions = {label.strip(): index for index, label in enumerate(spec.action_labels)}
    for row, line in enumerate(lines):
        for index, (_, action, speech, thought) in enumerate(line.moves[: spec.max_decisions]):
            replies.action[row, index] = actions.get(action, -1)
            for name, text, tokens, lengths, mask in (
                ("speech", speech, replies.speech, replies.speech_length, table.lexicon.speech_mask),
                ("thought", thought, replies.thought, replies.thought_length, table.lexicon.thought_mask),
            ):
                ids = np.array(table.tokenizer.encode(f" {text}") if text else [], np.int32)
                if text and (table.tokenizer.decode(ids.tolist()).strip() != text or not mask[ids].all()):
                    faults[line.number, index] = f"the {name} {text!r} cannot be written with this tokenizer"
                lengths[row, index] = len(ids)
                tokens[row, index, : len(ids)] = ids[: tokens.shape[2]]
    return replies, faults


def _check_told(table: Table, told: Episodes, index: int, line: Line, faults: Mapping[tuple[int, int], str]) -> None:
    """Refuses a line that the rules cannot follow, at its first fault."""
    spec, made = table.spec, told.behaviours
    count = int((made.seat[index] >= 0).sum())
    for number, (seat, action, speech, thought) in enumerate(line.moves):
        where = f"line {line.number}, move {number + 1}"
        if number == count:
            raise ConfigError(f"{where}: the game is over after {count} moves")
        legal = [spec.action_labels[each].strip() for each in np.flatnonzero(made.legal[index, number])]
        due, phase = int(made.seat[index, number]), spec.phases[int(made.phase[index, number])]
        if seat != due:
            raise ConfigError(f"{where}: Player {seat + 1} is not to act but Player {due + 1}, in phase {phase.name}")
        if phase.action and action not in legal:
            raise ConfigError(f"{where}: {action!r} is not legal; legal are: {', '.join(legal)}")
        if action and not phase.action:
            raise ConfigError(f"{where}: phase {phase.name} asks for no action")
        if (line.number, number) in faults:
            raise ConfigError(f"{where}: {faults[line.number, number]}")
        for name, text, room in (("speech", speech, phase.speech_tokens), ("thought", thought, phase.thought_tokens)):
            if text and len(table.tokenizer.encode(f" {text}")) > room:
                hint = f"; the rule parameter {name}_tokens gives more" if not room else ""
                raise ConfigError(f"{where}: phase {phase.name} has room for a {name} of {room} tokens{hint}")
    if len(line.moves) < count:
        due = int(made.seat[index, len(line.moves)])
        legal = [spec.action_labels[each].strip() for each in np.flatnonzero(made.legal[index, len(line.moves)])]
        raise ConfigError(
            f"line {line.number}: the game is not over after its {len(line.moves)} moves: Player {due + 1} is to act, "
            f"legal are: {', '.join(legal)}"
        )
    outcome = told.outcome[index].tolist()
    if line.outcome is not None and not np.allclose(line.outcome, outcome, atol=1e-5):
        raise ConfigError(
            f"line {line.number}: the outcome is {list(line.outcome)} there and "
            f"{[round(value, 6) for value in outcome]} by the rules of the game"
        )
