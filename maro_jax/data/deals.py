"""Deals by what they deal: the search for one that gives the roles and the opening that a game was played with."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from games.text.transcript import event_text
from maro_jax.run.fields import ConfigError, nearest
from maro_jax.selfplay.lanes import DEAL, purpose_key
from maro_jax.selfplay.table import Table

MOST_DEALS = 2**15
CHUNK = 2**10


class Deals:
    """The first deals of a seed, dealt as far as somebody has asked for them.

    A game of given roles or openings is dealt by trying: the rules know no other way to be begun, and what they deal
    is thereby always possible.
    """

    def __init__(self, table: Table, seed: int):
        """Prepares to deal."""
        self._spec = table.spec
        self._roles: list[np.ndarray] = []  # int8[CHUNK, N] each
        self._lines: list[frozenset[str]] = []
        self._text: dict[tuple[int, ...], str] = {}
        key, zero = jax.random.key(seed), jnp.zeros(CHUNK, jnp.int32)
        self._deal = jax.jit(lambda deal: jax.vmap(table.game.init)(purpose_key(key, DEAL, deal, zero)))

    def find(self, number: int, roles: Sequence[str] | None, given: Sequence[str]) -> int:
        """The first deal that fits.

        Args:
          number: of the line that asks.
          roles: name of each seat's role; None for any.
          given: lines that seats must read at the beginning, public or private.

        Raises:
          ConfigError: there is no such role, or no such deal among the first `MOST_DEALS`.
        """
        names = [role.name for role in self._spec.roles]
        for role in roles or ():
            if role not in names:
                raise ConfigError(
                    f"line {number}: there is no role {role!r}{nearest(role, names)}; there are: {', '.join(names)}"
                )
        wanted = None if roles is None else np.array([names.index(role) for role in roles])
        lines = {line.strip() for line in given}
        for chunk in range(MOST_DEALS // CHUNK):
            if chunk == len(self._roles):
                self._extend(chunk)
            fits = np.ones(CHUNK, bool) if wanted is None else (self._roles[chunk] == wanted).all(axis=1)
            for index in np.flatnonzero(fits).tolist():
                if lines <= self._lines[chunk * CHUNK + index]:
                    return chunk * CHUNK + index
        what = " and ".join(["these roles"] * (roles is not None) + [f"the lines {sorted(lines)}"] * bool(lines))
        raise ConfigError(f"line {number}: none of the first {MOST_DEALS} deals has {what}; name a deal by its number")

    def _extend(self, chunk: int) -> None:
        states = jax.device_get(self._deal(jnp.arange(chunk * CHUNK, (chunk + 1) * CHUNK, dtype=jnp.int32)))
        self._roles.append(np.asarray(states.roles))
        for rows, size in zip(states.log.rows.tolist(), states.log.size.tolist(), strict=True):
            self._lines.append(frozenset(self._line(tuple(row)) for row in rows[:size]))

    def _line(self, row: tuple[int, ...]) -> str:
        if row not in self._text:
            self._text[row] = event_text(self._spec, row).strip()
        return self._text[row]
