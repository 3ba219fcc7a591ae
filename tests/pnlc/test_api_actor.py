"""Thoughts of a model behind an API: what it is asked, what comes of its answers, and of none."""

import functools
import random
from pathlib import Path

import numpy as np
import pytest

from games.registry import make
from games.text.grammar import THOUGHT_TOKEN
from maro_jax.api.chat import tokens_of
from maro_jax.api.client import ChatClient, ClientSettings
from maro_jax.api.player import ApiPlayer
from maro_jax.api.prompts import Prompts
from maro_jax.pnlc import agents
from maro_jax.pnlc.actors import Thought
from maro_jax.pnlc.agents import Agent, BestOf, Refine, critics_likelihoods
from maro_jax.pnlc.api_actor import ApiActor
from maro_jax.pnlc.contest import Played, contest_plan, play, standings
from maro_jax.pnlc.critic import Guide
from maro_jax.pnlc.prompts import ThoughtPrompts
from maro_jax.policy.models import load_policy
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import API, HEURISTIC, Episodes
from maro_jax.selfplay.table import Table
from tests.api.server import chat_server, legal_player
from tests.pnlc import worlds
from tests.pnlc.test_agents import KEY, Directions, saved_critic

GAMES = 4
CHAIN = worlds.chain()


@functools.cache
def table() -> Table:
    policy, _, tokenizer = load_policy("tiny")
    return Table.lay(make("kuhn-v0", thought_tokens=8), policy, tokenizer)


class Thinker:
    """Goes on at first, goes back once it has read what the critic says, and rates going back higher."""

    def __init__(self) -> None:
        self._chance, self._thoughts = random.Random(0), 0
        kinds = ("think", "imagine", "expect", "refine", "reconsider", "rate", "reply")
        self.asked: dict[str, list[str]] = {kind: [] for kind in kinds}

    def __call__(self, messages: list[dict[str, str]]) -> str:
        text = messages[-1]["content"]
        if "how likely these things are" in text:
            return self._answer("refine", text, "<think>Hm.</think>\nI go back.")
        if "So likely do you find" in text:
            return self._answer("reconsider", text, "I go back.")
        if "How likely is each of these things" in text:
            return self._answer("expect", text, "Here they are:\n1. 30 %\n2) 40 to 55.5")
        if "Imagine" in text:
            return self._answer("imagine", text, "1. I have come to stone 6.\n\n- It rains.")
        if "How good is this thought" in text:
            return self._answer("rate", text, "I say 90." if "I go back." in text else "20 of 100")
        if "say in one short sentence" in text:
            self._thoughts += 1
            return self._answer("think", text, f"{CHAIN.thoughts[self._thoughts % 2]}\n")
        return self._answer("reply", text, legal_player(messages, self._chance))

    def _answer(self, kind: str, text: str, answer: str) -> str:
        self.asked[kind].append(text)
        return answer


def played(address: str, agent_of, games: int = GAMES, lanes: int = GAMES) -> tuple[Played, Episodes, dict]:
    """Games of an agent around the model at an address, against scripted players; the episodes are the last call's."""
    settings = ClientSettings("m", base_url=address, attempts=1, concurrency=1)
    player = ApiPlayer(table(), ChatClient(settings), Prompts.load())
    kept = []
    with ApiActor(player, ThoughtPrompts.load()) as actor:
        agent: Agent = agent_of(actor)
        opening = actor.open
        actor.open = lambda *arguments: kept.append(opening(*arguments)) or kept[-1]  # type: ignore[method-assign]
        result = play(actor, agent, table().spec, contest_plan(table().spec, [0, 1], games, HEURISTIC), lanes, KEY)
        return result, kept[-1].episodes(), actor.summary()


def guide() -> Guide:
    return Guide(saved_critic(CHAIN, range(8)), Directions())


def refining(actor: ApiActor, rounds: int) -> Refine:
    """The agent that reads what the critic says."""
    prompts = ThoughtPrompts.load()
    return Refine(actor, critics_likelihoods(guide(), lambda turn: CHAIN.states[3]), prompts, prompts.refine, rounds)


def thoughts_of(episodes: Episodes) -> list[list[int]]:
    found, made = [], episodes.behaviours
    for episode, decision in np.argwhere(made.holder == API):
        seat, span = made.seat[episode, decision], slice(made.start[episode, decision], made.end[episode, decision])
        chosen = episodes.node[episode, seat, span] == THOUGHT_TOKEN
        kept = episodes.tokens[episode, seat, span][chosen]
        found.append(kept[kept != table().lexicon.section_close].tolist())
    return found


def test_a_thought_is_refined_by_what_the_critic_says():
    thinker = Thinker()
    with chat_server(player=thinker) as server:
        result, episodes, summary = played(server.address, lambda actor: refining(actor, 3))
    exact = worlds.exact(CHAIN)[0][3, :, 6]
    asked = thinker.asked
    assert len(asked["think"]) == len(asked["reply"]) == result.decisions >= GAMES
    # Whoever went on at first reads twice what is likely, the second time of going back, and then stays with it.
    changed = sum("You have thought: I go on." in text for text in asked["refine"])
    assert 0 < changed < result.decisions
    assert len(asked["imagine"]) == len(asked["refine"]) == result.decisions + changed
    for text in asked["refine"]:
        chance = exact[0] if "You have thought: I go on." in text else exact[1]
        assert f"- I have come to stone 6.: {round(100 * chance)} %\n- It rains.: nothing is known of it" in text
    assert all("You have already thought: I go back." in text for text in asked["reply"])
    room = table().spec.thought_tokens
    assert thoughts_of(episodes) == [tokens_of(table(), "I go back.")[:room]] * result.decisions
    assert summary["moves_without_reply"] == 0 and summary["calls"]["answered"] == len(server.bodies)


def test_a_thought_is_refined_by_what_the_model_itself_expects():
    thinker, prompts = Thinker(), ThoughtPrompts.load()
    with chat_server(player=thinker) as server:
        result, _, summary = played(
            server.address, lambda actor: Refine(actor, actor.expect, prompts, prompts.reconsider, 1)
        )
    asked = thinker.asked
    assert len(asked["imagine"]) == len(asked["expect"]) == len(asked["reconsider"]) == result.decisions
    assert not asked["refine"] and summary["moves_without_reply"] == 0
    for text in asked["expect"]:
        assert "You have thought: I go" in text and "\nI have come to stone 6.\nIt rains.\n" in text
    for text in asked["reconsider"]:
        assert "- I have come to stone 6.: 30 %\n- It rains.: 56 %\n" in text
    assert all("You have already thought: I go back." in text for text in asked["reply"])


def test_a_model_that_expects_nothing_or_of_nothing():
    said = iter(["I cannot say.", "80"])
    with chat_server(player=lambda messages: next(said)) as server:
        settings = ClientSettings("m", base_url=server.address, attempts=1, concurrency=1)
        with ApiActor(ApiPlayer(table(), ChatClient(settings), Prompts.load()), ThoughtPrompts.load()) as actor:
            games = actor.open(contest_plan(table().spec, [0], 1, HEURISTIC), 1, KEY)
            [turn] = games.run()
            ask = [turn] * 3, [Thought("I go on.")] * 3, [["a", "b"], [], ["c", "d"]]
            assert actor.expect(*ask) == [[None, None], [], [0.8, None]]
    assert next(said, None) is None


def test_the_model_follows_the_thought_that_it_rates_or_the_critic_finds_best():
    for score_of, best in (
        (agents.by_own_rating, "I go back."),
        (lambda actor: agents.by_critic(guide(), lambda turn: CHAIN.states[3]), "I go on."),
    ):
        thinker = Thinker()
        with chat_server(player=thinker) as server:
            result, _, _ = played(server.address, lambda actor, of=score_of: BestOf(actor, 2, of(actor)))
        assert len(thinker.asked["think"]) == 2 * result.decisions
        assert all(f"You have already thought: {best}" in text for text in thinker.asked["reply"])


def test_a_thought_that_never_came_sets_its_deal_apart():
    thinker = Thinker()
    with chat_server(lambda number: "400" if number == 0 else "", player=thinker) as server:
        result, episodes, summary = played(server.address, lambda actor: BestOf(actor, 1, agents.as_proposed))
    assert result.faulty.sum() == summary["moves_without_reply"] == 1
    assert summary["faults"][0]["kind"] == "call" and "HTTP 400" in summary["faults"][0]["reason"]
    assert episodes.terminated.all() and (episodes.behaviours.holder == API).sum() == result.decisions - 1
    (found,) = standings({"react": result}, ["a", "b"], {})
    assert found.measure.deals == GAMES // 2 - 1 and found.faulty_games == 1


def test_thoughts_that_came_are_enough_and_nothing_more_is_asked_for_a_lost_turn():
    # All games are asked at once, two thoughts each: the first loses both, the second one of them.
    thinker = Thinker()
    with chat_server(lambda number: "400" if number in (0, 1, 2) else "", player=thinker) as server:
        result, _, summary = played(server.address, lambda actor: BestOf(actor, 2, agents.by_own_rating(actor)))
    assert summary["moves_without_reply"] == 1 and result.faulty.sum() == 1
    asked = thinker.asked
    assert len(asked["reply"]) == result.decisions - 1
    assert len(asked["think"]) == len(asked["rate"]) == 2 * result.decisions - 3


def test_a_critic_scores_turns_with_different_numbers_of_thoughts():
    score = agents.by_critic(guide(), lambda turn: CHAIN.states[3])
    thoughts = [Thought(text) for text in CHAIN.thoughts]
    two, three, one = score(None, [None] * 3, [thoughts[:2], [*thoughts[:2], thoughts[0]], thoughts[:1]])
    assert two == three[:2] and two[0] != two[1] and three[2] == two[0]
    assert one == [0.0]  # no choice, and nothing was asked


def test_a_turn_that_was_lost_while_refining_is_not_asked_for_again():
    thinker = Thinker()
    # Thoughts for all games come first; then the first of the imagined futures fails.
    with chat_server(lambda number: "400" if number == GAMES else "", player=thinker) as server:
        result, _, summary = played(server.address, lambda actor: refining(actor, 1))
    assert summary["moves_without_reply"] == 1
    asked = thinker.asked
    assert len(asked["think"]) == result.decisions
    assert len(asked["imagine"]) == len(asked["refine"]) == len(asked["reply"]) == result.decisions - 1


def test_a_mistake_of_this_program_costs_a_move_and_no_contest(monkeypatch: pytest.MonkeyPatch):
    broken, said = [0], ApiActor._thought

    def thought(self, text):
        broken[0] += 1
        if broken[0] == 1:
            raise ValueError("a mistake")
        return said(self, text)

    monkeypatch.setattr(ApiActor, "_thought", thought)
    with chat_server(player=Thinker()) as server:
        result, episodes, summary = played(server.address, lambda actor: BestOf(actor, 1, agents.as_proposed))
    assert episodes.terminated.all() and result.faulty.sum() == 1
    assert [(each["kind"], each["reason"]) for each in summary["faults"]] == [("engine", "ValueError: a mistake")]


def test_halves_of_characters_in_thoughts_are_played_on_with():
    def player(messages):
        asked = messages[-1]["content"]
        if "say in one short sentence" in asked:
            return "I go \ud83d on."
        assert "I go ? on." in asked
        return legal_player(messages, random.Random(0))

    with chat_server(player=player) as server:
        result, _, summary = played(server.address, lambda actor: BestOf(actor, 1, agents.as_proposed))
    assert summary["moves_without_reply"] == 0 and not result.faulty.any()


def test_nothing_is_asked_for_games_that_only_fill_a_batch_up():
    with chat_server() as server:
        result, last, _ = played(server.address, agents.Plain, games=6, lanes=1)
    assert len(last.terminated) == 4 and last.terminated.all()  # two games more than are left of the plan
    assert not (last.behaviours.holder[2:] == API).any() and (last.behaviours.holder[:2] == API).any()
    assert len(server.bodies) == result.decisions and len(result.value) == len(result.faulty) == 6


def test_a_server_that_never_answers_is_an_error():
    with chat_server(lambda number: "401", player=Thinker()) as server:  # noqa: SIM117
        with pytest.raises(ConfigError, match="m never answered; no answer after 1 request: HTTP 401"):
            played(server.address, lambda actor: BestOf(actor, 1, agents.as_proposed))


def test_prompts_can_be_replaced(tmp_path: Path):
    (tmp_path / "think.txt").write_text("Think of $question")
    assert ThoughtPrompts.load(str(tmp_path)).think.substitute(question="it") == "Think of it"
    assert ThoughtPrompts.load(str(tmp_path)).refine.template == ThoughtPrompts.load().refine.template
    (tmp_path / "refine.txt").write_text("$question $thought")
    with pytest.raises(ConfigError, match=r"refine.txt lacks \$likelihoods"):
        ThoughtPrompts.load(str(tmp_path))
    (tmp_path / "refine.txt").rename(tmp_path / "rethink.txt")
    with pytest.raises(ConfigError, match=r"rethink.txt is none of the prompts, which are think.txt"):
        ThoughtPrompts.load(str(tmp_path))
