"""Credit by rules against plain loops over transcripts, and against the games themselves."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games import werewolf_spec
from games.core import SeatView
from games.credit_rules import OF_GAME, judge
from games.players.scripted import heuristic_player, random_legal
from games.registry import GAMES, make
from tests.games import naive_rules
from tests.games.test_testing import SMALL
from tests.games.transcripts import Replay, Transcript, record

SEED = 3
ROOT = Path(__file__).resolve().parents[2]


def herding(view: SeatView, key: jax.Array) -> jax.Array:
    """Votes gather on the two lowest seats, which random votes hardly ever do."""
    draw = jax.random.uniform(key)
    first = jnp.argmax(view.legal)
    second = jnp.argmax(view.legal & (jnp.arange(view.legal.size) != first))
    vote = jnp.where(draw < 0.5, first, jnp.where(draw < 0.8, second, random_legal(view, key)))
    return jnp.where(view.phase == werewolf_spec.VOTE, vote, random_legal(view, key)).astype(jnp.int32)


def judged_games(name: str, player: str, episodes: int = 30, **parameters: Any) -> tuple[Any, list[Transcript], Any]:
    """A game, its transcripts and what the rules say of them: a list of scores a game, None where nothing is said."""
    game = make(name, **parameters)
    chosen = {"random": random_legal, "herding": herding}.get(player) or heuristic_player(name)
    arrays, transcripts = record(game, episodes, SEED, chosen)
    scores, judged = jax.device_get(judge(game.spec, *arrays))
    assert not judged[arrays[0] < 0].any() and not scores[~judged].any()
    said = [
        [float(scores[episode, k]) if judged[episode, k] else None for k in range(len(of.decisions))]
        for episode, of in enumerate(transcripts)
    ]
    return game, transcripts, said


def assert_same(said: list[list], wanted: list[list], transcripts: list[Transcript]) -> None:
    for mine, want, of in zip(said, wanted, transcripts, strict=True):
        for one, other, made in zip(mine, want, of.decisions, strict=True):
            assert one == pytest.approx(other, abs=1e-5), (made, one, other)


def seen(said: list[list], transcripts: list[Transcript]) -> set[tuple[str, float | None]]:
    """Every (phase, score) that occurs."""
    pairs = [zip(mine, of.decisions, strict=True) for mine, of in zip(said, transcripts, strict=True)]
    return {(made.phase, score) for pair in pairs for score, made in pair}


def chosen_freely(scores: list, of: Transcript) -> list:
    """Without those of decisions that had no alternative."""
    return [score if len(made.legal) > 1 else None for score, made in zip(scores, of.decisions, strict=True)]


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("player", "parameters"),
    [
        ("random", {"num_seats": 7, "max_days": 4}),
        ("herding", {"num_seats": 9, "rules": "makto", "max_days": 3}),
        slow("heuristic", {"num_seats": 7, "max_days": 4}),
        slow("random", {"num_seats": 9, "rules": "makto", "max_days": 3}),
        slow("heuristic", {"num_seats": 9, "rules": "makto", "max_days": 2}),
        slow("random", {"num_seats": 9, "rules": "makto", "guard": True, "max_days": 2}),
        slow("heuristic", {"num_seats": 7, "rules": "makto", "guard": True, "max_days": 2}),
        slow(
            "heuristic",
            {"num_seats": 8, "guard": True, "witch": True, "hunter": True, "max_days": 2, "speech_rounds": 2},
        ),
    ],
)
def test_werewolf(player: str, parameters: dict[str, Any]):
    _, transcripts, said = judged_games("werewolf-v0", player, 80 if player == "herding" else 24, **parameters)
    assert_same(said, [chosen_freely(naive_rules.werewolf(of), of) for of in transcripts], transcripts)
    assert {("vote", None), ("vote", -1.0), ("vote", 1.0), ("speak", -1.0), ("speak", 1.0)} <= seen(said, transcripts)


@pytest.mark.parametrize(
    ("player", "parameters"),
    [
        ("random", {"discussion_rounds": 1}),
        slow("heuristic", {"discussion_rounds": 1}),
        slow("heuristic", {"num_seats": 7, "roles": "percival,morgana", "fifth_rejection": "approved"}),
        slow("random", {"num_seats": 7, "roles": "percival,morgana", "fifth_rejection": "approved"}),
    ],
)
def test_avalon(player: str, parameters: dict[str, Any]):
    _, transcripts, said = judged_games("avalon-v0", player, 12, **parameters)
    assert_same(said, [chosen_freely(naive_rules.avalon(of), of) for of in transcripts], transcripts)
    expected = {("vote", None), ("vote", -1.0), ("vote", 1.0), ("quest", None), ("quest", 1.0), ("shoot", None)}
    assert expected <= seen(said, transcripts)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        slow("bargaining-v0", {}),
        ("bargaining-v0", {"discount_percent": 80, "max_turns": 6}),
        ("negotiation-v0", {"utterance_dim": 1}),
        slow("negotiation-v0", {"num_items": 2, "utterance_dim": 0, "show_proposals": False}),
        ("kuhn-v0", {}),
        ("liars_dice-v0", {"num_dice": 2, "dice_sides": 4}),
        slow("liars_dice-v0", {"bidding_rule": "reset-quantity"}),
        ("persuasion-v0", {"max_exchanges": 5}),
        slow("persuasion-v0", {"persuadee": "seat"}),
    ],
)
def test_games_in_which_other_actions_can_be_tried(name: str, parameters: dict[str, Any]):
    game, transcripts, said = judged_games(name, "random", 40, **parameters)
    naive = {"kuhn-v0": naive_rules.kuhn, "liars_dice-v0": naive_rules.liars_dice,
             "persuasion-v0": naive_rules.persuasion}.get(name, naive_rules.division)  # fmt: skip
    replay = Replay(game, 40, SEED)
    wanted = [chosen_freely(naive(of, replay, episode), of) for episode, of in enumerate(transcripts)]
    assert_same(said, wanted, transcripts)
    scores = [score for mine in said for score in mine if score is not None]
    assert min(scores) < -0.1 and max(scores) > 0.1


@pytest.mark.parametrize(
    ("player", "name", "parameters"),
    [
        ("random", "social_deduction-v0", {"num_impostors": 2, "max_rounds": 3}),
        slow("heuristic", "social_deduction-v0", {"num_impostors": 2, "max_rounds": 3}),
        ("random", "mystery-v0", {"num_seats": 4, "clues": "finder"}),
        slow("heuristic", "mystery-v0", {"num_seats": 3, "rounds": 2}),
        ("random", "shopping-v0", {"num_products": 30}),
    ],
)
def test_games_of_one_side_against_the_truth(player: str, name: str, parameters: dict[str, Any]):
    game, transcripts, said = judged_games(name, player, **parameters)
    wordings = dict(game.spec.words).get("instruction")
    if name == "shopping-v0":
        wanted = [naive_rules.shopping(of, wordings[of.events("instruction")[0].value]) for of in transcripts]
    else:
        naive = {"mystery-v0": naive_rules.mystery, "social_deduction-v0": naive_rules.social_deduction}[name]
        wanted = [naive(of) for of in transcripts]
    wanted = [chosen_freely(scores, of) for scores, of in zip(wanted, transcripts, strict=True)]
    assert_same(said, wanted, transcripts)
    scores = {score for mine in said for score in mine}
    assert scores == {None, -1.0, 0.0, 1.0}


SLOWER = ("mystery-v0", "negotiation-v0", "social_deduction-v0")


@pytest.mark.parametrize("name", [slow(name) if name in SLOWER else name for name in SMALL])
def test_whether_the_rules_speak_is_settled_before_a_behaviour(name: str):
    """Cut off behind a decision, with another action in it, a game is judged in the same places up to there."""
    game = make(name, **SMALL[name])
    arrays, _ = record(game, 16, SEED)
    seat, phase, legal, action, roles, outcome, rows, count, steps = arrays
    _, judged = jax.device_get(judge(game.spec, *arrays))
    assert judged.any() and not judged[seat < 0].any() and judged.shape == seat.shape
    generator = np.random.default_rng(0)
    for last in generator.integers(0, seat.shape[1], 4):
        other = np.argmax(generator.random(legal.shape) * legal, axis=2).astype(action.dtype)
        shorter = np.where(np.arange(seat.shape[1]) <= last, seat, -1)
        changed = np.where(np.arange(seat.shape[1]) < last, action, other)
        logged = (steps <= last) & (np.arange(rows.shape[1]) < count[:, None])
        before = (shorter, phase, legal, changed, roles, -outcome, rows, logged.sum(axis=1), steps)
        _, again = jax.device_get(judge(game.spec, *before))
        np.testing.assert_array_equal(again[:, : last + 1], judged[:, : last + 1])
        assert not again[:, last + 1 :].any()


def test_every_game_has_rules():
    assert set(OF_GAME) == set(GAMES)


def test_to_import_the_rules_asks_for_no_device():
    """Else it could no longer be chosen on which devices, or how many, a program runs."""
    script = "import jax, games.credit_rules; jax.config.update('jax_num_cpu_devices', 3); print(jax.device_count())"
    hidden = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["JAX_PLATFORMS"] = "cpu"
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert told.stdout == "3\n", told.stderr
