//! Structs the user declares against the Rust types of the same name, field by field.

use super::declare::layouts;
use super::report::Reporter;
use super::scan::{Word, declaration, member};
use crate::compile::HandlerSource;
use crate::error::Result;
use crate::message::{Field, FieldKind, Layout, Scalar};
use naga::common::wgsl::TypeContext;
use naga::{ArraySize, Handle, Module, ScalarKind, StructMember, Type, TypeInner};

/// Compares every struct of the Rust side with its WGSL declaration, the user's or the generated one.
pub(super) fn check_layouts(
    source: &HandlerSource<'_>,
    module: &Module,
    words: &[Word<'_>],
    report: &Reporter<'_>,
) -> Result<()> {
    for layout in layouts(source) {
        check_layout(layout, module, words, report)?;
    }
    Ok(())
}

fn check_layout(layout: &Layout, module: &Module, words: &[Word<'_>], report: &Reporter<'_>) -> Result<()> {
    let name = layout.name;
    let found = module.types.iter().find_map(|(_, ty)| match &ty.inner {
        TypeInner::Struct { members, span } if ty.name.as_deref() == Some(name) => Some((members, *span)),
        _ => None,
    });
    let Some((members, span)) = found else {
        let at = declaration(words, "alias", name).unwrap_or(0);
        return Err(report.at(
            at,
            format_args!(
                "`{name}` must be a struct with the fields of the Rust type; remove this and it is generated"
            ),
        ));
    };
    let is_user = declaration(words, "struct", name).is_some();
    let wrong = |field: &str, what: String| {
        Err(match member(words, name, field) {
            Some(at) => report.at(
                at,
                format_args!("{what}; declare it as in Rust, or remove the struct and it is generated"),
            ),
            None => report.appended(format_args!("{what}; change the Rust type's padding")),
        })
    };
    for (index, field) in layout.fields.iter().enumerate() {
        let Some(member) = members.get(index) else {
            let what = format!("`{name}` lacks the field `{}` that the Rust type has", describe(field));
            return wrong("", what);
        };
        if let Some(what) = difference(name, field, member, module) {
            return wrong(member.name.as_deref().unwrap_or(""), what);
        }
    }
    if let Some(extra) = members.get(layout.fields.len()) {
        let extra = extra.name.as_deref().unwrap_or("_");
        return wrong(extra, format!("`{name}.{extra}` is not a field of the Rust type"));
    }
    if span != layout.size {
        debug_assert!(is_user, "a generated struct follows the Rust type");
        return wrong("", format!("`{name}` takes {span} bytes in WGSL but {} in Rust", layout.size));
    }
    Ok(())
}

fn describe(field: &Field) -> String {
    format!("{}: {}", field.name, field.kind.to_wgsl())
}

/// What is different between a field in Rust and in WGSL.
fn difference(name: &str, field: &Field, member: &StructMember, module: &Module) -> Option<String> {
    let member_name = member.name.as_deref().unwrap_or("_");
    let found = module.to_ctx().type_to_string(member.ty);
    let Field { name: field_name, offset, .. } = field;
    if member_name != *field_name {
        return Some(format!("`{name}.{member_name}` stands where the Rust type has `{}`", describe(field)));
    }
    if !same_type(&field.kind, member.ty, module) {
        let expected = field.kind.to_wgsl();
        return Some(format!("`{name}.{field_name}` is `{found}` in WGSL but `{expected}` in Rust"));
    }
    (member.offset != *offset).then(|| {
        format!("`{name}.{field_name}` is at byte {} in WGSL but at byte {offset} in Rust", member.offset)
    })
}

/// Is this the WGSL type of a Rust field? Structs are compared by name here and field by field on their own.
fn same_type(kind: &FieldKind, ty: Handle<Type>, module: &Module) -> bool {
    let same_scalar = |ours: Scalar, theirs: naga::Scalar| {
        let kind = match ours {
            Scalar::F32 => ScalarKind::Float,
            Scalar::I32 => ScalarKind::Sint,
            Scalar::U32 => ScalarKind::Uint,
        };
        theirs == naga::Scalar { kind, width: 4 }
    };
    match (kind, &module.types[ty].inner) {
        (FieldKind::Scalar(ours), TypeInner::Scalar(theirs)) => same_scalar(*ours, *theirs),
        (FieldKind::Vector(ours, size), TypeInner::Vector { size: theirs_size, scalar }) => {
            *size == u32::from(*theirs_size) && same_scalar(*ours, *scalar)
        }
        (
            FieldKind::Array { element, len, stride },
            TypeInner::Array { base, size: ArraySize::Constant(count), stride: theirs },
        ) => *len == count.get() && stride == theirs && same_type(element, *base, module),
        (FieldKind::Struct(layout), TypeInner::Struct { .. }) => {
            module.types[ty].name.as_deref() == Some(layout.name)
        }
        _ => false,
    }
}
