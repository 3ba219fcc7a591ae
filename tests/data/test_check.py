"""The checker passes what was written, and finds each kind of fault in it: exit code 2 and one sentence."""

import copy
import shutil

import numpy as np
import pytest

from games.registry import make
from maro_jax.data.__main__ import main_cli
from maro_jax.data.writer import EpisodeWriter
from tests.data import material
from tests.entry_points import run_lightly


def _check(capsys, *arguments):
    """Runs the command; returns its exit code, what it printed and what it said on stderr."""
    with pytest.raises(SystemExit) as stop:
        main_cli(["check", *map(str, arguments)])
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def _refused(capsys, *arguments):
    code, _, errors = _check(capsys, *arguments)
    assert code == 2 and len(errors.splitlines()) == 1
    return errors


def test_what_was_written_passes_and_is_counted(tmp_path, capsys):
    writer = material.writer(tmp_path)
    writer.append("warm_start", material.examples(1)[:30], 1)
    writer.append("self_play", material.examples(2), 2)
    code, printed, errors = _check(capsys, tmp_path)
    assert (code, errors) == (0, "") and printed.splitlines()[-1] == "all is as it was written"
    rows = [line.split() for line in printed.splitlines()[2:4]]
    behaviours = [sum(len(each["behaviours"]["seat"]) for each in part)
                  for part in (material.examples(1)[:30], material.examples(2))]  # fmt: skip
    assert [row[:5] + row[6:] for row in rows] == [
        ["kuhn_v0", "warm_start", "2", "30", str(behaviours[0]), "30"],
        ["kuhn_v0", "self_play", "3", "64", str(behaviours[1]), "64"],
    ]
    (writer.folder / ".kuhn_v0-self_play.array_record-00003.part").write_bytes(b"half")
    code, printed, _ = _check(capsys, tmp_path)
    assert code == 0 and "00003.part is unfinished and left out" in printed


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A dataset that is not to be changed."""
    return material.dataset(tmp_path_factory.mktemp("whole"))


def test_files_that_are_not_those_written_are_found(whole, tmp_path, capsys):
    def damaged(name, change):
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        path = folder / name
        path.write_bytes(change(path.read_bytes()))
        return _refused(capsys, folder)

    shard = "kuhn_v0-train.array_record-00001"
    flipped = damaged(shard, lambda data: data[:70_000] + bytes([data[70_000] ^ 1]) + data[70_001:])
    assert "00001 does not hold the bytes that were written: its SHA-256 differs" in flipped
    assert "24 of 64 episodes" in damaged(shard, lambda data: data[:-1])
    assert "by episodes.json and" in damaged(
        "dataset_info.json", lambda data: data.replace(b'"24",\n    "24"', b'"24"')
    )
    assert "behaviours and episodes.json counts 7" in damaged(
        "episodes.json", lambda data: data.replace(b'"behaviours": ', b'"behaviours": 7, "was": ', 1)
    ) or "is damaged" in damaged("episodes.json", lambda data: b"[]")
    assert "does not describe the records" in damaged("features.json", lambda data: data.replace(b"int32", b"int64", 1))
    assert "does not hold the words" in damaged(
        "behaviours-action.labels.txt", lambda data: data.replace(b"bet", b"bid")
    )
    assert "another tokenizer" in damaged(
        "episodes.json", lambda data: data.replace(b'"tokenizer": "', b'"tokenizer": "0')
    )
    assert "There is no game" in damaged("episodes.json", lambda data: data.replace(b'"game": "kuhn', b'"game": "kuhm'))


def _longest(records):
    """The number of a game with as many decisions as there can be, so that both seats have replied."""
    return int(np.argmax([len(record["behaviours"]["seat"]) for record in records]))


def _other_outcome(record):
    record["seats"]["outcome"] = -record["seats"]["outcome"]


def _other_action(record):
    """The same stream with another label: its ids tell."""
    record["behaviours"]["action"] = 1 - record["behaviours"]["action"]


def _other_reply(record):
    """A whole reply exchanged for its opposite, which the rules do not follow on from."""
    table, made = material.table(), record["behaviours"]
    made["action"] = np.array(made["action"])
    made["action"][0] = 1 - made["action"][0]
    first = int(np.cumsum(record["seats"]["length"])[made["seat"][0]] - record["seats"]["length"][made["seat"][0]])
    label = table.grammar.label_tokens[made["action"][0]]
    place = first + made["action_start"][0]
    record["tokens"] = np.array(record["tokens"])
    record["tokens"][place : place + (label >= 0).sum()] = label[label >= 0]


def _illegal(record):
    """The first action's label is taken from what was legal."""
    made = record["behaviours"]
    made["legal"] = np.concatenate([1 - made["action"][:1], made["legal"][2:]])
    made["legal_count"] = np.array([1, *made["legal_count"][1:]])


def _swap(group, name):
    def change(record):
        record[group][name] = list(record[group][name])[::-1]

    return change


def _set(group, name, value):
    def change(record):
        record[group][name] = np.full_like(record[group][name], value)

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_other_outcome, "outcome is not what the rules of the game make of its actions: ["),
        (_other_action, "the ids of the action at decision 0 are not those of"),
        (_other_reply, "is not what the rules of the game make of its actions"),
        (_illegal, "is not legal there: "),
        (_swap("events", "text"), "event 0 reads"),
        (_swap("behaviours", "speech"), "reads"),
        (_swap("behaviours", "thought"), "reads"),
        (_set("behaviours", "action", 9), "a number in behaviours/action stands for nothing"),
        (_set("behaviours", "seat", 2), "a seat does not exist"),
        (_set("behaviours", "end", 9999), "the sections of a reply lie in no order, or beyond their stream"),
        (_set("behaviours", "legal_count", 1), "the counts of stream tokens or of legal actions do not add up"),
        (_set("seats", "outcome", 1.5), "an outcome lies outside [-1, 1]"),
        (_set("seats", "holder", 1), "the holder or the role of a behaviour is not that of its seat"),
        (_set("seats", "role", 0), "the holder or the role of a behaviour is not that of its seat"),
        (_set("events", "visible_to", 3), "event_audience is not what"),
        (_set("sampled", "node", 1), "tokens is not what the rules"),
        (lambda record: record["seats"].update(length=record["seats"]["length"][:1]), "have different lengths: 1, 2"),
        (lambda record: record.update(deal=record["deal"] + 5), "is not what the rules of the game"),
        (lambda record: record.update(game="chess-v0"), "it is of chess-v0, not of kuhn-v0"),
        (lambda record: record.update(terminated=False), "terminated is not what the rules"),
    ],
)
def test_records_that_cannot_be_are_found(tmp_path, capsys, change, sentence):
    records = copy.deepcopy(material.examples())
    number = _longest(records)
    change(records[number])
    errors = _refused(capsys, material.dataset(tmp_path, records))
    assert sentence in errors and f"0000{number // 24}, episode {number % 24}: " in errors


def test_a_folder_without_datasets_and_wrong_commands_are_refused(tmp_path, capsys):
    assert "holds no dataset of episodes" in _refused(capsys, tmp_path)
    assert "is no folder" in _refused(capsys, tmp_path / "missing")
    assert "name the folder to check" in _refused(capsys)
    writer = EpisodeWriter(tmp_path, make("kuhn-v0", **material.PARAMETERS).spec, material.header())
    assert _check(capsys, writer.folder)[:2] == (0, "there are no episodes so far\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["chek", "data"], "there is no command chek (did you mean check?); there are: check, import, scripted"),
        (["check", "--modle=tiny"], "there is no flag --modle (did you mean --model?)"),
        (["scripted"], "name --out, the folder to write"),
        (["scripted", "--out=x", "--players=nobody"], "--players=nobody is not one of heuristic, random, either"),
        (["scripted", "--out=x", "--game=kuhn-v0,werewolf-v0"], "are several games; a dataset holds one"),
        (["import", "games.jsonl"], "name --out, the folder to write"),
        (["import", "missing.jsonl", "--out=x"], "missing.jsonl is no file"),
    ],
)
def test_a_wrong_command_line_is_answered_without_loading_a_framework(arguments, sentence):
    result = run_lightly("maro_jax.data", *arguments)
    assert (result.returncode, result.stdout) == (2, "heavy: []\n")
    assert sentence in result.stderr and len(result.stderr.splitlines()) == 1


def test_the_help_names_each_command_and_each_its_flags():
    assert "check FOLDER" in run_lightly("maro_jax.data", "--help").stdout
    shown = run_lightly("maro_jax.data", "import", "--help").stdout
    assert "Usage: python -m maro_jax.data import FILE [--name=value ...]" in shown and "--out=" in shown
