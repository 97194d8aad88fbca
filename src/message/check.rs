//! The checks that `message!` runs while the user's crate compiles, and the text of their errors.

use super::layout::{Field, FieldKind, Layout};
use naga::keywords::wgsl::RESERVED;

/// WGSL alignment of a struct with these fields.
pub const fn struct_align(fields: &[Field]) -> u32 {
    let mut align = 4;
    let mut i = 0;
    while i < fields.len() {
        if fields[i].kind.align() > align {
            align = fields[i].kind.align();
        }
        i += 1;
    }
    align
}

/// Compares a layout, whose offsets and size are Rust's, with WGSL's rules for the storage address space.
///
/// # Panics
///
/// Where the two differ or a name cannot be used. It is called in const items only, so that the panic is a compile
/// error.
pub const fn check(layout: &Layout, rust_align: usize) {
    let fields = layout.fields;
    check_name(layout.name, "struct");
    if fields.is_empty() {
        Text::new().add("`").add(layout.name).add("` has no fields; the empty message is `()`").panic();
    }
    if rust_align != 4 {
        Text::new()
            .add("`")
            .add(layout.name)
            .add("` is aligned to ")
            .number(rust_align as u32)
            .add(" bytes; `message!` chooses the representation, leave `#[repr]` out")
            .panic();
    }
    let mut end = 0_u32;
    let mut i = 0;
    while i < fields.len() {
        check_name(fields[i].name, "field");
        check_elements(fields[i].name, &fields[i].kind);
        let expected = end.next_multiple_of(fields[i].kind.align());
        if fields[i].offset != expected {
            misplaced(layout, i, expected);
        }
        end = expected + fields[i].kind.size();
        i += 1;
    }
    let expected = end.next_multiple_of(layout.align);
    if layout.size != expected {
        Text::new()
            .add("the struct `")
            .add(layout.name)
            .add("` ends at byte ")
            .number(layout.size)
            .add(" in Rust but at ")
            .number(expected)
            .add(" in WGSL; put ")
            .padding(fields, layout.size, expected)
            .add(" at its end")
            .panic();
    }
}

const fn misplaced(layout: &Layout, index: usize, expected: u32) -> ! {
    let field = &layout.fields[index];
    Text::new()
        .add("field `")
        .add(field.name)
        .add("` is at byte ")
        .number(field.offset)
        .add(" in Rust but at ")
        .number(expected)
        .add(" in WGSL; put ")
        .padding(layout.fields, field.offset, expected)
        .add(" before it (in `")
        .add(layout.name)
        .add("`)")
        .panic()
}

/// The elements of an array must lie as far apart in Rust as in WGSL.
const fn check_elements(field: &str, kind: &FieldKind) {
    if let FieldKind::Array { element, stride, .. } = kind {
        check_elements(field, element);
        if element.rust_size() != *stride {
            Text::new()
                .add("the elements of field `")
                .add(field)
                .add("` are ")
                .number(element.rust_size())
                .add(" bytes apart in Rust but ")
                .number(*stride)
                .add(" in WGSL; use `Vec4`, or a `message!` struct of a `Vec3` and a `_pad: u32`, as the element")
                .panic();
        }
    }
}

/// Names go into WGSL as they are, so they must be names there.
const fn check_name(name: &str, what: &str) {
    let problem = if starts_with(name, "rt_") {
        "names that start with `rt_` are the library's"
    } else if starts_with(name, "__") {
        "a name in WGSL cannot start with `__`"
    } else if starts_with(name, "r#") {
        "a name in WGSL cannot start with `r#`"
    } else if is_reserved(name) {
        "it is a reserved word of WGSL"
    } else {
        return;
    };
    Text::new().add(what).add(" `").add(name).add("` needs another name: ").add(problem).panic()
}

const fn is_reserved(name: &str) -> bool {
    let mut i = 0;
    while i < RESERVED.len() {
        if equal(name, RESERVED[i]) {
            return true;
        }
        i += 1;
    }
    false
}

const fn has_field(fields: &[Field], name: &str) -> bool {
    let mut i = 0;
    while i < fields.len() {
        if equal(fields[i].name, name) {
            return true;
        }
        i += 1;
    }
    false
}

const fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && starts_with(a, b)
}

const fn starts_with(text: &str, prefix: &str) -> bool {
    let (text, prefix) = (text.as_bytes(), prefix.as_bytes());
    if text.len() < prefix.len() {
        return false;
    }
    let mut i = 0;
    while i < prefix.len() {
        if text[i] != prefix[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Builds the text of a panic in const code, where there is no formatting and no heap.
struct Text {
    bytes: [u8; 512],
    len: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; 512], len: 0 }
    }

    /// Appends a piece; one that does not fit is left out whole, so that the text stays UTF-8.
    const fn add(mut self, piece: &str) -> Self {
        let piece = piece.as_bytes();
        if self.len + piece.len() <= self.bytes.len() {
            let mut i = 0;
            while i < piece.len() {
                self.bytes[self.len + i] = piece[i];
                i += 1;
            }
            self.len += piece.len();
        }
        self
    }

    const fn number(mut self, value: u32) -> Self {
        if value >= 10 {
            self = self.number(value / 10);
        }
        const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        self.add(DIGITS[(value % 10) as usize])
    }

    /// Appends the padding field that fills the gap, under a name that the struct does not have yet.
    const fn padding(self, fields: &[Field], from: u32, to: u32) -> Self {
        const NAMES: [&str; 8] = ["_pad", "_pad2", "_pad3", "_pad4", "_pad5", "_pad6", "_pad7", "_pad8"];
        let mut i = 0;
        while i + 1 < NAMES.len() && has_field(fields, NAMES[i]) {
            i += 1;
        }
        let words = (to - from) / 4;
        let text = self.add("`").add(NAMES[i]).add(": ");
        if words == 1 { text.add("u32`") } else { text.add("[u32; ").number(words).add("]`") }
    }

    const fn panic(&self) -> ! {
        match std::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => panic!("{}", text),
            Err(_) => panic!("the layouts of the message in Rust and in WGSL differ"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Scalar;

    const WORD: FieldKind = FieldKind::Scalar(Scalar::U32);
    const VEC3: FieldKind = FieldKind::Vector(Scalar::F32, 3);

    /// The error for a struct `S` whose fields lie as Rust puts them, without padding.
    fn error(fields: &[(&'static str, FieldKind)]) -> String {
        let mut end = 0;
        let fields: Vec<Field> = fields
            .iter()
            .map(|&(name, kind)| {
                let offset = end;
                end += kind.rust_size();
                Field { name, offset, kind }
            })
            .collect();
        let fields = fields.leak();
        let layout = Layout { name: "S", size: end, align: struct_align(fields), fields };
        let panic = std::panic::catch_unwind(|| check(&layout, 4)).expect_err("the layout is refused");
        *panic.downcast::<String>().expect("a formatted text")
    }

    #[test]
    fn a_misplaced_field_is_told_its_padding() {
        assert_eq!(
            error(&[("id", WORD), ("p", VEC3)]),
            "field `p` is at byte 4 in Rust but at 16 in WGSL; put `_pad: [u32; 3]` before it (in `S`)"
        );
        assert_eq!(
            error(&[("_pad", VEC3), ("p", VEC3)]),
            "field `p` is at byte 12 in Rust but at 16 in WGSL; put `_pad2: u32` before it (in `S`)"
        );
    }

    #[test]
    fn a_struct_that_ends_early_is_told_its_padding() {
        assert_eq!(
            error(&[("p", VEC3), ("mass", WORD), ("id", WORD)]),
            "the struct `S` ends at byte 20 in Rust but at 32 in WGSL; put `_pad: [u32; 3]` at its end"
        );
    }

    #[test]
    fn elements_that_lie_closer_in_rust_are_refused_at_any_depth() {
        const ROW: FieldKind = FieldKind::Array { element: &VEC3, len: 2, stride: 16 };
        let expected = "the elements of field `corners` are 12 bytes apart in Rust but 16 in WGSL";
        assert!(error(&[("corners", ROW)]).starts_with(expected));
        let rows = FieldKind::Array { element: &ROW, len: 4, stride: 32 };
        assert!(error(&[("corners", rows)]).starts_with(expected));
    }

    #[test]
    fn names_that_wgsl_or_the_library_owns_are_refused() {
        for name in ["rt_time", "__time", "r#type", "fn", "var", "target", "enum"] {
            let text = error(&[(name, WORD)]);
            assert!(text.starts_with(&format!("field `{name}` needs another name: ")), "{text}");
        }
        assert_eq!(error(&[]), "`S` has no fields; the empty message is `()`");
    }

    #[test]
    fn a_text_too_long_for_the_buffer_leaves_pieces_out() {
        let long = "x".repeat(600).leak();
        assert!(error(&[("id", WORD), (long, VEC3)]).contains("is at byte 4 in Rust but at 16 in WGSL"));
    }
}
