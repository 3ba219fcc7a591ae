"""An actor behind an OpenAI-compatible API: thoughts in words, each asked for by a request of its own."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import re
from collections.abc import Sequence
from string import Template
from typing import Any

import jax

from maro_jax.api.chat import Message, tokens_of
from maro_jax.api.failures import CallFailed
from maro_jax.api.games import Background
from maro_jax.api.parse import split_thinking
from maro_jax.api.player import CALL, ApiPlayer, Fault
from maro_jax.pnlc.actors import Thought
from maro_jax.pnlc.prompts import ThoughtPrompts
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import RolloutPlan
from maro_jax.selfplay.hosted import HostedGames, Reply, Turn

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_BULLET = re.compile(r"^[\s>*+#-]*(?:\d+[.)]\s*)?")
MOST_FUTURES = 4
LISTED = 100  # faults that a summary lists one by one


class ApiActor:
    """Asks one model for thoughts and replies; to be used as a context, which ends with the client's connections.

    A turn for which a request fails in the end is played by the game's scripted player and listed in `faults`.

    Attributes:
      faults: moves that the model did not make.
    """

    faults: list[Fault]

    def __init__(self, player: ApiPlayer, prompts: ThoughtPrompts):
        """Prepares the actor; nothing is sent yet.

        Args:
          player: asks the model.
          prompts: what it is asked about its thoughts.
        """
        self._player, self._prompts, self._background = player, prompts, Background()
        self._lost: dict[tuple[int, int], Fault] = {}
        self.faults = []

    def __enter__(self) -> ApiActor:
        self._background.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._background.submit(self._player.client.close()).result()
        self._background.__exit__(*error)

    def summary(self) -> dict[str, Any]:
        """What requests have cost so far, and the moves that the model did not make, as plain data.

        Raises:
          ConfigError: the server never gave an answer.
        """
        client = self._player.client
        if self.faults and not client.ledger.answered:
            raise ConfigError(f"{client.settings.model} never answered; {self.faults[0].reason}")
        return {
            "calls": client.ledger.summary(),
            "faults": [dataclasses.asdict(fault) for fault in self.faults[:LISTED]],
            "moves_without_reply": len(self.faults),
            "gave_up": client.gave_up,
        }

    def open(self, plan: RolloutPlan, lanes: int, key: jax.Array) -> HostedGames:
        """See `Actor`."""
        table = self._player.table
        return HostedGames(table, table.stream_capacity(0, "refuse"), lanes, plan, key)

    def propose(self, games: HostedGames, turns: Sequence[Turn], count: int) -> list[list[Thought]]:
        """See `Actor`."""
        asked = [turn for turn in turns for _ in range(count)]
        texts = self._ask(asked, [self._with(turn, self._prompts.think) for turn in asked])
        thoughts = [self._thought(text) for text in texts]
        return [thoughts[first : first + count] for first in range(0, len(thoughts), count)]

    def rate(self, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> list[list[float]]:
        """How good the model finds each thought, 0 to 100; 0 where it does not say."""
        asked = [(turn, thought) for turn, thoughts in zip(turns, proposed, strict=True) for thought in thoughts]
        chats = [self._with(turn, self._prompts.rate, thought=thought.text) for turn, thought in asked]
        said = iter(self._ask([turn for turn, _ in asked], chats))
        return [[_number(next(said)) for _ in thoughts] for thoughts in proposed]

    def imagine(self, turns: Sequence[Turn], thoughts: Sequence[Thought]) -> list[list[str]]:
        """What the model thinks may come of each thought, at most four texts."""
        said = self._ask(turns, [
            self._with(turn, self._prompts.imagine, thought=thought.text)
            for turn, thought in zip(turns, thoughts, strict=True)
        ])  # fmt: skip
        lines = ([_BULLET.sub("", line).strip() for line in text.splitlines()] for text in said)
        return [[line for line in some if line][:MOST_FUTURES] for some in lines]

    def refine(self, turns: Sequence[Turn], thoughts: Sequence[Thought], likelihoods: Sequence[str]) -> list[Thought]:
        """A thought in the place of each, after reading how likely what is; the same where the model says nothing."""
        said = self._ask(turns, [
            self._with(turn, self._prompts.refine, thought=thought.text, likelihoods=words)
            for turn, thought, words in zip(turns, thoughts, likelihoods, strict=True)
        ])  # fmt: skip
        return [self._thought(text) if text else old for text, old in zip(said, thoughts, strict=True)]

    def act(self, games: HostedGames, turns: Sequence[Turn], thoughts: Sequence[Thought | None]) -> None:
        """See `Actor`."""
        pending = []
        for turn, thought in zip(turns, thoughts, strict=True):
            if (turn.episode, turn.decision) in self._lost:
                continue
            if thought is None:
                work = self._player.decide(turn)
            else:
                chat = self._with(turn, self._prompts.follow, thought=thought.text or "(nothing)")
                work = self._player.decide(turn, chat, thought.text)
            pending.append((turn, self._background.submit(work)))
        concurrent.futures.wait([future for _, future in pending])
        replies = {turn: future.result() for turn, future in pending}
        replies |= {
            turn: self._lost.pop((turn.episode, turn.decision))
            for turn in turns
            if (turn.episode, turn.decision) in self._lost
        }
        games.reply({turn.lane: reply for turn, reply in replies.items() if isinstance(reply, Reply)})
        missing = [turn for turn, reply in replies.items() if isinstance(reply, Fault)]
        if missing:
            self.faults += [reply for reply in replies.values() if isinstance(reply, Fault)]
            games.replace(missing)

    def _ask(self, turns: Sequence[Turn], chats: Sequence[list[Message]]) -> list[str]:
        """The model's answers, empty where none came; such a turn is lost."""
        complete, background = self._player.client.complete, self._background
        futures = [
            background.submit(complete(chat, {"episode": turn.episode, "decision": turn.decision, "seat": turn.seat}))
            for turn, chat in zip(turns, chats, strict=True)
        ]
        texts = []
        for turn, future in zip(turns, futures, strict=True):
            try:
                texts.append(split_thinking(future.result())[1])
            except CallFailed as failed:
                place = turn.episode, turn.decision
                self._lost[place] = Fault(*place, turn.seat, CALL, str(failed))
                texts.append("")
        return texts

    def _with(self, turn: Turn, prompt: Template, **words: str) -> list[Message]:
        """The chat of a turn, its last question put into a prompt."""
        *before, last = self._player.chat(turn)
        return [*before, last | {"content": prompt.substitute(question=last["content"], **words)}]

    def _thought(self, text: str) -> Thought:
        line = " ".join(text.split())
        return Thought(line, tuple(tokens_of(self._player.table, line)))


def _number(text: str) -> float:
    found = _NUMBER.search(text)
    return min(float(found.group()), 100.0) if found else 0.0
