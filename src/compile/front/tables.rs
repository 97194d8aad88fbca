//! Tables: every one declared is bound and every one bound is declared, with the same element.

use super::contract::bool_inside;
use super::report::Reporter;
use crate::compile::{HandlerSource, MOST_TABLES, TableDecl, TableUse};
use crate::error::{Error, Result};
use naga::common::wgsl::TypeContext;
use naga::proc::Layouter;
use naga::{AddressSpace, ArraySize, GlobalVariable, Handle, Module, Span, StorageAccess, TypeInner};

/// The declared tables in the order of their bindings.
pub(super) fn check_tables(
    source: &HandlerSource<'_>,
    module: &Module,
    layouter: &Layouter,
    report: &Reporter<'_>,
) -> Result<Vec<(TableUse, Handle<GlobalVariable>)>> {
    let mut tables: Vec<(TableUse, Handle<GlobalVariable>)> = Vec::new();
    for (handle, global) in module.global_variables.iter() {
        let (AddressSpace::Storage { access }, Some(binding)) = (global.space, global.binding) else {
            continue;
        };
        let span = module.global_variables.get_span(handle);
        let name = global.name.clone().unwrap_or_default();
        if tables.len() == MOST_TABLES {
            return Err(report.span(
                span,
                format_args!("`{name}` is one table too many; a handler has at most {MOST_TABLES}, so join some of them"),
            ));
        }
        if let Some((other, _)) = tables.iter().find(|(t, _)| t.binding == binding.binding) {
            let (number, other) = (binding.binding, &other.name);
            return Err(report.span(
                span,
                format_args!("the tables `{other}` and `{name}` are both `@binding({number})`; give each its own number"),
            ));
        }
        let Some(bound) = source.tables.iter().find(|t| t.name == name) else {
            return Err(report.span(
                span,
                format_args!("no buffer is bound to the table `{name}`; call `.bind(\"{name}\", &buffer)`"),
            ));
        };
        check_table(bound, module, layouter, global, span, report)?;
        let writable = access.contains(StorageAccess::STORE);
        tables.push((TableUse { name, binding: binding.binding, writable }, handle));
    }
    for bound in source.tables {
        if !tables.iter().any(|(table, _)| table.name == bound.name) {
            let TableDecl { name, .. } = bound;
            return Err(report.whole(format_args!(
                "a buffer is bound to `{name}`, but no such table is declared; write `@group(1) @binding(0) \
                 var<storage, read> {name}: array<…>;`"
            )));
        }
    }
    tables.sort_by_key(|(table, _)| table.binding);
    Ok(tables)
}

fn check_table(
    bound: &TableDecl,
    module: &Module,
    layouter: &Layouter,
    global: &GlobalVariable,
    span: Span,
    report: &Reporter<'_>,
) -> Result<()> {
    let TableDecl { name, element_size, element_name, len } = bound;
    let error = |what: String| -> Result<(), Error> { Err(report.span(span, what)) };
    let TypeInner::Array { base, size, stride } = module.types[global.ty].inner else {
        let found = module.to_ctx().type_to_string(global.ty);
        return error(format!(
            "the table `{name}` is `{found}`, but a table is an array; write `array<{found}>`"
        ));
    };
    let element = module.to_ctx().type_to_string(base);
    if let Some(path) = bool_inside(module, base) {
        return error(format!(
            "`{name}[…]{path}` is a `bool`, which has no layout in memory; keep it as a `u32`"
        ));
    }
    if stride != *element_size || !stride.is_multiple_of(4) {
        return error(format!(
            "one element of the table `{name}` is `{element}` and takes {stride} bytes, but the bound buffer's \
             `{element_name}` takes {element_size}; use the same type on both sides"
        ));
    }
    debug_assert!(layouter[base].size <= stride);
    let needed = match size {
        ArraySize::Constant(count) => count.get() as usize,
        _ => 1,
    };
    if *len == 0 {
        return error(format!("the buffer bound to the table `{name}` is empty; bind one with elements"));
    }
    if *len < needed {
        return error(format!(
            "the table `{name}` needs {needed} elements, but the bound buffer has {len}; bind a larger one"
        ));
    }
    Ok(())
}
