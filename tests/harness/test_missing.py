"""What is said where lm-evaluation-harness is not installed."""

import importlib.util
import json

import pytest

from maro_jax.evaluate import _main
from maro_jax.run.evaluate_config import EvaluateConfig
from maro_jax.run.flags import run_cli


def test_the_command_that_installs_it_is_named(tmp_path, monkeypatch, capsys):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    (model / "model.safetensors").write_bytes(b"")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lm_eval" else found(name))
    with pytest.raises(SystemExit) as stop:
        run_cli(EvaluateConfig, _main, [str(model), "--tasks=gsm8k"])
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and len(errors.splitlines()) == 1
    assert "pip install 'maro-jax[harness]'" in errors
