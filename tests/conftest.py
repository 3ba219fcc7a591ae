"""The test session: eight virtual CPU devices, no network, and a slow tier behind `--all`."""

import functools
import gc
import os

from tests.compiling import FASTER_FLAGS

# Before anything imports jax, which reads these once.
os.environ["JAX_PLATFORMS"] = "cpu"
# The pool of workers must be larger than the devices, see maro_jax/run/devices.py.
os.environ.setdefault("NPROC", "32")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_cpu_collective_call_terminate_timeout_seconds=86400 "
    + FASTER_FLAGS
).strip()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import pytest  # noqa: E402

if TYPE_CHECKING:
    from tests.entry_points import FinishedRun

MOST_MAPPINGS = 20_000
RUNS = "runs"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # What reads the finished run starts first and the other tests of whole runs follow, so that no long file is left
    # for the end.
    root = Path(__file__).parent
    items.sort(key=lambda item: (_group_of(item.path) != RUNS, item.path.parent != root))
    if config.getoption("--all"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@functools.cache
def _group_of(file: Path) -> str:
    """Tests that share programs or a run stay in one process: those of a file, and all that read the finished run."""
    return RUNS if "finished_run" in file.read_text(encoding="utf-8") else str(file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes, a process takes a group at a time."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group_of(config.rootpath / nodeid.split("::")[0])

    return ByGroup(config, log)


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs() -> Iterator[None]:
    """Lets go of compiled programs before they take up all memory mappings (65,530 a process), where XLA aborts."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MOST_MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def program_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests of whole runs keep compiled programs."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def kept_programs(program_folder: Path) -> Iterator[None]:
    """Runs of one shape are compiled once in this module and others that ask for it."""
    from tests.entry_points import compiled_programs_kept

    with compiled_programs_kept(program_folder):
        yield


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, program_folder: Path) -> "FinishedRun":
    """A small run trained to its end; its folder is not to be changed."""
    from tests.entry_points import compiled_programs_kept, finish_run

    with compiled_programs_kept(program_folder):
        return finish_run(tmp_path_factory.mktemp("runs") / "finished")
