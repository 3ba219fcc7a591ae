"""`python -m games.show`: a transcript to read, what one seat knows of it, and refusals in one sentence."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from games import show
from games.players.scripted import heuristic_player
from games.registry import GAMES, make

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", GAMES)
def test_the_golden_transcript_is_printed(name: str, capsys: pytest.CaptureFixture[str]):
    """After a change of rules or words, write it anew, and read it:

    python -m games.show NAME --seed 3 > tests/games/golden/NAME-seed3.txt
    """
    show.main([name, "--seed", "3"])
    assert capsys.readouterr().out == (GOLDEN / f"{name}-seed3.txt").read_text()


def test_the_golden_transcript_of_a_werewolf_game_with_more_roles_is_printed(capsys: pytest.CaptureFixture[str]):
    """Written anew as above, with `--parameters num_seats=9,rules=makto,hunter=true,guard=true`."""
    show.main(["werewolf-v0", "--seed", "3", "--parameters", "num_seats=9,rules=makto,hunter=true,guard=true"])
    assert capsys.readouterr().out == (GOLDEN / "werewolf-v0-makto-seed3.txt").read_text()


def test_the_command_prints_what_the_function_does():
    command = [sys.executable, "-m", "games.show", "kuhn-v0", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (GOLDEN / "kuhn-v0-seed3.txt").read_text()


def test_a_seat_is_shown_its_part_of_the_whole_and_no_more():
    game = make("werewolf-v0", num_seats=6, max_days=1, speech_tokens=8)
    state, actions = show.play_scripted(game, heuristic_player("werewolf-v0"), seed=4)
    whole = list(show.transcript(game.spec, state, actions))
    assert len([line for line in whole if "[only" in line]) == 4  # kill, protect, check and what the check found
    assert any(re.fullmatch(r"  Player \d says: I \w.*", line) for line in whole)
    told = [line for line in whole[whole.index("Night 1") :] if line]
    told = told[: next(index for index, line in enumerate(told) if line.startswith("Result"))]
    for seat in range(1, 7):
        lines = list(show.transcript(game.spec, state, actions, seat - 1))
        role = next(line.split()[-1] for line in whole if line.startswith(f"  Player {seat}  "))
        assert lines[1] == f"Player {seat} has the role {role}. This is all that Player {seat} knows."
        mine = [line for line in told if "[only" not in line or f"Player {seat}" in line.split("[only")[1]]
        assert [line for line in lines[2:] if line] == mine


def test_random_players_play_too_and_one_of_them_is_watched(capsys: pytest.CaptureFixture[str]):
    chosen = "num_seats=5,max_days=1,night_order=seer,wolf,doctor"
    show.main(["werewolf-v0", "--players", "random", "--seat", "2", "--parameters", chosen])
    title, gap, who, *lines = capsys.readouterr().out.splitlines()
    assert title == "werewolf-v0, seed 0, random players, num_seats=5, max_days=1, night_order=seer,wolf,doctor"
    assert gap == ""
    assert who.startswith("Player 2 has the role ")
    assert {"Night 1", "Day 1"} <= set(lines)
    assert all("[only" not in line or line.endswith("[only Player 2]") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: game"),
        (["werewolf"], "There is no game 'werewolf'; there are: avalon-v0, bargaining-v0, "),
        (["werewolf-v0", "7"], "unrecognized arguments: 7"),
        (["werewolf-v0", "--sed", "7"], "unrecognized arguments: --sed 7"),
        (["werewolf-v0", "--seed", "-1"], "argument --seed: '-1' is not a whole number from 0 to 4294967295"),
        (["werewolf-v0", "--seat", "8"], "--seat is between 1 and 7 in this game, not 8"),
        (["werewolf-v0", "--players", "llm"], "argument --players: invalid choice: 'llm'"),
        (["werewolf-v0", "--parameters", "seats"], "argument --parameters: 'seats' is not of the form name=value"),
        (["werewolf-v0", "--parameters", "max_days=1,max_days=2"], "argument --parameters: 'max_days=2' sets max_days"),
        (["werewolf-v0", "--parameters", "num_seats=13"], "werewolf-v0: num_seats is between 5 and 12, not 13"),
    ],
)
def test_a_wrong_command_line_is_answered_with_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as refusal:
        show.main(arguments)
    assert refusal.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"python -m games.show: {message}")
    assert err.endswith(f"; for example: {show.EXAMPLE}\n")
    assert err.count("\n") == 1
