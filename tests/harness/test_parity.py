"""Scores and replies are those of the harness's own Hugging Face backend on the exported model."""

import json

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is an extra: pip install 'maro-jax[harness]'")
pytest.importorskip("accelerate", reason="the harness's Hugging Face backend needs it")

from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

from maro_jax.export import export  # noqa: E402
from maro_jax.harness.loading import load_tasks, load_weights  # noqa: E402
from maro_jax.harness.model import PolicyLM  # noqa: E402
from maro_jax.harness.report import run_tasks  # noqa: E402
from maro_jax.run.export_config import ExportConfig  # noqa: E402
from tests.harness.material import TASKS, write_run, write_tasks  # noqa: E402
from tests.policy.hf_fixture import make_model_folder  # noqa: E402

MAX_LENGTH = 160  # so that a story does not fit
TOLERANCE = 1e-4
ROUNDING = np.finfo(np.float32).eps  # of the Hugging Face backend's sum over a whole text


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def pair(request, tmp_path_factory):
    """The policy of a run, and the Hugging Face backend on what is exported from it."""
    place = tmp_path_factory.mktemp(request.param)
    began, out = place / "began", place / "exported"
    make_model_folder(began, request.param, tied=False)
    settings = json.loads((began / "generation_config.json").read_text())
    (began / "generation_config.json").write_text(json.dumps(settings | {"repetition_penalty": 1.05}))
    run = write_run(place / "run", began)
    export(ExportConfig(run=str(run), out=str(out)))
    ours = PolicyLM(
        load_weights("policy", str(began), run=str(run), precision="highest"), batch_size=4, max_length=MAX_LENGTH
    )
    theirs = HFLM(pretrained=str(out), device="cpu", dtype="float32", batch_size=1, max_length=MAX_LENGTH)
    write_tasks(place)
    tasks = load_tasks(TASKS, tasks_path=str(place / "tasks"), tasks_data=str(place))
    return ours, theirs, tasks


def _requests(kind, arguments):
    return [Instance(request_type=kind, doc={}, arguments=each, idx=0) for each in arguments]


def test_the_same_items_get_the_same_scores_and_replies(pair):
    ours, theirs, tasks = pair
    found = run_tasks(ours, tasks, num_fewshot=None, limit=None, apply_chat_template=False, gen_kwargs="")
    expected = simple_evaluate(model=theirs, tasks=list(tasks.chosen), task_manager=tasks.manager, bootstrap_iters=0)
    assert set(found["samples"]) == set(TASKS)
    for task in ("small_choice", "small_letter", "small_rolling"):
        for one, other in zip(found["samples"][task], expected["samples"][task], strict=True):
            assert one["arguments"] == other["arguments"] and one["doc_id"] == other["doc_id"]
            mine, others = (np.array(each["filtered_resps"], float) for each in (one, other))
            np.testing.assert_allclose(mine, others, rtol=ROUNDING, atol=TOLERANCE)
    replies = [sample["resps"][0][0] for sample in found["samples"]["small_reply"]]
    assert replies == [sample["resps"][0][0] for sample in expected["samples"]["small_reply"]]
    assert len(set(replies)) > 2
    for task in TASKS[:3]:
        for key, score in expected["results"][task].items():
            if "," in key and "stderr" not in key:
                assert found["results"][task][key] == score


def test_what_greedy_decoding_writes_is_known_as_greedy(pair):
    ours, theirs, _ = pair
    contexts = ["Player 1 votes", "Where will Ann look first? Answer:", "日本語"]
    (mine, others) = (
        lm.generate_until(_requests("generate_until", [(text, {"until": [], "max_gen_toks": 70}) for text in contexts]))
        for lm in (ours, theirs)
    )
    assert mine == others and all(mine)
    pairs = [(context, reply[:12]) for context, reply in zip(contexts, mine, strict=True)]
    pairs += [(context, " something else") for context in contexts] + [("", "no context")]
    asked = _requests("loglikelihood", pairs)
    for (score, greedy), (expected, expected_greedy) in zip(
        ours.loglikelihood(asked), theirs.loglikelihood(asked), strict=True
    ):
        assert abs(score - expected) < TOLERANCE and greedy == expected_greedy


def test_tokens_that_are_and_are_not_the_likeliest(pair):
    ours, theirs, _ = pair
    context = ours.tok_encode("The wolf was")
    likeliest = []
    for _ in range(3):  # the likeliest token after so many, by their own logits
        scores = theirs._loglikelihood_tokens(
            [(None, context + likeliest, [token]) for token in range(len(ours.tokenizer))], disable_tqdm=True
        )
        likeliest.append(int(np.argmax([score for score, _ in scores])))
    asked = [(None, context, likeliest), (None, context, [*likeliest[:2], 7]), (None, context, likeliest[:1])]
    found, expected = ours._loglikelihood_tokens(asked), theirs._loglikelihood_tokens(asked, disable_tqdm=True)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected] == [True, False, True]
    np.testing.assert_allclose([each for each, _ in found], [each for each, _ in expected], atol=TOLERANCE)


def test_texts_become_the_same_tokens_and_chats(pair):
    ours, theirs, _ = pair
    begin = theirs.tokenizer.decode(theirs.prefix_token_id)
    for text in ("Player 1", " a", "日本語", f"{begin}Player 1", "<|im_end|>", ""):
        assert ours.tok_encode(text) == theirs.tok_encode(text)
        assert ours.tok_encode(text, add_special_tokens=False) == theirs.tok_encode(text, add_special_tokens=False)
    assert (ours.eot_token_id, ours.prefix_token_id) == (theirs.eot_token_id, theirs.prefix_token_id)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    assert ours.apply_chat_template(turns) == theirs.apply_chat_template(turns)
    turns.append({"role": "assistant", "content": "Player"})
    assert ours.apply_chat_template(turns, False) == theirs.apply_chat_template(turns, False)
    assert ours.chat_template(True) == theirs.chat_template(True)
