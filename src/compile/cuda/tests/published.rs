//! The published WGSL expression tables: all of them in one handler, so that there is one compilation.

use super::engine::{build_one, has_compiler};
use crate::compile::tests::published::{Operation, operations};
use crate::compile::{
    Executable, Frame, HandlerSource, Interpreter, Limits, Outcome, Program, StopCheck, compile,
};
use crate::message::{Field, FieldKind, Layout, Scalar};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

const fn word(name: &'static str, offset: u32) -> Field {
    Field { name, offset, kind: FieldKind::Scalar(Scalar::U32) }
}

const PARAMETERS: &Layout = &Layout {
    name: "Parameters",
    size: 16,
    align: 4,
    fields: &[word("operation", 0), word("a", 4), word("b", 8), word("c", 12)],
};
const RESULT: &Layout = &Layout { name: "Result", size: 4, align: 4, fields: &[word("r", 0)] };

/// Functions whose last bits are the libraries' own.
const ABOUT: [&str; 19] = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "exp", "exp2", "log", "log2",
    "pow", "sin", "sinh", "tan", "tanh", "powr",
];

/// A handler that evaluates the operation that the message names.
pub fn handler(operations: &[Operation]) -> Arc<Program> {
    let (mut functions, mut cases) = (String::new(), String::new());
    for (number, operation) in operations.iter().enumerate() {
        let body = operation.body();
        let _ = write!(functions, "fn operation_{number}(m: Parameters) -> Result {{\n{body}\n}}\n");
        let _ = writeln!(cases, "case {number}u: {{ return operation_{number}(m); }}");
    }
    let text = format!(
        "{functions}fn on_message(m: Parameters) -> Result {{\nswitch m.operation {{\n{cases}\
         default: {{ return Result(0u); }}\n}}\n}}"
    );
    let source = HandlerSource {
        name: "published.wgsl",
        text: &text,
        input: PARAMETERS,
        output: RESULT,
        state: None,
        outputs: &[],
        tables: &[],
        loop_budget: 1,
        instance_at: None,
    };
    Arc::new(compile(&source).unwrap())
}

fn evaluate(engine: &dyn Executable, program: &Program, message: [u32; 4]) -> u32 {
    let (word, mut reply) = (AtomicU32::new(0), [0u32]);
    let mut privates = vec![0u32; program.privates_size as usize / 4];
    let outcome = engine.run(Frame {
        message: bytemuck::cast_slice(&message),
        state: &mut [],
        reply: bytemuck::cast_slice_mut(&mut reply),
        privates: bytemuck::cast_slice_mut(&mut privates),
        tables: &[],
        stop: &StopCheck::new(&word, &Limits::NONE),
    });
    assert_eq!(outcome, Outcome::Done);
    reply[0]
}

#[test]
fn published_expression_tables() {
    if !has_compiler() {
        return;
    }
    let Some(operations) = operations() else { return };
    let program = handler(&operations);
    let (host, interpreter) = (build_one(program.clone()), Interpreter::new(program.clone()));
    let (mut failures, mut exact, mut about, mut about_differ) = (Vec::new(), 0, 0, 0);
    for (number, operation) in (0u32..).zip(&operations) {
        let name = &operation.name;
        let text = operation.body();
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        let is_about = words.any(|word| ABOUT.contains(&word));
        for case in &operation.cases {
            let [a, b, c] = case.operands;
            let message = [number, a, b, c];
            let got = evaluate(&host, &program, message);
            let expected = evaluate(&interpreter, &program, message);
            let both_nan = f32::from_bits(got).is_nan() && f32::from_bits(expected).is_nan();
            let is_same = got == expected || both_nan;
            *(if is_about { &mut about } else { &mut exact }) += 1;
            about_differ += u32::from(is_about && !is_same);
            if !operation.accepts(case, got) || (!is_about && !is_same) {
                failures.push(format!(
                    "{name}: {:x?} gave {got:#x} ({}), the interpreter {expected:#x}, accepted: {}",
                    case.operands,
                    f32::from_bits(got),
                    case.accepted()
                ));
            }
        }
    }
    println!(
        "{exact} cases of exact operations, bit for bit; {about} of others, accepted, {about_differ} with other bits \
         than the interpreter's"
    );
    let first: Vec<_> = failures.iter().take(20).cloned().collect();
    assert!(failures.is_empty(), "{} cases:\n{}", failures.len(), first.join("\n"));
}
