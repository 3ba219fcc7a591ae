"""What may become of a run's folder while the run goes on: its disk is full, it is read-only, or it is gone."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

# Of the disk itself, whichever file is named.
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EFBIG})
_KNOWN = {os.strerror(code): os.strerror(code) for code in (*_OF_THE_DISK, errno.ENOENT, errno.EACCES)}
_KNOWN["NOT_FOUND"] = os.strerror(errno.ENOENT)  # in TensorStore's words


class NotWrittenError(Exception):
    """The run's folder cannot be written any more; `str()` says why, in one sentence for the user."""


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Says in one sentence what goes wrong with files of a folder.

    Args:
      folder: absolute path.

    Raises:
      NotWrittenError: in place of an `OSError` of one of its files, or of a disk that takes no more.
    """
    try:
        yield
    except OSError as error:
        ours = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(folder)
        if not ours and error.errno not in _OF_THE_DISK:
            raise
        raise _not_written(folder, error.strerror or str(error)) from error


@contextlib.contextmanager
def saving_to(folder: Path, kind: type[Exception] = Exception) -> Iterator[None]:
    """As `writing_to`, for libraries that raise something else than an `OSError` where they cannot write.

    Args:
      folder: absolute path.
      kind: what they raise.
    """
    try:
        with writing_to(folder):
            yield
    except (NotWrittenError, MemoryError):
        raise
    except kind as error:
        text = str(error).strip() or type(error).__name__
        reason = next((known for word, known in _KNOWN.items() if word in text), text.splitlines()[0][:200])
        raise _not_written(folder, reason) from error


def _not_written(folder: Path, reason: str) -> NotWrittenError:
    return NotWrittenError(
        f"{folder} can no longer be written: {reason}; what was saved is kept; once that is mended, the same "
        "command goes on from there"
    )
