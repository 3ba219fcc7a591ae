"""Notebooks: each is in step with its text twin, sets itself up as the others do, and runs from top to bottom."""

import os
import signal
import threading
import time
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from tests.entry_points import ITERATIONS, SMALL, assert_equal, checkpoint
from tests.policy.hf_fixture import make_model_folder

SMALL_MODEL = {**{name: value for name, value in SMALL.items() if name != "games"}, "iterations": 1, "lora_rank": 2}
SMALL_SCAN = [f"--{name}={value}" for name, value in {"preset": "werewolf-smoke", **SMALL, "games": "kuhn-v0"}.items()]
COLAB = Path(__file__).resolve().parents[1] / "colab"
SHORT = {  # parameters of a short run, and what it must have shown
    "play_and_see": (
        'ANSWER = "1"\nGAMES_AT_ONCE = 64',
        ["turns on average", "Player 6, your choice:  1", "replay: ", "<iframe"],
    ),
    "train_and_watch": (
        f'PRESET = "werewolf-smoke"\nCHANGES = {SMALL!r}',
        ["trained against its warm start", "image/png", "<iframe", "model.safetensors"],
    ),
    "bring_a_model": (
        f'MODEL, GAMES = "model", "kuhn-v0:thought_tokens=4"\nCHANGES = {SMALL_MODEL!r}',
        ["frozen but for an adapter of", "<iframe", "adapter_model.safetensors", "merged/model.safetensors"],
    ),
    "guide_with_a_critic": (
        'GAME = "kuhn-v0:thought_tokens=4"\nEPISODES, STEPS, GAMES, IGNORE_CALIBRATION = 64, 20, 16, True',
        ["gain ", "most likely: ", "rerank", "image/png"],
    ),
    "scan_a_setting": (
        f'GRID, SEEDS = "decompose=none", "0"\nSETTINGS = {SMALL_SCAN!r}',
        ["decompose=none", "image/png", "Results"],
    ),
}
MOST_SECONDS = 1200  # for a cell


def cell_tagged(notebook: nbformat.NotebookNode, tag: str) -> int:
    """The number of the only cell with a tag."""
    [index] = [index for index, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]
    return index


def client_of(notebook: nbformat.NotebookNode, folder: Path) -> NotebookClient:
    return NotebookClient(notebook, timeout=MOST_SECONDS, resources={"metadata": {"path": str(folder)}})


def kernel_environment(folder: Path) -> dict[str, str]:
    return os.environ | {"JAX_PLATFORMS": "cpu", "IPYTHONDIR": str(folder / ".ipython")}


def test_every_notebook_is_known():
    assert {path.stem for path in COLAB.glob("*.py")} == {path.stem for path in COLAB.glob("*.ipynb")} == set(SHORT)


@pytest.mark.parametrize("name", SHORT)
def test_a_notebook_is_its_text_twin_without_outputs(name: str):
    source, notebook = jupytext.read(COLAB / f"{name}.py"), nbformat.read(COLAB / f"{name}.ipynb", as_version=4)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ], f"run: jupytext --to ipynb colab/{name}.py"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert cell_tagged(notebook, "parameters") == 1 and cell_tagged(notebook, "setup") == 2


def test_notebooks_set_themselves_up_alike():
    notebooks = [jupytext.read(COLAB / f"{name}.py") for name in SHORT]
    assert len({notebook.cells[cell_tagged(notebook, "setup")].source for notebook in notebooks}) == 1


# In one process with the readers of `finished_run`, whose programs the training notebook uses too.
@pytest.mark.usefixtures("kept_programs")
@pytest.mark.parametrize("name", [name for name in SHORT if name != "train_and_watch"])
def test_a_notebook_runs(name: str, tmp_path: Path):
    parameters, shown = SHORT[name]
    if name == "bring_a_model":
        make_model_folder(tmp_path / "model", "qwen3", num_layers=1)
    notebook = jupytext.read(COLAB / f"{name}.py")
    notebook.cells.insert(cell_tagged(notebook, "parameters") + 1, nbformat.v4.new_code_cell(parameters))
    client_of(notebook, tmp_path).execute(env=kernel_environment(tmp_path))
    outputs = repr([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    for text in shown:
        assert text in outputs


def _interrupt_once_begun(kernel: int, metrics: Path) -> None:
    """Does to a kernel what a notebook's stop button does, after the run's first iteration."""
    end = time.monotonic() + MOST_SECONDS
    while not (metrics.is_file() and metrics.read_text().count("\n")):
        if time.monotonic() > end:
            return  # the cell then ends without having been stopped, which the test sees
        time.sleep(0.05)
    os.kill(kernel, signal.SIGINT)


@pytest.mark.usefixtures("kept_programs")
def test_the_training_notebook_goes_on_after_its_training_was_stopped(finished_run, tmp_path: Path):
    """Stopping saves and leaves the kernel as it was; the cell run again ends as a run that was never stopped."""
    parameters, shown = SHORT["train_and_watch"]
    notebook = jupytext.read(COLAB / "train_and_watch.py")
    at = cell_tagged(notebook, "parameters") + 1
    notebook.cells.insert(at, nbformat.v4.new_code_cell(f"{parameters}\nimport os\nheld = 'held'; print(os.getpid())"))
    [training] = [index for index, cell in enumerate(notebook.cells) if "train(config)" in cell.source]
    notebook.cells.insert(training, notebook.cells[training].copy())
    notebook.cells.append(nbformat.v4.new_code_cell("held"))
    run, client = tmp_path / "runs/notebook", client_of(notebook, tmp_path)
    with client.setup_kernel(env=kernel_environment(tmp_path)):
        for index, cell in enumerate(notebook.cells):
            if index == training:
                kernel = int(notebook.cells[at].outputs[0]["text"])
                threading.Thread(target=_interrupt_once_begun, args=(kernel, run / "metrics.jsonl")).start()
            client.execute_cell(cell, index)
    outputs = [repr(cell.get("outputs")) for cell in notebook.cells]
    assert "Stopped and saved; run the cell again to go on." in outputs[training]
    assert "resumed after iteration" in outputs[training + 1] and "held" in outputs[-1]
    for text in shown:
        assert text in "".join(outputs[training + 1 :])
    assert_equal(checkpoint(run, ITERATIONS), checkpoint(finished_run.folder, ITERATIONS))
