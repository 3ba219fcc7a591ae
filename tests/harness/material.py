"""Small models, runs of them and tasks of every kind the harness knows, on the spot."""

import json
from pathlib import Path

import jax
import numpy as np

from maro_jax.policy.hf_folder import load_model
from maro_jax.run.checkpoint import Checkpoints

_CHOICE = """
task: small_choice
dataset_path: json
dataset_kwargs: {data_files: {test: small/items.jsonl}}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "{{story}}\\nQuestion: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
num_fewshot: 1
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
_LETTER = """
task: small_letter
dataset_path: json
dataset_kwargs: {data_files: {test: small/items.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}\\nAnswer:"
doc_to_choice: ["A", "B"]
doc_to_target: answer
"""
_REPLY = """
task: small_reply
dataset_path: json
dataset_kwargs: {data_files: {test: small/items.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{story}}\\nQuestion: {{question}}\\nAnswer:"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["o", "zz"], do_sample: false, max_gen_toks: 40}
filter_list:
  - name: letters
    filter:
      - {function: regex, regex_pattern: "([a-z]+)"}
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
_ROLLING = """
task: small_rolling
dataset_path: json
dataset_kwargs: {data_files: {test: small/items.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{story}}"
metric_list:
  - {metric: word_perplexity}
  - {metric: byte_perplexity}
"""
_GROUP = """
group: small_group
task: [small_choice, small_letter]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
"""
TASKS = ("small_choice", "small_letter", "small_reply", "small_rolling")

_STORIES = (
    "Ann puts the key in the drawer and leaves. Ben moves it to the box.",
    "Player 1 votes Player 2. Player 3 says: I am the seer! " * 12,  # more than the length the tests allow
    "Größe, naïve café, 日本語: 17 % of 4,096 is 696.32.",
    "The village wins; the wolf was killed at night.\n\nNobody saw it.  ",
)


def write_tasks(folder: Path) -> None:
    """Writes task files to `folder`/tasks and their items to `folder`/small."""
    (folder / "tasks").mkdir(parents=True)
    for name, text in (("choice", _CHOICE), ("letter", _LETTER), ("reply", _REPLY), ("rolling", _ROLLING)):
        (folder / "tasks" / f"{name}.yaml").write_text(text)
    (folder / "tasks" / "group.yaml").write_text(_GROUP)
    write_items(
        folder / "small" / "items.jsonl",
        [
            {
                "story": _STORIES[number % len(_STORIES)],
                "question": f"Where will number {number} look first?",
                "choices": ["drawer", "in the box, I think"],
                "answer": number % 2,
            }
            for number in range(10)
        ],
    )


def write_items(path: Path, items: list[dict]) -> None:
    """Writes a JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")


def write_run(folder: Path, model: Path) -> Path:
    """Writes a run that began with a model's folder and has changed its parameters; returns its folder."""
    params = jax.tree.map(lambda leaf: leaf * 1.25 + 0.01, load_model(model)[1])
    folder.mkdir()
    config = {"model": str(model), "matmul_precision": "highest"}
    (folder / "config.json").write_text(json.dumps({"config": config}))
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(7, {"learner": {"params": params, "step": np.int32(7)}}, {})
    return folder
