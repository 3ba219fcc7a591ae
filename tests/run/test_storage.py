"""What is said when a folder cannot be written."""

import errno
import os
import re

import pytest

from maro_jax.run import exit_codes
from maro_jax.run.config import TrainConfig
from maro_jax.run.flags import run_cli
from maro_jax.run.storage import NotWrittenError, saving_to, writing_to


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "{folder}/a"), "No such file or directory"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "{folder}/a/b"), "Permission denied"),
    ],
)
def test_what_goes_wrong_with_a_folder_s_files_is_a_sentence(tmp_path, error, reason):
    if error.filename:
        error.filename = error.filename.format(folder=tmp_path)
    sentence = re.escape(f"{tmp_path} can no longer be written: {reason}; what was saved is kept")
    with pytest.raises(NotWrittenError, match=sentence), writing_to(tmp_path):
        raise error


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "No such file or directory", "/elsewhere/model"), ValueError("a fault")]
)
def test_other_mistakes_pass(tmp_path, error):
    with pytest.raises(type(error)) as raised, writing_to(tmp_path):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "RESOURCE_EXHAUSTED: Error writing: No space left on device [os_error_code='28']\nmore",
            "No space left on device",
        ),
        ('NOT_FOUND: Error opening "zarr" driver', "No such file or directory"),
        ("something\nelse", "something"),
        ("", "RuntimeError"),
    ],
)
def test_the_reason_is_found_in_what_a_library_says(tmp_path, text, reason):
    sentence = re.escape(f"can no longer be written: {reason}; ")
    with pytest.raises(NotWrittenError, match=sentence), saving_to(tmp_path, RuntimeError):
        raise RuntimeError(text)
    with pytest.raises(KeyError), saving_to(tmp_path, RuntimeError):
        raise KeyError


def test_a_command_says_it_and_ends_with_74(tmp_path, capsys):
    def fails(config: TrainConfig) -> int:
        with writing_to(tmp_path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.raises(SystemExit) as stop:
        run_cli(TrainConfig, fails, [])
    assert stop.value.code == exit_codes.STORAGE
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} can no longer be written: Read-only file system; ")
