#!/bin/bash
# Model-checks the hand-off protocols of the actor layer with loom: src/actor/loom_tests/, the real kernel core behind
# a port that runs a plain function. Every interleaving of two to four threads, up to a bound of preemptions that each
# model sets so that it ends within a minute.
#
#   ci/loom.sh [FILTER]
#
# Without features: handlers are functions here, and devices cannot be modelled.
#
# LOOM_MAX_PREEMPTIONS replaces the bounds (one more makes a model about ten times as long). CARGO_TARGET_DIR is
# respected.
set -euo pipefail
cd "$(dirname "$0")/.."

# What the crate synchronises with becomes loom's model of it: src/sync.rs. The flag is for this crate alone, and the crates
# that it needs are those of every other test without features.
export RUSTC_WORKSPACE_WRAPPER=$PWD/ci/with-loom.sh

# Optimised are those that matter here: loom runs a model tens of thousands of times. A lost wake-up is a panic
# ("deadlock"), not a hang; the limit is for a model that has outgrown its bound. --nocapture shows how large each was.
optimised=()
for crate in ringwork loom generator; do
    optimised+=(--config "profile.dev.package.$crate.opt-level=3")
done
timeout --verbose "${LOOM_LIMIT:-1800}" \
    cargo test --lib --no-default-features "${optimised[@]}" -- "${1:-loom_}" --nocapture --test-threads "$(nproc)" 2>&1 |
    awk '
        # The models say what they explored; of the rest only what went wrong is of interest.
        /interleavings/ { sub(/^test .* \.\.\. /, ""); print; models++; next }
        /^test .*(ok|\.\.\.)[ ]*$/ || /^ok$/ || /^$/ { next }
        { print }
        END { print models + 0 " models"; if (!models) exit 1 }
    '
