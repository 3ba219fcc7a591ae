"""A chat client: one answer at a time from an OpenAI-compatible server, however often it has to be asked for."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import openai

from maro_jax.api.failures import Backoff, CallFailed, Failure, MalformedReply, failure_of
from maro_jax.api.ledger import Ledger, Prices, Transcript
from maro_jax.api.secrets import redactor
from maro_jax.run.fields import ConfigError

Sleep = Callable[[float], Awaitable[None]]
NO_KEY = "none"  # what a server of one's own is sent where no key is set


@dataclasses.dataclass(frozen=True)
class ClientSettings:
    """Which model is asked, and how patiently.

    Attributes:
      model: its name at the server.
      base_url: of the server; empty: OPENAI_BASE_URL, or OpenAI's.
      key_variable: environment variable with the key.
      temperature: of sampling.
      max_tokens: most tokens of an answer.
      timeout: seconds for one request, from the first byte sent to the last byte read.
      attempts: requests for one answer, the first one included.
      concurrency: most requests in flight.
      give_up_after: calls failing one after the other until no more requests are sent.
      backoff: seconds between attempts.
      prices: of tokens.
    """

    model: str
    base_url: str = ""
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 1.0
    max_tokens: int = 512
    timeout: float = 60.0
    attempts: int = 6
    concurrency: int = 8
    give_up_after: int = 16
    backoff: Backoff = Backoff()
    prices: Prices = Prices()


class ChatClient:
    """Asks one model; to be used within one event loop.

    Attributes:
      settings: which model, how patiently.
      ledger: what it has cost so far.
      gave_up: why no more requests are sent; empty while they are.
      hide: takes the key out of a text.
    """

    settings: ClientSettings
    ledger: Ledger
    gave_up: str

    def __init__(
        self,
        settings: ClientSettings,
        transcript: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        seed: int = 0,
    ):
        """Prepares the client; nothing is sent yet.

        Args:
          settings: which model, how patiently.
          transcript: new file for a transcript of every call; empty: none.
          clock: seconds, for latencies.
          sleep: waits.
          seed: of the chance in waiting times.

        Raises:
          ConfigError: there is no key for OpenAI's own server, or one that no header can hold.
        """
        key = _key(settings)
        self.settings, self.ledger, self.gave_up = settings, Ledger(settings.prices), ""
        self.hide = redactor(key)
        self._transcript = Transcript(transcript, self.hide) if transcript else None
        self._clock, self._sleep, self._chance = clock, sleep, random.Random(seed)
        self._client = openai.AsyncOpenAI(
            api_key=key, base_url=settings.base_url or None, timeout=settings.timeout, max_retries=0
        )
        self._gate = asyncio.Semaphore(settings.concurrency)
        self._not_before, self._failed_in_a_row = 0.0, 0
        self._limit = "max_tokens"

    async def complete(self, messages: Sequence[Mapping[str, str]], note: Mapping[str, Any] | None = None) -> str:
        """Asks for an answer until there is one, at most `attempts` times.

        Args:
          messages: the chat so far, each a `role` and a `content`.
          note: written to the transcript beside the call.

        Returns:
          The answer's text, empty if the model said nothing.

        Raises:
          CallFailed: there is none; the reason is one sentence without secrets.
        """
        if self.gave_up:
            raise CallFailed(f"not asked any more: {self.gave_up}")
        self.ledger.calls += 1
        number, began = self.ledger.calls, self._clock()
        attempts: list[dict[str, Any]] = []
        text, usage, reason = None, None, ""
        try:
            text, usage = await self._attempt_often(messages, attempts)
            self.ledger.answered += 1
            self._failed_in_a_row = 0
            return text
        except CallFailed as failed:
            reason = str(failed)
            self.ledger.failed += 1
            raise
        finally:
            if self._transcript:
                self._transcript.add({
                    "call": number, **(note or {}), "model": self.settings.model, "messages": list(messages),
                    "attempts": attempts, "reply": text, "usage": usage, "failure": reason or None,
                    "seconds": self._clock() - began,
                })  # fmt: skip

    async def close(self) -> None:
        """Closes connections and the transcript."""
        await self._client.close()
        if self._transcript:
            self._transcript.close()

    async def _attempt_often(
        self, messages: Sequence[Mapping[str, str]], attempts: list[dict[str, Any]]
    ) -> tuple[str, dict[str, int] | None]:
        """The answer's text and token counts; notes every attempt."""
        for attempt in range(self.settings.attempts):
            async with self._gate:
                await self._wait_as_asked()
                if self.gave_up:
                    raise CallFailed(f"not asked any more: {self.gave_up}")
                began = self._clock()
                answer = await self._request(messages, attempt)
                seconds = self._clock() - began
            if not isinstance(answer, Failure):
                self.ledger.answer(seconds, answer[1])
                attempts.append({"seconds": seconds, "outcome": "answered"})
                return answer
            reason = self.hide(answer.reason)
            self.ledger.failures[answer.kind] += 1
            attempts.append({"seconds": seconds, "outcome": answer.kind, "reason": reason})
            last = attempt + 1 == self.settings.attempts
            too_long = (answer.wait or 0) > self.settings.backoff.longest
            if answer.final or not answer.retry or last or too_long:
                raise self._failed(answer, reason, attempt + 1, too_long)
            attempts[-1]["waited"] = await self._wait(attempt, answer)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _request(
        self, messages: Sequence[Mapping[str, str]], attempt: int
    ) -> tuple[str, dict[str, int] | None] | Failure:
        """One request: its answer, or why there is none."""
        self.ledger.begin(attempt)
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await self._answer(messages)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            if "max_completion_tokens" in failure.reason and self._limit == "max_tokens":
                # Newer models know the limit by this name only, and say so.
                self._limit = "max_completion_tokens"
                return dataclasses.replace(failure, retry=True, wait=0.0)
            return failure
        finally:
            self.ledger.in_flight -= 1

    async def _answer(self, messages: Any) -> tuple[Any, dict[str, int] | None]:
        """Sends a request once; its answer and token counts."""
        sent: Any = {"model": self.settings.model, "messages": list(messages), "temperature": self.settings.temperature}
        sent[self._limit] = self.settings.max_tokens
        raw = await self._client.chat.completions.with_raw_response.create(**sent)
        return read_answer(raw.text)

    def _failed(self, failure: Failure, reason: str, attempts: int, too_long: bool) -> CallFailed:
        """The error that ends a call; after too many in a row, or a final one, no more calls are made."""
        self._failed_in_a_row += 1
        if failure.final:
            self.gave_up = reason
        elif self._failed_in_a_row >= self.settings.give_up_after:
            self.gave_up = f"{self._failed_in_a_row} calls in a row failed, the last with {reason}"
        if too_long:
            reason += f"; the server asks to wait {failure.wait:g} s, longer than {self.settings.backoff.longest:g} s"
        return CallFailed(f"no answer after {attempts} request{'s' * (attempts > 1)}: {reason}")

    async def _wait(self, attempt: int, failure: Failure) -> float:
        """Waits before the next attempt; what a server asks for holds for all calls."""
        seconds = self.settings.backoff.seconds(attempt, failure.wait, self._chance)
        if failure.wait:
            self._not_before = max(self._not_before, self._clock() + failure.wait)
        self.ledger.waited += seconds
        await self._sleep(seconds)
        return seconds

    async def _wait_as_asked(self) -> None:
        """Waits as long as the server has asked anybody to."""
        seconds = self._not_before - self._clock()
        if seconds > 0:
            self.ledger.waited += seconds
            await self._sleep(seconds)


def read_answer(body: str) -> tuple[str, dict[str, int] | None]:
    """Text and token counts of a chat completion's body.

    Raises:
      MalformedReply: it is not JSON, or holds no message.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        raise MalformedReply(f"no JSON in {body[:80]!r}") from None
    try:
        content = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise MalformedReply("no choices[0].message.content") from None
    if content is not None and not isinstance(content, str):
        raise MalformedReply("choices[0].message.content is no text")
    told = answer.get("usage")
    names = ("prompt_tokens", "completion_tokens")
    counts = {name: told.get(name) if isinstance(told, dict) else None for name in names}
    usage = {name: count for name, count in counts.items() if type(count) is int and count >= 0}
    return content or "", usage if len(usage) == len(names) else None


def _key(settings: ClientSettings) -> str:
    """The key in the environment."""
    key = os.environ.get(settings.key_variable, "").strip()
    if not key:
        base = settings.base_url or os.environ.get("OPENAI_BASE_URL", "")
        if not base or (urlsplit(base).hostname or "").endswith("openai.com"):
            raise ConfigError(
                f"the environment variable {settings.key_variable} holds no key; set it, or name a server that needs "
                "none, for example --api_base=http://localhost:8000/v1"
            )
        return NO_KEY
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"the key in {settings.key_variable} holds characters that no HTTP header can; set it again")
    return key
