//! Which sources this library was built from.
//!
//! A version is not enough to tell what made an artefact: between two releases, in a fork, or at two commits of a git
//! dependency, different compilers have the same one, and all of them find the same folder. Code made by another
//! compiler must not be run. So every key has a digest of the compiler's own text.

/// FNV-1a by words of eight bytes, for the compiler to run: against change, and not against anybody.
const fn digest(mut hash: u64, mut bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    // The length first, so that the zeros that fill the last word up count.
    hash = (hash ^ bytes.len() as u64).wrapping_mul(PRIME);
    while let Some((word, rest)) = bytes.split_first_chunk::<8>() {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME);
        // What a product carries goes upwards only: without this the highest bits of a word would be lost.
        hash ^= hash >> 32;
        bytes = rest;
    }
    while let [byte, rest @ ..] = bytes {
        hash = (hash ^ *byte as u64).wrapping_mul(PRIME);
        hash ^= hash >> 32;
        bytes = rest;
    }
    hash
}

macro_rules! sources {
    ($($path:literal)*) => {
        /// The files that decide what handlers are compiled to, as seen from `src/compile`.
        #[cfg(test)]
        const SOURCES: &[&str] = &[$($path),*];

        /// A digest of them.
        pub(super) const ORIGIN: u64 = {
            let mut all = 0xcbf2_9ce4_8422_2325;
            $(
                // Each an evaluation of its own: the compiler limits how long one may take.
                all = digest(all, &const { digest(0, include_bytes!(concat!("../", $path))) }.to_le_bytes());
            )*
            all
        };
    };
}

sources! {
    "../../Cargo.toml"
    "../backend/cuda/nvrtc.rs"
    "../message/check.rs"
    "../message/envelope.rs"
    "../message/field.rs"
    "../message/id.rs"
    "../message/layout.rs"
    "../message/macros.rs"
    "../message/mod.rs"
    "../message/vector.rs"
    "../wire.rs"
    "batch.rs"
    "compute/compiled.rs"
    "compute/device.rs"
    "compute/fission.rs"
    "compute/group.rs"
    "compute/inline.rs"
    "compute/invocations.rs"
    "compute/mod.rs"
    "compute/segment.rs"
    "compute/uniform.rs"
    "compute/within.rs"
    "cuda/compute.rs"
    "cuda/declare.rs"
    "cuda/expression.rs"
    "cuda/function.rs"
    "cuda/math.rs"
    "cuda/mod.rs"
    "cuda/statement.rs"
    "cuda/text.rs"
    "cuda/twin.rs"
    "cuda/types.rs"
    "float.rs"
    "front/alias.rs"
    "front/compute.rs"
    "front/contract.rs"
    "front/declare.rs"
    "front/explain.rs"
    "front/layout.rs"
    "front/mod.rs"
    "front/overrides.rs"
    "front/refuse.rs"
    "front/report.rs"
    "front/scan.rs"
    "front/tables.rs"
    "interp/code.rs"
    "interp/decode.rs"
    "interp/decode/borrow.rs"
    "interp/decode/expression.rs"
    "interp/decode/fuse.rs"
    "interp/decode/statement.rs"
    "interp/math.rs"
    "interp/mod.rs"
    "interp/pack.rs"
    "interp/whole.rs"
    "jit/analysis.rs"
    "jit/batch.rs"
    "jit/layout.rs"
    "jit/look.rs"
    "jit/machine_code.rs"
    "jit/mod.rs"
    "jit/pack.rs"
    "jit/runtime.rs"
    "jit/translate.rs"
    "jit/translate/batch.rs"
    "jit/translate/bounds.rs"
    "jit/translate/choice.rs"
    "jit/translate/constant.rs"
    "jit/translate/expression.rs"
    "jit/translate/inline.rs"
    "jit/translate/math.rs"
    "jit/translate/packed.rs"
    "jit/translate/place.rs"
    "jit/translate/statement.rs"
    "jit/translate/unroll.rs"
    "jit/translate/whole.rs"
    "joined.rs"
    "lower.rs"
    "lower/compute.rs"
    "lower/constants.rs"
    "lower/pointers.rs"
    "lower/rewrite.rs"
    "mod.rs"
    "program.rs"
    "shape.rs"
    "uses.rs"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The sources in a folder, but for what only tests have and for the cache, which makes nothing.
    fn list(folder: &Path, from: &str, found: &mut Vec<String>) {
        for file in folder.read_dir().expect("the sources are there") {
            let file = file.expect("it can be listed");
            let name = file.file_name().into_string().expect("it is text");
            let path = format!("{from}{name}");
            let is_test = ["tests", "tests.rs"].contains(&&*name)
                || ["generate", "generate.rs", "speed.rs"].contains(&&*path);
            if is_test || path == "cache" {
                continue;
            }
            if file.path().is_dir() {
                list(&file.path(), &format!("{path}/"), found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_source_counts() {
        // What machine code knows of slots and messages, and what CUDA's compiler is asked for.
        let others = ["../../Cargo.toml", "../backend/cuda/nvrtc.rs", "../wire.rs"];
        let mut found: Vec<_> = others.map(str::to_owned).into();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        list(&sources.join("message"), "../message/", &mut found);
        list(&sources.join("compile"), "", &mut found);
        found.sort();
        assert_eq!(SOURCES, found, "src/compile/cache/origin.rs has to name them all, in this order");
    }

    #[test]
    fn any_change_of_a_text_changes_its_digest() {
        let text: Vec<u8> = (0..40).collect();
        let before = digest(1, &text);
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut other = text.clone();
                other[at] ^= 1 << bit;
                assert_ne!(digest(1, &other), before, "bit {bit} of byte {at}");
            }
            assert_ne!(digest(1, &text[..at]), before);
        }
        assert_ne!(digest(2, &text), before);
        assert_ne!(digest(1, &[0]), digest(1, &[]));
    }
}
