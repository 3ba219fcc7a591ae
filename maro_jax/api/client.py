"""A chat client: one answer at a time from an OpenAI-compatible server, however often it has to be asked for."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import openai

from maro_jax.api.failures import Backoff, CallFailed, CutOff, Failure, MalformedReply, ToldError, failure_of
from maro_jax.api.ledger import Ledger, Prices, Transcript
from maro_jax.api.parse import split_thinking
from maro_jax.api.secrets import redactor
from maro_jax.run.fields import ConfigError

Sleep = Callable[[float], Awaitable[None]]
NO_KEY = "none"  # what a server of one's own is sent where no key is set
COUNTS = ("prompt_tokens", "completion_tokens")


@dataclasses.dataclass(frozen=True)
class Form:
    """How a request is put; servers that want it otherwise say so, and are asked again at once.

    Attributes:
      limit: the name of the limit on an answer's tokens.
      system: whether a chat may begin with a message of the system; else it stands in the first one of the user.
    """

    limit: str = "max_tokens"
    system: bool = True

    def adapted(self, reason: str) -> Form:
        """The form that a refusal asks for; the same where it asks for none."""
        if "max_completion_tokens" in reason and self.limit == "max_tokens":
            return dataclasses.replace(self, limit="max_completion_tokens")
        if "system role not supported" in reason.lower() and self.system:
            return dataclasses.replace(self, system=False)
        return self

    def messages(self, given: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """A chat in this form."""
        if self.system or len(given) < 2 or given[0]["role"] != "system":
            return list(given)
        first, second, *rest = given
        return [{**second, "content": f"{first['content']}\n\n{second['content']}"}, *rest]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes:
      content: a text, empty if the model said nothing; or what else was asked for.
      usage: token counts by the names of `COUNTS`; None if they are not told.
      finish: why it ended, as the server puts it.
      refusal: what the model says where it refuses to answer.
    """

    content: Any
    usage: dict[str, int] | None = None
    finish: str | None = None
    refusal: str | None = None


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
        self._form = Form()

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
        answer, reason = None, ""
        try:
            answer = await self._attempt_often(messages, attempts)
            self.ledger.answered += 1
            self._failed_in_a_row = 0
            return answer.content
        except CallFailed as failed:
            reason = str(failed)
            self.ledger.failed += 1
            raise
        finally:
            if self._transcript:
                self._transcript.add({
                    "call": number, **(note or {}), "model": self.settings.model, "messages": list(messages),
                    "attempts": attempts, "reply": answer and answer.content, "usage": answer and answer.usage,
                    "finish": answer and answer.finish, "refusal": answer and answer.refusal,
                    "failure": reason or None, "seconds": self._clock() - began,
                })  # fmt: skip

    async def close(self) -> None:
        """Closes connections and the transcript."""
        await self._client.close()
        if self._transcript:
            self._transcript.close()

    async def _attempt_often(
        self, messages: Sequence[Mapping[str, str]], attempts: list[dict[str, Any]]
    ) -> Answer:
        """The answer; notes every attempt."""
        for attempt in range(self.settings.attempts):
            async with self._gate:
                await self._wait_as_asked()
                if self.gave_up:
                    raise CallFailed(f"not asked any more: {self.gave_up}")
                began = self._clock()
                answer = await self._request(messages, attempt)
                seconds = self._clock() - began
            if not isinstance(answer, Failure):
                self.ledger.answer(seconds, answer.usage)
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

    async def _request(self, messages: Sequence[Mapping[str, str]], attempt: int) -> Answer | Failure:
        """One request in the form that the server takes: its answer, or why there is none."""
        form = self._form
        answer = await self._send(messages, form, attempt)
        while isinstance(answer, Failure) and (wanted := form.adapted(answer.reason)) != form:
            # Others in flight may have been sent in the old form too: each looks at its own.
            self._form = form = wanted
            answer = await self._send(messages, form, attempt + 1)
        return answer

    async def _send(self, messages: Sequence[Mapping[str, str]], form: Form, attempt: int) -> Answer | Failure:
        self.ledger.begin(attempt)
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await self._answer(messages, form)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            return failure
        finally:
            self.ledger.in_flight -= 1

    async def _answer(self, messages: Sequence[Mapping[str, str]], form: Form) -> Answer:
        """Sends a request once.

        Raises:
          CutOff: its tokens were used up before it said anything; they are counted.
        """
        settings = self.settings
        sent: Any = {"model": settings.model, "messages": form.messages(messages), "temperature": settings.temperature}
        sent[form.limit] = settings.max_tokens
        raw = await self._client.chat.completions.with_raw_response.create(**sent)
        answer = read_answer(raw.text)
        if answer.finish == "length" and not split_thinking(answer.content)[1]:
            self.ledger.charge(answer.usage)
            raise CutOff(
                f"nothing was said within {settings.max_tokens} tokens: a model that thinks first needs more "
                f"(--api_max_tokens={4 * settings.max_tokens}, for example)"
            )
        return answer

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
        seconds = self.settings.backoff.seconds(attempt, failure, self._chance)
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


def read_answer(body: str) -> Answer:
    """What a chat completion's body holds.

    Raises:
      MalformedReply: it is not JSON, or holds no message.
      ToldError: it holds an error in its place.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        raise MalformedReply(f"no JSON in {body[:80]!r}") from None
    if isinstance(answer, dict) and (error := answer.get("error")) and "choices" not in answer:
        told = error if isinstance(error, dict) else {"message": error}
        code = str(told.get("code"))
        reason = _utf8(str(told.get("message", error)))
        raise ToldError(int(code) if re.fullmatch("[45][0-9]{2}", code) else 500, reason)
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedReply("no choices[0].message") from None
    if isinstance(content, list):  # of parts, the thinking in parts of its own
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    if content is not None and not isinstance(content, str):
        raise MalformedReply("choices[0].message.content is no text")
    refusal = message.get("refusal")
    return Answer(
        _utf8(content or ""), _usage(answer.get("usage")), choice.get("finish_reason"),
        _utf8(refusal) if isinstance(refusal, str) else refusal,
    )  # fmt: skip


def _utf8(text: str) -> str:
    """The text with a question mark for each half of a character: JSON may hold one, but no request can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _usage(told: Any) -> dict[str, int] | None:
    """Token counts; where those of thinking are told in the total alone, they belong to the answer."""
    counts = [told.get(name) if isinstance(told, dict) else None for name in (*COUNTS, "total_tokens")]
    prompt, completion, total = (count if type(count) is int and count >= 0 else None for count in counts)
    if prompt is None or completion is None:
        return None
    return dict(zip(COUNTS, (prompt, max(completion, (total or 0) - prompt)), strict=True))


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
