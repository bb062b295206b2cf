#!/usr/bin/env bash
# Set-up, build, tests. Ends with ctest's own summary and its exit status.

# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'USAGE'
usage: scripts/test.sh [--references] [CTEST OPTION]... [--help]

Installs what is missing (scripts/bootstrap.sh), builds everything in build/, and runs the tests.

  --references  also install transformers and other packages of PyPI and run the tests that compare
                with them; without it they are listed as skipped
  CTEST OPTION  handed to ctest, for example:  scripts/test.sh -R "sliding_window"
                scripts/test.sh -L asan        the unit tests once more under AddressSanitizer and UBSan
                                               (a second build; about 20 minutes on 2 cores)
                scripts/test.sh -L torture     kills, full disks and broken ones at random moments and at every
                                               system call (hours; docs/reference/faults.md)
                scripts/test.sh -L fuzz        inputs that no one would write, for each reader of files
                scripts/test.sh -L trial       the time that plan expects against that of 20 sweeps

exit codes: 0 all tests passed, 8 some failed (ctest's), 1, 2 and 74 as in scripts/bootstrap.sh
USAGE
}

bootstrap_options=()
ctest_options=()
for argument in "$@"; do
  case $argument in
    --references) bootstrap_options=(--references) ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) ctest_options+=("$argument") ;;
  esac
done
# What takes longer than all the rest is asked for by name.
if [[ " ${ctest_options[*]-} " != *@(asan|torture|fuzz|trial)* ]]; then ctest_options+=(-LE "asan|torture|fuzz|trial"); fi

take_lock
"$root/scripts/bootstrap.sh" ${bootstrap_options[@]+"${bootstrap_options[@]}"}
configure
build_targets all
release_lock

step "running the tests"
cd -- "$build"
status=0
ctest --output-on-failure --no-tests=error --parallel "$(num_build_jobs)" "${ctest_options[@]}" </dev/null || status=$?
if ((status == 130)); then interrupted 130; fi
exit "$status"
