"""A run's metrics for TensorBoard (extra `tensorboard`): what `metrics.jsonl` holds, told again."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maro_jax.run.fields import ConfigError


def check_installed() -> None:
    """Makes sure that event files can be written.

    Raises:
      ConfigError: the extra is not installed.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError("--tensorboard needs tensorboardX: pip install 'maro-jax[tensorboard]'")


class TensorBoard:
    """Event files of a run.

    They begin anew with every session, from the rows that count: a resumed run leaves no curve of what it played again.
    """

    def __init__(self, folder: Path, rows: Sequence[Mapping[str, Any]]):
        """Replaces the event files in a folder.

        Args:
          folder: made if need be; nothing else is kept there.
          rows: metrics so far, as `Metrics.write` takes them, with `step`.
        """
        from tensorboardX import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder), flush_secs=10)
        for row in rows:
            self.write(**row)

    def write(self, step: int, **values: Any) -> None:
        """Adds the numbers among the values; names without a group are put into `run/`."""
        for name, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._writer.add_scalar(name if "/" in name else f"run/{name}", value, step)

    def close(self) -> None:
        """Writes all to the end."""
        self._writer.close()
