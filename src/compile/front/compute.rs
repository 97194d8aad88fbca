//! The contract for compute entry points: what is bound to them, what they are told, how large their workgroups are.

use super::contract::{bool_inside, check_values};
use super::report::Reporter;
use super::scan::{Scan, Word, declaration, scan};
use super::{CAPABILITIES, explain, overrides, refuse};
use crate::compile::compute::{
    Access, Binding, Builtin, ComputeSource, MOST_ALONG, MOST_BINDINGS, MOST_INVOCATIONS,
    MOST_WORKGROUP_MEMORY, Parameter, inline, uniform,
};
use crate::compile::uses::{self, visit};
use crate::error::{Error, Result};
use naga::common::wgsl::TypeContext;
use naga::proc::Layouter;
use naga::valid::{ModuleInfo, ValidationFlags, Validator};
use naga::{
    AddressSpace, ArraySize, Expression as E, Function, FunctionArgument, GlobalVariable, Handle, Module,
    ScalarKind, ShaderStage, Span, Statement as S, StorageAccess, TypeInner,
};
use std::collections::HashSet;

/// What is appended to the user's text.
const LIBRARY_TEXT: &str =
    "\nvar<private> rt_fault: u32;\nvar<private> rt_fuel: u32;\nvar<private> rt_rounds: u32;\n";

/// A compute entry point that passed every check, not yet lowered: its function is one of the module's.
pub(in crate::compile) struct ParsedCompute {
    pub name: String,
    pub text: String,
    pub module: Module,
    pub info: ModuleInfo,
    pub function: Handle<Function>,
    pub parameters: Vec<Parameter>,
    pub workgroup_size: [u32; 3],
    pub bindings: Vec<Binding>,
    pub workgroup_variables: Vec<(Handle<GlobalVariable>, u32)>,
    pub has_barriers: bool,
    /// Some override had no value, and has one that stands for it.
    pub is_draft: bool,
}

/// Parses a compute entry point and checks it. A draft that may be right once its constants have their values is `None`.
pub(in crate::compile) fn parse_compute(source: &ComputeSource<'_>) -> Result<Option<ParsedCompute>> {
    let Scan { words, open_comment } = scan(source.text);
    let report = Reporter::new(source.name, source.text, source.text.len());
    if let Some(at) = open_comment {
        return Err(report.at(at, "this comment is never closed; end it with `*/`"));
    }
    refuse::refuse_words(&words, &report)?;
    let first = parse(source.text, &report)?;
    for stand_in in STAND_INS {
        let (resolved, is_draft) = overrides::resolve(&first, source, *stand_in, &words, &report)?;
        match parse_resolved(source, &first, &resolved, is_draft) {
            Ok(parsed) => return Ok(Some(parsed)),
            Err(Wrong::WithThese(error))
                if is_draft && !is_invalid_anyway(&first, source, &words, &report, &error) => {}
            Err(Wrong::Anyway(error) | Wrong::WithThese(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// What a draft has for an override without a value, one after the other while it is that which may be wrong.
const STAND_INS: &[f64] = &[1.0, 8.0, 64.0, 256.0];

/// Why a text is refused whose overrides have got values.
enum Wrong {
    /// Whatever the values are.
    Anyway(Error),
    /// Other values may be right.
    WithThese(Error),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::Anyway(error)
    }
}

/// Is it this that is wrong with a module before its overrides have values? What depends on them is worded otherwise there,
/// or is nothing.
fn is_invalid_anyway(
    module: &Module,
    source: &ComputeSource<'_>,
    words: &[Word<'_>],
    report: &Reporter<'_>,
    error: &Error,
) -> bool {
    let mut module = module.clone();
    if take_entry(source.entry, &mut module, words, report).is_err() {
        return false;
    }
    for (_, function) in module.functions.iter_mut() {
        function.arguments.iter_mut().for_each(|argument| argument.binding = None);
    }
    let found = Validator::new(ValidationFlags::all(), CAPABILITIES).validate(&module);
    let found = found.map_err(|error| explain::validation_error(&error, &module, words, report));
    found.is_err_and(|found| found.to_string() == error.to_string())
}

/// Parses and checks a text whose overrides are constants; `first` is the module in which they are not.
fn parse_resolved(
    source: &ComputeSource<'_>,
    first: &Module,
    resolved: &str,
    is_draft: bool,
) -> Result<ParsedCompute, Wrong> {
    let text = format!("{resolved}{LIBRARY_TEXT}");
    let report = Reporter::new(source.name, &text, resolved.len());
    let Scan { words, .. } = scan(resolved);
    let mut module = parse(&text, &report).map_err(Wrong::WithThese)?;
    let (function, workgroup_size) = take_entry(source.entry, &mut module, &words, &report)?;
    refuse::refuse_module(&module, &words, refuse::Contract::Compute, &report)?;

    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|_| {
        Wrong::WithThese(report.whole("a type is larger than memory; keep large data in buffers"))
    })?;
    let size_has_overrides = first
        .entry_points
        .iter()
        .any(|entry| entry.name == source.entry && entry.workgroup_size_overrides.is_some());
    let wrong_size = if size_has_overrides { Wrong::WithThese } else { Wrong::Anyway };
    let functions = reachable(&module, function);
    check_size(source.entry, workgroup_size, &words, &report).map_err(wrong_size)?;
    let globals = used_globals(&module, &functions);
    let bindings = bindings(&module, &layouter, &globals, &report)?;
    let workgroup_variables =
        workgroup_variables(&module, &layouter, &globals, &report).map_err(Wrong::WithThese)?;
    let parameters = parameters(&module, function, &words, &report)?;
    for argument in &mut module.functions.get_mut(function).arguments {
        argument.binding = None;
    }
    let info = Validator::new(ValidationFlags::all(), CAPABILITIES)
        .validate(&module)
        .map_err(|error| Wrong::WithThese(explain::validation_error(&error, &module, &words, &report)))?;
    check_values(&module, &info, &layouter, &report).map_err(Wrong::WithThese)?;
    let (info, has_barriers) = barriers(&mut module, info, function, &parameters, &report)?;
    Ok(ParsedCompute {
        name: source.name.to_string(),
        text,
        info,
        function,
        parameters,
        workgroup_size,
        bindings,
        workgroup_variables,
        has_barriers,
        is_draft,
        module,
    })
}

fn parse(text: &str, report: &Reporter<'_>) -> Result<Module> {
    naga::front::wgsl::Frontend::new().parse(text).map_err(|error| explain::parse_error(&error, report, &[]))
}

/// Makes the entry point one of the module's functions; its workgroup size. Other entry points go.
fn take_entry(
    name: &str,
    module: &mut Module,
    words: &[Word<'_>],
    report: &Reporter<'_>,
) -> Result<(Handle<Function>, [u32; 3])> {
    let mut entries = std::mem::take(&mut module.entry_points);
    let Some(index) = entries.iter().position(|entry| entry.name == name) else {
        let there: Vec<_> = entries.iter().map(|entry| format!("`{}`", entry.name)).collect();
        let there = if there.is_empty() { "none".to_string() } else { there.join(", ") };
        let wanted = format!("write `@compute @workgroup_size(64) fn {name}(…)`");
        return Err(match declaration(words, "fn", name) {
            Some(at) => report
                .at(at, format_args!("`{name}` is a function, but no compute entry point; {wanted} for it")),
            None => {
                report.whole(format_args!("there is no entry point `{name}` (there is {there}); {wanted}"))
            }
        });
    };
    let entry = entries.swap_remove(index);
    if entry.stage != ShaderStage::Compute {
        let at = declaration(words, "fn", name).unwrap_or(0);
        let what = format_args!("`{name}` is not a compute entry point; write `@compute` before it");
        return Err(report.at(at, what));
    }
    let span = declaration(words, "fn", name).map_or(Span::UNDEFINED, |at| {
        let end = at + name.len();
        Span::new(at as u32, end as u32)
    });
    let mut function = entry.function;
    function.name = Some(name.to_string());
    Ok((module.functions.append(function, span), entry.workgroup_size))
}

fn check_size(name: &str, size: [u32; 3], words: &[Word<'_>], report: &Reporter<'_>) -> Result<()> {
    let at = declaration(words, "fn", name).unwrap_or(0);
    let invocations: u64 = size.iter().map(|along| u64::from(*along)).product();
    let [x, y, z] = size;
    if invocations == 0
        || invocations > MOST_INVOCATIONS.into()
        || size.iter().zip(MOST_ALONG).any(|(a, m)| *a > m)
    {
        let [most_x, most_y, most_z] = MOST_ALONG;
        return Err(report.at(
            at,
            format_args!(
                "a workgroup of `{name}` is {x} × {y} × {z}, which is {invocations} invocations; write a \
                 `@workgroup_size` of 1 to {MOST_INVOCATIONS} invocations, at most {most_x} × {most_y} × {most_z}"
            ),
        ));
    }
    Ok(())
}

/// What a function calls, directly or not, and the function itself.
fn reachable(module: &Module, root: Handle<Function>) -> Vec<Handle<Function>> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(handle) = found.get(next).copied() {
        next += 1;
        visit(&module.functions[handle].body, &mut |statement| {
            if let S::Call { function, .. } = statement
                && !found.contains(function)
            {
                found.push(*function);
            }
        });
    }
    found
}

fn used_globals(module: &Module, functions: &[Handle<Function>]) -> HashSet<Handle<GlobalVariable>> {
    let mut used = HashSet::new();
    for handle in functions {
        let function = &module.functions[*handle];
        // An expression that nothing uses is one of a variable that is only named.
        let mut operands = HashSet::new();
        uses::uses(function, &function.body, &mut operands);
        for operand in operands {
            if let E::GlobalVariable(global) = function.expressions[operand] {
                used.insert(global);
            }
        }
    }
    used
}

fn bindings(
    module: &Module,
    layouter: &Layouter,
    used: &HashSet<Handle<GlobalVariable>>,
    report: &Reporter<'_>,
) -> Result<Vec<Binding>> {
    let mut all: Vec<Binding> = Vec::new();
    for (handle, global) in module.global_variables.iter().filter(|(handle, _)| used.contains(handle)) {
        let access = match global.space {
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Access::ReadWrite,
            AddressSpace::Storage { .. } => Access::Read,
            AddressSpace::Uniform => Access::Uniform,
            _ => continue,
        };
        let span = module.global_variables.get_span(handle);
        let name = global.name.clone().unwrap_or_default();
        let place = global.binding.as_ref().expect("refused without one");
        let (group, binding) = (place.group, place.binding);
        if let Some(other) = all.iter().find(|b| (b.group, b.binding) == (group, binding)) {
            return Err(report.span(
                span,
                format_args!(
                    "`{}` and `{name}` are both `@group({group}) @binding({binding})`; give each its own number",
                    other.name
                ),
            ));
        }
        if all.len() == MOST_BINDINGS {
            return Err(report.span(
                span,
                format_args!(
                    "`{name}` is one buffer too many; an entry point has at most {MOST_BINDINGS}, so join some of them"
                ),
            ));
        }
        if let Some(path) = bool_inside(module, global.ty) {
            return Err(report.span(
                span,
                format_args!("`{name}{path}` is a `bool`, which has no layout in memory; keep it as a `u32`"),
            ));
        }
        let (element_size, least, ty) = match module.types[global.ty].inner {
            TypeInner::Array { base, size, stride } => {
                let count = if let ArraySize::Constant(count) = size { count.get() } else { 1 };
                (stride, stride.saturating_mul(count), Some(base))
            }
            TypeInner::Struct { ref members, span } => {
                match members.last().map(|m| &module.types[m.ty].inner) {
                    // One element is counted, and what its alignment adds, as every WebGPU device asks for.
                    Some(TypeInner::Array { size: ArraySize::Dynamic, .. }) => (4, span, None),
                    _ => (span, span, Some(global.ty)),
                }
            }
            _ => (layouter[global.ty].size, layouter[global.ty].size, Some(global.ty)),
        };
        let scalar = ty.and_then(|ty| match module.types[ty].inner {
            TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => Some(match scalar.kind {
                ScalarKind::Float => "f32",
                ScalarKind::Sint => "i32",
                _ => "u32",
            }),
            _ => None,
        });
        let element = ty.map_or("u32".to_string(), |ty| module.to_ctx().type_to_string(ty));
        let place = report.place(span);
        all.push(Binding {
            name,
            place,
            group,
            binding,
            access,
            // Lowering looks.
            is_stored: false,
            global: handle,
            element_size,
            least,
            element,
            scalar,
        });
    }
    all.sort_by_key(|binding| (binding.group, binding.binding));
    Ok(all)
}

fn workgroup_variables(
    module: &Module,
    layouter: &Layouter,
    used: &HashSet<Handle<GlobalVariable>>,
    report: &Reporter<'_>,
) -> Result<Vec<(Handle<GlobalVariable>, u32)>> {
    let mut all = Vec::new();
    let mut bytes = 0u32;
    for (handle, global) in module.global_variables.iter().filter(|(handle, _)| used.contains(handle)) {
        if global.space != AddressSpace::WorkGroup {
            continue;
        }
        let span = module.global_variables.get_span(handle);
        let name = global.name.as_deref().unwrap_or("_");
        if let Some(path) = bool_inside(module, global.ty) {
            return Err(report.span(
                span,
                format_args!(
                    "`{name}{path}` is a `bool` in workgroup memory, where the backends lay it out differently; \
                     keep it as a `u32`"
                ),
            ));
        }
        let size = layouter[global.ty].size;
        bytes = bytes.saturating_add(size.next_multiple_of(16));
        if bytes > MOST_WORKGROUP_MEMORY {
            return Err(report.span(
                span,
                format_args!(
                    "`{name}` with the workgroup variables before it takes {bytes} bytes, but a workgroup has \
                     {MOST_WORKGROUP_MEMORY}; make the tile smaller"
                ),
            ));
        }
        all.push((handle, size));
    }
    Ok(all)
}

fn parameters(
    module: &Module,
    function: Handle<Function>,
    words: &[Word<'_>],
    report: &Reporter<'_>,
) -> Result<Vec<Parameter>> {
    let function = &module.functions[function];
    let name = function.name.as_deref().unwrap_or("");
    let builtin = |binding: Option<&naga::Binding>, argument: Option<&str>| {
        let found = match binding {
            Some(naga::Binding::BuiltIn(builtin)) => *builtin,
            _ => {
                let at = declaration(words, "fn", name).unwrap_or(0);
                return Err(report.at(
                    at,
                    format_args!(
                        "the parameter `{}` of `{name}` is no `@builtin`; bind a uniform or a buffer for it",
                        argument.unwrap_or("_")
                    ),
                ));
            }
        };
        Ok(match found {
            naga::BuiltIn::GlobalInvocationId => Builtin::GlobalInvocationId,
            naga::BuiltIn::LocalInvocationId => Builtin::LocalInvocationId,
            naga::BuiltIn::LocalInvocationIndex => Builtin::LocalInvocationIndex,
            naga::BuiltIn::WorkGroupId => Builtin::WorkgroupId,
            naga::BuiltIn::NumWorkGroups => Builtin::NumWorkgroups,
            _ => {
                let at = declaration(words, "fn", name).unwrap_or(0);
                return Err(report.at(
                    at,
                    format_args!(
                        "the parameter `{}` of `{name}` is a built-in value that not every backend has; there are \
                         `global_invocation_id`, `local_invocation_id`, `local_invocation_index`, `workgroup_id` \
                         and `num_workgroups`",
                        argument.unwrap_or("_")
                    ),
                ));
            }
        })
    };
    let one = |argument: &FunctionArgument| {
        if let (TypeInner::Struct { members, .. }, None) =
            (&module.types[argument.ty].inner, &argument.binding)
        {
            let members = members.iter().map(|m| builtin(m.binding.as_ref(), m.name.as_deref()));
            return Ok(Parameter::Struct(members.collect::<Result<_>>()?));
        }
        Ok(Parameter::One(builtin(argument.binding.as_ref(), argument.name.as_deref())?))
    };
    function.arguments.iter().map(one).collect()
}

/// Are there barriers? Then they are in the entry point itself, where all invocations reach each of them together.
fn barriers(
    module: &mut Module,
    mut info: ModuleInfo,
    entry: Handle<Function>,
    parameters: &[Parameter],
    report: &Reporter<'_>,
) -> Result<(ModuleInfo, bool)> {
    let before = module.functions[entry].expressions.len();
    inline::inline(module, entry).map_err(|function| {
        let name = module.functions[function].name.as_deref().unwrap_or("_");
        report.span(
            module.functions.get_span(function),
            format_args!(
                "the function `{name}` has a barrier, and so becomes a part of whoever calls it; with those that call \
                 each other that is more than {} times; call them in a loop",
                inline::MOST_CALLS
            ),
        )
    })?;
    if module.functions[entry].expressions.len() != before {
        info = Validator::new(ValidationFlags::all(), CAPABILITIES).validate(module).map_err(|error| {
            let what = error.emit_to_string(report.text());
            report.whole(format_args!(
                "calls with barriers made an invalid module ({what}); please report this shader"
            ))
        })?;
    }
    let function = &module.functions[entry];
    let mut has_any = false;
    visit(&function.body, &mut |statement| has_any |= uniform::is_barrier(statement));
    if !has_any {
        return Ok((info, false));
    }
    match uniform::check(module, function, parameters) {
        None => Ok((info, true)),
        Some(uniform::Violation { barrier, why }) => Err(report.span(barrier, not_together(&why, report))),
    }
}

/// Why a workgroup does not meet at a barrier, and what to do.
fn not_together(why: &uniform::Why, report: &Reporter<'_>) -> String {
    let line_of = |span: &Span| {
        span.to_range().map_or(1, |range| report.text()[..range.start].matches('\n').count() + 1)
    };
    match why {
        uniform::Why::Condition(cause) => format!(
            "not all invocations of a workgroup reach this barrier together: it depends on the condition in line {}, \
             which differs between them; move the barrier out of there, or let the condition depend on `workgroup_id`, \
             constants, uniforms or `workgroupUniformLoad` only",
            line_of(cause)
        ),
        uniform::Why::LeavesSwitch(cause, way) => {
            let text = way.to_range().and_then(|range| report.text().get(range.start..));
            let is_return = text.is_some_and(|text| text.starts_with("return"));
            let way = if is_return { "return" } else { "break" };
            format!(
                "some invocations of a workgroup leave the `switch` around this barrier by a `{way}`, and others do not: \
                 it depends on the condition in line {}, which differs between them; write `if` instead of the \
                 `{way}`, or move the barrier out of the `switch`",
                line_of(cause)
            )
        }
        uniform::Why::Place => {
            "`workgroupUniformLoad` gives one place's value to all invocations of a workgroup, but this \
             place differs between them; choose it by `workgroup_id`, constants, uniforms or another \
             `workgroupUniformLoad` only"
                .to_owned()
        }
    }
}
