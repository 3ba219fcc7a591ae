"""Piecewise encoding, whole phrases, and the rendering of turns against the host's."""

import dataclasses
import functools
from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import EventKind, EventLog, GameError, GameSpec
from games.registry import GAMES, make
from games.text import vocabulary
from games.text.lexicon import Lexicon, build_lexicon, parse_template, render_delta
from games.text.transcript import event_text, to_text
from tests.games.recording import QUICKLY, Peaceful, record_games, single_records
from tests.games.text import host

NINE = make("werewolf-v0", num_seats=9, speech_tokens=4, thought_tokens=4).spec


@functools.cache
def lexicon_of(spec: GameSpec, family: str) -> Lexicon:
    tokenizer = host.tokenizer_of(family)
    return build_lexicon(spec, tokenizer, vocab_size=tokenizer.vocab_size, brief=family == "tiny")


@pytest.mark.parametrize("family", host.FAMILIES)
def test_every_event_encodes_the_same_in_pieces_as_whole_and_with_what_follows(family: str):
    encode = functools.lru_cache(host.tokenizer_of(family).encode)
    events = [host.event_pieces(NINE, row) for row in host.possible_rows(NINE)]
    starts = {pieces[0] for pieces in events} | {phase.prompt for phase in NINE.phases if phase.prompt}
    assert all(start.startswith("\n") for start in starts)
    for *before, last in events:
        pieces = before if last == "{utterance}" else [*before, last]
        whole = encode("".join(pieces))
        assert sum(map(encode, pieces), []) == whole, pieces
        for start in starts if last != "{utterance}" else ():  # a speech is never encoded again
            assert encode("".join(pieces) + start) == whole + encode(start), (pieces, start)
    opening = host.behind_control(host.FRAMES[host.tokenizer_of(family).family][0])
    for start in starts:
        assert encode(opening + start) == encode(opening) + encode(start)


@pytest.mark.parametrize("family", host.FAMILIES)
def test_labels_and_scripted_speech_encode_the_same_behind_their_frames(family: str):
    tokenizer = host.tokenizer_of(family)
    opens = host.FRAMES[tokenizer.family][2].values()
    for before in [*map(host.behind_control, opens), "\nPlayer 3 says:"]:
        for text in (*NINE.action_labels, *NINE.scripted_speech):
            assert tokenizer.encode(before + text) == tokenizer.encode(before) + tokenizer.encode(text)
    for text in NINE.scripted_speech:
        assert tokenizer.encode(f"{text}\nNight 2") == tokenizer.encode(text) + tokenizer.encode("\nNight 2")


@pytest.mark.parametrize("family", host.FAMILIES)
def test_scripted_speech_uses_only_what_a_speech_may(family: str):
    mask = lexicon_of(NINE, family).speech_mask
    assert all(mask[host.tokenizer_of(family).encode(text)].all() for text in NINE.scripted_speech)


def test_every_phrase_of_the_game_is_one_piece_of_the_tiny_vocabulary():
    tokenizer = host.tokenizer_of("tiny")
    literals = {text for kind in NINE.event_kinds for what, text in parse_template(kind) if what == "text"}
    words = {word for _, table in NINE.words for word in table}
    # Games of ten days and more are not what the tiny model is for; their headings take another piece.
    late = {f"\n{part} {number}" for part in ("Night", "Day") for number in (0, *range(10, 22))}
    prompts = {phase.prompt for phase in NINE.phases if phase.prompt}
    roles = {brief for _, brief in NINE.role_texts}
    phrases = literals | prompts | roles | (words - late)
    assert phrases <= set(vocabulary.PHRASES), phrases - set(vocabulary.PHRASES)
    assert all(len(tokenizer.encode(phrase)) == 1 for phrase in vocabulary.PHRASES)
    for text in (*NINE.action_labels, *NINE.scripted_speech):
        pieces = [tokenizer.decode([token]) for token in tokenizer.encode(text)]
        assert all(piece in vocabulary.PHRASES for piece in pieces), pieces


@pytest.mark.parametrize("name", GAMES)
def test_every_text_of_a_game_is_made_of_whole_phrases_of_the_tiny_vocabulary(name: str):
    spec, tokenizer = make(name).spec, host.tokenizer_of("tiny")
    phrases = {text for kind in spec.event_kinds for what, text in parse_template(kind) if what == "text"}
    phrases |= {phase.prompt for phase in spec.phases if phase.prompt} | {brief for _, brief in spec.role_texts}
    assert phrases <= set(vocabulary.PHRASES), phrases - set(vocabulary.PHRASES)
    composed = {word for _, table in spec.words for word in table} | {*spec.action_labels, *spec.scripted_speech}
    late = {word for word in composed if word.startswith(("\nNight ", "\nDay "))}  # counted beyond what is told
    for text in composed - late:
        pieces = [tokenizer.decode([token]) for token in tokenizer.encode(text)]
        assert all(piece in vocabulary.PHRASES for piece in pieces), pieces


VARIANTS: list[dict[str, Any]] = [
    {"num_seats": 5, "speech_tokens": 5, "thought_tokens": 3, "reveal_roles": False, "max_days": 3},
    {"num_seats": 7, "max_days": 3, "night_order": "seer,doctor,wolf"},
]


@functools.cache
def recorded(variant: int) -> tuple[GameSpec, list[dict[str, np.ndarray]]]:
    game = make("werewolf-v0", **VARIANTS[variant])
    return game.spec, list(single_records(record_games(game, 30, seed=3)))


def turns_of(record: dict[str, np.ndarray]) -> list[tuple[int, int, int]]:
    """(time, seat, log rows shown to the seat before) of every decision."""
    cursor: dict[int, int] = defaultdict(int)
    turns = []
    for time, seat in enumerate(record["actor"].tolist()):
        if seat >= 0:
            turns.append((time, seat, cursor[seat]))
            cursor[seat] = int(record["log_size"][time])
    return turns


@pytest.mark.parametrize("family", host.FAMILIES)
@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_every_turn_is_rendered_as_on_the_host(variant: int, family: str):
    spec, records = recorded(variant)
    tokenizer, lexicon = host.tokenizer_of(family), lexicon_of(spec, family)
    allowed = np.flatnonzero(lexicon.speech_mask)
    chance = np.random.default_rng(0)
    speeches = chance.choice(allowed, (spec.max_decisions, spec.speech_tokens)).astype(np.int32)
    lengths = chance.integers(0, spec.speech_tokens + 1, spec.max_decisions).astype(np.int32)
    said = {step: speeches[step, :length].tolist() for step, length in enumerate(lengths)}

    def render(rows: Any, audience: Any, size: Any, seat: Any, cursor: Any, phase: Any) -> tuple:
        window = jnp.minimum(cursor + jnp.arange(spec.max_new_events), spec.max_events - 1)
        new = cursor + jnp.arange(spec.max_new_events) < size
        visible = EventLog(rows, audience, size).visible_to(seat)[window] & new
        return render_delta(lexicon, rows[window], visible, phase, jnp.asarray(speeches), jnp.asarray(lengths))

    many = jax.jit(jax.vmap(render, (None, None, 0, 0, 0, 0)), compiler_options=QUICKLY)
    longest = 0
    for record in records:
        rows, audience = record["log_rows"], record["log_audience"]
        turns = np.zeros((spec.max_decisions, 3), np.int32)  # padded, so that one program does for all games
        real = turns_of(record)
        turns[: len(real)] = real
        time, seat, cursor = turns.T
        size, phase = record["log_size"][time].astype(np.int32), record["phase"][time]
        tokens, counts = jax.device_get(many(rows, audience, size, seat, cursor, phase))
        for index, (when, who, start) in enumerate(real):
            shown = [rows[place].tolist() for place in range(start, size[index]) if audience[place] >> who & 1]
            expected = host.delta(spec, tokenizer, shown, int(phase[index]), said)
            assert tokens[index, : counts[index]].tolist() == expected, (when, who)
            assert not tokens[index, counts[index] :].any()
            longest = max(longest, int(counts[index]))
    assert longest <= lexicon.max_delta


@pytest.mark.parametrize("family", host.FAMILIES)
@pytest.mark.parametrize(
    "parameters",
    [
        {"num_seats": 5, "max_days": 2, "speech_rounds": 2, "speech_tokens": 3, "thought_tokens": 2},
        {"num_seats": 7, "max_days": 2, "reveal_roles": False},
        {"num_seats": 5, "max_days": 3, "reveal_roles": False, "speech_acts": False},
    ],
    ids=str,
)
def test_the_longest_game_fits_the_stream_and_the_window(parameters: dict[str, Any], family: str):
    spec, states = peaceful_game(tuple(parameters.items()))
    tokenizer, lexicon = host.tokenizer_of(family), lexicon_of(spec, family)
    rows, audience = states[-1].log.rows.tolist(), states[-1].log.audience.tolist()
    record = {
        "actor": np.array([state.actor for state in states]),
        "log_size": np.array([state.log.size for state in states]),
    }
    said = {step: [1] * spec.speech_tokens for step in range(spec.max_decisions)}
    label = max(len(tokenizer.encode(text)) for text in spec.action_labels)
    pick = max(len(tokenizer.encode(text)) for text in spec.action_labels[: spec.num_seats])
    lengths: dict[int, int] = defaultdict(int)
    for time, seat, start in turns_of(record):
        size, phase = int(states[time].log.size), int(states[time].phase)
        shown = [rows[place] for place in range(start, size) if audience[place] >> seat & 1]
        turn = len(host.delta(spec, tokenizer, shown, phase, said))
        assert turn <= lexicon.max_delta
        longest_label = label if spec.phases[phase].name == "speak" else pick
        lengths[seat] += turn + reply_length(spec, tokenizer, phase, longest_label)
    assert max(lengths.values()) <= lexicon.max_stream
    assert max(lengths.values()) > 0.4 * lexicon.max_stream  # the bound is no mere guess


def reply_length(spec: GameSpec, tokenizer: Any, phase: int, label: int) -> int:
    """Most tokens of a reply once its first section is open."""
    budget = {"thought": spec.phases[phase].thought_tokens, "speech": spec.phases[phase].speech_tokens, "action": label}
    used = host.sections(spec, phase)
    return sum(budget[name] + 1 for name in used) + sum(len(host.between(tokenizer, name)) for name in used[1:])


@functools.cache
def peaceful_game(parameters: tuple[tuple[str, Any], ...]) -> tuple[GameSpec, list[Any]]:
    game = make("werewolf-v0", **dict(parameters))
    return game.spec, jax.device_get(list(Peaceful(game).states(seed=0)))


@pytest.mark.parametrize("family", host.FAMILIES)
def test_transcripts_read_as_the_stream(family: str):
    spec, tokenizer = NINE, host.tokenizer_of(family)
    for row in host.possible_rows(spec):
        text = "".join(host.event_pieces(spec, row)).replace("{utterance}", " Good morning")
        assert event_text(spec, row, " Good morning") == text[1:]
        assert to_text(tokenizer, tokenizer.encode(text)) == text[1:]
    ids = host.delta(spec, tokenizer, [(2, -1, -1, 1)], 0, {})
    assert "Night 1\nChoose a player to kill" in to_text(tokenizer, np.array(ids))
    assert "<|" not in to_text(tokenizer, ids)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("\n{seat:who} waits", "event kind 'seat': slot {seat:who} names a field other than actor, target, value"),
        ("\n{chair:actor} waits", "event kind 'seat' uses the word table 'chair'; there are: seat, line"),
    ],
)
def test_a_malformed_template_is_refused(template: str, message: str):
    spec = dataclasses.replace(NINE, event_kinds=(EventKind("seat", template), *NINE.event_kinds[1:]))
    with pytest.raises(GameError) as refusal:
        lexicon_of(spec, "tiny")
    assert str(refusal.value).startswith(message)
