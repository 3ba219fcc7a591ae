"""A person at the table: `python -m maro_jax.play --game=werewolf-v0:num_seats=6 --others=runs/werewolf-tiny`."""

from __future__ import annotations

import dataclasses
import secrets
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maro_jax.run import exit_codes
from maro_jax.run.config import TrainConfig
from maro_jax.run.devices import arrange_cpu_devices, keep_freed_memory
from maro_jax.run.directory import recorded_config
from maro_jax.run.evaluate_config import SCRIPTED
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import run_cli
from maro_jax.run.inputs import is_run
from maro_jax.run.play_config import PlayConfig
from maro_jax.run.replay_html import render

if TYPE_CHECKING:
    from maro_jax.selfplay.hosted import HostedGames, Turn

WIDTH = 100
FEW = 12  # so many choices are listed one a line

Ask = Callable[[str], str]
Tell = Callable[[str], None]


def play(config: PlayConfig, ask: Ask = input, tell: Tell = print) -> dict[str, Any]:
    """Plays a game with a person in one seat.

    Args:
      config: which game, who holds the other seats, where the replay goes.
      ask: shows a prompt and returns a line.
      tell: shows a line.

    Returns:
      The game's record, as in a run's `games.jsonl`.

    Raises:
      ConfigError: a player or the game cannot be used, in one sentence.
      EOFError: from `ask`, if the person leaves.
    """
    config.validate()
    if config.seed < 0:
        config = dataclasses.replace(config, seed=secrets.randbelow(2**31))
    keep_freed_memory()
    arrange_cpu_devices(1)
    import numpy as np

    from maro_jax.data.encode import Origin
    from maro_jax.data.hosted import HostedRecorder
    from maro_jax.league.record import game_records
    from maro_jax.selfplay.episodes import LEARNER
    from maro_jax.selfplay.hosted import Reply

    game, seat, model, weights = _seated(config)
    table, recorder = game.table, None
    if config.record:
        capacity = game.records.tokens.shape[2]
        recorder = HostedRecorder(config.record, table, capacity=capacity, model=model, source="play")
    spec = table.spec
    tell(_introduction(game, seat))
    shown = 0
    while due := game.run():
        shown = _tell_news(game, seat, shown, tell)
        action, speech = _asked(game, due[0], ask, tell)
        game.reply({due[0].lane: Reply(action, table.tokenizer.encode(f" {speech}") if speech else ())})
    _tell_news(game, seat, shown, tell)
    episodes = game.episodes()
    [record] = game_records(table, episodes, None, np.arange(1), 0, config.seed)
    how = "ended by the rules" if record["terminated"] else "cut off, nobody wins"
    tell(f"\n{spec.name}, seed {config.seed}, {how}")
    for index, of in enumerate(record["seats"]):
        you = " (you)" if index == seat else ""
        tell(f"  {of['name']:<10} {of['role']:<12} {of['outcome']:+.2f}{you}")
    output = config.replay
    output.write_text(render([record], f"maro-jax: a game of {spec.name}"), encoding="utf-8")
    tell(f"replay: {output.resolve()}")
    if recorder:
        plan, seats = game.look(lambda plan, key, lanes: (plan, lanes.holder[0]))
        origin = Origin(config.seed, players={LEARNER: config.others}, weights={LEARNER: weights}, seats=seats)
        recorder.keep(episodes, plan, origin)
        tell(f"episode: {recorder.folder}")
    return record


def _seated(config: PlayConfig) -> tuple[HostedGames, int, str, int]:
    """The game, dealt; the person's seat; the model; and the iterations that its weights were trained for, or -1."""
    import jax
    import numpy as np

    from maro_jax.league.session import run_session, stored_params
    from maro_jax.selfplay.episodes import HEURISTIC, LEARNER, PERSON, RANDOM
    from maro_jax.selfplay.hosted import seated_game

    scripted = config.others in SCRIPTED
    settings = dataclasses.asdict(TrainConfig()) | {"model": "tiny" if scripted else config.others}
    if is_run(config.others):
        settings |= recorded_config(Path(config.others).expanduser()) or {}
    count = jax.device_count()  # weights are read onto all of them; the game itself takes one
    session = run_session(
        settings, games=config.chosen_game, seed=config.seed, lanes=count, episodes=count, mesh_shape=(count, 1, 1)
    )
    params, weights = session.params, -1
    if is_run(config.others):
        params, weights = stored_params(session, config.others, "learner.params")
    params = session.whole(params)
    table = session.arena.table
    seats = table.spec.num_seats
    if config.seat > seats:
        raise ConfigError(f"--seat={config.seat} is not one of the game's {seats} seats, for example --seat={seats}")
    seat = (config.seat or 1 + int(np.random.default_rng(config.seed).integers(seats))) - 1
    other = {"heuristic": HEURISTIC, "random": RANDOM}.get(config.others, LEARNER)
    holders = [PERSON if index == seat else other for index in range(seats)]
    params = None if scripted else jax.device_put(params, jax.devices()[0])
    hosted = seated_game(table, session.arena.sizes.capacity, holders, config.seed, params, config.temperature)
    return hosted, seat, settings["model"], weights


def _introduction(game: HostedGames, seat: int) -> str:
    spec = game.table.spec
    role = int(game.lanes.game.roles[0, seat])
    lines = [*_wrapped(spec.introduction[0]), *_wrapped(spec.role_texts[role][0])]
    return "\n".join([f"{spec.name}, {spec.num_seats} seats. You are Player {seat + 1}.", "", *lines, ""])


def _wrapped(text: str) -> list[str]:
    return [part for line in text.strip().splitlines() for part in textwrap.wrap(line, WIDTH)]


def _tell_news(game: HostedGames, seat: int, shown: int, tell: Tell) -> int:
    """Tells what the seat has come to see since row `shown` of the log; returns the row to go on from."""
    import jax
    import numpy as np

    log = jax.tree.map(lambda leaf: leaf[0], game.lanes.game.log)
    for row in np.flatnonzero(np.asarray(log.visible_to(seat))):
        if row >= shown:
            tell(f"  {_line(game, np.asarray(log.rows[row]))}")
    return int(log.size)


def _line(game: HostedGames, row: Any) -> str:
    from games.text.transcript import event_text

    spec = game.table.spec
    spoken = "{utterance}" in spec.event_kinds[int(row[0])].template
    return event_text(spec, row, f" {game.said(0, int(row[3]))}" if spoken else "").strip()


def _asked(game: HostedGames, due: Turn, ask: Ask, tell: Tell) -> tuple[int, str]:
    """Asks for the reply that is due: a legal action and, where speech is free, what to say."""
    spec, legal = game.table.spec, due.legal
    phase = spec.phases[due.phase]
    labels = [spec.action_labels[action].strip() for action in legal]
    speech = ""
    if phase.speech_tokens:
        speech = ask(f"You say (at most {phase.speech_tokens} tokens, Enter for nothing): ").strip()
    if not phase.action:
        return legal[0], speech
    if len(labels) == 1:
        tell(f"  (your only choice: {labels[0]})")
        return legal[0], speech
    prompt = phase.prompt.strip() or phase.name
    tell("\n".join([prompt, *_choices(labels)]))
    while True:
        answer = ask(f"Player {due.seat + 1}, your choice: ").strip()
        found = list(_matching(labels, answer))
        if len(found) == 1:
            return legal[found[0]], speech
        if found:
            tell(f"{answer!r} could be {', '.join(labels[index] for index in found[:4])}")
        else:
            tell(f"choose a number from 1 to {len(labels)}, or write the choice, for example {labels[0]}")


def _choices(labels: list[str]) -> list[str]:
    listed = [f"{number}) {label}" for number, label in enumerate(labels, 1)]
    return [f"  {line}" for line in listed] if len(listed) <= FEW else textwrap.wrap("   ".join(listed), WIDTH)


def _matching(labels: list[str], answer: str) -> Iterator[int]:
    """Indices of the choices that an answer may mean: a number, a whole label, or the beginning of some."""
    if answer.isdecimal() and answer not in labels:
        yield from [int(answer) - 1] if 1 <= int(answer) <= len(labels) else []
        return
    exact = [index for index, label in enumerate(labels) if label.lower() == answer.lower()]
    begun = [index for index, label in enumerate(labels) if answer and label.lower().startswith(answer.lower())]
    yield from exact or begun


def _main(config: PlayConfig) -> int:
    try:
        play(config)
    except (EOFError, KeyboardInterrupt):
        print("\nYou left; the game was not finished and no replay was written.")
    return exit_codes.DONE


def main_cli() -> None:
    """Console entry point."""
    run_cli(PlayConfig, _main)


if __name__ == "__main__":
    main_cli()
