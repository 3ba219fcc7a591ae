#!/usr/bin/env bash
# Trains on a Google Cloud TPU slice and, with `babysit`, brings it back after every preemption until the run is done.
#   launch/tpu.sh VERB [--OPTION=VALUE ...] [-- TRAINING FLAGS]
#
# So far this has been tried against a stand-in for gcloud only (tests/launch), never on a real TPU.
#
# Verbs
#   create       ask for the slice and wait for it; does nothing where it is there, replaces one that was preempted
#   status       state of the slice and of the training on each worker
#   setup        ship the code and build the Python environment on every worker
#   train        ship, set up and start training, apart from this terminal; returns at once
#   babysit      create, train, watch; after a preemption or a crash go on with the same run, to its end
#   logs         last lines of the log of each worker (--worker, --lines, --follow)
#   pull         copy logs, configuration, metrics and games (no checkpoints) to runs/tpu/RUN-ID
#   ssh          a shell on one worker (--worker), or a command: ssh -- df -h
#   stop         let the trainer save and end (--stop-seconds), then kill what is left
#   delete       give the slice back (asks, unless --yes)
#   doctor       check gcloud, account, project, zone, ssh key, bucket, working tree
#   help         this text
#
# Options; each may also be set as MARO_TPU_NAME, MARO_TPU_ZONE and so on (switches: =1), which options override
#   --name=maro            of the slice                     --zone=us-east5-b      required
#   --type=v6e-8           accelerator type                 --project=ID           default: gcloud's own
#   --runtime=VERSION      default: the one for the type    --network=NETWORK      --service-account=EMAIL
#   --spot | --reserved | --on-demand                       kind of capacity; default: on demand
#   --bucket=gs://B        where the run is kept while it goes on; `babysit` needs it, since a preempted disk is lost
#   --run-id=NAME          of the run, the same over all attempts; default: the slice's name
#   --env-file=FILE        secrets for the trainer, NAME=value lines taken literally, mode 0600
#   --dirty                ship uncommitted changes too; the run's folder has them as code.diff, beside
#                          code.txt, the commit
#   --retries=30           `babysit` gives up after so many new starts
#   --stall-minutes=180    `babysit` starts again when no step was done for so long; 0: never
#   --delete-when-done     `babysit` gives the slice back at the end
#   --poll=30              seconds between two looks, and before the first repetition of what failed
#   --stop-seconds=300     --worker=N|all   --lines=100   --follow   --yes
#   --shared=DIR           slices of several hosts need it: a folder that all of them see, where the run is kept
#                          (Filestore, Lustre, or a bucket mounted by Cloud Storage FUSE; docs/pods.md)
#   --mount=COMMAND        run on each worker where nothing is mounted at that folder yet
#   --dry-run              print every command, run none
#
# Exit codes are the trainer's where there is one: 0 done, 2 usage, 3 not finite, 74 disk full, 75 stopped and saved; 1
# gave up.
# The Cloud TPU API behind this script serves v2 to v6e. Newer TPUs are reached through Compute Engine or GKE.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly ROOT
readonly VERBS="create status setup train babysit logs pull ssh stop delete doctor help"
readonly VALUES="name zone project type runtime network service-account bucket run-id env-file retries stall-minutes
  poll stop-seconds worker lines shared mount"
readonly KINDS="spot reserved on-demand"
readonly SWITCHES="spot reserved on-demand dirty delete-when-done follow yes dry-run"

name="${MARO_TPU_NAME:-maro}" zone="${MARO_TPU_ZONE:-}" project="${MARO_TPU_PROJECT:-}" type="${MARO_TPU_TYPE:-}"
runtime="${MARO_TPU_RUNTIME:-}" network="${MARO_TPU_NETWORK:-}" service_account="${MARO_TPU_SERVICE_ACCOUNT:-}"
bucket="${MARO_TPU_BUCKET:-}" run_id="${MARO_TPU_RUN_ID:-}" env_file="${MARO_TPU_ENV_FILE:-}"
retries="${MARO_TPU_RETRIES:-30}" stall_minutes="${MARO_TPU_STALL_MINUTES:-180}" poll="${MARO_TPU_POLL:-30}"
stop_seconds="${MARO_TPU_STOP_SECONDS:-300}" worker="${MARO_TPU_WORKER:-}" lines="${MARO_TPU_LINES:-100}"
spot="${MARO_TPU_SPOT:-}" reserved="${MARO_TPU_RESERVED:-}" on_demand="${MARO_TPU_ON_DEMAND:-}"
dirty="${MARO_TPU_DIRTY:-}" delete_when_done="${MARO_TPU_DELETE_WHEN_DONE:-}" follow="${MARO_TPU_FOLLOW:-}"
yes="${MARO_TPU_YES:-}" dry_run="${MARO_TPU_DRY_RUN:-}" shared="${MARO_TPU_SHARED:-}" mount="${MARO_TPU_MOUNT:-}"
rest=() # what follows --

# -- Words ------------------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*" >&2; }

refuse() {
  say "error: $*"
  exit 2
}

# Arguments as a shell would read them back.
quoted() {
  local argument text="" word
  for argument in "$@"; do
    printf -v word '%q' "$argument"
    # Easier to read than a backslash before each sign.
    [[ "$word" == "$argument" || "$argument" == *[\'[:cntrl:]]* ]] || word="'$argument'"
    text+="$word "
  done
  printf '%s' "${text% }"
}

help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

# -- Secrets ----------------------------------------------------------------------------------------------------------

# Refuses a command line that holds a secret, without repeating it: it would be in the list of processes and in logs.
refuse_secrets() {
  local variable argument
  for argument in "$@"; do
    case "${argument%%=*}" in
      -*[Tt]oken | -*api[_-]key | -*[Ss]ecret* | -*[Pp]assword*)
        refuse "${argument%%=*} looks like a secret; secrets go into a file of NAME=value lines, for example" \
          "--env-file=secrets.env" ;;
    esac
  done
  for variable in $(compgen -e); do
    case "$variable" in
      *TOKEN* | *KEY* | *SECRET* | *PASSWORD* | *CREDENTIAL*) refuse_value "$variable" "${!variable}" "$@" ;;
    esac
  done
}

refuse_value() {
  local variable="$1" value="$2" argument
  shift 2
  ((${#value} >= 8)) || return 0
  for argument in "$@"; do
    [[ "$argument" != *"$value"* ]] ||
      refuse "an argument holds the value of $variable; secrets go into a file, for example --env-file=secrets.env"
  done
}

# Checks the file of secrets; its values are neither printed nor put on a command line.
check_env_file() {
  local line number=0
  [[ -n "$env_file" ]] || return 0
  [[ -f "$env_file" && -r "$env_file" ]] || refuse "--env-file=$env_file is no readable file"
  [[ -z "$(find "$env_file" -perm /077 2>/dev/null || find "$env_file" -perm +077)" ]] ||
    refuse "--env-file=$env_file can be read by others; make it yours alone: chmod 600 $env_file"
  while IFS= read -r line || [[ -n "$line" ]]; do
    number=$((number + 1))
    [[ -n "$line" && "$line" != \#* ]] || continue
    [[ "$line" =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || refuse "--env-file: line $number is not of the form NAME=value"
    [[ "${line#*=}" != [\"\']* ]] || refuse "--env-file: line $number has quotes; values are taken as they are"
    refuse_value "${line%%=*}" "${line#*=}" "$@"
  done <"$env_file"
}

secret_names() { sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p' "$env_file" | paste -sd ' ' -; }

# -- Options ----------------------------------------------------------------------------------------------------------

is_one_of() { [[ " $2 " == *[[:space:]]"$1"[[:space:]]* ]]; }

# Before the options are read: switches that are set as variables become 1 or empty.
read_switches() {
  local option variable
  for option in $SWITCHES; do
    variable="${option//-/_}"
    case "${!variable}" in
      "" | 1) ;;
      0) printf -v "$variable" '%s' "" ;;
      *)
        refuse "MARO_TPU_$(tr '[:lower:]' '[:upper:]' <<<"$variable")=${!variable} must be 1 (on)," \
          "or 0 or empty (off)" ;;
    esac
  done
}

# A kind of capacity that is given as an option replaces the one that a variable names.
forget_kind() {
  [[ -z "$kind_given" ]] || return 0
  spot="" reserved="" on_demand="" kind_given=1
}

parse() {
  local option value kind_given=""
  while (($#)); do
    [[ "$1" != -- ]] || { shift && rest=("$@") && return; }
    [[ "$1" == --* ]] || refuse "unexpected argument ${1%%=*}; options have the form --name=value," \
      "training flags follow --"
    option="${1#--}" option="${option%%=*}"
    if is_one_of "$option" "$SWITCHES"; then
      [[ "$1" != *=* ]] || refuse "--$option takes no value"
      value=1
      ! is_one_of "$option" "$KINDS" || forget_kind
    elif is_one_of "$option" "$VALUES"; then
      if [[ "$1" == *=* ]]; then
        value="${1#*=}"
      else
        (($# > 1)) || refuse "--$option needs a value, for example --$option=VALUE"
        value="$2" && shift
      fi
    else
      refuse "there is no option --$option; training flags follow --, and launch/tpu.sh help lists the options"
    fi
    printf -v "${option//-/_}" '%s' "$value"
    shift
  done
}

check_options() {
  local option number kinds="$spot$reserved$on_demand"
  ((${#kinds} <= 1)) || refuse "--spot, --reserved and --on-demand exclude one another"
  run_id="${run_id:-$name}"
  for option in name run_id; do
    [[ "${!option}" =~ ^[a-z]([-a-z0-9]{0,60}[a-z0-9])?$ ]] ||
      refuse "--${option/_/-}=${!option} must be small letters, digits and hyphens, for example --${option/_/-}=maro"
  done
  for option in retries stall_minutes poll stop_seconds lines; do
    number="${!option}"
    [[ "$number" =~ ^(0|[1-9][0-9]{0,5})$ ]] ||
      refuse "--${option/_/-}=$number must be a whole number, for example --${option/_/-}=30"
  done
  [[ -z "$bucket" || "$bucket" =~ ^gs://[a-z0-9][-_.a-z0-9]+(/[-_.A-Za-z0-9]+)*$ ]] ||
    refuse "--bucket=$bucket must be a bucket or a folder in one, for example --bucket=gs://my-bucket/runs"
  [[ -z "$worker" || "$worker" =~ ^([0-9]{1,4}|all)$ ]] ||
    refuse "--worker=$worker must be a number or all, for example --worker=0"
  [[ -z "$shared" || "$shared" =~ ^(/[-_.A-Za-z0-9]+)+$ ]] ||
    refuse "--shared=$shared must be a folder's whole path, for example --shared=/mnt/shared"
  [[ -z "$mount" || -n "$shared" ]] ||
    refuse "--mount says how to mount the folder that --shared names, for example --shared=/mnt/shared"
  if [[ -n "$type" ]]; then
    runtime="${runtime:-$(runtime_of "$type")}" # each refuses a type it does not know
    hosts_of "$type" >/dev/null
  fi
}

require() {
  local option
  for option in "$@"; do
    [[ -z "${!option}" ]] || continue
    case "$option" in
      zone) refuse "--zone is missing, for example --zone=us-east5-b or MARO_TPU_ZONE=us-east5-b" ;;
      type) refuse "--type is missing, for example --type=v6e-8; allowed: v2-N to v4-N, v5litepod-N, v5p-N, v6e-N" ;;
      bucket) refuse "babysit needs --bucket (or --shared), since a preempted TPU loses its disk and the run with it," \
        "for example --bucket=gs://my-bucket" ;;
    esac
  done
}

# The hosts of a slice train one run: each writes its part of a checkpoint, and reads that of others when they change.
require_shared_folder() {
  local hosts
  hosts="$(hosts_of "$type")"
  ((hosts == 1)) || [[ -n "$shared" ]] ||
    refuse "--type=$type has $hosts hosts, which need a folder that all of them see, for example" \
      "--shared=/mnt/shared (docs/pods.md); or take a slice of one host, for example --type=v6e-8"
}

runtime_of() {
  case "$1" in
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5e-*) refuse "--type=$1 is called v5litepod-${1#v5e-} by the API" ;;
    tpu7* | v7*) refuse "--type=$1 is not served by the Cloud TPU API, only by Compute Engine and GKE; this script" \
      "reaches v2 to v6e, for example --type=v6e-8" ;;
    *) refuse "--type=$1 is not known; allowed: v2-N, v3-N, v4-N (runtime tpu-ubuntu2204-base), v5litepod-N" \
      "(v2-alpha-tpuv5-lite), v5p-N (v2-alpha-tpuv5), v6e-N (v2-alpha-tpuv6e), for example --type=v6e-8" ;;
  esac
}

# The number in a type counts cores up to v5p, chips in v5e and v6e. Hosts have 8 cores; or 1, 4 or 8 chips alone and 4
# chips each in larger slices.
hosts_of() {
  local size="${1##*-}"
  [[ "$size" =~ ^[1-9][0-9]{0,4}$ ]] || refuse "--type=$1 must end with its size, for example --type=v6e-8"
  case "$1" in
    v5litepod-* | v6e-*) ((size <= 8)) && echo 1 || echo $((size / 4)) ;;
    *) echo $(((size + 7) / 8)) ;;
  esac
}

# -- The provider -----------------------------------------------------------------------------------------------------

# The only place that calls the provider: prints the command, keeps a time limit, tries again with growing pauses.
#   cloud TRIES SECONDS ARGUMENTS...     SECONDS 0: no limit, and the terminal stays connected
cloud() {
  local tries="$1" seconds="$2" try=1 status limit=()
  shift 2
  if [[ -n "$dry_run" ]]; then
    printf '%s\n' "$(quoted gcloud "$@")" >&3
    return 0
  fi
  command -v timeout >/dev/null && limit=(timeout --foreground --kill-after=10 "$seconds")
  while :; do
    [[ -n "${hush:-}" ]] || printf '+ %s\n' "$(quoted gcloud "$@")" >&3
    status=0
    if ((seconds)); then
      ${limit[@]+"${limit[@]}"} gcloud "$@" </dev/null || status="$?"
    else
      gcloud "$@" || status="$?"
    fi
    ((status && try < tries)) || return "$status"
    say "that failed (exit code $status); try $((try + 1)) of $tries follows"
    pause "$try"
    try=$((try + 1))
  done
}

# Waits --poll seconds, doubled with each failure before this one.
pause() {
  local power="${1:-1}"
  ((power <= 5)) || power=5
  [[ -n "$dry_run" ]] || sleep $((poll * (1 << (power - 1))))
}

tpus() {
  local tries="$1" seconds="$2" place=(--zone="$zone")
  shift 2
  [[ -z "$project" ]] || place+=(--project="$project")
  cloud "$tries" "$seconds" compute tpus "$@" "${place[@]}" --quiet
}

# A machine that vanished says nothing: ssh asks every 15 seconds and gives up after four. (With several workers gcloud
# does not pass on the signal of a time limit.)
readonly ALIVE="-oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4"

# on WORKER TRIES SECONDS COMMAND: runs a command on a worker, or all of them side by side.
on() {
  local flag options=()
  for flag in $ALIVE; do options+=(--ssh-flag="$flag"); done
  tpus "$2" "$3" tpu-vm ssh "$name" --worker="$1" "${options[@]}" --command="$4"
}

copy_to_all() {
  local flag options=()
  for flag in $ALIVE; do options+=(--scp-flag="$flag"); done
  tpus 4 900 tpu-vm scp "$1" "$name:maro/$run_id/$2" --worker=all "${options[@]}"
}

# A call of the script that was shipped to the workers.
worker_command() { quoted bash "maro/$run_id/code/launch/tpu_worker.sh" "$1" "$run_id" "${@:2}"; }

# -- The slice --------------------------------------------------------------------------------------------------------

STATE="" # set by look_at_slice: ABSENT, UNKNOWN, REFUSED, or what the provider says

look_at_slice() {
  local text hush=1 # a look every --poll seconds is not worth a line
  if ! text="$(tpus 1 60 queued-resources describe "$name" --format='value(state.state)' 2>&1)"; then
    STATE=ABSENT
    [[ "$text" != *NOT_FOUND* ]] || return 0
    STATE=UNKNOWN
    ! is_refusal "$text" || STATE=REFUSED
    say_error "$text"
    return 0
  fi
  STATE="${text##*$'\n'}"
  # The request stays active when its machine has been preempted.
  if [[ "$STATE" == ACTIVE || -n "$dry_run" ]]; then
    text="$(tpus 1 60 tpu-vm describe "$name" --format='value(state)' 2>&1)" || text=UNKNOWN
    STATE="${text##*$'\n'}"
  fi
}

# What asking again cannot mend.
is_refusal() {
  case "$1" in
    *"Max retries exceeded"* | *"Failed to retrieve"*) return 1 ;; # of the network, though gcloud advises a login
    *"auth login"* | *UNAUTHENTICATED* | *PERMISSION_DENIED* | *INVALID_ARGUMENT* | *"unrecognized arguments"*) ;;
    *) return 1 ;;
  esac
}

# The first lines of what gcloud calls an error: notes may stand before it, and its reason in any of them.
say_error() {
  local text="$1"
  [[ "$text" != *ERROR:* ]] || text="ERROR:${text#*ERROR:}"
  head -n 6 <<<"$text" >&2
}

request_slice() {
  local options=(--node-id="$name" --accelerator-type="$type" --runtime-version="$runtime")
  [[ -z "$spot" ]] || options+=(--spot)
  [[ -z "$reserved" ]] || options+=(--reserved)
  [[ -z "$network" ]] || options+=(--network="$network")
  [[ -z "$service_account" ]] || options+=(--service-account="$service_account")
  tpus 1 300 queued-resources create "$name" "${options[@]}"
}

release_slice() { tpus 3 900 queued-resources delete "$name" --force; }

# Why a request ended as FAILED.
reason_of_failure() {
  local hush=1 text
  text="$(tpus 1 60 queued-resources describe "$name" --format='value(state.failedData.error.message)' 2>/dev/null)" ||
    text=""
  echo "${text:-no reason was given}"
}

# Brings the slice to READY from whatever state it is in.
bring_up() {
  local misses=0 requests=0 failures=0 text
  while :; do
    look_at_slice
    [[ -z "$dry_run" ]] || STATE="$( ((requests)) && echo READY || echo ABSENT)"
    case "$STATE" in
      READY) return 0 ;;
      FAILED)
        say "$name is FAILED ($(reason_of_failure)): it is deleted and asked for anew"
        release_slice || return 1
        failures=$((failures + 1))
        pause "$failures" ;;
      SUSPENDED | PREEMPTED | TERMINATED | STOPPED)
        say "$name is $STATE: it is deleted and asked for anew"
        release_slice || return 1
        ((requests == 0)) || pause ;; # lost before it was ready
      ABSENT)
        ((failures < 5)) || { say "error: $name was asked for 5 times and failed each time" && return 1; }
        ((requests <= retries)) || { say "error: $name was lost each of $requests times" && return 1; }
        requests=$((requests + 1))
        if ! text="$(request_slice 2>&1)"; then
          say_error "$text"
          ! is_refusal "$text" || return 1
          failures=$((failures + 1))
          pause "$failures"
        fi ;;
      REFUSED) return 1 ;;
      UNKNOWN)
        misses=$((misses + 1))
        ((misses < 20)) || { say "error: the state of $name cannot be read" && return 1; }
        pause "$misses" ;;
      *) say "$name: ${STATE:-no answer}" && pause ;;
    esac
  done
}

require_slice() {
  [[ -z "$dry_run" ]] || return 0
  look_at_slice
  [[ "$STATE" == READY ]] && return
  say "error: $name is $STATE; launch/tpu.sh create brings it up"
  exit 1
}

# The type of a slice that is there already need not be said again.
know_type() {
  [[ -z "$type" ]] || return 0
  [[ -z "$dry_run" ]] || require type
  type="$(tpus 2 60 tpu-vm describe "$name" --format='value(acceleratorType)')"
  type="${type##*/}"
  require type
  hosts_of "$type" >/dev/null
}

# -- The code ---------------------------------------------------------------------------------------------------------

archive="" code_line="" # set by pack_code

# Packs the commit (with --dirty: and the changes of tracked files) once, so that all attempts run the same code.
pack_code() {
  local commit tree changes index folder="$ROOT/runs/tpu/$run_id"
  commit="$(git -C "$ROOT" rev-parse HEAD 2>/dev/null)" ||
    refuse "$ROOT is no git repository with a commit; the code is shipped from one"
  changes="$(git -C "$ROOT" status --porcelain)"
  [[ -z "$changes" || -n "$dirty" ]] || refuse "there are uncommitted changes (${changes%%$'\n'*} ...); commit them," \
    "or say --dirty to ship those of tracked files"
  tree="$commit" code_line="$commit"
  archive="$folder/code-${commit:0:12}.tar.gz"
  if [[ -n "$changes" ]]; then
    code_line="$commit with uncommitted changes, see code.diff"
    archive="$folder/code-${commit:0:12}-dirty.tar.gz"
  fi
  if [[ -n "$dry_run" ]]; then
    printf '%s\n' "$(quoted git archive --format=tar.gz --output="${archive#"$ROOT/"}" "$commit")" >&3
    return
  fi
  mkdir -p "$folder"
  git -C "$ROOT" diff HEAD >"$folder/code.diff"
  printf '%s\n' "$code_line" >"$folder/code.txt"
  if [[ -n "$changes" ]]; then
    index="$(mktemp)"
    cp "$(git -C "$ROOT" rev-parse --absolute-git-dir)/index" "$index"
    GIT_INDEX_FILE="$index" git -C "$ROOT" add --update
    tree="$(GIT_INDEX_FILE="$index" git -C "$ROOT" write-tree)"
    rm -f "$index"
    [[ "$changes" != *'?? '* ]] || say "note: files that git does not track stay here"
  fi
  git -C "$ROOT" archive --format=tar.gz --output="$archive" --add-file="$folder/code.txt" \
    --add-file="$folder/code.diff" "$tree"
}

# Ships code and secrets to every worker and builds the environment there, in as few connections as can be.
set_up() {
  local there="maro/$run_id" text count steps
  steps="mkdir -p $there && chmod 700 maro $there && cd $there"
  [[ -z "$mount" ]] || steps="{ mountpoint -q $(quoted "$shared") || { $mount; }; } && $steps"
  if [[ -z "$bucket" || -n "$env_file" ]]; then
    on all 4 120 "$steps" || return 1
  fi
  if [[ -n "$bucket" ]]; then
    cloud 4 900 storage cp "$archive" "$bucket/$run_id/${archive##*/}" || return 1
    steps+=" && gcloud storage cp $(quoted "$bucket/$run_id/${archive##*/}") code.tar.gz"
  else
    copy_to_all "$archive" code.tar.gz || return 1
  fi
  if [[ -n "$env_file" ]]; then
    say "secrets for the trainer: $(secret_names)"
    copy_to_all "$env_file" env || return 1
    steps+=" && chmod 600 env"
  else
    steps+=" && rm -f env"
  fi
  # Code is never replaced under a trainer that runs.
  steps+=" && { bash code/launch/tpu_worker.sh report $run_id 2>/dev/null | grep -q state=running ||\
 { rm -rf code && mkdir code && tar -xzf code.tar.gz -C code; }; } && bash code/launch/tpu_worker.sh setup $run_id"
  text="$(on all 4 1800 "$steps")" || return 1
  [[ -z "$dry_run" ]] || return 0
  count="$(grep -c '^maro-setup worker=' <<<"$text" || true)"
  ((count == $(hosts_of "$type"))) || { say "error: $count of $(hosts_of "$type") workers are set up" && return 1; }
}

# -- The training -----------------------------------------------------------------------------------------------------

REPORTS="" VERDICT="" CODE="" STEP=-1 # set by look_at_training

# VERDICT: running, failing (some ended badly, others run), ended, stopped, absent, or unreachable.
look_at_training() {
  local script="maro/$run_id/code/launch/tpu_worker.sh" hush=1
  VERDICT=unreachable CODE="-"
  REPORTS="$(on all "${1:-1}" 120 "test ! -f $script || $(worker_command report)")" || return 0
  REPORTS="$(grep '^maro-report ' <<<"$REPORTS" || true)"
  [[ -n "$REPORTS" ]] || { VERDICT=absent && return; }
  read -r VERDICT CODE STEP < <(awk -v hosts="$(hosts_of "$type")" '
    { for (i = 2; i <= NF; i++) { split($i, pair, "="); field[pair[1]] = pair[2] }
      if (NR == 1 || field["step"] + 0 > step) step = field["step"] + 0
      seen[field["state"]]++
      if (field["stopped"] == "yes") stopped = 1
      if (field["state"] == "ended" && field["code"] != "0") {
        rank = (field["code"] == 2) ? 6 : (field["code"] == 74) ? 5 : (field["code"] == 3) ? 4 : 3
        if (field["code"] == 75) rank = 1
        if (field["code"] == 76 || field["code"] == 134) rank = 2  # lost the one that failed
        if (rank > worst) { worst = rank; code = field["code"] } } }
    END {
      if (!worst) code = (seen["ended"] == NR) ? 0 : "-"
      if (NR < hosts) verdict = "unreachable"
      else if (seen["absent"] == NR) verdict = "absent"
      else if (seen["running"] == NR || (seen["running"] && !worst && !seen["absent"])) verdict = "running"
      else if (seen["running"] || seen["absent"]) verdict = "failing"
      else verdict = (stopped && worst) ? "stopped" : "ended"
      print verdict, code, step }' <<<"$REPORTS")
}

stop_training() { on all 2 $((stop_seconds + 120)) "$(worker_command stop "$stop_seconds")"; }

# Ships, sets up and starts; a run that is going on already is left alone.
launch() {
  local together=()
  look_at_training 4
  if [[ "$VERDICT" == running ]]; then
    say "run $run_id is going on already, at step $STEP"
    return 0
  fi
  [[ "$VERDICT" != failing ]] || stop_training || return 1
  set_up || return 1
  (($(hosts_of "$type") == 1)) || together=(--distributed=auto)
  on all 4 120 "$(worker_command start "${bucket:--}" "${shared:--}" ${together[@]+"${together[@]}"} \
    ${rest[@]+"${rest[@]}"})"
}

# The end of the log of the first worker that failed as the whole attempt did.
show_failure() {
  local index
  index="$(sed -n "/state=ended code=$CODE /s/.*worker=\([0-9]*\) .*/\1/p" <<<"$REPORTS" | sort -n | head -n 1)"
  say "-- the last lines of worker ${index:-0}:"
  on "${index:-0}" 1 60 "$(worker_command log 30)" >&2 || true
}

refuse_run_dir() {
  local argument
  for argument in ${rest[@]+"${rest[@]}"}; do
    [[ ! "$argument" =~ ^--?run_dir(=|$) ]] ||
      refuse "--run_dir is chosen by the launcher; name the run instead, for example --run-id=seed-1"
  done
}

# Watches one attempt. OUTCOME: done, final (no use in going on), again (ended), or lost (the slice is gone).
watch_training() {
  local misses=0 last_step=-2 since="$SECONDS"
  while :; do
    look_at_training
    case "$VERDICT" in
      running)
        misses=0
        if ((STEP != last_step)); then
          last_step="$STEP" since="$SECONDS"
          say "$(date -u +%FT%TZ) running, step $STEP"
        elif ((stall_minutes && SECONDS - since > 60 * stall_minutes)); then
          say "no step was done for $stall_minutes minutes: starting again"
          stop_training || true
          CODE=stalled OUTCOME=again
          return
        fi ;;
      ended | stopped | failing)
        [[ "$VERDICT" != failing ]] || stop_training >&2 || true
        case "$VERDICT:$CODE" in
          ended:0) OUTCOME="done" ;;
          *:2 | *:3 | *:74 | stopped:*) OUTCOME=final ;;
          *) OUTCOME=again ;;
        esac
        [[ "$OUTCOME" == "done" || "$CODE" == 75 ]] || show_failure
        return ;;
      *)
        look_at_slice
        [[ "$STATE" == READY || "$STATE" == UNKNOWN || "$STATE" == REFUSED ]] || { OUTCOME=lost && return; }
        misses=$((misses + 1))
        if ((misses == 20)); then
          say "error: $name is $STATE, but its workers do not answer"
          OUTCOME=final CODE=1
          return
        fi ;;
    esac
    pause
  done
}

# -- Verbs ------------------------------------------------------------------------------------------------------------

create() {
  require zone type
  bring_up || exit 1
  say "$name is ready; it is paid for until launch/tpu.sh delete"
}

status() {
  require zone
  look_at_slice
  echo "$name: $STATE"
  [[ "$STATE" == READY || -n "$dry_run" ]] || return 0
  know_type
  look_at_training
  echo "${REPORTS:-no training was started as run $run_id}"
}

setup() {
  require zone
  know_type
  pack_code
  require_slice
  look_at_training 4
  [[ "$VERDICT" != running ]] ||
    refuse "run $run_id is going on and its code is not replaced under it; first launch/tpu.sh stop --run-id=$run_id"
  set_up || exit 1
  say "$name is set up"
}

train() {
  require zone
  refuse_run_dir
  know_type
  require_shared_folder
  [[ -n "$bucket$shared" || -z "$spot" ]] || say "note: without --bucket or --shared a preemption loses the run"
  pack_code
  require_slice
  launch || exit 1
  [[ -z "$dry_run" ]] || return 0
  # A wrong training flag shows at once.
  sleep $((poll < 10 ? poll : 10))
  look_at_training 3
  if [[ "$VERDICT" == ended && "$CODE" != 0 ]]; then
    show_failure
    [[ "$CODE" =~ ^[0-9]+$ ]] || CODE=1
    exit "$CODE"
  fi
  say "run $run_id: $VERDICT; launch/tpu.sh logs --follow shows its log"
}

babysit() {
  local attempt=0 idle=0 best=-1
  require zone type
  [[ -n "$shared" ]] || require bucket
  require_shared_folder
  refuse_run_dir
  pack_code
  trap 'say "no longer watching; slice and run go on, and the same command watches again"; exit 130' INT
  while ((attempt <= retries)); do
    attempt=$((attempt + 1))
    say "-- attempt $attempt, run $run_id"
    bring_up || exit 1
    CODE=setup OUTCOME=again
    if launch; then
      if [[ -n "$dry_run" ]]; then
        look_at_training
        [[ -z "$delete_when_done" ]] || release_slice
        return
      fi
      watch_training
    else
      look_at_slice
      [[ "$STATE" == READY ]] || OUTCOME=lost
    fi
    case "$OUTCOME" in
      "done")
        finish_babysitting
        return ;;
      final)
        [[ "$CODE" =~ ^[0-9]+$ ]] || CODE=1
        say "run $run_id ended with exit code $CODE; the slice is still there (launch/tpu.sh delete)"
        exit "$CODE" ;;
      lost) say "$name is $STATE: bringing it back" ;;
      again)
        # Starts that lead nowhere must not be paid for for ever. (A preempted slice cannot help it.)
        idle=$((STEP > best ? 0 : idle + 1))
        best=$((STEP > best ? STEP : best))
        ((idle < 3)) || { say "error: three attempts in a row ended ($CODE) without a new step; giving up" && exit 1; }
        say "the attempt ended ($CODE) at step $STEP"
        [[ "$CODE" == 75 ]] || pause "$((idle + 1))" ;;
    esac
  done
  say "error: the run did not end within --retries=$retries new starts; the slice is still there"
  exit 1
}

finish_babysitting() {
  say "run $run_id is done: ${shared:-$bucket}/$run_id/run"
  if [[ -n "$delete_when_done" ]]; then
    release_slice
  else
    say "$name is still there and paid for; launch/tpu.sh delete gives it back"
  fi
}

logs() {
  require zone
  local arguments=(log "$lines") seconds=120
  [[ -z "$follow" ]] || { arguments+=(follow) && seconds=0; }
  on "${worker:-all}" 1 "$seconds" "$(worker_command "${arguments[@]}")"
}

pull() {
  local index folder="runs/tpu/$run_id" there="maro/$run_id" own=(worker.log run)
  [[ -n "$dry_run" ]] || mkdir -p "$ROOT/$folder"
  if [[ -n "$bucket" ]]; then
    cloud 3 1800 storage rsync --recursive --exclude='(^|.*/)checkpoints/.*|.*\.tar\.gz' "$bucket/$run_id" \
      "$ROOT/$folder"
  else
    require zone
    know_type
    for ((index = 0; index < $(hosts_of "$type"); index++)); do
      # In a shared folder the run is a link here, and the same to all: the first brings what it leads to.
      ((index == 0)) || own=(worker.log)
      on "$index" 2 300 "cd $there && touch worker.log && tar -czhf pull.tar.gz --ignore-failed-read \
--exclude=checkpoints --exclude=.lock ${own[*]} -C code code.txt code.diff"
      tpus 3 900 tpu-vm scp "$name:$there/pull.tar.gz" "$ROOT/$folder/worker-$index.tar.gz" --worker="$index"
    done
  fi
  say "copied to $folder"
}

ssh() {
  require zone
  if ((${#rest[@]})); then
    on "${worker:-0}" 1 0 "$(quoted "${rest[@]}")"
  else
    tpus 1 0 tpu-vm ssh "$name" --worker="${worker:-0}"
  fi
}

stop() {
  require zone
  stop_training
}

delete() {
  local answer
  require zone
  if [[ -z "$yes$dry_run" ]]; then
    [[ -t 0 ]] || refuse "delete asks first and there is no terminal; say --yes"
    read -r -p "Delete $name in $zone and everything on its disks? [y/N] " answer
    [[ "$answer" == [yY]* ]] || { say "nothing was deleted" && return; }
  fi
  look_at_slice
  [[ "$STATE" != ABSENT ]] || { say "there is no $name; nothing to delete" && return; }
  release_slice
}

# -- Doctor -----------------------------------------------------------------------------------------------------------

ailments=0

# check WHAT ADVICE COMMAND...
check() {
  local what="$1" advice="$2"
  shift 2
  if [[ -n "$dry_run" ]]; then
    "$@" >/dev/null 2>&1 || true
  elif "$@" >/dev/null 2>&1; then
    echo "ok    $what"
  else
    echo "FAIL  $what: $advice"
    ailments=$((ailments + 1))
  fi
}

answers() { [[ -n "$("$@")" ]]; }

# gcloud makes the key where there is none. Of an agent that holds keys it asks that this one be among them, before it
# reaches several workers.
ssh_key_is_usable() {
  local key="$HOME/.ssh/google_compute_engine" held own
  [[ -f "$key" ]] || return 0
  if held="$(ssh-add -l)"; then
    own="$(ssh-keygen -lf "$key" | cut -d' ' -f2)"
    [[ -n "$own" && "$held" == *"$own"* ]]
  else
    ssh-keygen -y -P '' -f "$key"
  fi
}

tree_is_clean() { [[ -n "$dirty" || -z "$(git -C "$ROOT" status --porcelain)" ]]; }

# A bucket far from the TPU costs time and money; "us" holds every us-... region, "eu" every europe-... one.
bucket_is_near() {
  local place root
  root="gs://$(cut -d/ -f3 <<<"$bucket")"
  place="$(cloud 1 60 storage buckets describe "$root" --format='value(location)')" || return 1
  place="$(tr '[:upper:]' '[:lower:]' <<<"$place")"
  [[ "$place" != eu ]] || place=europe
  [[ "${zone%-*}" == "$place" || "${zone%%-*}" == "$place" ]]
}

bucket_is_writable() {
  cloud 1 60 storage cp "${BASH_SOURCE[0]}" "$bucket/.maro-doctor" && cloud 1 60 storage rm "$bucket/.maro-doctor"
}

doctor() {
  local project_option=()
  [[ -z "$project" ]] || project_option=(--project="$project")
  check "gcloud is installed" "https://cloud.google.com/sdk/docs/install" command -v gcloud
  check "an account is active" "gcloud auth login" \
    answers cloud 1 60 auth list --filter=status:ACTIVE --format='value(account)'
  [[ -n "$project" ]] || check "a project is set" "--project=ID, or gcloud config set project ID" \
    answers cloud 1 60 config get-value project
  check "the TPU API is enabled" "gcloud services enable tpu.googleapis.com" \
    answers cloud 1 60 services list --enabled --filter=config.name=tpu.googleapis.com \
    --format='value(config.name)' ${project_option[@]+"${project_option[@]}"}
  check "a zone is set" "--zone=us-east5-b" test -n "$zone"
  [[ -z "$zone" || -z "$type" ]] || check "$type exists in $zone" \
    "gcloud compute tpus accelerator-types list --zone=$zone" tpus 1 60 accelerator-types describe "$type"
  check "the ssh key is in the agent, or needs neither that nor a passphrase" "ssh-add ~/.ssh/google_compute_engine" \
    ssh_key_is_usable
  if [[ -n "$bucket" ]]; then
    check "$bucket can be written" "check its name and your rights" bucket_is_writable
    check "$bucket lies in the zone's region" "reading and writing across regions is slow and costs" bucket_is_near
  fi
  check "the working tree is clean" "commit, or say --dirty" tree_is_clean
  echo "note  quotas are kept for each zone and kind of capacity: console.cloud.google.com/iam-admin/quotas (TPU)"
  ((ailments == 0)) || exit 1
}

# -- Begin ------------------------------------------------------------------------------------------------------------

main() {
  local verb="${1:-help}"
  case "$verb" in -h | --help) verb=help ;; esac
  (($#)) && shift
  refuse_secrets "$verb" "$@"
  is_one_of "$verb" "$VERBS" ||
    refuse "there is no verb ${verb%%=*}; allowed: ${VERBS// /, }, for example launch/tpu.sh status"
  [[ "$verb" == help ]] || read_switches
  parse "$@"
  # Commands are shown on the standard output where they are the result, else beside it.
  if [[ -n "$dry_run" ]]; then exec 3>&1; else exec 3>&2; fi
  if [[ "$verb" != help ]]; then
    check_options
    check_env_file "$@"
    case "$verb" in
      train | babysit | ssh) ;;
      *) ((${#rest[@]} == 0)) || refuse "$verb takes nothing after --" ;;
    esac
  fi
  "$verb"
}

main "$@"
