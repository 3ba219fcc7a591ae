"""What a reply was chosen from, worked out on the host from the labels' texts alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from games.text.grammar import SPEECH_TOKEN, THOUGHT_TOKEN, TRIE
from maro_jax.selfplay.episodes import Episodes
from maro_jax.selfplay.table import Table
from tests.games.text import host


@dataclasses.dataclass(frozen=True)
class Choice:
    """One token that a seat chose.

    Attributes:
      place: in the reply.
      section: `thought`, `speech` or `action`.
      allowed: ids it was chosen from.
      behind: ids of the label before it, for an action.
    """

    place: int
    section: str
    allowed: tuple[int, ...]
    behind: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Reply:
    """A reply taken apart.

    Attributes:
      choices: its chosen tokens, in order.
      speech: ids of what was said.
      action: the action whose label it ends in, or -1 if the phase has none.
    """

    choices: tuple[Choice, ...]
    speech: tuple[int, ...]
    action: int


def label_ids(table: Table, action: int) -> tuple[int, ...]:
    """Ids of a label and of the token that ends it."""
    return (*table.tokenizer.encode(table.spec.action_labels[action]), host.close(table.tokenizer))


def read_reply(table: Table, phase: int, legal: np.ndarray, ids: Sequence[int]) -> Reply:
    """Takes a reply apart; asserts that nothing in it could not have been said.

    Args:
      table: the game laid out for a policy.
      phase: of the behaviour.
      legal: bool[A].
      ids: the reply.
    """
    spec, tokenizer = table.spec, table.tokenizer
    ids, close = [int(token) for token in ids], host.close(tokenizer)
    plain = tokenizer.plain_token_mask(table.policy.config.vocab_size)
    texts = {"speech": plain, "thought": plain | tokenizer.newline_token_mask(table.policy.config.vocab_size)}
    budgets = {"speech": spec.phases[phase].speech_tokens, "thought": spec.phases[phase].thought_tokens}
    choices: list[Choice] = []
    place, action, speech = 0, -1, ()
    for number, section in enumerate(host.sections(spec, phase)):
        if number:
            way = host.between(tokenizer, section)
            assert ids[place : place + len(way)] == way
            place += len(way)
        begin = place
        if section == "action":
            labels = {each: label_ids(table, each) for each in np.flatnonzero(legal).tolist()}
            while action < 0:
                behind = tuple(ids[begin:place])
                ahead = {label[len(behind)] for label in labels.values() if label[: len(behind)] == behind}
                assert ids[place] in ahead
                if len(ahead) > 1:
                    choices.append(Choice(place, section, tuple(sorted(ahead)), behind))
                place += 1
                action = next((each for each, label in labels.items() if label == tuple(ids[begin:place])), -1)
            continue
        allowed = (*np.flatnonzero(texts[section]).tolist(), close)
        while place - begin < budgets[section] and (place == begin or ids[place - 1] != close):
            assert ids[place] in allowed
            choices.append(Choice(place, section, allowed))
            place += 1
        ended = place > begin and ids[place - 1] == close
        if not ended:
            assert ids[place] == close
            place += 1
        if section == "speech":
            speech = tuple(ids[begin : place - 1])
    assert place == len(ids)
    return Reply(tuple(choices), speech, action)


def mark_of(table: Table, choice: Choice) -> int:
    """The mark (`Episodes.node`) that a chosen token has to carry."""
    if choice.section != "action":
        return THOUGHT_TOKEN if choice.section == "thought" else SPEECH_TOKEN
    labels = [label_ids(table, action) for action in range(table.spec.num_actions)]
    through = [label[: len(choice.behind)] == choice.behind for label in labels]
    same = (table.grammar.under == through).all(axis=1) & (table.grammar.depth == len(choice.behind))
    (node,) = np.flatnonzero(same).tolist()
    return TRIE + node


def behaviours_of(episodes: Episodes, episode: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(decision, seat, ids of the reply) for every behaviour of an episode."""
    made = episodes.behaviours
    for decision, seat in enumerate(made.seat[episode].tolist()):
        if seat >= 0:
            start, end = made.start[episode, decision], made.end[episode, decision]
            yield decision, seat, episodes.tokens[episode, seat, start:end]


def reply_of(table: Table, episodes: Episodes, episode: int, decision: int, ids: np.ndarray) -> Reply:
    """A behaviour's reply taken apart."""
    made = episodes.behaviours
    return read_reply(table, int(made.phase[episode, decision]), made.legal[episode, decision], ids)


def full_stream(table: Table, episodes: Episodes, episode: int, seat: int) -> np.ndarray:
    """int[...]: a seat's role prefix and all that followed."""
    role, length = episodes.roles[episode, seat], episodes.lengths[episode, seat]
    prefix = table.lexicon.prefix_tokens[role, : table.lexicon.prefix_lengths[role]]
    return np.concatenate([prefix, episodes.tokens[episode, seat, :length]])


def log_of(episodes: Episodes, episode: int) -> list[tuple[int, int, int, int, int]]:
    """The rows of an episode's log with their audience."""
    count = int(episodes.event_count[episode])
    rows, audience = episodes.event_rows[episode, :count], episodes.event_audience[episode, :count]
    return [(*row, mask) for row, mask in zip(rows.tolist(), audience.tolist(), strict=True)]


def check_streams(table: Table, episodes: Episodes) -> int:
    """Asserts that streams hold what their seats were told and replied, and nothing else; counts the behaviours."""
    made, count = episodes.behaviours, 0
    for episode in range(len(episodes.roles)):
        log, steps = log_of(episodes, episode), episodes.event_step[episode]
        shown = np.zeros(table.spec.num_seats, int)
        position = np.zeros(table.spec.num_seats, int)
        speeches: dict[int, list[int]] = {}
        for decision, seat, ids in behaviours_of(episodes, episode):
            known = int(np.searchsorted(steps[: len(log)], decision, side="right"))
            rows = [row[:4] for row in log[shown[seat] : known] if row[4] >> seat & 1]
            told = host.delta(table.spec, table.tokenizer, rows, int(made.phase[episode, decision]), speeches)
            start, end = int(made.start[episode, decision]), int(made.end[episode, decision])
            assert episodes.tokens[episode, seat, position[seat] : start].tolist() == told
            assert start < end
            speeches[decision] = list(reply_of(table, episodes, episode, decision, ids).speech)
            shown[seat], position[seat] = known, end
            count += 1
        np.testing.assert_array_equal(episodes.lengths[episode], position)
        beyond = np.arange(episodes.tokens.shape[2]) >= position[:, None]
        for field in (episodes.tokens, episodes.node, episodes.decision, episodes.log_probs):
            assert not field[episode][beyond].any()
        unused = made.seat[episode] < 0
        assert np.all(made.holder[episode][unused] == -1)
        assert not np.any(unused[:-1] & ~unused[1:])
    return count
