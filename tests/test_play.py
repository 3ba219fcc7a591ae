"""A person plays in a terminal."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from maro_jax.data.__main__ import main_cli
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.writer import locked
from maro_jax.play import _matching, play
from maro_jax.run import exit_codes
from maro_jax.run.fields import ConfigError
from maro_jax.run.play_config import PlayConfig
from tests.entry_points import run_lightly

WEREWOLF = "werewolf-v0:num_seats=5,max_days=1"


def answers(*first: str) -> Iterator[str]:
    yield from first
    while True:
        yield "1"


def sit(tmp_path: Path, *first: str, **settings: object) -> tuple[dict, list[str], list[str]]:
    config = PlayConfig(**({"game": WEREWOLF, "seat": 2, "seed": 0, "output": str(tmp_path / "game.html")} | settings))
    said, told, asked = answers(*first), [], []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return next(said)

    record = play(config, ask, told.append)
    return record, told, asked


def test_a_person_sees_what_the_seat_may_see_and_the_replay_holds_the_game(tmp_path: Path):
    record, told, asked = sit(tmp_path)
    lines = [line.strip() for line in told]
    events = [item for item in record["items"] if item["type"] == "event"]
    assert [line for line in lines if line in {item["text"] for item in events}] == [
        item["text"] for item in events if 1 in item["audience"]
    ]
    hidden = [item["text"] for item in events if 1 not in item["audience"] and item["kind"] == "check_result"]
    assert hidden and not set(hidden) & set(lines)
    assert {item["holder"] for item in record["items"] if item["type"] == "behaviour"} == {"person", "heuristic"}
    mine = [item for item in record["items"] if item["type"] == "behaviour" and item["seat"] == 1]
    assert {item["holder"] for item in mine} == {"person"} and len(asked) == len(mine) > 0
    assert all(item["action"] == item["legal"][0] for item in mine)
    page = (tmp_path / "game.html").read_text()
    assert json.dumps(events[0]["text"])[1:-1] in page
    assert "You are Player 2" in told[0] and any("(you)" in line for line in told)


def test_games_are_added_to_a_dataset_that_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "mine"
    records = [sit(tmp_path, seed=seed, record=str(folder))[0] for seed in (0, 3)]
    source = EpisodeSource(folder, "hosted")
    for episode, record in zip(source, records, strict=True):
        shown = [item for item in record["items"] if item["type"] == "behaviour"]
        assert [made.action for made in episode.decisions] == [item["action"] for item in shown]
        assert [seat.holder for seat in episode.seats] == ["heuristic", "person", *["heuristic"] * 3]
        assert [seat.outcome for seat in episode.seats] == [seat["outcome"] for seat in record["seats"]]
    with pytest.raises(SystemExit) as stop:
        main_cli(["check", str(folder)])
    assert stop.value.code == 0 and "all is as it was written" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="holds episodes of another kind: parameters is"):
        sit(tmp_path, game="werewolf-v0:num_seats=5,max_days=2", record=str(folder))


def test_two_games_that_are_played_at_once_are_both_kept(tmp_path: Path):
    folder, first = tmp_path / "mine", {}

    def asks_late(prompt: str) -> str:
        """The other game begins and ends while this one waits for its first answer."""
        if not first:
            first["record"] = sit(tmp_path, seed=3, record=str(folder))[0]
        return "1"

    settings = {"game": WEREWOLF, "seat": 2, "seed": 0, "output": str(tmp_path / "late.html"), "record": str(folder)}
    second = play(PlayConfig(**settings), asks_late, lambda line: None)
    source = EpisodeSource(folder, "hosted")
    assert len(source) == 2
    for episode, record in zip(source, (first["record"], second), strict=True):
        actions = [item["action"] for item in record["items"] if item["type"] == "behaviour"]
        assert [made.action for made in episode.decisions] == actions


def test_whoever_keeps_a_game_waits_for_another_who_does(tmp_path: Path):
    entered = threading.Event()

    def keep() -> None:
        with locked(tmp_path, "werewolf-v0"):
            entered.set()

    waiting = threading.Thread(target=keep, daemon=True)
    with locked(tmp_path, "werewolf-v0"):
        waiting.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    waiting.join()


def test_a_wrong_answer_is_explained_and_asked_again(tmp_path: Path):
    record, told, _ = sit(tmp_path, "0", "nobody at all", "")
    assert sum("choose a number from 1 to" in line for line in told) == 3
    assert record["items"]


@pytest.mark.parametrize(
    ("answer", "found"),
    [("2", [1]), ("0", []), ("9", []), ("check 3", [2]), ("CHECK 3", [2]), ("ch", [1, 2]), ("", []), ("pass", [0])],
)
def test_a_choice_is_named_by_number_or_by_its_beginning(answer: str, found: list[int]):
    assert list(_matching(["pass", "check 2", "check 3", "passage"], answer)) == found


def test_labels_that_are_numbers_are_meant_when_written():
    assert list(_matching(["3", "2", "1"], "1")) == [2]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"game": "kuhn-v0", "seat": 3}, "--seat=3 is not one of the game's 2 seats"),
        ({"game": "kuhn-v0,avalon-v0"}, "are several games and one is played"),
        ({"others": "nobody"}, "--others=nobody is neither heuristic, random, tiny nor a folder"),
        ({"output": "/no/such/folder/game.html"}, "--output=/no/such/folder/game.html"),
    ],
)
def test_what_cannot_be_played_is_refused(settings: dict, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        play(PlayConfig(**settings), lambda prompt: "1", lambda line: None)


def test_a_replay_that_is_not_named_never_replaces_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("game.html", "game-2.html", "game-3.html"):
        assert PlayConfig().replay == Path(name)
        Path(name).touch()
    assert PlayConfig(output="game.html").replay == Path("game.html")


def test_a_run_is_played_against_in_its_own_game(tmp_path: Path, finished_run):
    record, told, _ = sit(tmp_path, game="", others=str(finished_run.folder), seat=1)
    assert record["game"] == "werewolf-v0"
    assert {item["holder"] for item in record["items"] if item["type"] == "behaviour"} == {"person", "learner"}


def test_a_wrong_flag_is_answered_without_loading_a_framework():
    finished = run_lightly("maro_jax.play", "--seats=2")
    assert (finished.returncode, finished.stdout) == (exit_codes.USAGE, "heavy: []\n")
    assert "there is no flag --seats (did you mean --seat?)" in finished.stderr
