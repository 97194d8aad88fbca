//! Lowering: one pass over naga's form that makes WGSL's and the handler contract's promises explicit.
//!
//! Interpreter, JIT, CUDA writer and wgpu all consume the lowered module, so what is decided here is decided for
//! all of them. It stays a plain valid module: nothing in it is meant for one engine.
//!
//! # What lowering guarantees
//!
//! * **Loops end.** Every loop spends one unit of the private variable `rt_fuel` for each iteration it begins; the
//!   evaluation of a `for` or `while` condition that ends the loop costs nothing. With none left, `rt_fault` becomes
//!   [`FaultCode::LoopBudget`] and the function returns the zero value (a loop inside a `continuing` block, where
//!   WGSL has no `return`, breaks instead). The budget stays at zero, so every other loop ends at once too, and what
//!   the handler computes after that is not looked at.
//! * **The first fault stays** in `rt_fault`; `emit_…` past the declared number sets [`FaultCode::EmitOverflow`].
//! * **Every index is in range**: constant indices were checked at parse time; a dynamic index into a vector, matrix,
//!   array or table is clamped to `0 ..= length - 1`, a negative one to 0. A constant index into a table is clamped
//!   like a dynamic one. Tables have at least one element.
//! * **float → int saturates**, NaN gives 0: the value is clamped to the largest f32 that fits (2147483520 for i32,
//!   4294967040 for u32) and only then converted, so that engines convert numbers in range only.
//! * **Shift amounts** are below 32: they are masked, as WGSL does for amounts that are not constant.
//! * **Private variables** hold their initial values when `on_message` begins: `rt_handle`, the entry of the lowered
//!   module, stores them, and the budget into `rt_fuel`. They have no initialisers of their own any more. The
//!   emitted values behind the outputs' counters are not reset.
//! * **Constant expressions** are folded, once for all engines; a constant vector consists of scalars.
//!
//! # What engines owe
//!
//! * Integer `+ - *` and negation wrap. `x / 0 = x`, `x % 0 = 0`, `MIN / -1 = MIN`, `MIN % -1 = 0`. `abs(MIN) = MIN`.
//! * f32 `+ - * /` and `sqrt` round to nearest even, with denormals, and are never contracted: `fma(a, b, c)` is
//!   `a * b + c`, rounded twice. `x % y` is `x - y * trunc(x / y)`. `dot` sums from the first component to the last,
//!   and matrix products are sums of that kind. `round` sends ties to the even neighbour.
//! * `min(a, b)` is `b` if `b < a`, else `a`; if `a` is NaN it is `b` (`max` likewise). `clamp(x, l, h)` is
//!   `min(max(x, l), h)`. `sign(NaN) = 0`. Which bits a NaN has is nowhere defined.
//! * `mix(a, b, t)` is `a * (1 - t) + b * t`; `length` of a scalar is its magnitude; `determinant` expands along the
//!   first row. Formulas of the other functions are those of the WGSL specification, in the order written there.
//! * `extractBits` and `insertBits` clamp offset and count to the word. `frexp` of an infinity or NaN is `(x, 0)`,
//!   `modf` of an infinity `(0, x)`, both with the sign of `x`. Halves (`quantizeToF16`, `pack2x16float`) round to
//!   nearest even, and what is too large becomes infinite.
//! * Local variables without an initial value are zero whenever their function begins.
//! * `exp`, `sin` and the other transcendental functions are libm's on a CPU; elsewhere they agree within WGSL's
//!   tolerance.

mod compute;
mod constants;
#[cfg(feature = "wgpu")]
mod pointers;
mod rewrite;
#[cfg(test)]
mod tests;

pub(super) use compute::lower_compute;
pub(super) use rewrite::map_operands;

use super::front::{CAPABILITIES, Parsed};
use super::program::{PrivateSlot, Program, Signature};
use super::uses::visit;
use super::{EmitSlot, FaultCode, HandlerSource};
use crate::error::{Error, ErrorKind, Result};
use naga::proc::Layouter;
use naga::valid::{ValidationFlags, Validator};
use naga::{
    AddressSpace, Arena, Block, Expression as E, Function, FunctionArgument, GlobalVariable, Handle, Literal,
    Module, Range, Span, Statement as S, TypeInner,
};

/// Variables of the library's text that every lowered function may touch.
#[derive(Clone, Copy)]
pub(crate) struct Library {
    pub fault: Handle<GlobalVariable>,
    pub fuel: Handle<GlobalVariable>,
    /// Of an entry point with barriers: the rounds that its loops with barriers have left.
    pub rounds: Option<Handle<GlobalVariable>>,
    /// The loop budget, which `fuel` is set to behind a barrier.
    pub budget: u32,
}

/// Lowers a checked handler.
pub(super) fn lower(parsed: Parsed, source: &HandlerSource<'_>) -> Result<Program> {
    let Parsed { mut module, info, .. } = parsed;
    let loop_budget = source.loop_budget;
    let library = rewrite_all(&mut module, &info, loop_budget, false, None);
    let function = prologue(&mut module, parsed.on_message, library, loop_budget);
    let entry = module.functions.append(function, Span::UNDEFINED);

    let failed = |what: String| {
        let text =
            format!("{}: lowering made an invalid module ({what}); please report this handler", parsed.name);
        Error::new(ErrorKind::Rejected, text)
    };
    let info = Validator::new(ValidationFlags::all(), CAPABILITIES)
        .validate(&module)
        .map_err(|error| failed(error.emit_to_string(&parsed.text)))?;
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| failed(error.to_string()))?;

    let functions = reachable(&module, entry);
    let has_loops =
        functions.iter().any(|f| any(&module.functions[*f].body, &|s| matches!(s, S::Loop { .. })));
    let mut stored = Vec::new();
    functions.iter().for_each(|f| stored_tables(&module, &info[*f], &module.functions[*f], &mut stored));
    let (privates, privates_size) = lay_out_privates(&module, &layouter);
    let emits = parsed.outputs.iter().map(|output| {
        let items = global(&module, &format!("rt_items_{}", output.name));
        let count = global(&module, &format!("rt_count_{}", output.name));
        let TypeInner::Array { stride, .. } = module.types[module.global_variables[items].ty].inner else {
            unreachable!("the library declares it as an array")
        };
        let offset =
            |global| privates.iter().find(|p: &&PrivateSlot| p.global == global).map_or(0, |p| p.offset);
        EmitSlot {
            count_offset: offset(count),
            items_offset: offset(items),
            stride,
            size: output.layout.size,
            max: output.max_per_message,
        }
    });
    let emits = emits.collect();
    let signature =
        Signature { message: parsed.input, reply: parsed.output, outputs: parsed.outputs, loop_budget };
    let (tables, table_globals): (Vec<_>, Vec<_>) = parsed.tables.into_iter().unzip();
    let stored_tables = table_globals.iter().map(|global| stored.contains(global)).collect();
    Ok(Program {
        text: parsed.text,
        signature,
        entry,
        functions,
        has_message: parsed.has_message,
        state: parsed.state,
        instance_at: source.instance_at,
        takes_batches: true,
        has_loops,
        writes_tables: !stored.is_empty(),
        tables,
        table_globals,
        stored_tables,
        privates,
        privates_size,
        emits,
        fault: library.fault,
        info,
        module,
    })
}

/// Lowers a handler that has been joined with a driver, whose text begins at `driver` and whose own functions stay as
/// they are. The driver's `rt_handle` becomes the entry.
///
/// # Errors
///
/// What naga's validator has against the module, before or after.
#[cfg(feature = "wgpu")]
pub(super) fn lower_joined(
    mut module: Module,
    loop_budget: u32,
    driver: usize,
) -> std::result::Result<Module, Box<naga::WithSpan<naga::valid::ValidationError>>> {
    let validate = |module: &Module| {
        Validator::new(ValidationFlags::all(), CAPABILITIES).validate(module).map_err(Box::new)
    };
    let info = validate(&module)?;
    let library = rewrite_all(&mut module, &info, loop_budget, false, Some(driver));
    let named = |module: &Module, wanted: &str| {
        let found = module.functions.iter().find(|(_, f)| f.name.as_deref() == Some(wanted));
        found.map(|(handle, _)| handle).expect("handler and driver declare it")
    };
    let (handle, on_message) = (named(&module, "rt_handle"), named(&module, "on_message"));
    let function = prologue(&mut module, on_message, library, loop_budget);
    *module.functions.get_mut(handle) = function;
    pointers::pass_whole_variables(&mut module);
    validate(&module)?;
    Ok(module)
}

/// Rewrites every function but a driver's, if there is one: its text begins at `driver`. By place and not by name:
/// a function that is not rewritten is not checked at run time either.
fn rewrite_all(
    module: &mut Module,
    info: &naga::valid::ModuleInfo,
    budget: u32,
    has_barriers: bool,
    driver: Option<usize>,
) -> Library {
    constants::flatten(module);
    let library = Library {
        fault: global(module, "rt_fault"),
        fuel: global(module, "rt_fuel"),
        rounds: has_barriers.then(|| global(module, "rt_rounds")),
        budget,
    };
    let handles: Vec<_> = module.functions.iter().map(|(handle, _)| handle).collect();
    for handle in handles {
        let place = module.functions.get_span(handle).to_range();
        if let (Some(place), Some(driver)) = (place, driver)
            && place.start >= driver
        {
            continue;
        }
        let lowered = rewrite::rewrite(module, &module.functions[handle], &info[handle], library);
        *module.functions.get_mut(handle) = lowered;
    }
    library
}

/// A variable that the library's text declares.
fn global(module: &Module, name: &str) -> Handle<GlobalVariable> {
    let found = module.global_variables.iter().find(|(_, g)| g.name.as_deref() == Some(name));
    found.map(|(handle, _)| handle).expect("the library's text declares it")
}

/// Makes `rt_handle`: initial values into the private variables, then `on_message`.
fn prologue(
    module: &mut Module,
    on_message: Handle<Function>,
    library: Library,
    loop_budget: u32,
) -> Function {
    let callee = &module.functions[on_message];
    let arguments: Vec<FunctionArgument> = callee.arguments.clone();
    let mut function = Function {
        name: Some("rt_handle".to_string()),
        result: callee.result.clone(),
        ..Function::default()
    };
    let mut body = Block::new();
    for (handle, variable) in module.global_variables.iter() {
        let name = variable.name.as_deref().unwrap_or("");
        // What lies behind the counters is never read before it is written.
        if variable.space != AddressSpace::Private || name.starts_with("rt_items_") {
            continue;
        }
        let value = match variable.init {
            _ if handle == library.fuel => {
                append(&mut function.expressions, E::Literal(Literal::U32(loop_budget)))
            }
            Some(init) => copy_constant(module, init, &mut function.expressions, &mut body),
            None => append(&mut function.expressions, E::ZeroValue(variable.ty)),
        };
        let pointer = append(&mut function.expressions, E::GlobalVariable(handle));
        body.push(S::Store { pointer, value }, Span::UNDEFINED);
    }
    for (_, variable) in module.global_variables.iter_mut() {
        variable.init = None;
    }
    let passed =
        (0..arguments.len() as u32).map(|i| append(&mut function.expressions, E::FunctionArgument(i)));
    let passed: Vec<_> = passed.collect();
    let result =
        function.result.is_some().then(|| append(&mut function.expressions, E::CallResult(on_message)));
    body.push(S::Call { function: on_message, arguments: passed, result }, Span::UNDEFINED);
    body.push(S::Return { value: result }, Span::UNDEFINED);
    function.arguments = arguments;
    function.body = body;
    function
}

fn append(expressions: &mut Arena<E>, expression: E) -> Handle<E> {
    expressions.append(expression, Span::UNDEFINED)
}

/// Copies a constant expression of the module into a function.
fn copy_constant(
    module: &Module,
    constant: Handle<E>,
    expressions: &mut Arena<E>,
    body: &mut Block,
) -> Handle<E> {
    let expression = module.global_expressions[constant].clone();
    if expression.needs_pre_emit() {
        return append(expressions, expression);
    }
    let copied =
        rewrite::map_operands(expression, |operand| copy_constant(module, operand, expressions, body));
    let handle = append(expressions, copied);
    body.push(S::Emit(Range::new_from_bounds(handle, handle)), Span::UNDEFINED);
    handle
}

/// What a function calls, directly or not, callees first; the function itself is last.
pub(super) fn reachable(module: &Module, root: Handle<Function>) -> Vec<Handle<Function>> {
    // Callees stand before their callers in a valid module, so one pass backwards sees every caller first.
    let mut is_reached = vec![false; module.functions.len()];
    is_reached[root.index()] = true;
    for (handle, function) in module.functions.iter().rev() {
        if is_reached[handle.index()] {
            visit(&function.body, &mut |s| {
                if let S::Call { function, .. } = s {
                    is_reached[function.index()] = true;
                }
            });
        }
    }
    module.functions.iter().map(|(handle, _)| handle).filter(|handle| is_reached[handle.index()]).collect()
}

pub(in crate::compile) fn any(block: &Block, test: &dyn Fn(&S) -> bool) -> bool {
    let mut found = false;
    visit(block, &mut |s| found |= test(s));
    found
}

/// Adds the tables that a function stores to other than by atomics.
fn stored_tables(
    module: &Module,
    info: &naga::valid::FunctionInfo,
    function: &Function,
    stored: &mut Vec<Handle<naga::GlobalVariable>>,
) {
    visit(&function.body, &mut |s| {
        let S::Store { pointer, .. } = s else { return };
        let Some(global) = function.originating_global(*pointer) else { return };
        let is_table = matches!(module.global_variables[global].space, AddressSpace::Storage { .. });
        let is_atomic = match info[*pointer].ty.inner_with(&module.types) {
            TypeInner::Pointer { base, .. } => matches!(module.types[*base].inner, TypeInner::Atomic(_)),
            _ => false,
        };
        if is_table && !is_atomic {
            stored.push(global);
        }
    });
}

/// Puts the private variables behind each other in WGSL layout.
pub(super) fn lay_out_privates(module: &Module, layouter: &Layouter) -> (Vec<PrivateSlot>, u32) {
    let mut slots = Vec::new();
    let mut end = 0;
    for (global, variable) in module.global_variables.iter() {
        if variable.space == AddressSpace::Private {
            let layout = layouter[variable.ty];
            // At least 4, so that a bool never shares its word with a neighbour.
            let offset = layout.alignment.round_up(end).next_multiple_of(4);
            slots.push(PrivateSlot { global, offset, size: layout.size });
            end = offset + layout.size;
        }
    }
    (slots, end.next_multiple_of(16))
}

/// The fault code as the lowered module stores it.
fn fault_literal(code: FaultCode) -> Literal {
    Literal::U32(code as u32)
}
