#!/usr/bin/env bash
# Installs what is missing, builds DeepScale, and runs its demo or its tests. ./build.sh help lists the verbs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly SKLEARN_WHEEL=scikit-learn==1.9.1
readonly SKLEARN_SHA256=52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df
readonly MEGABYTES_PER_JOB=1500  # one translation unit with torch/torch.h

say() { printf '== %s\n' "$*"; }
fail() {
  printf 'build.sh: %s\n' "$*" >&2
  exit 1
}

help() {
  cat <<'TEXT'
usage: ./build.sh [verb] [arguments]

  (no verb)   install what is missing, build everything, programs in build/bin
  deps        only install what is missing (Debian 12, Ubuntu 22.04 and newer; root or sudo)
  demo        build and train the CIFAR10 network with ZeRO on two ranks, on real images
  test        install, build and run every test that can run here; arguments go to ctest: ./build.sh test -L unit
  clean       remove the build folders and the prepared data; the download cache stays
  help        this text

environment
  DEEPSCALE_CACHE_DIR   where fetched wheels are kept (default: ~/.cache/deepscale)
  DEEPSCALE_CMAKE_ARGS  more arguments for cmake, for example -DTorch_DIR=/opt/libtorch/share/cmake/Torch
  DEEPSCALE_JOBS        parallel compile jobs (default: by cores and memory)
TEXT
}

# --- what must be installed ------------------------------------------------------------------------------------------

has_command() { command -v "$1" >/dev/null; }
has_header() { [[ -e /usr/include/$1 || -e /usr/local/include/$1 ]]; }
apt_knows() { apt-cache show "$1" >/dev/null 2>&1; }

# The first Debian package of a suitable Boost. A Boost that is already there stays untouched even when it is too old, since its packages
# exclude each other; CMake then fetches the headers from PyPI (cmake/Dependencies.cmake).
boost_package() {
  local package
  for package in libboost1.81-dev libboost1.83-dev; do
    if apt_knows "$package"; then
      echo "$package"
      return
    fi
  done
}

# Packages that every build needs.
missing_for_build() {
  has_command g++ || echo g++
  has_command cmake || echo cmake
  has_command ninja || echo ninja-build
  has_command ccache || echo ccache
  has_command python3 || echo python3
  /usr/bin/python3 -m pip --version >/dev/null 2>&1 || python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
  has_header boost/asio.hpp || boost_package
  has_header fmt/format.h || echo libfmt-dev
  has_header spdlog/spdlog.h || echo libspdlog-dev
  has_header nlohmann/json.hpp || echo nlohmann-json3-dev
  has_header cxxopts.hpp || echo libcxxopts-dev
  [[ -e /usr/src/googletest/CMakeLists.txt ]] || echo googletest
}

# Packages that some tests need: without them these are skipped.
missing_for_tests() {
  has_command clang++ || echo clang
  compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.tsan-x86_64.a' >/dev/null || echo libclang-rt-dev
  has_command llvm-symbolizer || echo llvm
  has_command clang-format || echo clang-format
  has_command x86_64-w64-mingw32-g++-posix || echo g++-mingw-w64-x86-64-posix
  has_command wine || echo wine wine64
  has_header liburing.h || echo liburing-dev  # files with io_uring; without it threads read and write
  has_header gloo/transport/tcp/device.h || echo libgloo-dev  # the communicator backend of that name
  has_command mpirun.mpich || echo mpich
  has_command mpirun.openmpi || echo openmpi-bin
}

# Runs a command as root; without root or password-free sudo, says what an administrator has to type.
as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  else
    sudo -n "$@"
  fi
}

can_be_root() { [[ $(id -u) == 0 ]] || sudo -n true 2>/dev/null; }

apt_update() { as_root apt-get update -qq || say "apt-get update reported errors; going on with the lists that are here"; }

# A fresh container has no lists, and without them apt knows no package.
ensure_apt_lists() {
  if has_command apt-get && can_be_root && ! compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; then
    apt_update
  fi
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# install_packages NAME...: installs them all; once more with fresh lists when the ones that are here turn out to be stale.
install_packages() {
  local output
  say "Installing $*"
  output=$(apt_install "$@" 2>&1) && return
  apt_update
  output=$(apt_install "$@" 2>&1) && return
  printf '%s\n' "$output" >&2
  return 1
}

# Installs what the build needs, or ends with the command that does.
install_build_dependencies() {
  local missing
  ensure_apt_lists
  mapfile -t missing < <(missing_for_build)
  if ((${#missing[@]})); then
    has_command apt-get || fail "Missing: ${missing[*]} (Debian's names), and this machine has no apt-get; see docs/building.md."
    can_be_root || fail "Packages are missing and there is no root here. Ask an administrator to run:
  apt-get install ${missing[*]}"
    install_packages "${missing[@]}" || fail "apt-get could not install: ${missing[*]}"
  fi
  check_tool_versions
}

# Installs what only some tests need. What cannot be had here is left out, and its tests are reported as skipped.
install_test_dependencies() {
  local package missing=()
  for package in $(missing_for_tests); do
    if apt_knows "$package"; then
      missing+=("$package")
    fi
  done
  ((${#missing[@]})) || return 0
  if can_be_root; then
    install_packages "${missing[@]}" || say "apt-get could not install: ${missing[*]}. Some tests will be skipped."
  else
    say "Some tests will be skipped, since there is no root here to run: apt-get install ${missing[*]}"
  fi
}

# at_least WANTED FOUND: whether version FOUND is WANTED or newer.
at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1) == "$1" ]]; }

check_tool_versions() {
  local compiler cmake
  compiler=$("${CXX:-g++}" -dumpfullversion -dumpversion)
  cmake=$(cmake --version | sed -n '1s/[^0-9]*//p')
  [[ -n ${CXX:-} ]] || at_least 11 "$compiler" || fail "g++ $compiler is too old: C++20 needs g++ 11 (set CXX to a newer compiler)."
  at_least 3.22 "$cmake" || fail "cmake $cmake is too old: 3.22 is the oldest that works."
}

# --- building --------------------------------------------------------------------------------------------------------

parallel_jobs() {
  local megabytes by_memory cores
  cores=$(nproc)
  megabytes=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
  by_memory=$((megabytes / MEGABYTES_PER_JOB))
  echo "${DEEPSCALE_JOBS:-$((by_memory < 1 ? 1 : by_memory < cores ? by_memory : cores))}"
}

# build PRESET FOLDER [TARGET...]: configures and builds; everything when no target is named.
build() {
  local preset=$1 folder=$2
  shift 2
  say "Building preset $preset in $folder"
  # shellcheck disable=SC2086 # several arguments in one variable
  cmake --preset "$preset" ${DEEPSCALE_CMAKE_ARGS:-} || fail "cmake could not configure the preset $preset (see above)."
  cmake --build "$folder" --parallel "$(parallel_jobs)" ${@:+--target "$@"} || fail "The preset $preset did not build (see above)."
}

run_demo() {
  install_build_dependencies
  build full build deepscale cifar10
  prepare_digits
  say "Training on 2 ranks: real images, fp16, ZeRO stage 2"
  OMP_NUM_THREADS=1 build/bin/deepscale launch --num_gpus 2 build/bin/cifar10 --deepscale --stage 2 --data_dir data/digits
}

# Real images in CIFAR-10's format: the handwritten digits inside the scikit-learn wheel.
prepare_digits() {
  [[ ! -e data/digits/batches.meta.txt ]] || return 0
  say "Preparing the handwritten digits in data/digits"
  cmake -DREQUIREMENT="$SKLEARN_WHEEL" -DSHA256="$SKLEARN_SHA256" -DINTO=build/wheels -P cmake/PinnedWheel.cmake
  python3 examples/cifar10/prepare_digits.py build/wheels/scikit_learn-*.whl data/digits
}

# --- tests -----------------------------------------------------------------------------------------------------------

# Each lane is one more build of the project whose tests join the native ones. Prints why a lane cannot run here, or nothing.
lane_obstacle() {
  case $1 in
    asan | tsan)
      has_command clang++ || echo "clang++ is not installed"
      ;;
    mingw)
      has_command x86_64-w64-mingw32-g++-posix || { echo "g++-mingw-w64-x86-64-posix is not installed"; return; }
      at_least 11 "$(x86_64-w64-mingw32-g++-posix -dumpversion | sed 's/-.*//')" || { echo "MinGW's g++ is older than 11"; return; }
      has_command wine || echo "wine is not installed"
      ;;
    cuda)
      has_command nvcc || [[ -x /usr/local/cuda/bin/nvcc ]] || echo "the CUDA toolkit (nvcc) is not installed"
      ;;
  esac
}

# Builds every lane that can run here and writes the list from which ctest takes their tests (see tests/CMakeLists.txt).
build_lanes() {
  local lane obstacle list=build/lanes.cmake
  : >"$list"
  for lane in asan tsan mingw cuda; do
    obstacle=$(lane_obstacle "$lane")
    if [[ -n $obstacle ]]; then
      say "Lane $lane is skipped: $obstacle"
      printf 'add_test(%s.lane cmake -E echo "skipped: %s")\n' "$lane" "$obstacle" >>"$list"
      printf 'set_tests_properties(%s.lane PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: ")\n' "$lane" >>"$list"
    elif [[ $lane == cuda ]]; then
      build full-cuda build-cuda cuda_targets
    else
      build "$lane" "build-$lane"
      printf 'subdirs("%s")\n' "$PWD/build-$lane" >>"$list"
    fi
  done
}

run_tests() {
  install_build_dependencies
  install_test_dependencies
  build full build
  prepare_digits
  build_lanes
  say "Running the tests"
  ctest --test-dir build --parallel 2 --output-on-failure --no-tests=error "$@"
}

main() {
  local verb=${1:-build}
  shift || true
  case $verb in
    build)
      install_build_dependencies
      build full build "$@"
      ;;
    deps) install_build_dependencies ;;
    demo) run_demo ;;
    test) run_tests "$@" ;;
    clean) rm -rf build build-* data ;;
    help | -h | --help) help ;;
    *)
      echo "build.sh: unknown verb '$verb'; ./build.sh help lists them" >&2
      exit 2
      ;;
  esac
}

main "$@"
