"""An actor behind an OpenAI-compatible API: thoughts in words, each asked for by a request of its own."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence
from string import Template
from typing import Any, TypeVar

import jax

from maro_jax.api.chat import Message, tokens_of
from maro_jax.api.failures import CallFailed
from maro_jax.api.games import Background
from maro_jax.api.parse import split_thinking
from maro_jax.api.player import CALL, ENGINE, ApiPlayer, Fault
from maro_jax.pnlc.actors import Thought
from maro_jax.pnlc.prompts import ThoughtPrompts
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import RolloutPlan
from maro_jax.selfplay.hosted import HostedGames, Reply, Turn

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NUMBERED = re.compile(r"^\s*\d+[.)]\s")  # a line of a list, which may hold another number
_BULLET = re.compile(r"^[\s>*+#-]*(?:\d+[.)]\s*)?")
MOST_FUTURES = 4
LISTED = 100  # faults that a summary lists one by one

Read = TypeVar("Read")


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
        if self.faults and not client.ledger.answered and client.ledger.requests:
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
        """See `Actor`; a turn is lost only if none of its thoughts came."""
        asked = [turn for turn in turns for _ in range(count)]
        found = self._ask(asked, self._prompts.think, self._thought)
        rows = [found[first : first + count] for first in range(0, len(found), count)]
        proposed = [[thought for thought in row if isinstance(thought, Thought)] for row in rows]
        self._lose([row[0] for row, thoughts in zip(rows, proposed, strict=True) if not thoughts])
        return proposed

    def rate(self, turns: Sequence[Turn], proposed: Sequence[Sequence[Thought]]) -> list[list[float]]:
        """How good the model finds each thought, 0 to 100; 0 where it does not say."""
        asked = [(turn, thought) for turn, thoughts in zip(turns, proposed, strict=True) for thought in thoughts]
        words = [{"thought": thought.text} for _, thought in asked]
        found = self._ask([turn for turn, _ in asked], self._prompts.rate, _number, words)
        self._lose(found)
        said = iter(found)
        return [[0.0 if isinstance(told := next(said), Fault) else told for _ in some] for some in proposed]

    def imagine(self, turns: Sequence[Turn], thoughts: Sequence[Thought]) -> list[list[str]]:
        """What the model thinks may come of each thought, at most four texts."""
        found = self._ask(turns, self._prompts.imagine, _listed, [{"thought": thought.text} for thought in thoughts])
        self._lose(found)
        return [[] if isinstance(told, Fault) else told for told in found]

    def expect(
        self, turns: Sequence[Turn], thoughts: Sequence[Thought], futures: Sequence[Sequence[str]]
    ) -> list[list[float | None]]:
        """The chances that the model gives some futures of each thought itself, None where it gives no number."""
        asked = [row for row, some in enumerate(futures) if some]
        words = [{"thought": thoughts[row].text, "futures": "\n".join(futures[row])} for row in asked]
        found = self._ask([turns[row] for row in asked], self._prompts.expect, _chances, words)
        self._lose(found)
        told = {row: [] if isinstance(each, Fault) else each for row, each in zip(asked, found, strict=True)}
        return [
            [chance for _, chance in itertools.zip_longest(some, told.get(row, [])[: len(some)])]
            for row, some in enumerate(futures)
        ]

    def refine(
        self, turns: Sequence[Turn], thoughts: Sequence[Thought], likelihoods: Sequence[str], prompt: Template
    ) -> list[Thought]:
        """A thought in the place of each, after reading how likely what is; the same where the model says nothing."""
        found = self._ask(turns, prompt, self._thought, [
            {"thought": thought.text, "likelihoods": words}
            for thought, words in zip(thoughts, likelihoods, strict=True)
        ])  # fmt: skip
        self._lose(found)
        return [
            old if isinstance(told, Fault) or not told.text else told
            for told, old in zip(found, thoughts, strict=True)
        ]  # fmt: skip

    def act(self, games: HostedGames, turns: Sequence[Turn], thoughts: Sequence[Thought | None]) -> None:
        """See `Actor`."""
        pending = []
        for turn, thought in zip(turns, thoughts, strict=True):
            if (turn.episode, turn.decision) in self._lost:
                continue
            pending.append((turn, self._background.submit(self._reply(turn, thought))))
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

    async def _reply(self, turn: Turn, thought: Thought | None) -> Reply | Fault:
        """The model's reply after a thought, or as it would by itself."""
        if thought is None:
            return await self._player.decide(turn)
        try:
            chat = self._with(turn, self._prompts.follow, thought=thought.text or "(nothing)")
        except Exception as error:
            return self._engine_fault(turn, error)
        return await self._player.decide(turn, chat, thought.text)

    def _ask(
        self,
        turns: Sequence[Turn],
        prompt: Template,
        read: Callable[[str], Read],
        words: Sequence[dict[str, str]] | None = None,
    ) -> list[Read | Fault]:
        """What the model answers to a prompt for each turn, or why nothing came; nothing is asked for lost turns.

        Args:
          turns: whose questions the prompt is about.
          prompt: what is asked.
          read: makes of an answer what it says.
          words: for each turn, that the prompt needs beside its question.
        """
        futures = [
            self._background.submit(self._answer(turn, prompt, read, more))
            for turn, more in zip(turns, words or [{}] * len(turns), strict=True)
        ]
        return [future.result() for future in futures]

    async def _answer(
        self, turn: Turn, prompt: Template, read: Callable[[str], Read], words: dict[str, str]
    ) -> Read | Fault:
        place, client = (turn.episode, turn.decision), self._player.client
        if lost := self._lost.get(place):
            return lost
        note = {"episode": turn.episode, "decision": turn.decision, "seat": turn.seat}
        try:
            text = await client.complete(self._with(turn, prompt, **words), note)
            return read(split_thinking(text)[1])
        except CallFailed as failed:
            return Fault(*place, turn.seat, CALL, str(failed))
        except Exception as error:  # a contest is not to be lost through a mistake of ours, as in `ApiPlayer.decide`
            return self._engine_fault(turn, error)

    def _engine_fault(self, turn: Turn, error: Exception) -> Fault:
        reason = self._player.client.hide(f"{type(error).__name__}: {error}")
        return Fault(turn.episode, turn.decision, turn.seat, ENGINE, reason)

    def _lose(self, found: Sequence[Any]) -> None:
        """Gives up the turns of faults: a scripted player will reply, and no more is asked for them."""
        for fault in found:
            if isinstance(fault, Fault):
                self._lost.setdefault((fault.episode, fault.decision), fault)

    def _with(self, turn: Turn, prompt: Template, **words: str) -> list[Message]:
        """The chat of a turn, its last question put into a prompt."""
        *before, last = self._player.chat(turn)
        return [*before, last | {"content": prompt.substitute(question=last["content"], **words)}]

    def _thought(self, text: str) -> Thought:
        line = " ".join(text.split())
        return Thought(line, tuple(tokens_of(self._player.table, line)))


def _listed(text: str) -> list[str]:
    lines = (_BULLET.sub("", line).strip() for line in text.splitlines())
    return [line for line in lines if line][:MOST_FUTURES]


def _chances(text: str) -> list[float]:
    """The chance in each line that has a number, in per cent; of several the last, as the thing itself comes first."""
    found = [_NUMBER.findall(_NUMBERED.sub("", line)) for line in text.splitlines()]
    return [min(float(numbers[-1]), 100.0) / 100 for numbers in found if numbers]


def _number(text: str) -> float:
    found = _NUMBER.search(text)
    return min(float(found.group()), 100.0) if found else 0.0
