"""Games against a real HTTP server that fails in every way are played to their ends, counted and marked."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from maro_jax.api.client import ChatClient, ClientSettings
from maro_jax.api.failures import Backoff
from maro_jax.api.games import play_games
from maro_jax.api.ledger import Prices
from maro_jax.api.player import ApiPlayer, Fault
from maro_jax.api.prompts import Prompts
from maro_jax.data.retell import text_table
from maro_jax.league.api_match import clean_deals
from maro_jax.league.plans import match_plan
from maro_jax.selfplay.episodes import API, HEURISTIC, Episodes
from maro_jax.selfplay.hosted import HostedGames, Turn
from tests.api.server import ChatServer, chat_server

pytestmark = pytest.mark.usefixtures("kept_programs")

GAMES, LANES = 8, 4
CANARY = "canary/key+with=signs-0123456789"
FAST = 1e-3  # of the seconds that would be waited
TABLE = text_table("kuhn-v0", {"speech_tokens": 4}, "tiny")


@dataclasses.dataclass
class Played:
    episodes: Episodes
    faults: list[Fault]
    player: ApiPlayer
    server: ChatServer
    waits: list[float]
    lines: list[dict[str, Any]]

    @property
    def calls(self) -> dict[str, Any]:
        return self.player.client.ledger.summary()


Play = Callable[..., Played]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Plays a match of the game's scripted player and a model behind a server that follows a plan."""
    monkeypatch.setenv("CANARY_KEY", CANARY)

    def played(plan: Callable[[int], str] = lambda number: "", **settings: Any) -> Played:
        waits: list[float] = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            await asyncio.sleep(seconds * FAST)

        games = HostedGames(
            TABLE, TABLE.stream_capacity(0, "refuse"), LANES, match_plan(0, GAMES, 2, HEURISTIC, API), jax.random.key(0)
        )
        with chat_server(plan) as server:
            chosen = {"timeout": 5.0, "prices": Prices(2.0, 10.0), "key_variable": "CANARY_KEY"} | settings
            settled = ClientSettings("m", server.address, **chosen)
            client = ChatClient(settled, str(tmp_path / "calls.jsonl"), sleep=sleep)
            player = ApiPlayer(TABLE, client, Prompts.load())
            episodes, faults = play_games(games, player)
        lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
        return Played(episodes, faults, player, server, waits, lines)

    return played


def assert_finished_as_said(played: Played) -> None:
    """All games are over by the rules, and each API move is the one in the last reply to it, or a marked one."""
    episodes, made = played.episodes, played.episodes.behaviours
    assert episodes.terminated.all() and not episodes.overflowed.any()
    replies = {(line["episode"], line["decision"]): line["reply"] for line in played.lines}
    faulty = {(fault.episode, fault.decision) for fault in played.faults}
    api_side = 1 - np.arange(GAMES) % 2
    seen = 0
    for episode, decision in np.argwhere(made.seat >= 0).tolist():
        side = TABLE.spec.side_of_role[made.role[episode, decision]]
        if side != api_side[episode] or (episode, decision) in faulty:
            assert made.holder[episode, decision] == HEURISTIC
            continue
        assert made.holder[episode, decision] == API
        label = TABLE.spec.action_labels[made.action[episode, decision]].strip()
        assert re.search(rf"^Action: {label}$", replies[episode, decision], re.MULTILINE)
        seen += 1
    assert seen + len(faulty) >= GAMES / 2


def test_every_kind_of_failure_is_tried_again_and_counted(play: Play):
    kinds = ["429", "429 0.5", "429 3", "500", "dropped", "cut", "malformed", "empty", "slow", "", "503 2"]

    def plan(number: int) -> str:
        return "deaf" if number == 4 else kinds[number % len(kinds)]

    played = play(plan, timeout=3.0, attempts=30, concurrency=2)
    assert_finished_as_said(played)
    assert not played.faults and not played.player.client.gave_up
    calls, sent = played.calls, len(played.server.bodies)
    happened = [plan(number) for number in range(sent)]
    answered = sum(what in ("", "slow") for what in happened)
    assert calls["calls"] == calls["answered"] == answered and calls["requests"] == sent
    assert calls["retries"] == sent - answered and calls["failed"] == 0
    assert calls["failures"] == {
        "connection": happened.count("dropped") + happened.count("cut"),
        "malformed": happened.count("malformed") + happened.count("empty"),
        "rate_limit": sum(what.startswith("429") for what in happened),
        "server_error": sum(what.startswith("50") for what in happened),
        "time_out": happened.count("deaf"),
    }
    assert (calls["tokens_in"], calls["tokens_out"]) == (100 * answered, 10 * answered)
    assert calls["dollars"] == pytest.approx(answered * (100 * 2.0 + 10 * 10.0) / 1e6)
    assert max(played.waits) >= 3.0 and calls["seconds_waited"] == pytest.approx(sum(played.waits))
    assert calls["most_in_flight"] <= 2 and played.server.most <= 2 + happened.count("deaf")
    assert 0 < calls["latency"]["p50"] <= calls["latency"]["p99"] < 3.0
    assert [line["call"] for line in sorted(played.lines, key=lambda line: line["call"])] == [*range(1, answered + 1)]
    outcomes = [attempt["outcome"] for line in played.lines for attempt in line["attempts"]]
    assert len(outcomes) == sent and outcomes.count("answered") == answered


def test_requests_in_flight_reach_the_limit_and_never_exceed_it(play: Play):
    played = play(lambda number: "slow", concurrency=3)
    assert_finished_as_said(played)
    assert played.server.most == played.calls["most_in_flight"] == 3 and not played.faults


def test_a_server_that_wants_another_form_gets_it_from_all_at_once(play: Play):
    played = play(lambda number: "wants max_completion_tokens", concurrency=4, attempts=1)
    assert_finished_as_said(played)
    calls, sent = played.calls, played.server.bodies
    old = sum("max_tokens" in body for body in sent)
    assert not played.faults and 1 <= old <= 4 and calls["retries"] == old
    assert calls["requests"] == len(sent) == calls["answered"] + old


def test_a_model_that_thinks_until_its_tokens_are_used_up_is_a_fault_that_says_so(play: Play):
    played = play(lambda number: "thinks <think>hm" if number % 2 else "thinks  ", concurrency=1, give_up_after=3)
    assert_finished_as_said(played)
    assert played.calls["failures"] == {"cut_off": 3} and played.calls["tokens_out"] == 30
    assert "nothing was said within 512 tokens" in played.player.client.gave_up
    assert "--api_max_tokens=2048" in played.faults[0].reason


def test_where_nothing_answers_every_move_is_marked_and_the_games_end(play: Play):
    played = play(lambda number: "500", attempts=3, give_up_after=2, concurrency=4)
    assert_finished_as_said(played)
    asked = {(fault.episode, fault.decision) for fault in played.faults}
    assert len(asked) == len(played.faults) and {fault.kind for fault in played.faults} == {"call"}
    assert {fault.episode for fault in played.faults} == {line["episode"] for line in played.lines} | {
        fault.episode for fault in played.faults if "not asked any more" in fault.reason
    }
    # Four calls, and one that may begin between the first and the second to fail.
    assert len(played.server.bodies) <= 3 * 5 and played.player.client.gave_up
    kept, faulty = clean_deals(played.episodes, played.faults, 2)
    assert len(kept.terminated) == 0 and faulty == len({fault.episode for fault in played.faults})


def test_replies_that_cannot_be_played_are_asked_for_again_and_then_marked(play: Play):
    played = play(lambda number: "says Action: raise to a million" if number < 12 else "", concurrency=1)
    assert_finished_as_said(played)
    told = [body["messages"][-1]["content"] for body in played.server.bodies]
    told = [text for text in told if "cannot be used" in text]
    assert len(told) == 8 and all("none of the choices" in text and "pass; bet" in text for text in told)
    assert played.player.unusable == 12 and [fault.kind for fault in played.faults] == ["reply"] * 4
    kept, faulty = clean_deals(played.episodes, played.faults, 2)
    deals = {fault.episode // 2 for fault in played.faults}
    assert faulty == 4 and len(kept.terminated) == GAMES - 2 * len(deals)


def test_the_key_is_sent_and_shown_nowhere(
    play: Play, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        played = play(lambda number: ("500", "401", "")[min(number, 1)], concurrency=1)
    finally:
        logging.getLogger().removeHandler(handler)
    assert set(played.server.keys) == {f"Bearer {CANARY}"}  # the server got it, and repeats it in its errors
    assert any("said to [key]" in fault.reason for fault in played.faults)
    assert "said to [key]" in played.player.client.gave_up
    printed = "".join(capfd.readouterr()) + caplog.text + stream.getvalue() + repr(played.faults) + repr(played.calls)
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "said to [key]" in written
    for part in (CANARY, json.dumps(CANARY)[1:-1], CANARY[:16]):
        assert part not in printed + written


def test_a_server_is_not_asked_before_it_wants_to_be(play: Play):
    played = play(lambda number: "429 7" if number == 0 else "", concurrency=1, backoff=Backoff(first=0.5))
    assert 7.0 <= played.waits[0] <= 7.5 and not played.faults
    too_long = play_once("429 500")
    assert too_long[1] == 1 and "asks to wait 500 s, longer than 120 s" in too_long[0]


def test_a_mistake_of_this_program_costs_a_move_and_no_game(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CANARY_KEY", CANARY)
    player = ApiPlayer(TABLE, ChatClient(ClientSettings("m", key_variable="CANARY_KEY")), Prompts.load())
    turn = Turn(lane=0, episode=3, decision=1, seat=0, role=0, phase=0, legal=(0,), exchanges=())
    monkeypatch.setattr(player, "prompts", None)
    fault = asyncio.run(player.decide(turn))
    assert isinstance(fault, Fault) and (fault.episode, fault.decision, fault.kind) == (3, 1, "engine")
    assert fault.reason.startswith("AttributeError")


def play_once(what: str) -> tuple[str, int]:
    """The reason and the number of requests of a call that fails."""
    with chat_server(lambda number: what) as server:

        async def call() -> str:
            client = ChatClient(ClientSettings("m", server.address, key_variable="NOT_SET"))
            try:
                return await client.complete([{"role": "user", "content": "Choose."}])
            except Exception as error:
                return str(error)
            finally:
                await client.close()

        return asyncio.run(call()), len(server.bodies)
