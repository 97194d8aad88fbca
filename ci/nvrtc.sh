#!/bin/sh
# Fetches NVRTC, NVIDIA's run-time compiler for CUDA C++, and prints the path of its library. It needs no GPU, no driver
# and no toolkit. Tests that compile kernels take the path from RINGWORK_NVRTC:
#
#   RINGWORK_NVRTC=$(ci/nvrtc.sh) cargo test --features cuda nvrtc -- --ignored --nocapture
#
# Kept in RINGWORK_NVRTC_CACHE, by default target/nvrtc. Needs Python with pip, Linux on x86-64 or aarch64, and the
# network the first time. RINGWORK_NVRTC_PACKAGE may name another package or version (nvidia-cuda-nvrtc-cu12==12.9.*).
set -eu
cd "$(dirname "$0")/.."
package=${RINGWORK_NVRTC_PACKAGE:-nvidia-cuda-nvrtc}
cache=${RINGWORK_NVRTC_CACHE:-$PWD/target/nvrtc}/$(printf %s "$package" | tr -c 'A-Za-z0-9._-' _)

library() {
    find "$cache/unpacked" -name 'libnvrtc.so.*' ! -name '*.alt.*' 2> /dev/null | LC_ALL=C sort | head -n 1
}

if [ -z "$(library)" ]; then
    rm -rf "$cache"
    mkdir -p "$cache"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$cache" "$package" >&2
    # Under another name until it is whole.
    python3 -m zipfile -e "$cache"/*.whl "$cache/unpacking"
    mv "$cache/unpacking" "$cache/unpacked"
    rm "$cache"/*.whl
fi
found=$(library)
if [ -z "$found" ]; then
    echo "ci/nvrtc.sh: there is no libnvrtc.so in the package $package" >&2
    exit 1
fi
echo "$found"
