#!/usr/bin/env bash
# Set-up: everything that the build needs, and nothing that is already there.
#
# 1. Debian packages, as root or with sudo that asks no password. Catch2 3 is in Debian 12's backports suite:
#    it is read through an apt configuration of its own in build/bootstrap/apt, so /etc/apt stays as it is.
# 2. LibTorch: yours, if CMAKE_PREFIX_PATH, Torch_DIR or an importable `torch` leads to 2.11 or newer;
#    otherwise the PyTorch wheel, in a virtual environment in build/venv.
# 3. With --references: what the comparison with published Python models needs, in build/venv too, and SLURM and strace.
#
# Without Debian or root, it says what to install by hand; the header libraries and Catch2 may then be missing,
# since third_party/*.cmake downloads pinned releases of those.

# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

torch_version=2.13.0
torch_minimum=2.11
reference_packages=(transformers==5.24.0 numpy==2.4.6 einops==0.8.2 fla-core==0.6.0 linformer==0.2.3
  local-attention==1.11.2 memory-compressed-attention==0.0.7 infini-transformer-pytorch==0.2.1 nystrom-attention==0.0.14
  performer-pytorch==1.1.4 schedulefree==1.4.1 sinkhorn-transformer==0.11.4 x-transformers==2.31.10 pandas==2.3.3 pyarrow==26.0.1
  tensorboard==2.21.0 matplotlib==3.11.2)
# A virtual environment holds absolute paths: after a move it is made anew.
torch_key=$(echo "torch $torch_version $venv" | digest)
references_key=$(echo "${reference_packages[*]} $torch_key" | digest)

usage() {
  cat <<'USAGE'
usage: scripts/bootstrap.sh [--references] [--help]

Installs what the build needs and is not there yet: Debian packages (root or sudo), and the PyTorch wheel in
build/venv unless CMAKE_PREFIX_PATH, Torch_DIR or an importable torch provides LibTorch 2.11 or newer.
scripts/quickstart.sh and scripts/test.sh call this by themselves.

  --references  also install the Python packages for tests labelled "references", and Debian's slurm-wlm, munge
                and strace, which tests of sweeps drive

Example with a LibTorch of your own:
  CMAKE_PREFIX_PATH=$HOME/libtorch scripts/bootstrap.sh

exit codes: 0 ready, 1 a step failed (its log is named), 2 something must be installed by hand, 74 disk full
USAGE
}

have() { command -v "$1" >/dev/null 2>&1; }

# version_at_least HAVE WANTED, by the order of version numbers.
version_at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

have_cmake() { have cmake && version_at_least "$(cmake --version | awk 'NR == 1 { print $3 }')" 3.25; }
have_compiler() { have "${CXX:-c++}" || have g++ || have clang++; }
have_header() { echo "#include <$1>" | "${CXX:-c++}" -E -x c++ - >/dev/null 2>&1; }

# A Python for which there is a PyTorch wheel and which can make a virtual environment. `command -v` is not
# enough: version managers leave commands behind that only print an error.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3 python3.12 python3.13 python3.10 /usr/bin/python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' \
      >/dev/null 2>&1; then
      echo "$candidate"
      return 0
    fi
  done
  return 1
}

# ---------------------------------------------------------------------------------------- packages

# The package names of what is missing, one a line.
missing_packages() {
  have_compiler || echo g++
  have_cmake || echo cmake
  have ninja || echo ninja-build
  have ccache || echo ccache
  find_python >/dev/null || printf '%s\n' python3 python3-venv
  local package
  for package in ca-certificates libcli11-dev nlohmann-json3-dev libfmt-dev libssl-dev libeigen3-dev libsimdjson-dev; do
    is_installed "$package" || echo "$package"
  done
}

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

have_tcmalloc() { [[ -n $(compgen -G '/usr/lib/*/libtcmalloc_minimal.so*') ]]; }

have_catch2() {
  local file
  for file in /usr/lib/cmake/Catch2 /usr/lib/*/cmake/Catch2 /usr/share/cmake/Catch2 /usr/local/lib/cmake/Catch2; do
    # Version 2 calls its main library differently.
    if [[ -f $file/Catch2Targets.cmake ]] && grep -q Catch2WithMain "$file/Catch2Targets.cmake"; then return 0; fi
  done
  return 1
}

# as_root COMMAND...: with sudo where needed. Only sudo that asks nothing will do.
as_root() {
  if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

can_be_root() { ((EUID == 0)) || { have sudo && sudo -n true 2>/dev/null; }; }

apt_options=(-y -q --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0
  -o Dpkg::Options::=--force-confold)

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get "${apt_options[@]}" "$@"; }

# Package lists are absent on a fresh container and stale on an old machine; only then are they read anew.
install_packages() {
  # An installation that was stopped half way must be completed first.
  if [[ -n $(dpkg --audit 2>/dev/null) ]]; then as_root env DEBIAN_FRONTEND=noninteractive dpkg --configure -a; fi
  if apt_get install "$@"; then return 0; fi
  # A source of the user's that does not answer is not our affair as long as the packages can be had.
  apt_get update || echo "note: some package sources could not be read"
  apt_get install "$@"
}

# Debian's archive as the user reads it already, so that a mirror or a proxy is used here too.
debian_mirror() {
  # shellcheck disable=SC2016  # the dollars are apt's
  apt-get indextargets --format '$(RELEASE)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
    awk -F '|' -v release="$1" '$1 == release && $2 == "main" && $3 !~ /^cdrom/ { print $3; exit }'
}

install_catch2_from_backports() {
  local codename=$1 mirror keyring folder=$state/apt
  mirror=$(debian_mirror "$codename")
  for keyring in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
    if [[ -f $keyring ]]; then break; fi
  done
  if [[ -z $mirror || ! -f $keyring ]]; then
    echo "no apt source for $codename main, or no keyring of the package debian-archive-keyring"
    return 1
  fi
  mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/etc"
  echo "deb [signed-by=$keyring] $mirror $codename-backports main" >"$folder/sources.list"
  # The sandbox user of apt cannot read a private build tree: download as root, as apt would after a warning.
  local private=(-o "Dir::Etc::sourcelist=$folder/sources.list" -o "Dir::Etc::sourceparts=$folder/etc"
    -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder/cache" -o APT::Sandbox::User=root)
  apt_get "${private[@]}" update
  # Its own sources hold nothing else, so nothing else can be upgraded by this.
  apt_get "${private[@]}" install -t "$codename-backports" libcatch2-dev
}

# The version that the user's own sources offer, empty if none.
offered_version() { LC_ALL=C apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)" { print $2 }'; }

os_release() { sed -n "s/^$1=\"\?\([^\"]*\)\"\?$/\1/p" /etc/os-release; }

# The name has grown a suffix in newer suites. Where neither is offered, the program does without.
install_tcmalloc() {
  local package
  for package in libtcmalloc-minimal4 libtcmalloc-minimal4t64; do
    if [[ -n $(offered_version "$package") ]]; then
      step "installing $package: a faster allocator"
      install_packages "$package" >"$state/tcmalloc.log" 2>&1 </dev/null ||
        say "not installed ($state/tcmalloc.log says why): the program takes the C library's"
      return 0
    fi
  done
}

install_catch2() {
  local codename
  codename=$(os_release VERSION_CODENAME)
  if version_at_least "$(offered_version catch2)" 3; then
    step "installing Catch2 3 from your package sources"
    run_step catch2 install_packages catch2
  elif [[ $(os_release ID) == debian && -n $codename ]]; then
    step "installing Catch2 3 from $codename-backports (apt configuration of its own, yours stays as it is)"
    run_step catch2 install_catch2_from_backports "$codename"
  else
    say "no Catch2 3 among the packages here: CMake will download a pinned release"
  fi
}

provide_packages() {
  step "looking for compilers and libraries"
  if have apt-get && have dpkg-query && [[ -f /etc/debian_version ]]; then
    local missing
    mapfile -t missing < <(missing_packages)
    if ((${#missing[@]} == 0)) && have_catch2 && have_tcmalloc; then return 0; fi
    if can_be_root; then
      if ((${#missing[@]})); then
        step "installing Debian packages: ${missing[*]}"
        run_step packages install_packages "${missing[@]}"
      fi
      if ! have_catch2; then install_catch2; fi
      if ! have_tcmalloc; then install_tcmalloc; fi
    fi
  fi
  require_tools
}

# What cannot be downloaded by CMake must be there now; all of it is named at once.
require_tools() {
  local lacking=()
  have_compiler || lacking+=("a C++20 compiler        Debian: g++           Fedora: gcc-c++         Arch: gcc")
  have_cmake || lacking+=("CMake 3.25 or newer     Debian: cmake         Fedora: cmake           Arch: cmake")
  have ninja || lacking+=("Ninja                   Debian: ninja-build   Fedora: ninja-build     Arch: ninja")
  if have_compiler && ! have_header openssl/evp.h; then
    lacking+=("OpenSSL's headers       Debian: libssl-dev    Fedora: openssl-devel   Arch: openssl")
  fi
  if ! find_python >/dev/null && ! users_torch given >/dev/null && ! users_torch importable >/dev/null; then
    lacking+=("Python 3.10-3.14, venv  Debian: python3-venv  Fedora: python3         Arch: python")
  fi
  if ((${#lacking[@]} == 0)); then return 0; fi
  local commands=("" "On Debian or Ubuntu, as root:" "  apt-get install g++ cmake ninja-build libssl-dev python3 python3-venv ccache"
    "  apt-get install libcli11-dev nlohmann-json3-dev libfmt-dev libeigen3-dev libsimdjson-dev libtcmalloc-minimal4 catch2")
  die 2 "please install, then run this again (no root here, or not a Debian system, so this script cannot):" \
    "${lacking[@]}" "${commands[@]}" \
    "The second line is optional: CMake downloads pinned releases of what is missing there, or does without (tcmalloc)."
}

# ---------------------------------------------------------------------------------------- LibTorch

# users_torch given|importable: prints the folder of TorchConfig.cmake. CMake's search (third_party/find_torch.cmake)
# decides, so that both agree.
users_torch() {
  have_cmake || return 1
  local found
  found=$(cmake "-DATTNSCALE_TORCH_SEARCH=$1" -P "$root/third_party/find_torch.cmake" 2>&1) || return 1
  [[ -n $found ]] && echo "$found"
}

wheel_folder() {
  local file
  for file in "$venv"/lib/python3*/site-packages/torch/share/cmake/Torch/TorchConfig.cmake; do
    if [[ -s $file ]]; then
      dirname -- "$file"
      return 0
    fi
  done
  return 1
}

# stamp_is NAME KEY: whether that part of the virtual environment was completed, for the same inputs.
stamp_is() { [[ $(cat "$venv/$1.stamp" 2>/dev/null) == "$2" ]]; }

provide_venv() {
  local python
  python=$(find_python) || die 2 "no Python 3.10 to 3.14 with the venv module" "Debian: apt-get install python3-venv"
  # No stamp means that an earlier attempt was stopped: nothing of it can be trusted.
  run_step venv "$python" -m venv --clear "$venv"
}

pip_install() {
  # Disk caches are pip's own affair; a wheel that was downloaded completely is not fetched twice.
  "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off "$@"
}

install_wheel() {
  pip_install --no-deps "torch==$torch_version"
}

provide_torch() {
  local folder
  if folder=$(users_torch given); then
    step "LibTorch: yours, $folder"
  else
    if stamp_is torch "$torch_key" && folder=$(wheel_folder); then
      step "LibTorch: the wheel in build/venv"
    elif folder=$(users_torch importable); then
      step "LibTorch: that of your python3, $folder"
    else
      install_torch
      folder=$(wheel_folder) || die 1 "the wheel of torch $torch_version brought no TorchConfig.cmake" "See $state/torch.log"
    fi
  fi
  echo "$folder" >"$state/torch-dir"
  # CMake fetches the report's runtime with npm or pip; Debian's python3 has no pip of its own.
  if [[ ! -x $venv/bin/python ]] && ! python3 -m pip --version >/dev/null 2>&1; then
    step "making build/venv for its pip"
    provide_venv
  fi
}

install_torch() {
  step "installing the wheel of PyTorch $torch_version in build/venv"
  say "  (0.2 GB to download for a CPU build; where pip chooses a CUDA build, 2.8 GB, and 5 GB on disk.)"
  say "  (A LibTorch of at least $torch_minimum that you have is taken instead if CMAKE_PREFIX_PATH names it.)"
  provide_venv
  # The Python packages that torch depends on are not needed to compile and link against it.
  run_step torch install_wheel
  if compgen -G "$venv/lib/python3*/site-packages/torch/lib/libtorch_cuda.so" >/dev/null; then
    step "a CUDA build: installing the CUDA libraries that it links (several GB)"
    run_step torch-cuda pip_install "torch==$torch_version"
  fi
  echo "$torch_key" >"$venv/torch.stamp"
}

# What tests drive beside Python packages: a real SLURM, and strace for kills at system calls. Skipped by name without.
provide_reference_programs() {
  local missing=() package
  if ! have apt-get || ! have dpkg-query || ! can_be_root; then return 0; fi
  for package in slurm-wlm munge strace clang libclang-rt-14-dev; do is_installed "$package" || missing+=("$package"); done
  if ((${#missing[@]} == 0)); then return 0; fi
  step "installing Debian packages for tests: ${missing[*]}"
  run_step reference-programs install_packages "${missing[@]}"
}

provide_references() {
  if stamp_is references "$references_key"; then return 0; fi
  step "installing ${reference_packages[*]} in build/venv for the tests labelled \"references\""
  if ! stamp_is torch "$torch_key"; then provide_venv; fi
  run_step references pip_install "torch==$torch_version" "${reference_packages[@]}"
  echo "$torch_key" >"$venv/torch.stamp"
  echo "$references_key" >"$venv/references.stamp"
}

# -------------------------------------------------------------------------------------------- main

references=no
for argument in "$@"; do
  case $argument in
    --references) references=yes ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) die 2 "unknown option \"$argument\"" "See scripts/bootstrap.sh --help." ;;
  esac
done

take_lock
provide_packages
provide_torch
if [[ $references == yes ]]; then
  provide_reference_programs
  provide_references
fi
say "set-up is complete"
