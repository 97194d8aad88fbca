//! The handler contract: the signature of `on_message`, the state, the sizes.

use super::report::Reporter;
use super::scan::{Word, declaration, member, parameter};
use super::{MESSAGE_LIMIT, OUTPUT_LIMIT, STATE_LIMIT, VALUE_LIMIT};
use crate::compile::{HandlerSource, StateFacts};
use crate::error::Result;
use naga::common::wgsl::TypeContext;
use naga::proc::Layouter;
use naga::valid::ModuleInfo;
use naga::{AddressSpace, Function, Handle, Module, ScalarKind, Type, TypeInner};

/// `on_message`, found and as it should be.
pub(super) struct Signature {
    pub function: Handle<Function>,
    /// What its state parameter points to.
    pub state: Option<Handle<Type>>,
}

/// Checks what the Rust side declares against the limits.
pub(super) fn check_sizes(source: &HandlerSource<'_>, report: &Reporter<'_>) -> Result<()> {
    let outputs = source.outputs.iter().map(|o| o.layout);
    for layout in [source.input, source.output].into_iter().chain(outputs) {
        if layout.size > MESSAGE_LIMIT {
            return Err(report.whole(format_args!(
                "`{}` takes {} bytes, but a message takes at most {MESSAGE_LIMIT}; keep large data in a table",
                layout.name, layout.size
            )));
        }
    }
    if let Some(output) = source.outputs.iter().find(|o| o.layout.size == 0) {
        return Err(report.whole(format_args!(
            "the output `{}` carries the unit type, which has no value in WGSL; give it a message type",
            output.name
        )));
    }
    let held: u64 =
        source.outputs.iter().map(|o| u64::from(o.layout.size) * u64::from(o.max_per_message)).sum();
    if held > u64::from(OUTPUT_LIMIT) {
        return Err(report.whole(format_args!(
            "the outputs may emit {held} bytes for one message, but at most {OUTPUT_LIMIT} are kept; declare fewer \
             per message"
        )));
    }
    Ok(())
}

/// Finds `on_message` and compares its signature with the Rust types.
pub(super) fn check_signature(
    source: &HandlerSource<'_>,
    module: &Module,
    words: &[Word<'_>],
    report: &Reporter<'_>,
) -> Result<Signature> {
    let found = module.functions.iter().find(|(_, f)| f.name.as_deref() == Some("on_message"));
    let Some((handle, function)) = found else {
        let wanted = wanted_signature(source, source.state.map(|s| s.name));
        return Err(report.whole(format_args!("there is no function `on_message`; write `{wanted}`")));
    };
    let named = |ty: Handle<Type>, name: &str| {
        matches!(module.types[ty].inner, TypeInner::Struct { .. })
            && module.types[ty].name.as_deref() == Some(name)
    };
    let messages = usize::from(source.input.size > 0);
    let state = function.arguments.get(messages).map(|a| (a, &module.types[a.ty].inner));
    let (state, state_is_pointer) = match state {
        Some((_, &TypeInner::Pointer { base, space: AddressSpace::Function })) => (Some(base), true),
        Some(_) => (None, false),
        None => (None, true),
    };
    let wrong = |place: usize, what: String| {
        let state = state.map(|ty| module.to_ctx().type_to_string(ty));
        let has_state = function.arguments.len() > messages || source.state.is_some();
        let state = source.state.map(|s| s.name.to_string()).or(state);
        let state = has_state.then(|| state.unwrap_or_else(|| "State".to_string()));
        let wanted = wanted_signature(source, state.as_deref());
        let seen = seen_signature(module, function);
        Err(report.at(place, format_args!("{what} in `{seen}`; write `{wanted}`")))
    };
    let start = declaration(words, "fn", "on_message").unwrap_or(0);
    let place = |index: usize| {
        let name = function.arguments.get(index).and_then(|a| a.name.as_deref()).unwrap_or("");
        parameter(words, "on_message", name).unwrap_or(start)
    };
    if messages == 1 && !function.arguments.first().is_some_and(|a| named(a.ty, source.input.name)) {
        let what = match function.arguments.first() {
            Some(_) => format!("the first parameter is not the message type `{}`", source.input.name),
            None => "the message is missing".to_string(),
        };
        return wrong(place(0), what);
    }
    if function.arguments.len() > messages + 1 {
        return wrong(place(messages + 1), "there is a parameter too many".to_string());
    }
    if !state_is_pointer {
        return wrong(place(messages), "the state parameter is not a `ptr<function, …>`".to_string());
    }
    if let Some(expected) = source.state {
        match state {
            Some(ty) if named(ty, expected.name) => {}
            Some(_) => {
                return wrong(place(messages), format!("the state is not the Rust type `{}`", expected.name));
            }
            None => {
                let name = expected.name;
                return wrong(start, format!("there is no parameter for the state `{name}`"));
            }
        }
    }
    match (&function.result, source.output.size) {
        (None, 0) => {}
        (Some(result), size) if size > 0 && named(result.ty, source.output.name) => {}
        (Some(_), 0) => return wrong(start, "a kernel whose reply is `()` returns something".to_string()),
        (Some(_), _) => {
            return wrong(start, format!("the result is not the reply type `{}`", source.output.name));
        }
        (None, _) => return wrong(start, format!("the reply `{}` is missing", source.output.name)),
    }
    Ok(Signature { function: handle, state })
}

fn wanted_signature(source: &HandlerSource<'_>, state: Option<&str>) -> String {
    let mut parameters = Vec::new();
    if source.input.size > 0 {
        parameters.push(format!("m: {}", source.input.name));
    }
    if let Some(state) = state {
        parameters.push(format!("s: ptr<function, {state}>"));
    }
    let result = if source.output.size > 0 { format!(" -> {}", source.output.name) } else { String::new() };
    format!("fn on_message({}){result}", parameters.join(", "))
}

fn seen_signature(module: &Module, function: &Function) -> String {
    let name = |ty| module.to_ctx().type_to_string(ty);
    let parameters: Vec<_> = function
        .arguments
        .iter()
        .map(|a| format!("{}: {}", a.name.as_deref().unwrap_or("_"), name(a.ty)))
        .collect();
    let result = function.result.as_ref().map(|r| format!(" -> {}", name(r.ty))).unwrap_or_default();
    format!("fn on_message({}){result}", parameters.join(", "))
}

/// The state's facts; its type is whatever the second parameter points to.
pub(super) fn check_state(
    source: &HandlerSource<'_>,
    module: &Module,
    layouter: &Layouter,
    state: Option<Handle<Type>>,
    words: &[Word<'_>],
    report: &Reporter<'_>,
) -> Result<Option<StateFacts>> {
    let Some(ty) = state else { return Ok(None) };
    let name = module.to_ctx().type_to_string(ty);
    let place = declaration(words, "struct", &name).or(declaration(words, "fn", "on_message")).unwrap_or(0);
    let a_bool = bool_inside(module, ty)
        .map(|path| (path, "is a `bool`, which has no layout in memory; keep it as a `u32`"));
    let an_atomic = || {
        let path = inside(module, ty, &|inner| matches!(inner, TypeInner::Atomic(_)))?;
        Some((path, "is atomic, but a state belongs to one message at a time; leave out the `atomic`"))
    };
    // A state that Rust knows is compared field by field instead.
    if source.state.is_none()
        && let Some((path, what)) = a_bool.or_else(an_atomic)
    {
        let inside = path.strip_prefix('.').map(|p| p.split(['.', '[']).next().unwrap_or(p));
        let place = inside.and_then(|field| member(words, &name, field)).unwrap_or(place);
        return Err(report.at(place, format_args!("`{name}{path}` {what}")));
    }
    let size = layouter[ty].to_stride();
    if size > STATE_LIMIT {
        return Err(report.at(
            place,
            format_args!(
                "the state `{name}` takes {size} bytes, but at most {STATE_LIMIT} are kept; use a table"
            ),
        ));
    }
    Ok(Some(StateFacts { name, size }))
}

/// Where a type holds a bool, as in `.flags[…].on`.
pub(super) fn bool_inside(module: &Module, ty: Handle<Type>) -> Option<String> {
    inside(module, ty, &|inner| match inner {
        TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } => scalar.kind == ScalarKind::Bool,
        _ => false,
    })
}

/// Where a type holds one of some kind.
pub(in crate::compile) fn inside(
    module: &Module,
    ty: Handle<Type>,
    is_it: &dyn Fn(&TypeInner) -> bool,
) -> Option<String> {
    match &module.types[ty].inner {
        inner if is_it(inner) => Some(String::new()),
        TypeInner::Array { base, .. } => inside(module, *base, is_it).map(|path| format!("[…]{path}")),
        TypeInner::Struct { members, .. } => members.iter().find_map(|m| {
            inside(module, m.ty, is_it).map(|path| format!(".{}{path}", m.name.as_deref().unwrap_or("_")))
        }),
        _ => None,
    }
}

/// Refuses variables and values too large for a handler's registers.
pub(super) fn check_values(
    module: &Module,
    info: &ModuleInfo,
    layouter: &Layouter,
    report: &Reporter<'_>,
) -> Result<()> {
    let too_large = |span, what: &str, size: u32| {
        Err(report.span(
            span,
            format_args!(
                "{what} takes {size} bytes, but at most {VALUE_LIMIT} are there; keep large data in a table"
            ),
        ))
    };
    let mut privates = 0u32;
    for (handle, global) in module.global_variables.iter() {
        let name = global.name.as_deref().unwrap_or("_");
        if global.space == AddressSpace::Private && !name.starts_with("rt_") {
            privates = privates.saturating_add(layouter[global.ty].size);
            if privates > VALUE_LIMIT {
                let what = format!("`{name}` with the private variables before it");
                return too_large(module.global_variables.get_span(handle), &what, privates);
            }
        }
    }
    for (handle, function) in module.functions.iter() {
        let mut locals = 0u32;
        for (local, variable) in function.local_variables.iter() {
            locals = locals.saturating_add(layouter[variable.ty].size);
            if locals > VALUE_LIMIT {
                let name = variable.name.as_deref().unwrap_or("_");
                let what = format!("`{name}` with the variables before it");
                return too_large(function.local_variables.get_span(local), &what, locals);
            }
        }
        for (expression, _) in function.expressions.iter() {
            let inner = info[handle][expression].ty.inner_with(&module.types);
            let size = inner.try_size(module.to_ctx()).unwrap_or(0);
            if inner.pointer_space().is_none() && size > VALUE_LIMIT {
                return too_large(function.expressions.get_span(expression), "this value", size);
            }
        }
    }
    Ok(())
}
