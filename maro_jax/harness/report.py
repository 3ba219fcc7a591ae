"""Scores of trained weights beside those they began with, and what is between them, item by item."""

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval import simple_evaluate
from lm_eval.api.metrics import mean
from lm_eval.utils import simple_parse_args_string
from scipy import stats

from maro_jax.harness.loading import Tasks
from maro_jax.harness.model import PolicyLM
from maro_jax.policy.config import ModelError

RESAMPLES = 1000  # for standard errors of what is no mean over items
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Difference:
    """A score less another, with its interval over items.

    Attributes:
        value: the difference.
        stderr: its standard error; NaN for a single item.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    value: float
    stderr: float
    low: float
    high: float


def run_tasks(
    lm: PolicyLM,
    tasks: Tasks,
    *,
    num_fewshot: int | None,
    limit: int | None,
    apply_chat_template: bool,
    gen_kwargs: str,
) -> dict[str, Any]:
    """Returns the harness's results of one model.

    Args:
        lm: the model.
        tasks: what it is asked.
        num_fewshot: examples before each question; `None`: as many as each task says.
        limit: the first so many items of each task; `None`: all.
        apply_chat_template: whether questions are turns of a chat.
        gen_kwargs: settings of replies in place of the tasks' own, as name=value,name=value.

    Raises:
        ModelError: a task asks for what the model does not do.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    os.environ["DISABLE_MULTIPROC"] = "1"  # the harness would fork this process, in which JAX has threads
    if apply_chat_template and not lm.tokenizer.chat_template:
        raise ModelError(f"{lm.model.name} has no chat template; leave --apply_chat_template out")
    for task in tasks.tasks.values():  # now, not when its turn comes after hours
        if task.OUTPUT_TYPE == "generate_until":
            lm.reply_settings({**task.config.generation_kwargs, **simple_parse_args_string(gen_kwargs)})
    try:
        results = simple_evaluate(
            model=lm,
            tasks=list(tasks.chosen),
            task_manager=tasks.manager,
            num_fewshot=num_fewshot,
            limit=limit,
            apply_chat_template=apply_chat_template,
            gen_kwargs=gen_kwargs or None,
            bootstrap_iters=RESAMPLES,
            batch_size=lm.batch_size,
        )
    except ValueError as error:
        if "larger than population" not in str(error):
            raise
        raise ModelError("a task has fewer examples than are to stand before a question; lower --num_fewshot") from None
    assert results is not None  # only processes other than the first get nothing
    return results


def compare(tasks: Tasks, results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Puts the results of a model, and of the one it is compared with, side by side.

    Args:
        tasks: what both were asked.
        results: of `run_tasks`, one or two.
        names: what they are called in the answer.

    Returns:
        For each task and group, and each metric as the harness names it (`acc,none`): how many items there were,
        whether more is better, the score and standard error of each model; with two models the first less the second
        and, for tasks, each item's values.
    """
    report: dict[str, Any] = {}
    differences: dict[str, dict[str, Any]] = {}
    for name in [*tasks.tasks, *tasks.groups]:
        found = results[0]["results"][name]
        metrics = [key for key in found if "," in key and "_stderr," not in key]
        if name in tasks.tasks:
            pairs = {key: _paired(results, name, key) for key in metrics} if len(results) == 2 else {}
            between = {key: _difference(tasks.tasks[name], key, pair) for key, pair in pairs.items()}
        else:
            pairs = {}
            between = _of_group(tasks.groups[name].aggregate(differences), metrics) if len(results) == 2 else {}
        differences[name] = {"sample_len": found.get("sample_len", 0)}
        for key, difference in between.items():
            stderr = "N/A" if math.isnan(difference.stderr) else difference.stderr
            differences[name] |= {key: difference.value, _stderr(key): stderr}
        report[name] = {
            key: {
                "items": found.get("sample_len"),
                "higher_is_better": results[0]["higher_is_better"].get(name, {}).get(key.partition(",")[0]),
                **{
                    each: {"score": result["results"][name][key], "stderr": _number(result["results"][name], key)}
                    for each, result in zip(names, results, strict=True)
                },
                **({"difference": dataclasses.asdict(between[key])} if key in between else {}),
                **({"per_item": dict(zip(("doc", *names), pairs[key], strict=True))} if key in pairs else {}),
            }
            for key in metrics
        }
    return report


def _stderr(key: str) -> str:
    """The harness's key of a metric's standard error: `acc_stderr,none` of `acc,none`."""
    metric, _, kind = key.partition(",")
    return f"{metric}_stderr,{kind}"


def _number(results: Mapping[str, Any], key: str) -> float | None:
    """A metric's standard error, where it has one."""
    value = results.get(_stderr(key))
    return value if isinstance(value, (int, float)) else None


def _paired(results: Sequence[Mapping[str, Any]], task: str, key: str) -> tuple[list[int], list[Any], list[Any]]:
    """The items with a value of a metric, and their values of both models."""
    metric, _, kind = key.partition(",")
    values = [
        {item["doc_id"]: item[metric] for item in result["samples"][task] if item["filter"] == kind and metric in item}
        for result in results
    ]
    items = sorted(values[0].keys() & values[1].keys())
    return items, [values[0][item] for item in items], [values[1][item] for item in items]


def _difference(task: Any, key: str, pair: tuple[list[int], list[Any], list[Any]]) -> Difference:
    """The difference of a task's metric between two models that were asked the same."""
    _, ours, others = pair
    aggregate = task.aggregation().get(key.partition(",")[0], mean)
    if aggregate is mean:
        return mean_difference(np.asarray(ours, float) - np.asarray(others, float))
    return resampled_difference(aggregate, ours, others)


def mean_difference(differences: np.ndarray) -> Difference:
    """The mean of differences `[n]` of items, with Student's interval."""
    count, value = len(differences), float(differences.mean())
    if count < 2:
        return Difference(value, math.nan, math.nan, math.nan)
    stderr = float(differences.std(ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * stderr
    return Difference(value, stderr, value - half, value + half)


def resampled_difference(
    aggregate: Callable[[Sequence[Any]], float], ours: Sequence[Any], others: Sequence[Any]
) -> Difference:
    """The difference of what is computed from all items, with the interval of a bootstrap over items.

    Args:
        aggregate: from items' values to the score.
        ours: the items' values of one model.
        others: those of the other, in the same order.
    """

    def between(chosen: np.ndarray) -> float:
        return aggregate([ours[item] for item in chosen]) - aggregate([others[item] for item in chosen])

    count = len(ours)
    value = between(np.arange(count))
    if count < 2:
        return Difference(value, math.nan, math.nan, math.nan)
    random = np.random.default_rng(0)
    resampled = np.array([between(random.integers(count, size=count)) for _ in range(RESAMPLES)])
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(value, float(resampled.std(ddof=1)), float(low), float(high))


def _of_group(aggregated: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Difference]:
    """Differences of a group, which the harness computed from its tasks' as it does for scores."""
    found = {}
    for key in metrics:
        value, stderr = aggregated[key], _number(aggregated, key)
        error = math.nan if stderr is None else float(stderr)
        half = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
        found[key] = Difference(value, error, value - half, value + half)
    return found


def rows_of(report: Mapping[str, Any], names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Returns the headers and rows of a table for people, of a report with the models `names`."""
    headers = ["task", "metric", "items"]
    for name in names:
        headers += [name, "stderr"]
    headers += ["difference", "95 % interval"] if len(names) == 2 else []
    rows = []
    for task, metrics in report.items():
        for key, found in metrics.items():
            metric, _, kind = key.partition(",")
            row = [task, metric if kind == "none" else f"{metric} ({kind})", str(found["items"])]
            for name in names:
                row += [_text(found[name]["score"]), _text(found[name]["stderr"])]
            if len(names) == 2:
                between = found["difference"]
                interval = f"{between['low']:+.4f} to {between['high']:+.4f}"
                row += [f"{between['value']:+.4f}", "-" if math.isnan(between["low"]) else interval]
            rows.append(row)
    return headers, rows


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
