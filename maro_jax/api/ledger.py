"""What calls have cost, and what was said in them: counters, and a transcript of every call as JSON lines."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PERCENTILES = (50, 90, 99)
MILLION = 1_000_000


@dataclasses.dataclass(frozen=True)
class Prices:
    """Dollars for a million tokens; both 0: not known."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0


@dataclasses.dataclass
class Ledger:
    """Counters of all calls so far. A call is one answer that was asked for, a request one attempt at it.

    Attributes:
      prices: of tokens.
      calls, answered, failed: calls begun, and how they ended.
      requests, retries: attempts sent, and those of them that were not a call's first.
      failures: requests without an answer, by kind.
      tokens_in, tokens_out: as the server told.
      untold: answers of which the server told no tokens, which therefore cost more than is counted.
      seconds: latency of each request that was answered.
      waited: seconds waited before attempts, over all calls.
      in_flight, most_in_flight: requests without an answer so far, now and at most.
    """

    prices: Prices = Prices()
    calls: int = 0
    answered: int = 0
    failed: int = 0
    requests: int = 0
    retries: int = 0
    failures: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    tokens_in: int = 0
    tokens_out: int = 0
    untold: int = 0
    seconds: list[float] = dataclasses.field(default_factory=list)
    waited: float = 0.0
    in_flight: int = 0
    most_in_flight: int = 0

    def begin(self, attempt: int) -> None:
        """A request is sent, the call's number `attempt` from 0."""
        self.requests += 1
        self.retries += attempt > 0
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def answer(self, seconds: float, usage: Mapping[str, int] | None) -> None:
        """A request was answered; `usage` are `prompt_tokens` and `completion_tokens`, if told."""
        self.seconds.append(seconds)
        self.charge(usage)

    def charge(self, usage: Mapping[str, int] | None) -> None:
        """Tokens were read and written, whatever came of them."""
        self.untold += usage is None
        self.tokens_in += usage["prompt_tokens"] if usage else 0
        self.tokens_out += usage["completion_tokens"] if usage else 0

    @property
    def dollars(self) -> float | None:
        """What the told tokens cost; None without prices."""
        if not (self.prices.tokens_in or self.prices.tokens_out):
            return None
        return (self.tokens_in * self.prices.tokens_in + self.tokens_out * self.prices.tokens_out) / MILLION

    def summary(self) -> dict[str, Any]:
        """All counters as plain data; latencies by the nearest rank."""
        ordered = sorted(self.seconds)
        return {
            "calls": self.calls,
            "answered": self.answered,
            "failed": self.failed,
            "requests": self.requests,
            "retries": self.retries,
            "failures": dict(sorted(self.failures.items())),
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "answers_without_token_counts": self.untold,
            "dollars": self.dollars,
            "seconds_waited": self.waited,
            "most_in_flight": self.most_in_flight,
            "latency": {
                f"p{percent}": ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else None
                for percent in PERCENTILES
            },
        }


class Transcript:
    """A file of JSON lines, one a call; nothing is overwritten."""

    def __init__(self, path: str | Path, hide: Callable[[str], str]):
        """Opens the file.

        Args:
          path: a new file.
          hide: takes secrets out of a line.

        Raises:
          FileExistsError: there is such a file already.
        """
        # What UTF-8 cannot hold is written as JSON escapes it.
        self._file = open(path, "x", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - closed by close()
        self._hide = hide

    def add(self, call: Mapping[str, Any]) -> None:
        """Writes a call at once, so that it is kept whatever comes."""
        self._file.write(self._hide(json.dumps(call, ensure_ascii=False)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
