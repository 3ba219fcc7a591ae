"""What a critic lets expect: its chances read one state at a time, and a ridge solution of NumPy's own."""

import dataclasses

import jax
import numpy as np
import pytest

from maro_jax.data.reader import EpisodeSource
from maro_jax.data.record import to_episodes
from maro_jax.data.retell import text_table
from maro_jax.learner.value import RIDGE
from maro_jax.pnlc import expectation
from maro_jax.pnlc.__main__ import main_cli
from maro_jax.pnlc.critic import Guide
from maro_jax.pnlc.embedders import embedder_of
from maro_jax.pnlc.expectation import CriticExpectation
from maro_jax.pnlc.labelling import open_sources
from maro_jax.pnlc.states import states_of_record
from maro_jax.pnlc.storage import load
from maro_jax.run.config import TrainConfig
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import parse
from tests.selfplay.playing import mesh_of

pytestmark = pytest.mark.usefixtures("kept_programs")
GAME = "persuasion-v0:persuadee=seat,max_exchanges=4,thought_tokens=6"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Games, and a critic of them with goals that are medoids too."""
    folder = tmp_path_factory.mktemp("critic")
    for arguments in (
        ["collect", f"--game={GAME}", "--episodes=24", "--lanes=8", f"--out={folder / 'data'}"],
        ["train", folder / "data", "--steps=30", "--batch_size=32", "--medoids=3", f"--out={folder / 'critic'}"],
    ):
        with pytest.raises(SystemExit) as stop:
            main_cli(list(map(str, arguments)))
        assert stop.value.code == 0
    return folder


@pytest.fixture(scope="module")
def given(folder):
    """The table, records, and an expectation of the critic."""
    [source], table = open_sources([str(folder / "data")])
    replicated = jax.sharding.NamedSharding(mesh_of(8), jax.sharding.PartitionSpec())
    return table, list(source), CriticExpectation(str(folder / "critic"), "", (table,), replicated)


def outcome_of(episodes):
    return np.random.default_rng(3).uniform(-1, 1, episodes.outcome.shape).astype(np.float32)


def wanted(episodes):
    made = episodes.behaviours.seat >= 0
    return made & (np.random.default_rng(4).random(made.shape) < 0.7)


def naive(folder, table, records, places):
    """float64[n, F]: the features of decisions (episode, number)."""
    saved = load(folder / "critic")
    embedder, found = embedder_of(saved.embedder), []
    for episode, number in places:
        state = embedder.embed([states_of_record(table, records[episode])[number]])[0]
        chances = np.asarray(saved.critic.before_thought(state), np.float64)
        phase = int(records[episode].fields["behaviours"]["phase"][number])
        found.append([*(2 * chances - 1), *np.eye(len(table.spec.phases))[phase]])
    return np.array(found)


def test_the_first_judgement_is_that_of_a_loop_and_numpy(folder, given):
    table, records, expectation = given
    episodes = to_episodes(records, table.spec)
    outcome, asked = outcome_of(episodes), wanted(episodes)
    got = expectation.judge(None, None, 0, episodes, outcome, asked)
    places = np.argwhere(asked).tolist()
    assert len(places) > 40 and (got.judged == asked).all() and not got.values[~asked].any()

    f = naive(folder, table, records, places)
    seat = episodes.behaviours.seat
    target = np.array([outcome[e, seat[e, b]] for e, b in places], np.float64)
    np.testing.assert_allclose(got.sums.gram, f.T @ f, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(got.sums.moment, f.T @ target, rtol=1e-4, atol=1e-3)
    weights = np.linalg.solve(f.T @ f + RIDGE * np.eye(f.shape[1]), f.T @ target)
    values = np.array([got.values[e, b] for e, b in places])
    np.testing.assert_allclose(values, f @ weights, atol=1e-4)
    assert got.explained == pytest.approx(1 - np.mean((target - f @ weights) ** 2) / target.var(), abs=1e-4)


def test_later_ones_rest_on_earlier_outcomes_alone(given):
    table, records, expectation = given
    first, second = to_episodes(records[:12], table.spec), to_episodes(records[12:], table.spec)
    known = expectation.judge(None, None, 0, first, outcome_of(first), wanted(first)).sums
    asked = wanted(second)
    told = expectation.judge(None, known, 0, second, second.outcome, asked)
    other = expectation.judge(None, known, 0, second, -second.outcome, asked)
    np.testing.assert_array_equal(told.values, other.values)
    assert told.values.any() and told.explained != other.explained
    np.testing.assert_array_equal(expectation.add(known, told.sums).moment, 0.7 * known.moment + told.sums.moment)


def test_behaviours_without_a_choice_are_not_judged(given):
    table, records, expectation = given
    episodes = to_episodes(records[:6], table.spec)
    forced = dataclasses.replace(episodes, node=np.zeros_like(episodes.node))
    nothing = expectation.judge(None, None, 0, forced, episodes.outcome, wanted(episodes))
    assert not nothing.judged.any() and np.isnan(nothing.explained)


def test_a_critic_of_another_game_is_refused(folder):
    replicated = jax.sharding.NamedSharding(mesh_of(8), jax.sharding.PartitionSpec())
    kuhn, persuasion = text_table("kuhn-v0", {}, "tiny"), text_table("persuasion-v0", {}, "tiny")
    for tables, plays in (((kuhn,), "kuhn-v0"), ((persuasion, kuhn), "persuasion-v0 and kuhn-v0")):
        with pytest.raises(ConfigError, match=f"trained on persuasion-v0, and this run plays {plays};"):
            CriticExpectation(str(folder / "critic"), "", tables, replicated)


def test_a_run_may_name_the_server_of_a_critics_embedder(folder, given, monkeypatch):
    opened = []
    monkeypatch.setattr(expectation, "embedder_for", lambda *of, **server: opened.append(server))
    replicated = jax.sharding.NamedSharding(mesh_of(8), jax.sharding.PartitionSpec())
    CriticExpectation(str(folder / "critic"), "", (given[0],), replicated, "http://localhost:8000/v1")
    assert opened == [{"base_url": "http://localhost:8000/v1"}]
    usual = [f"--games={GAME}", "--decompose=pnlc", f"--critic={folder / 'critic'}"]
    parse(TrainConfig, [*usual, "--critic_api_base=http://localhost:8000/v1"]).validate()
    with pytest.raises(ConfigError, match="--critic_api_base=nowhere is no address"):
        parse(TrainConfig, [*usual, "--critic_api_base=nowhere"]).validate()
    with pytest.raises(ConfigError, match="--critic_api_base=.* means nothing with --decompose=outcome"):
        parse(TrainConfig, ["--critic_api_base=http://localhost:8000/v1"]).validate()


def preference(folder, records, holder):
    """How much more the critic expects of the thoughts of a holder than of any plan, in standard deviations."""
    saved, table = load(folder / "critic"), text_table("persuasion-v0", dict(records[0].header.parameters), "tiny")
    guide = Guide(saved, embedder_of(saved.embedder), whatever_it_knows=True)
    plans = [table.tokenizer.decode(table.tokenizer.encode(text)[:6]).strip() for text in table.plans.texts]
    found = []
    for record in records:
        for state, made in zip(states_of_record(table, record), record.decisions, strict=True):
            if made.holder == holder and made.thought:
                scores = guide.scores(guide.chances([state], [[made.thought, *plans]]))[0]
                found.append((scores[0] - scores[1:].mean()) / scores[1:].std())
    assert len(found) > 15
    return float(np.mean(found))


def test_a_critics_choices_are_recorded_to_be_learnt_from(folder, tmp_path):
    out = tmp_path / "guided"
    with pytest.raises(SystemExit) as stop:
        main_cli(["collect", f"--game={GAME}", "--player=random", "--opponent=heuristic", "--episodes=22", "--lanes=8",
                  f"--critic={folder / 'critic'}", "--ignore_calibration", "--num_thoughts=8",
                  f"--out={out}"])  # fmt: skip
    assert stop.value.code == 0
    records = list(EpisodeSource(out))
    assert [record.fields["episode"] for record in records] == list(range(22))
    for record in records:
        players = {seat.holder: seat.player for seat in record.seats}
        assert players == {"api": f"random, guided by {folder / 'critic'}", "heuristic": "heuristic"}
    assert {record.seats[0].holder for record in records} == {"api", "heuristic"}  # every side by turns
    unguided = preference(folder, list(EpisodeSource(folder / "data")), "random")
    assert preference(folder, records, "api") > unguided + 0.5


def test_an_opponent_of_the_players_kind_is_not_guided(folder, tmp_path):
    out = tmp_path / "guided"
    with pytest.raises(SystemExit) as stop:
        main_cli(["collect", f"--game={GAME}", "--player=random", "--opponent=random", "--episodes=8", "--lanes=8",
                  f"--critic={folder / 'critic'}", "--ignore_calibration", f"--out={out}"])  # fmt: skip
    assert stop.value.code == 0
    held = [tuple(seat.holder for seat in record.seats) for record in EpisodeSource(out)]
    assert held == [("api", "random"), ("random", "api")] * 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--num_thoughts=8"], "--num_thoughts=8 means nothing without --critic"),
        (["--critic=nowhere", "--player=random"], "--critic=nowhere is no folder"),
        (["--critic=.", "--player=either"], "chooses for one player"),
        (["--critic=.", "--player=random"], "is no critic"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, said, tmp_path, capfd):
    with pytest.raises(SystemExit) as stop:
        main_cli(["collect", f"--game={GAME}", f"--out={tmp_path / 'out'}", *arguments])
    assert stop.value.code == 2 and said in capfd.readouterr().err and not (tmp_path / "out").exists()
