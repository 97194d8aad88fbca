#!/bin/bash
# Tests what is tested for each change, on one machine without a GPU. From a fresh Debian on, this is all there is to do:
#
#   ci/test.sh
#
# Needs cargo with rustfmt and clippy, the linker that every Rust toolchain calls (`cc`), and a Vulkan driver, for
# which Mesa's software one will do; where the last two are missing and this runs as root on Debian or Ubuntu, they are
# installed, and so is g++, which builds an emulated CUDA driver. Nothing else is needed: no GPU.
# Stops at the first failure; the last line says whether all went well. CARGO_TARGET_DIR is respected.
set -euo pipefail
cd "$(dirname "$0")/.."

steps=()
begun=$SECONDS
current=preparation
kept=
trap 'status=$?; [ -z "$kept" ] || rm -r "$kept"; [ $status -eq 0 ] || printf "\nFAILED in step \"%s\" after %d s\n" "$current" $((SECONDS - begun)) >&2' EXIT

# step TITLE COMMAND…: runs the command under a heading, and remembers how long it took.
step() {
    current=$1
    shift
    printf '\n=== %s\n    %s\n' "$current" "$*"
    local from=$SECONDS
    "$@"
    steps+=("$(printf '%5d s  %s' $((SECONDS - from)) "$current")")
}

# ---- What is needed.

if ! command -v cargo > /dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH=$HOME/.cargo/bin:$PATH
fi
if ! command -v cargo > /dev/null; then
    cat >&2 <<'TEXT'
cargo is not there. Get Rust 1.95 or later with rustup, as https://www.rust-lang.org/tools/install says, with the
components rustfmt and clippy (they are in rustup's default profile); then run this again.
TEXT
    exit 1
fi
for tool in fmt clippy; do
    if ! cargo $tool --version > /dev/null 2>&1; then
        echo "cargo $tool is not there; get it with: rustup component add rustfmt clippy" >&2
        exit 1
    fi
done
# The emulated CUDA driver, and the kernels that it runs, are C++.
if ! command -v g++ > /dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
    step "install g++" sh -c \
        'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends g++'
fi
if ! command -v cc > /dev/null; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
        step "install a linker" sh -c \
            'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends gcc libc6-dev'
    else
        echo "Rust needs a linker, and there is no \`cc\`; on Debian: apt-get install gcc libc6-dev" >&2
        exit 1
    fi
fi

# A loader and a driver: without them the tests on wgpu would be ignored, and that is a failure here.
if [ "$(uname -s)" = Linux ]; then
    loaders=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2> /dev/null || true)
    drivers=$(compgen -G '/usr/share/vulkan/icd.d/*.json' || compgen -G '/etc/vulkan/icd.d/*.json' || true)
    if [[ $loaders != *libvulkan.so.1* || -z $drivers ]]; then
        if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
            step "install a Vulkan driver" sh -c \
                'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends mesa-vulkan-drivers libvulkan1'
        else
            echo "the tests need Vulkan; on Debian: apt-get install mesa-vulkan-drivers libvulkan1" >&2
            exit 1
        fi
    fi
fi

export CARGO_TERM_COLOR=never
# Nothing is compiled twice here.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
# A backend that is missing is a failure, not a test that is ignored.
export RINGWORK_REQUIRE=cpu,wgpu

# Machine code that the tests keep goes to a folder of their own, which is empty at first. Mesa wants one too.
kept=$(mktemp -d)
mkdir -m 700 "$kept/code" "$kept/run"
export RINGWORK_CACHE=$kept/code XDG_RUNTIME_DIR=$kept/run

# Optimised is this crate, without what only checks it; the crates that it needs are the same in all that follows.
optimised=()
for setting in opt-level=3 debug-assertions=false overflow-checks=false; do
    optimised+=(--config "profile.dev.package.ringwork.$setting")
done

# ---- What is tested. The cheap checks come first.

step "format" cargo fmt --all -- --check
step "import rules" ci/imports.sh
step "lints" cargo clippy --all-targets -- -D warnings
step "lints, without features" cargo clippy --all-targets --no-default-features -- -D warnings
step "lints, with machine code only" cargo clippy --all-targets --no-default-features --features jit -- -D warnings
step "lints, with wgpu only" cargo clippy --all-targets --no-default-features --features wgpu -- -D warnings
step "lints, with CUDA" cargo clippy --all-targets --no-default-features --features jit,cuda -- -D warnings
step "lints of the yardsticks for CUDA" cargo clippy --manifest-path benches/cuda/Cargo.toml -- -D warnings
# ci/tsan.sh and ci/sanitize.sh take too long for here; what they would run has to compile.
step "build for ThreadSanitizer, without it" env RUSTC_WORKSPACE_WRAPPER="$PWD/ci/with-tsan.sh" \
    cargo check --all-targets --no-default-features --features jit,cuda
step "build, with the examples" cargo build --all-targets
# The suite runs twice in it: on the CPU, and on wgpu.
step "unit, integration and documentation tests" cargo test
# The software driver shares its memory with the host, which most GPUs do not: there messages and results are copied.
step "unit tests on wgpu, with copies" env RINGWORK_WGPU_TRANSFER=staged cargo test --lib -- wgpu device_tests
# Handlers are interpreted then; what does not run handlers was tested above.
step "unit tests and handlers, without features" cargo test --no-default-features --lib
step "integration tests, without features" cargo test --no-default-features --test suite
# The backend's own code on a driver that tests/cuda emulates: no GPU is needed, and nothing is said about one.
step "unit tests of CUDA, emulated" cargo test --no-default-features --features jit,cuda --lib cuda
step "links and lost devices on CUDA, emulated" cargo test --no-default-features --features jit,cuda --lib device_tests
step "suite for CUDA" cargo test --no-default-features --features jit,cuda --test suite --no-run
step "integration tests on emulated CUDA" env RINGWORK_REQUIRE=cpu cargo test --no-default-features --features jit,cuda --test cuda
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
step "examples, optimised" cargo build "${optimised[@]}" --examples
# The suite on the CPU, and on wgpu. Mesa's software driver computes on threads of its own, as above, or on the one that
# submits, as here: an order that is wrong may show with one of them only.
step "integration tests, optimised" \
    env LP_NUM_THREADS=0 cargo test "${optimised[@]}" --test suite --test wgpu --test examples
step "integration tests on wgpu, with copies" env RINGWORK_WGPU_TRANSFER=staged cargo test "${optimised[@]}" --test wgpu
for example in hello doctor "pipeline -- examples/data/nile.txt" vector_add "pagerank -- examples/data/links.txt" \
    "pagerank -- --nodes 1000000"; do
    # shellcheck disable=SC2086 # Words, some of which are the example's.
    step "example: $example" cargo run "${optimised[@]}" --quiet --example $example
done
step "model checking" ci/loom.sh

printf '\n=== Summary\n'
printf '%s\n' "${steps[@]}"
printf '\nAll %d steps passed in %d s.\n' ${#steps[@]} $((SECONDS - begun))
