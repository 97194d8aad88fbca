//! naga's errors in the user's terms: its file and line, no handles of the intermediate form.

use super::report::Reporter;
use super::scan::{Word, declaration};
use crate::error::{Error, ErrorKind};
use naga::common::wgsl::TypeContext;
use naga::front::wgsl::ParseError;
use naga::proc::TypeResolution;
use naga::valid::{CallError, ExpressionError, FunctionError, ValidationError};
use naga::{Module, Span, TypeInner, WithSpan};

/// A syntax or name error; `generated` are the type names made from Rust.
pub(super) fn parse_error(error: &ParseError, report: &Reporter<'_>, generated: &[&str]) -> Error {
    let span = error.labels().map(|(span, _)| span).find(Span::is_defined).unwrap_or_default();
    let mut what = error.message().to_string();
    if what.contains("no definition in scope") && !generated.is_empty() {
        what += &format!("; the types made from Rust are `{}`", generated.join("`, `"));
    }
    if !report.is_user(span) {
        let wanted = if what.contains("redefinition") {
            "; rename the handler's own declaration"
        } else {
            "; rename the field or type in Rust"
        };
        return report.appended(what + wanted);
    }
    let shown = error.emit_to_string_with_path(report.text(), report.name());
    let text = report.span(span, what).to_string();
    Error::new(ErrorKind::Rejected, format!("{text}\n{}", shown.trim_end()))
}

/// A validation error.
pub(super) fn validation_error(
    error: &WithSpan<ValidationError>,
    module: &Module,
    words: &[Word<'_>],
    report: &Reporter<'_>,
) -> Error {
    // naga lists the innermost place first.
    let mut spans = error.spans().map(|(span, _)| *span).filter(|span| report.is_user(*span));
    let function = match error.as_inner() {
        ValidationError::Function { name, .. } => declaration(words, "fn", name),
        _ => None,
    };
    let function = function.map(|at| Span::new(at as u32, at as u32 + 1));
    let span = spans.next().or(function).unwrap_or_default();
    let what = match error.as_inner() {
        ValidationError::Function { source, .. } => function_error(source, module),
        _ => None,
    };
    let what = what.unwrap_or_else(|| innermost(error.as_inner()));
    let shown = span.to_range().and_then(|r| report.text().get(r)).map(str::trim).unwrap_or("");
    if shown.is_empty() || shown.len() > 60 || shown.contains('\n') {
        report.span(span, what)
    } else {
        report.span(span, format_args!("in `{shown}`: {what}"))
    }
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
            "argument {} of the call has another type than the parameter; pass a `{}`",
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
            "this is beyond plain WGSL; use the scalars f32, i32, u32 and bool".to_string()
        }
        F::Expression { source: ExpressionError::InvalidArgumentType(_, index, _), .. } => {
            format!("argument {} has a type this function does not take; convert it", index + 1)
        }
        F::Expression { source: ExpressionError::IndexOutOfBounds(_, index), .. } => {
            format!("the index {index} is past the end; write a smaller one")
        }
        _ => return None,
    })
}

/// The deepest cause, without the numbers of naga's handles.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    without_handles(&deepest.to_string())
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
