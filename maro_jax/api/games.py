"""Games with API players, played to their ends: requests are under way while the other games go on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from maro_jax.api.player import ApiPlayer, Fault
from maro_jax.selfplay.episodes import Episodes
from maro_jax.selfplay.hosted import HostedGames, Reply, Turn

Result = TypeVar("Result")
Pending = dict["concurrent.futures.Future[Reply | Fault]", Turn]


class Background:
    """An event loop in a thread of its own while the block lasts; what is under way at its end is cancelled."""

    def __enter__(self) -> Background:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api", daemon=True)
        self._thread.start()
        return self

    def submit(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        """Starts a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.submit(self._cancel()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _cancel() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def play_games(
    games: HostedGames, player: ApiPlayer, progress: Callable[[int], None] = lambda over: None
) -> tuple[Episodes, list[Fault]]:
    """Plays all games to their ends.

    Args:
      games: the plan; seats of `API` are the player's.
      player: replies for them.
      progress: told the number of games that are over.

    Returns:
      The episodes in the plan's order, and the moves that a scripted player made in its place.
    """
    faults: list[Fault] = []
    pending: Pending = {}
    with Background() as background:
        try:
            while True:
                asked = {turn.lane for turn in pending.values()}
                due = [turn for turn in games.run() if turn.lane not in asked]
                pending |= {background.submit(player.decide(turn)): turn for turn in due}
                if not pending:
                    return games.episodes(), faults
                done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
                faults += _answer(games, {pending.pop(future): future.result() for future in done})
                progress(games.over)
        finally:  # also of a match that is interrupted: connections cannot be closed once the loop is
            background.submit(player.client.close()).result()


def _answer(games: HostedGames, replies: dict[Turn, Reply | Fault]) -> list[Fault]:
    """Plays what was replied; returns the moves that a scripted player made instead."""
    games.reply({turn.lane: reply for turn, reply in replies.items() if isinstance(reply, Reply)})
    faults = [reply for reply in replies.values() if isinstance(reply, Fault)]
    if faults:
        games.replace([turn for turn, reply in replies.items() if isinstance(reply, Fault)])
    return faults
