#!/usr/bin/env bash
# Sets up (once) and trains the tiny Werewolf model on this machine. Flags are passed on:
#   launch/local.sh --seed=1 --run_dir=runs/seed-1
# Run it again to go on after an interruption. On a machine with a GPU or TPU: EXTRA=cuda (or tpu) launch/local.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up "${EXTRA:-}"

# From any folder the same command finds the same run, unless the caller chooses otherwise.
where=(--run_dir="$ROOT/runs/werewolf-tiny")
for argument in "$@"; do
  case "$argument" in
    -run_dir* | --run_dir* | -preset* | --preset*) where=() ;;
  esac
done
# -P: a folder named games in the current directory must not shadow ours.
exec "$PYTHON_VENV" -P -m maro_jax.train --preset=werewolf-tiny ${where[@]+"${where[@]}"} "$@"
