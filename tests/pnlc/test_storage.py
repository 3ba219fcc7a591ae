"""A critic's folder comes back as it was, or is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maro_jax.pnlc.calibration import Bin, Calibration
from maro_jax.pnlc.networks import Critic, Scaling
from maro_jax.pnlc.recognition import Recognition
from maro_jax.pnlc.storage import DOCUMENT, WEIGHTS, SavedCritic, _canonical, _sha256, load, save
from maro_jax.pnlc.value import ValueOptions, new_networks
from maro_jax.run.fields import ConfigError


def made(expectile: float = 0.5) -> SavedCritic:
    options = ValueOptions(expectile=expectile, steps=7)
    rng = np.random.default_rng(0)
    scaling = {name: Scaling.of(rng.normal(1, 2, size=(9, 4))) for name in ("state", "thought", "goal")}
    goal = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
    bins = (Bin(0.0, 0.5, 3, 0.25, 1 / 3), Bin(0.5, 1.0, 0, 0.0, 0.0))
    calibration = Calibration(2, 3, 1, 0.5, 0.6, 0.6, 0.1, 0.05, 0.15, 0.95, 1 / 12, bins)
    critic = Critic(new_networks(4, options, jax.random.key(3)), scaling, goal)
    return SavedCritic(
        critic=critic,
        goals=("my side wins", "a wolf is expelled"),
        utilities=(1.0, 0.25),
        reach=(0.5, 1 / 3),
        game="werewolf-v0",
        parameters={"num_seats": 6, "night_order": "wolf,doctor", "reveal": True},
        embedder="random directions",
        options=options,
        calibration=calibration,
        embedder_address="http://localhost:8000/v1",
        recognition=Recognition(6, 0.5, 1 / 6, 0.1, 0.6, 0.95),
    )


@pytest.mark.parametrize("expectile", [0.5, 0.8])
def test_a_critic_comes_back_as_it_was(tmp_path, expectile):
    saved = made(expectile)
    save(tmp_path / "new" / "critic", saved)
    found = load(tmp_path / "new" / "critic")
    assert dataclasses.replace(found, critic=saved.critic) == saved
    assert jax.tree.structure(found.critic) == jax.tree.structure(saved.critic)
    jax.tree.map(np.testing.assert_array_equal, found.critic, saved.critic)
    state, thought = np.ones((3, 4)), np.zeros(4)
    np.testing.assert_array_equal(found.critic.q(state, thought), saved.critic.q(state, thought))
    assert {path.name for path in (tmp_path / "new" / "critic").iterdir()} == {WEIGHTS, DOCUMENT}


def test_a_critic_of_the_format_before_is_read(tmp_path):
    """It keeps no address and has not tried other words for its goals; none of any other format is read."""
    save(tmp_path / "critic", made())
    path = tmp_path / "critic" / DOCUMENT
    document = json.loads(path.read_text())["critic"] | {"format": 2}
    del document["embedder_address"], document["recognition"]
    path.write_text(json.dumps({"critic": document, "sha256": _sha256(_canonical(document))}))
    assert load(tmp_path / "critic").embedder_address == "" and load(tmp_path / "critic").recognition is None
    document["format"] = 4
    path.write_text(json.dumps({"critic": document, "sha256": _sha256(_canonical(document))}))
    with pytest.raises(ConfigError, match="is of format 4, and this version reads 2 to 3; train it anew"):
        load(tmp_path / "critic")


def test_nothing_is_overwritten(tmp_path):
    save(tmp_path / "critic", made())
    before = (tmp_path / "critic" / DOCUMENT).read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        save(tmp_path / "critic", made(0.8))
    assert (tmp_path / "critic" / DOCUMENT).read_bytes() == before
    for name, few in (("texts", {"goals": ("one",)}), ("utilities", {"utilities": ()}), ("distances", {"reach": ()})):
        with pytest.raises(ConfigError, match=f"{len(*few.values())} {name} were given for the 2 goals"):
            save(tmp_path / "other", dataclasses.replace(made(), **few))
    assert [path.name for path in tmp_path.iterdir()] == ["critic"]


def test_damage_is_found(tmp_path):
    save(tmp_path / "critic", made())
    weights, document = tmp_path / "critic" / WEIGHTS, tmp_path / "critic" / DOCUMENT
    contents, text = weights.read_bytes(), document.read_text()
    weights.write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
    with pytest.raises(ConfigError, match="safetensors is not the file that was saved"):
        load(tmp_path / "critic")
    weights.unlink()
    with pytest.raises(ConfigError, match="safetensors is not the file that was saved"):
        load(tmp_path / "critic")
    weights.write_bytes(contents)
    outer = json.loads(text)
    outer["critic"]["calibration"]["gain_low"] = 9.0
    for wrong, message in ((json.dumps(outer), "json is not the file"), (text[:-9], "damaged"), ("[]", "damaged")):
        document.write_text(wrong)
        with pytest.raises(ConfigError, match=message):
            load(tmp_path / "critic")
    document.write_text(text)
    load(tmp_path / "critic")
    with pytest.raises(ConfigError, match="is no critic"):
        load(tmp_path)
