"""A scan's tables: `results.md` for people, `results.csv` one row a run, `results.json` with everything."""

from __future__ import annotations

import csv
import io
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.scans import plots, statistics
from launch.scans.grid import Trial
from launch.scans.plan import Contrast
from launch.scans.runs import DONE, FAILED, PENDING, Records, Run
from maro_jax.run.directory import write_json
from maro_jax.run.fields import ConfigError, nearest

TOO_FEW = "n too small"


class Report:
    """What is known of a scan so far."""

    def __init__(
        self,
        runs: Sequence[Run],
        records: Records,
        baseline: Trial,
        metrics: Sequence[str],
        contrasts: Sequence[Contrast] = (),
    ):
        self._runs = list(runs)
        self._trials = {run.trial.id: run.trial for run in runs if run.trial}
        self._baseline = baseline
        self._metrics, self._contrasts = list(metrics), list(contrasts)
        self._folder = records.folder
        self._records = {run.name: records.read(run) or {"status": PENDING} for run in runs}

    def check_metrics(self) -> None:
        """Refuses a figure that no finished run has.

        Raises:
          ConfigError: naming the nearest figure there is.
        """
        known = {
            name
            for record in self._records.values()
            for name, value in record.get("summary", {}).items()
            if _is_number(value)
        }
        for name in self._metrics:
            if known and name not in known:
                raise ConfigError(
                    f"--metrics: no finished run has {name}{nearest(name, known)}; there are {', '.join(sorted(known))}"
                )

    def count(self, status: str) -> int:
        """How many runs are done, failed or pending."""
        return sum(record["status"] == status for record in self._records.values())

    def write(self, curves: Sequence[str]) -> list[str]:
        """Writes the tables, and curves where matplotlib is installed.

        Returns:
          Lines for the console: what was written, or why not.
        """
        figures = {metric: self._figures(metric) for metric in self._metrics}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / "results.json", self._json(figures))
        _write_text(self._folder / "results.csv", self._csv())
        _write_text(self._folder / "results.md", self._markdown(figures))
        return [f"tables: {self._folder / 'results.md'}", *self._draw(curves)]

    def table(self) -> str:
        """The table of the first metric."""
        return self._table(self._metrics[0], self._figures(self._metrics[0]))

    def _figures(self, metric: str) -> dict[str, dict[str, Any]]:
        """Of each trial: its seeds' values, their statistics and the paired differences to the baseline."""
        values = {trial: self._values(trial, metric) for trial in self._trials}
        base = values[self._baseline.id]
        return {
            trial: {
                "seeds": of_seed,
                **statistics.describe(list(of_seed.values())),
                "difference": None if trial == self._baseline.id else statistics.paired(of_seed, base),
            }
            for trial, of_seed in values.items()
        }

    def _judged(self, metric: str) -> list[dict[str, Any]]:
        """The contrasts' figures, with p-values adjusted for their number."""
        values = {trial: self._values(trial, metric) for trial in self._trials}
        found = []
        for each in self._contrasts:
            plus, minus = ([values[trial] for trial in side] for side in (each.plus, each.minus))
            found.append(statistics.contrast(plus, minus, each.seeds))
        adjusted = statistics.holm([of["p"] for of in found])
        return [
            {"name": each.name, **of, "p_holm": p, "margin": each.margin,
             "equivalent": statistics.equivalent(of, each.margin)}
            for each, of, p in zip(self._contrasts, found, adjusted, strict=True)
        ]  # fmt: skip

    def _values(self, trial: str, metric: str) -> dict[int, float]:
        found = {}
        for run in self._of(trial):
            value = self._records[run.name].get("summary", {}).get(metric)
            if _is_number(value):
                found[run.seed] = float(value)
        return found

    def _of(self, trial: str) -> list[Run]:
        return [run for run in self._runs if run.trial and run.trial.id == trial]

    def _status(self, trial: str, status: str) -> int:
        return sum(self._records[run.name]["status"] == status for run in self._of(trial))

    def _json(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "baseline": self._baseline.id,
            "done": self.count(DONE),
            "failed": self.count(FAILED),
            "pending": self.count(PENDING),
            "contrasts": {metric: self._judged(metric) for metric in self._metrics} if self._contrasts else {},
            "trials": {
                trial.id: {
                    "name": trial.name,
                    "swept": dict(trial.swept),
                    "done": self._status(trial.id, DONE),
                    "failed": self._status(trial.id, FAILED),
                    "pending": self._status(trial.id, PENDING),
                    "metrics": {metric: figures[metric][trial.id] for metric in self._metrics},
                }
                for trial in self._trials.values()
            },
            "runs": [
                {"run": run.name, "status": record["status"], "exit_code": record.get("exit_code", 0),
                 "reason": record.get("reason", ""), "flags": _shown(run)}
                for run, record in ((run, self._records[run.name]) for run in self._runs)
            ],
        }  # fmt: skip

    def _csv(self) -> str:
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        swept = list(self._baseline.swept)
        named = any(trial.name for trial in self._trials.values())
        writer.writerow(["trial", *["name"] * named, *swept, "seed", "status", "exit_code", *self._metrics])
        for run in self._runs:
            record = self._records[run.name]
            summary = record.get("summary", {})
            cells = [run.trial.swept[name] for name in swept] if run.trial else []
            code = {DONE: 0, FAILED: record.get("exit_code"), PENDING: ""}[record["status"]]
            figures = [summary.get(name, "") for name in self._metrics]
            who = [run.trial.id, *[run.trial.name] * named] if run.trial else [""] * (1 + named)
            writer.writerow([*who, *cells, run.seed, record["status"], code, *figures])
        return file.getvalue()

    def _markdown(self, figures: Mapping[str, Any]) -> str:
        done, failed, pending = (self.count(status) for status in (DONE, FAILED, PENDING))
        lines = [
            "# Results",
            "",
            f"{done} of {len(self._runs)} runs are done, {failed} failed, {pending} are still to be done. Baseline: "
            f"{_cell(self._baseline.label)}.",
            "",
        ]
        for metric in self._metrics:
            lines += [f"## {_cell(metric)}", "", self._table(metric, figures[metric]), ""]
            if self._contrasts:
                lines += [*self._contrast_table(metric), ""]
        lines += [
            "n: seeds; IQM: mean without the lowest and highest quarter of the seeds. Intervals: 95 % over seeds, by "
            f"percentile bootstrap of the mean ({statistics.RESAMPLES:,} resamples), too narrow for few seeds, and "
            "Student's. Differences are seed by seed, on the seeds that both trials have.",
            "",
        ]
        if failed:
            lines += ["## Failed", "", "Means leave these out, which may flatter their trials.", ""]
            lines += [line for run in self._runs for line in self._failure(run)]
        made_by = [record.get("made_by", {}).get("commit") for record in self._records.values()]
        commits = {commit for commit in made_by if commit}
        if len(commits) > 1:
            lines += [f"Runs were made by {len(commits)} commits: {', '.join(sorted(commits))}.", ""]
        return "\n".join(lines)

    def _failure(self, run: Run) -> list[str]:
        record = self._records[run.name]
        if record["status"] != FAILED:
            return []
        command = shlex.join(["python", "-m", "maro_jax.train", *_shown(run)])
        return [
            f"- {_cell(run.label)}: exit code {record['exit_code']}, {_cell(record['reason'])}",
            "",
            f"      {command}",
            "",
        ]

    def _table(self, metric: str, figures: Mapping[str, Any]) -> str:
        headers = [
            "trial", "n", "failed", "pending", "mean", "IQM", "bootstrap", "Student", "difference", "bootstrap",
            "Student", "pairs",
        ]  # fmt: skip
        lines = [_row(headers), _row(["---"] * len(headers))]
        for trial in self._trials.values():
            of = figures[trial.id]
            counts = [str(self._status(trial.id, status)) for status in (FAILED, PENDING)]
            difference = of["difference"]
            compared = ["baseline", "", "", ""]
            if difference is not None:
                compared = [
                    _number(difference["mean"], "+"), _interval(difference, "mean_95", "+"),
                    _interval(difference, "student_95", "+"), str(difference["n"]),
                ]  # fmt: skip
            cells = [
                _cell(trial.label), str(of["n"]), *counts, _number(of["mean"]), _number(of["iqm"]),
                _interval(of, "mean_95"), _interval(of, "student_95"), *compared,
            ]  # fmt: skip
            lines.append(_row(cells))
        return "\n".join(lines)

    def _contrast_table(self, metric: str) -> list[str]:
        """Differences that were named before anything was run."""
        headers = ["contrast", "pairs", "difference", "Student", "p", "p, Holm", "no difference?"]
        lines = [_row(headers), _row(["---"] * len(headers))]
        for of in self._judged(metric):
            same = {None: "", True: f"yes, within {of['margin']}", False: "not shown"}[of["equivalent"]]
            lines.append(_row([
                _cell(of["name"]), str(of["n"]), _number(of["mean"], "+"), _interval(of, "student_95", "+"),
                _number(of["p"]), _number(of["p_holm"]), same,
            ]))  # fmt: skip
        return [
            *lines,
            "",
            "Contrasts are those that the plan names: means over their trials, seed by seed, with Student's test, "
            f"and Holm's correction for the {len(self._contrasts)} of them. That there is no difference is said from "
            f"{statistics.MIN_FOR_EQUIVALENCE} seeds on, if the 90 % interval lies within the margin.",
        ]

    def _draw(self, curves: Sequence[str]) -> list[str]:
        if curves and not plots.available():
            return ["curves: skipped, as matplotlib is not installed (pip install 'maro-jax[plots]' brings it)"]
        lines = []
        for name in curves:
            bands = {trial.label: statistics.band(self._curves(trial.id, name)) for trial in self._trials.values()}
            if not any(bands.values()):
                lines.append(f"curves: no finished run has {name} in its metrics.jsonl")
                continue
            path = self._folder / f"curve-{name.replace('/', '-')}.png"
            plots.draw_curves(path, name, bands)
            lines.append(f"curves: {path}")
        return lines

    def _curves(self, trial: str, name: str) -> list[dict[int, float]]:
        recorded = [self._records[run.name].get("curves", {}).get(name) for run in self._of(trial)]
        return [{int(step): float(value) for step, value in curve} for curve in recorded if curve]


def _shown(run: Run) -> list[str]:
    """The trainer's flags with paths as seen from here, so that tables do not depend on where the repository lies."""
    return [flag.replace(f"={Path.cwd()}{os.sep}", "=") for flag in run.flags]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else format(value, f"{sign}.4g")


def _interval(figures: Mapping[str, Any], name: str, sign: str = "") -> str:
    if figures[name] is None:
        return TOO_FEW
    low, high = figures[name]
    return f"{_number(low, sign)} to {_number(high, sign)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Text that cannot end a table's cell or begin a tag, whatever a trainer printed."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.replace(path)
