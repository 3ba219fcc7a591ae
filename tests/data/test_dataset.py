"""What is written is read, by TFDS alone and by us; whatever cuts a write off leaves the complete shards readable."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_datasets.core import example_serializer
from tensorflow_datasets.proto import tf_example_pb2

from games.text.transcript import to_text
from maro_jax.data.encode import Encoder, Origin, serialise
from maro_jax.data.reader import EpisodeSource, find_dataset
from maro_jax.data.record import plain, to_episodes
from maro_jax.data.recorder import Recorder
from maro_jax.data.retell import Replies, retell
from maro_jax.data.schema import Header, dataset_name, features
from maro_jax.data.writer import EpisodeWriter
from maro_jax.league.record import game_records
from maro_jax.run.fields import ConfigError
from maro_jax.run.storage import NotWrittenError
from maro_jax.selfplay.episodes import HOLDERS
from tests.data import material
from tests.entry_points import ROOT, contents
from tests.selfplay.playing import every_pairing, plan_of, played, world


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset that is not to be changed."""
    return material.dataset(tmp_path_factory.mktemp("dataset"))


# ---------------------------------------------------------------------- what is read is what was written


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(1, 2**32 - 1), shard=st.integers(1, 100))
def test_episodes_come_back_whatever_was_said_and_however_they_are_split(tmp_path_factory, seed, shard):
    writer = material.writer(tmp_path_factory.mktemp("any"), shard_episodes=shard)
    assert writer.append("train", material.examples(seed)) == 64
    assert [each.episodes for each in writer.shards] == [min(shard, 64 - start) for start in range(0, 64, shard)]
    source = EpisodeSource(writer.folder)
    material.assert_same(to_episodes(list(source), material.table().spec), material.told(seed))


def test_a_record_is_what_tfds_itself_would_write():
    spec = features(material.table().spec)
    serialiser = example_serializer.ExampleSerializer(spec.get_serialized_info())
    for example in material.examples()[:8]:
        theirs = serialiser.serialize_example(spec.encode_example(example))
        assert tf_example_pb2.Example.FromString(serialise(example)) == tf_example_pb2.Example.FromString(theirs)


def test_an_episode_that_nobody_could_reply_in_comes_back():
    """A stream may be full at the first decision: then all columns of behaviours are empty."""
    spec = features(material.table().spec)
    example = material.examples()[0]
    for group in ("sampled", "behaviours", "events"):
        example |= {group: {name: column[:0] for name, column in example[group].items()}}
    example["overflowed"] = True
    back = plain(spec.deserialize_example_np(serialise(example)))
    assert back["overflowed"] and back["behaviours"].keys() == example["behaviours"].keys()
    assert all(len(column) == 0 for group in ("sampled", "behaviours", "events") for column in back[group].values())


def test_tfds_reads_a_dataset_by_name_without_any_other_framework(folder):
    script = f"""
    import sys
    import tensorflow_datasets as tfds
    builder = tfds.builder("kuhn_v0", data_dir={str(folder.parents[1])!r})
    source = tfds.data_source("kuhn_v0", split="train", data_dir={str(folder.parents[1])!r})
    made, label = source[3]["behaviours"], builder.info.features["behaviours"]["action"].feature.int2str
    print(len(source), [label(action) for action in made["action"]], made["speech"][0].decode())
    print([name for name in ("tensorflow", "torch", "jax", "maro_jax") if name in sys.modules])
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120
    )
    first = EpisodeSource(folder)[3]
    actions = [decision.action for decision in first.decisions]
    assert result.stdout.splitlines() == [f"64 {actions} {first.decisions[0].speech}".rstrip(), "[]"], result.stderr


def test_every_game_of_a_rollout_with_models_comes_back_and_can_be_told_again(tmp_path):
    episodes, of = played("text"), world("text")
    capacity, plan = episodes.tokens.shape[2], plan_of(every_pairing())
    header = Header.of(of.table, capacity=capacity, model="tiny", source="test")
    writer = EpisodeWriter(tmp_path, of.table.spec, header)
    writer.append("train", Encoder(of.table).examples(episodes, plan, Origin(0)))
    source = EpisodeSource(tmp_path)
    back = to_episodes(list(source), of.table.spec)
    material.assert_same(back, episodes)
    again = retell(of.table, capacity, jax.random.key(0), plan, Replies.of(of.table, back))
    given = dataclasses.replace(again.behaviours, holder=episodes.behaviours.holder)
    material.assert_same(dataclasses.replace(again, log_probs=episodes.log_probs, behaviours=given), episodes)

    # The transcripts of the replay page are made from the episodes by other code.
    for record, shown in zip(source, game_records(of.table, episodes, None, np.arange(16), 1, 0), strict=True):
        behaviours = [item for item in shown["items"] if item["type"] == "behaviour"]
        for decision, item in zip(record.decisions, behaviours, strict=True):
            for name in ("seat", "role", "phase", "holder", "thought", "speech"):
                assert getattr(decision, name) == item[name]
            assert decision.action == item["action"] and list(decision.legal) == item["legal"]
            assert np.isclose(decision.log_prob, item["log_prob"])
        for event, item in zip(record.events, (i for i in shown["items"] if i["type"] == "event"), strict=True):
            assert (event.kind, list(event.visible_to)) == (item["kind"], item["audience"])
            if "says" not in event.text:  # the page strips what was said
                assert event.text == item["text"]
        for seat, other in zip(record.seats, shown["seats"], strict=True):
            assert (seat.role, seat.side, seat.outcome) == (other["role"], other["side"], other["outcome"])
            assert other["holder"] in ("", seat.holder)
    assert {decision.holder for record in source for decision in record.decisions} == set(HOLDERS[:4])


def test_what_a_seat_has_seen_is_what_stands_in_its_stream(folder):
    tokenizer, longest = material.table().tokenizer, 0
    for record in EpisodeSource(folder):
        for number, decision in enumerate(record.decisions):
            stream = to_text(tokenizer, record.seats[decision.seat].tokens[: decision.start])
            lines = record.seen(number)
            assert "".join("".join(lines).split()) == "".join(stream.split())
            longest = max(longest, len(lines))
    assert longest >= 8


# ---------------------------------------------------------------------- cut off


def test_a_shard_that_was_cut_off_ends_what_is_read_and_is_named(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    last = copy / "kuhn_v0-train.array_record-00002"
    os.truncate(last, 70_000)
    with pytest.warns(UserWarning, match=r"00002 has 70000 of \d+ bytes: train is read up to .* 48 of 64 episodes"):
        source = EpisodeSource(copy)
    assert len(source) == 48 and len(source.notes) == 1
    assert [record.fields["episode"] for record in source] == list(range(48))
    (copy / "kuhn_v0-train.array_record-00001").unlink()
    with pytest.warns(UserWarning, match="00001 is missing: train is read up to .* 24 of 64 episodes"):
        assert len(EpisodeSource(copy)) == 24
    (copy / "kuhn_v0-train.array_record-00000").unlink()
    with pytest.warns(UserWarning), pytest.raises(ConfigError, match="holds no complete shard"):
        EpisodeSource(copy)


KILLED = """
import os, signal, sys
from games.registry import make
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.writer import EpisodeWriter

source = EpisodeSource(sys.argv[1])
header = source.manifest.header

def until_killed():
    for number, record in enumerate(source):
        if number == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        yield record.fields

spec = make(header.game, **header.parameters).spec
EpisodeWriter(sys.argv[2], spec, header, shard_episodes=24).append("train", until_killed())
"""


def test_a_writer_killed_in_the_middle_of_a_shard_leaves_the_complete_ones_and_goes_on(folder, tmp_path):
    command = [sys.executable, "-c", KILLED, str(folder), str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300)
    assert result.returncode == -signal.SIGKILL, result.stderr
    with pytest.warns(UserWarning, match="00001.part is unfinished and left out"):
        source = EpisodeSource(tmp_path)
    assert [record.fields["episode"] for record in source] == list(range(24))
    assert len(tfds.data_source("kuhn_v0", split="train", data_dir=tmp_path)) == 24

    writer = material.writer(tmp_path)
    assert [shard.episodes for shard in writer.shards] == [24]
    writer.append("train", material.examples()[24:])
    assert contents(writer.folder) == contents(folder)


def test_a_shard_that_was_written_but_not_listed_is_written_again(folder, tmp_path):
    writer = material.writer(tmp_path)
    writer.append("train", material.examples()[:24])
    for name in ("episodes.json", "dataset_info.json"):
        shutil.copy(writer.folder / name, tmp_path / name)
    writer.append("train", material.examples()[24:48])
    for kept in (("dataset_info.json",), ("dataset_info.json", "episodes.json")):  # killed after, or before the first
        for name in kept:
            shutil.copy(tmp_path / name, writer.folder / name)
        assert len(EpisodeSource(writer.folder)) == 24
    again = material.writer(tmp_path)
    again.append("train", material.examples()[24:])
    assert contents(again.folder) == contents(folder)


# ---------------------------------------------------------------------- beside a run


def _recorded(root, done, until):
    """Records the iterations after `done`, two of a warm start and then self-play."""
    games = [(material.GAME, material.table(), material.capacity())]
    recorder = Recorder(root, games, model="tiny", episodes=20, done=done)
    for iteration in range(done + 1, until + 1):
        split = "warm_start" if iteration <= 2 else "self_play"
        origin = Origin(material.SEED, iteration=iteration, weights={4: iteration - 1})
        recorder.add(split, [(material.told(iteration), material.plan_of(64 * iteration))], origin)
    recorder.flush()


@pytest.mark.parametrize(("checkpoint", "killed"), [(0, 1), (1, 4), (3, 3), (4, 5)])
def test_a_resumed_run_drops_what_its_checkpoint_does_not_know(tmp_path, checkpoint, killed):
    _recorded(tmp_path / "straight", 0, 5)
    _recorded(tmp_path / "resumed", 0, killed)
    _recorded(tmp_path / "resumed", checkpoint, 5)
    assert contents(tmp_path / "resumed") == contents(tmp_path / "straight")
    source = EpisodeSource(tmp_path / "resumed", "self_play")
    assert [record.fields["iteration"] for record in source] == [3] * 20 + [4] * 20 + [5] * 20
    assert [record.fields["episode"] for record in source[20:22]] == [4 * 64, 4 * 64 + 1]
    assert {seat.weights for record in source[:20] for seat in record.seats} == {2}
    assert len(EpisodeSource(tmp_path / "resumed")) == 100


def test_what_goes_wrong_while_recording_is_raised_at_the_next_step(tmp_path):
    games = [(material.GAME, material.table(), material.capacity())]
    recorder = Recorder(tmp_path, games, model="tiny", episodes=4, done=0)
    shutil.rmtree(tmp_path)
    recorder.add("self_play", [(material.told(), material.plan_of())], Origin(0))
    with pytest.raises(NotWrittenError, match="can no longer be written: No such file or directory"):
        recorder.flush()


# ---------------------------------------------------------------------- refused


def test_a_dataset_of_another_kind_is_not_appended_to(folder):
    other = dataclasses.replace(material.header(), capacity=11)
    with pytest.raises(ConfigError, match=r"capacity is \d+ there and 11 here; name another folder"):
        EpisodeWriter(folder.parents[1], material.table().spec, other)


def test_what_cannot_be_read_is_refused_in_a_sentence(folder, tmp_path):
    for place, sentence in ((tmp_path, "holds no dataset"), (tmp_path / "missing", "holds no dataset")):
        with pytest.raises(ConfigError, match=sentence):
            EpisodeSource(place)
    with pytest.raises(ConfigError, match="has no split test; it has: train"):
        EpisodeSource(folder, "test")
    copy = tmp_path / "kuhn_v0" / "1.0.0"
    shutil.copytree(folder, copy)
    assert find_dataset(tmp_path) == copy
    document = json.loads((copy / "episodes.json").read_text())
    for content, sentence in (
        ("{", "episodes.json is damaged"),
        (json.dumps(document | {"shards": [{"file": 3}]}), "episodes.json is damaged"),
        (json.dumps(document | {"schema": "2.1.0"}), "is of schema 2.1.0 and this version reads 1.0.0"),
    ):
        (copy / "episodes.json").write_text(content)
        with pytest.raises(ConfigError, match=sentence):
            EpisodeSource(copy)
    (copy / "episodes.json").write_text(json.dumps(document))
    (copy / "dataset_info.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be opened by TFDS"):
        EpisodeSource(copy)
    shutil.copytree(folder, tmp_path / "other" / "1.0.0")
    with pytest.raises(ConfigError, match="holds 2 datasets; name one of them"):
        EpisodeSource(tmp_path)


def test_indices_beyond_the_end_are_refused(folder):
    source = EpisodeSource(folder, "train")
    assert source[-1].fields["episode"] == 63 and [record.fields["episode"] for record in source[62:]] == [62, 63]
    with pytest.raises(IndexError, match="there are 64 episodes, no number 64"):
        source[64]


def test_names_of_datasets_are_names_for_tfds():
    assert dataset_name("werewolf-v0") == "werewolf_v0"
    assert dataset_name("werewolf-v0:num_seats=6,max_days=5") == "werewolf_v0_num_seats_6_max_days_5"
