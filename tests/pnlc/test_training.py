"""From games on disk to a critic's folder: rows against plain loops, and the commands end to end."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from games.goals import goals_of
from games.registry import GAMES
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.retell import text_table
from maro_jax.data.schema import Header
from maro_jax.data.scripted import scripted_examples
from maro_jax.data.writer import write_dataset
from maro_jax.pnlc import labelling
from maro_jax.pnlc.__main__ import main_cli
from maro_jax.pnlc.embedders import embedder_of
from maro_jax.pnlc.labelling import chosen_goals, open_sources, read_texts
from maro_jax.pnlc.states import states_of_record
from maro_jax.pnlc.storage import load
from maro_jax.pnlc.transitions import check
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import HOLDERS

pytestmark = pytest.mark.usefixtures("kept_programs")

GAME = "persuasion-v0:persuadee=seat,max_exchanges=4,thought_tokens=12"
FEW = ["--steps=30", "--batch_size=32", "--held_out=0.25"]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main_cli(list(map(str, arguments)))
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Games of a persuader and a persuadee with thoughts, as the command makes them."""
    out = tmp_path_factory.mktemp("collected") / "data"
    with pytest.raises(SystemExit) as stop:
        main_cli(["collect", f"--game={GAME}", "--episodes=40", "--lanes=16", "--seed=5", f"--out={out}"])
    assert stop.value.code == 0
    return out


@pytest.fixture(scope="module")
def opened(data):
    return open_sources([str(data)])


def test_collected_games_have_the_plans_of_scripted_players_as_thoughts(data, opened):
    records = list(EpisodeSource(data, "collected"))
    held = {tuple(seat.holder for seat in record.seats) for record in records}
    assert len(records) == 40 and held == {(a, b) for a in ("heuristic", "random") for b in ("heuristic", "random")}
    thoughts = {made.thought for record in records for made in record.decisions}
    assert len(thoughts - {""}) > 4 and records[0].header.source == "collect"


def naive_rows(records, came, wanted):
    """(state, thought, following, done, reached, episode), a list each, by loops over seats."""
    rows, place = [], {}
    for episode, record in enumerate(records):
        for number, made in enumerate(record.decisions):
            if wanted(episode, number, made):
                place[episode, number] = len(rows)
                rows.append((episode, number))
    found = []
    for episode, number in rows:
        decisions = records[episode].decisions
        own = [n for n in range(number + 1, len(decisions)) if decisions[n].seat == decisions[number].seat]
        after = [n for n in own if (episode, n) in place]
        until = after[0] if after else len(decisions)
        reached = came[episode][number].copy()
        for skipped in [n for n in own if n < until]:
            reached |= came[episode][skipped]
        following = place[episode, after[0]] if after else place[episode, number]
        found.append((decisions[number].thought, following, not after, reached.tolist(), episode))
    return rows, found


@pytest.mark.parametrize("holders", [HOLDERS, ("random",)])
def test_rows_are_those_of_plain_loops(opened, monkeypatch, holders):
    """With every third thought taken away, so that there are decisions to skip."""
    sources, table = opened
    records = [thinned(record) for record in sources[0]]
    goals, kept = goals_of(table.spec), labelling._Rows._came
    came = []
    monkeypatch.setattr(labelling._Rows, "_came", lambda self, some: came.append(kept(self, some)) or came[-1])
    texts = read_texts([records], table, goals, holders, lambda done: None)
    came = np.concatenate(came)

    rows, wanted = naive_rows(records, came, lambda _, __, made: made.thought and made.holder in holders)
    found = zip(texts.thought, texts.following, texts.done, texts.reached.tolist(), texts.episode, strict=True)
    assert [tuple(row) for row in found] == wanted
    assert list(texts.state) == [states_of_record(table, records[episode])[number] for episode, number in rows]
    assert texts.reached.any() and any(not done for done in texts.done) and texts.left_out == 0


def thinned(record):
    made = record.fields["behaviours"]
    thoughts = ["" if number % 3 == 1 else thought for number, thought in enumerate(made["thought"])]
    return dataclasses.replace(record, fields=record.fields | {"behaviours": made | {"thought": thoughts}})


def test_games_that_were_cut_off_are_left_out(opened):
    sources, table = opened
    records = [dataclasses.replace(each, fields=each.fields | {"terminated": n % 4 > 0})
               for n, each in enumerate(sources[0][:16])]  # fmt: skip
    texts = read_texts([records], table, chosen_goals(table, "outcome"), HOLDERS, lambda done: None)
    assert texts.left_out == 4 and set(texts.episode.tolist()) == {n for n in range(16) if n % 4}
    assert [(goal.name, goal.utility) for goal in texts.goals] == [("outcome", 1.0)]
    with pytest.raises(ConfigError, match="no decision of person with a thought in 16 episodes"):
        read_texts([records], table, texts.goals, ("person",), lambda done: None)


def test_a_critic_is_trained_by_the_command_and_comes_back(data, opened, tmp_path, capsys):
    out, cache = tmp_path / "critic", tmp_path / "embeddings"
    arguments = ["train", data, "--medoids=5", "--expectile=0.7", f"--embeddings={cache}", *FEW]
    code, printed, _ = run(capsys, *arguments, f"--out={out}")
    assert code == 0
    saved, goals = load(out), goals_of(opened[1].spec)
    assert saved.goals[: len(goals)] == tuple(goal.texts[0] for goal in goals)
    assert saved.utilities == tuple(goal.utility for goal in goals) + (0.0,) * 5
    assert all(text.startswith("You are a persuade") for text in saved.goals[len(goals) :])
    assert (saved.game, saved.parameters) == ("persuasion-v0", dict(opened[1].spec.parameters))
    assert (saved.options.steps, saved.options.expectile) == (30, 0.7) and set(saved.critic.networks) > {"baseline"}
    embedder = embedder_of(saved.embedder)
    wordings = embedder.embed(goals[0].texts)
    np.testing.assert_allclose(saved.critic.goal[0], wordings.mean(axis=0), rtol=1e-4, atol=1e-5)
    assert f"gain {saved.calibration.gain:.4f}" in printed and "and 5 medoids of states" in printed
    assert ("it may guide" in printed) == saved.calibration.may_guide
    assert saved.recognition and f"{saved.recognition.in_words}: it may not refine" in printed  # nor can words
    assert saved.recognition.wordings == sum(len(goal.texts) for goal in goals)
    assert len(set(saved.reach[: len(goals)])) == len(set(saved.reach[len(goals) :])) == 1
    assert all(goal.texts[0] in printed for goal in goals)
    code, again, _ = run(capsys, *arguments, f"--out={tmp_path / 'again'}")
    assert code == 0 and load(tmp_path / "again").calibration == saved.calibration
    code, _, error = run(capsys, *arguments, f"--out={out}")
    assert code == 2 and "exists already and is never overwritten" in error


def test_transitions_fit_together(opened):
    sources, table = opened

    class Lengths:
        name, size = "lengths", 2

        def embed(self, texts):
            return np.array([[len(text), text.count("\n")] for text in texts], np.float32)

    texts = read_texts(sources, table, goals_of(table.spec), HOLDERS, lambda done: None)
    told = []
    data, wordings = labelling.transitions(texts, Lengths(), told.append)
    check(data)
    np.testing.assert_array_equal(data.state, Lengths().embed(texts.state))
    np.testing.assert_array_equal(data.thought, Lengths().embed(texts.thought))
    wanted = np.stack([Lengths().embed(goal.texts).mean(axis=0) for goal in texts.goals])
    np.testing.assert_allclose(data.goal, wanted)
    assert all((Lengths().embed(goal.texts) == each).all() for goal, each in zip(texts.goals, wordings, strict=True))
    assert told[-1] == len(set(labelling.different(texts))) == len(labelling.different(texts))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GAMES))
def test_games_of_every_kind_are_read(tmp_path, name):
    table = text_table(name, {"thought_tokens": 12}, "tiny")
    header = Header.of(table, capacity=table.lexicon.max_stream, model="tiny", source="test")
    examples = scripted_examples(table, table.lexicon.max_stream, "either", 16, 0)
    folder, _ = write_dataset(tmp_path / "data", table.spec, header, "test", examples)
    sources, table = open_sources([str(folder)])
    texts = read_texts(sources, table, goals_of(table.spec), HOLDERS, lambda done: None)
    data, _ = labelling.transitions(texts, embedder_of("words:64"), lambda done: None)
    check(data)
    assert data.reached.any() and texts.left_out < 16 and len(set(texts.thought)) > 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["collect"], "name --out, the folder to write"),
        (["collect", "--game=persuasion-v0", "--out={new}"], "has no room for thoughts"),
        (["collect", "--player=either", "--opponent=random", "--out={new}"], "leave out --opponent=random"),
        (["collect", "--player=random", "--opponent=heuristic", "--out={new}"], "has one side only"),
        (["collect", "--temperature=2", "--out={new}"], "means nothing to --player=either"),
        (["collect", "--out={data}"], "exists already"),
        (["train", "--out={new}"], "name the dataset"),
        (["train", "{data}"], "name --out"),
        (["train", "{data}", "--out={data}"], "exists already"),
        (["train", "{data}", "--out={new}", "--holders=nobody"], "--holders=nobody is not one of"),
        (["train", "{data}", "--out={new}", "--holders=learner"], "no decision of learner with a thought"),
        (["train", "{data}", "--out={new}", "--embedder=words"], "is not of the form words:SIZE"),
        (["train", "{data}", "--out={new}", "--api_base=http://localhost:1/v1"], "is of --embedder=api:MODEL"),
        (["train", "{data}", "--out={new}", "--api_key_variable=KEY"], "is of --embedder=api:MODEL"),
        (["train", "{data},{data}/none", "--out={new}"], "is no folder"),
        (["tarin"], "did you mean train"),
    ],
)
def test_what_cannot_be_is_one_sentence(data, tmp_path, capsys, arguments, sentence):
    filled = [argument.format(new=tmp_path / "new", data=data) for argument in arguments]
    code, _, error = run(capsys, *filled)
    assert code == 2 and sentence in error and len(error.splitlines()) == 1 and "Traceback" not in error
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*"))


def test_datasets_of_two_games_are_not_one(data, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    [path] = other.rglob("episodes.json")
    contents = json.loads(path.read_text())
    contents["header"]["parameters"]["max_exchanges"] = 5
    path.write_text(json.dumps(contents))
    code, _, error = run(capsys, "train", f"{data},{other}", f"--out={tmp_path / 'new'}")
    assert code == 2 and f"{other} and {data} differ in their parameters" in error
