#!/bin/bash
# Model-checks the hand-off protocols of the actor layer with loom: src/actor/loom_tests/, the real kernel core behind
# a port that runs a plain function. Every interleaving of two to four threads, up to a bound of preemptions that each
# model sets so that it ends within a minute.
#
#   ci/loom.sh [FILTER]
#
# Without the wgpu backend: its device cannot be modelled, and its crates know nothing of loom.
#
# LOOM_MAX_PREEMPTIONS replaces the bounds (one more makes a model about ten times as long). CARGO_TARGET_DIR is
# respected; the models have a folder of their own in it, for the flag below changes every crate.
set -euo pipefail
cd "$(dirname "$0")/.."

# What the crate synchronises with becomes loom's model of it: src/sync.rs.
export RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/loom

# In release: loom runs a model tens of thousands of times. A lost wake-up is a panic ("deadlock"), not a hang; the
# limit is for a model that has outgrown its bound. --nocapture shows how large each model was.
timeout --verbose "${LOOM_LIMIT:-1800}" \
    cargo test --lib --release --no-default-features --features jit -- "${1:-loom_}" --nocapture --test-threads "$(nproc)" 2>&1 |
    awk '
        # The models say what they explored; of the rest only what went wrong is of interest.
        /interleavings/ { sub(/^test .* \.\.\. /, ""); print; models++; next }
        /^test .*(ok|\.\.\.)[ ]*$/ || /^ok$/ || /^$/ { next }
        { print }
        END { print models + 0 " models"; if (!models) exit 1 }
    '
