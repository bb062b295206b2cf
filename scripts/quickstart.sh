#!/usr/bin/env bash
# From a clone to a scaling-law report: set-up, build, the small sweep of experiments/quickstart.

# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'USAGE'
usage: scripts/quickstart.sh [--help]

Installs what is missing (scripts/bootstrap.sh), builds build/attnscale, runs experiments/quickstart and names
the report to open. Stopped half way, the same command goes on; what is done is not done again.

exit codes: as of `attnscale sweep`; 1, 2 and 74 as in scripts/bootstrap.sh
USAGE
}

for argument in "$@"; do
  case $argument in
    -h | --help)
      usage
      exit 0
      ;;
    *) die 2 "unknown option \"$argument\"" "See scripts/quickstart.sh --help." ;;
  esac
done

results=$root/results/quickstart

take_lock
"$root/scripts/bootstrap.sh"
configure
build_targets attnscale
release_lock

step "training the sweep of experiments/quickstart"
status=0
"$build/attnscale" sweep "$root/experiments/quickstart/spec.json" --out "$results" </dev/null || status=$?
if ((status == 130)); then interrupted 130; fi
if ((status)); then
  die "$status" "the sweep ended with status $status; its message is above" \
    "Runs that were completed are kept in $results: the same command goes on from there."
fi
say "done. Open this report in a browser:"
echo "$results/report.html"
