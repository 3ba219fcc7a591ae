"""`maro_jax.evaluate --opponent=api:MODEL`, as a person calls it."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from games.goals import goals_of
from maro_jax.data.__main__ import main_cli
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.retell import text_table
from maro_jax.evaluate import _main
from maro_jax.league.arena import Tally
from maro_jax.league.cloned import ClonedGames
from maro_jax.pnlc.labelling import open_sources, read_texts
from maro_jax.run.evaluate_config import EvaluateConfig
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import help_text, run_cli
from maro_jax.selfplay.episodes import HOLDERS
from tests.api.server import chat_server
from tests.entry_points import run_lightly

pytestmark = pytest.mark.usefixtures("kept_programs")

CANARY = "canary-key-0123456789"
THOUGHTFUL = "kuhn-v0:thought_tokens=20"


def evaluate(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        run_cli(EvaluateConfig, _main, list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def is_sound(folder: Path) -> bool:
    """Whether the checker finds all of a dataset right."""
    with pytest.raises(SystemExit) as stop:
        main_cli(["check", str(folder)])
    return stop.value.code == 0


def test_a_match_is_played_printed_and_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_KEY", CANARY)
    # The first move is never answered with anything that can be played: its deal is set apart.
    plan = {0: "says Action: fold", 1: "says Action: fold", 2: "says fold", 4: "500"}
    with chat_server(lambda number: plan.get(number, "")) as server:
        code = evaluate(
            "heuristic", "--opponent=api:some/model", f"--api_base={server.address}", "--api_key_variable=MY_KEY",
            "--games=kuhn-v0", "--num_games=8", "--lanes=1", "--api_concurrency=1", "--api_price_out=2",
            "--opponent_temperature=0.5", "--api_max_tokens=77",
            f"--json={tmp_path / 'match.json'}", f"--api_transcript={tmp_path / 'calls.jsonl'}",
        )  # fmt: skip
    assert code == 0 and set(server.keys) == {f"Bearer {CANARY}"}
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in server.bodies} == {
        ("some/model", 0.5, 77)
    }
    result = json.loads((tmp_path / "match.json").read_text())
    faults, calls = result["api"]["faults"], result["api"]["calls"]
    assert result["games"] == 6 and result["total"]["count"] == 3 and result["with_faulty_games"]["games"] == 8
    assert faults["moves"] == faults["games"] == 1 and faults["by_kind"] == {"reply": 1}
    assert "asked 3 times" in faults["listed"][0]["reason"] and result["api"]["engine_errors"] == 0
    assert calls["requests"] == len(server.bodies) and calls["failures"] == {"server_error": 1}
    assert calls["dollars"] == pytest.approx(10 * calls["answered"] * 2e-6)
    printed = capfd.readouterr()
    assert "heuristic against api:some/model, 6 games" in printed.out
    assert "1 of 8 games set apart with their deals: a scripted player made 1 moves" in printed.out
    assert "requests failed: server error" in printed.out and "latency p50, s" in printed.out
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert CANARY not in printed.out + printed.err + written


def test_a_model_of_ours_plays_one_behind_an_api(tmp_path: Path):
    folder = tmp_path / "data"
    with chat_server(lambda number: "") as server:
        code = evaluate(
            "tiny", "--opponent=api:m", f"--api_base={server.address}", f"--games={THOUGHTFUL}", "--num_games=8",
            "--lanes=4", f"--json={tmp_path / 'match.json'}", f"--record={folder}",
        )  # fmt: skip
    result = json.loads((tmp_path / "match.json").read_text())
    assert code == 0 and result["games"] == 8 and result["api"]["engine_errors"] == 0
    assert result["api"]["calls"]["answered"] >= 8  # each game asks the model behind the API at least once
    assert is_sound(folder)
    for number, record in enumerate(EpisodeSource(folder, "hosted")):
        own, other = record.seats[number % 2], record.seats[1 - number % 2]
        assert (own.holder, own.player, other.holder, other.player) == ("learner", "tiny", "api", "api:m")
        assert own.weights == other.weights == -1
        assert all((made.log_prob < 0) == (made.seat == number % 2) for made in record.decisions)


def test_a_server_that_refuses_the_key_is_told_in_one_sentence(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with chat_server(lambda number: "401") as server:
        code = evaluate("heuristic", "--opponent=api:m", f"--api_base={server.address}", "--games=kuhn-v0",
                        "--num_games=8", "--lanes=1", "--api_concurrency=1")  # fmt: skip
    error = capfd.readouterr().err
    assert code == 2 and len(server.bodies) == 1 and len(error.splitlines()) == 1
    assert "m never answered; no answer after 1 request: HTTP 401" in error and CANARY not in error


def test_games_are_recorded_as_they_were_played(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folder, calls = tmp_path / "data", tmp_path / "calls.jsonl"
    # The model makes no move of its own in the first game, which is therefore left out.
    with chat_server(lambda number: "says fold" if number < 3 else "") as server:
        arguments = (
            "heuristic", "--opponent=api:some/model", f"--api_base={server.address}", "--num_games=8", "--lanes=1",
            "--api_concurrency=1", f"--record={folder}",
        )  # fmt: skip
        assert evaluate(*arguments, f"--games={THOUGHTFUL}", f"--api_transcript={calls}") == 0
        asked = len(server.bodies)
        assert evaluate(*arguments, "--games=kuhn-v0") == 2 and len(server.bodies) == asked
    printed = capfd.readouterr()
    assert "holds episodes of another kind: parameters is" in printed.err
    records = list(EpisodeSource(folder, "hosted"))
    assert f"7 of 8 games recorded: {folder}" in printed.out and is_sound(folder)
    assert [(record.fields["episode"], record.fields["deal"]) for record in records] == [
        (number, (number + 1) // 2) for number in range(7)
    ]
    answers = [json.loads(line) for line in calls.read_text().splitlines()][3:]
    made = [(number, of) for number, record in enumerate(records, 1) for of in record.decisions]
    theirs = [(number, of) for number, of in made if of.holder == "api"]
    assert [(number, of.seat, f"Action: {of.action}") for number, of in theirs] == [
        (each["episode"], each["seat"], each["reply"].splitlines()[-1]) for each in answers
    ]
    for (_, of), each in zip(theirs, answers, strict=True):
        assert all(f"\n- {label}" in each["messages"][-1]["content"] for label in of.legal)
        assert of.thought == "anything will do" and of.log_prob == 0
    for number, record in enumerate(records, 1):
        own, other = record.seats[number % 2], record.seats[1 - number % 2]
        assert (own.holder, other.holder, other.player) == ("heuristic", "api", "api:some/model")
        assert own.outcome == -other.outcome != 0
        assert {made.holder for made in record.decisions if made.seat == number % 2} == {"heuristic"}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, though shells have commands in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_match_keeps_the_games_that_were_over(tmp_path: Path):
    folder = tmp_path / "data"

    def interrupts(number: int) -> str:
        if number == 6:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            return "deaf"
        return ""

    with chat_server(interrupts) as server, pytest.raises(KeyboardInterrupt):
        run_cli(EvaluateConfig, _main, [
            "heuristic", "--opponent=api:m", f"--api_base={server.address}", f"--games={THOUGHTFUL}",
            "--num_games=8", "--lanes=1", "--api_concurrency=1", f"--record={folder}",
        ])  # fmt: skip
    source = EpisodeSource(folder)
    assert 3 <= len(source) <= 6 and is_sound(folder)  # a game asks the model once or twice
    theirs = [made for record in source for made in record.decisions if made.holder == "api"]
    table = text_table("kuhn-v0", {"thought_tokens": 20}, "tiny")
    cloned = ClonedGames([str(folder)], ["api"], table, source.manifest.header.capacity, 0)
    episodes, wanted = cloned.episodes(0, len(source), Tally())
    assert wanted.sum() == len(theirs) and np.array_equal(wanted, episodes.behaviours.holder == HOLDERS.index("api"))
    texts = read_texts(*open_sources([str(folder)]), goals_of(table.spec), ["api"], lambda done: None)
    assert texts.thought == tuple(made.thought for made in theirs)


API = {"opponent": "api:m", "num_games": 32}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"api_base": "http://localhost/v1"}, "--api_base=http://localhost/v1 is of models behind"),
        ({"record": "data"}, "--record=data is of models behind an API and --opponent names none; leave it out, or"),
        (API | {"opponent": "api:"}, "--opponent=api: names no model"),
        (API | {"opponent": "api:m,heuristic"}, "name it alone"),
        (API | {"num_games": 2048}, "asked for every move; name a number"),
        (API | {"policy": "heuristic"}, "--games must name the game"),
        (API | {"policy": "heuristic", "games": "kuhn-v0", "temperature": 0.5}, "who samples no tokens"),
        (API | {"api_base": "localhost:8000"}, "is no address of a server"),
        (API | {"api_base": "http://localhost:99999/v1"}, "is no address of a server"),
        (API | {"api_concurrency": 0}, "--api_concurrency=0 is not allowed: it must be an integer of at least 1"),
        (API | {"api_prompts": "no/such/folder"}, "--api_prompts=no/such/folder is not a folder"),
        (API | {"api_transcript": "pyproject.toml"}, "exists already and is never overwritten"),
        (API | {"cpu_devices": 2}, "leave it out"),
    ],
)
def test_wrong_flags_are_answered_in_a_sentence(settings: dict, sentence: str):
    with pytest.raises(ConfigError) as refused:
        EvaluateConfig(**({"policy": "tiny"} | settings)).validate()
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key_variable": CANARY},
        {"api_base": f"http://user:{CANARY}@localhost/v1"},
        {"api_base": f"http://localhost/v1?key={CANARY}"},
    ],
)
def test_a_key_given_in_a_flag_is_refused_and_not_repeated(settings: dict):
    with pytest.raises(ConfigError, match="environment variable") as refused:
        EvaluateConfig(policy="tiny", **API, **settings).validate()
    assert CANARY not in str(refused.value)


def test_a_wrong_flag_loads_no_framework():
    done = run_lightly("maro_jax.evaluate", "tiny", "--opponent=api:m", "--num_games=8", f"--api_key={CANARY}")
    assert done.returncode == 2 and "heavy: []" in done.stdout
    assert "there is no flag --api_key" in done.stderr and CANARY not in done.stderr + done.stdout


def test_help_lists_the_flags_of_api_models_last():
    text = help_text(EvaluateConfig)
    places = [text.index(f"\n{heading}") for heading in ("Players", "In general", "API models", "  --api_base=")]
    assert places == sorted(places)
