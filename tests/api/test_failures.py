"""How long to wait, and what an answer must hold."""

import email.utils
import json
import random
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from maro_jax.api.client import Answer, Form, read_answer
from maro_jax.api.failures import Backoff, Failure, MalformedReply, ToldError, failure_of, retry_after
from maro_jax.api.ledger import Transcript
from maro_jax.api.secrets import HIDDEN, redactor


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": email.utils.formatdate(1_000_040, usegmt=True)}, 40.0),
        ({"retry-after": email.utils.formatdate(999_000, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_what_a_server_asks_for(headers: dict[str, str], seconds: float | None):
    assert retry_after(headers, now=lambda: 1_000_000.0) == seconds


def test_pauses_double_up_to_a_limit_with_up_to_half_off():
    backoff, chance = Backoff(first=1.0, first_of_limit=5.0, longest=20.0), random.Random(0)
    for kind, pauses in (("server_error", [1, 2, 4, 8, 16, 20, 20]), ("rate_limit", [5, 10, 20, 20])):
        for attempt, full in enumerate(pauses):
            drawn = [backoff.seconds(attempt, Failure(kind, "no"), chance) for _ in range(200)]
            assert full / 2 <= min(drawn) < 0.55 * full and 0.95 * full < max(drawn) <= full
    asked = [backoff.seconds(0, Failure("rate_limit", "no", wait=9.0), chance) for _ in range(200)]
    assert min(asked) >= 9.0 and max(asked) <= 9.5 and len(set(asked)) > 100


@pytest.mark.parametrize(
    "body",
    ["", "null", "[]", "3", "{}", '{"choices": []}', '{"choices": [{}]}', '{"choices": [{"message": "hi"}]}',
     '{"choices": [{"message": {"content": 5}}]}', '{"choices": [{"message": {"content": "cut'],
)  # fmt: skip
def test_a_malformed_answer_is_known_as_one(body: str):
    with pytest.raises(MalformedReply):
        read_answer(body)


def test_answers_without_text_or_counts():
    message = {"choices": [{"message": {"content": None}}]}
    assert read_answer(json.dumps(message)) == Answer("")
    assert read_answer('{"choices": [{"message": {}, "finish_reason": "length"}]}') == Answer("", finish="length")
    told = message | {"usage": {"prompt_tokens": 3, "completion_tokens": "many"}}
    assert read_answer(json.dumps(told)) == Answer("")
    told = message | {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
    assert read_answer(json.dumps(told)) == Answer("", {"prompt_tokens": 3, "completion_tokens": 4})
    refused = {"choices": [{"message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}]}
    assert read_answer(json.dumps(refused)) == Answer("", finish="stop", refusal="I cannot")


def test_answers_in_parts_and_tokens_told_in_the_total_alone():
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Action: a"}]
    body = {"choices": [{"message": {"content": parts}}]}
    body["usage"] = {"prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 400}
    assert read_answer(json.dumps(body)) == Answer("Action: a", {"prompt_tokens": 100, "completion_tokens": 300})


@pytest.mark.parametrize(
    ("code", "kind", "retry", "final"),
    [(429, "rate_limit", True, False), ("429", "rate_limit", True, False),
     (502, "server_error", True, False), ("odd", "server_error", True, False),
     (402, "refused", False, True), (403, "refused", False, False), (400, "refused", False, False)],
)  # fmt: skip
def test_an_error_inside_an_answer_is_one(code: int | str, kind: str, retry: bool, final: bool):
    with pytest.raises(ToldError) as told:
        read_answer(json.dumps({"error": {"code": code, "message": "the provider's reason"}}))
    failure = failure_of(told.value)
    assert failure and (failure.kind, failure.retry, failure.final) == (kind, retry, final)
    assert failure.reason == f"HTTP {500 if code == 'odd' else code}: the provider's reason"
    with pytest.raises(ToldError, match="overloaded"):
        read_answer('{"error": "overloaded"}')


@pytest.mark.parametrize(
    "body", [[{"error": {"message": "the quota of a minute"}}], {"detail": "the quota of a minute"}]
)
def test_a_reason_in_another_form_is_told(body: object):
    response = SimpleNamespace(status_code=429, text=json.dumps(body), headers={}, request=None)
    told: Any = response
    failure = failure_of(openai.RateLimitError("Error code: 429", response=told, body=body))
    assert failure and "the quota of a minute" in failure.reason and failure.kind == "rate_limit"
    failure = failure_of(openai.RateLimitError("no", response=told, body={"code": "insufficient_quota"}))
    assert failure and (failure.kind, failure.final) == ("refused", True)


def test_what_no_request_can_hold_is_replaced_and_a_transcript_keeps_anything(tmp_path):
    message = {"content": "a \ud83d b \U0001f600", "refusal": "\udc80"}
    answer = read_answer(json.dumps({"choices": [{"message": message}]}))
    assert (answer.content, answer.refusal) == ("a ? b \U0001f600", "?")
    transcript = Transcript(tmp_path / "calls.jsonl", lambda text: text)
    transcript.add({"reply": "a \ud83d b"})
    transcript.close()
    assert json.loads((tmp_path / "calls.jsonl").read_text()) == {"reply": "a \ud83d b"}


def test_requests_are_put_as_a_server_wants_them():
    said = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "Go."}]
    form = Form().adapted("HTTP 400: use 'max_completion_tokens' instead")
    assert form == Form(limit="max_completion_tokens") and form.messages(said) == said
    form = form.adapted("HTTP 400: System role not supported")
    assert form.messages(said) == [{"role": "user", "content": "Rules.\n\nGo."}]
    assert form.adapted("HTTP 400: System role not supported; max_completion_tokens") == form


def test_a_key_is_hidden_in_all_its_spellings():
    key = 'sk-"quoted"/and+more'
    hide = redactor(key)
    for text in (key, json.dumps({"key": key}), "https://host/?key=sk-%22quoted%22%2Fand%2Bmore"):
        assert "quoted" not in hide(f"before {text} after") and HIDDEN in hide(text)
    assert redactor("none")("none of them") == "none of them"
