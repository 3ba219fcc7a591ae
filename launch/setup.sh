# shellcheck shell=bash
# Sourced by the scripts beside it. Defines
#   ROOT           the repository
#   PYTHON_VENV    the Python of ROOT/.venv, after
#   set_up EXTRA   makes that environment with the named extra ("" for none) once; later calls return at once.
# The environment variable PYTHON names the interpreter to build it with; default: the first suitable one found.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON_VENV="$ROOT/.venv/bin/python"

_is_suitable() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1
}

_find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
    if _is_suitable "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  echo "error: no Python from 3.11 to 3.14 with the venv module was found; install one (on Debian and Ubuntu:" \
    "apt install python3 python3-venv; on Ubuntu 22.04, as TPU machines have it, apt install python3.11" \
    "python3.11-venv) or name it, for example PYTHON=/opt/python3.12/bin/python3" >&2
  return 2
}

# The installed set depends on these files and on the interpreter; the stamp records all three.
_checksum() {
  { cat "$ROOT/pyproject.toml" "$ROOT/launch/constraints.txt"; "$PYTHON_VENV" --version; echo "$1"; } | cksum
}

set_up() {
  local extra="$1" stamp="$ROOT/.venv/.installed-${1:-run}" python
  if "$PYTHON_VENV" --version >/dev/null 2>&1 && [[ "$(cat "$stamp" 2>/dev/null)" == "$(_checksum "$extra")" ]]; then
    return
  fi
  if ! _is_suitable "$PYTHON_VENV"; then
    python="$(_find_python)"
    echo "Making $ROOT/.venv with $("$python" --version) ($python)"
    "$python" -m venv --clear "$ROOT/.venv"
  fi
  echo "Installing maro-jax${extra:+ with the $extra extra} (once; a few minutes on a fresh machine)"
  # --no-compile: Python compiles what it imports, a fraction of what is installed.
  "$PYTHON_VENV" -m pip install --quiet --disable-pip-version-check --no-compile \
    --constraint "$ROOT/launch/constraints.txt" --editable "$ROOT${extra:+[$extra]}"
  _checksum "$extra" >"$stamp"
}
