"""Prints a game between scripted players as a transcript: `python -m games.show werewolf-v0 --seed 3`."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from games import registry
from games.core import Game, GameError, GameSpec, State, view_of_actor
from games.players.scripted import Player, heuristic_player, random_legal
from games.text.transcript import event_text

EXAMPLE = "python -m games.show werewolf-v0 --seed 3 --parameters num_seats=6,max_days=5"
HEADINGS = ("night", "day", "quest", "round")  # kinds of event that open a part of the game
REDUNDANT = ("seat",)  # kinds that say what the table of roles says already
WIDTH = 46  # columns before the note on who knows of a line


class _Parser(argparse.ArgumentParser):
    """Answers a wrong command line with one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; for example: {EXAMPLE}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; a wrong command line exits with code 2."""
    parser = _Parser(prog="python -m games.show", description="Prints a game between scripted players.",
                     epilog=f"Example: {EXAMPLE}", allow_abbrev=False)  # fmt: skip
    parser.add_argument("game", help=f"one of: {', '.join(registry.GAMES)}")
    parser.add_argument("--seed", type=_seed, default=0, help="of the deal and of all chance (default 0)")
    parser.add_argument("--parameters", type=_parameters, default={}, metavar="NAME=VALUE,...",
                        help="rule parameters, listed in docs/games/")  # fmt: skip
    parser.add_argument("--players", choices=("heuristic", "random"), default="heuristic",
                        help="who plays all seats (default heuristic)")  # fmt: skip
    parser.add_argument("--seat", type=int, metavar="N", help="show only what Player N knows")
    options = parser.parse_args(arguments)
    try:
        game = registry.make(options.game, **options.parameters)
        player = heuristic_player(options.game) if options.players == "heuristic" else random_legal
    except GameError as error:
        parser.error(str(error))
    num_seats = game.spec.num_seats
    if options.seat is not None and not 1 <= options.seat <= num_seats:
        parser.error(f"--seat is between 1 and {num_seats} in this game, not {options.seat}")
    state, actions = play_scripted(game, player, options.seed)
    title = f"{options.game}, seed {options.seed}, {options.players} players"
    chosen = ", ".join(f"{name}={value}" for name, value in options.parameters.items())
    seat = None if options.seat is None else options.seat - 1
    lines = [f"{title}, {chosen}" if chosen else title, *transcript(game.spec, state, actions, seat)]
    sys.stdout.write("\n".join(lines) + "\n")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _parameters(text: str) -> dict[str, str]:
    """Reads `name=value,name=value`; a value may hold commas (`night_order=wolf,doctor,seer`)."""
    parameters: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if name in parameters:
            raise argparse.ArgumentTypeError(f"{part!r} sets {name} again")
        if equals and name.isidentifier():
            parameters[name] = value
        elif not equals and parameters:
            parameters[list(parameters)[-1]] += "," + part
        else:
            raise argparse.ArgumentTypeError(f"{part!r} is not of the form name=value")
    return parameters


def play_scripted(game: Game, player: Player, seed: int) -> tuple[State, list[int]]:
    """Plays a game to its end with one scripted player in all seats.

    Returns:
      The final state and the action of each decision.
    """

    @jax.jit
    def turn(state: State, key: jax.Array) -> tuple[State, jax.Array]:
        act_key, step_key = jax.random.split(key)
        action = player(view_of_actor(game, state), act_key)
        return game.step(state, action, step_key), action

    key = jax.random.key(seed)
    state = jax.jit(game.init)(jax.random.fold_in(key, 0))
    actions: list[int] = []
    while not state.over:
        state, action = turn(state, jax.random.fold_in(key, 1 + len(actions)))
        actions.append(int(action))
    return state, actions


def transcript(spec: GameSpec, state: State, actions: Sequence[int], seat: int | None = None) -> Iterator[str]:
    """Yields the lines of a finished game.

    Args:
      spec: the game.
      state: its final state.
      actions: the action of each decision: scripted players speak in agreement with it.
      seat: the only seat whose knowledge is shown, or `None` for everybody's.
    """
    roles = [spec.roles[role] for role in np.asarray(state.roles)]
    if seat is None:
        yield from ("", "Roles", *(f"  {_name(index):<10} {role.name}" for index, role in enumerate(roles)))
    else:
        yield from ("", f"{_name(seat)} is a {roles[seat].name}. This is all that {_name(seat)} knows.")
    rows, size = np.asarray(state.log.rows), int(state.log.size)
    knowing = np.stack([np.asarray(state.log.known_to(index)) for index in range(spec.num_seats)], axis=1)
    shown = np.ones(size, bool) if seat is None else knowing[:size, seat]
    spoken = functools.partial(_utterance, spec, actions)
    names = [spec.event_kinds[kind].name for kind in rows[:size, 0]]
    told = [index for index in np.flatnonzero(shown) if names[index] not in REDUNDANT]
    for index in told:
        text = event_text(spec, rows[index], spoken(rows[index]))
        if index == told[0] or names[index] in HEADINGS:
            yield ""
        if names[index] in HEADINGS:
            yield text
            continue
        note = "" if knowing[index].all() else f"[only {_list(np.flatnonzero(knowing[index]))}]"
        yield f"  {text:<{WIDTH}}  {note}".rstrip()
    if seat is None:
        yield from _result(spec, state, [role.name for role in roles], len(actions))


def _utterance(spec: GameSpec, actions: Sequence[int], row: Any) -> str:
    """What a scripted player says at the decision that an utterance's row points to."""
    return spec.scripted_speech[actions[row[3]]] if "{utterance}" in spec.event_kinds[row[0]].template else ""


def _result(spec: GameSpec, state: State, roles: Sequence[str], decisions: int) -> Iterator[str]:
    how = "ended by the rules" if state.terminated else "cut off, nobody wins"
    yield from ("", f"Result ({how} after {decisions} decisions)")
    for seat, (role, outcome) in enumerate(zip(roles, np.asarray(state.outcome), strict=True)):
        word = "won" if outcome > 0 else "lost" if outcome < 0 else "drew"
        yield f"  {_name(seat):<10} {role:<10} {word:<5} {outcome:+.2g}"


def _name(seat: int) -> str:
    return f"Player {seat + 1}"


def _list(seats: Iterable[int]) -> str:
    return " and ".join(_name(seat) for seat in seats)


if __name__ == "__main__":
    main()
