"""A run's metrics as charts for the replay page: small multiples, each line with its band.

A rate that a match has measured carries its 95 % interval. Around anything else lies what the neighbouring iterations
show: their mean, and the middle 80 % of them as a band.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from maro_jax.run.matches import FINAL_MATCHES
from maro_jax.run.replay_packing import plain

MOST_POINTS = 200  # of a line; more could not be told apart on a page
LEAST_FOR_A_BAND = 8  # iterations
WINDOW = (5, 101)  # iterations that a band looks at: a tenth of them, within these bounds

# Section, title, and the families of metrics that share the chart (a family is a name up to its first slash).
CHARTS: Sequence[tuple[str, str, tuple[str, ...]]] = (
    ("Play", "Win rate against the warm start", ("win_rate",)),
    ("Play", "Win rate against past selves", ("opponent_win_rate", "pool_least_win_rate")),
    ("Play", "Win rate by side, the learner in every seat", ("mirror_win_rate",)),
    ("Play", "How it is played", ("play",)),
    ("Play", "Decisions a game", ("decisions_per_game",)),
    ("Play", "Share of games cut off", ("truncated", "overflowed")),
    ("Learning", "Loss", ("loss",)),
    ("Learning", "Entropy of sampled tokens, nats", ("entropy",)),
    ("Learning", "KL to the policy that played, nats a behaviour", ("kl",)),
    ("Learning", "Negative log-probability of a behaviour, nats", ("negative_log_prob",)),
    ("Learning", "Norm of the gradient", ("grad_norm",)),
    ("Learning", "Learning rate", ("learning_rate",)),
    ("Learning", "Optimizer steps skipped", ("skipped",)),
    ("Credit", "Mean return", ("mean_return",)),
    ("Credit", "Mean advantage", ("mean_advantage",)),
    ("Credit", "Behaviours learnt from", ("behaviours",)),
    ("Credit", "Share of the outcome's variance explained", ("value_explained",)),
    ("Credit", "Share of the sampled tokens that forks took", ("forked_share",)),
    ("Speed", "Games a second", ("games_per_second",)),
    ("Speed", "Tokens sampled and learnt a second", ("sampled_tokens_per_second", "learner_tokens_per_second")),
    ("Speed", "Seconds of an iteration", ("seconds", "rollout_seconds", "fork_seconds", "learner_seconds")),
    ("Speed", "Use of the machine", ("lane_occupancy", "mfu", "rollout_of_floor")),
)
CLONING = ("loss", "negative_log_prob", "entropy", "grad_norm")  # families worth a look in the warm start
RATES = ("win_rate", "opponent_win_rate", "mirror_win_rate")  # families with one half as their middle
SAYING_ZERO = (*RATES, "play")  # families of which 0 is a result; elsewhere a line of zeros is a role nobody has, say
INTERVAL = ("_low", "_high")  # ends of the names of an interval's bounds


def charts(rows: Sequence[Mapping[str, Any]], warm_iterations: int) -> list[dict[str, Any]]:
    """Lays a run's metrics out as sections of charts.

    Args:
      rows: of `metrics.jsonl`, in the order of their steps.
      warm_iterations: steps of cloning before self-play; their learning is shown apart.

    Returns:
      Sections `{title, charts}`; a chart is `{title, reference, lines}`, a line `{name, x, y, mean, low, high, band}`.
      A chart that was never anything but 0 is left out, and a line that was, unless it is a rate. `mean`, `low` and
      `high` are None for a line without a band, `mean` is None where the band is an interval.
    """
    playing = [row for row in rows if row["step"] > warm_iterations]
    cloning = [row for row in rows if row["step"] <= warm_iterations]
    named = [name for _, _, names in CHARTS for name in names]
    keys = list(dict.fromkeys(key for row in playing for key in row if key != "step"))
    sections: dict[str, list[dict[str, Any]]] = {}
    for section, title, names in CHARTS:
        for game in _games(keys):
            sections.setdefault(section, []).extend(_chart(title, game, names, keys, playing))
    titles = {names[0]: title for _, title, names in CHARTS}
    cloned = list(dict.fromkeys(key for row in cloning for key in row))
    sections["Cloning, before self-play"] = [
        chart for name in CLONING for chart in _chart(titles[name], "", (name,), cloned, cloning)
    ]
    others = dict.fromkeys(_split(key)[1] for key in keys if not key.endswith(INTERVAL))
    sections["Everything else"] = [
        chart
        for name in others
        if name not in named
        for game in _games(keys)
        for chart in _chart(name.replace("_", " "), game, (name,), keys, playing)
    ]
    return [{"title": title, "charts": drawn} for title, drawn in sections.items() if drawn]


def final_results(matches: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The final matches played so far.

    Args:
      matches: entries by game, as in a run's `matches.json`.

    Returns:
      For each match its `game`, `title`, number of `games` and `rates`: of the whole and of each side, with `name`,
      `mean`, `low` and `high`.
    """
    return [
        {
            "game": game,
            "title": title,
            "games": entries[f"{name}_games"],
            "rates": [
                _rate("both sides", entries[name], entries[f"{name}_low"], entries[f"{name}_high"]),
                *(_rate(f"as {side}", of["mean"], of["low"], of["high"]) for side, of in _sides(entries, name)),
            ],
        }
        for game, entries in matches.items()
        for name, (title, _, _) in FINAL_MATCHES.items()
        if name in entries
    ]


def _sides(entries: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
    sides = entries.get(f"{name}_sides", {})
    return list(sides.items()) if len(sides) > 1 else []


def _rate(name: str, mean: Any, low: Any, high: Any) -> dict[str, Any]:
    return {"name": name, "mean": plain(mean), "low": plain(low), "high": plain(high)}


def _split(key: str) -> tuple[str, str, str]:
    """Game ("" if none is named), family and the rest of a metric's name."""
    match = re.fullmatch(r"(?:(\w+-v\d+)/)?([^/]+)(?:/(.+))?", key)
    return (match[1] or "", match[2], match[3] or "") if match else ("", key, "")


def _games(keys: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(["", *(_split(key)[0] for key in keys)]))


def _chart(
    title: str, game: str, families: Sequence[str], keys: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The chart of some families of a game's metrics; none if they say nothing."""
    found = [key for key in keys if _split(key)[0] == game and _split(key)[1] in families]
    said = [key for key in found if any(row.get(key) for row in rows)]
    if not said:
        return []
    lines = []
    for key in found if families[0] in SAYING_ZERO else said:
        _, family, part = _split(key)
        name = part or (family if len(families) > 1 else "all")
        lines += _line(name.replace("_", " "), key, rows)
    reference = 0.5 if families[0] in RATES else None
    return [{"title": f"{title}: {game}" if game else title, "reference": reference, "lines": lines}]


def _line(name: str, key: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    points = [row for row in rows if _is_number(row.get(key))]
    if not points:
        return []
    values = [float(row[key]) for row in points]
    chosen = _spread(len(points), MOST_POINTS)
    line = {"name": name, "x": [points[at]["step"] for at in chosen], "y": [plain(values[at]) for at in chosen]}
    low, high = (key + end for end in INTERVAL)
    if all(_is_number(row.get(low)) and _is_number(row.get(high)) for row in points):
        bounds = {"low": [plain(points[at][low]) for at in chosen], "high": [plain(points[at][high]) for at in chosen]}
        return [line | {"mean": None, **bounds, "band": "95 % interval"}]
    if len(points) < LEAST_FOR_A_BAND:
        return [line | {"mean": None, "low": None, "high": None, "band": None}]
    width = window(len(points))
    around = [_around(values, at, width) for at in chosen]
    mean, low_end, high_end = ([plain(part) for part in parts] for parts in zip(*around, strict=True))
    band = f"mean and middle 80 % of {width} neighbours"
    return [line | {"mean": mean, "low": low_end, "high": high_end, "band": band}]


def window(count: int) -> int:
    """How many neighbouring iterations of `count` a band looks at; an odd number."""
    return min(max(count // 10 | 1, WINDOW[0]), WINDOW[1])


def _around(values: Sequence[float], at: int, width: int) -> tuple[float, float, float]:
    """Mean, 10 % and 90 % quantile of the values around a place; fewer of them at the ends."""
    near = values[max(0, at - width // 2) : at + width // 2 + 1]
    tenths = statistics.quantiles(near, n=10, method="inclusive")
    return statistics.fmean(near), tenths[0], tenths[-1]


def _spread(count: int, most: int) -> list[int]:
    """At most `most` places among `count`, evenly, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
