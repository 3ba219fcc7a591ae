"""Which code a run began with: as git knows it, or as it was shipped to a machine without git."""

import subprocess

from maro_jax.run.provenance import Code, code


def git(folder, *arguments):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_code_that_git_knows(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("old\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "code.txt").write_text("another\n")  # git knows better
    commit = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "add", "code.txt")
    git(tmp_path, "commit", "-qm", "second")
    assert code(tmp_path) == Code(git(tmp_path, "rev-parse", "HEAD"), False, "")
    git(tmp_path, "checkout", "-q", commit)
    (tmp_path / "a.py").write_text("new\n")
    found = code(tmp_path)
    assert found[:2] == (commit, True) and "+new" in found.diff


def test_code_that_was_shipped(tmp_path):
    assert code(tmp_path) == Code()
    (tmp_path / "code.txt").write_text("0a1b2c\n")
    (tmp_path / "code.diff").write_text("")
    assert code(tmp_path) == Code("0a1b2c", False, "")
    (tmp_path / "code.txt").write_text("0a1b2c with uncommitted changes, see code.diff\n")
    (tmp_path / "code.diff").write_text("+# changed\n")
    assert code(tmp_path) == Code("0a1b2c", True, "+# changed\n")
