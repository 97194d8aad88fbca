//! What the declarations of a handler's text say: layouts for the Rust side, and where its numbers are in memory.

use crate::compile::tests::UNIT;
use crate::message::{Field, FieldKind, Layout, Scalar};
use naga::proc::Layouter;
use naga::{AddressSpace, ArraySize, Handle, Module, ScalarKind, Type, TypeInner};

/// One number of a value in memory: its place in words, and whether it is a float.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    pub word: u32,
    pub is_float: bool,
}

/// A type as memory has it.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Words of a value, padding at its end included.
    pub words: u32,
    pub leaves: Vec<Leaf>,
}

impl Shape {
    /// The numbers of a value, with one NaN for all, as nothing defines its bits.
    pub fn numbers(&self, words: &[u32]) -> Vec<u32> {
        self.leaves.iter().map(|leaf| canonical(words[leaf.word as usize], leaf.is_float)).collect()
    }
}

fn canonical(word: u32, is_float: bool) -> u32 {
    if is_float && f32::from_bits(word).is_nan() { f32::NAN.to_bits() } else { word }
}

/// A declared table.
#[derive(Clone, Debug)]
pub struct TableShape {
    pub name: String,
    pub binding: u32,
    pub element: Shape,
    /// The length in its type, or 1.
    pub least: u32,
}

/// The declarations of a handler.
#[derive(Clone, Debug)]
pub struct Shapes {
    structs: Vec<(String, Shape, Option<&'static Layout>)>,
    pub tables: Vec<TableShape>,
}

impl Shapes {
    /// Reads the structs and tables of a text, each on a line of its own as the printer writes them.
    pub fn of(text: &str) -> Self {
        let is_declaration = |line: &&str| line.starts_with("struct ") || line.starts_with("@group");
        let declarations: Vec<&str> = text.lines().filter(is_declaration).collect();
        let module = naga::front::wgsl::parse_str(&declarations.join("\n"))
            .unwrap_or_else(|error| panic!("{}\n{text}", error.emit_to_string(text)));
        let mut layouter = Layouter::default();
        layouter.update(module.to_ctx()).expect("generated types are small");
        let mut reader = Reader { module: &module, layouter: &layouter, layouts: Vec::new() };
        let mut structs = Vec::new();
        for (handle, ty) in module.types.iter() {
            if let (Some(name), TypeInner::Struct { .. }) = (&ty.name, &ty.inner) {
                let layout = reader.layout(handle);
                structs.push((name.clone(), reader.shape(handle), layout));
            }
        }
        let mut tables = Vec::new();
        for (_, global) in module.global_variables.iter() {
            if let (AddressSpace::Storage { .. }, &TypeInner::Array { base, size, .. }) =
                (global.space, &module.types[global.ty].inner)
            {
                tables.push(TableShape {
                    name: global.name.clone().unwrap_or_default(),
                    binding: global.binding.map_or(0, |b| b.binding),
                    element: reader.shape(base),
                    least: if let ArraySize::Constant(count) = size { count.get() } else { 1 },
                });
            }
        }
        tables.sort_by_key(|table| table.binding);
        Self { structs, tables }
    }

    fn find(&self, name: &str) -> Option<&(String, Shape, Option<&'static Layout>)> {
        self.structs.iter().find(|(own, ..)| own == name)
    }

    /// The shape of a struct; nothing of one that is not declared.
    pub fn shape(&self, name: &str) -> Shape {
        self.find(name).map_or(Shape { words: 0, leaves: Vec::new() }, |(_, shape, _)| shape.clone())
    }

    /// The Rust side's layout of a struct, if Rust has such types; the unit type's of one that is not declared.
    pub fn layout(&self, name: &str) -> Option<&'static Layout> {
        self.find(name).map_or(Some(UNIT), |(_, _, layout)| *layout)
    }
}

struct Reader<'a> {
    module: &'a Module,
    layouter: &'a Layouter,
    /// Struct layouts made so far, so that equal types are equal.
    layouts: Vec<(Handle<Type>, Option<&'static Layout>)>,
}

impl Reader<'_> {
    fn shape(&self, ty: Handle<Type>) -> Shape {
        let mut leaves = Vec::new();
        self.leaves(ty, 0, &mut leaves);
        Shape { words: self.layouter[ty].to_stride() / 4, leaves }
    }

    fn leaves(&self, ty: Handle<Type>, start: u32, leaves: &mut Vec<Leaf>) {
        let mut push = |offset: u32, kind: ScalarKind| {
            leaves.push(Leaf { word: (start + offset) / 4, is_float: kind == ScalarKind::Float });
        };
        match self.module.types[ty].inner {
            TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => push(0, scalar.kind),
            TypeInner::Vector { size, scalar } => {
                (0..u32::from(size)).for_each(|i| push(4 * i, scalar.kind));
            }
            TypeInner::Matrix { columns, rows, scalar } => {
                let stride = if u32::from(rows) == 2 { 8 } else { 16 };
                for column in 0..u32::from(columns) {
                    (0..u32::from(rows)).for_each(|row| push(column * stride + 4 * row, scalar.kind));
                }
            }
            TypeInner::Array { base, size: ArraySize::Constant(count), stride } => {
                (0..count.get()).for_each(|i| self.leaves(base, start + i * stride, leaves));
            }
            TypeInner::Struct { ref members, .. } => {
                members.iter().for_each(|member| self.leaves(member.ty, start + member.offset, leaves));
            }
            ref other => unreachable!("not in a declaration: {other:?}"),
        }
    }

    fn layout(&mut self, ty: Handle<Type>) -> Option<&'static Layout> {
        if let Some((_, layout)) = self.layouts.iter().find(|(known, _)| *known == ty) {
            return *layout;
        }
        let layout = self.new_layout(ty);
        self.layouts.push((ty, layout));
        layout
    }

    /// Layouts live as long as the program does; a test makes few of them.
    fn new_layout(&mut self, ty: Handle<Type>) -> Option<&'static Layout> {
        let module = self.module;
        let TypeInner::Struct { members, span } = &module.types[ty].inner else { return None };
        let mut fields = Vec::new();
        for member in members {
            let name = member.name.clone().unwrap_or_default().leak();
            fields.push(Field { name, offset: member.offset, kind: self.kind(member.ty)? });
        }
        let name = module.types[ty].name.clone().unwrap_or_default().leak();
        let align = self.layouter[ty].alignment.round_up(1);
        Some(Box::leak(Box::new(Layout { name, size: *span, align, fields: fields.leak() })))
    }

    fn kind(&mut self, ty: Handle<Type>) -> Option<FieldKind> {
        let scalar = |kind: ScalarKind| match kind {
            ScalarKind::Float => Some(Scalar::F32),
            ScalarKind::Sint => Some(Scalar::I32),
            ScalarKind::Uint => Some(Scalar::U32),
            _ => None,
        };
        Some(match self.module.types[ty].inner {
            TypeInner::Scalar(s) => FieldKind::Scalar(scalar(s.kind)?),
            TypeInner::Vector { size, scalar: s } => FieldKind::Vector(scalar(s.kind)?, size.into()),
            TypeInner::Array { base, size: ArraySize::Constant(len), stride } => {
                let element = Box::leak(Box::new(self.kind(base)?));
                FieldKind::Array { element, len: len.get(), stride }
            }
            TypeInner::Struct { .. } => FieldKind::Struct(self.layout(ty)?),
            _ => return None,
        })
    }
}
