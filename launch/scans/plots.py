"""Curves over training with bands, as PNG; needs matplotlib, the extra `plots`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

Band = Sequence[tuple[int, float, float | None, float | None]]


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_curves(path: Path, name: str, bands: Mapping[str, Band]) -> None:
    """Draws the mean of each trial, and its interval where there is one.

    Args:
      path: PNG file to write.
      name: of the figure, for the vertical axis.
      bands: of each trial: step, mean, and the ends of its interval.
    """
    from matplotlib.figure import Figure  # without pyplot, which looks for a screen

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for label, band in bands.items():
        if not band:
            continue
        steps = [row[0] for row in band]
        (line,) = axes.plot(steps, [row[1] for row in band], label=_plain(label), marker=".")
        lows = [row[2] for row in band if row[2] is not None]
        highs = [row[3] for row in band if row[3] is not None]
        if len(lows) == len(steps):
            axes.fill_between(steps, lows, highs, alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set_xlabel("iteration")
    axes.set_ylabel(_plain(name))
    axes.set_title("mean over seeds; bands: 95 % bootstrap, from three seeds on", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="png")
    part.replace(path)


def _plain(text: str) -> str:
    """Text in which a dollar sign begins no formula."""
    return text.replace("$", r"\$")
