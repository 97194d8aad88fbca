#!/bin/sh
# Checks who imports whom in src/:
#
#   error, sync, wire, message  →  compile  →  backend  →  compute  →  kernel  →  actor
#
# Each may import what stands left of it, never what stands right; the four on the left may import each other.
# Backends do not import each other. naga is named only in src/compile, wgpu and pollster only in src/backend/wgpu,
# cudarc and nvml_wrapper only in src/backend/cuda, Cranelift only in src/compile/jit.
#
# The check is first tried on planted violations: a check that finds nothing because it is broken is none.
set -eu
cd "$(dirname "$0")/.."
here=$PWD

check() {
    (cd "$1" && find src -name '*.rs' | LC_ALL=C sort | xargs awk -f "$here/ci/imports.awk")
}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

# A small crate that keeps all rules, and looks as if it did not.
plant_nothing() {
    rm -rf "$tree/src"
    mkdir -p "$tree/src/actor" "$tree/src/backend/cpu" "$tree/src/backend/wgpu" "$tree/src/compile/jit"
    cat > "$tree/src/lib.rs" <<'RUST'
mod actor; mod backend; mod compile; mod compute; mod error; mod kernel; mod message; mod sync; mod wire;
pub use actor::{Handle, runtime::Runtime as TheRuntime};
pub use error::Error;
RUST
    cat > "$tree/src/error.rs" <<'RUST'
//! See [`crate::actor`].
/* crate::actor /* crate::kernel */ crate::actor */
use crate::{message::{self, Token}, sync};
const TEXT: &str = "crate::actor \" naga::Module";
const RAW: &str = r#" use crate::actor; "crate::kernel" naga::Module "#;
fn lifetime<'a>(text: &'a str) -> char { '"' }
macro_rules! twice { () => { $crate::Error } }
mod inner { use super::super::wire; use self::deeper::actor; mod deeper { pub fn actor() {} } }
RUST
    echo 'use crate::{Error, backend::Device}; pub fn backend() {}' > "$tree/src/kernel.rs"
    echo 'use super::{backend, kernel::Spec};' > "$tree/src/actor/mod.rs"
    echo 'use super::super::kernel; use crate::TheRuntime;' > "$tree/src/actor/runtime.rs"
    echo 'mod cpu; mod wgpu; fn open() { wgpu::open(); cpu::open(); }' > "$tree/src/backend/mod.rs"
    echo 'use super::Device; use crate::twice;' > "$tree/src/backend/cpu/mod.rs"
    echo 'use wgpu::Device; use pollster::block_on;' > "$tree/src/backend/wgpu/mod.rs"
    echo 'use naga::Module; use cranelift_jit::JITModule;' > "$tree/src/compile/jit/mod.rs"
    echo 'fn layout() -> naga::Module { todo() }' > "$tree/src/compile/mod.rs"
    touch "$tree/src/compute.rs" "$tree/src/message.rs" "$tree/src/sync.rs" "$tree/src/wire.rs"
}

plant_nothing
if ! check "$tree"; then
    echo "ci/imports.sh: the self-test found a violation where there is none" >&2
    exit 1
fi

planted=0
# plant FILE RUST SENTENCE: adds the text to the small crate; exactly this has to be found, in its third line.
plant() {
    plant_nothing
    printf '\n\n%s\n' "$2" > "$tree/src/$1"
    if found=$(check "$tree"); then
        echo "ci/imports.sh: the self-test planted \`$2\` in src/$1, and it was not found" >&2
        exit 1
    fi
    if [ "$found" != "src/$1:3: $3" ]; then
        printf 'ci/imports.sh: the self-test planted `%s` in src/%s, and found\n%s\n' "$2" "$1" "$found" >&2
        exit 1
    fi
    planted=$((planted + 1))
}

plant wire.rs 'use crate::actor::Handle;' '`wire` may not import `actor` (`crate::actor::Handle`)'
plant wire.rs 'use crate::{sync::Mutex, kernel::{self}};' '`wire` may not import `kernel` (`crate::kernel`)'
plant compute.rs 'fn f(h: &crate::Handle) {}' '`compute` may not import `actor` (`crate::Handle`)'
plant compute.rs 'use ringwork::TheRuntime;' '`compute` may not import `actor` (`crate::TheRuntime`)'
plant message.rs 'use super::compile;' '`message` may not import `compile` (`crate::compile`)'
plant compile/mod.rs 'mod a { mod b { use super::super::super::backend::Device; } }' \
    '`compile` may not import `backend` (`crate::backend::Device`)'
plant backend/cpu/port.rs 'use super::super::{Device, wgpu::Pump};' \
    'the backend `cpu` may not import the backend `wgpu`'
plant backend/wgpu/mod.rs 'fn f() { crate::backend::cpu::open(); }' \
    'the backend `wgpu` may not import the backend `cpu`'
plant kernel.rs 'const NOTE: &str = "//"; use crate::actor::*;' \
    '`kernel` may not import `actor` (`crate::actor`)'
plant kernel.rs 'use crate::nowhere;' '`crate::nowhere` is neither a module nor something that lib.rs re-exports'
plant kernel.rs 'fn f(m: &naga::Module) {}' 'only src/compile may name the crate `naga`'
plant compute.rs 'use wgpu::{Device, Queue};' 'only src/backend/wgpu may name the crate `wgpu`'
plant backend/wgpu.rs 'use cudarc::driver;' 'only src/backend/cuda may name the crate `cudarc`'
plant actor/mod.rs 'use ::pollster::block_on;' 'only src/backend/wgpu may name the crate `pollster`'
plant compile/lower.rs 'use cranelift_codegen as code;' \
    'only src/compile/jit may name the crate `cranelift_codegen`'

if ! check .; then
    echo "ci/imports.sh: src/ breaks the import rules above" >&2
    exit 1
fi
echo "imports: $(find src -name '*.rs' | wc -l) files keep the rules; $planted planted violations were found"
