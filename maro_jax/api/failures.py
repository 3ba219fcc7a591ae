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
REFUSED = (401, 403, 404)  # the key, the account, the address or the model is wrong: no request will do better
NO_CREDIT = "insufficient_quota"


class MalformedReply(ValueError):
    """An answer that is not what the chat protocol promises; the message says how."""


class CallFailed(Exception):
    """No answer, after all attempts; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """A request that was not answered.

    Attributes:
      kind: for counting: `rate_limit`, `server_error`, `time_out`, `connection`, `malformed` or `refused`.
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
    if isinstance(error, APIStatusError):
        return _of_status(error)
    return None


def _of_status(error: APIStatusError) -> Failure:
    status, said = error.status_code, " ".join(str(error.message).split())[:200]
    reason = f"HTTP {status}: {said}"
    if status in REFUSED or error.code == NO_CREDIT:
        return Failure("refused", reason, retry=False, final=True)
    if status in RETRIED or status >= 500:
        kind = "rate_limit" if status == 429 else "server_error"
        return Failure(kind, reason, wait=retry_after(error.response.headers))
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
      longest: seconds; a server that asks for more is not asked again for this answer.
    """

    first: float = 1.0
    longest: float = 120.0

    def seconds(self, attempt: int, asked: float | None, chance: random.Random) -> float:
        """Seconds to wait after attempt number `attempt` (from 0), never less than the server asked for."""
        jitter = 1.0 - 0.5 * chance.random()
        if asked is not None:
            return asked + self.first * (1.0 - jitter)
        return min(self.longest, self.first * 2.0**attempt) * jitter
