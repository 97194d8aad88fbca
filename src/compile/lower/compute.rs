//! Lowers a compute entry point: as a handler, except that private variables keep their own initial values, for each
//! invocation is a run of its own.
//!
//! Where there are barriers, an exhausted budget never makes an invocation return, since the others would wait for it:
//! it breaks out of its loops. A loop with barriers inside spends `rt_rounds`, of which all invocations have as many,
//! and `rt_fuel` is full again behind each barrier.

use super::{any, reachable, rewrite_all, stored_tables};
use crate::compile::compute::ComputeProgram;
use crate::compile::front::{CAPABILITIES, ParsedCompute};
use crate::error::{Error, ErrorKind, Result};
use naga::valid::{ValidationFlags, Validator};
use naga::{AddressSpace, Expression as E, Literal, Span, Statement as S, StorageAccess};

/// Lowers a checked entry point.
pub(in crate::compile) fn lower_compute(parsed: ParsedCompute, loop_budget: u32) -> Result<ComputeProgram> {
    let ParsedCompute { name, text, mut module, info, function: entry, .. } = parsed;
    let library = rewrite_all(&mut module, &info, loop_budget, parsed.has_barriers, None);
    let budget = module.global_expressions.append(E::Literal(Literal::U32(loop_budget)), Span::UNDEFINED);
    for global in [Some(library.fuel), library.rounds].into_iter().flatten() {
        module.global_variables.get_mut(global).init = Some(budget);
    }
    // Their layouts are the same, and a read-only buffer is what every backend has.
    for (_, variable) in module.global_variables.iter_mut() {
        if variable.space == AddressSpace::Uniform {
            variable.space = AddressSpace::Storage { access: StorageAccess::LOAD };
        }
    }
    let info = Validator::new(ValidationFlags::all(), CAPABILITIES).validate(&module).map_err(|error| {
        let what = error.emit_to_string(&text);
        let text = format!("{name}: lowering made an invalid module ({what}); please report this shader");
        Error::new(ErrorKind::Rejected, text)
    })?;
    let functions = reachable(&module, entry);
    let has_loops =
        functions.iter().any(|f| any(&module.functions[*f].body, &|s| matches!(s, S::Loop { .. })));
    let mut stored = Vec::new();
    functions.iter().for_each(|f| stored_tables(&module, &info[*f], &module.functions[*f], &mut stored));
    let mut bindings = parsed.bindings;
    bindings.iter_mut().for_each(|binding| binding.is_stored = stored.contains(&binding.global));
    Ok(ComputeProgram {
        name,
        text,
        info,
        entry,
        functions,
        parameters: parsed.parameters,
        workgroup_size: parsed.workgroup_size,
        bindings,
        workgroup_variables: parsed.workgroup_variables,
        has_loops,
        has_barriers: parsed.has_barriers,
        is_draft: parsed.is_draft,
        loop_budget,
        library,
        module,
    })
}
