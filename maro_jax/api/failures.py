"""What went wrong with a request, whether it is worth another, and how long to wait before it."""

from __future__ import annotations

import asyncio
import dataclasses
import email.utils
import math
import random
import time
from collections.abc import Callable, Mapping

from openai import APIConnectionError, APIStatusError, APITimeoutError

RETRIED = (408, 409, 425, 429)  # beside all from 500 on
# The key, the account, the address or the model is wrong: no request will do better. (403 may be about one text only.)
REFUSED = (401, 402, 404)
NO_CREDIT = "insufficient_quota"
LONGEST_REASON = 200  # characters


class MalformedReply(ValueError):
    """An answer that is not what the chat protocol promises; the message says how."""


class ToldError(Exception):
    """An error inside an answer of status 200, as servers send it that pass on the answers of others."""

    def __init__(self, status: int, said: str):
        """Takes what the answer says of it; a status of 500 where it says none."""
        super().__init__(said)
        self.status = status


class CutOff(ValueError):
    """An answer of which nothing was left to show when its tokens were used up."""


class CallFailed(Exception):
    """No answer, after all attempts; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """A request that was not answered.

    Attributes:
      kind: for counting: `rate_limit`, `server_error`, `time_out`, `connection`, `malformed`, `cut_off` or `refused`.
      reason: in words.
      retry: whether the same request may succeed later.
      wait: seconds that the server asks to wait, if it says so.
      final: whether no later request can succeed either.
    """

    kind: str
    reason: str
    retry: bool = True
    wait: float | None = None
    final: bool = False


def failure_of(error: Exception) -> Failure | None:
    """What an exception of a request means; None for one that no request causes."""
    if isinstance(error, (APITimeoutError, asyncio.TimeoutError)):
        return Failure("time_out", "no answer in time")
    if isinstance(error, APIConnectionError):
        cause = error.__cause__
        return Failure("connection", f"the connection failed ({type(cause).__name__ if cause else 'no cause given'})")
    if isinstance(error, MalformedReply):
        return Failure("malformed", f"a malformed answer: {error}")
    if isinstance(error, CutOff):
        return Failure("cut_off", str(error), retry=False)
    if isinstance(error, ToldError):
        return _of_status(error.status, str(error), None)
    if isinstance(error, APIStatusError):
        failure = _of_status(error.status_code, _said(error), retry_after(error.response.headers))
        if error.code == NO_CREDIT:
            return dataclasses.replace(failure, kind="refused", retry=False, final=True)
        return failure
    return None


def _said(error: APIStatusError) -> str:
    """The server's reason: the client knows one form of it only, and tells of others the status alone."""
    told = str(error.message)
    return f"{told} {error.response.text}" if told.rstrip().endswith(str(error.status_code)) else told


def _of_status(status: int, said: str, wait: float | None) -> Failure:
    reason = f"HTTP {status}: {' '.join(said.split())[:LONGEST_REASON]}"
    if status in REFUSED:
        return Failure("refused", reason, retry=False, final=True)
    if status in RETRIED or status >= 500:
        return Failure("rate_limit" if status == 429 else "server_error", reason, wait=wait)
    return Failure("refused", reason, retry=False)


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Seconds that a server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date (RFC 9110).

    Args:
      headers: of its answer.
      now: seconds since 1970.
    """
    milliseconds, value = _number(headers.get("retry-after-ms")), headers.get("retry-after", "")
    if milliseconds is not None:
        return milliseconds / 1000
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now())
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


@dataclasses.dataclass(frozen=True)
class Backoff:
    """How long to wait before an attempt: it doubles each time, less up to a half drawn by chance.

    Attributes:
      first: seconds before the second attempt.
      first_of_limit: the same after a rate limit for which the server names no time; most are limits a minute.
      longest: seconds; a server that asks for more is not asked again for this answer.
    """

    first: float = 1.0
    first_of_limit: float = 5.0
    longest: float = 120.0

    def seconds(self, attempt: int, failure: Failure, chance: random.Random) -> float:
        """Seconds to wait after attempt number `attempt` (from 0), never less than the server asked for."""
        jitter = 1.0 - 0.5 * chance.random()
        if failure.wait is not None:
            return failure.wait + self.first * (1.0 - jitter)
        first = self.first_of_limit if failure.kind == "rate_limit" else self.first
        return min(self.longest, first * 2.0**attempt) * jitter
