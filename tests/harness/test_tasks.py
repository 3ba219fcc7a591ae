"""Tasks as a person asks for them: shipped and own, with data and without."""

import json
import re
from pathlib import Path

import pytest
import yaml

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is an extra: pip install 'maro-jax[harness]'")

from maro_jax.evaluate import _main  # noqa: E402
from maro_jax.harness.loading import SHIPPED, load_tasks  # noqa: E402
from maro_jax.harness.tasks.schema import letters_said  # noqa: E402
from maro_jax.run.evaluate_config import EvaluateConfig  # noqa: E402
from maro_jax.run.fields import ConfigError  # noqa: E402
from maro_jax.run.flags import run_cli  # noqa: E402
from tests.harness.material import write_items, write_run, write_tasks  # noqa: E402
from tests.policy.hf_fixture import make_model_folder  # noqa: E402

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
SETS = ("bigtom", "fantom", "hitom", "simpletom", "tombench", "tomi")
ITEMS = [
    {
        "story": "Lea lays her ring on the shelf and goes out. Max puts it under the bed while she is away.",
        "question": "Where does Lea believe the ring is?",
        "choices": ["on the shelf", "under the bed", "in the garden"],
        "answer": 0,
    },
    {
        "story": "Noor tells Ivo that the shop is shut. Ivo has just seen its doors open.",
        "question": "Does Ivo believe her?",
        "choices": ["Yes", "No"],
        "answer": 1,
    },
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, a run that began with it, and tasks."""
    place = tmp_path_factory.mktemp("place")
    make_model_folder(place / "began", tied=False)
    write_run(place / "run", place / "began")
    write_tasks(place)
    for name in SETS:
        write_items(place / "theory_of_mind" / f"{name}.jsonl", ITEMS)
    return place


def _evaluate(capsys, *arguments):
    """Runs the command in this process; returns its exit code and what it said."""
    with pytest.raises(SystemExit) as stop:
        run_cli(EvaluateConfig, _main, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def _refusal(capsys, *arguments):
    code, _, errors = _evaluate(capsys, *arguments)
    assert code == 2 and len([line for line in errors.splitlines() if line.startswith("error: ")]) == 1
    return errors.splitlines()[-1]


def test_a_run_is_reported_beside_the_model_that_it_began_with(place, tmp_path, capsys):
    out = tmp_path / "transfer.json"
    code, said, _ = _evaluate(
        capsys, place / "run", "--tasks=small_choice,small_reply,small_rolling,theory_of_mind", f"--json={out}",
        f"--tasks_path={place / 'tasks'}", f"--tasks_data={place}", "--batch_size=4", "--max_length=160", "--limit=6",
    )  # fmt: skip
    assert code == 0
    result = json.loads(out.read_text())
    assert result["players"] == {"policy": str(place / "run"), "base": str(place / "began")}
    choice = result["tasks"]["small_choice"]["acc,none"]
    assert choice["items"] == 6 and choice["per_item"]["doc"] == list(range(6))
    values = choice["per_item"]
    assert choice["policy"]["score"] == pytest.approx(sum(values["policy"]) / 6)
    assert choice["difference"]["value"] == pytest.approx((sum(values["policy"]) - sum(values["base"])) / 6)
    # Other weights than those they began with were asked.
    texts = result["tasks"]["small_rolling"]["word_perplexity,none"]
    assert texts["policy"]["score"] != texts["base"]["score"] and texts["higher_is_better"] is False
    assert result["tasks"]["theory_of_mind"]["acc,none"]["items"] == 12
    lines = said.splitlines()
    assert any(line.split()[:4] == ["task", "metric", "items", "policy"] for line in lines)
    assert any(line.startswith("tom_tomi ") for line in lines) and any(
        line.startswith("theory_of_mind ") for line in lines
    )

    code, said, _ = _evaluate(
        capsys, f"--policy={place / 'began'}", "--tasks=small_choice", f"--tasks_path={place / 'tasks'}",
        f"--tasks_data={place}", "--batch_size=4", "--max_length=160", "--limit=6", "--json=" + str(out),
    )  # fmt: skip
    assert code == 0 and "difference" not in said
    alone = json.loads(out.read_text())["tasks"]["small_choice"]["acc,none"]
    assert alone["policy"]["score"] == choice["base"]["score"]


def test_each_shipped_task_reads_the_documented_form(place):
    tasks = load_tasks(["theory_of_mind", "theory_of_mind_reply"], tasks_path="", tasks_data=str(place))
    assert set(tasks.tasks) == {f"tom_{name}{kind}" for name in SETS for kind in ("", "_reply")}
    choice, reply = tasks.tasks["tom_tomi"], tasks.tasks["tom_hitom_reply"]
    docs = list(choice.test_docs())
    assert choice.doc_to_text(docs[0]).endswith(
        "Question: Where does Lea believe the ring is?\nA. on the shelf\nB. under the bed\nC. in the garden\nAnswer:"
    )
    assert [choice.doc_to_choice(doc) for doc in docs] == [["A", "B", "C"], ["A", "B"]]
    assert [choice.doc_to_target(doc) for doc in docs] == [0, 1]
    assert [reply.doc_to_target(doc) for doc in docs] == ["A", "B"]
    reply.build_all_requests(limit=None, rank=0, world_size=1)
    for instance, said in zip(reply.instances, ("I think it is B, no: A.", " Both A and B"), strict=True):
        instance.resps.append(said)
    reply.apply_filters()
    assert [instance.filtered_resps["letter-said"] for instance in reply.instances] == ["A", "B"]
    for path in SHIPPED.glob("tom_*.yaml"):
        contents = yaml.safe_load(path.read_text())
        assert contents["task"] == path.stem


def test_what_ifeval_needs_beside_its_data_is_missed_before_anything_is_asked(place, monkeypatch):
    nltk = pytest.importorskip("nltk")

    def missing(name):
        raise LookupError(name)

    monkeypatch.setattr(nltk.data, "find", missing)
    monkeypatch.setattr(nltk, "download", lambda *_, **__: False)
    with pytest.raises(ConfigError, match="python -m nltk.downloader punkt_tab"):
        load_tasks(["ifeval"], tasks_path="", tasks_data=str(place))


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("The answer is B, because I read of it twice.", "B"),
        ("B. I think she has not seen it.", "B"),
        ("Answer: C. A box is not where she looks.", "C"),
        ("**B**\n\nI'd say so since A is not where it was put.", "B"),
        ("Answer: A because she left.", "A"),
        ("I believe it is C", "C"),
        ("First I took B, but the answer is (D).", "D"),
        ("A man took it, so C.", "C"),
        ("Answer: A the red box", "A"),
        ("I pick A for this reason", "A"),
        ("Answer: A\n\nthe box: B is wrong", "A"),
        ("Answer A is wrong; B is right.", "B"),
        ("Answer B is incorrect, so it is C", "C"),
        ("B is right, A is not", "B"),
        ("**B** because A is wrong", "B"),
        ("B - A is wrong", "B"),
        ("B or C? It is C", "C"),
        ("The answer is “B”. A is wrong", "B"),
        ("**Answer:** B", "B"),
        (r"\boxed{B}. A is wrong", "B"),
        (r"The answer is $\boxed{\text{D}}$, not A", "D"),
        ("I don't know", "[invalid]"),
        ("", "[invalid]"),
    ],
)
def test_the_letter_that_a_reply_means(reply, letter):
    assert letters_said([[reply, reply]], [ITEMS[0]]) == [[letter, letter]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"answer": 3}, "item 2 needs 'answer', the index of the right choice, 0 to 2"),
        ({"choices": ["one"]}, "item 2 needs 'choices', a list of 2 to 26 texts"),
        ({"story": ""}, "item 2 needs 'story', a text"),
    ],
)
def test_items_of_another_form_are_refused(tmp_path, change, sentence):
    path = tmp_path / "theory_of_mind" / "tomi.jsonl"
    write_items(path, ITEMS)
    load_tasks(["tom_tomi"], tasks_path="", tasks_data=str(tmp_path))
    write_items(path, [ITEMS[0], ITEMS[0] | change])
    with pytest.raises(ConfigError, match=sentence):
        load_tasks(["tom_tomi"], tasks_path="", tasks_data=str(tmp_path))


def test_missing_data_are_named_with_their_place(tmp_path):
    with pytest.raises(ConfigError) as error:
        load_tasks(["tom_tomi"], tasks_path="", tasks_data=str(tmp_path))
    assert f"put theory_of_mind/tomi.jsonl into {tmp_path}" in str(error.value)
    with pytest.raises(ConfigError) as error:
        load_tasks(["gsm8k"], tasks_path="", tasks_data=str(tmp_path))
    assert "the data of the task gsm8k cannot be loaded" in str(error.value)
    assert f"put a copy of the data set openai/gsm8k into {tmp_path}" in str(error.value)


def test_a_copy_of_a_data_set_as_the_page_has_it_serves_the_task_of_the_harness(tmp_path):
    folder = tmp_path / "openai" / "gsm8k"
    folder.mkdir(parents=True)
    header = next(
        block for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL) if "gsm8k" in block
    )
    (folder / "README.md").write_text(f"---\n{header}---\n")
    for count in (3, 4):  # a copy that was replaced is read anew
        items = [
            {"question": f"What is 2 + {number}?", "answer": f"Élan.\n#### {2 + number}"} for number in range(count)
        ]
        for split in ("train", "test"):
            write_items(folder / f"{split}.jsonl", items)
        task = load_tasks(["gsm8k"], tasks_path="", tasks_data=str(tmp_path)).tasks["gsm8k"]
        for found in (task.test_docs(), task.training_docs()):
            assert [{"question": doc["question"], "answer": doc["answer"]} for doc in found] == items


def test_what_cannot_be_asked_is_refused_in_one_sentence(place, tmp_path, capsys):
    run, own = place / "run", [f"--tasks_path={place / 'tasks'}", f"--tasks_data={place}"]
    assert "--tasks=tom_tomy is no task (did you mean tom_tomi?)" in _refusal(capsys, run, "--tasks=tom_tomy")
    assert "--num_games=4 is of a match" in _refusal(capsys, run, "--tasks=small_choice", "--num_games=4", *own)
    assert "--limit=3 is of --tasks, which is not given" in _refusal(capsys, run, "--limit=3")
    assert "must name tasks once each" in _refusal(capsys, run, "--tasks=a,a")
    assert "--tasks_data=nowhere is not a folder" in _refusal(capsys, run, "--tasks=a", "--tasks_data=nowhere")
    assert "since --policy=a is given" in _refusal(capsys, run, "--policy=a", "--tasks=a")
    assert "tiny has the tiny model's vocabulary" in _refusal(capsys, "tiny", "--tasks=small_choice", *own)
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    (tiny / "config.json").write_text(json.dumps({"config": {"model": "tiny"}}))
    (tiny / "checkpoints" / "3").mkdir(parents=True)
    assert f"{tiny} has the tiny model's vocabulary" in _refusal(capsys, tiny, "--tasks=small_choice", *own)
    assert "ask for fewer, for example --gen_kwargs=max_gen_toks=20" in _refusal(
        capsys, run, "--tasks=small_reply", "--max_length=40", *own
    )
    assert "lower --num_fewshot" in _refusal(capsys, run, "--tasks=small_choice", "--num_fewshot=10", *own)
    assert "num_beams=2" in _refusal(capsys, run, "--tasks=small_reply", "--gen_kwargs=num_beams=2", *own)
