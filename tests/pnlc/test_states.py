"""A state is all that an actor saw, in the same words from a record and from a reply that is due."""

import jax
import numpy as np
import pytest

from maro_jax.data.encode import Encoder, Origin
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.retell import text_table
from maro_jax.data.schema import Header
from maro_jax.data.scripted import scripted_examples
from maro_jax.data.writer import write_dataset
from maro_jax.pnlc import states
from maro_jax.pnlc.states import state_of_record, state_of_turn, states_of_record
from maro_jax.selfplay.episodes import API, RolloutPlan
from maro_jax.selfplay.hosted import HostedGames, Reply, told_in_secret
from tests.data import material

pytestmark = pytest.mark.usefixtures("kept_programs")


def _records(folder, table, examples):
    header = Header.of(table, capacity=table.lexicon.max_stream, model="tiny", source="test")
    return list(EpisodeSource(write_dataset(folder / "data", table.spec, header, "test", examples)[0]))


def _answered_alike(table, records, plan, seed):
    """Plays the records' games again by replies from outside; counts the turns, whose states must be the records'."""
    games = HostedGames(table, table.lexicon.max_stream, len(records), plan, jax.random.key(seed))
    asked = 0
    while turns := games.run():
        replies = {}
        for turn in turns:
            record = records[turn.episode]
            assert state_of_turn(table, turn) == state_of_record(table, record, turn.decision)
            made = record.fields["behaviours"]
            stream = record.seats[turn.seat].tokens
            speech, thought = (
                stream[made[f"{part}_start"][turn.decision] : made[f"{part}_end"][turn.decision]].tolist()
                for part in ("speech", "thought")
            )
            replies[turn.lane] = Reply(int(made["action"][turn.decision]), speech, thought)
            asked += 1
        games.reply(replies)
    return asked


def test_states_of_replies_that_are_due_are_those_of_the_record(tmp_path):
    table, plan = material.table(), material.plan_of()
    records = _records(tmp_path, table, Encoder(table).examples(material.told(), plan, Origin(material.SEED)))
    assert _answered_alike(table, records, plan, material.SEED) == sum(len(record.decisions) for record in records)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("game", "parameters"),
    [
        ("werewolf-v0", {"num_seats": 6, "speech_tokens": 4}),
        ("avalon-v0", {"num_seats": 5, "speech_tokens": 4, "discussion_rounds": 1}),
        ("mystery-v0", {"speech_tokens": 4}),
        ("shopping-v0", {}),
    ],
)
def test_the_same_of_larger_games(tmp_path, game, parameters):
    table = text_table(game, parameters | {"thought_tokens": 8}, "tiny")
    number = np.arange(6, dtype=np.int32)
    records = _records(tmp_path, table, scripted_examples(table, table.lexicon.max_stream, "heuristic", 6, 3))
    plan = RolloutPlan(number, number, np.full((6, len(table.spec.sides)), API, np.int8))
    assert _answered_alike(table, records, plan, 3) == sum(len(record.decisions) for record in records)


@pytest.fixture(scope="module")
def werewolf(tmp_path_factory):
    """Games in which a seer is told in secret what its checks show."""
    table = text_table("werewolf-v0", {"num_seats": 6, "max_days": 3, "speech_tokens": 3}, "tiny")
    examples = scripted_examples(table, table.lexicon.max_stream, "heuristic", 12, 0)
    return table, _records(tmp_path_factory.mktemp("werewolf"), table, examples)


def test_a_state_holds_what_the_seat_read_and_said(werewolf):
    """Against the lines of the record's events, which are rendered from the log and not from tokens."""
    table, records = werewolf
    for record in records:
        for number, (text, made) in enumerate(zip(states_of_record(table, record), record.decisions, strict=True)):
            lines = text.split("\n")
            assert lines[0] == record.header.role_texts[made.role]
            assert lines[-1] == record.header.prompts[made.phase].strip()
            read = [
                event.text.strip() for event in record.events if made.seat in event.visible_to and event.step <= number
            ]
            own = [
                part for earlier in record.decisions[:number] if earlier.seat == made.seat
                for part in (earlier.speech, earlier.action) if part
            ]  # fmt: skip
            told, said = lines[1:-1], [line.removeprefix("You: ") for line in lines if line.startswith("You: ")]
            surplus = len(read) + len(own) - len(told)
            assert surplus >= 0 and said == own[len(own) - len(said) :]
            others = [line for line in told if not line.startswith("You: ")]
            assert others == read if surplus == 0 else set(others) <= set(read)
            words = sum(len(line.split()) for line in lines)
            assert surplus == 0 or words <= states.MOST_WORDS


def test_the_role_what_was_told_and_secrets_are_never_cut(werewolf, monkeypatch):
    table, records = werewolf
    monkeypatch.setattr(states, "MOST_WORDS", 30)
    checked = cut = 0
    for record in records:
        for number, (text, made) in enumerate(zip(states_of_record(table, record), record.decisions, strict=True)):
            if made.role != "seer":
                continue
            lines = text.split("\n")
            known = [event for event in record.events if event.visible_to == (made.seat,) and event.step <= number]
            results = [event.text.strip() for event in known if event.kind == "check_result"]
            assert all(line in lines for line in results)
            assert lines[0] == record.header.role_texts["seer"] and lines[1] == f"You are Player {made.seat + 1}"
            checked += bool(results)
            public = [event for event in record.events if len(event.visible_to) > 1 and event.step <= number]
            cut += len(lines) < len(public)
    assert checked > 5 and cut > 5


def test_secrets_are_rows_that_others_than_the_actor_may_not_read():
    rng = np.random.default_rng(0)
    rows, audience, seats = rng.integers(-1, 4, size=(200, 4)), rng.integers(0, 16, size=200), 4
    for seat in range(seats):
        wanted = []
        for row, readers in zip(rows.tolist(), audience.tolist(), strict=True):
            able = {other for other in range(seats) if readers >> other & 1}
            wanted.append(seat in able and able | {row[1]} - {-1} != set(range(seats)))
        assert told_in_secret(rows, audience.astype(np.uint16), seat, seats).tolist() == wanted
