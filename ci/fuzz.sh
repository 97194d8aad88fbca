#!/bin/bash
# Fuzzes the compiler's front and the execution of handlers, each for this many seconds:
#
#   ci/fuzz.sh [SECONDS]        (60 if not said)
#
# Needs cargo-fuzz (`cargo install cargo-fuzz`) and a C++ compiler, which libFuzzer is built with. A stable toolchain
# does: RUSTC_BOOTSTRAP lets it take the sanitizer's flags. What is found lies in fuzz/artifacts, and
# `RUSTC_BOOTSTRAP=1 cargo fuzz run TARGET FILE` runs it again.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
if ! command -v cargo-fuzz > /dev/null; then
    echo "cargo-fuzz is not there; get it with: cargo install cargo-fuzz" >&2
    exit 1
fi
export RUSTC_BOOTSTRAP=1
export LSAN_OPTIONS=suppressions=$PWD/fuzz/lsan.supp:print_suppressions=0

# The handlers that the one target runs are where the other begins.
mkdir -p fuzz/corpus/front fuzz/corpus/execute
seeds=fuzz/corpus/seeds
mkdir -p $seeds
cp fuzz/handlers/*.wgsl src/compile/generate/regressions/*.wgsl $seeds

# -timeout: an input that takes longer is a hang. -rss_limit_mb: more memory than this is a leak. The stacks of the
# compiler's threads are not counted until they are used.
limits=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1)
cargo fuzz run front fuzz/corpus/front $seeds -- "${limits[@]}" -max_len=4096 -dict=fuzz/wgsl.dict
# Long series at once: messages are whole numbers of words, and the first few show little.
cargo fuzz run execute fuzz/corpus/execute -- "${limits[@]}" -max_len=1024 -len_control=0
