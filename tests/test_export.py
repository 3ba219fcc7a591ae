"""Exported runs, as the command writes them and as others read them."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from games.registry import make
from maro_jax.export import _main
from maro_jax.policy.hf_folder import load_model
from maro_jax.policy.models import load_policy
from maro_jax.run.checkpoint import Checkpoints
from maro_jax.run.export_config import ExportConfig
from maro_jax.run.flags import run_cli
from maro_jax.selfplay.table import Table
from tests.entry_points import checkpoint, contents, run_lightly
from tests.policy.hf_fixture import FAMILIES, make_model_folder
from tests.policy.test_hf_folder import our_logits, random_tokens, their_logits
from tests.policy.test_hf_writer import equal


def _export(capsys, *arguments):
    """Runs the command in this process; returns its exit code and what it said."""
    with pytest.raises(SystemExit) as stop:
        run_cli(ExportConfig, _main, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def _run_of(folder, model, params, step=7):
    """A run that began with a model's folder and holds these parameters."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"config": {"model": str(model)}}))
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(step, {"learner": {"params": params, "step": np.int32(step)}}, {})
    return folder


def _learnt(params):
    """Other parameters of the same shapes."""
    return jax.tree.map(lambda leaf: leaf * 1.25 + 0.01, params)


def test_a_tiny_run_becomes_a_folder_for_transformers_and_for_us(finished_run, tmp_path, capsys):
    run, out = finished_run.folder, tmp_path / "exported"
    before = contents(run)
    code, said, errors = _export(capsys, run, f"--out={out}")
    assert (code, errors) == (0, "") and said.splitlines()[-1] == str(out)
    assert f"{run} after iteration 4, float32, in 1 safetensors file(s)" in said
    assert contents(run) == before and [path.name for path in tmp_path.iterdir()] == ["exported"]

    stored = checkpoint(run, 4)
    tensors = load_file(out / "model.safetensors")
    for name, tensor in (("embedding", "model.embed_tokens"), ("layers.1.up.kernel", "model.layers.1.mlp.up_proj")):
        kept, written = np.asarray(stored[f"learner.params.{name}"]), tensors[f"{tensor}.weight"]
        np.testing.assert_array_equal(kept.T if "kernel" in name else kept, written)

    policy, params, tokenizer = load_policy(str(out), precision="highest")
    tiny, _, words = load_policy("tiny", precision="highest")
    tokens = random_tokens(0, (2, 40), policy.config.vocab_size)
    learner = {name: leaf for name, leaf in stored.items() if name.startswith("learner.params.")}
    as_trained = jax.tree_util.tree_map_with_path(
        lambda path, _: learner["learner.params." + jax.tree_util.keystr(path, simple=True, separator=".")],
        tiny.abstract_params(),
    )
    expected = our_logits(tiny, as_trained, tokens)
    np.testing.assert_array_equal(our_logits(policy, params, tokens), expected)
    model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(info.values()) and np.abs(their_logits(model, tokens) - expected).max() < 1e-4
    text = "\nPlayer 1 votes Player 2?"
    theirs = AutoTokenizer.from_pretrained(out)
    assert theirs.encode(text) == tokenizer.encode(text) == words.encode(text)
    assert theirs.decode(words.encode(text)) == text
    Table.lay(make("werewolf-v0", num_seats=5), policy, tokenizer)  # it can be played on with

    code, _, errors = _export(capsys, run, f"--out={out}")
    assert code == 2 and "exists already and is never overwritten" in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_began_with_a_folder_keeps_all_but_its_weights(tmp_path, capsys, family):
    began, out = tmp_path / "began", tmp_path / "exported"
    make_model_folder(began, family, tied=False, max_shard_size="20KB")
    policy, params, _ = load_model(began, precision="highest")
    run = _run_of(tmp_path / "run", began, _learnt(params))
    code, said, errors = _export(capsys, run, f"--out={out}", "--max_shard_gib=2e-5")
    assert (code, errors) == (0, "")
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert f"after iteration 7, float32, in {len(files)} safetensors file(s)" in said
    assert len(files) > 1 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * policy.num_params()
    assert set(index["weight_map"].values()) == set(files)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert json.loads((out / name).read_text()) == json.loads((began / name).read_text())
    assert (out / "chat_template.jinja").read_text() == (began / "chat_template.jinja").read_text()
    again, learnt, _ = load_model(out, precision="highest")
    assert again == policy and equal(learnt, _learnt(params))
    model = AutoModelForCausalLM.from_pretrained(out)
    tokens = random_tokens(1, (1, 30), policy.config.vocab_size)
    assert np.abs(their_logits(model, tokens) - our_logits(policy, learnt, tokens)).max() < 1e-4


@pytest.fixture(scope="module")
def run_of_folder(tmp_path_factory):
    """A run that began with a folder, its model and another one."""
    place = tmp_path_factory.mktemp("place")
    make_model_folder(place / "began", num_layers=1)
    make_model_folder(place / "other", num_layers=1, hidden_size=16)
    _, params, _ = load_model(place / "began")
    _run_of(place / "run", place / "began", params)
    (place / "young").mkdir()
    (place / "young" / "config.json").write_text(json.dumps({"config": {}}))
    return place


REFUSALS = {
    "no run": (["--out={new}"], "name the run to export, for example"),
    "no folder": (["{place}/run"], "name --out, the folder to write, for example"),
    "not a run": (["{place}/began", "--out={new}"], "is not the folder of a run"),
    "a run without weights": (["{place}/young", "--out={new}"], "is a run without a checkpoint so far"),
    "a folder in a file": (["{place}/run", "--out={place}/run/config.json/a"], "config.json is a file; name another"),
    "a folder that exists": (["{place}/run", "--out={place}/other"], "exists already and is never overwritten"),
    "a model that is gone": (["{place}/run", "--out={new}", "--model={new}/gone"], "does not exist; it must be"),
    "another model": (["{place}/run", "--out={new}", "--model={place}/other"], "checkpoint 7 does not fit"),
    "the tiny model": (["{place}/run", "--out={new}", "--model=tiny"], "checkpoint 7 does not fit"),
    "an unknown type": (["{place}/run", "--out={new}", "--dtype=float8"], "is not one of float32, bfloat16"),
    "an adapter where there is none": (["{place}/run", "--out={new}", "--adapter"], "was trained without --lora_rank"),
    "files of no size": (["{place}/run", "--out={new}", "--max_shard_gib=0"], "a number above 0"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses_in_one_sentence_and_writes_nothing(run_of_folder, tmp_path, capsys, case):
    arguments, sentence = REFUSALS[case]
    before = contents(run_of_folder)
    filled = [argument.format(place=run_of_folder, new=tmp_path / "new") for argument in arguments]
    code, said, errors = _export(capsys, *filled)
    assert (code, said) == (2, "") and sentence in errors
    assert len(errors.splitlines()) == 1 and errors.startswith("error: ")
    assert contents(run_of_folder) == before and not list(tmp_path.iterdir())


def test_a_wrong_flag_is_answered_before_any_framework_is_loaded(tmp_path):
    finished = run_lightly("maro_jax.export", str(tmp_path), f"--out={tmp_path}/new")
    assert finished.returncode == 2 and "is not the folder of a run" in finished.stderr
    assert finished.stdout.splitlines()[-1] == "heavy: []"
