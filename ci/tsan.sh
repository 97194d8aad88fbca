#!/bin/bash
# ThreadSanitizer over the CUDA backend on the emulated driver (tests/cuda): the backend's own tests, and the suite.
# Library, driver and kernels are instrumented, so that a resident kernel and its host are two threads that the
# sanitizer compares. Lanes of one block are fibers of one thread and never race.
#
#   ci/tsan.sh [FILTER of the suite]
#
# Needs Linux on x86-64, g++, and the stable toolchain. A report is a failure. So is none, where a race was planted:
# the first step. SANITIZE_LIMIT is how many seconds each step may take (default 1800). CARGO_TARGET_DIR is respected.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/tsan-flags.sh

# The emulation calls the sanitizer of the program that loads it, and not one of its own, which g++ would add: so no
# library by default, and those that it needs by name; the program exports what they ask for.
export RINGWORK_EMULATION_FLAGS="-fsanitize=thread -nodefaultlibs -lstdc++ -lm -lgcc_s -lc"
export RUSTFLAGS="$RUSTFLAGS -Clink-arg=-rdynamic"
# setarch -R: without randomised addresses, as some kernels place mappings where the sanitizer has its shadow.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="setarch -R"
export RINGWORK_CACHE=off
# Machine code is not instrumented; handlers of the CPU are interpreted.
options=(--target $tsan_target --no-default-features --features cuda)

# tested STEP COMMAND…
tested() {
    local from=$SECONDS status=0
    echo "=== $1"
    timeout --verbose "${SANITIZE_LIMIT:-1800}" "${@:2}" || status=$?
    echo "=== $1: $((SECONDS - from)) s, exit status $status"
    return $status
}

cargo test "${options[@]}" --lib --test suite --test cuda --no-run

# A kernel that publishes its leaving without release has to be reported, or nothing that follows says anything.
planted=$(RINGWORK_EMULATION=unordered cargo test "${options[@]}" --lib -- \
    a_serial_kernel_keeps_order_and_state_over_many_laps 2>&1) &&
    { echo "the planted race was not reported: $planted" >&2; exit 1; }
grep -q "WARNING: ThreadSanitizer: data race" <<< "$planted" ||
    { echo "no report of the planted race, but: $planted" >&2; exit 1; }
echo "=== the planted race is reported"

status=0
tested "unit tests of the backend" cargo test "${options[@]}" --lib -- cuda::tests actor::cuda_tests device_tests || status=$?
RINGWORK_REQUIRE=cpu tested "suite on emulated CUDA" \
    cargo test "${options[@]}" --test cuda -- "${1:-}" --test-threads 2 || status=$?
exit $status
