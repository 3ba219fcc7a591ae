"""What is between two models, item by item, against scipy and the harness's own aggregation."""

import math

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is an extra: pip install 'maro-jax[harness]'")

from lm_eval.api.metrics import mean, weighted_perplexity  # noqa: E402

from maro_jax.harness.loading import load_tasks  # noqa: E402
from maro_jax.harness.report import compare, mean_difference, resampled_difference, rows_of  # noqa: E402
from tests.harness.material import write_tasks  # noqa: E402


def test_the_interval_of_a_mean_is_that_of_a_paired_t_test():
    random = np.random.default_rng(0)
    ours, others = random.random(12), random.random(12)
    expected = stats.ttest_rel(ours, others).confidence_interval(0.95)
    found = mean_difference(ours - others)
    np.testing.assert_allclose((found.low, found.high), (expected.low, expected.high))
    assert math.isclose(found.value, ours.mean() - others.mean())
    assert math.isnan(mean_difference(np.ones(1)).low)


def test_the_bootstrap_agrees_with_the_closed_form_where_there_is_one():
    random = np.random.default_rng(1)
    ours, others = random.normal(size=200), random.normal(size=200)
    exact = mean_difference(ours - others)
    found = resampled_difference(mean, list(ours), list(others))
    assert found.value == pytest.approx(exact.value)
    assert found.stderr == pytest.approx(exact.stderr, rel=0.15)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.06)


def _results(tasks, scores):
    """What the harness returns, for the scores of each task's items."""
    accuracies = {
        name: {"acc,none": float(np.mean(values)), "sample_len": len(values)} for name, values in scores.items()
    }
    for name, values in scores.items():
        accuracies[name]["acc_stderr,none"] = float(np.std(values, ddof=1) / math.sqrt(len(values)))
    accuracies |= {name: group.aggregate(accuracies) for name, group in tasks.groups.items()}
    samples = {
        name: [{"doc_id": item, "filter": "none", "acc": value} for item, value in enumerate(values)]
        for name, values in scores.items()
    }
    better = {name: {"acc": True} for name in accuracies}
    return {"results": accuracies, "samples": samples, "higher_is_better": better}


def test_tasks_and_their_group_side_by_side(tmp_path):
    write_tasks(tmp_path)
    tasks = load_tasks(["small_group"], tasks_path=str(tmp_path / "tasks"), tasks_data=str(tmp_path))
    ours = {"small_choice": [1, 1, 0, 1, 1, 0, 1, 1], "small_letter": [0, 1]}
    others = {"small_choice": [1, 0, 0, 1, 0, 0, 1, 0], "small_letter": [0, 1]}
    results = [_results(tasks, scores) for scores in (ours, others)]
    report = compare(tasks, results, ["policy", "base"])
    assert list(report) == ["small_choice", "small_letter", "small_group"]
    choice = report["small_choice"]["acc,none"]
    assert (choice["policy"]["score"], choice["base"]["score"], choice["items"]) == (0.75, 0.375, 8)
    differences = np.subtract(ours["small_choice"], others["small_choice"])
    half = stats.t.ppf(0.975, 7) * differences.std(ddof=1) / math.sqrt(8)
    assert choice["difference"]["value"] == pytest.approx(0.375)
    assert (choice["difference"]["low"], choice["difference"]["high"]) == pytest.approx((0.375 - half, 0.375 + half))
    assert choice["per_item"] == {
        "doc": list(range(8)), "policy": ours["small_choice"], "base": others["small_choice"],
    }  # fmt: skip
    even = report["small_letter"]["acc,none"]["difference"]
    assert (even["value"], even["low"], even["high"]) == (0, 0, 0)
    group = report["small_group"]["acc,none"]
    assert group["policy"]["score"] == pytest.approx(0.7) and group["base"]["score"] == pytest.approx(0.4)
    assert group["difference"]["value"] == pytest.approx(0.3)  # weighted by size: 8 and 2 items
    # The harness pools variances: within tasks, without what is between them.
    pooled = math.sqrt(7 * differences.var(ddof=1) / (10 - 2) / 10)
    assert group["difference"]["stderr"] == pytest.approx(pooled)

    headers, rows = rows_of(report, ["policy", "base"])
    assert headers[-2:] == ["difference", "95 % interval"] and len(rows) == 3
    assert rows[0][:4] == ["small_choice", "acc", "8", "0.7500"] and rows[0][-2] == "+0.3750"
    alone = compare(tasks, results[:1], ["policy"])
    assert "difference" not in alone["small_choice"]["acc,none"] and len(rows_of(alone, ["policy"])[1][0]) == 5


def test_what_is_no_mean_is_resampled_with_its_items_paired():
    # Log-likelihood and words of each text: the same shift of all texts leaves no doubt about its sign.
    others = [(-30.0 - item, 10 + item) for item in range(20)]
    ours = [(log_prob + words * 0.1, words) for log_prob, words in others]
    found = resampled_difference(weighted_perplexity, ours, others)
    expected = weighted_perplexity(ours) - weighted_perplexity(others)
    assert found.value == pytest.approx(expected) and found.low < expected < found.high < 0
    assert found.high - found.low < 0.5
