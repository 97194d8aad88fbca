//! Keys: a digest of everything that went into what is kept under it.
//!
//! The rule for a key is that it has **all** of the input of the step whose result it names, so that a key can only
//! be found again by the same question. For an artefact of an engine that is the handler's key (or the text that was
//! written from it), the engine's version, the machine it is for and the options it was called with.

use super::origin::ORIGIN;
use crate::compile::HandlerSource;
use crate::message::{FieldKind, Layout};
use sha2::{Digest, Sha256};
use std::fmt;

/// SHA-256 of the parts of a key: two different questions do not meet in it, by chance or on purpose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key([u8; Key::SIZE]);

impl Key {
    /// Bytes of a key.
    pub const SIZE: usize = 32;

    /// The key's bytes.
    pub fn bytes(&self) -> &[u8; Self::SIZE] {
        &self.0
    }
}

/// In hexadecimal, as the names of files have it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Takes the parts of a key, in an order that is always the same.
///
/// Every part says what it is and how long: no two lists of parts are the same bytes.
pub(crate) struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// The key of one kind of artefact, such as `handler`; this crate's version and sources are in every key.
    pub fn new(kind: &str) -> Self {
        Self(Sha256::new()).text(env!("CARGO_PKG_VERSION")).number(ORIGIN).text(kind)
    }

    /// A part that is text.
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// A part that is bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self = self.tagged(b'b', bytes.len() as u64);
        self.0.update(bytes);
        self
    }

    /// A part that is a number.
    pub fn number(self, number: impl Into<u64>) -> Self {
        self.tagged(b'n', number.into())
    }

    fn tagged(mut self, tag: u8, number: u64) -> Self {
        let mut part = [tag; 9];
        part[1..].copy_from_slice(&number.to_le_bytes());
        self.0.update(part);
        self
    }

    /// The layout of a message, down to the last field: two Rust types of one name may differ.
    fn layout(self, layout: &Layout) -> Self {
        let Layout { name, size, align, fields } = *layout;
        let head = self.text(name).number(size).number(align).number(fields.len() as u64);
        fields.iter().fold(head, |key, field| key.text(field.name).number(field.offset).kind(&field.kind))
    }

    fn kind(self, kind: &FieldKind) -> Self {
        match kind {
            FieldKind::Scalar(scalar) => self.number(0u32).number(*scalar as u32),
            FieldKind::Vector(scalar, len) => self.number(1u32).number(*scalar as u32).number(*len),
            FieldKind::Array { element, len, stride } => {
                self.number(2u32).number(*len).number(*stride).kind(element)
            }
            FieldKind::Struct(layout) => self.number(3u32).layout(layout),
        }
    }

    /// The key of these parts.
    pub fn finish(self) -> Key {
        Key(self.0.finalize().into())
    }
}

/// The key of a handler that compiles.
///
/// What only words an error is not in it, since errors are not kept: the kernel's name and the names of the Rust
/// types in its tables. Neither are the lengths of its tables, which
/// [`Program::fits`](crate::compile::Program::fits) looks at for each kernel, so that kernels with tables of
/// different lengths share their code.
pub(super) fn handler(source: &HandlerSource<'_>) -> Key {
    let HandlerSource { name: _, text, input, output, state, outputs, tables, loop_budget, instance_at } =
        source;
    let mut key = KeyBuilder::new("handler").text(text).layout(input).layout(output).number(*loop_budget);
    key = key.number(instance_at.map_or(0, |at| u64::from(at) + 1));
    key = key.number(u32::from(state.is_some()));
    if let Some(state) = state {
        key = key.layout(state);
    }
    key = key.number(outputs.len() as u64);
    for output in *outputs {
        key = key.text(&output.name).layout(output.layout).number(output.max_per_message);
    }
    key = key.number(tables.len() as u64);
    for table in *tables {
        key = key.text(&table.name).number(table.element_size);
    }
    key.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Part {
        Bytes(Vec<u8>),
        Number(u64),
    }

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        // Few and short ones, of bytes that lengths and tags are made of too: lists that are nearly the same.
        let byte = prop_oneof![Just(0u8), Just(1), Just(b'b'), Just(b'n')];
        let part = prop_oneof![
            prop::collection::vec(byte, 0..12).prop_map(Part::Bytes),
            (0..3u64).prop_map(Part::Number),
        ];
        prop::collection::vec(part, 0..3)
    }

    fn key(parts: &[Part]) -> Key {
        let add = |key: KeyBuilder, part: &Part| match part {
            Part::Bytes(bytes) => key.bytes(bytes),
            Part::Number(number) => key.number(*number),
        };
        parts.iter().fold(KeyBuilder::new("test"), add).finish()
    }

    proptest! {
        #[test]
        fn only_the_same_parts_make_the_same_key(a in parts(), b in parts()) {
            prop_assert_eq!(key(&a) == key(&b), a == b);
            // Wherever a part is cut in two, it is another list.
            for (index, part) in a.iter().enumerate() {
                let Part::Bytes(bytes) = part else { continue };
                for cut in 0..=bytes.len() {
                    let mut other = a.clone();
                    other[index] = Part::Bytes(bytes[..cut].to_vec());
                    other.insert(index + 1, Part::Bytes(bytes[cut..].to_vec()));
                    prop_assert_ne!(key(&a), key(&other));
                }
            }
        }
    }

    #[test]
    fn a_key_is_shown_as_its_digits() {
        let key = Key(std::array::from_fn(|index| index as u8 * 8));
        assert_eq!(key.to_string(), "0008101820283038404850586068707880889098a0a8b0b8c0c8d0d8e0e8f0f8");
        assert_ne!(KeyBuilder::new("one").finish(), KeyBuilder::new("two").finish());
    }
}
