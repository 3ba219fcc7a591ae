"""Trains a grid of configurations over several seeds and compares them.

  python -m launch.sweep --out=runs/rates --grid=learning_rate=5e-4,1.5e-3 --seeds=0-4 -- --preset=werewolf-tiny
  python -m launch.sweep --out=runs/rates --grid=beta=0.05,0.1 --zip=episodes,lanes=256:64,512:128 --seeds=0-4
  python -m launch.sweep --out=runs/games --grid='games=kuhn-v0|werewolf-v0:num_seats=6,max_days=5' --seeds=0,1,2
  python -m launch.sweep --out=runs/ablation --plan=launch/scans/ablation.toml --share_warm_start

Flags after -- are the trainer's and the same for all trials. Everything is checked before anything starts. The same
command goes on after an interruption: finished runs are kept, unfinished ones resume, failed ones are shown and wait
for --retry_failed. More values or seeds may be added later. Exit codes: 0 all done, 1 some runs failed, 2 usage,
75 stopped or not all done: start again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

if __package__ in (None, ""):  # python launch/sweep.py
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from launch.scans import grid, plan, runners, runs  # noqa: E402
from maro_jax.run import exit_codes  # noqa: E402
from maro_jax.run.fields import ConfigError, nearest  # noqa: E402

SOME_FAILED = 1
_SEEDS = "0,1,2"


class _Parser(argparse.ArgumentParser):
    """Answers a mistake with one sentence."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help lists the flags")


def main(argv: Sequence[str] | None = None, trainer: Sequence[str] = runners.TRAINER) -> int:
    """Runs the scan.

    Args:
      argv: arguments without the program's name; default: those of this process.
      trainer: the command that takes the trainer's flags.

    Returns:
      The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _scan(arguments, trainer)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_codes.USAGE


def _scan(arguments: list[str], trainer: Sequence[str]) -> int:
    options, base = _options(arguments)
    planned = _plan(options, base)
    trials, baseline = planned.trials, planned.baseline
    shard = _shard(options.shard)
    gpus = _gpus(options.gpus, options.jobs)
    grid.check_games(trials)

    out = Path(options.out).expanduser().resolve()
    everything = runs.make_runs(trials, planned.seeds, out)
    mine = runs.shard_of(everything, *shard)
    metrics, curves = _names("metrics", options.metrics), _names("curves", options.curves)
    records = runs.Records(Path(options.results).expanduser().resolve() if options.results else out / "results", curves)
    from launch.scans.report import Report  # loads NumPy, for which a typo need not wait

    Report(everything, records, baseline, metrics).check_metrics()  # before anything starts
    if options.runner == "print":
        _print_commands(mine, records)
        return exit_codes.DONE
    _make_folders(out, records.folder)
    if options.runner == "slurm":
        groups = len({run.warm_start.name if run.warm_start else run.name for run in mine})
        return _lay_out_slurm(arguments, out, groups, options)
    runners.collect(mine, records)
    if options.retry_failed:
        for run in mine:
            records.forget_failure(run)
    if options.runner == "local":
        of_each = {len(seeds) for seeds in planned.seeds.values()}
        _say(f"{len(trials)} trials x {_range(of_each)} seeds = {len(everything)} runs in {out}")
        if len(mine) < len(everything):
            _say(f"shard {options.shard}: {len(mine)} of them")
        local = runners.Local(records, _say, jobs=options.jobs, gpus=gpus, metric=metrics[0], trainer=trainer)
        local.train(mine)
    with runs.one_at_a_time(out):
        report = Report(everything, records, baseline, metrics, planned.contrasts)
        print(f"\n{metrics[0]}\n\n{report.table()}\n")
        for line in report.write(curves):
            _say(line)
    report.check_metrics()
    return _exit_code(mine, records)


def _plan(options: argparse.Namespace, base: Sequence[str]) -> plan.Plan:
    """The trials and their seeds, of a file or of the grid."""
    if options.plan:
        for name in ("grid", "zip", "baseline", "seeds"):
            if getattr(options, name):
                raise ConfigError(f"--{name} stands in the file that --plan names; leave one of the two out")
        return plan.read_plan(options.plan, base, options.share_warm_start)
    axes = [grid.read_grid(text) for text in options.grid] + [grid.read_zip(text) for text in options.zip]
    trials = grid.make_trials(axes, base, options.share_warm_start)
    seeds = grid.read_seeds(options.seeds or _SEEDS)
    return plan.Plan(trials, {trial.id: seeds for trial in trials}, grid.find_baseline(trials, options.baseline))


def _range(numbers: Collection[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


def _options(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Flags of the scan, and those after `--`."""
    dash = arguments.index("--") if "--" in arguments else len(arguments)
    parser = _Parser(
        prog="python -m launch.sweep", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--grid", action="append", default=[], metavar="KEY=V1,V2", help="values of a flag; several: their product. "
        "Values that hold commas are separated by | instead")  # fmt: skip
    add("--zip", action="append", default=[], metavar="K1,K2=A:B,C:D", help="values of several flags that go together")
    add("--plan", default="", metavar="FILE", help="named trials, their seeds, and contrasts to be judged, in a TOML "
        "file; launch/scans/plan.py shows one. In place of --grid, --zip, --seeds and --baseline")  # fmt: skip
    add("--seeds", default="", help=f"training seeds, as 0,1,2 or 0-4 (default: {_SEEDS})")
    add("--out", default="runs/sweep", help="folder of the scan (default: runs/sweep)")
    add("--results", default="", help="folder of the records, tables and curves (default: results in --out); commit "
        "it, and the scan goes on elsewhere")  # fmt: skip
    add("--metrics", default="win_rate", help="figures of the summaries, the first for the console (default: win_rate)")
    add("--curves", default="win_rate", help="columns of metrics.jsonl to draw; empty: none (default: win_rate)")
    add("--baseline", default="", metavar="KEY=V", help="the trial others are compared with (default: the first)")
    add("--share_warm_start", action="store_true", help="clone once for each seed and let its trials begin with that")
    add("--runner", choices=("local", "print", "slurm", "report"), default="local", help="train here, print the "
        "commands, write a SLURM array job, or only bring the tables up to date (default: local)")  # fmt: skip
    add("--jobs", type=int, default=1, help="runs (or SLURM tasks) at a time (default: 1); on a "
        "CPU each takes all cores, unless --cpu_devices after -- says less")  # fmt: skip
    add("--gpus", default="", metavar="0|1,2", help="CUDA_VISIBLE_DEVICES of each job; sets --jobs")
    add("--shard", default="1/1", metavar="I/N", help="do only the I-th of N parts, I from 1 (default: 1/1)")
    add("--retry_failed", action="store_true", help="start failed runs again")
    options, unknown = parser.parse_known_args(arguments[:dash])
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0]
        hint = nearest(name, vars(options), "--")
        raise ConfigError(f"unexpected argument {unknown[0]}{hint}; the trainer's flags stand after --")
    if options.jobs < 1:
        raise ConfigError(f"--jobs={options.jobs} is not allowed: it must be an integer of at least 1")
    return options, arguments[dash + 1 :]


def _names(flag: str, text: str) -> list[str]:
    names = text.split(",") if text else []
    if not all(names) or (flag == "metrics" and not names):
        raise ConfigError(f"--{flag}={text} is not a list of names, for example --{flag}=win_rate,seconds_total")
    return names


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise ConfigError(f"--shard={text} is not of the form I/N with I from 1 to N, for example --shard=1/2")
    return int(index), int(count)


def _gpus(text: str, jobs: int) -> list[str]:
    groups = text.split("|") if text else []
    if not all(groups):
        raise ConfigError(f"--gpus={text} names no device for a job, for example --gpus='0|1' for two jobs")
    if groups and jobs not in (1, len(groups)):
        raise ConfigError(f"--gpus={text} has devices for {len(groups)} jobs, not --jobs={jobs}; leave --jobs out")
    return groups


def _make_folders(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"--out and --results need a folder that can be written, and {folder} cannot ({error.strerror}), for "
                "example --out=runs/my-scan"
            ) from None


def _print_commands(mine: Sequence[runs.Run], records: runs.Records) -> None:
    for line in runners.commands(mine, records):
        print(line)
    print("When they are done, the same flags with --runner=report write the tables.", file=sys.stderr)


def _lay_out_slurm(arguments: list[str], out: Path, groups: int, options: argparse.Namespace) -> int:
    if options.shard != "1/1":
        raise ConfigError("--shard with --runner=slurm is not possible: each task of the array is a shard")
    dash = arguments.index("--") if "--" in arguments else len(arguments)
    kept = _without(arguments[:dash], "--runner", "--jobs") + arguments[dash:]
    script = runners.write_slurm(out, kept, groups, options.jobs)
    _say(f"{groups} tasks, {options.jobs} at a time; start them with: sbatch {script}")
    _say("partition, time and devices go before the script's name; then --runner=report writes the tables")
    return exit_codes.DONE


def _without(arguments: Sequence[str], *names: str) -> list[str]:
    """The arguments without the named flags, in either of their two forms."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument.partition("=")[0] not in names:
            kept.append(argument)
        skip = not skip and argument in names
    return kept


def _exit_code(mine: Sequence[runs.Run], records: runs.Records) -> int:
    statuses = {records.status(run) for run in mine}
    if runs.PENDING in statuses:
        return exit_codes.PREEMPTED
    return SOME_FAILED if runs.FAILED in statuses else exit_codes.DONE


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
