"""The replay page as a person asks for it, and what its records hold."""

import json
import re
import shutil

import numpy as np
import pytest

from maro_jax.replay import _main
from maro_jax.run.directory import read_games
from maro_jax.run.flags import run_cli
from maro_jax.run.replay_config import ReplayConfig
from maro_jax.selfplay.episodes import HOLDERS


def _replay(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run_cli(ReplayConfig, _main, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def _embedded(page):
    found = re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", page.read_text(), re.DOTALL)
    return json.loads(found[1])["games"]


def test_the_page_goes_where_it_is_asked_to_with_the_newest_games(finished_run, tmp_path, capsys):
    folder = finished_run.folder
    output = tmp_path / "games.html"
    code, printed, _ = _replay(capsys, folder, f"--output={output}", "--max_games=5")
    assert (code, printed) == (0, f"{output}\n")
    games = read_games(folder)
    assert len(games) > 5 and _embedded(output) == games[-5:]
    assert {game["iteration"] for game in _embedded(output)} == {4}
    code, _, _ = _replay(capsys, folder, f"--output={output}", "--max_games=0")
    assert code == 0 and _embedded(output) == games


def test_without_a_file_named_it_lies_in_the_run(finished_run, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(finished_run.folder, folder)
    (folder / "replay.html").unlink()
    assert _replay(capsys, folder)[:2] == (0, f"{folder / 'replay.html'}\n")
    assert _embedded(folder / "replay.html") == read_games(folder)


def test_a_run_without_games_is_refused(finished_run, tmp_path, capsys):
    shutil.copy(finished_run.folder / "config.json", tmp_path)
    code, printed, errors = _replay(capsys, tmp_path)
    assert (code, printed) == (2, "") and "holds no recorded games so far" in errors
    assert not (tmp_path / "replay.html").exists()
    (tmp_path / "games").mkdir()
    (tmp_path / "games" / "iteration-000001.json").write_text("{")
    code, _, errors = _replay(capsys, tmp_path)
    assert code == 2 and "iteration-000001.json is damaged" in errors and len(errors.splitlines()) == 1


# ---------------------------------------------------------------------- what a record holds


def _cases(finished_run):
    """Each recorded game with the arrays it was made from."""
    assert len(finished_run.recorded) == 4
    for (table, episodes, credit, indices, iteration, seed), records in finished_run.recorded:
        assert len(records) == len(indices) == 12
        for index, record in zip(indices, records, strict=True):
            assert (record["iteration"], record["seed"], record["episode"]) == (iteration, seed, index)
            yield table.spec, episodes, credit, index, record


def test_stored_games_are_the_records(finished_run):
    records = [record for _, records in finished_run.recorded for record in records]
    assert read_games(finished_run.folder) == json.loads(json.dumps(records))


def test_seats_and_result(finished_run):
    winners = set()
    for spec, episodes, _, index, record in _cases(finished_run):
        assert record["game"] == "werewolf-v0"
        for seat, role in enumerate(episodes.roles[index]):
            shown = record["seats"][seat]
            assert (shown["name"], shown["role"]) == (f"Player {seat + 1}", spec.roles[role].name)
            assert shown["side"] == ("wolves" if shown["role"] == "wolf" else "village")
            assert shown["outcome"] == episodes.outcome[index, seat]
        last = [item["kind"] for item in record["items"] if item["type"] == "event"][-1]
        assert record["truncated"] == (last == "truncated") != record["terminated"] == (last == "win")
        assert (record["winner"] in ("village", "wolves")) == record["terminated"]
        if record["winner"]:
            assert {seat["side"] for seat in record["seats"] if seat["outcome"] == 1} == {record["winner"]}
        winners.add(record["winner"])
    assert winners == {"village", "wolves", ""}


def test_behaviours_come_in_order_with_what_was_decided(finished_run):
    for spec, episodes, _, index, record in _cases(finished_run):
        made = episodes.behaviours
        shown = [item for item in record["items"] if item["type"] == "behaviour"]
        assert len(shown) == (made.seat[index] >= 0).sum() > 4
        for decision, item in enumerate(shown):
            seat = made.seat[index, decision]
            assert item["seat"] == seat and item["role"] == record["seats"][seat]["role"]
            assert item["phase"] == spec.phases[made.phase[index, decision]].name
            assert item["holder"] == HOLDERS[made.holder[index, decision]] == record["seats"][seat]["holder"]
            assert item["action"] == spec.action_labels[made.action[index, decision]].strip()
            legal = [spec.action_labels[action].strip() for action in np.flatnonzero(made.legal[index, decision])]
            assert item["legal"] == legal and item["action"] in legal
            reply = slice(made.start[index, decision], made.end[index, decision])
            assert np.isclose(item["log_prob"], episodes.log_probs[index, seat, reply].sum())
            assert (item["log_prob"] < 0) == (item["holder"] in ("learner", "opponent") and len(legal) > 1)
            assert item["thought"] == item["speech"] == ""


def test_events_follow_the_behaviours_that_caused_them(finished_run):
    channels = {"public": set(), "private": set()}
    for spec, episodes, _, index, record in _cases(finished_run):
        decisions, row = 0, 0
        for item in record["items"]:
            if item["type"] == "behaviour":
                decisions += 1
                continue
            kind, actor, target, _ = episodes.event_rows[index, row]
            assert item["kind"] == spec.event_kinds[kind].name
            assert decisions == episodes.event_step[index, row]
            mask = int(episodes.event_audience[index, row])
            assert item["audience"] == [seat for seat in range(spec.num_seats) if mask & (1 << seat)]
            if target >= 0:
                assert f"Player {target + 1}" in item["text"]
            if item["channel"] == "public":
                assert set(range(spec.num_seats)) - set(item["audience"]) <= {actor}
            channels[item["channel"]].add(item["kind"])
            row += 1
        assert row == episodes.event_count[index]
    assert channels["private"] == {"seat", "wolf_pick", "protect", "check", "check_result"}
    assert channels["public"] >= {"night", "day", "death", "accuse", "claim", "report", "vote", "win", "truncated"}


def test_credit_is_shown_for_what_was_learnt_from(finished_run):
    holders = set()
    for _, episodes, credit, index, record in _cases(finished_run):
        shown = [item for item in record["items"] if item["type"] == "behaviour"]
        for decision, item in enumerate(shown):
            numbers = [item[name] for name in ("return", "advantage", "weight", "sign")]
            if credit is None or not episodes.terminated[index] or item["holder"] != "learner":
                assert numbers == [None] * 4
                continue
            arrays = (credit.returns, credit.advantages, credit.weights, credit.signs)
            assert numbers == [float(array[index, decision]) for array in arrays]
            assert item["return"] == record["seats"][item["seat"]]["outcome"] and item["weight"] > 0
            holders.add(item["holder"])
        holders |= {item["holder"] for item in shown}
        assert credit is None or "random" not in {item["holder"] for item in shown}
    assert holders == {"learner", "opponent", "heuristic", "random"}
