//! Layouts against naga's, bytes against serde's formats.

use super::Field;
use super::check::struct_align;
use super::{DeviceMessage, FieldKind, Layout, Scalar, Vec2, Vec3, Vec4};
use crate::message;
use proptest::prelude::*;

message! {
    /// The design's first example.
    pub struct Request { pub len: u32, pub values: [f32; 8] }

    /// Every scalar.
    struct Scalars { a: f32, b: i32, c: u32 }

    /// Every vector, with the padding that each needs.
    struct Vectors {
        a: Vec2,
        b: Vec2<i32>,
        c: Vec3<u32>,
        d: f32,
        e: Vec4<i32>,
        f: Vec3,
        _pad: u32,
        g: Vec2<u32>,
        _pad2: [u32; 2],
    }

    /// A vec3 and the scalar in its fourth place.
    #[derive(Eq, Hash)]
    pub(crate) struct Cell { pub at: Vec3<i32>, pub kind: u32 }

    /// Nested structs, arrays of structs, arrays of arrays, in this order of alignment.
    struct Nested {
        scalars: Scalars,
        _pad: u32,
        cell: Cell,
        grid: [[Cell; 3]; 2],
        weights: [[f32; 5]; 7],
        tail: u32,
        pairs: [Vec2; 3],
        _pad2: [u32; 2],
        colors: [Vec4; 2],
        triples: [Scalars; 5],
        end: u32,
    }

    /// An array longer than those that the standard traits once stopped at.
    struct Long { values: [u32; 1000] }
}

const LAYOUTS: &[&Layout] =
    &[Request::LAYOUT, Scalars::LAYOUT, Vectors::LAYOUT, Cell::LAYOUT, Nested::LAYOUT, Long::LAYOUT];

/// The same structs by hand, so that the generated text is not its own witness.
const WGSL: &str = "
    struct Request { len: u32, values: array<f32, 8> }
    struct Scalars { a: f32, b: i32, c: u32 }
    struct Vectors {
        a: vec2<f32>, b: vec2<i32>, c: vec3<u32>, d: f32, e: vec4<i32>, f: vec3f, _pad: u32, g: vec2u,
        _pad2: array<u32, 2>,
    }
    struct Cell { at: vec3<i32>, kind: u32 }
    struct Nested {
        scalars: Scalars, _pad: u32, cell: Cell, grid: array<array<Cell, 3>, 2>, weights: array<array<f32, 5>, 7>,
        tail: u32, pairs: array<vec2f, 3>, _pad2: array<u32, 2>, colors: array<vec4f, 2>, triples: array<Scalars, 5>, end: u32,
    }
    struct Long { values: array<u32, 1000> }
";

/// naga's view of WGSL text: the module and the alignments it computed.
struct Witness {
    module: naga::Module,
    layouter: naga::proc::Layouter,
}

impl Witness {
    fn new(text: &str) -> Self {
        let module =
            naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        Self { module, layouter }
    }

    fn compare(&self, layout: &Layout) {
        let named = |(_, ty): &(_, &naga::Type)| ty.name.as_deref() == Some(layout.name);
        let (handle, _) = self.module.types.iter().find(named).expect("the text declares the struct");
        self.compare_kind(handle, &FieldKind::Struct(Box::leak(Box::new(*layout))), layout.name);
    }

    fn compare_kind(&self, handle: naga::Handle<naga::Type>, kind: &FieldKind, path: &str) {
        let ty = &self.module.types[handle];
        assert_eq!(self.layouter[handle].size, kind.size(), "size of {path}");
        // naga's alignment only multiplies.
        assert_eq!(self.layouter[handle].alignment * 1, kind.align(), "alignment of {path}");
        match (&ty.inner, kind) {
            (naga::TypeInner::Scalar(found), FieldKind::Scalar(scalar)) => {
                assert_eq!(*found, naga_scalar(*scalar))
            }
            (naga::TypeInner::Vector { size, scalar: found }, FieldKind::Vector(scalar, len)) => {
                assert_eq!((*size as u32, *found), (*len, naga_scalar(*scalar)), "{path}");
            }
            (
                naga::TypeInner::Array { base, size, stride },
                FieldKind::Array { element, len, stride: ours },
            ) => {
                let naga::ArraySize::Constant(count) = size else { panic!("{path} has no constant length") };
                assert_eq!((count.get(), *stride), (*len, *ours), "{path}");
                self.compare_kind(*base, element, &format!("{path}[]"));
            }
            (naga::TypeInner::Struct { members, span }, FieldKind::Struct(layout)) => {
                assert_eq!((ty.name.as_deref(), *span), (Some(layout.name), layout.size), "{path}");
                assert_eq!(members.len(), layout.fields.len(), "members of {path}");
                for (member, field) in members.iter().zip(layout.fields) {
                    let path = format!("{path}.{}", field.name);
                    assert_eq!(member.name.as_deref(), Some(field.name), "{path}");
                    assert_eq!(member.offset, field.offset, "offset of {path}");
                    self.compare_kind(member.ty, &field.kind, &path);
                }
            }
            (found, _) => panic!("{path} is {found:?} for naga, {kind:?} for the macro"),
        }
    }
}

fn naga_scalar(scalar: Scalar) -> naga::Scalar {
    match scalar {
        Scalar::F32 => naga::Scalar::F32,
        Scalar::I32 => naga::Scalar::I32,
        Scalar::U32 => naga::Scalar::U32,
    }
}

#[test]
fn layouts_are_nagas() {
    let witness = Witness::new(WGSL);
    LAYOUTS.iter().for_each(|layout| witness.compare(layout));
}

#[test]
fn generated_wgsl_has_the_layout_it_was_made_from() {
    for layout in LAYOUTS {
        let text: String = layout.structs().into_iter().map(|layout| layout.to_wgsl()).collect();
        Witness::new(&text).compare(layout);
    }
}

#[test]
fn structs_come_once_and_after_what_they_use() {
    let names: Vec<_> = Nested::LAYOUT.structs().into_iter().map(|layout| layout.name).collect();
    assert_eq!(names, ["Scalars", "Cell", "Nested"]);
    assert!(<()>::LAYOUT.structs().is_empty());
}

#[test]
fn wgsl_text_is_readable() {
    assert_eq!(Cell::LAYOUT.to_wgsl(), "struct Cell {\n    at: vec3<i32>,\n    kind: u32,\n}\n");
    assert_eq!(Request::LAYOUT.to_wgsl(), "struct Request {\n    len: u32,\n    values: array<f32, 8>,\n}\n");
}

#[test]
fn default_is_zero() {
    assert!(bytemuck::bytes_of(&Long::default()).iter().all(|&byte| byte == 0));
    assert_eq!(Nested::default().cell, Cell { at: Vec3::new(0, 0, 0), kind: 0 });
}

#[test]
fn postcard_and_json_keep_every_byte() {
    fn check<T: DeviceMessage + PartialEq + std::fmt::Debug>() {
        let mut message = T::zeroed();
        // Bytes below 0x3f make no NaN, which would be unequal to itself.
        bytemuck::bytes_of_mut(&mut message).iter_mut().enumerate().for_each(|(i, b)| *b = (i % 63) as u8);
        let bytes = postcard::to_stdvec(&message).unwrap();
        assert_eq!(postcard::from_bytes::<T>(&bytes).unwrap(), message);
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::from_str::<T>(&text).unwrap(), message);
    }
    check::<Request>();
    check::<Vectors>();
    check::<Nested>();
    check::<Long>();
}

#[test]
fn bytes_of_another_length_are_refused() {
    let error = serde_json::from_str::<Scalars>("[1, 2, 3]").unwrap_err();
    assert!(error.to_string().contains("expected 12 bytes"), "{error}");
    let error = serde_json::from_str::<Scalars>("[0,0,0,0,0,0,0,0,0,0,0,0,0]").unwrap_err();
    assert!(error.to_string().contains("expected 12 bytes"), "{error}");
    let long = postcard::to_stdvec(&Request::default()).unwrap();
    assert!(postcard::from_bytes::<Scalars>(&long).is_err());
}

#[test]
fn vectors_travel_by_name() {
    let text = serde_json::to_string(&Vec2::new(1, 2)).unwrap();
    assert_eq!(text, r#"{"x":1,"y":2}"#);
    assert_eq!(serde_json::from_str::<Vec2<i32>>(&text).unwrap(), Vec2::new(1, 2));
}

/// A type made by `recipe`: every pair of bytes wraps what is there into an array, or joins it with others to a
/// struct. Leaks: layouts are `'static`, and a test ends.
fn kind_from(recipe: &[(u8, u8)]) -> FieldKind {
    let scalars = [Scalar::F32, Scalar::I32, Scalar::U32];
    let mut pool: Vec<FieldKind> = scalars.map(FieldKind::Scalar).into();
    pool.extend((2..=4).flat_map(|len| scalars.map(|scalar| FieldKind::Vector(scalar, len))));
    for (step, &(operation, operand)) in recipe.iter().enumerate() {
        let first = pool[usize::from(operand) % pool.len()];
        let made = if operation % 3 == 0 {
            let element: &'static FieldKind = Box::leak(Box::new(first));
            FieldKind::Array { element, len: u32::from(operation) / 3 % 7 + 1, stride: element.stride() }
        } else {
            let kinds = (0..usize::from(operation) % 5 + 1)
                .map(|i| pool[(usize::from(operand) * (i + 1)) % pool.len()]);
            FieldKind::Struct(struct_of(format!("S{step}"), kinds))
        };
        pool.push(made);
    }
    *pool.last().unwrap()
}

/// A struct laid out by WGSL's rules, whatever Rust would do.
fn struct_of(name: String, kinds: impl Iterator<Item = FieldKind>) -> &'static Layout {
    let mut end = 0_u32;
    let mut fields = Vec::new();
    for (i, kind) in kinds.enumerate() {
        let offset = end.next_multiple_of(kind.align());
        end = offset + kind.size();
        fields.push(Field { name: format!("f{i}").leak(), offset, kind });
    }
    let fields = fields.leak();
    let align = struct_align(fields);
    Box::leak(Box::new(Layout { name: name.leak(), size: end.next_multiple_of(align), align, fields }))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn sizes_alignments_and_strides_are_nagas(recipe in prop::collection::vec(any::<(u8, u8)>(), 1..8)) {
        let layout = struct_of("Whole".to_owned(), std::iter::once(kind_from(&recipe)));
        let text: String = layout.structs().into_iter().map(|part| part.to_wgsl()).collect();
        Witness::new(&text).compare(layout);
    }
}
