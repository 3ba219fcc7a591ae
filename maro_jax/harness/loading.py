"""Weights and tasks for lm-evaluation-harness, from local folders."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import jax
from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from maro_jax.harness.model import LoadedModel
from maro_jax.policy.config import ModelError
from maro_jax.policy.hf_folder import load_model, open_model, read_config
from maro_jax.policy.lora import Adapted, lora_of
from maro_jax.policy.models import newest_params, usual_dtype
from maro_jax.policy.tokenizer import TextTokenizer
from maro_jax.run.directory import recorded_config
from maro_jax.run.fields import ConfigError, nearest

SHIPPED = Path(__file__).with_name("tasks")
# What generation_config.json may hold without any effect on what a reply is.
_WITHOUT_EFFECT = (
    *("bos_token_id", "pad_token_id", "max_length", "max_new_tokens", "do_sample", "use_cache", "eos_token_id"),
    *("temperature", "top_k", "top_p", "repetition_penalty", "transformers_version"),
)


def load_weights(name: str, folder: str, *, run: str | None = None, precision: str = "default") -> LoadedModel:
    """Reads a model, or what a run has made of it.

    Args:
        name: what people call it.
        folder: of the model, or of that which the run began with.
        run: folder of the run; `None`: the model as it is.
        precision: of matrix products.

    Raises:
        ModelError: the folder or the run cannot be used, or the model reads the games' words only.
        ConfigError: the run is of another model.
    """
    dtype = usual_dtype()
    policy, tokenizer = open_model(folder, dtype=dtype, precision=precision)
    _refuse_game_words(folder, tokenizer)
    lora = lora_of(recorded_config(Path(run).expanduser()) or {}) if run else None
    if run is None or lora:
        params = load_model(folder, dtype=dtype, precision=precision)[1]
    if run is not None:
        trained = dataclasses.replace(policy, lora=lora)
        newest = newest_params(run, trained, jax.devices()[0])[0]
        params = trained.merged(Adapted(params, newest)) if lora else newest
    generation = _generation_settings(Path(folder).expanduser())
    return LoadedModel(name, policy, policy.for_computing(params), tokenizer.pretrained, generation)


def _refuse_game_words(folder: str, tokenizer: TextTokenizer) -> None:
    """Raises `ModelError` for the vocabulary of the tiny model."""
    if tokenizer.family == "tiny":
        raise ModelError(
            f"{folder} has the tiny model's vocabulary, the words of the games and single ASCII characters, and would "
            "read a question mark for any other; tasks outside of the games need a model such as Qwen2.5-0.5B-Instruct"
        )


def _generation_settings(folder: Path) -> dict[str, Any]:
    """Returns a model's generation_config.json, or without it what its config.json says of replies.

    Raises:
        ModelError: it is no JSON object, or asks for something that is not computed.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return {"eos_token_id": read_config(folder).get("eos_token_id")}
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(contents, dict):
        raise ModelError(f"{path}: the file must hold a JSON object")
    for key, value in contents.items():
        if key not in _WITHOUT_EFFECT and not key.startswith("_") and value not in (None, False, 0, 1, 1.0, [], {}):
            raise ModelError(f"{path} asks for {key}={value!r}, which is not computed; take it out to go on without")
    return contents


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Tasks with their data.

    Attributes:
        manager: that found them.
        chosen: those asked for, each a task or a group of them.
    """

    manager: TaskManager
    chosen: Sequence[Task | Group]

    @property
    def groups(self) -> dict[str, Group]:
        """All groups and their subgroups, those inside first."""
        found: dict[str, Group] = {}

        def visit(item: Task | Group) -> None:
            if isinstance(item, Group):
                for child in item:
                    visit(child)
                found[item.name] = item

        for item in self.chosen:
            visit(item)
        return found

    @property
    def without_examples(self) -> list[str]:
        """Tasks that stand without examples whatever is asked for: the harness keeps to a 0 in their files."""
        return sorted(name for name, task in self.tasks.items() if task.get_config("num_fewshot") == 0)

    @property
    def tasks(self) -> dict[str, Task]:
        """All tasks, those of the groups too."""
        found: dict[str, Task] = {}
        for item in self.chosen:
            for task in item.get_all_tasks() if isinstance(item, Group) else [item]:
                found[task.task_name] = task
        return found


def load_tasks(names: Sequence[str], *, tasks_path: str, tasks_data: str) -> Tasks:
    """Finds tasks by name and reads their data.

    Args:
        names: tasks, groups or tags: shipped with this package, of `tasks_path`, or of the harness.
        tasks_path: folder with further task files in the harness's YAML; empty for none.
        tasks_data: folder with the data: a set `openai/gsm8k` in the folder of that name in it, and what a task file
            names by a relative path.

    Raises:
        ConfigError: there is no such task, or its data are missing.
    """
    folders = (SHIPPED, *([Path(tasks_path).expanduser().resolve()] if tasks_path else []))
    manager = _indexed(folders, include_defaults=False)  # the harness has thousands of files
    if any(name not in manager.task_index for name in names):
        manager = _indexed(folders, include_defaults=True)
    for name in names:
        if name not in manager.task_index:
            raise ConfigError(
                f"--tasks={name} is no task{nearest(name, manager.all_tasks)}; the names are those of "
                "lm-evaluation-harness (lm-eval ls tasks), of this package (docs/evaluation.md) and of the readable "
                "files in --tasks_path"
            )
    if any("ifeval" in name for name in names):
        _refuse_missing_punkt()
    chosen: dict[str, Task | Group] = {}
    with contextlib.chdir(Path(tasks_data).expanduser()):
        for name in names:
            chosen |= _load(manager, name, tasks_data)
    return Tasks(manager, list(chosen.values()))


def _refuse_missing_punkt() -> None:
    """Raises `ConfigError` if NLTK cannot cut texts into sentences, which IFEval would notice after the last reply."""
    if importlib.util.find_spec("nltk") is None:  # which is told of below
        return
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        nltk.download("punkt_tab", quiet=True)
        try:
            nltk.data.find("tokenizers/punkt_tab")
        except LookupError:
            raise ConfigError(
                "the task ifeval needs NLTK's punkt_tab, which cannot be fetched; where there is a network: "
                "python -m nltk.downloader punkt_tab"
            ) from None


@functools.cache
def _indexed(folders: tuple[Path, ...], *, include_defaults: bool) -> TaskManager:
    """Finds the task files of folders once; those that cannot be read are left out."""
    return TaskManager(include_path=list(folders), include_defaults=include_defaults)


def _load(manager: TaskManager, name: str, tasks_data: str) -> dict[str, Task | Group]:
    """Returns the task or group of a name, or the tasks of a tag."""
    try:
        with _cache_for(_files_of(manager, name)):
            loaded = manager.load([name])
    except ModuleNotFoundError as error:
        raise ConfigError(f"the task {name} needs the Python package {error.name}; install it with pip") from error
    except ConfigError:
        raise
    except Exception as error:  # datasets raises a dozen kinds, of its own and of the Hugging Face hub
        wanted = sorted({_source(entry) for entry in _files_of(manager, name)})
        place = Path(tasks_data).expanduser().resolve()
        raise ConfigError(
            f"the data of the task {name} cannot be loaded; put {' and '.join(wanted) or 'them'} into {place} "
            f"(--tasks_data), or see docs/evaluation.md: {_line(error)}"
        ) from error
    found: Mapping[str, Any] = loaded["groups"] if name in loaded.get("groups", {}) else loaded["tasks"]
    return {name: found[name]} if name in found else dict(found)


def _files_of(manager: TaskManager, name: str) -> Iterator[Mapping[str, Any]]:
    """The contents of the task files behind a task, a group or a tag."""
    entry = manager.task_index[name]
    contents = entry.cfg or {}
    members = contents.get("task", sorted(entry.tags))
    if isinstance(members, list):
        for member in members:
            member = member if isinstance(member, str) else member.get("task", member.get("group"))
            if member in manager.task_index:
                yield from _files_of(manager, member)
    else:
        yield contents


@contextlib.contextmanager
def _cache_for(tasks: Iterable[Mapping[str, Any]]) -> Iterator[None]:
    """Lets `datasets` keep what it makes of local copies apart, by the files these are made of.

    By itself it takes two folders of one name for the same data set, and one whose files were replaced for the old one.
    """
    digest = hashlib.sha256()
    folders = {str(task.get("dataset_path")) for task in tasks}
    for folder in sorted(folder for folder in folders if Path(folder).is_dir()):
        for path in sorted(path for path in Path(folder).resolve().rglob("*") if path.is_file()):
            facts = path.stat()
            digest.update(f"{path}\n{facts.st_size}\n{facts.st_mtime_ns}\n".encode())
    usual = datasets.config.HF_DATASETS_CACHE
    if digest.digest() != hashlib.sha256().digest():
        datasets.config.HF_DATASETS_CACHE = Path(usual) / "copies" / digest.hexdigest()[:32]
    try:
        yield
    finally:
        datasets.config.HF_DATASETS_CACHE = usual


def _source(task: Mapping[str, Any]) -> str:
    """What a task reads: files by name, or a copy of a data set."""
    files = (task.get("dataset_kwargs") or {}).get("data_files")
    if files:
        parts = files.values() if isinstance(files, Mapping) else files if isinstance(files, list) else [files]
        return ", ".join(map(str, parts))
    return f"a copy of the data set {task.get('dataset_path')}"


def _line(error: Exception) -> str:
    """The first line of a library's message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(" .:")
