//! naga's errors in the user's terms: its file and line, no handles of the intermediate form.

use super::report::Reporter;
use super::scan::{Word, declaration};
use crate::error::{Error, ErrorKind};
use naga::common::wgsl::TypeContext;
use naga::front::wgsl::ParseError;
use naga::proc::TypeResolution;
use naga::valid::{
    CallError, ComposeError, ExpressionError, FunctionError, GlobalVariableError, LiteralError,
    LocalVariableError, ValidationError, WidthError,
};
use naga::{Module, Span, SwitchValue, TypeInner, WithSpan};

/// For a number that naga could not give a type.
const UNTYPED: &str =
    "a number here has no type that fits; give it one, as in `1.5f` or `1u`, or convert the other side";

/// A syntax or name error; `generated` are the type names made from Rust.
pub(super) fn parse_error(error: &ParseError, report: &Reporter<'_>, generated: &[&str]) -> Error {
    let spans = || error.labels().map(|(span, _)| span).filter(Span::is_defined);
    let span = spans().next().unwrap_or_default();
    let what = error.message();
    if spans().next().is_none() {
        let index = what.strip_prefix("Index ").and_then(|rest| rest.split_once(" is out of bounds"));
        let what = match index {
            _ if what.starts_with("internal") => {
                "an expression is nested too deeply; use variables".to_string()
            }
            Some((index, _)) => format!("the index {index} is past the end; write a smaller one"),
            None => without_handles(what),
        };
        return report.whole(what);
    }
    if !report.is_user(span) {
        return match spans().find(|span| report.is_user(*span)) {
            Some(own) if what.contains("redefinition") => {
                report.span(own, format_args!("{what}, which the library declares; choose another name"))
            }
            _ => report.appended(format_args!("{what}; rename the field or type in Rust")),
        };
    }
    let quoted = what.split('`').nth(1).unwrap_or("");
    if what.contains("enable") && what.contains("extension") {
        return report.span(
            span,
            format_args!(
                "this needs the extension `{quoted}`, which not every backend has; use the core of WGSL"
            ),
        );
    }
    let mut text = what.replace("found \"\"", "found the end of the text");
    if text.contains("Not implemented as constant expression") {
        text += "; compute it inside a function";
    }
    if what.contains("no definition in scope") {
        text += &if let Some(output) = quoted.strip_prefix("emit_") {
            format!("; declare the output with `.output::<T>(\"{output}\")`")
        } else if quoted.starts_with(char::is_uppercase) {
            format!("; declare it, or use a type made from Rust: {}", list(generated))
        } else {
            "; declare it".to_string()
        };
    }
    let shown = error.emit_to_string_with_path(report.text(), report.name());
    let text = report.span(span, text).to_string();
    Error::new(ErrorKind::Rejected, format!("{text}\n{}", shown.trim_end()))
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "there is none".to_string() } else { format!("`{}`", names.join("`, `")) }
}

/// A validation error.
pub(super) fn validation_error(
    error: &WithSpan<ValidationError>,
    module: &Module,
    words: &[Word<'_>],
    report: &Reporter<'_>,
) -> Error {
    // naga lists the outermost place first, which for a function is all of it.
    let spans = error.spans().map(|(span, _)| *span).filter(|span| report.is_user(*span));
    let (what, name) = match error.as_inner() {
        ValidationError::Function { source, name, .. } => (function_error(source, module), Some(name)),
        ValidationError::GlobalVariable { name, source, .. } => (global_error(name, source), None),
        _ => (None, None),
    };
    let what = what.unwrap_or_else(|| innermost(error.as_inner()));
    let span = spans.last().unwrap_or_default();
    let shown = span.to_range().and_then(|r| report.text().get(r)).map(str::trim).unwrap_or("");
    match name.and_then(|name| declaration(words, "fn", name)) {
        // Only the whole function is known: its name is where to look.
        Some(at) if shown.is_empty() || shown.starts_with("fn ") => report.at(at, what),
        _ if shown.is_empty() || shown.len() > 60 || shown.contains('\n') => report.span(span, what),
        _ => report.span(span, format_args!("in `{shown}`: {what}")),
    }
}

fn global_error(name: &str, error: &GlobalVariableError) -> Option<String> {
    use GlobalVariableError as G;
    Some(match error {
        G::InvalidType(_) | G::InvalidUsage(_) | G::MissingTypeFlags { .. } => {
            format!(
                "`{name}` has a type that such a variable cannot have; atomics and unsized arrays are for tables"
            )
        }
        G::StorageAddressSpaceWriteOnlyNotSupported => {
            format!("the table `{name}` is declared `write`; declare it `var<storage, read_write>`")
        }
        G::CoherentNotSupported | G::VolatileNotSupported => {
            format!(
                "`{name}` is declared `@coherent` or `@volatile`; use atomics where messages share a table"
            )
        }
        _ => return None,
    })
}

fn function_error(error: &FunctionError, module: &Module) -> Option<String> {
    use FunctionError as F;
    let type_name =
        |inner: &TypeInner| module.to_ctx().type_resolution_to_string(&TypeResolution::Value(inner.clone()));
    Some(match error {
        F::InvalidReturnType { expression: None, expected_ty: Some(ty) } => {
            let ty = module.to_ctx().type_to_string(*ty);
            format!("this function can end without a result; end it with a `return` of a `{ty}`")
        }
        F::InvalidReturnType { expected_ty: Some(ty), .. } => {
            let ty = module.to_ctx().type_to_string(*ty);
            format!("this `return` does not give the function's result; return a value of type `{ty}`")
        }
        F::InvalidReturnType { expected_ty: None, .. } => {
            "this function has no result; declare one with `->` or write `return;`".to_string()
        }
        F::InvalidStorePointer(_) => {
            "this cannot be assigned to; assign to a `var` or through a pointer to one".to_string()
        }
        F::InvalidStoreTypes { .. } => {
            "the value's type is not the variable's; convert it, as in `f32(x)`".to_string()
        }
        F::InvalidIfType(_) => "a condition must be a `bool`; write a comparison".to_string(),
        F::InvalidSwitchType(_) => "a `switch` needs an `i32` or `u32`; convert the value".to_string(),
        F::InvalidCall { error: CallError::ArgumentCount { required, seen }, .. } => {
            format!("the call has {seen} arguments, but the function takes {required}; write {required}")
        }
        F::InvalidCall { error: CallError::ArgumentType { index, required, .. }, .. } => format!(
            "argument {} of the call has another type than the parameter; pass a value of type `{}`",
            index + 1,
            module.to_ctx().type_to_string(*required)
        ),
        F::Expression {
            source: ExpressionError::InvalidBinaryOperandTypes { lhs_type, rhs_type, .. },
            ..
        } => {
            format!(
                "the operator does not take `{}` and `{}`; convert one of them, as in `f32(x)`",
                type_name(lhs_type),
                type_name(rhs_type)
            )
        }
        F::Expression { source: ExpressionError::MissingCapabilities(_), .. } | F::MissingCapability(_) => {
            "this is beyond plain WGSL; use f32, i32, u32 and bool, and atomics of i32 and u32".to_string()
        }
        F::Expression { source: ExpressionError::InvalidArgumentType(_, index, _), .. } => {
            format!("argument {} has a type this function does not take; convert it", index + 1)
        }
        F::Expression { source: ExpressionError::IndexOutOfBounds(_, index), .. } => {
            format!("the index {index} is past the end; write a smaller one")
        }
        F::Expression { source: ExpressionError::InvalidUnaryOperandType(..), .. } => {
            "the operator does not take this type; convert the value, as in `i32(x)`".to_string()
        }
        F::Expression { source: ExpressionError::ShiftAmountTooLarge { .. }, .. } => {
            "the shift amount is not below 32; write a smaller one".to_string()
        }
        F::Expression { source: ExpressionError::InvalidPointerType(_), .. } => {
            "this cannot be read whole; read an element or a member".to_string()
        }
        F::LocalVariable { source: LocalVariableError::InvalidType(_), .. } => {
            "a variable cannot have this type; use one of a fixed size, and keep atomics in tables"
                .to_string()
        }
        F::Expression { source: ExpressionError::Compose(error), .. } => match error {
            ComposeError::ComponentCount { given, expected } => {
                format!("there are {given} components, but the type has {expected}; write {expected}")
            }
            ComposeError::ComponentType { index } => {
                format!("component {} has another type than its place; convert it, as in `f32(x)`", index + 1)
            }
            ComposeError::Type(_) => {
                "a value of this type cannot be made; use a type of a fixed size".to_string()
            }
        },
        F::Expression { source: ExpressionError::DivideByZero, .. } => {
            "this divides by zero; write another divisor".to_string()
        }
        F::Expression { source: ExpressionError::Literal(LiteralError::Width(width)), .. } => match width {
            WidthError::Abstract => UNTYPED.to_string(),
            _ => "this number is not available on every backend; use `f32`, `i32` or `u32`".to_string(),
        },
        F::ConflictingSwitchCase(value) => {
            let value = match value {
                SwitchValue::I32(value) => value.to_string(),
                SwitchValue::U32(value) => value.to_string(),
                SwitchValue::Default => "default".to_string(),
            };
            format!("the `switch` has the case {value} twice; remove one")
        }
        F::MissingDefaultCase => "this `switch` has no default; add `default: {}`".to_string(),
        F::MultipleDefaultCases => "this `switch` has two defaults; remove one".to_string(),
        F::PipelineInputRegularFunction { .. } | F::PipelineOutputRegularFunction => {
            "a plain function has no `@builtin` or `@location`; a handler gets all it needs in its message"
                .to_string()
        }
        F::NonConstructibleReturnType => {
            "a function cannot return this type; return a value of a fixed size".to_string()
        }
        F::InvalidArgumentType { name, .. } => {
            format!("the parameter `{name}` has a type that cannot be passed; pass a value of a fixed size")
        }
        F::BreakOutsideOfLoopOrSwitch => "this `break` is in no loop or `switch`; remove it".to_string(),
        F::ContinueOutsideOfLoop => "this `continue` is in no loop; remove it".to_string(),
        F::InvalidReturnSpot => "`continuing` cannot return; set a variable and use `break if`".to_string(),
        _ => return None,
    })
}

/// The deepest cause, without the numbers of naga's handles.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    let text = without_handles(&deepest.to_string());
    // Text that names naga's own types says nothing to the author of a handler.
    if text.contains("Abstract types") {
        return UNTYPED.to_string();
    }
    if text.contains("Capabilit") {
        return "this is beyond plain WGSL; use f32, i32, u32 and bool, and atomics of i32 and u32"
            .to_string();
    }
    if text.contains("::") || text.contains('(') && text.contains('{') {
        return "this is not valid WGSL for a handler".to_string();
    }
    text
}

/// Cuts `[3]` and the words that only make sense with it.
fn without_handles(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let close = rest[open..].find(']').map(|c| open + c);
        match close {
            Some(close) if rest[open + 1..close].bytes().all(|b| b.is_ascii_digit()) => {
                clean.push_str(rest[..open].trim_end());
                rest = &rest[close + 1..];
            }
            _ => {
                clean.push_str(&rest[..=open]);
                rest = &rest[open + 1..];
            }
        }
    }
    clean.push_str(rest);
    let clean = clean.replace("Expression", "expression").replace("Handle", "item");
    clean.trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::without_handles;

    #[test]
    fn handles_do_not_leak() {
        assert_eq!(without_handles("Loading of [12] can't be done."), "Loading of can't be done");
        assert_eq!(without_handles("at [a] Expression [3]"), "at [a] expression");
    }
}
