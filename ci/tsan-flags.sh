# How the crate is built for ThreadSanitizer; sourced by `ci/sanitize.sh` and `ci/tsan.sh`, from the repository's root.
tsan_target=x86_64-unknown-linux-gnu

# -Z is for nightly compilers; this makes the stable one take it.
export RUSTC_BOOTSTRAP=1
# The precompiled std is not instrumented, and the compiler refuses to mix unless told that it is meant: rebuilding
# std takes its source, which toolchains often come without. What std does by atomic instructions inlined into our
# code is seen; what it does inside itself (a contended lock, a condition variable) is not. --cfg tsan makes our locks
# say it once more: src/sync/tsan.rs. Others' have to be taken on trust: ci/tsan.supp, each with its reason.
export RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg tsan ${RUSTFLAGS:-}"
# Line numbers are all that a report needs; full debug information triples the time to link.
export CARGO_PROFILE_DEV_DEBUG=line-tables-only
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/tsan

# exitcode: a process with a report ends with 66, whatever its tests said. history_size: how far back the second
# stack of a race can be shown; the most. second_deadlock_stack: lock-order inversions with both stacks.
export TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp exitcode=66 history_size=7 second_deadlock_stack=1 halt_on_error=0"

# tsan_programs CARGO-TEST-ARGUMENT…: builds, and prints the test programs' paths. With --target, build scripts and
# proc macros are not instrumented (the compiler could not load them).
tsan_programs() {
    cargo test "$@" --no-run --target $tsan_target --message-format=json |
        sed -n 's/.*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1/p'
}
