"""Games written down come in as they were played; what the rules cannot follow is refused with its line."""

import json

import jax
import numpy as np
import pytest

from games.kuhn import CARDS, KIND
from maro_jax.data.__main__ import main_cli
from maro_jax.data.deals import Deals
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.record import to_episodes
from maro_jax.data.retell import text_table
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import HOLDERS
from maro_jax.selfplay.lanes import DEAL, purpose_key
from tests.data import material

GAME = "--game=kuhn-v0:speech_tokens=4,thought_tokens=3"


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main_cli(list(map(str, arguments)))
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def _write(path, games):
    path.write_text("".join(json.dumps(game) + "\n" for game in games))
    return path


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """A dataset of scripted games, as the command makes it."""
    out = tmp_path_factory.mktemp("scripted") / "data"
    with pytest.raises(SystemExit) as stop:
        main_cli(["scripted", GAME, "--episodes=70", "--players=either", "--seed=7", f"--out={out}"])
    assert stop.value.code == 0
    return EpisodeSource(out)


def _written_down(record):
    """A record as a person would write the game down."""
    return {
        "deal": record.fields["deal"],
        "outcome": [seat.outcome for seat in record.seats],
        "players": [f"expert {index}" for index in range(len(record.seats))],
        "moves": [
            {"seat": made.seat + 1, "action": made.action, "speech": made.speech, "thought": made.thought}
            for made in record.decisions
        ],
    }  # fmt: skip


def test_scripted_games_are_seated_in_turn_and_pass_the_check(scripted, capsys):
    assert len(scripted) == 70 and scripted.manifest.header.source == "scripted"
    holders = [tuple(seat.holder for seat in record.seats) for record in scripted]
    names = ("heuristic", "random")
    assert holders == [(names[number & 1], names[number >> 1 & 1]) for number in range(70)]
    assert [record.fields["deal"] for record in scripted] == list(range(70))
    code, printed, _ = _run(capsys, "check", scripted.folder)
    assert code == 0 and "all is as it was written" in printed


def test_games_written_down_come_in_as_they_were_played(scripted, tmp_path, capsys):
    games = [_written_down(record) for record in scripted]
    file = _write(tmp_path / "games.jsonl", games)
    file.write_text("\n" + file.read_text())  # an empty line is no game
    code, printed, errors = _run(capsys, "import", file, GAME, "--seed=7", f"--out={tmp_path / 'data'}")
    assert (code, errors) == (0, "") and printed.startswith("70 episodes")
    source = EpisodeSource(tmp_path / "data", "imported")
    one, other = (to_episodes(list(each), material.table().spec) for each in (scripted, source))
    made = other.behaviours
    assert set(made.holder[made.seat >= 0]) == {HOLDERS.index("person")}
    for name in ("tokens", "node", "lengths", "roles", "outcome", "event_rows", "event_audience", "event_step"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    np.testing.assert_array_equal(one.behaviours.legal, made.legal)
    assert [seat.player for seat in source[0].seats] == ["expert 0", "expert 1"]
    assert [record.fields["episode"] for record in source] == list(range(2, 72))  # the numbers of the lines
    assert _run(capsys, "check", tmp_path / "data")[0] == 0


def test_thoughts_come_in_too(tmp_path, capsys):
    moves = [{"seat": 1, "action": "pass", "thought": "I bet", "speech": "I pass"}, {"seat": 2, "action": "pass"}]
    file = _write(tmp_path / "games.jsonl", [{"deal": 1, "moves": moves}])
    assert _run(capsys, "import", file, GAME, f"--out={tmp_path / 'data'}")[0] == 0
    (record,) = EpisodeSource(tmp_path / "data")
    assert [(made.thought, made.speech, made.action) for made in record.decisions] == [
        ("I bet", "I pass", "pass"), ("", "", "pass")
    ]  # fmt: skip
    assert any(event.text == "Player 1 says: I pass" for event in record.events)


PASS = {"seat": 1, "action": "pass"}
FEW = ["x"]
ACE = ["Your card is the ace"]
BOTH = "legal are: pass, bet"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2 is no JSON: "),
        ("[]", "line 2 is no JSON object"),
        ({"deal": 1, "move": []}, "line 2 has an unknown entry 'move' (did you mean moves?); known are deal, roles"),
        ({"deal": 1, "moves": []}, 'line 2 has no "moves"'),
        ({"deal": -1, "moves": [PASS]}, 'line 2 "deal" must be a whole number from 0 to'),
        ({"moves": [PASS]}, 'line 2 must tell the deal: "deal", or "roles" or "given"'),
        ({"deal": 1, "given": [], "moves": [PASS]}, 'line 2 tells "deal" and '),
        ({"deal": 1, "players": FEW, "moves": [PASS]}, 'line 2 "players" must have one entry for each of the 2 seats'),
        ({"roles": ["first", "frist"], "moves": [PASS]}, "line 2: there is no role 'frist' (did you mean first?)"),
        ({"given": ACE, "moves": [PASS]}, "none of the first 32768 deals has the lines ['Your card"),
        ({"deal": 1, "moves": [{"seat": 3}]}, "line 2 move 1 needs \"seat\", from 1 to 2, not 3"),
        ({"deal": 1, "moves": [{"seat": 2, "action": "pass"}]}, "line 2, move 1: Player 2 is not to act but Player 1"),
        ({"deal": 1, "moves": [{"seat": 1, "action": "raise"}]}, f"line 2, move 1: 'raise' is not legal; {BOTH}"),
        ({"deal": 1, "moves": [PASS]}, f"not over after its 1 moves: Player 2 is to act, {BOTH}"),
        ({"deal": 1, "moves": [PASS, PASS | {"seat": 2}, PASS]}, "line 2, move 3: the game is over after 2 moves"),
        (
            {"deal": 1, "moves": [PASS | {"speech": "pass pass pass pass pass"}]},
            "line 2, move 1: phase open has room for a speech of 4 tokens",
        ),
        ({"deal": 1, "moves": [PASS | {"speech": "\u00e9"}]}, "cannot be written with this tokenizer"),
        ({"deal": 1, "moves": [PASS | {"speech": 3}]}, "line 2 move 1 has an entry that is no text"),
        (
            {"deal": 1, "moves": [PASS, PASS | {"seat": 2}], "outcome": [0.25, 0.0]},
            "line 2: the outcome is [0.25, 0.0] there and [",
        ),
    ],
)  # fmt: skip
def test_a_wrong_line_is_refused_and_nothing_is_left(tmp_path, capsys, line, sentence):
    good = {"deal": 1, "moves": [PASS, PASS | {"seat": 2}]}
    file = tmp_path / "games.jsonl"
    file.write_text(json.dumps(good) + "\n" + (line if isinstance(line, str) else json.dumps(line)) + "\n")
    code, _, errors = _run(capsys, "import", file, GAME, f"--out={tmp_path / 'data'}")
    assert code == 2 and sentence in errors and len(errors.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["games.jsonl"]


def test_what_exists_is_not_overwritten_and_an_empty_file_is_no_dataset(tmp_path, capsys):
    file = _write(tmp_path / "games.jsonl", [])
    assert "holds no game" in _run(capsys, "import", file, GAME, f"--out={tmp_path / 'data'}")[2]
    (tmp_path / "data").mkdir()
    assert "exists already and is never overwritten" in _run(capsys, "import", file, f"--out={tmp_path / 'data'}")[2]


def test_a_deal_is_found_by_what_it_deals():
    table = text_table("kuhn-v0", {}, "tiny")
    deals = Deals(table, 5)
    found = deals.find(1, ["first", "second"], ["Your card is the king"])

    def cards(deal):
        key = purpose_key(jax.random.key(5), DEAL, np.array([deal]), np.zeros(1, np.int32))[0]
        log = table.game.init(key).log
        return {CARDS[value] for kind, _, _, value in log.rows.tolist() if kind == KIND["card"]}

    assert ["king" in cards(deal) for deal in range(found + 1)] == [False] * found + [True]
    assert deals.find(2, None, ["Your card is the king", "Your card is the jack"]) == next(
        deal for deal in range(100) if cards(deal) == {"king", "jack"}
    )
    with pytest.raises(ConfigError, match="none of the first 32768 deals has these roles"):
        deals.find(3, ["second", "first"], [])
