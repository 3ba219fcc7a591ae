"""Social deduction against OpenSpiel, and what else is promised of the game's functions."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import GameError, SeatView
from games.players.scripted import random_legal
from games.players.social_deduction import heuristic
from games.social_deduction import IMPOSTOR, KIND, VOTE, SocialDeduction
from games.testing import QUICKLY, Played, check_bounds, check_game, check_hiding, play

PRESETS: list[dict[str, Any]] = [
    {},
    {"num_seats": 7, "num_impostors": 2, "max_rounds": 4, "speech_tokens": 3},
    {"num_seats": 10, "num_impostors": 4, "noise_percent": 35, "thought_tokens": 2},
    {"num_seats": 3, "max_rounds": 20, "noise_percent": 0},
    {"num_seats": 5, "num_impostors": 2, "max_rounds": 1, "noise_percent": 100},
]


def name(parameters: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in parameters.items()) or "default"


def next_seat(view: SeatView) -> jax.Array:
    """int32[]: a vote for the next living seat, which ties if all do so; else the last legal action."""
    num_seats = (view.legal.shape[0] - 2) // 3
    away = (jnp.arange(num_seats) - view.seat - 1) % num_seats
    vote = jnp.argmin(jnp.where(view.legal[:num_seats], away, num_seats))
    last = view.legal.shape[0] - 1 - jnp.argmax(view.legal[::-1])
    return jnp.where(view.phase == VOTE, vote, last).astype(jnp.int32)


def mixed(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: a random legal action, often a vote that leads to ties, once in ten times any number at all."""
    which, legal_key, any_key = jax.random.split(key, 3)
    draw, num_actions = jax.random.uniform(which), view.legal.shape[0]
    anything = jax.random.randint(any_key, (), -3, num_actions + 4)
    act = jnp.where(draw < 0.5, next_seat(view), random_legal(view, legal_key))
    return jnp.where(draw > 0.9, anything, act)


@functools.cache
def recorded(parameters: tuple[tuple[str, Any], ...], count: int) -> Played:
    return play(SocialDeduction(**dict(parameters)), count, seed=7, player=mixed)


# ---------------------------------------------------------------------- OpenSpiel replays


def original(game: SocialDeduction) -> Any:
    """OpenSpiel's game with the same parameters."""
    pyspiel = pytest.importorskip("pyspiel")
    return pyspiel.load_game("social_deduction", {
        "players": game.num_seats, "imposters": game.num_impostors, "max_rounds": game.max_rounds,
        "observation_noise": game.noise_percent / 100,
    })  # fmt: skip


class Judge:
    """One of OpenSpiel's games, led along a recorded game of ours."""

    def __init__(self, game: SocialDeduction, theirs: Any, played: Played, episode: int, signals: Counter):
        self.game, self.state, self.episode, self.signals = game, theirs.new_initial_state(), episode, signals
        self.played, self.seats = played, range(game.num_seats)
        self.rows = [(*row, int(seen)) for row, seen in
                     zip(played.rows[episode].tolist(), played.audience[episode].tolist(), strict=True)]  # fmt: skip
        self.everybody = (1 << game.num_seats) - 1
        self.round = 0
        self.log: list[tuple[int, ...]] = []

    def run(self) -> str:
        """Asserts that the two agree at every step, and on the whole log; returns how the game ended."""
        played, episode, state, time = self.played, self.episode, self.state, 0
        self.deal()
        while not state.is_terminal():
            self.agree(time)
            for seat in (state.current_player(), time % self.game.num_seats):
                assert self.observation(seat) == state.observation_string(seat)
            self.act(int(played.action[episode, time]), time)
            time += 1
        self.agree(time)
        assert len(self.log) == played.size[episode, time] == played.size[episode, -1]
        assert self.rows[: len(self.log)] == self.log
        assert played.outcome[episode, -1].tolist() == state.returns()
        assert (played.step[episode, time:] == time).all() and played.terminated[episode, time:].all()
        if state.returns()[played.roles[episode].tolist().index(IMPOSTOR)] < 0:
            return "expelled"
        return "rounds" if self.round == self.game.max_rounds else "parity"

    def deal(self) -> None:
        roles = self.played.roles[self.episode].tolist()
        self.state.apply_action(sum(role << seat for seat, role in enumerate(roles)))
        impostors = [seat for seat in self.seats if roles[seat] == IMPOSTOR]
        self.log += [(KIND["seat"], seat, -1, -1, 1 << seat) for seat in self.seats]
        self.log += [
            (KIND["fellow"], seat, other, -1, 1 << seat) for seat, other in itertools.permutations(impostors, 2)
        ]
        self.open_round()

    def open_round(self) -> None:
        """Takes the signal from our log; it must be one of OpenSpiel's outcomes."""
        self.round += 1
        self.log.append((KIND["round"], -1, -1, self.round, self.everybody))
        kind, _, target, looks, _ = self.rows[len(self.log)]
        assert kind == KIND["signal"]
        chances = dict(self.state.chance_outcomes())
        assert chances[2 * target + looks] > 0
        alive = sorted({outcome // 2 for outcome in chances})
        impostor = int(self.played.roles[self.episode, target])
        self.signals["suspicious", impostor, looks] += 1
        self.signals["place", len(alive), alive.index(target)] += 1
        self.state.apply_action(2 * target + looks)
        self.log.append((KIND["signal"], -1, target, looks, self.everybody))

    def agree(self, time: int) -> None:
        """Asserts that our state at a time is the one that OpenSpiel's tells."""
        state, played, shift = self.state, self.played, self.game.num_seats
        over, num_actions = state.is_terminal(), self.game.spec.num_actions
        speaks = "Phase: Communication" in str(state)
        legal = range(num_actions) if over else [action + shift * speaks for action in state.legal_actions()]
        actor = -1 if over else state.current_player()
        expected = {
            "terminated": over,
            "truncated": False,
            "actor": actor,
            "phase": 2 if over else 0 if speaks else 1,
            "step": time,
            "legal": [action in legal for action in range(num_actions)],
            "acting": [seat == actor for seat in self.seats],
            "size": len(self.log),
            "outcome": state.returns(),
        }
        found = {field: getattr(played, field)[self.episode, time].tolist() for field in expected}
        assert found == expected, f"t={time}: {found} is not {expected} after {state}"

    def act(self, action: int, time: int) -> None:
        """Plays our action there and writes the rows that it should log here."""
        state, n = self.state, self.game.num_seats
        seat, speaks = state.current_player(), "Phase: Communication" in str(state)
        legal = [each + n * speaks for each in state.legal_actions()]
        action = action if action in legal else legal[0]
        others = self.everybody & ~(1 << seat)
        if speaks and self.game.speech_tokens:
            self.log.append((KIND["utterance"], seat, -1, time, others))
        kinds = ["vote"] * n + ["pass", "claim"] + ["accuse"] * n + ["defend"] * n
        targets = [*self.seats, -1, -1, *self.seats, *self.seats]
        self.log.append((KIND[kinds[action]], seat, targets[action], -1, others))
        living = told(state, "Alive:")
        state.apply_action(action - n * speaks)
        closes = not speaks and seat == living[-1]
        if closes:
            gone = [each for each in living if each not in told(state, "Alive:")]
            result = (KIND["expelled"], -1, *gone, -1) if gone else (KIND["no_expulsion"], -1, -1, -1)
            self.log.append((*result, self.everybody))
        if state.is_terminal():
            innocent = self.played.roles[self.episode].tolist().index(0)
            self.log.append((KIND["win"], -1, -1, int(state.returns()[innocent] > 0), self.everybody))
        elif closes:
            self.open_round()

    def observation(self, seat: int) -> str:
        """OpenSpiel's text of what a seat observes, written from nothing but the rows that the seat knows here."""
        known = [row for row in self.log if row[4] >> seat & 1 or row[1] == seat]
        names = {index: kind for kind, index in KIND.items()}
        role = int(self.played.roles[self.episode, seat])
        fellows = [target for kind, _, target, _, _ in known if names[kind] == "fellow"]
        alive, rounds = set(self.seats), []
        for kind, actor, target, value, _ in known:
            what = names[kind]
            if what == "round":
                rounds.append({"signal": "", "messages": "", "votes": "", "gone": ""})
            elif what == "signal":
                rounds[-1]["signal"] = f"Signal: player {target} {('clear', 'suspicious')[value]}\n"
            elif what == "vote":
                rounds[-1]["votes"] += f" {actor}->{target}"
            elif what == "expelled":
                rounds[-1]["gone"] = f"Eliminated: {target}\n"
                alive.remove(target)
            elif what in MESSAGES:
                rounds[-1]["messages"] += f" {actor}={MESSAGES[what].format(target)}"
        lines = [f"Player: {seat}", f"Role: {('Innocent', 'Imposter')[role]}"]
        if role == IMPOSTOR:
            lines.append(" ".join(map(str, ["ImposterTeam:", *sorted([seat, *fellows])])))
        lines.append(" ".join(map(str, ["Alive:", *sorted(alive)])))
        texts = [f"Round {index}\n{one['signal']}Messages:{one['messages']}\nVotes:{one['votes']}\n{one['gone']}"
                 for index, one in enumerate(rounds)]  # fmt: skip
        return "\n".join([*lines, "".join(texts)])


MESSAGES = {"pass": "SKIP", "claim": "CLAIM_INNOCENT", "accuse": "ACCUSE_PLAYER_{}", "defend": "DEFEND_PLAYER_{}"}


def told(state: Any, line: str) -> list[int]:
    """The numbers in the only line of a state's text that begins with `line`."""
    (found,) = [each for each in str(state).splitlines() if each.startswith(line)]
    return [int(word) for word in found.removeprefix(line).split()]


@pytest.mark.parametrize(
    ("parameters", "count"),
    [(PRESETS[0], 500), *(pytest.param(preset, 10_000, marks=pytest.mark.slow) for preset in PRESETS)],
    ids=lambda value: value if isinstance(value, int) else name(value),
)
def test_openspiel_agrees_with_every_step(parameters: dict[str, Any], count: int):
    game, played, signals = SocialDeduction(**parameters), recorded(tuple(parameters.items()), count), Counter()
    theirs = original(game)
    ends = Counter(Judge(game, theirs, played, episode, signals).run() for episode in range(count))
    assert ends.total() == count
    assert ends["parity"] + ends["rounds"] > count / 20
    if game.num_impostors <= game.max_rounds:  # a round expels one at most
        assert ends["expelled"] > count / 20
    else:
        assert not ends["expelled"]
    assert min(ends.values()) > count / 50 and (len(ends) == 3 or parameters != {})
    check_signals(game, signals)
    masks = Counter((played.roles @ (1 << np.arange(game.num_seats))).tolist())
    assert len(masks) == len(theirs.new_initial_state().chance_outcomes())
    assert fits([*masks.values()])


def check_signals(game: SocialDeduction, signals: Counter) -> None:
    """Signals are as often wrong as they should be, and are about every living seat alike."""
    noise = game.noise_percent / 100
    for impostor in (0, 1):
        wrong, right = (signals["suspicious", impostor, looks] for looks in (1 - impostor, impostor))
        assert abs(wrong - noise * (wrong + right)) <= 5 * np.sqrt(noise * (1 - noise) * (wrong + right))
    for living in range(3, game.num_seats + 1):
        assert fits([signals["place", living, place] for place in range(living)])


def fits(counts: list[int]) -> bool:
    """Whether counts are no farther from one another than chance explains, by a chi-square statistic."""
    expected, freedom = sum(counts) / len(counts), len(counts) - 1
    return not expected or sum((one - expected) ** 2 for one in counts) / expected < freedom + 6 * np.sqrt(2 * freedom)


def test_actions_are_openspiels_messages_after_its_votes():
    game = SocialDeduction(num_seats=3)
    state = original(game).new_initial_state()
    for action in (4, 0):  # the last seat is the impostor; a signal
        state.apply_action(action)
    labels = game.spec.action_labels
    assert labels[:5] == (" Player 1", " Player 2", " Player 3", " pass", " claim innocent")
    named = {"SKIP": " pass", "CLAIM_INNOCENT": " claim innocent"}
    named |= {f"{act}_PLAYER_{seat}": f" {act.lower()} Player {seat + 1}" for act in ("ACCUSE", "DEFEND")
              for seat in range(3)}  # fmt: skip
    assert [labels[3 + action] for action in range(8)] == [
        named[state.action_to_string(0, action)] for action in range(8)
    ]


# ---------------------------------------------------------------------- what every game promises


def test_the_game_conforms():
    game = SocialDeduction(num_seats=4, max_rounds=2)
    assert check_hiding(game.spec, check_game(game, episodes=60)) > 20


@pytest.mark.parametrize(
    "parameters",
    [{"num_seats": 7, "num_impostors": 3, "max_rounds": 3, "speech_tokens": 2}, {"max_rounds": 1}],
    ids=name,
)
def test_a_game_in_which_nobody_is_expelled_reaches_the_bounds_of_its_spec(parameters: dict[str, Any]):
    spec = SocialDeduction(**parameters).spec
    played = play(SocialDeduction(**parameters), 1, seed=0, player=lambda view, key: next_seat(view))
    assert played.step[0, -1] == spec.max_decisions
    assert played.size[0, -1] == spec.max_events
    assert (played.outcome[0, -1] == np.where(played.roles[0] == IMPOSTOR, 1, -1)).all()
    check_bounds(spec, played)
    tighter = dataclasses.replace(spec, max_new_events=spec.max_new_events - 1)
    with pytest.raises(AssertionError, match="max_new_events"):
        check_bounds(tighter, played)
    for field in ("visible_events", "turns"):
        bounds = getattr(spec, field)
        for index, (names, most) in enumerate(bounds):
            if most:
                less = (*bounds[:index], (names, most - 1), *bounds[index + 1 :])
                with pytest.raises(AssertionError, match=f"more than the {most - 1} that"):
                    check_bounds(dataclasses.replace(spec, **{field: less}), played)


# ---------------------------------------------------------------------- hiding


def test_until_a_game_is_over_nothing_but_signals_depends_on_who_the_impostors_are():
    game = SocialDeduction(num_seats=6, num_impostors=2, max_rounds=3)
    start = game.init(jax.random.key(0))
    worlds = jnp.asarray(np.array([[1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0]], np.int8))

    def live(roles: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        def turn(state: Any, time: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            draw = jax.random.uniform(jax.random.fold_in(key, time), (game.spec.num_actions,))
            legal = game.legal_action_mask(state)
            seen = {"legal": legal, "actor": state.actor, "phase": state.phase, "size": state.log.size}
            after = game.step(state, jnp.argmax(jnp.where(legal, draw, -1.0)), jax.random.fold_in(key, -1 - time))
            return after, seen | {"over": state.over}

        last, seen = jax.lax.scan(turn, dataclasses.replace(start, roles=roles), jnp.arange(game.spec.max_decisions))
        look = (last.log.rows[:, :1] == KIND["signal"]) & (jnp.arange(4) == 3)
        return seen | {"rows": jnp.where(look, 0, last.log.rows), "audience": last.log.audience}

    many = jax.jit(jax.vmap(jax.vmap(live, (None, 0)), (0, None)), compiler_options=QUICKLY)
    seen = jax.device_get(many(worlds, jax.random.split(jax.random.key(4), 100)))
    for other in (1, 2):
        both = ~seen["over"][0] & ~seen["over"][other]
        assert both.sum() > 100 * 12
        for field in ("legal", "actor", "phase", "size"):
            assert (seen[field][0] == seen[field][other])[both].all(), field
        written = np.arange(seen["rows"].shape[2]) < np.max(seen["size"][0] * both, axis=1)[:, None]
        for field in ("rows", "audience"):
            assert (seen[field][0] == seen[field][other])[written].all(), field


def test_only_a_message_is_spoken_with_and_every_decision_may_be_thought_over():
    spec = SocialDeduction(speech_tokens=3, thought_tokens=2).spec
    assert [phase.speech_tokens for phase in spec.phases] == [3, 0, 0]
    assert [phase.thought_tokens for phase in spec.phases] == [2, 2, 0]


# ---------------------------------------------------------------------- the scripted player


def by_role(innocent: Callable[..., jax.Array], impostor: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda view, key: jnp.where(view.role == IMPOSTOR, impostor(view, key), innocent(view, key))


def innocents_win(player: Callable[..., jax.Array], count: int) -> float:
    """Share of games that the innocents win."""
    played = play(SocialDeduction(), count, 5, player)
    return float((played.outcome[:, -1] * np.where(played.roles == IMPOSTOR, -1, 1) > 0)[:, 0].mean())


def test_the_heuristic_player_beats_random_play_on_both_sides():
    random = innocents_win(random_legal, 400)
    assert innocents_win(by_role(heuristic, random_legal), 400) > random + 0.3
    assert innocents_win(by_role(random_legal, heuristic), 400) < random - 0.02  # one vote of six


# ---------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_seats": 2}, "num_seats is between 3 and 10, not 2"),
        ({"num_seats": 11}, "num_seats is between 3 and 10, not 11"),
        ({"num_impostors": 0}, "impostors are at least 1 and fewer than the innocents, so that with num_seats=6 "
         "num_impostors is between 1 and 2, not 0"),
        ({"num_impostors": 3}, "impostors are at least 1 and fewer than the innocents, so that with num_seats=6 "
         "num_impostors is between 1 and 2, not 3"),
        ({"max_rounds": 0}, "max_rounds is between 1 and 20, not 0"),
        ({"max_rounds": 21}, "max_rounds is between 1 and 20, not 21"),
        ({"noise_percent": -1}, "noise_percent is between 0 and 100, not -1"),
        ({"noise_percent": 101}, "noise_percent is between 0 and 100, not 101"),
        ({"speech_tokens": -1}, "speech_tokens is between 0 and 4096, not -1"),
        ({"thought_tokens": 5000}, "thought_tokens is between 0 and 4096, not 5000"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_in_one_sentence(parameters: dict[str, Any], message: str):
    with pytest.raises(GameError) as refusal:
        SocialDeduction(**parameters)
    assert str(refusal.value) == f"social_deduction-v0: {message}"


def test_parameters_stand_in_the_spec_and_in_the_introduction():
    game = SocialDeduction(num_seats=9, num_impostors=3, max_rounds=7, noise_percent=15)
    assert dict(game.spec.parameters) == dataclasses.asdict(game)
    introduction = game.spec.introduction[0]
    assert all(part in introduction for part in ("9 players", "3 impostors", "6 innocents", "15 percent", "round 7"))
