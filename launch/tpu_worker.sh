#!/usr/bin/env bash
# The part of launch/tpu.sh that runs on each TPU worker; it is shipped with the code and not called by hand.
#   tpu_worker.sh setup RUN                     the Python environment, once for each set of pinned versions
#   tpu_worker.sh start RUN BUCKET SHARED [FLAGS]
#                                               starts training apart from this shell (BUCKET: gs://... or -)
#   tpu_worker.sh report RUN                    one line: worker, state, exit code, last step
#   tpu_worker.sh log RUN LINES [follow]        the end of this worker's log
#   tpu_worker.sh stop RUN SECONDS              terminate, wait for the save, then kill
# All of a run lies in ~/maro/RUN: code/, run/ (the trainer's run directory), env (secrets, mode 0600), worker.log.
# With SHARED (a folder that all workers see, or -) run/ is a link to SHARED/RUN/run, and every worker trains on it.
set -euo pipefail
umask 077

readonly verb="$1" run="$2"
shift 2
readonly dir="$HOME/maro/$run"
export PATH="$HOME/.local/bin:$PATH"

# The only place that talks to the object store.
store() {
  gcloud storage "$@"
}

# Worker 0 uploads the run, so one that does not know its number fails and is tried again: a guess may lose the results.
worker_index() {
  local known="$HOME/maro/.worker" index try
  [[ -z "${MARO_WORKER_INDEX:-}" ]] || { echo "$MARO_WORKER_INDEX" && return; }
  for try in 0 1 2 3; do
    sleep "$try"
    index="$(cat "$known" 2>/dev/null || true)"
    [[ -n "$index" ]] || index="$(ask_for_index || true)"
    [[ "$index" =~ ^[0-9]+$ ]] || continue
    keep_index "$index" "$known"
    echo "$index"
    return
  done
  echo "error: the metadata server does not tell this worker's number" >&2
  return 1
}

ask_for_index() {
  local metadata=http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number
  curl -sf -m 5 -H 'Metadata-Flavor: Google' "$metadata"
}

# Several calls may ask at once: the file is whole or absent.
keep_index() {
  [[ ! -s "$2" ]] || return 0
  echo "$1" >"$2.$BASHPID"
  mv "$2.$BASHPID" "$2"
}

# A process id may have been given to another program since a reboot, hence the look at its command.
supervisor_of() {
  local pid
  pid="$(cat "$1/supervisor.pid" 2>/dev/null)" || return 1
  kill -0 "$pid" 2>/dev/null && grep -qa tpu_worker "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

venv() {
  local versions
  versions="$(cat "$dir/code/pyproject.toml" "$dir/code/launch/constraints.txt" | cksum)"
  echo "$HOME/maro/venv-${versions%% *}"
}

setup() {
  local target index
  index="$(worker_index)"
  target="$(venv)"
  # A dropped connection may have left another setup at work.
  exec 9>"$HOME/maro/.setup.lock"
  flock 9
  if [[ ! -f "$target/.ok" ]]; then
    command -v uv >/dev/null || python3 -m pip install --quiet --user uv
    rm -rf "$target"
    uv venv --quiet --python 3.12 "$target"
    uv pip install --quiet --python "$target/bin/python" --constraint "$dir/code/launch/constraints.txt" \
      --requirement "$dir/code/pyproject.toml" --extra tpu
    touch "$target/.ok"
  fi
  echo "maro-setup worker=$index ok"
}

start() {
  local other index
  index="$(worker_index)"
  for other in "$HOME"/maro/*/; do
    if supervisor_of "${other%/}" >/dev/null; then
      [[ "$(basename "$other")" == "$run" ]] && { echo "worker $index: already running"; return; }
      echo "error: run $(basename "$other") is running on this TPU; stop it first: launch/tpu.sh stop" \
        "--run-id=$(basename "$other")" >&2
      return 2
    fi
  done
  rm -f "$dir/exit-code" "$dir/stopped" "$dir/trainer.pid"
  setsid nohup bash "$dir/code/launch/tpu_worker.sh" supervise "$run" "$@" >>"$dir/worker.log" 2>&1 </dev/null 9>&- &
  echo "$!" >"$dir/supervisor.pid"
  echo "worker $index: started"
}

# Runs in a session of its own until the trainer has ended and its results are safe.
supervise() {
  local bucket="$1" shared="$2" code=0 trainer keeper="" uploader=""
  shift 2
  echo "$$" >"$dir/supervisor.pid"
  # A machine that goes down terminates every process: the trainer saves, and this waits for it.
  trap : TERM
  echo "-- $(date -u +%FT%TZ) attempt begins: $(head -n 1 "$dir/code/code.txt" 2>/dev/null)"
  if ! { worker_index >/dev/null && share "$shared" && restore "$bucket"; }; then
    code=69
  elif [[ -f "$dir/stopped" ]]; then
    code=75 # stopped before there was a trainer that could save
  else
    if is_new_run && keep_diff; then keeper=due; fi
    train_to_end "$@" &
    trainer="$!"
    echo "$trainer" >"$dir/trainer.pid"
    [[ -z "$keeper" ]] || { keep_commit "$trainer" & keeper="$!"; }
    [[ "$bucket" == - ]] || { upload_forever "$bucket" & uploader="$!"; }
    code=0
    wait_for "$trainer" || code="$?"
    [[ -z "$keeper" ]] || wait_for "$keeper" || true
    [[ -z "$uploader" ]] || stop_uploading "$uploader"
  fi
  [[ "$code" != 134 ]] || echo "-- JAX ended this process, most likely since another host was lost"
  echo "-- $(date -u +%FT%TZ) attempt ended with exit code $code"
  # Done is done only when the results have left this disk.
  upload_at_end "$bucket" || { [[ "$code" != 0 ]] || code=69; }
  echo "$code" >"$dir/exit-code.part"
  mv "$dir/exit-code.part" "$dir/exit-code"
}

train_to_end() {
  local line
  trap - TERM
  if [[ -f "$dir/env" ]]; then
    while IFS= read -r line || [[ -n "$line" ]]; do
      [[ -z "$line" || "$line" == \#* ]] || export "${line?}"
    done <"$dir/env"
  fi
  cd "$dir/code"
  PYTHONPATH="$dir/code" exec "$(venv)/bin/python" -P -m maro_jax.train --run_dir="$dir/run" "$@"
}

# Of several workers the first keeps what is known of the code, and only of that which the run begins with.
is_new_run() { [[ ! -e "$dir/run/config.json" && "$(worker_index)" == 0 ]]; }

# The only file that the trainer accepts in the folder of a new run.
keep_diff() {
  rm -f "$dir/run/code.diff"
  [[ -s "$dir/code/code.diff" ]] || return 0
  mkdir -p "$dir/run" && cp "$dir/code/code.diff" "$dir/run/code.diff"
}

# As soon as the trainer has made the folder its own.
keep_commit() {
  trap - TERM
  while [[ ! -e "$dir/run/config.json" ]] && kill -0 "$1" 2>/dev/null; do sleep 0.2; done
  [[ ! -e "$dir/run/config.json" ]] || cp "$dir/code/code.txt" "$dir/run/code.txt"
}

# `wait` also returns when a trapped signal comes.
wait_for() {
  local code
  while :; do
    code=0
    wait "$1" || code="$?"
    kill -0 "$1" 2>/dev/null || return "$code"
  done
}

# A shared folder has the run whatever becomes of this machine; a run from before, on this disk alone, is not hidden.
share() {
  [[ "$1" != - ]] || return 0
  [[ -d "$1" ]] || { echo "error: there is no folder $1 on worker $(worker_index); mount it, see --mount" && return 1; }
  [[ ! -d "$dir/run" || -L "$dir/run" ]] || { echo "error: $dir/run is on this disk, not in $1" && return 1; }
  mkdir -p "$1/$run/run" || { echo "error: $1 cannot be written on worker $(worker_index); see --mount" && return 1; }
  ln -sfn "$1/$run/run" "$dir/run"
}

# A disk that has the run is ahead of the bucket. A failure to look must not be taken for an empty bucket: an attempt
# that begins anew would replace what is there.
restore() {
  local bucket="$1" found
  [[ "$bucket" != - && ! -d "$dir/run" ]] || return 0
  if ! found="$(store ls "$bucket/$run/run/" 2>&1)"; then
    [[ "$found" == *"matched no objects"* ]] && return 0
    echo "error: $bucket/$run cannot be read: $found"
    return 1
  fi
  rm -rf "$dir/run.part"
  mkdir "$dir/run.part"
  store rsync --recursive "$bucket/$run/run" "$dir/run.part" || return 1
  mv "$dir/run.part" "$dir/run"
  echo "-- restored from $bucket/$run/run"
}

upload() {
  local bucket="$1" index
  index="$(worker_index)" || return 1
  store cp "$dir/worker.log" "$bucket/$run/logs/worker-$index.log" 2>&1 || return 1
  [[ "$index" == 0 && -d "$dir/run" ]] || return 0
  # Hidden files and checkpoints that are still being written are of no use to anybody else. A link is skipped, so not
  # even the folder may be one.
  store rsync --recursive --delete-unmatched-destination-objects --exclude='(^|.*/)\..*|.*orbax-checkpoint-tmp.*' \
    "$(readlink -f "$dir/run")" "$bucket/$run/run" 2>&1
}

upload_forever() {
  local nap=""
  # Told to end, it ends between two calls of the store and never leaves one at work: that one could still delete, by
  # its old list of files, what a later upload has brought.
  trap '[[ -z "$nap" ]] || kill "$nap"; exit 0' TERM
  while :; do
    sleep "${MARO_UPLOAD_SECONDS:-60}" &
    nap="$!"
    wait "$nap" || true
    nap=""
    upload "$1" >/dev/null || true
  done
}

stop_uploading() {
  kill -TERM "$1" 2>/dev/null || true
  wait_for "$1" || true
}

upload_at_end() {
  [[ "$1" != - ]] || return 0
  local try message
  for try in 1 2 3; do
    message="$(upload "$1")" && return
    echo "-- upload failed ($try of 3): ${message##*$'\n'}"
    sleep "$try"
  done
  return 1
}

report() {
  local state=absent code="-" step=-1 stopped=no index
  index="$(worker_index)"
  [[ ! -f "$dir/stopped" ]] || stopped=yes
  if supervisor_of "$dir" >/dev/null; then
    state=running
  elif [[ -f "$dir/exit-code" ]]; then
    state=ended code="$(cat "$dir/exit-code")"
  elif [[ -f "$dir/supervisor.pid" ]]; then
    state=ended code=lost # with the machine, or killed with its supervisor
  fi
  if [[ -f "$dir/run/metrics.jsonl" ]]; then
    step="$(sed -n 's/^{"step": \([0-9]*\).*}$/\1/p' "$dir/run/metrics.jsonl" | tail -n 1)"
  fi
  echo "maro-report worker=$index state=$state code=$code step=${step:--1} stopped=$stopped"
}

log() {
  local follow=()
  [[ "${2:-}" != follow ]] || follow=(-F)
  tail -n "$1" ${follow[@]+"${follow[@]}"} "$dir/worker.log" | sed -u "s/^/worker-$(worker_index) | /"
}

stop() {
  local supervisor waited=0 told=""
  touch "$dir/stopped"
  if supervisor="$(supervisor_of "$dir")"; then
    while kill -0 "$supervisor" 2>/dev/null && ((waited < $1 * 5)); do
      # Once and to the trainer only: a second signal would make it leave without saving. While a run is still being
      # restored there is no trainer.
      if [[ -z "$told" && -s "$dir/trainer.pid" ]]; then
        kill -TERM "$(cat "$dir/trainer.pid")" 2>/dev/null || true
        told=yes
      fi
      sleep 0.2
      waited=$((waited + 1))
    done
    if kill -0 "$supervisor" 2>/dev/null; then
      kill -KILL -- "-$supervisor" 2>/dev/null || true
      echo 137 >"$dir/exit-code"
      echo "worker $(worker_index): did not end within $1 s and was killed"
    fi
  fi
  rm -f "${MARO_LIBTPU_LOCKFILE:-/tmp/libtpu_lockfile}"
  echo "worker $(worker_index): stopped"
}

case "$verb" in
  setup | start | supervise | report | log | stop) "$verb" "$@" ;;
  *) echo "error: unknown verb $verb" >&2 && exit 2 ;;
esac
