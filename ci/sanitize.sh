#!/bin/bash
# ThreadSanitizer over the tests in which threads meet: the library's own and the suite's guarantees.
#
#   ci/sanitize.sh [FILTER of the suite]
#
# Needs Linux on x86-64 and nothing besides the stable toolchain. SANITIZE_LIMIT is how many seconds each of the two
# test programs may take (default 900). CARGO_TARGET_DIR is respected.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/tsan-flags.sh

programs=$(tsan_programs --lib --test suite)
[ "$(wc -w <<< "$programs")" -eq 2 ] || { echo "expected two test programs, got: $programs" >&2; exit 1; }

status=0
for program in $programs; do
    case $program in
        # The engines and the compiler have one thread; what is theirs takes long here and shows nothing. Machine code
        # is not instrumented either way.
        */suite-*) arguments=("${1:-guarantees}") ;;
        *) arguments=(actor:: backend:: compile::cache:: compute:: kernel:: message:: sync:: wire::) ;;
    esac
    echo "=== $(basename "$program") ${arguments[*]}"
    # RINGWORK_BACKEND: only the CPU's threads are ours. Tests with a time-out of their own run some ten times slower.
    # setarch -R: without randomised addresses, as some kernels place mappings where the sanitizer has its shadow.
    RINGWORK_BACKEND=cpu timeout --verbose "${SANITIZE_LIMIT:-900}" \
        setarch -R "$program" "${arguments[@]}" --test-threads 2 || status=$?
done
exit $status
