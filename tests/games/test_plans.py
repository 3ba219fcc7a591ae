"""Plans against plain readings of transcripts; every plan of every game occurs."""

from typing import Any

import pytest

from games.plans import OF_GAME
from games.registry import make
from games.text.lexicon import build_lexicon
from tests.games import naive_plans
from tests.games.planning import Planned, planned
from tests.games.text import host


def assert_same(games: Planned, naive: Any) -> set[str]:
    """The plans are those of a naive reading, where it says something; returns those that it said."""
    said = set()
    for episode, of in enumerate(games.transcripts):
        for made, plan in zip(of.decisions, games.plan_texts(episode), strict=True):
            if (wanted := naive(of, made)) is not None:
                assert plan == wanted, (made, of.until(made).items[-12:])
                said.add(wanted)
    return said


def test_avalon_of_those_who_know():
    said = assert_same(planned("avalon-v0", 24, discussion_rounds=1), naive_plans.avalon)
    assert said == set(OF_GAME["avalon-v0"].texts)


@pytest.mark.parametrize("persuadee", ["environment", "seat"])
def test_persuasion(persuadee: str):
    said = assert_same(planned("persuasion-v0", 200, persuadee=persuadee, max_exchanges=6), naive_plans.persuasion)
    assert len(said) == {"environment": 9, "seat": len(OF_GAME["persuasion-v0"].texts)}[persuadee]


def test_shopping():
    games = planned("shopping-v0", 60, num_products=40)
    wordings = dict(games.game.spec.words)["instruction"]
    instructions = {id(of): wordings[of.events("instruction")[0].value] for of in games.transcripts}
    assert_same(games, lambda of, made: naive_plans.shopping(of, made, instructions[id(of)]))
    offers = {plan for episode in range(60) for plan in games.plan_texts(episode)} & {
        " look at the best offer", " look around", " buy what I was asked for", " buy before it is too late"
    }  # fmt: skip
    assert len(offers) == 4


@pytest.mark.parametrize("family", host.FAMILIES)
@pytest.mark.parametrize("name", OF_GAME)
def test_every_plan_may_be_thought_and_is_of_whole_phrases(name: str, family: str):
    tokenizer, texts = host.tokenizer_of(family), OF_GAME[name].texts
    lexicon = build_lexicon(make(name).spec, tokenizer, vocab_size=tokenizer.vocab_size, brief=True, thoughts=texts)
    assert len(set(texts)) == len(texts) == len(lexicon.scripted_thought)
    for text, span in zip(texts, lexicon.scripted_thought, strict=True):
        ids = lexicon.pool[lexicon.span_start[span] :][: lexicon.span_length[span]]
        assert lexicon.thought_mask[ids].all() and tokenizer.decode(ids.tolist()) == text
        assert family != "tiny" or len(ids) <= 4
