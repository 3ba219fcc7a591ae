"""Colours of the replay page: readable by WCAG 2.2's contrast, and apart for the common kinds of colour vision."""

import itertools
import re
from importlib import resources

import numpy as np
import pytest

STYLE = (resources.files("maro_jax.run.viewer") / "style.css").read_text(encoding="utf-8")
THEMES = ("light", "dark")
# G. M. Machado, M. M. Oliveira, L. A. F. Fernandes (2009), "A physiologically-based model for simulation of color
# vision deficiency", severity 1, for linear RGB.
VISIONS = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _colour(name: str, theme: str) -> np.ndarray:
    """Linear RGB of a colour of the style sheet."""
    [pair] = re.findall(rf"--{name}: light-dark\(#([0-9a-f]{{6}}), #([0-9a-f]{{6}})\);", STYLE)
    code = pair[THEMES.index(theme)]
    part = np.array([int(code[at : at + 2], 16) for at in (0, 2, 4)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def _contrast(one: np.ndarray, other: np.ndarray) -> float:
    low, high = sorted(float(TO_XYZ[1] @ colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def _lab(linear: np.ndarray, vision: str) -> np.ndarray:
    """CIE L*a*b* of a colour as somebody with this vision sees it."""
    seen = np.clip(np.array(VISIONS[vision]) @ linear, 0, 1)
    ratio = TO_XYZ @ seen / TO_XYZ.sum(1)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _distance(one: str, other: str, theme: str, vision: str) -> float:
    return float(np.linalg.norm(_lab(_colour(one, theme), vision) - _lab(_colour(other, theme), vision)))


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_readable(theme):
    words = ["text", "quiet", "accent", "private", *(f"side-{side}" for side in range(4))]
    for name, ground in itertools.product(words, ("page", "card", "private-card")):
        assert _contrast(_colour(name, theme), _colour(ground, theme)) >= 4.5, (name, ground)


@pytest.mark.parametrize("theme", THEMES)
def test_lines_and_poles_stand_out(theme):
    for name in ["plus", "minus", *(f"kind-{kind}" for kind in range(6))]:
        assert _contrast(_colour(name, theme), _colour("card", theme)) >= 3, name


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", THEMES)
def test_poles_of_the_credit_scale_stay_apart(theme, vision):
    assert _distance("plus", "minus", theme, vision) > 50
    for pole in ("plus", "minus"):
        assert _distance(pole, "middle", theme, vision) > 25
    assert _distance("side-0", "side-1", theme, vision) > 10  # shapes tell sides apart as well
