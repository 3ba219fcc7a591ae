"""The same kinds of games elsewhere, played at random on one core: OpenSpiel driven from Python, and TextArena."""

from __future__ import annotations

import importlib.util
import random
import time
from collections.abc import Callable
from typing import Any

# Games that both have, with our default parameters.
OPEN_SPIEL = {
    "kuhn-v0": "kuhn_poker",
    "liars_dice-v0": "liars_dice(numdice=1)",
    "bargaining-v0": "bargaining",
}
# Name, players and parameters of the game that is nearest to ours.
TEXT_ARENA: dict[str, tuple[str, int, dict[str, Any]]] = {
    "werewolf-v0": ("SecretMafia-v0", 7, {"discussion_rounds": 1}),
    "kuhn-v0": ("KuhnPoker-v0", 2, {"max_rounds": 1}),
    "liars_dice-v0": ("LiarsDice-v0", 2, {"num_dice": 1}),
}

Figures = dict[str, Any]  # name, and games, decisions and tokens a second


def open_spiel(name: str, seconds: float) -> Figures | None:
    """OpenSpiel's game; None if it has none or is not installed."""
    if name not in OPEN_SPIEL or importlib.util.find_spec("pyspiel") is None:
        return None
    import pyspiel

    game, chance = pyspiel.load_game(OPEN_SPIEL[name]), random.Random(0)

    def play() -> tuple[int, int]:
        state, decisions = game.new_initial_state(), 0
        while not state.is_terminal():
            if state.is_chance_node():
                outcomes = state.chance_outcomes()
                state.apply_action(chance.choices([o for o, _ in outcomes], [p for _, p in outcomes])[0])
            else:
                state.apply_action(chance.choice(state.legal_actions()))
                decisions += 1
        return decisions, 0

    return _timed(f"OpenSpiel {OPEN_SPIEL[name]}", play, seconds)


def text_arena(name: str, seconds: float, encode: Callable[[str], list[int]]) -> Figures | None:
    """TextArena's game with every observation encoded; None if it has none or is not installed."""
    if name not in TEXT_ARENA or importlib.util.find_spec("textarena") is None:
        return None
    import textarena

    other, players, parameters = TEXT_ARENA[name]
    chance, answer = random.Random(0), ANSWERS[other]

    def play() -> tuple[int, int]:
        environment = textarena.make(other, **parameters)
        environment.reset(num_players=players)
        decisions = tokens = 0
        done = False
        while not done:
            _, observation = environment.get_observation()
            tokens += len(encode(observation))
            done, _ = environment.step(answer(environment.state.game_state, observation, chance))
            decisions += 1
        return decisions, tokens

    return _timed(f"TextArena {other}", play, seconds)


def _mafia(state: dict[str, Any], observation: str, chance: random.Random) -> str:
    return f"I accuse [{chance.choice(state['alive_players'])}]"


def _kuhn(state: dict[str, Any], observation: str, chance: random.Random) -> str:
    return f"[{chance.choice(list(state['current_legal_action_tree']))}]"


def _dice(state: dict[str, Any], observation: str, chance: random.Random) -> str:
    """Any higher bid that could be true, or a call."""
    bid, dice = state["current_bid"], sum(state["remaining_dice"].values())
    quantity, face = bid["quantity"], bid["face_value"]
    higher = [
        f"[Bid: {q}, {f}]"
        for q in range(max(1, quantity), dice + 1)
        for f in range(max(1, face), 7)
        if (q, f) != (quantity, face)
    ]
    return chance.choice([*higher, "[Call]"] if quantity else higher)


ANSWERS: dict[str, Callable[[dict[str, Any], str, random.Random], str]] = {
    "SecretMafia-v0": _mafia,
    "KuhnPoker-v0": _kuhn,
    "LiarsDice-v0": _dice,
}


def _timed(name: str, play: Callable[[], tuple[int, int]], seconds: float) -> Figures:
    play()
    games = decisions = tokens = 0
    begun = time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        made, read = play()
        games, decisions, tokens = games + 1, decisions + made, tokens + read
    return {"name": name, "games": games / spent, "decisions": decisions / spent, "tokens": tokens / spent}
