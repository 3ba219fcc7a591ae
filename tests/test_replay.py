"""The replay page as a person asks for it, and what its records hold."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from maro_jax.credit.objective import credit
from maro_jax.league.record import game_records
from maro_jax.league.session import run_session
from maro_jax.league.trainer import PLAY, Trainer
from maro_jax.replay import _main
from maro_jax.run.config import ReplayConfig
from maro_jax.run.directory import read_games
from maro_jax.run.flags import run_cli
from tests.entry_points import small_config

pytestmark = pytest.mark.usefixtures("kept_programs")


def _replay(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run_cli(ReplayConfig, _main, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def _embedded(page):
    found = re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", page.read_text(), re.DOTALL)
    return json.loads(found[1])["games"]


def test_the_page_goes_where_it_is_asked_to_with_the_newest_games(finished_run, tmp_path, capsys):
    folder, _ = finished_run
    output = tmp_path / "games.html"
    code, printed, _ = _replay(capsys, folder, f"--output={output}", "--max_games=5")
    assert (code, printed) == (0, f"{output}\n")
    games = read_games(folder)
    assert len(games) > 5 and _embedded(output) == games[-5:]
    assert {game["iteration"] for game in _embedded(output)} == {4}
    code, _, _ = _replay(capsys, folder, f"--output={output}", "--max_games=0")
    assert code == 0 and _embedded(output) == games


def test_without_a_file_named_it_lies_in_the_run(finished_run, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(finished_run[0], folder)
    (folder / "replay.html").unlink()
    assert _replay(capsys, folder)[:2] == (0, f"{folder / 'replay.html'}\n")
    assert _embedded(folder / "replay.html") == read_games(folder)


def test_a_run_without_games_is_refused(finished_run, tmp_path, capsys):
    shutil.copy(finished_run[0] / "config.json", tmp_path)
    code, printed, errors = _replay(capsys, tmp_path)
    assert (code, printed) == (2, "") and "holds no recorded games so far" in errors
    assert not (tmp_path / "replay.html").exists()
    (tmp_path / "games").mkdir()
    (tmp_path / "games" / "iteration-000001.json").write_text("{")
    code, _, errors = _replay(capsys, tmp_path)
    assert code == 2 and "iteration-000001.json is damaged" in errors and len(errors.splitlines()) == 1


@pytest.fixture(scope="module")
def recorded(finished_run, kept_programs):
    """An iteration's episodes with their credit, and their records."""
    config = small_config("unused")
    arena = run_session(config, mesh_shape=(8, 1, 1)).arena
    ...
