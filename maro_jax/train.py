"""Train a language model by self-play: `python -m maro_jax.train --preset=werewolf-tiny`."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maro_jax.run import distributed, exit_codes
from maro_jax.run.compiling import compiling
from maro_jax.run.config import TrainConfig, round_up, warm_iterations_of
from maro_jax.run.console import Console
from maro_jax.run.dashboard import job_console
from maro_jax.run.devices import arrange_cpu_devices, check_cpu_devices, keep_freed_memory
from maro_jax.run.directory import FollowedDirectory, RunDirectory, recorded_config
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import run_cli
from maro_jax.run.signals import StopSignal
from maro_jax.run.stopwatch import Stopwatch
from maro_jax.run.storage import writing_to
from maro_jax.run.tensorboard import check_installed

if TYPE_CHECKING:
    from maro_jax.data.recorder import Recorder
    from maro_jax.league.played import Played
    from maro_jax.league.session import Session
    from maro_jax.league.trainer import Trainer
    from maro_jax.run.checkpoint import Checkpoints, Restored

SLOW_SAVE = 20.0  # seconds that one may take before it is told
RECORDED_GAMES = 12  # games kept for the replay each time, of all games together


class Stopped(Exception):
    """The run was asked to stop; everything is saved. `str()` is the signal's name."""


class NotFinite(Exception):
    """Too many optimizer steps in a row were not finite."""


def train(config: TrainConfig) -> dict[str, Any]:
    """Runs, or resumes, a training run to its end.

    Args:
      config: what to do; `maro_jax.run.config.make_config` builds one from a preset.

    Returns:
      The run's summary, as in its `summary.json`.

    Raises:
      ConfigError: if the configuration cannot be used, in one sentence.
      Stopped: on SIGINT or SIGTERM, after saving.
      NotFinite: after `max_bad_steps` steps in a row that were not finite.
      NotWrittenError: the run's folder cannot be written any more.
    """
    config.validate()
    if config.tensorboard:
        check_installed()
    with distributed.alone_at_once(Stopped, NotFinite):
        if config.joins_others:
            _arrange(config)
            distributed.join(config)
        directory = _open(config)
        try:
            with writing_to(directory.path):
                summary = distributed.gathered(directory.summary())[0]
                if summary is None:
                    with StopSignal() as stop:
                        summary = _run(config, directory, stop)
                if distributed.is_first():
                    from maro_jax.league.report import report_summary

                    report_summary(summary, directory)
                return summary
        finally:
            directory.close()


def _arrange(config: TrainConfig) -> None:
    """What must be set before JAX starts."""
    keep_freed_memory()
    arrange_cpu_devices(config.num_cpu_devices())


def _open(config: TrainConfig) -> RunDirectory:
    """The run's folder; of several processes the first opens it, and the others must see it."""
    path = config.resolved_run_dir()
    if not config.joins_others:
        return RunDirectory.open(path, config)
    if distributed.is_first():
        directory = distributed.together(lambda: RunDirectory.open(path, config))
    else:
        directory = distributed.together(lambda: FollowedDirectory(path))
    mark = distributed.gathered(secrets.token_hex(8))[0]
    distributed.together(lambda: directory.mark(mark))
    distributed.together(lambda: directory.check_mark(mark))
    return directory


def _run(config: TrainConfig, directory: RunDirectory, stop: StopSignal) -> dict[str, Any]:
    """The job: warm start and self-play iterations, then the final matches."""
    _arrange(config)

    from maro_jax.league.report import alarms, banner, columns, sections, skips
    from maro_jax.league.session import device_facts
    from maro_jax.run.checkpoint import Checkpoints, fingerprint, shapes_of

    begun, console, watch = time.monotonic(), job_console(enabled=distributed.is_first()), Stopwatch()
    compiled = dataclasses.asdict(compiling())
    trainer, memory, state = distributed.together(lambda: _prepare(config))
    notes = distributed.together(lambda: directory.record(device_facts()))
    with (
        Checkpoints(directory.checkpoints, config.keep_checkpoints) as checkpoints,
        distributed.alone_at_once(Stopped, NotFinite),
    ):
        if distributed.together(checkpoints.steps):  # what is read takes the place of what was drawn, not one beside it
            state = shapes_of(state)
        origin = {"config": directory.fixed_config, "frozen_model": fingerprint(trainer.base)}
        restored = distributed.together(lambda: _restored(checkpoints, state, origin))
        first, before = (0, 0.0) if restored is None else (restored.step, restored.meta["seconds"])
        state = state if restored is None else restored.state
        records = config.record_episodes and distributed.is_first()
        recorder = distributed.together(lambda: _recorder(config, directory, trainer, first) if records else None)
        banner(console, config, directory, trainer, memory, first, notes)

        slowest = SLOW_SAVE

        def seconds() -> float:
            return before + time.monotonic() - begun

        def save(step: int) -> None:
            if recorder:
                with watch("datasets"):
                    recorder.flush()  # what a checkpoint has behind it must be on disk
            with watch("checkpoints"):
                took = checkpoints.save(step, state, {"seconds": seconds(), **origin})
            nonlocal slowest
            if took > slowest:
                slowest = took
                console.line(f"note: the last checkpoint took {took:.0f} s to write, and a machine that is taken away "
                             "leaves about 30 s: count on losing up to --save_every_minutes of work")  # fmt: skip

        def leave_if_asked(step: int) -> None:
            if name := next(filter(None, distributed.gathered(stop.name)), ""):
                save(step)
                checkpoints.wait()
                raise Stopped(name)

        metrics, last_save = directory.metrics(first, config.tensorboard), time.monotonic()
        with console.iterations(first, trainer.total_iterations, stop):
            for iteration in range(first, trainer.total_iterations):
                leave_if_asked(iteration)
                with _trace_if_due(config, directory, trainer, first, iteration):
                    state, report, played = trainer.iterate(state, iteration)
                done = iteration + 1
                report |= _match_if_due(config, trainer, state, done)
                with watch("metrics"):
                    metrics.write(done, **report)
                    console.iteration(done, columns(report), sections(report, iteration < trainer.warm_iterations))
                kto = config.utility == "kto" and done > trainer.warm_iterations
                for note in skips(report) + (alarms(report) if kto else []):
                    console.line(f"note: {note}")
                with watch("games for the replay"):
                    _record_if_due(config, directory, trainer, played, done)
                if recorder:
                    with watch("datasets"):
                        _keep_episodes(recorder, config, trainer, played, report, done)
                if report["bad_steps"] >= config.max_bad_steps:
                    raise NotFinite(_diagnosed(config, directory, trainer, state, played, iteration))
                due = time.monotonic() - last_save >= 60 * config.save_every_minutes
                if distributed.gathered(due or bool(config.save_every) and done % config.save_every == 0)[0]:
                    save(done)
                    last_save = time.monotonic()
        save(trainer.total_iterations)
        metrics.close()
        summary = _final_matches(config, directory, trainer, state, console, leave_if_asked)
        summary |= _costs(trainer, seconds(), compiled) | {"beside": watch.shares()}
    directory.write_summary(summary)
    return summary


def _restored(checkpoints: Checkpoints, state: Any, origin: dict[str, Any]) -> Restored | None:
    """The newest good checkpoint, if it was saved by this run and on this frozen model.

    Raises:
      ConfigError: it was not. (One of before 2026-11 does not say; a model in another precision cannot be compared.)
    """
    restored = checkpoints.restore(state)
    if restored is None or not distributed.is_first():
        return restored
    place = f"checkpoint {restored.step} in {checkpoints.directory}"
    saved, given = restored.meta.get("config", {}), origin["config"]
    if others := [f"{name} {saved[name]!r}" for name in given if name in saved and saved[name] != given[name]]:
        raise ConfigError(f"{place} was saved by a run of another configuration than the config.json beside it tells "
                          f"({', '.join(others)}); choose another --run_dir to start anew")  # fmt: skip
    before, now = restored.meta.get("frozen_model", ""), origin["frozen_model"]
    if before.partition(":")[0] == now.partition(":")[0] and before != now:
        raise ConfigError(f"{place} holds an adapter of the model that --model named, whose weights have changed "
                          "since; put the old ones back, or choose another --run_dir")  # fmt: skip
    return restored


def _prepare(config: TrainConfig) -> tuple[Trainer, str, Any]:
    """The trainer, its memory in words, and the state it begins with."""
    check_cpu_devices(config.cpu_devices)
    import jax

    from maro_jax.league.session import run_session

    lanes = config.lanes or round_up(max(1, config.episodes // 4), jax.device_count())
    session = run_session(config, mesh_shape=config.mesh_shape(jax.device_count()), lanes=lanes)
    trainer, memory = _fitting(_trainer(session, config), config)
    return trainer, memory, trainer.start(_warm_start(session, config) if config.warm_start_from else session.params)


def _trace_if_due(
    config: TrainConfig, directory: RunDirectory, trainer: Trainer, first: int, iteration: int
) -> contextlib.AbstractContextManager[Any]:
    """Traces the session's second iteration of self-play, or its only one: the first compiles."""
    import jax

    second = min(max(first, trainer.warm_iterations) + 1, trainer.total_iterations - 1)
    if config.profile and iteration == second and distributed.is_first():
        return jax.profiler.trace(directory.path / "profile")
    return contextlib.nullcontext()


def _warm_start(session: Session, config: TrainConfig) -> Any:
    """The finished warm start of another run."""
    from maro_jax.league.session import stored_params

    wanted = warm_iterations_of(recorded_config(Path(config.warm_start_from).expanduser()) or {})
    params, step = stored_params(session, config.warm_start_from, "opponent")
    if step < wanted:
        raise ConfigError(
            f"--warm_start_from={config.warm_start_from} has finished {step} of {wanted} warm-start iterations; train "
            f"on with python -m maro_jax.train --run_dir={config.warm_start_from}"
        )
    return params


def _trainer(session: Session, config: TrainConfig) -> Trainer:
    from games.credit_rules import OF_GAME
    from maro_jax.league.trainer import Trainer
    from maro_jax.policy.config import ModelError

    for name in (arena.table.spec.name for arena in session.arenas):
        if config.decompose == "rules" and name not in OF_GAME:
            raise ConfigError(
                f"--decompose=rules has no rules for {name}, only for {', '.join(OF_GAME)}; set --decompose=outcome"
            )
    if config.meets_past_selves and all(len(arena.table.spec.sides) == 1 for arena in session.arenas):
        raise ConfigError(
            f"--opponents={config.opponents} keeps past selves to meet, but --games={config.games} is played alone; "
            "leave it out"
        )
    try:
        return Trainer(session.arenas, config, session.base)
    except ModelError as error:  # the mesh does not divide the model
        raise ConfigError(str(error)) from None


def _fitting(trainer: Trainer, config: TrainConfig) -> tuple[Trainer, str]:
    """The trainer, with fewer lanes where they are ours to choose and memory asks for it; and its memory in words.

    What cannot fit is refused.
    """
    from maro_jax.league.memory import check_memory, device_memory, gibibytes, most_lanes, plan_memory
    from maro_jax.league.trainer import Trainer

    plan, each = plan_memory(trainer), distributed.gathered(device_memory())
    available = None if None in each else min(each)
    if not config.lanes and 0 < (lanes := most_lanes(trainer, plan, available)) < trainer.arenas[0].lanes:
        trainer = Trainer([arena.with_lanes(lanes) for arena in trainer.arenas], config, trainer.base)
        plan = plan_memory(trainer)
    check_memory(trainer, plan, available)
    return trainer, plan.text() + (f" of {gibibytes(available)}" if available else "")


def _match_if_due(config: TrainConfig, trainer: Trainer, state: Any, done: int) -> dict[str, float]:
    """A match of the learner against its warm start, every few self-play iterations."""
    from maro_jax.league.final import mean_rate
    from maro_jax.league.match import play_match
    from maro_jax.league.trainer import MATCH

    number = done - trainer.warm_iterations
    if number < 1 or not config.eval_every or number % config.eval_every:
        return {}
    of_game = {}
    for arena in trainer.arenas:
        result = play_match(
            arena, state.learner.params, state.opponent, config.eval_games, purpose=MATCH + number,
            temperature=config.temperature, opponent_temperature=config.temperature,
        )  # fmt: skip
        total = {"win_rate": result.total.mean, "win_rate_low": result.total.low, "win_rate_high": result.total.high}
        of_game[arena.name] = total | {f"win_rate/{side}": rate.mean for side, rate in result.sides.items()}
    if len(of_game) == 1:
        return dict(*of_game.values())
    each = {f"{game}/{name}": value for game, values in of_game.items() for name, value in values.items()}
    return mean_rate("win_rate", list(of_game.values())) | each


def _record_if_due(
    config: TrainConfig, directory: RunDirectory, trainer: Trainer, played: list[Played], done: int
) -> None:
    """Keeps some games of the iterations chosen for it."""
    from maro_jax.league.record import recorded_iterations

    due = recorded_iterations(trainer.warm_iterations, trainer.total_iterations, config.eval_every)
    if done in due:
        _record(config, directory, played, done)


def _record(config: TrainConfig, directory: RunDirectory, played: list[Played], done: int) -> None:
    import numpy as np

    from maro_jax.league.record import game_records

    if not distributed.is_first():
        return
    indices = np.arange(min(-(-RECORDED_GAMES // len(played)), config.episodes))
    records = [
        record
        for of in played
        for record in game_records(of.arena.table, of.episodes, of.credit, indices, done, config.seed)
    ]
    directory.write_games(f"iteration-{done:06d}", records)


def _diagnosed(
    config: TrainConfig, directory: RunDirectory, trainer: Trainer, state: Any, played: list[Played], iteration: int
) -> str:
    """Writes down what can be known of steps that are not finite; tells where, and how to see them again."""
    from maro_jax.league.diagnosis import diagnose

    diagnosis = {"seed": config.seed} | diagnose(trainer, state, played, iteration)
    if distributed.is_first():
        directory.write_not_finite(diagnosis)
    _record(config, directory, played, iteration + 1)
    return (
        f"{config.max_bad_steps} optimizer steps in a row were not finite; {directory.not_finite} tells of which "
        f"weights, gradients and games, and python -m maro_jax.replay {directory.path} shows some of them. "
        "The same command goes on from the last checkpoint and comes to the same steps"
    )


def _recorder(config: TrainConfig, directory: RunDirectory, trainer: Trainer, first: int) -> Recorder:
    """Opens the run's datasets as they were after `first` iterations."""
    from maro_jax.data.recorder import Recorder

    games = [(arena.name, arena.table, arena.sizes.capacity) for arena in trainer.arenas]
    return Recorder(directory.episodes, games, model=config.model, episodes=config.record_episodes, done=first)


def _keep_episodes(
    recorder: Recorder,
    config: TrainConfig,
    trainer: Trainer,
    played: list[Played],
    report: dict[str, Any],
    done: int,
) -> None:
    """Hands an iteration's episodes to the recorder, with how long the weights that played had been trained for."""
    from maro_jax.data.encode import Origin
    from maro_jax.league.trainer import CLONE, PLAY
    from maro_jax.selfplay.episodes import LEARNER, OPPONENT

    episodes = [(of.episodes, of.plan) for of in played]
    if done <= trainer.warm_iterations:
        if not trainer.cloned:  # those are on disk
            recorder.add("warm_start", episodes, Origin(config.seed, CLONE, done))
        return
    opponent = trainer.warm_iterations + int(report.get("opponent_born", 0))
    recorder.add(
        "self_play", episodes, Origin(config.seed, PLAY, done, weights={LEARNER: done - 1, OPPONENT: opponent})
    )


def _final_matches(
    config: TrainConfig,
    directory: RunDirectory,
    trainer: Trainer,
    state: Any,
    console: Console,
    leave_if_asked: Callable[[int], None],
) -> dict[str, Any]:
    """What the run is judged by; results are kept as they come, so that none is played twice."""
    from maro_jax.league.final import final_matches, match_games, summarise
    from maro_jax.run.matches import FINAL_MATCHES

    games = {name: match_games(name, config.final_games) for name in FINAL_MATCHES}
    phase = console.phase("final matches", len(trainer.arenas) * sum(games.values()))

    def finished(results: dict[str, dict[str, Any]]) -> None:
        directory.write_matches(results)
        phase.update(sum(games[name] for entries in results.values() for name in games if name in entries))
        leave_if_asked(trainer.total_iterations)

    results = final_matches(
        trainer.arenas, state.learner.params, state.opponent, config.final_games, config.temperature,
        distributed.gathered(directory.matches())[0], finished,
    )  # fmt: skip
    phase.finish()
    return summarise(results) | {"temperature": config.temperature, "seed": config.seed}


def _costs(trainer: Trainer, seconds: float, before: dict[str, float]) -> dict[str, Any]:
    """What the session took; `before` had been compiled when it began."""
    import resource

    from maro_jax.league.arena import Tally
    from maro_jax.league.forking import fork_costs

    scale = 2**30 if sys.platform == "darwin" else 2**20
    tally = Tally.total([arena.tally for arena in trainer.arenas])
    forks = Tally.total([forking.arena.tally for forking in trainer.forking])
    costs = {"forks": fork_costs(forks, tally)} if trainer.forking else {}
    return tally.rates() | costs | {
        "self_play": trainer.efficiency(),
        "seconds_total": seconds,
        "compile": {name: value - before[name] for name, value in dataclasses.asdict(compiling()).items()},
        "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale,
    }  # fmt: skip


def _main(config: TrainConfig) -> int:
    try:
        train(config)
    except Stopped as signal:
        print(f"{signal}: saved; the same command goes on from here", file=sys.stderr)
        return exit_codes.PREEMPTED
    except NotFinite as reason:
        print(reason, file=sys.stderr)
        return exit_codes.NOT_FINITE
    return exit_codes.DONE


def main_cli() -> None:
    """Console entry point."""
    run_cli(TrainConfig, _main)


if __name__ == "__main__":
    main_cli()
