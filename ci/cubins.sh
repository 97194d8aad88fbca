#!/bin/sh
# Compiles every kernel that the suite launches, whole with its ring driver, to cubins for sm_75, sm_80 and sm_90, with
# NVIDIA's own compiler and without a GPU; prints registers and spills of each, and keeps the list in target/cubins.txt.
# Fails if one does not compile, or if one of the realistic handlers spills.
#
# The texts come from a run of the suite on the emulated driver (tests/cuda), which needs g++; NVRTC from ci/nvrtc.sh, unless
# RINGWORK_NVRTC names it.
set -eu
cd "$(dirname "$0")/.."
nvrtc=${RINGWORK_NVRTC:-$(ci/nvrtc.sh)}
target=${CARGO_TARGET_DIR:-$PWD/target}
features="--no-default-features --features jit,cuda"
sources=$target/cuda-sources
rm -rf "$sources"
mkdir -p "$sources"
unset RINGWORK_NVRTC
# Nothing is kept between kernels, or some would not be compiled.
export RINGWORK_CACHE=off
cargo test $features --test suite --no-run
for part in realistic suite; do
    filter=
    if [ $part = realistic ]; then filter=handlers::realistic; fi
    RINGWORK_REQUIRE=cpu RINGWORK_EMULATION_SOURCES=$sources/$part cargo test $features --test cuda -- $filter
done
RINGWORK_NVRTC=$nvrtc RINGWORK_CUDA_SOURCES=$sources \
    cargo test $features --lib nvrtc_compiles_whole_kernels -- --ignored --nocapture > "$target/cubins.txt" || {
    tail -n 40 "$target/cubins.txt"
    exit 1
}
grep -E 'kernels, at most|realistic/' "$target/cubins.txt"
