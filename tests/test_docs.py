"""The pages whose code is promised to run."""

import re
from pathlib import Path
from typing import Any

import jax
import pytest

from games.players.scripted import HEURISTIC
from games.registry import GAMES
from tests.entry_points import small_config, train_quietly

PAGE = Path(__file__).resolve().parents[1] / "docs" / "adding-a-game.md"


@pytest.fixture
def quick_compilation():
    """For programs that are run a few times only."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.usefixtures("quick_compilation")
def test_the_game_of_the_page_conforms_and_is_trained(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 3 and sum(bool(line.strip()) for line in blocks[0].splitlines()) <= 75
    page: dict[str, Any] = {"__name__": "page"}
    try:
        for number, block in enumerate(blocks):
            exec(compile(block, f"{PAGE.name}, block {number}", "exec"), page)  # noqa: S102
        assert GAMES["sharing-v0"] is page["Sharing"]
        summary, _ = train_quietly(small_config(tmp_path / "run", games="sharing-v0"))
    finally:
        GAMES.pop("sharing-v0", None)
        HEURISTIC.pop("sharing-v0", None)
    assert 0 <= summary["win_rate"] <= 1
