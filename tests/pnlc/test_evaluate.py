"""`python -m maro_jax.pnlc evaluate`, as a person calls it."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from games.core import view_of_actor
from games.text.grammar import THOUGHT_TOKEN
from maro_jax.data.check import check_dataset
from maro_jax.data.reader import EpisodeSource, find_dataset
from maro_jax.data.retell import text_table
from maro_jax.pnlc.__main__ import main_cli
from maro_jax.pnlc.actors import NO_THOUGHT, ScriptedActor
from maro_jax.pnlc.contest import contest_plan
from maro_jax.pnlc.storage import load, save
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import parse
from maro_jax.run.pnlc_config import CollectConfig
from maro_jax.run.pnlc_evaluate_config import PnlcEvaluateConfig
from maro_jax.selfplay.episodes import HEURISTIC
from tests.api.server import chat_server

pytestmark = pytest.mark.usefixtures("kept_programs")
GAME = "persuasion-v0:thought_tokens=12,max_exchanges=3"


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main_cli(arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def critic(tmp_path_factory: pytest.TempPathFactory, program_folder: Path) -> Path:
    """A critic of a few games, which hardly knows anything."""
    folder = tmp_path_factory.mktemp("critics")
    assert call("collect", f"--game={GAME}", "--player=random", "--episodes=48", f"--out={folder / 'data'}") == 0
    assert call("train", str(folder / "data"), "--steps=60", f"--out={folder / 'critic'}") == 0
    return folder / "critic"


def test_agents_are_compared_printed_and_written(critic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    written = tmp_path / "agents.json"
    code = call(
        "evaluate", "--actor=random", f"--critic={critic}", "--num_games=24", "--lanes=4", "--timed_decisions=4",
        "--ignore_calibration", f"--json={written}",
    )  # fmt: skip
    printed, result = capfd.readouterr().out, json.loads(written.read_text())
    assert code == 0 and "random in persuasion-v0, 24 games each" in printed
    by_name = {each["agent"]: each for each in result["agents"]}
    assert list(by_name) == ["plain", "random", "shuffled", "rerank"] and result["measure"] == "donation, $"
    for name, each in by_name.items():
        assert each["measure"]["deals"] == 24 and 0 <= each["measure"]["mean"] <= 2
        assert each["seconds_per_decision"] > 0 and f"\n{name} " in printed
        assert (each["difference"] is None) == (name == "plain")
    gap = by_name["rerank"]["measure"]["mean"] - by_name["plain"]["measure"]["mean"]
    assert by_name["rerank"]["difference"]["mean"] == pytest.approx(gap, abs=1e-9)


@pytest.mark.slow
def test_a_policy_plays_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    written = tmp_path / "agents.json"
    code = call(
        "evaluate", "--actor=tiny", "--agents=plain,react", "--game=kuhn-v0:thought_tokens=3", "--num_games=8",
        "--lanes=4", "--timed_decisions=0", "--opponent=actor", f"--json={written}",
    )  # fmt: skip
    plain, react = json.loads(written.read_text())["agents"]
    assert code == 0 and plain["measure"] == react["measure"] and react["difference"]["mean"] == 0
    assert set(plain["sides"]) == {"first", "second"} and "as second" in capfd.readouterr().out


def test_a_critic_that_does_not_fit_is_refused(critic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    saved = load(critic)
    ignorant = dataclasses.replace(saved, calibration=dataclasses.replace(saved.calibration, gain_low=-0.1))
    save(tmp_path / "ignorant", ignorant)
    assert call("evaluate", "--actor=random", f"--critic={tmp_path / 'ignorant'}") == 2
    assert "this critic may not guide: on 10 held-out episodes" in capfd.readouterr().err
    given = ("evaluate", "--actor=random", f"--critic={critic}", "--ignore_calibration")
    assert call(*given, "--game=shopping-v0:thought_tokens=12") == 2
    assert "judges thoughts of persuasion-v0" in capfd.readouterr().err
    assert call(*given, "--game=persuasion-v0") == 2
    assert "is played without thoughts" in capfd.readouterr().err
    assert call(*given, "--opponent=heuristic") == 2
    printed = capfd.readouterr()
    assert "--opponent=heuristic: persuasion-v0 has one side only; leave it out" in printed.err
    assert "the critic learnt from other games" not in printed.out + printed.err
    assert call(*given, f"--game={GAME.replace('=3', '=5')}", "--sides=persuadee") == 2
    printed = capfd.readouterr()
    assert "--sides=persuadee is not one of persuader" in printed.err
    assert "the critic learnt from other games: max_exchanges was 3 and is 5\n" in printed.out + printed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--agents=plain,rerank"], "the agent rerank needs --critic"),
        (["--agents=plain,best"], "'best', which is not one of plain"),
        (["--agents=plain,plain"], "plain twice"),
        (["--agents=plain"], "name the game"),
        (["--agents=plain,self_rated", f"--game={GAME}"], "neither rates nor rewrites"),
        (["--agents=plain", f"--game={GAME}", "--critic=."], "are guided by no critic"),
        (["--agents=plain", f"--game={GAME}", "--embeddings=kept"], "are guided by no critic"),
        (["--agents=plain", f"--game={GAME}", "--temperature=0.5"], "samples no tokens"),
        (["--agents=plain", f"--game={GAME}", "--prompts=."], "are for models behind an API"),
        (["--agents=plain", f"--game={GAME}", "--opponent=actor"], "has none here"),
        (["--agents=refine", "--actor=tiny", "--critic=."], "only models behind an API rewrite"),
        (["--agents=plain", f"--game={GAME}", "--actor=nowhere"], "--actor=nowhere is neither"),
        (["--agents=plain", f"--game={GAME}", "--actor=api:m"], "--num_games=512 is the default"),
        (["--agents=plain", f"--game={GAME}", "--actor=api:m", "--num_games=8"], "timed_decisions=100 is"),
        (["--agents=plain", "--game=kuhn-v0,avalon-v0"], "are several games"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(arguments, said):
    with pytest.raises(ConfigError) as refused:
        parse(PnlcEvaluateConfig, arguments).validate()
    assert said in str(refused.value)


def test_flags_of_an_embedders_server_are_known_from_the_critic(tmp_path: Path):
    (tmp_path / "critic.json").write_text(json.dumps({"critic": {"embedder": "api:small"}}))
    given = [f"--critic={tmp_path}", "--actor=random", "--api_base=http://localhost:8000/v1", "--api_timeout=5"]
    parse(PnlcEvaluateConfig, [*given, "--api_price_in=1", "--api_attempts=2", "--api_concurrency=3"]).validate()
    for name in ("api_max_tokens=5", "api_asks=2", "api_price_out=1", "api_prompts=.", "api_transcript=t", "record=d"):
        flag = f"--{name}"
        with pytest.raises(ConfigError, match=f"{flag.partition('=')[0]}=.* means nothing to embeddings"):
            parse(PnlcEvaluateConfig, [*given, flag]).validate()
    collected = [f"--out={tmp_path / 'data'}", "--player=random", f"--critic={tmp_path}"]
    parse(CollectConfig, [*collected, "--api_base=http://localhost:8000/v1"]).validate()
    with pytest.raises(ConfigError, match="--api_base=nowhere is no address"):
        parse(CollectConfig, [*collected, "--api_base=nowhere"]).validate()
    (tmp_path / "critic.json").write_text(json.dumps({"critic": {"embedder": "words:16"}}))
    with pytest.raises(ConfigError, match="is of models behind an API"):
        parse(PnlcEvaluateConfig, given).validate()
    with pytest.raises(ConfigError, match="--embedder=words:16 is none"):
        parse(CollectConfig, [*collected, "--api_base=http://localhost:8000/v1"]).validate()


def test_an_embedder_is_asked_as_the_flags_say_and_counted(critic: Path, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "")
    with chat_server() as server:
        folder = tmp_path / "critic"
        assert call("train", str(critic.parent / "data"), "--steps=5", "--embedder=api:small",
                    f"--api_base={server.address}", f"--out={folder}") == 0  # fmt: skip
        assert load(folder).embedder_address == server.address
        before = len(server.bodies)
        assert call("evaluate", "--actor=random", f"--critic={folder}", "--agents=rerank", "--num_games=2", "--lanes=2",
                    "--timed_decisions=0", "--ignore_calibration", "--api_price_in=1000000",
                    f"--json={tmp_path / 'found.json'}") == 0  # fmt: skip
        found = json.loads((tmp_path / "found.json").read_text())["embedder_calls"]
        assert found["answered"] == len(server.bodies) - before > 0 and found["dollars"] == found["tokens_in"] > 0
        assert call("collect", f"--game={GAME}", "--player=random", f"--critic={folder}", "--ignore_calibration",
                    "--episodes=2", f"--out={tmp_path / 'guided'}") == 0  # fmt: skip


def test_games_of_a_model_behind_an_api_are_recorded(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folder = tmp_path / "data"
    # The first game, a plain one, begins with a move that the model does not make.
    with chat_server(lambda number: "says fold" if number < 3 else "") as server:
        assert call("evaluate", "--actor=api:m", "--agents=plain,react", "--game=kuhn-v0:thought_tokens=20",
                    "--num_games=4", "--lanes=1", "--timed_decisions=0", f"--api_base={server.address}",
                    "--opponent=random", f"--record={folder}") == 0  # fmt: skip
    printed = capfd.readouterr().out
    assert "plain: 3 of 4 games recorded" in printed and f"react: 4 of 4 games recorded: {folder}" in printed
    [checked] = check_dataset(find_dataset(folder))
    records = list(EpisodeSource(folder, "hosted"))
    assert checked.episodes == 7 and [record.fields["episode"] for record in records] == list(range(7))
    for record, number in zip(records, [1, 2, 3, 0, 1, 2, 3], strict=True):  # of the plan, the same for both agents
        agent = "plain" if record.fields["episode"] < 3 else "react"
        own, other = record.seats[number % 2], record.seats[1 - number % 2]
        assert (own.holder, own.player, other.holder) == ("api", f"api:m, {agent}", "random")
        assert {made.holder for made in record.decisions if made.seat == number % 2} == {"api"}
        assert record.fields["deal"] == number // 2
    assert {made.thought for record in records[:3] for made in record.decisions if made.holder == "api"} == {
        "anything will do"
    }


def test_no_command_pays_twice_for_the_embeddings_of_a_folder(critic: Path, tmp_path: Path, monkeypatch):
    """The second of each command asks the server for nothing, and finds the same."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "")
    kept, asked, found = f"--embeddings={tmp_path / 'kept'}", [], []
    with chat_server() as server:
        for time in "ab":
            folder = tmp_path / time
            made = f"--critic={folder / 'critic'}"
            trained = ["train", str(critic.parent / "data"), "--steps=5", "--embedder=api:small",
                       f"--api_base={server.address}", f"--out={folder / 'critic'}"]  # fmt: skip
            played = ["evaluate", "--actor=random", made, "--agents=rerank", "--num_games=2", "--lanes=2",
                      "--timed_decisions=0", "--ignore_calibration", f"--json={folder / 'found'}"]  # fmt: skip
            collected = ["collect", f"--game={GAME}", "--player=random", made, "--episodes=2",
                         "--ignore_calibration", "--seed=7", f"--out={folder / 'data'}"]  # fmt: skip
            for command in (trained, played, collected):
                assert call(*command, kept) == 0
                asked.append(len(server.bodies))
            found.append(json.loads((folder / "found").read_text()))
    assert 0 < asked[0] < asked[1] < asked[2] and asked[3:] == [asked[2]] * 3
    assert found[0]["agents"][0]["measure"] == found[1]["agents"][0]["measure"]
    assert found[1]["embedder_calls"]["answered"] == 0


def test_refine_is_refused_where_words_tell_nothing_and_says_how_little_it_knows(critic: Path, tmp_path: Path, capfd):
    saved = load(critic)
    proven = dataclasses.replace(saved.calibration, gain_low=0.1, rates_log_loss=None)
    save(tmp_path / "words", dataclasses.replace(saved, calibration=proven))
    with chat_server() as server:
        given = ["evaluate", "--actor=api:m", "--agents=refine", "--num_games=2", "--timed_decisions=0",
                 f"--critic={tmp_path / 'words'}", f"--api_base={server.address}"]  # fmt: skip
        assert call(*given) == 2 and not server.bodies
        told = capfd.readouterr().err
        assert "this critic may not refine" in told and len(told.splitlines()) == 1
        assert call(*given, "--ignore_calibration", f"--json={tmp_path / 'found.json'}") == 0
    assert saved.recognition and f"refine: {saved.recognition.in_words}" in capfd.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["recognition"] == dataclasses.asdict(saved.recognition)


def test_a_scripted_actor_proposes_plans_of_legal_actions_and_follows_them():
    name, _, parameters = GAME.partition(":")
    table = text_table(name, dict(pair.split("=") for pair in parameters.split(",")), "tiny")
    actor, key = ScriptedActor(table, "random"), jax.random.key(1)
    assert table.plans
    texts = [text.strip() for text in table.plans.texts]
    games = actor.open(contest_plan(table.spec, [0], 8, HEURISTIC), 8, key)
    turns = games.run()
    proposed = actor.propose(games, turns, 5)
    state = games.look(lambda plan, key, lanes: lanes.game)
    for turn, thoughts in zip(turns, proposed, strict=True):
        view = view_of_actor(table.game, jax.tree.map(lambda leaf, i=turn.lane: leaf[i], state))
        for thought in thoughts:
            assert thought.source in turn.legal
            assert thought.text == texts[int(table.plans.of(view, np.int32(thought.source)))]
    assert len({thought.text for thoughts in proposed for thought in thoughts}) > 3
    actor.act(games, turns, [None, NO_THOUGHT, *(thoughts[-1] for thoughts in proposed[2:])])
    while turns := games.run():
        actor.act(games, turns, [None] * len(turns))
    episodes = games.episodes()
    first = episodes.behaviours.action[:, 0].tolist()
    assert first[:2] == [thoughts[0].source for thoughts in proposed[:2]]
    assert first[2:] == [thoughts[-1].source for thoughts in proposed[2:]]
    thoughts = (episodes.node[:, 0] == THOUGHT_TOKEN) & (episodes.decision[:, 0] == 0)
    written = [table.tokenizer.decode(episodes.tokens[i, 0][thoughts[i]].tolist()) for i in range(8)]
    assert [texts.index(text.split("<")[0].strip()) for text in [written[0], *written[2:]]] == [
        texts.index(chosen.text) for chosen in [proposed[0][0], *(each[-1] for each in proposed[2:])]
    ]
