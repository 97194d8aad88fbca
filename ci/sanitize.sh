#!/bin/bash
# ThreadSanitizer over the tests in which threads meet: the library's own and the suite's guarantees.
#
#   ci/sanitize.sh [FILTER of the suite]
#
# Needs Linux on x86-64 and nothing besides the stable toolchain. SANITIZE_LIMIT is how many seconds each of the two
# test programs may take (default 900). CARGO_TARGET_DIR is respected.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu

# -Z is for nightly compilers; this makes the stable one take it.
export RUSTC_BOOTSTRAP=1
# The precompiled std is not instrumented, and the compiler refuses to mix unless told that it is meant: rebuilding
# std takes its source, which toolchains often come without. What std does by atomic instructions inlined into our
# code is seen; what it does inside itself (a contended lock, a condition variable) is not. --cfg tsan makes our locks
# say it once more: src/sync/tsan.rs. Others' have to be taken on trust: ci/tsan.supp, each with its reason.
export RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg tsan ${RUSTFLAGS:-}"
# Line numbers are all that a report needs; full debug information triples the time to link.
export CARGO_PROFILE_DEV_DEBUG=line-tables-only
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/tsan

# With --target, build scripts and proc macros are not instrumented (the compiler could not load them).
programs=$(cargo test --lib --test suite --no-run --target $target --message-format=json |
    sed -n 's/.*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1/p')
[ "$(wc -w <<< "$programs")" -eq 2 ] || { echo "expected two test programs, got: $programs" >&2; exit 1; }

# exitcode: a process with a report ends with 66, whatever its tests said. history_size: how far back the second
# stack of a race can be shown; the most. second_deadlock_stack: lock-order inversions with both stacks.
export TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp exitcode=66 history_size=7 second_deadlock_stack=1 halt_on_error=0"

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
