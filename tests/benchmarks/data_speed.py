"""How fast datasets of episodes are written and read, how large they are, and what recording costs a training run.

    python -m tests.benchmarks.data_speed [--behaviours=1000000] [--game=werewolf-v0:num_seats=6,max_days=5]
        [--json=FILE] [--folder=DIR] [--no-layouts]
    python -m tests.benchmarks.data_speed --overhead [--iterations=6] [--episodes=128] [--json=FILE]

The first writes behaviours of scripted games (a pool of games that is encoded anew each time it is written again) and
reads them back: by `tfds.data_source` alone, as typed records, and at random places. The resident memory is looked at
after each shard: it must not grow with what has been written. Then it writes some of the same episodes as one record a
behaviour, each with its seat's stream up to there, to compare the two layouts.

The second trains, and hands every second iteration of self-play to a recorder that keeps all of its episodes. The cost
is the CPU time of the recorder's thread over that of the whole process; wall times are told too, but other programs on
the machine disturb them.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from maro_jax.data import recorder as recording
from maro_jax.data.encode import Encoder, Origin, serialise
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.retell import text_table
from maro_jax.data.schema import Header
from maro_jax.data.scripted import holders_of
from maro_jax.data.writer import OPTIONS, EpisodeWriter
from maro_jax.run.console import table as text_rows
from maro_jax.run.inputs import EXAMPLE_GAME, parse_games
from maro_jax.selfplay.episodes import LEARNER, Episodes, RolloutPlan
from maro_jax.selfplay.rollout import play
from maro_jax.selfplay.table import RolloutSizes, Table

POOL = 256  # games that are played once and written again and again
SAMPLE = 200  # of them, for what is measured on a part


def resident_mib() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class Clock:
    """Wall and CPU time since it was made."""

    def __init__(self) -> None:
        self._begun = time.perf_counter(), time.process_time()

    def rates(self, name: str, behaviours: int) -> dict[str, float]:
        """Behaviours a second of both kinds; the latter is what an idle core does."""
        wall, cpu = time.perf_counter() - self._begun[0], time.process_time() - self._begun[1]
        return {f"{name}_per_second": behaviours / wall, f"{name}_per_cpu_second": behaviours / cpu}


def pool_of(table: Table, capacity: int) -> tuple[Episodes, RolloutPlan]:
    """Games of heuristic and random players."""
    number = np.arange(POOL)
    plan = RolloutPlan(
        number.astype(np.int32), number.astype(np.int32), holders_of("either", number, len(table.spec.sides))
    )
    sizes = RolloutSizes.fit(table, POOL, capacity)
    program = jax.jit(functools.partial(play, table, sizes, 0, True, None, jnp.ones((0,)), jax.random.key(0)))
    return jax.device_get(program(plan)[0]), plan


def measure(game: str, behaviours: int, folder: Path, layouts: bool) -> dict[str, Any]:
    """Writes and reads a dataset; returns the figures by name."""
    [(name, parameters)] = parse_games(game)
    table = text_table(name, {key: str(value) for key, value in parameters.items()}, "tiny")
    capacity = table.lexicon.max_stream
    episodes, plan = pool_of(table, capacity)
    a_pool = int((episodes.behaviours.seat >= 0).sum())
    encoder = Encoder(table)
    memory: list[float] = []

    def forever() -> Iterator[dict[str, Any]]:
        for _ in range(-(-behaviours // a_pool)):
            yield from encoder.examples(episodes, plan, Origin(0))
            memory.append(resident_mib())

    writer = EpisodeWriter(folder, table.spec, Header.of(table, capacity=capacity, model="tiny", source="benchmark"))
    clock = Clock()
    writer.append("train", forever())
    written = sum(shard.behaviours for shard in writer.shards)
    rates = clock.rates("written", written)
    size = sum(shard.bytes for shard in writer.shards)
    figures = {
        "game": game,
        "behaviours": written,
        "episodes": sum(shard.episodes for shard in writer.shards),
        "shards": len(writer.shards),
        "bytes_per_behaviour": size / written,
        "bytes_per_behaviour_before_compression": sum(shard.record_bytes for shard in writer.shards) / written,
        **rates,
        "resident_mib_after_a_tenth": memory[len(memory) // 10],
        "resident_mib_at_most_later": max(memory[len(memory) // 10 :]),
    }
    figures |= _reading(writer, folder)
    if layouts:
        figures |= {f"layouts/{name}": value for name, value in compare_layouts(encoder, episodes, plan).items()}
    return figures


def _reading(writer: EpisodeWriter, folder: Path) -> dict[str, Any]:
    raw = tfds.data_source(writer.name, split="train", data_dir=folder)
    source, before = EpisodeSource(folder), resident_mib()
    memory: list[float] = []

    def plainly(number: int) -> int:
        if number % 1000 == 0:
            memory.append(resident_mib())
        return len(raw[number]["behaviours"]["seat"])

    order = np.random.default_rng(0).permutation(len(raw))[: 5 * SAMPLE].tolist()
    found: dict[str, Any] = {}
    for name, read, numbers in (
        ("read", plainly, range(len(raw))),
        ("read_at_random", plainly, order),
        ("read_typed", lambda number: len(source[number].decisions), range(min(len(raw), 5 * SAMPLE))),
    ):
        clock = Clock()
        found |= clock.rates(name, sum(read(number) for number in numbers))
    return found | {"resident_mib_before_reading": before, "resident_mib_at_most_reading": max(memory)}


# ---------------------------------------------------------------------- the other layout


def compare_layouts(encoder: Encoder, episodes: Episodes, plan: RolloutPlan) -> dict[str, float]:
    """Bytes and reading speed of the same behaviours as a record an episode and as a record a behaviour."""
    examples = list(encoder.examples(episodes, plan, Origin(0), range(SAMPLE)))
    rows = [row for example in examples for row in _behaviour_rows(encoder.table, example)]
    found = {}
    for name, records in (("an_episode", examples), ("a_behaviour", rows)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.array_record"
            writer = ArrayRecordWriter(str(path), OPTIONS)
            data = [serialise(record) for record in records]
            for record in data:
                writer.write(record)
            writer.close()
            features = tfds.features.FeaturesDict(_features(records[0]))
            clock = Clock()
            for record in data:
                features.deserialize_example_np(record)
            found |= clock.rates(f"{name}/parsed", len(rows))
            found[f"{name}/bytes_per_behaviour"] = path.stat().st_size / len(rows)
    return found


def _behaviour_rows(table: Table, example: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a single behaviour's record must hold to stand alone: all its seat had read, its reply, how it ended."""
    made, stops = example["behaviours"], np.cumsum(example["seats"]["length"])
    starts = stops - example["seats"]["length"]
    legal = np.split(made["legal"], np.cumsum(made["legal_count"])[:-1])
    texts = [text.strip() for text in example["events"]["text"]]
    for index, seat in enumerate(made["seat"].tolist()):
        seen = (example["events"]["visible_to"] >> seat & 1 == 1) & (example["events"]["step"] <= index)
        yield {
            "game": example["game"], "episode": example["episode"], "deal": example["deal"], "seed": example["seed"],
            "decision": index, "seat": seat, "role": int(made["role"][index]), "phase": int(made["phase"][index]),
            "holder": int(made["holder"][index]), "action": int(made["action"][index]), "legal": legal[index],
            "outcome": example["seats"]["outcome"],
            "tokens": example["tokens"][starts[seat] : starts[seat] + made["end"][index]],
            "start": int(made["start"][index]),
            "seen": [text for text, shown in zip(texts, seen, strict=True) if shown] or [""],
            "thought": made["thought"][index], "speech": made["speech"][index],
        }  # fmt: skip


def _features(example: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for name, value in example.items():
        if isinstance(value, dict):
            kinds[name] = _features(value)
        elif isinstance(value, str):
            kinds[name] = tfds.features.Text()
        elif isinstance(value, list):
            kinds[name] = tfds.features.Sequence(tfds.features.Text())
        elif isinstance(value, np.ndarray):
            kinds[name] = tfds.features.Tensor(shape=(None,), dtype=value.dtype)
        else:
            kinds[name] = np.int64
    return kinds


# ---------------------------------------------------------------------- beside training


def overhead(iterations: int, episodes: int) -> dict[str, Any]:
    """What recording all episodes of every second iteration costs."""
    from maro_jax.league.session import run_session
    from maro_jax.league.trainer import Trainer
    from maro_jax.run.config import make_config

    config = make_config(
        "werewolf-tiny",
        {"episodes": episodes, "lanes": min(128, episodes), "warm_start_games": episodes, "iterations": 2 + iterations},
    )
    session = run_session(config, mesh_shape=config.mesh_shape(jax.device_count()))
    trainer = Trainer(session.arenas, config)
    [arena] = trainer.arenas
    state, recorder_seconds = trainer.start(session.params), [0.0]
    untouched = recording._write

    def timed(*arguments: Any) -> None:
        begun = time.thread_time()
        untouched(*arguments)
        recorder_seconds[0] += time.thread_time() - begun

    recording._write = timed  # type: ignore[assignment]
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        games = [(arena.name, arena.table, arena.sizes.capacity)]
        recorder = recording.Recorder(Path(folder), games, model="tiny", episodes=episodes, done=0)
        for iteration in range(trainer.total_iterations):
            begun = time.perf_counter(), time.process_time()
            state, _, [of] = trainer.iterate(state, iteration)
            number = iteration - trainer.warm_iterations
            recorded = number % 2 == 0
            if recorded:
                origin = Origin(config.seed, iteration=iteration + 1, weights={LEARNER: iteration})
                recorder.add("self_play", [(of.episodes, of.plan)], origin)
                recorder.flush()  # so that all of its cost falls to this iteration
            if number == 1:
                recorder_seconds[0] = 0.0  # the first two compile
            if number >= 2:
                times[recorded].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    wall, cpu = (
        {recorded: sum(pair[which] for pair in pairs) / len(pairs) for recorded, pairs in times.items()}
        for which in range(2)
    )
    return {
        "episodes_an_iteration": episodes,
        "iterations_recorded": len(times[True]),
        "recorder_cpu_seconds_an_iteration": recorder_seconds[0] / len(times[True]),
        "iteration_cpu_seconds": cpu[False],
        "iteration_cpu_seconds_recorded": cpu[True],
        "iteration_wall_seconds": wall[False],
        "iteration_wall_seconds_recorded": wall[True],
        "cost_in_cpu_time": recorder_seconds[0] / len(times[True]) / cpu[False],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.data_speed", allow_abbrev=False)
    parser.add_argument("--behaviours", type=int, default=1_000_000)
    parser.add_argument("--game", default=EXAMPLE_GAME)
    parser.add_argument("--folder", help="where the dataset is written; default: a temporary folder")
    parser.add_argument("--layouts", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--overhead", action="store_true", help="measure what recording costs a training run")
    parser.add_argument("--iterations", type=int, default=6, help="of self-play, for --overhead")
    parser.add_argument("--episodes", type=int, default=128, help="an iteration, for --overhead")
    parser.add_argument("--json", help="file for the figures")
    options = parser.parse_args(arguments)
    if options.overhead:
        figures = overhead(options.iterations, options.episodes)
    elif options.folder:
        figures = measure(options.game, options.behaviours, Path(options.folder), options.layouts)
    else:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(options.game, options.behaviours, Path(folder), options.layouts)
    rows = [(name, f"{value:,.4g}" if isinstance(value, float) else value) for name, value in figures.items()]
    print(text_rows(("figure", "value"), rows))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
