"""How long to wait, and what an answer must hold."""

import email.utils
import json
import random

import pytest

from maro_jax.api.client import read_answer
from maro_jax.api.failures import Backoff, MalformedReply, retry_after
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
    backoff, chance = Backoff(first=1.0, longest=20.0), random.Random(0)
    for attempt, full in enumerate([1, 2, 4, 8, 16, 20, 20]):
        drawn = [backoff.seconds(attempt, None, chance) for _ in range(200)]
        assert full / 2 <= min(drawn) < 0.55 * full and 0.95 * full < max(drawn) <= full
    asked = [backoff.seconds(0, 9.0, chance) for _ in range(200)]
    assert min(asked) >= 9.0 and max(asked) <= 9.5 and len(set(asked)) > 100


@pytest.mark.parametrize(
    "body",
    ["", "null", "[]", "3", "{}", '{"choices": []}', '{"choices": [{}]}', '{"choices": [{"message": {}}]}',
     '{"choices": [{"message": {"content": 5}}]}', '{"choices": [{"message": {"content": "cut'],
)  # fmt: skip
def test_a_malformed_answer_is_known_as_one(body: str):
    with pytest.raises(MalformedReply):
        read_answer(body)


def test_answers_without_text_or_counts():
    message = {"choices": [{"message": {"content": None}}]}
    assert read_answer(json.dumps(message)) == ("", None)
    told = message | {"usage": {"prompt_tokens": 3, "completion_tokens": "many"}}
    assert read_answer(json.dumps(told)) == ("", None)
    told = message | {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
    assert read_answer(json.dumps(told)) == ("", {"prompt_tokens": 3, "completion_tokens": 4})


def test_a_key_is_hidden_in_all_its_spellings():
    key = 'sk-"quoted"/and+more'
    hide = redactor(key)
    for text in (key, json.dumps({"key": key}), "https://host/?key=sk-%22quoted%22%2Fand%2Bmore"):
        assert "quoted" not in hide(f"before {text} after") and HIDDEN in hide(text)
    assert redactor("none")("none of them") == "none of them"
