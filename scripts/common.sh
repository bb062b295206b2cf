# shellcheck shell=bash disable=SC2034  # what is unused here is used by those who source it
# What bootstrap.sh, quickstart.sh and test.sh share: where things are, how a step is announced, run and
# explained when it fails. To be sourced. State (logs, stamps, the lock) lives in build/bootstrap; deleting
# build/ forgets all of it.

set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
build=$root/build
state=$build/bootstrap
venv=$build/venv
current_step="starting"
heartbeat=""

# The clock of the outermost script, so that nested calls count on.
export ATTNSCALE_STARTED=${ATTNSCALE_STARTED:-$(date +%s)}

say() { printf '[%4d s] %s\n' $(($(date +%s) - ATTNSCALE_STARTED)) "$*"; }

# step TEXT: announces what comes next and remembers it for the message of an interruption.
step() {
  current_step=$*
  say "$*"
}

# die STATUS LINE...: the last words on standard error.
die() {
  local status=$1
  shift
  printf '\nerror: %s\n' "$1" >&2
  shift
  if (($#)); then printf '  %s\n' "$@" >&2; fi
  exit "$status"
}

stop_heartbeat() {
  if [[ -n $heartbeat ]]; then kill "$heartbeat" 2>/dev/null || true; fi
  heartbeat=""
}

interrupted() {
  stop_heartbeat
  printf '\nstopped during: %s\nRun the same command again: it goes on from there.\n' "$current_step" >&8
  trap - EXIT
  exit "$1"
}

# The terminal's standard error, also while a step's output goes to its log.
exec 8>&2
trap stop_heartbeat EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM

# One set-up or build at a time in one tree: a second script waits here, then finds the work done.
take_lock() {
  make_state_folder
  if [[ ${ATTNSCALE_LOCK_HELD:-} == "$root" ]] || ! command -v flock >/dev/null; then return 0; fi
  exec 9>"$state/lock"
  if ! flock -n 9; then
    step "waiting for another script that is working in $build"
    flock 9
  fi
  export ATTNSCALE_LOCK_HELD=$root
}

release_lock() {
  exec 9>&-
  unset ATTNSCALE_LOCK_HELD
}

make_state_folder() {
  mkdir -p "$state" 2>/dev/null ||
    die 74 "cannot write to $build" "Make the folder writable or free some space ($(free_space)), then run this again."
}

# The folder may not exist yet: measure where it would be.
free_space() {
  df -Ph "$root" 2>/dev/null | awk 'NR == 2 { print $4 " free in " $6 }'
}

# run_step NAME COMMAND...: the command's output goes to build/bootstrap/NAME.log; every 20 s its last line is
# shown as a sign of life; when it fails, the end of the log, a diagnosis, and exit.
run_step() {
  local log=$state/$1.log status=0
  shift
  : >"$log" || die 74 "cannot write $log" "$(free_space)"
  (
    trap - INT TERM EXIT
    while sleep 20 >/dev/null 2>&1; do
      say "  ... $(grep -v '^ *$' "$log" 2>/dev/null | tail -n 1 | tr -d '\r' | cut -c -100)"
    done
  ) 9>&- &
  heartbeat=$!
  "$@" >"$log" 2>&1 </dev/null || status=$?
  stop_heartbeat
  if ((status == 0)); then return 0; fi
  if ((status == 130 || status == 143)); then interrupted "$status"; fi
  tail -n 15 "$log" >&2
  explain_failure "$log" "$status"
}

# explain_failure LOG STATUS: what went wrong in the user's words, and what to do.
explain_failure() {
  local log=$1 status=$2
  if grep -qiE 'no space left on device|not enough free space|disk quota exceeded' "$log"; then
    die 74 "the disk is full: $current_step" "$(free_space); about 4 GB are needed, 8 GB with CUDA." \
      "Free some space and run the same command again; it goes on from there."
  fi
  if grep -qiE 'temporary failure (in name )?resol|could not resolve|network is unreachable|connection refused|connection timed out|failed to establish a new connection|NewConnectionError|max retries exceeded|could not connect' "$log"; then
    die 1 "no network, or the server does not answer: $current_step" \
      "Check the connection (and the proxy settings http_proxy, https_proxy), then run the same command again." \
      "The whole output: $log"
  fi
  if grep -qiE 'could not get lock|unable to acquire the dpkg frontend lock' "$log"; then
    die 1 "another program is installing packages: $current_step" "Wait until it has finished, then run the same command again."
  fi
  die 1 "failed with status $status: $current_step" "The whole output: $log" \
    "Once the cause is gone, run the same command again; it goes on from there."
}

# sha256 of standard input, as one word.
digest() { sha256sum | cut -d ' ' -f 1; }

# How many compilers at once: a core each, and 1.5 GB of memory each, which LibTorch's headers need.
num_build_jobs() {
  local cores memory_mb by_memory
  cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
  memory_mb=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo 2>/dev/null || true)
  by_memory=$((${memory_mb:-1500} / 1500))
  if ((by_memory < 1)); then by_memory=1; fi
  echo $((cores < by_memory ? cores : by_memory))
}

# configure: writes build/build.ninja. Skipped while what it depends on is unchanged; changes in CMakeLists.txt
# are ninja's to see.
configure() {
  local key
  key=$({
    echo "$root"
    echo "${CMAKE_PREFIX_PATH:-} ${Torch_DIR:-}"
    cat "$root/CMakePresets.json" "$state/torch-dir"
    cat "$venv/references.stamp" 2>/dev/null || true # the reference tests are bound to that Python
  } | digest)
  if [[ -f $build/build.ninja && $(cat "$state/configured" 2>/dev/null) == "$key" ]]; then return 0; fi
  step "configuring (log: build/bootstrap/configure.log)"
  rm -f "$state/configured"
  # A cache from elsewhere or from an interrupted first run is not worth a diagnosis: start it afresh.
  local fresh=()
  if [[ -f $build/CMakeCache.txt ]] && { [[ ! -f $build/build.ninja ]] || ! cache_is_ours; }; then fresh=(--fresh); fi
  cd -- "$root"
  run_step configure cmake --preset release "-DTorch_DIR=$(cat "$state/torch-dir")" ${fresh[@]+"${fresh[@]}"}
  echo "$key" >"$state/configured"
}

cache_is_ours() {
  grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$build/CMakeCache.txt" &&
    grep -qxF "CMAKE_GENERATOR:INTERNAL=Ninja" "$build/CMakeCache.txt"
}

# build_targets TARGET...: Ninja's own progress is the best there is.
build_targets() {
  local jobs status=0
  jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(num_build_jobs)}
  step "building $* ($jobs at a time)"
  ninja -C "$build" -j "$jobs" "$@" </dev/null || status=$?
  if ((status == 130 || status == 143)); then interrupted "$status"; fi
  if ((status)); then
    if [[ $(df -Pk "$build" | awk 'NR == 2 { print $4 }') -lt 51200 ]]; then
      die 74 "the disk is full: $current_step" "$(free_space)" "Free some space and run the same command again."
    fi
    die 1 "the build failed; the compiler's message is above" \
      "\"Killed\" there means that memory ran out: CMAKE_BUILD_PARALLEL_LEVEL=1 builds one file at a time."
  fi
}
