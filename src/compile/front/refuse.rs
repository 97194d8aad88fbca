//! What WGSL has and a handler may not use. Asked before validation, so that the sentence is ours.

use super::alias::{Aliases, Violation};
use super::report::Reporter;
use super::scan::{Word, declaration, parameter};
use crate::compile::uses::uses;
use crate::error::{Error, Result};
use naga::{
    AddressSpace, Block, Expression as E, Function, GlobalVariable, Handle, Module, Scalar, ScalarKind, Span,
    Statement as S, StorageAccess, TypeInner,
};
use std::collections::HashSet;

/// How deep statements may be inside each other, `else if` counting like a block: engines walk them recursively.
const DEPTH_LIMIT: u32 = 300;

/// Scalars that not every backend has, with the vector and matrix names made from them.
const WIDE: [&str; 18] = [
    "f16", "f64", "i16", "u16", "i64", "u64", "vec2h", "vec3h", "vec4h", "mat2x2h", "mat2x3h", "mat2x4h",
    "mat3x2h", "mat3x3h", "mat3x4h", "mat4x2h", "mat4x3h", "mat4x4h",
];

/// Is this a number of another size than the 4 bytes that every backend has?
fn is_wide(scalar: Scalar) -> bool {
    matches!(scalar.kind, ScalarKind::Sint | ScalarKind::Uint | ScalarKind::Float) && scalar.width != 4
}

/// Refusals that need only the words of the user's text.
pub(super) fn refuse_words(words: &[Word<'_>], report: &Reporter<'_>) -> Result<()> {
    for word in words {
        if word.text.starts_with("rt_") {
            let text = word.text;
            return Err(report.at(
                word.at,
                format_args!("`{text}` begins with `rt_`, which is the library's; choose another name"),
            ));
        }
    }
    Ok(())
}

/// For what a text is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Contract {
    /// A function that takes a message.
    Handler,
    /// An entry point over buffers, with workgroups.
    Compute,
}

/// Refusals that need the parsed module.
pub(super) fn refuse_module(
    module: &Module,
    words: &[Word<'_>],
    contract: Contract,
    report: &Reporter<'_>,
) -> Result<()> {
    if module.types.iter().any(|(_, ty)| ty.inner.scalar().is_some_and(is_wide)) {
        let word = words.iter().find(|w| WIDE.contains(&w.text) && w.before != Some('.'));
        let (at, name) = word.map_or((0, "a wide type"), |w| (w.at, w.text));
        return Err(report
            .at(at, format_args!("`{name}` is not available on every backend; use `f32`, `i32` or `u32`")));
    }
    if let Some(entry) = module.entry_points.first() {
        let at = declaration(words, "fn", &entry.name).unwrap_or(0);
        return Err(report.at(
            at,
            format_args!(
                "`{}` is an entry point, but a handler is a plain function; remove the `@` attributes and write \
                 `fn on_message`",
                entry.name
            ),
        ));
    }
    for (handle, global) in module.global_variables.iter() {
        let span = module.global_variables.get_span(handle);
        refuse_global(module, global, span, contract, report)?;
    }
    let mut aliases = Aliases::default();
    for (handle, function) in module.functions.iter() {
        refuse_parameters(module, function, words, contract, report)?;
        Walk { module, function, aliases: &aliases, contract, report }.block(&function.body, 0)?;
        aliases.add(module, handle);
    }
    Ok(())
}

fn refuse_global(
    module: &Module,
    global: &GlobalVariable,
    span: Span,
    contract: Contract,
    report: &Reporter<'_>,
) -> Result<()> {
    let name = global.name.as_deref().unwrap_or("_");
    let error = |what: &str| Err(report.span(span, format_args!("`{name}` {what}")));
    match module.types[global.ty].inner {
        TypeInner::Image { .. } => return error("is a texture; bind its texels as a table and index it"),
        TypeInner::Sampler { .. } => {
            return error("is a sampler; read a table and interpolate in the handler");
        }
        TypeInner::AccelerationStructure { .. } | TypeInner::RayQuery { .. } => {
            return error("is for ray queries, which handlers do not have; intersect by hand over a table");
        }
        TypeInner::BindingArray { .. } => return error("is a binding array; bind up to four tables by name"),
        _ => {}
    }
    match global.space {
        AddressSpace::Private | AddressSpace::Storage { .. } => {}
        AddressSpace::WorkGroup | AddressSpace::Uniform if contract == Contract::Compute => {}
        AddressSpace::WorkGroup => {
            return error("is a workgroup variable, but a handler runs alone; use `var<private>` or a table");
        }
        AddressSpace::Uniform => {
            return error("is a uniform variable; put the value into the message, the state or a table");
        }
        _ => return error("is in an address space that handlers do not have; use `var<private>` or a table"),
    }
    let is_bound = matches!(global.space, AddressSpace::Storage { .. } | AddressSpace::Uniform);
    if contract == Contract::Compute {
        return match global.binding {
            // wgpu allows 1,000 in a group, and one more is the library's.
            Some(binding) if binding.binding > 998 => {
                error("has a binding past the last; write `@binding(0)` to `@binding(998)`")
            }
            Some(binding) if binding.group > 3 => {
                error("is in a group past the last; write `@group(0)` to `@group(3)`")
            }
            None if is_bound => {
                error("is a buffer without a binding; write `@group(0) @binding(n)` before it")
            }
            _ => Ok(()),
        };
    }
    match global.binding {
        Some(binding) if binding.group == 0 => {
            error("is in `@group(0)`, which is the library's; use `@group(1)`")
        }
        Some(binding) if binding.group != 1 => {
            error("is a table outside of `@group(1)`; write `@group(1) @binding(n)`")
        }
        None if is_bound => error("is a table without a binding; write `@group(1) @binding(n)` before it"),
        _ => Ok(()),
    }
}

fn refuse_parameters(
    module: &Module,
    function: &Function,
    words: &[Word<'_>],
    contract: Contract,
    report: &Reporter<'_>,
) -> Result<()> {
    let function_name = function.name.as_deref().unwrap_or("");
    for argument in &function.arguments {
        let name = argument.name.as_deref().unwrap_or("_");
        let place = parameter(words, function_name, name).unwrap_or(0);
        let what = match module.types[argument.ty].inner {
            TypeInner::Pointer { space, .. } | TypeInner::ValuePointer { space, .. } => match space {
                AddressSpace::Function | AddressSpace::Private => continue,
                AddressSpace::Storage { .. } => {
                    "points to storage; name the table in the function, or pass an index"
                }
                AddressSpace::WorkGroup if contract == Contract::Compute => {
                    "points to workgroup memory; name the variable in the function, or pass an index"
                }
                AddressSpace::WorkGroup => {
                    "points to workgroup memory, which handlers do not have; pass a value"
                }
                _ => "points to memory that handlers do not have; pass a value",
            },
            TypeInner::Image { .. } => "is a texture; bind its texels as a table and index it",
            TypeInner::Sampler { .. } => "is a sampler; read a table and interpolate in the handler",
            TypeInner::AccelerationStructure { .. } | TypeInner::RayQuery { .. } => {
                "is for ray queries, which handlers do not have; intersect by hand over a table"
            }
            _ => continue,
        };
        return Err(report.at(place, format_args!("the parameter `{name}` {what}")));
    }
    Ok(())
}

/// Can this statement of a loop's body end in that loop's `continue`?
fn continues(statement: &S) -> bool {
    let among = |block: &Block| block.iter().any(continues);
    match statement {
        S::Continue => true,
        S::Block(block) => among(block),
        S::If { accept, reject, .. } => among(accept) || among(reject),
        S::Switch { cases, .. } => cases.iter().any(|case| among(&case.body)),
        _ => false,
    }
}

struct Walk<'a> {
    module: &'a Module,
    function: &'a Function,
    aliases: &'a Aliases,
    contract: Contract,
    report: &'a Reporter<'a>,
}

impl Walk<'_> {
    fn block(&self, block: &Block, depth: u32) -> Result<()> {
        for (statement, span) in block.span_iter() {
            if depth > DEPTH_LIMIT {
                return self.error(*span, "this is nested too deeply; use a `switch` or a function");
            }
            self.statement(statement, *span, depth + 1)?;
        }
        Ok(())
    }

    fn error<T>(&self, span: Span, what: &str) -> Result<T> {
        Err(self.report.span(span, what))
    }

    fn statement(&self, statement: &S, span: Span, depth: u32) -> Result<()> {
        match statement {
            S::Emit(range) => range.clone().try_for_each(|e| {
                self.expression(&self.function.expressions[e], self.function.expressions.get_span(e))
            }),
            S::Block(block) => self.block(block, depth),
            S::If { accept, reject, .. } => self.block(accept, depth).and_then(|()| self.block(reject, depth)),
            S::Switch { cases, .. } => cases.iter().try_for_each(|case| self.block(&case.body, depth)),
            S::Loop { body, continuing, break_if } => {
                self.block(body, depth)?;
                self.block(continuing, depth)?;
                self.passed_over(body, continuing, *break_if)
            }
            S::ControlBarrier(_) | S::MemoryBarrier(_) | S::WorkGroupUniformLoad { .. }
                if self.contract == Contract::Compute =>
            {
                Ok(())
            }
            S::Kill => self.error(span, "`discard` is for fragment shaders; write `return`"),
            S::ControlBarrier(_) | S::MemoryBarrier(_) => self.error(
                span,
                "a handler runs alone, so there is nothing for a barrier to wait for; remove it",
            ),
            S::WorkGroupUniformLoad { .. } => self.error(
                span,
                "`workgroupUniformLoad` needs a workgroup, but a handler runs alone; read the variable",
            ),
            S::ImageStore { .. } | S::ImageAtomic { .. } => {
                self.error(span, "handlers have no textures; write to a table")
            }
            S::RayQuery { .. } | S::RayPipelineFunction(_) => {
                self.error(span, "handlers have no ray queries; intersect by hand over a table")
            }
            S::SubgroupBallot { .. } | S::SubgroupGather { .. } | S::SubgroupCollectiveOperation { .. } => self
                .error(
                    span,
                    "a handler runs alone, so it has no subgroup; combine values of several messages in the state",
                ),
            S::CooperativeStore { .. } => {
                self.error(span, "handlers have no cooperative matrices; use `matCxR<f32>`")
            }
            S::Store { pointer, .. } | S::Atomic { pointer, .. } => match self.read_only(*pointer) {
                Some(error) => Err(error(span)),
                None => Ok(()),
            },
            S::Call { function, arguments, .. } => self.aliased(*function, arguments, span),
            S::Break | S::Continue | S::Return { .. } => Ok(()),
        }
    }

    /// Refuses a call that gives a function two ways to what it writes.
    fn aliased(&self, callee: Handle<Function>, arguments: &[Handle<E>], span: Span) -> Result<()> {
        let Some(Violation { argument, other, variable }) =
            self.aliases.check(self.module, self.function, callee, arguments)
        else {
            return Ok(());
        };
        let callee = self.module.functions[callee].name.as_deref().unwrap_or("_");
        let variable = variable.as_deref().unwrap_or("_");
        let argument = argument + 1;
        let what = match other {
            Some(other) => format!(
                "the arguments {} and {argument} of `{callee}` both lead to `{variable}`, and it writes there; copy one \
                 part to a variable of its own",
                other + 1
            ),
            None => format!(
                "the argument {argument} of `{callee}` leads to `{variable}`, which it also uses by name, and it writes \
                 there; use it in one of these ways only"
            ),
        };
        self.error(span, &what)
    }

    /// Refuses a `continue` that leads past the computation of a value which `continuing` uses. WGSL forbids it, naga
    /// does not look, and an engine would find there what was in that place before, or nothing.
    fn passed_over(&self, body: &Block, continuing: &Block, break_if: Option<Handle<E>>) -> Result<()> {
        let passed =
            body.iter().skip_while(|statement| !continues(statement)).flat_map(|statement| match statement {
                S::Emit(range) => range.clone().collect(),
                S::Call { result, .. } | S::Atomic { result, .. } => {
                    result.iter().copied().collect::<Vec<_>>()
                }
                S::WorkGroupUniformLoad { result, .. } => vec![*result],
                _ => Vec::new(),
            });
        let mut used = HashSet::new();
        uses(self.function, continuing, &mut used);
        used.extend(break_if);
        match passed.into_iter().find(|e| used.contains(e)) {
            None => Ok(()),
            Some(e) => self.error(
                self.function.expressions.get_span(e),
                "a `continue` before this leads past it, but `continuing` uses it; move it to before that `continue`",
            ),
        }
    }

    fn expression(&self, expression: &E, span: Span) -> Result<()> {
        match expression {
            E::ImageSample { .. } | E::ImageLoad { .. } | E::ImageQuery { .. } => {
                self.error(span, "handlers have no textures; read a table")
            }
            E::As { kind, convert: Some(width), .. } if is_wide(Scalar { kind: *kind, width: *width }) => {
                let letter = match kind {
                    ScalarKind::Sint => 'i',
                    ScalarKind::Uint => 'u',
                    _ => 'f',
                };
                let name = format!("`{letter}{}`", width * 8);
                self.error(
                    span,
                    &format!("{name} is not available on every backend; use `f32`, `i32` or `u32`"),
                )
            }
            E::Derivative { .. } => self.error(
                span,
                "derivatives are for fragment shaders; compute the difference of two values in the handler",
            ),
            E::RayQueryVertexPositions { .. } | E::RayQueryGetIntersection { .. } => {
                self.error(span, "handlers have no ray queries; intersect by hand over a table")
            }
            E::CooperativeLoad { .. } | E::CooperativeMultiplyAdd { .. } => {
                self.error(span, "handlers have no cooperative matrices; use `matCxR<f32>`")
            }
            _ => Ok(()),
        }
    }

    /// The error for a write through this pointer, if it leads to a table declared `read`.
    fn read_only(&self, pointer: Handle<E>) -> Option<impl Fn(Span) -> Error + '_> {
        let global = &self.module.global_variables[self.function.originating_global(pointer)?];
        let AddressSpace::Storage { access } = global.space else { return None };
        (!access.contains(StorageAccess::STORE)).then_some(move |span| {
            let name = global.name.as_deref().unwrap_or("_");
            self.report.span(
                span,
                format_args!(
                    "the table `{name}` is declared `read`; declare it `var<storage, read_write>` to write it"
                ),
            )
        })
    }
}
