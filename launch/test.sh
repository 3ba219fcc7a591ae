#!/usr/bin/env bash
# Sets up (once) and runs every check: lint, types, import contracts, tests. Arguments are passed on to pytest:
#   launch/test.sh              the fast tier
#   launch/test.sh --all        the slow tier too
#   launch/test.sh tests/run -k checkpoint
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up test

cd "$ROOT"
bin="$ROOT/.venv/bin"
echo "== lint"
"$bin/ruff" check .
echo "== types"
"$bin/mypy"
echo "== import contracts"
"$bin/lint-imports"
echo "== tests"
# As many processes as cores, at most four (each takes about 3 GiB); see tests/conftest.py for what stays together.
exec "$PYTHON_VENV" -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadscope --no-loadscope-reorder "$@"
