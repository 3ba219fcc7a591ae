"""Replies are read leniently where they are plain, and never guessed at."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maro_jax.api.parse import Parsed, Unusable, parse

LABELS = ["accuse Player 1", "accuse Player 10", "claim seer", "pass"]


@pytest.mark.parametrize(
    "text",
    [
        "Action: accuse Player 1",
        "action:   ACCUSE player 1.",
        "Thought: Player 10 is kind\n**Action:** `accuse Player 1`",
        "### Thought: hm\n- Action: accuse Player 1 because she lied",
        "<think>Action: pass</think>\nAction: accuse Player 1",
        "Action: pass?\nNo.</think>\nAction: accuse Player 1",
        "Action: accuse Player 1\n<think>or is it Player 10",
        "Action: pass\nNo, wait.\nAction: accuse Player 1",
        "accuse Player 1",
        '```json\n{"thought": "hm", "Action": "accuse Player 1"}\n```',
        '{"action": "accuse Player 1", "speech": "I say"}',
    ],
)
def test_a_choice_is_read(text: str):
    assert parse(text, LABELS, speaks=False).choice == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Action:",
        "Action: accuse Player 2",
        "Action: accuse Player 100",
        "Action: accuse Player 1 or pass",
        "Action: I would rather not pass",
        "Action: passing",
        "Thought: pass",
        '{"action": null}',
        "<think>Action: pass",
        "Action: pass</think>",
        '{"action": ["pass", "claim seer"]}',
        "I think we should all pass this time",
    ],
)
def test_what_names_no_single_choice_is_refused_with_the_choices(text: str):
    with pytest.raises(Unusable, match="accuse Player 1; accuse Player 10; claim seer; pass"):
        parse(text, LABELS, speaks=True)


def test_thoughts_and_speeches():
    text = "<think>deep</think>Thought: hm\nSpeech: I am the seer.\nBelieve me!\nAction: claim seer"
    assert parse(text, LABELS, speaks=True) == Parsed("deep\nhm", "I am the seer.\nBelieve me!", 2)
    assert parse(text, LABELS, speaks=False).speech == ""
    assert parse("I am the seer.", [], speaks=True) == Parsed("", "I am the seer.", -1)
    assert parse("I am the wolf.</think>\n\nWho is it?", [], speaks=True) == Parsed("I am the wolf.", "Who is it?", -1)
    with pytest.raises(Unusable, match="Speech:"):
        parse('{"speech": null, "thought": "hm"}', [], speaks=True)
    with pytest.raises(Unusable, match="Speech:"):
        parse("Thought: I say nothing", [], speaks=True)


@given(st.text(), st.lists(st.text(min_size=1), max_size=4), st.booleans())
def test_any_text_is_read_or_refused(text: str, choices: list[str], speaks: bool):
    try:
        parsed = parse(text, choices, speaks)
    except Unusable:
        return
    assert parsed.choice in (range(len(choices)) if choices else (-1,))


@given(st.sampled_from(LABELS), st.text(alphabet="abc xyz\n{}:*"))
def test_a_choice_after_any_thought_is_that_choice(label: str, thought: str):
    reply = f"Thought: {thought}\nAction: {label}"
    assert parse(reply, LABELS, speaks=False).choice == LABELS.index(label)
    assert parse(json.dumps({"thought": thought, "action": label}), LABELS, speaks=False).choice == LABELS.index(label)
