#!/bin/bash
# Tests and measures on a machine with an NVIDIA GPU, which needs NVIDIA's driver and bash, and neither Rust nor a toolkit.
#
#   ci/gpu.sh pack              builds what is needed into target/ringwork-gpu and target/ringwork-gpu.tar.gz (x86-64)
#   ci/gpu.sh run [OPTION…]     there, in the unpacked folder (./gpu.sh run), or here: tests, measures, writes the results
#
# Options of `run`: --messages N of the torture (10 million unless set), --quick for little of each, --soak SECONDS,
# --minutes N in all, after which what is left is not run, and --out FOLDER for the results (benches/results of a checkout,
# or `results` beside this script, unless set). They are written behind each step, which has a limit of its own.
#
# `pack` takes NVRTC along if ci/nvrtc.sh has fetched it; RINGWORK_PACK_PROFILE=dev builds without optimisation, for a
# rehearsal. `run` exits with 1 if something failed or there is no device; what it could not run, it lists. A missed goal is
# no failure, and is listed too. On the emulation of tests/cuda (with LD_LIBRARY_PATH set to its folder) it tests, says that
# it was one, and writes no results.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
}

# ---- pack

# program ARGUMENT…: builds with cargo, and prints the path of the one program that came of it.
program() {
    cargo "$@" --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

pack() {
    cd "$here/.."
    local profile=${RINGWORK_PACK_PROFILE:-release}
    local target=${CARGO_TARGET_DIR:-$PWD/target}
    export CARGO_TARGET_DIR=$target
    local folder=$target/ringwork-gpu
    if [ "$(uname -sm)" != "Linux x86_64" ]; then
        echo "what is packed is for Linux on x86-64, and this is $(uname -sm)" >&2
        exit 1
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    local suite doctor yardsticks optimised=(--release)
    if [ "$profile" = dev ]; then optimised=(); fi
    suite=$(program test "${optimised[@]}" --features cuda --test suite --no-run)
    doctor=$(program build "${optimised[@]}" --features cuda --example doctor)
    yardsticks=$(program build "${optimised[@]}" --manifest-path benches/cuda/Cargo.toml)
    strip -o "$folder/suite" "$suite"
    strip -o "$folder/doctor" "$doctor"
    strip -o "$folder/yardsticks" "$yardsticks"
    cp ci/gpu.sh "$folder/gpu.sh"
    {
        echo "commit $(git rev-parse --short HEAD 2> /dev/null || echo unknown)$(git diff --quiet HEAD 2> /dev/null || echo ', with changes')"
        echo "profile $profile"
        rustc --version
    } > "$folder/BUILD"
    local nvrtc=${RINGWORK_NVRTC:-}
    if [ -z "$nvrtc" ]; then
        nvrtc=$(find "${RINGWORK_NVRTC_CACHE:-$target/nvrtc}" -name 'libnvrtc.so.*' ! -name '*.alt.*' 2> /dev/null | LC_ALL=C sort | head -n 1) || true
    fi
    if [ -n "$nvrtc" ]; then
        mkdir "$folder/nvrtc"
        find "$(dirname "$nvrtc")" -name 'libnvrtc*.so*' ! -name '*.alt.*' -exec cp {} "$folder/nvrtc/" \;
    else
        echo "without NVRTC: run ci/nvrtc.sh first, or let the GPU's machine have it" >&2
    fi
    tar -C "$target" -czf "$folder.tar.gz" ringwork-gpu
    du -sh "$folder"/* "$folder.tar.gz" >&2
    echo "$folder.tar.gz"
}

# ---- run

steps=()
failures=0
# When all has to be over.
end=
# What the results are of, where they go, and what the suites said.
package= work= out= file= gpu= device= smi= is_emulated= on_cuda= on_wgpu=

# told STATUS NAME TEXT: remembers how a step ended.
told() {
    steps+=("| $2 | $1 | $3 |")
    printf '\n--- %s: %s (%s)\n' "$2" "$1" "$3"
    if [ "$1" = FAILED ]; then failures=$((failures + 1)); fi
    write_results
}

# step SECONDS NAME COMMAND…: runs it for so long at most, with its output in a file of its own and on the screen.
step() {
    local limit=$1 name=$2 from=$SECONDS status=0
    shift 2
    if [ -n "$end" ] && [ $((end - SECONDS)) -lt "$limit" ]; then limit=$((end - SECONDS)); fi
    : > "$work/output"
    if [ "$limit" -lt 5 ]; then
        told "NOT RUN" "$name" "no time is left"
        return
    fi
    printf '\n=== %s (%s s at most)\n    %s\n' "$name" "$limit" "$*"
    timeout -k 5 "$limit" "$@" > "$work/output" 2>&1 || status=$?
    cat "$work/output" >> "$work/log"
    tail -n 40 "$work/output"
    local command=${*//$package\//}
    local took="$((SECONDS - from)) s; \`${command//$work\//}\`"
    case $status in
        0) told passed "$name" "$took" ;;
        3) told "passed, goals missed" "$name" "$took" ;;
        124 | 137) told FAILED "$name" "not over after $took" ;;
        *) told FAILED "$name" "exit status $status after $took" ;;
    esac
}

# What the tests themselves say about how many they were.
counts() {
    sed -n 's/^test result: [a-zA-Z]*\. \(.*\); finished.*/\1/p' "$work/output" | tail -n 1
}

# What is known so far; of an emulation, nothing.
write_results() {
    if [ -n "$is_emulated" ]; then return; fi
    local part
    mkdir -p "$out"
    {
        printf '# %s\n\n' "$gpu"
        printf 'Written by `gpu.sh run` on %s. %s\n\n' "$(date -u +%Y-%m-%d)" "$device"
        printf '* %s\n' "$(tr '\n' ',' < "$package/BUILD" | sed 's/,$//; s/,/, /g')"
        printf '* %s; %s; %s processors\n' "$(uname -sr)" \
            "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)"
        if [ -n "$smi" ]; then
            printf '* nvidia-smi (name, driver, PCIe generation and width, clocks, power limit): %s\n' "$smi"
        fi
        printf '* suite on CUDA: %s\n* suite on wgpu: %s\n\n' "${on_cuda:-not run}" "${on_wgpu:-not run}"
        printf '| step | how it ended | |\n|---|---|---|\n'
        printf '%s\n' "${steps[@]}"
        for part in driver latency torture throughput connections faults soak; do
            if [ -f "$work/$part.md" ]; then tail -n +2 "$work/$part.md"; fi
        done
    } > "$out/$file"
}

run() {
    local messages=10000000 quick= soak=
    while [ $# -gt 0 ]; do
        case $1 in
            --messages) messages=$2; shift ;;
            --quick) quick=--quick ;;
            --soak) soak=$2; shift ;;
            --minutes) end=$((SECONDS + $2 * 60)); shift ;;
            --out) out=$2; shift ;;
            *) usage ;;
        esac
        shift
    done
    package=$here
    if [ ! -x "$package/suite" ]; then package=${CARGO_TARGET_DIR:-$here/../target}/ringwork-gpu; fi
    if [ ! -x "$package/suite" ]; then
        echo "there are no programs: run \`ci/gpu.sh pack\` first" >&2
        exit 1
    fi
    package=$(cd "$package" && pwd)
    if [ -z "$out" ]; then
        if [ -d "$here/../benches/results" ]; then out=$here/../benches/results; else out=$here/results; fi
    fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # What is compiled is kept for this run alone; Mesa wants a folder too.
    mkdir -m 700 "$work/code" "$work/xdg"
    export RINGWORK_CACHE=$work/code XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work/xdg} RUST_BACKTRACE=0

    local status=0
    device=$("$package/yardsticks" --device 2> "$work/why") || status=$?
    if [ $status -ne 0 ] && [ -d "$package/nvrtc" ] && [ -z "${RINGWORK_NVRTC:-}" ]; then
        # The machine has no NVRTC of its own: the packed one.
        export RINGWORK_NVRTC=$package/nvrtc
        status=0
        device=$("$package/yardsticks" --device 2> "$work/why") || status=$?
    fi
    if [ $status -ne 0 ]; then
        cat "$work/why" >&2
        echo "NOTHING WAS RUN: there is no CUDA device, or no driver, or no NVRTC" >&2
        exit 1
    fi
    echo "$device"
    gpu=${device#Device: }
    gpu=${gpu%% (sm_*}
    file=$(printf %s "$gpu" | tr 'A-Z' 'a-z' | tr -c 'a-z0-9\n' '-' | tr -s '-').md
    if [[ $gpu == *emulation* ]]; then is_emulated=yes; fi
    if command -v nvidia-smi > /dev/null; then
        local fields=name,driver_version,pcie.link.gen.current,pcie.link.width.current,clocks.sm,clocks.mem,power.limit
        smi=$(timeout 10 nvidia-smi --query-gpu=$fields --format=csv,noheader | tr '\n' ';') || true
    fi

    # What says most comes first, and what may bring the device down last.
    local yardsticks=$package/yardsticks
    step 60 "the driver beside kernels that stay" "$yardsticks" driver --out "$work/driver.md"
    step 60 "latency" "$yardsticks" latency links $quick --out "$work/latency.md"
    step 240 "torture of the slot protocol" "$yardsticks" torture --messages "$messages" --out "$work/torture.md"
    step 240 "throughput" "$yardsticks" throughput kernels $quick --out "$work/throughput.md"
    # Streams share the driver's queues, of which there are 8 unless this says otherwise.
    step 120 "more queues of the driver's" env CUDA_DEVICE_MAX_CONNECTIONS=32 \
        "$yardsticks" driver kernels $quick --out "$work/connections.md"
    step 420 "conformance, CUDA" env RINGWORK_BACKEND=cuda "$package/suite"
    on_cuda=$(counts)
    step 180 "faults and recovery" "$yardsticks" faults --out "$work/faults.md"
    local adapter
    if RINGWORK_BACKEND=wgpu timeout 60 "$package/doctor" > "$work/doctor" 2>&1; then
        adapter=$(sed -n '/^a runtime takes/{n;s/^ *//;p;}' "$work/doctor")
        case $adapter in
            *llvmpipe* | *SwiftShader*) adapter="$adapter: software, not a GPU" ;;
        esac
        step 420 "conformance, wgpu" env RINGWORK_BACKEND=wgpu "$package/suite"
        on_wgpu=$(counts)
        on_wgpu=${on_wgpu:+$on_wgpu, on $adapter}
        printf 'on %s\n' "$adapter"
    else
        told "NOT RUN" "conformance, wgpu" "$(sed -n '/^wgpu/,/^$/p' "$work/doctor" | tr -s '\n ' ' ')"
    fi
    if [ -n "$soak" ]; then
        step "$((soak + 60))" "soak" "$yardsticks" --soak "$soak" --out "$work/soak.md"
    else
        told "NOT RUN" "soak" "asked for with --soak SECONDS"
    fi

    printf '\n| step | how it ended | |\n|---|---|---|\n'
    printf '%s\n' "${steps[@]}"
    if [ -n "$is_emulated" ]; then
        printf '\nThis was an emulation, not a GPU: it is no result, and none was written.\n'
    else
        write_results
        printf '\nWritten: %s\n' "$out/$file"
    fi
    if [ $failures -gt 0 ]; then
        cp "$work/log" ./gpu-run.log
        printf '\n%d steps FAILED; all they said is in gpu-run.log.\n' "$failures" >&2
        exit 1
    fi
}

case ${1:-} in
    pack) shift; [ $# -eq 0 ] || usage; pack ;;
    run) shift; run "$@" ;;
    *) usage ;;
esac
