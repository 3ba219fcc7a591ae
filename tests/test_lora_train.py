"""Runs that train an adapter: what changes, what is kept, and what others make of it."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from maro_jax import evaluate, export, play
from maro_jax.policy.hf_folder import load_model
from maro_jax.policy.hf_names import tensor_name
from maro_jax.policy.trained import open_trained
from maro_jax.run.config import make_config
from maro_jax.run.evaluate_config import EvaluateConfig
from maro_jax.run.export_config import ExportConfig
from maro_jax.run.fields import ConfigError
from maro_jax.run.play_config import PlayConfig
from tests.entry_points import checkpoint, contents, small_config, train_quietly, train_until
from tests.policy.hf_fixture import make_model_folder

pytestmark = pytest.mark.usefixtures("kept_programs")

GAME = "kuhn-v0"
RANK = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model's folder and a run that trained an adapter on it, cloning first."""
    place = tmp_path_factory.mktemp("adapter")
    make_model_folder(place / "model", "qwen3", num_layers=1)
    before = contents(place / "model")
    config = _config(place / "run", place / "model", pool_size=1, pool_every=1, opponents="league")
    _, place_lines = train_quietly(config)
    assert contents(place / "model") == before
    assert any("frozen but for an adapter of" in line for line in place_lines)
    return place


def _config(run, model, **changes):
    settings = {"games": GAME, "iterations": 1, "warm_start_games": 16, "eval_every": 1, "lora_rank": RANK}
    settings |= {"reference_point": "token_kl", "lora_targets": "query|down", "lora_alpha": 4.0}
    return small_config(run, model=str(model), **(settings | changes))


def test_only_the_adapter_is_learnt_and_saved(place):
    stored = checkpoint(place / "run", 2)
    names = [name for name in stored if name.startswith("learner.params")]
    matrices = [
        f"learner.params.layers.0.{name}.{factor}" for name in ("down", "query") for factor in ("lora_a", "lora_b")
    ]
    assert sorted(names) == sorted(matrices)
    policy, _, _ = load_model(place / "model")
    largest = max(np.asarray(leaf).size for leaf in stored.values())
    assert largest <= RANK * max(policy.config.hidden_size, policy.config.intermediate_size)
    for name in matrices:
        assert not np.array_equal(stored[name], stored[name.replace("learner.params", "opponent")])
    assert any(name.startswith("pool.members") for name in stored)


def test_an_adapter_goes_on_only_with_the_model_that_it_began_with(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    config = _config(tmp_path / "run", place / "model", pool_size=1, pool_every=1, opponents="league")
    weights = place / "model" / "model.safetensors"
    tensors, before = load_file(weights), weights.read_bytes()
    name = tensor_name(("layers", "0", "up", "kernel"))[0]
    tensors[name][3, 2] += 0.01
    try:
        save_file(tensors, weights, metadata={"format": "pt"})
        with pytest.raises(ConfigError, match="whose weights have changed since"):
            train_quietly(config)
    finally:
        weights.write_bytes(before)
    train_quietly(config)


def test_the_folder_exported_is_the_model_with_the_product_added(place, tmp_path):
    export.export(ExportConfig(run=str(place / "run"), out=str(tmp_path / "merged")))
    export.export(ExportConfig(run=str(place / "run"), out=str(tmp_path / "adapter"), adapter=True))
    before, after = (load_file(folder / "model.safetensors") for folder in (place / "model", tmp_path / "merged"))
    stored = checkpoint(place / "run", 2)
    for name, tensor in after.items():
        expected = before[name]
        for matrix in ("query", "down"):
            if name == tensor_name(("layers", "0", matrix, "kernel"))[0]:
                a, b = (np.asarray(stored[f"learner.params.layers.0.{matrix}.lora_{of}"], np.float64) for of in "ab")
                expected = expected + (4.0 / RANK * a @ b).T
                assert np.abs(tensor - before[name]).max() > 0
        np.testing.assert_allclose(tensor, expected, rtol=0, atol=1e-6)
    opened, merged = open_trained(str(place / "run")), load_model(tmp_path / "merged")[1]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=0, atol=1e-6), opened.params, merged)
    told = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert told["r"] == RANK and told["base_model_name_or_path"] == str(place / "model")
    factors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    np.testing.assert_array_equal(
        factors["base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"].T,
        stored["learner.params.layers.0.down.lora_b"],
    )


def test_an_adapter_meets_its_own_past_and_any_model_of_the_same_shape(place, tmp_path):
    run, model = str(place / "run"), str(place / "model")
    match = {"policy": run, "num_games": 16, "lanes": 8, "games": GAME}
    own = evaluate.evaluate(EvaluateConfig(**match, opponent="warm_start,past,random"))
    assert set(own["ratings"]) == {"--policy", "warm_start", "after 1", "random"}
    other = evaluate.evaluate(EvaluateConfig(**match, opponent=model))
    assert 0 <= other["total"]["mean"] <= 1
    back = evaluate.evaluate(EvaluateConfig(**match | {"policy": model}, opponent=run))
    assert 0 <= back["total"]["mean"] <= 1
    # Merged into its base, the adapter plays as before.
    export.export(ExportConfig(run=run, out=str(tmp_path / "merged")))
    same = evaluate.evaluate(EvaluateConfig(**match | {"policy": str(tmp_path / "merged")}, opponent=model))
    assert same["total"] == other["total"]


@pytest.mark.slow
def test_a_person_plays_against_an_adapter(place, tmp_path):
    answers = iter(["1"] * 9)
    record = play.play(
        PlayConfig(others=str(place / "run"), seed=1, seat=1, output=str(tmp_path / "game.html")),
        lambda prompt: next(answers),
        lambda line: None,
    )
    assert record["terminated"]


def test_an_interrupted_run_ends_where_the_straight_one_does(place, tmp_path):
    config = _config(tmp_path / "run", place / "model", pool_size=1, pool_every=1, opponents="league")
    train_until(config, 1)
    train_quietly(config)
    straight, interrupted = checkpoint(place / "run", 2), checkpoint(tmp_path / "run", 2)
    assert straight.keys() == interrupted.keys()
    for name in straight:
        np.testing.assert_array_equal(np.asarray(straight[name]), np.asarray(interrupted[name]), err_msg=name)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"lora_rank": 8}, "adapts the frozen weights of a --model folder, and --model=tiny is none"),
        ({"lora_alpha": 8.0}, "--lora_alpha=8.0 means nothing without an adapter; leave it out, or set --lora_rank=8"),
        ({"lora_targets": "query"}, "means nothing without an adapter"),
        ({"lora_rank": 8, "lora_targets": "q_proj"}, "matches none of query, key, value, output, gate, up, down"),
        ({"lora_rank": 8, "lora_targets": "(query"}, "is no regular expression"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, sentence):
    with pytest.raises(ConfigError) as refused:
        make_config("werewolf-tiny", settings)
    assert sentence in str(refused.value)
