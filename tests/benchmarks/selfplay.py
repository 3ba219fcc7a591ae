"""How fast the compiled rollout plays, how far that is from the machine's floor, and from the usual way of playing.

    python -m tests.benchmarks.selfplay [--lanes=32,64,128] [--episodes=512] [--rounds=3] [--json=FILE] [--quick]

The embedded tiny model with random weights plays six-seat Werewolf against itself at temperature 1, on the CPU: once as
one compiled program for each number of lanes, once the usual way (`tests.benchmarks.usual_way`) one game at a time and
with as many games at once as lanes. All of them take turns in every round, so that a busy machine slows each of them
alike; figures are medians over the rounds, the machine's own rates their best. The usual way gets one thread or all of
them, whichever is faster in the first round.
Needs the extra `test` (torch).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Before anything imports jax, which reads these once: every core is a device.
os.environ["JAX_PLATFORMS"] = "cpu"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    count = f"--xla_force_host_platform_device_count={os.cpu_count()}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
# Before anything imports torch: on a machine with other work, threads that spin while they wait make it tens of times
# slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import jax  # noqa: E402

from games.registry import make  # noqa: E402
from maro_jax.league.floor import MachineRates, measure_rates  # noqa: E402
from maro_jax.policy.decoder import Params  # noqa: E402
from maro_jax.policy.hf_writer import save_model  # noqa: E402
from maro_jax.policy.models import load_policy  # noqa: E402
from maro_jax.policy.sharding import make_mesh  # noqa: E402
from maro_jax.policy.tokenizer import TextTokenizer  # noqa: E402
from maro_jax.run.console import table as text_table  # noqa: E402
from maro_jax.selfplay.table import Table  # noqa: E402
from tests.benchmarks.compiled_way import Call, CompiledWay  # noqa: E402

GAME = "werewolf-v0"
PARAMETERS = {"num_seats": 6, "max_days": 5}
GOALS = {"one_at_a_time": 20.0, "batched": 5.0}
MEBI = 2**20

Timed = tuple[Any, int]  # what was played the usual way (`usual_way.Played`), and the threads it took


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much to measure.

    Attributes:
      lanes: numbers of games at once, each on all devices together.
      episodes: games of a call of the rollout.
      rounds: times that everything takes its turn.
      single_games: games played one after the other, a round.
      batched_games: games of the usual way in batches, for each lane and round.
      matrix: side of the matrices that the machine's rate is measured with.
      mebibytes: size of the arrays that its memory is measured with.
    """

    lanes: tuple[int, ...]
    episodes: int
    rounds: int
    single_games: int = 8
    batched_games: int = 2
    matrix: int = 1024
    mebibytes: int = 256


QUICK = Sizes(lanes=(8,), episodes=16, rounds=1, single_games=1, batched_games=1, matrix=512, mebibytes=16)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser, options = _parse(arguments)
    sizes = QUICK if options.quick else Sizes(options.lanes, options.episodes, options.rounds)
    devices = jax.device_count()
    for name, numbers in (("lanes", sizes.lanes), ("episodes", (sizes.episodes,))):
        for number in numbers:
            if number % devices:
                parser.error(f"--{name}={number} must divide by the {devices} devices, for example {8 * devices}")
    report = run(sizes, say=lambda line: print(line, flush=True))
    print("\n" + describe(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def run(sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures everything.

    Args:
      sizes: how much.
      say: called with a line of progress now and then.

    Returns:
      What `--json` writes: `machine`, `compiled` (an entry for each number of lanes), `usual` (`one_at_a_time` and
      `batched`, an entry for each number of lanes), `ratios`; rates and ratios as median, low and high over the rounds.
    """
    load_before = os.getloadavg()[0]
    mesh = make_mesh(jax.device_count(), 1, 1)
    policy, _, tokenizer = load_policy("tiny")
    params = policy.init(jax.random.key(0))
    table = Table.lay(make(GAME, **PARAMETERS), policy, tokenizer)

    ways = []
    for lanes in sizes.lanes:
        ways.append(CompiledWay(table, params, mesh, lanes=lanes, episodes=sizes.episodes))
        ways[-1].play(seed=0)  # not counted
        say(f"compiled for {lanes} lanes in {ways[-1].compile_seconds:.1f} s")
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    rates: list[MachineRates] = []
    calls: dict[int, list[Call]] = {lanes: [] for lanes in sizes.lanes}
    single: list[Timed] = []
    batched: dict[int, list[Timed]] = {lanes: [] for lanes in sizes.lanes}
    with tempfile.TemporaryDirectory() as folder:
        usual = _usual_way(Path(folder) / "model", table, params, tokenizer)
        for number in range(1, sizes.rounds + 1):
            rates.append(measure_rates(mesh, matrix=sizes.matrix, mebibytes=sizes.mebibytes))
            single.append(usual(sizes.single_games, 1, number))
            for way in ways:
                calls[way.lanes].append(way.play(number))
                batched[way.lanes].append(usual(sizes.batched_games * way.lanes, way.lanes, number))
            say(f"round {number} of {sizes.rounds}, load average {os.getloadavg()[0]:.1f}")
    # The best of the rounds: the floor is what the machine can do, not what others left of it.
    machine = MachineRates(max(rate.gflops for rate in rates), max(rate.gigabytes for rate in rates))
    return {
        "game": GAME,
        "parameters": PARAMETERS,
        "model_parameters": policy.num_params(),
        "devices": mesh.size,
        "rounds": sizes.rounds,
        "load_average": {"before": load_before, "after": os.getloadavg()[0]},
        "peak_rss_mib": rss / MEBI,  # of everything compiled, before torch is loaded
        "machine": {"gemm_gflops": machine.gflops, "copy_gigabytes_per_second": machine.gigabytes},
        "compiled": [_compiled_entry(way, calls[way.lanes], machine) for way in ways],
        "usual": {
            "one_at_a_time": _usual_entry(1, single),
            "batched": [_usual_entry(lanes, batched[lanes]) for lanes in sizes.lanes],
        },
        "ratios": [_ratios(lanes, calls[lanes], single, batched[lanes]) for lanes in sizes.lanes],
    }


def describe(report: dict[str, Any]) -> str:
    """The report for people."""
    machine, load = report["machine"], report["load_average"]
    rules = ", ".join(f"{name}={value}" for name, value in report["parameters"].items())
    compiled, usual = report["compiled"], [report["usual"]["one_at_a_time"], *report["usual"]["batched"]]
    hosts = sorted({name for entry in compiled for name in entry["host_primitives"]})
    lines = [
        f"{report['game']} ({rules}), {report['model_parameters']:,} parameters, {report['devices']} CPU devices",
        f"machine: {machine['gemm_gflops']:.0f} GFLOP/s (float32 matrix product), "
        f"{machine['copy_gigabytes_per_second']:.0f} GB/s (copy); load average {load['before']:.1f} before, "
        f"{load['after']:.1f} after; medians of {report['rounds']} rounds",
        "",
        _columns("compiled rollout: lanes", [str(entry["lanes"]) for entry in compiled], compiled, _COMPILED_ROWS),
        "",
        f"host primitives in the program: {', '.join(hosts) or 'none'}; peak resident memory with all programs "
        f"{report['peak_rss_mib']:.0f} MiB",
        "",
        _columns("the usual way: games at once", [str(entry["width"]) for entry in usual], usual, _USUAL_ROWS),
        "",
        text_table(
            ["compiled ÷ usual, games/s: lanes", "÷ one at a time", "÷ as many at once"],
            [[str(entry["lanes"]), *(_spread(entry[name]) for name in GOALS)] for entry in report["ratios"]],
        ),
    ]
    for name, goal in GOALS.items():
        best = max(entry[name]["median"] for entry in report["ratios"])
        verdict = "reached" if best >= goal else "not reached"
        lines.append(f"goal {goal:.0f} × {name.replace('_', ' ')}: {verdict} ({best:.1f} ×)")
    return "\n".join(lines)


_COMPILED_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "games/s": lambda entry: _spread(entry["games_per_second"]),
    "decisions/s": lambda entry: f"{entry['decisions_per_second']['median']:,.0f}",
    "rendered tokens/s": lambda entry: f"{entry['rendered_tokens_per_second']['median']:,.0f}",
    "generated tokens/s": lambda entry: f"{entry['generated_tokens_per_second']['median']:,.0f}",
    "tokens/game": lambda entry: f"{entry['tokens_per_game']:.0f}",
    "tokens generated/game": lambda entry: f"{entry['generated_per_game']:.1f}",
    "decisions/game": lambda entry: f"{entry['decisions_per_game']:.1f}",
    "village wins": lambda entry: f"{entry['village_win_rate']:.2f}",
    "ingest slots useful ÷ issued": lambda entry: f"{entry['ingest_useful']:.2f}",
    "decode slots useful ÷ issued": lambda entry: f"{entry['decode_useful']:.2f}",
    "lanes occupied": lambda entry: f"{entry['lane_occupancy']:.2f}",
    "dispatches per batch": lambda entry: str(entry["dispatches"]),
    "compile seconds": lambda entry: f"{entry['compile_seconds']:.1f}",
    "program memory MiB": lambda entry: f"{entry['program_mib']:.0f}",
    "floor, games/s": lambda entry: f"{entry['floor_games_per_second']:,.0f}",
    "needed MFLOP/game": lambda entry: f"{entry['needed_mflop']:.0f}",
    "needed MB/game": lambda entry: f"{entry['needed_mb']:.1f}",
    "fraction of the floor reached": lambda entry: f"{entry['fraction_of_floor']['median']:.3f}",
}

_USUAL_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "games/s": lambda entry: _spread(entry["games_per_second"]),
    "decisions/s": lambda entry: f"{entry['decisions_per_second']['median']:,.0f}",
    "tokens/game": lambda entry: f"{entry['tokens_per_game']:.0f}",
    "decisions/game": lambda entry: f"{entry['decisions_per_game']:.1f}",
    "village wins": lambda entry: f"{entry['village_win_rate']:.2f}",
    "tokens sent/game": lambda entry: f"{entry['prompt_tokens_per_game']:,.0f}",
    "padding sent/game": lambda entry: f"{entry['padding_tokens_per_game']:,.0f}",
    "tokens generated/game": lambda entry: f"{entry['generated_per_game']:.1f}",
    "calls of generate/game": lambda entry: f"{entry['calls_per_game']:.2f}",
    "threads": lambda entry: entry["threads"],
}


def _columns(title: str, heads: list[str], entries: list[dict[str, Any]], rows: dict[str, Callable]) -> str:
    """A table with a column an entry."""
    return text_table([title, *heads], [[name, *(show(entry) for entry in entries)] for name, show in rows.items()])


def _usual_way(
    folder: Path, table: Table, params: Params, tokenizer: TextTokenizer
) -> Callable[[int, int, int], Timed]:
    """Loads the same model the usual way.

    Returns:
      A function of games, width and seed that plays and returns what was played and the threads it took: for each
      width the faster of one thread and as many as cores, as its first call finds it.
    """
    import torch  # not before the compiled programs' memory is read
    from transformers.utils.logging import disable_progress_bar

    from tests.benchmarks.usual_way import UsualWay

    disable_progress_bar()
    save_model(folder, table.policy, params, tokenizer)
    way = UsualWay(folder, table.spec, tokenizer.family)

    faster: dict[int, int] = {}

    def play(games: int, width: int, seed: int) -> Timed:
        tried = []
        for threads in [faster[width]] if width in faster else sorted({1, os.cpu_count() or 1}):
            torch.set_num_threads(threads)
            tried.append((way.play(games, width, seed), threads))
        best = min(tried, key=lambda entry: entry[0].seconds)
        faster[width] = best[1]
        return best

    way.play(1, 1, seed=0)  # not counted
    return play


def _compiled_entry(way: CompiledWay, calls: list[Call], machine: MachineRates) -> dict[str, Any]:
    """What is reported of one number of lanes."""
    games = sum(call.games for call in calls)

    def rate(count: Callable[[Call], float]) -> dict[str, float]:
        return _summary([count(call) / call.seconds for call in calls])

    def share(pairs: list[tuple[float, float]]) -> float:
        return sum(pair[0] for pair in pairs) / sum(pair[1] for pair in pairs)

    floors = [machine.seconds(call.work) for call in calls]
    return {
        "lanes": way.lanes,
        "episodes": way.episodes,
        "games_per_second": rate(lambda call: call.games),
        "decisions_per_second": rate(lambda call: call.decisions),
        "rendered_tokens_per_second": rate(lambda call: call.stream_tokens - call.sampled),
        "generated_tokens_per_second": rate(lambda call: call.sampled),
        "tokens_per_game": sum(call.stream_tokens for call in calls) / games,
        "generated_per_game": sum(call.sampled for call in calls) / games,
        "decisions_per_game": sum(call.decisions for call in calls) / games,
        "village_win_rate": sum(call.village_wins for call in calls) / games,
        "ingest_useful": share([call.ingest for call in calls]),
        "decode_useful": share([call.decode for call in calls]),
        "lane_occupancy": share([call.occupied for call in calls]),
        "model_tokens": sum(call.ingest[0] + call.decode[0] for call in calls),
        "needed_tokens": sum(call.work.tokens for call in calls),
        "dispatches": 1,  # `play` calls the compiled program once; nothing in it returns to the host
        "host_primitives": way.host_primitives,
        "compile_seconds": way.compile_seconds,
        "program_mib": way.program_bytes / MEBI,
        "floor_games_per_second": games / sum(floors),
        "needed_mflop": sum(call.work.flops for call in calls) / games / 1e6,
        "needed_mb": sum(call.work.bytes for call in calls) / games / 1e6,
        "fraction_of_floor": _summary([floor / call.seconds for floor, call in zip(floors, calls, strict=True)]),
    }


def _usual_entry(width: int, rounds: list[Timed]) -> dict[str, Any]:
    """What is reported of the usual way with so many games at once."""
    played = [entry for entry, _ in rounds]
    games = sum(entry.games for entry in played)
    return {
        "width": width,
        "games": games,
        "games_per_second": _summary([entry.games / entry.seconds for entry in played]),
        "decisions_per_second": _summary([entry.decisions / entry.seconds for entry in played]),
        "tokens_per_game": sum(entry.stream_tokens for entry in played) / games,
        "decisions_per_game": sum(entry.decisions for entry in played) / games,
        "village_win_rate": sum(entry.village_wins for entry in played) / games,
        "prompt_tokens_per_game": sum(entry.prompt_tokens for entry in played) / games,
        "padding_tokens_per_game": sum(entry.padding_tokens for entry in played) / games,
        "generated_per_game": sum(entry.sampled for entry in played) / games,
        "calls_per_game": sum(entry.calls for entry in played) / games,
        "threads": ", ".join(str(threads) for threads in sorted({threads for _, threads in rounds})),
    }


def _ratios(lanes: int, calls: list[Call], single: list[Timed], batched: list[Timed]) -> dict[str, Any]:
    """Games a second, compiled ÷ usual, round by round."""
    ours = [call.games / call.seconds for call in calls]

    def over(rounds: list[Timed]) -> dict[str, float]:
        theirs = [played.games / played.seconds for played, _ in rounds]
        return _summary([a / b for a, b in zip(ours, theirs, strict=True)])

    return {"lanes": lanes, "one_at_a_time": over(single), "batched": over(batched)}


def _summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _spread(summary: dict[str, float]) -> str:
    return f"{summary['median']:.1f} ({summary['low']:.1f}–{summary['high']:.1f})"


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Reads the flags; exits with code 2 and one sentence where one is wrong."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0, for example 128")
        return int(text)

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(number(part) for part in text.split(","))

    def file(text: str) -> Path:
        if not Path(text).absolute().parent.is_dir():
            raise argparse.ArgumentTypeError(f"there is no folder {str(Path(text).parent)!r} to write {text!r} in")
        return Path(text)

    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.selfplay", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--lanes", type=numbers, default=(32, 64, 128), help="games at once, for example 32,64,128")
    parser.add_argument("--episodes", type=number, default=512, help="games of a call of the rollout")
    parser.add_argument("--rounds", type=number, default=3, help="times that everything takes its turn")
    parser.add_argument("--quick", action="store_true", help="a minute's run that only shows that everything works")
    parser.add_argument("--json", type=file, help="a file in an existing folder to write the figures to")
    return parser, parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
