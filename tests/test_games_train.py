"""Every game through the whole command, and several games in one run."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax import monitoring

from games.credit_rules import OF_GAME
from games.registry import GAMES
from maro_jax.evaluate import evaluate
from maro_jax.league.session import run_session
from maro_jax.league.trainer import Trainer
from maro_jax.run.directory import read_games
from maro_jax.run.evaluate_config import EvaluateConfig
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import LEARNER
from tests.entry_points import metrics, small_config, train_quietly
from tests.games.test_testing import SMALL

pytestmark = pytest.mark.usefixtures("kept_programs")

FAST = ("bargaining-v0", "kuhn-v0")  # train together; the other games, and each alone, in the slow tier


def text_of(name: str) -> str:
    """A game, small, as the command line names it."""
    parameters = ",".join(f"{key}={value}" for key, value in SMALL[name].items())
    return f"{name}:{parameters}" if parameters else name


def trained(folder: Path, games: str) -> tuple[dict[str, Any], list[str]]:
    changes = {"warm_start_games": 16, "iterations": 1, "eval_every": 1}
    return train_quietly(small_config(folder, games=games, **changes))


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_every_game_trains(name: str, tmp_path: Path):
    summary, lines = trained(tmp_path / "run", text_of(name))
    assert 0 <= summary["win_rate_low"] <= summary["win_rate_high"] <= 1
    last = metrics(tmp_path / "run")[-1]
    assert last["learnt_behaviours"] > 0 and last["grad_norm"] > 0 and last["skipped"] == 0
    assert last["overflowed"] == 0
    assert lines[-1] == str((tmp_path / "run").resolve())


@pytest.mark.parametrize(
    "name", ["kuhn-v0", *(pytest.param(name, marks=pytest.mark.slow) for name in GAMES if name != "kuhn-v0")]
)
def test_every_game_trains_with_its_rules(name: str, tmp_path: Path):
    """What is reported is what the rules say of the games that the run has recorded."""
    config = small_config(tmp_path, games=text_of(name), decompose="rules", warm_start_games=16, iterations=1)
    session = run_session(config, mesh_shape=config.mesh_shape(jax.device_count()))
    trainer = Trainer(session.arenas, config)
    state, _, _ = trainer.iterate(trainer.start(session.params), 0)
    _, report, (of,) = trainer.iterate(state, 1)
    made, (scores, judged) = of.episodes.behaviours, map(np.asarray, of.rules)
    learnt = (made.holder == LEARNER) & of.episodes.finished[:, None] & (made.seat >= 0)
    spoken_of = learnt & judged
    assert report["rules_share"] == pytest.approx(spoken_of.sum() / learnt.sum()) and spoken_of.any()
    assert report["rules_score"] == pytest.approx(scores[spoken_of].mean(), abs=1e-6)
    np.testing.assert_array_equal(np.asarray(of.credit.eligible), learnt)
    outcome = np.take_along_axis(of.episodes.outcome, np.maximum(made.seat, 0).astype(int), axis=1)
    for role, phase in {*zip(made.role[spoken_of].tolist(), made.phase[spoken_of].tolist(), strict=True)}:
        cell = spoken_of & (made.role == role) & (made.phase == phase)
        want = outcome[cell] + 0.5 * (scores[cell] - scores[cell].mean())
        np.testing.assert_allclose(np.asarray(of.credit.returns)[cell], want, atol=1e-5)
    rest = learnt & ~judged
    np.testing.assert_array_equal(np.asarray(of.credit.returns)[rest], outcome[rest])
    assert np.isfinite(report["loss"]) and report["skipped"] == 0


def test_a_game_without_rules_is_refused_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(OF_GAME, "kuhn-v0")
    with pytest.raises(ConfigError, match="--decompose=rules has no rules for kuhn-v0, only for werewolf-v0, "):
        train_quietly(small_config(tmp_path / "run", games="kuhn-v0", decompose="rules"))


@pytest.fixture(scope="module")
def mixed_run(tmp_path_factory: pytest.TempPathFactory, kept_programs: None):
    folder = tmp_path_factory.mktemp("runs") / "mixed"
    return folder, *trained(folder, ",".join(map(text_of, FAST)))


def test_a_mixed_run_learns_and_is_judged_in_each_of_its_games(mixed_run):
    folder, summary, lines = mixed_run
    assert set(summary["games"]) == set(FAST)
    rates = [summary["games"][name]["win_rate"] for name in FAST]
    assert summary["win_rate"] == pytest.approx(sum(rates) / len(FAST))
    assert summary == json.loads((folder / "summary.json").read_text())
    last = metrics(folder)[-1]
    assert {f"{name}/win_rate" for name in FAST} | {"win_rate"} <= set(last)
    for name, side in (("bargaining-v0", "first"), ("kuhn-v0", "first")):
        assert 0 <= last[f"{name}/mirror_win_rate/{side}"] <= 1
        assert last[f"{name}/behaviours/{side}"] > 0
    assert {game["game"] for game in read_games(folder)} == set(FAST)
    assert all(name in lines for name in FAST)


def test_a_match_plays_one_game_of_a_mixed_run(mixed_run):
    folder, _, _ = mixed_run
    with pytest.raises(ConfigError, match="are several games and a match plays one; name it"):
        evaluate(EvaluateConfig(policy=str(folder), num_games=16, lanes=8))
    result = evaluate(EvaluateConfig(policy=str(folder), games=text_of("kuhn-v0"), num_games=16, lanes=8))
    assert set(result["sides"]) == {"first", "second"}


@pytest.mark.parametrize(
    "games", [FAST, pytest.param(("werewolf-v0", "avalon-v0", "bargaining-v0"), marks=pytest.mark.slow)]
)
def test_iterations_of_a_mixed_run_compile_no_new_program(games: tuple[str, ...], tmp_path: Path):
    config = small_config(tmp_path, games=",".join(map(text_of, games)), warm_start_games=48, iterations=3)
    session = run_session(config, mesh_shape=config.mesh_shape(jax.device_count()))
    trainer = Trainer(session.arenas, config)
    state, compiled = trainer.start(session.params), []

    def listen(event: str, duration: float, **_: Any) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    def count(iteration: int) -> int:
        nonlocal state
        compiled.clear()
        state, report, played = trainer.iterate(state, iteration)
        assert [of.arena.name for of in played] == list(games) and report["skipped"] == 0
        return len(compiled)

    monitoring.register_event_duration_secs_listener(listen)
    try:
        counts = [count(iteration) for iteration in range(6)]
    finally:
        monitoring.unregister_event_duration_listener(listen)
    assert counts[0] > 0 and counts[2] > 0 and counts[3] > 0  # the end of the warm start, and the first of self-play
    assert counts[1] == counts[4] == counts[5] == 0
