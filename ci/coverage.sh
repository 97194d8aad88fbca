#!/bin/bash
# Measures which lines of src/ the tests run, on the CPU, on wgpu with software Vulkan, and on emulated CUDA:
#
#   ci/coverage.sh
#
# Prints a table by file, the total, and every line that no test runs with its reason, which ci/coverage.txt gives. Fails
# if the total is below 90 %, or a line has no reason. What only the examples in the documentation run counts as not
# covered.
#
# Needs what ci/test.sh needs (run that first: it installs it), and llvm-profdata and llvm-cov of at least the LLVM that
# rustc has. They are looked for in RINGWORK_LLVM (a folder), in rustup's component llvm-tools, and as programs with or
# without a version in their names; where there are none and this runs as root on Debian or Ubuntu, they are installed.
# Works in target/coverage, or RINGWORK_COVERAGE (a folder, which stays). Tests that kill their own process leave no
# profile of it: what only they run shows as not covered.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
least=90

wanted=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')

# tool NAME: the path of a program of LLVM that is new enough.
tool() {
    local found version
    for found in ${RINGWORK_LLVM:+"$RINGWORK_LLVM/$1"} "$(rustc --print sysroot)"/lib/rustlib/*/bin/"$1" \
        "$1-$wanted" "$1-$((wanted + 1))" "$1"; do
        found=$(command -v "$found") || continue
        version=$("$found" --version | sed -n 's/.*LLVM version \([0-9]*\).*/\1/p')
        if [ "${version:-0}" -ge "$wanted" ]; then
            echo "$found"
            return
        fi
    done
    return 1
}

if ! tool llvm-cov > /dev/null || ! tool llvm-profdata > /dev/null; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "llvm-$wanted" || true
    fi
fi
if ! cov=$(tool llvm-cov) || ! profdata=$(tool llvm-profdata); then
    echo "ci/coverage.sh: llvm-cov and llvm-profdata $wanted or later are not there; get them with" >&2
    echo "    rustup component add llvm-tools      or, on Debian,      apt-get install llvm-$wanted" >&2
    exit 1
fi

folder=${RINGWORK_COVERAGE:-$root/target/coverage}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
rm -rf "$folder/profiles" "$folder/run"
mkdir -p "$folder/profiles"
mkdir -m 700 "$folder/run"

# Only the library, its tests and examples are counted, so only they are compiled for it.
cat > "$folder/rustc" <<'SCRIPT'
#!/bin/sh
compiler=$1
shift
exec "$compiler" "$@" -C instrument-coverage
SCRIPT
chmod +x "$folder/rustc"
export CARGO_TARGET_DIR=$folder RUSTC_WORKSPACE_WRAPPER=$folder/rustc CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
export RINGWORK_REQUIRE=cpu,wgpu XDG_RUNTIME_DIR=$folder/run

# measure NAME FEATURES… -- TARGETS…: runs these tests, and writes what they ran of src/ to NAME.lcov.
measure() {
    local name=$1 features=() objects=() program
    shift
    while [ "$1" != -- ]; do
        features+=("$1")
        shift
    done
    shift
    printf '\n=== %s: build\n' "$name"
    # A build script or a compiler's own process writes no profile; a test's children do, each its own.
    LLVM_PROFILE_FILE=/dev/null cargo test --no-run "${features[@]}" "$@" 2>&1 | tee "$folder/$name.build"
    while read -r program; do
        case $program in
            /*) ;;
            *) program=$root/$program ;;
        esac
        objects+=(-object "$program")
    done < <(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$folder/$name.build")
    printf '\n=== %s: tests\n' "$name"
    # The figures are worth having where a test fails, too; the last line says that it did.
    LLVM_PROFILE_FILE=$folder/profiles/$name-%p-%m.profraw cargo test --no-fail-fast "${features[@]}" "$@" || failed=1
    # A program that a test gives an empty environment writes where it stands.
    find "$root" -maxdepth 1 -name 'default_*.profraw' -exec sh -c 'mv "$2" "$1-${2##*/}"' - "$folder/profiles/$name" {} \;
    # What a killed process left unfinished is passed over.
    "$profdata" merge -sparse -failure-mode=all "$folder/profiles/$name"-*.profraw -o "$folder/$name.profdata"
    "$cov" export -format=lcov -instr-profile "$folder/$name.profdata" "${objects[@]}" > "$folder/$name.lcov"
    rm "$folder/profiles/$name"-*.profraw
}

failed=0
# Their tests run the programs, which `--test` alone does not build.
cargo build --examples
measure default -- --lib --test suite --test wgpu --test examples
# The software driver shares its memory with the host, which most GPUs do not: there messages and results are copied.
RINGWORK_WGPU_TRANSFER=staged measure staged -- --lib -- wgpu device_tests
# What runs without CUDA's code ran above.
RINGWORK_REQUIRE=cpu measure cuda --no-default-features --features jit,cuda -- --test suite --test cuda --lib

printf '\n=== Lines of src/\n'
awk -f ci/coverage.awk root="$root" least=$least ci/coverage.txt "$folder"/{default,staged,cuda}.lcov
if [ $failed -ne 0 ]; then
    echo "ci/coverage.sh: tests failed; what they did not come to shows as not covered" >&2
    exit 1
fi
