"""A player behind an API: what it is asked, how its reply is read, and what if it has none that can be played."""

from __future__ import annotations

import dataclasses
from typing import Any

from maro_jax.api.chat import Message, choices, messages, tokens_of
from maro_jax.api.client import ChatClient
from maro_jax.api.failures import CallFailed
from maro_jax.api.parse import Unusable, parse
from maro_jax.api.prompts import Prompts
from maro_jax.selfplay.hosted import Reply, Turn
from maro_jax.selfplay.table import Table

CALL, REPLY, ENGINE = "call", "reply", "engine"


@dataclasses.dataclass(frozen=True)
class Fault:
    """A move that the model did not make, and a scripted player made in its place.

    Attributes:
      episode, decision, seat: which move.
      kind: `call` (no answer came), `reply` (no answer could be played) or `engine` (this program failed).
      reason: one sentence.
    """

    episode: int
    decision: int
    seat: int
    kind: str
    reason: str


@dataclasses.dataclass
class ApiPlayer:
    """Plays any seat of a game.

    Attributes:
      table: the game laid out for a policy.
      client: asks the model.
      prompts: the words around the game's.
      asks: how often it is asked for one move.
      unusable: replies so far that could not be played and were asked for again, or given up.
    """

    table: Table
    client: ChatClient
    prompts: Prompts
    asks: int = 3
    unusable: int = 0

    def chat(self, turn: Turn) -> list[Message]:
        """The chat that asks for a reply."""
        return messages(self.table, turn, self.prompts)

    async def decide(self, turn: Turn, chat: list[Message] | None = None, thought: str | None = None) -> Reply | Fault:
        """The model's reply, or why there is none.

        Args:
          turn: whose reply is due.
          chat: that asks for it; default: `self.chat(turn)`.
          thought: kept as the reply's, whatever the model writes; default: what it writes.
        """
        try:
            return await self._decide(turn, self.chat(turn) if chat is None else chat, thought)
        except CallFailed as failed:
            return self._fault(turn, CALL, str(failed))
        except Exception as error:  # a game is not to be lost, nor others with it, through a mistake of ours
            return self._fault(turn, ENGINE, self.client.hide(f"{type(error).__name__}: {error}"))

    async def _decide(self, turn: Turn, chat: list[Message], thought: str | None) -> Reply | Fault:
        phase, legal = self.table.spec.phases[turn.phase], choices(self.table, turn)
        where: dict[str, Any] = {"episode": turn.episode, "decision": turn.decision, "seat": turn.seat}
        problem = ""
        for ask in range(self.asks):
            text = await self.client.complete(chat, where | {"ask": ask + 1})
            try:
                parsed = parse(text, legal, phase.speech_tokens > 0)
            except Unusable as unusable:
                problem = str(unusable)
                self.unusable += 1
                again = self.prompts.again.substitute(problem=problem)
                chat = [*chat, {"role": "assistant", "content": text.strip() or "(nothing)"},
                        {"role": "user", "content": again}]  # fmt: skip
                continue
            action = turn.legal[parsed.choice] if legal else turn.legal[0]
            thinking = parsed.thought if thought is None else thought
            return Reply(action, tokens_of(self.table, parsed.speech), tokens_of(self.table, thinking))
        return self._fault(turn, REPLY, f"asked {self.asks} times; the last reply could not be played: {problem}")

    def _fault(self, turn: Turn, kind: str, reason: str) -> Fault:
        return Fault(turn.episode, turn.decision, turn.seat, kind, reason)
