"""The replay page as a person asks for it, and what its records hold."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from games import registry
from maro_jax.league.record import RECORDED_TIMES, _event, recorded_iterations
from maro_jax.replay import _main
from maro_jax.run.directory import read_games
from maro_jax.run.flags import run_cli
from maro_jax.run.replay_config import ReplayConfig
from maro_jax.selfplay.episodes import HOLDERS
from tests.run.replay_pages import assert_same, embedded, games_in


def _replay(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run_cli(ReplayConfig, _main, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def test_the_page_goes_where_it_is_asked_to_with_the_newest_games(finished_run, tmp_path, capsys):
    folder = finished_run.folder
    output = tmp_path / "games.html"
    code, printed, _ = _replay(capsys, folder, f"--output={output}", "--max_games=5")
    assert (code, printed) == (0, f"{output}\n")
    games = read_games(folder)
    assert len(games) > 5
    assert_same(games_in(output), games[-5:])
    assert {game["iteration"] for game in games_in(output)} == {4}
    code, _, _ = _replay(capsys, folder, f"--output={output}", "--max_games=0")
    assert code == 0
    assert_same(games_in(output), games)


def test_without_a_file_named_it_lies_in_the_run(finished_run, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(finished_run.folder, folder)
    (folder / "replay.html").unlink()
    assert _replay(capsys, folder)[:2] == (0, f"{folder / 'replay.html'}\n")
    assert_same(games_in(folder / "replay.html"), read_games(folder))


def test_the_page_holds_the_curves_and_final_matches_of_the_run(finished_run):
    curves = embedded(finished_run.folder / "replay.html")["curves"]
    charts = {chart["title"]: chart for section in curves["sections"] for chart in section["charts"]}
    rows = [json.loads(line) for line in (finished_run.folder / "metrics.jsonl").read_text().splitlines()]
    [rate, *_] = charts["Win rate against the warm start"]["lines"]
    assert (rate["x"], rate["band"]) == ([4], "95 % interval")
    for name, key in (("y", "win_rate"), ("low", "win_rate_low"), ("high", "win_rate_high")):
        assert_same(rate[name], [rows[3][key]])
    [entropy] = charts["Entropy of sampled tokens, nats"]["lines"]  # of cloning, which comes last
    assert entropy["x"] == [1, 2]
    assert_same(entropy["y"], [row["entropy"] for row in rows[:2]])
    matches = json.loads((finished_run.folder / "matches.json").read_text())["werewolf-v0"]
    assert len(curves["matches"]) == 5
    first = curves["matches"][0]
    assert (first["title"], first["games"]) == ("trained against its warm start", 16)
    assert [of["name"] for of in first["rates"]] == ["both sides", "as village", "as wolves"]
    assert_same(first["rates"][0]["mean"], matches["win_rate"])


def test_a_page_is_made_while_the_run_goes_on(finished_run, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(finished_run.folder, folder)
    for name in ("matches.json", "summary.json"):
        (folder / name).unlink()
    metrics = folder / "metrics.jsonl"
    rows = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(rows[:3]) + rows[3][:40])  # a row that is just being written
    assert _replay(capsys, folder)[0] == 0
    curves = embedded(folder / "replay.html")["curves"]
    assert curves["matches"] == [] and curves["sections"]
    assert metrics.read_text() == "".join(rows[:3]) + rows[3][:40]
    metrics.write_text(rows[0] + "{" + rows[2] + rows[3])
    code, _, errors = _replay(capsys, folder)
    assert code == 2 and "metrics.jsonl is damaged" in errors and len(errors.splitlines()) == 1
    metrics.unlink()
    assert _replay(capsys, folder)[0] == 0
    assert embedded(folder / "replay.html")["curves"]["sections"] == []


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
            # These replies are actions alone; what they chose was sampled or had no alternative.
            assert np.isclose(item["action_log_prob"], item["log_prob"])
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
            assert item["actor"] == (actor if actor >= 0 else None)
            if target >= 0:
                assert f"Player {target + 1}" in item["text"]
            unaware = set(range(spec.num_seats)) - set(item["audience"])
            assert item["channel"] == ("public" if unaware <= {actor} else "private")
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


@pytest.mark.parametrize("shown, channel", [([0], "private"), ([1], "private"), ([0, 1], "public"), ([], "private")])
def test_with_two_seats_too_what_one_of_them_sees_is_private(shown, channel):
    spec = registry.make("bargaining-v0").spec
    kind = [of.name for of in spec.event_kinds].index("worth")
    episodes = SimpleNamespace(
        event_rows=np.array([[[kind, 0 if 0 in shown else 1 if shown else 0, 0, 3]]]),
        event_audience=np.array([[sum(1 << seat for seat in shown)]]),
    )
    item = _event(SimpleNamespace(spec=spec), episodes, 0, 0, {})
    assert (item["channel"], item["audience"]) == (channel, shown)


# ---------------------------------------------------------------------- how much is kept


@settings(deadline=None)
@given(warm=st.integers(0, 300), play=st.integers(0, 3000), every=st.integers(0, 50))
def test_iterations_that_leave_games_are_few_and_spread_out(warm, play, every):
    if not warm + play:
        return
    total = warm + play
    chosen = recorded_iterations(warm, total, every)
    assert chosen == sorted(set(chosen)) and len(chosen) <= RECORDED_TIMES
    ends = {step for step in (1, warm, warm + 1, total) if 1 <= step <= total}
    matches = {step for step in range(warm + 1, total + 1) if every and (step - warm) % every == 0}
    assert ends <= set(chosen) <= ends | matches
    if len(ends | matches) <= RECORDED_TIMES:
        assert set(chosen) == ends | matches
    else:  # gaps between those kept are about equal
        kept = [step for step in chosen if step in matches - ends]
        gaps = np.diff(kept) / every
        assert gaps.max() - gaps.min() <= 1 + 1  # of matches: places are rounded, and an end may lie between
