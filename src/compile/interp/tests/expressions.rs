//! The published WGSL expression tables, `../shared/wgsl-cts/` beside the repository.

use crate::compile::tests::Bench;
use crate::compile::{HandlerSource, Outcome};
use crate::message::{Field, FieldKind, Layout, Scalar};
use serde_json::Value;

const PARAMETERS: &Layout = &Layout {
    name: "Parameters",
    size: 12,
    align: 4,
    fields: &[
        Field { name: "a", offset: 0, kind: FieldKind::Scalar(Scalar::U32) },
        Field { name: "b", offset: 4, kind: FieldKind::Scalar(Scalar::U32) },
        Field { name: "c", offset: 8, kind: FieldKind::Scalar(Scalar::U32) },
    ],
};
const RESULT: &Layout = &Layout {
    name: "Result",
    size: 4,
    align: 4,
    fields: &[Field { name: "r", offset: 0, kind: FieldKind::Scalar(Scalar::U32) }],
};

/// A handler that evaluates one expression of the table.
fn handler(row: &Value) -> String {
    let mut text = String::from("fn on_message(m: Parameters) -> Result {\n");
    for (parameter, ty) in ["a", "b", "c"].iter().zip(row["params"].as_array().unwrap()) {
        text += &match ty.as_str().unwrap() {
            "bool" => format!("let {parameter} = m.{parameter} != 0u;\n"),
            ty => format!("let {parameter} = bitcast<{ty}>(m.{parameter});\n"),
        };
    }
    text += &format!("let result = {};\n", row["expr"].as_str().unwrap());
    text + match row["ret"].as_str().unwrap() {
        "bool" => "return Result(u32(result)); }",
        _ => "return Result(bitcast<u32>(result)); }",
    }
}

fn is_accepted(accept: &Value, bits: u32, is_float: bool) -> bool {
    if let Some(any) = accept["any_of"].as_array() {
        return any.iter().any(|a| is_accepted(a, bits, is_float));
    }
    let got = f32::from_bits(bits);
    if let Some(wanted) = accept["bits"].as_u64() {
        let wanted_float = f32::from_bits(wanted as u32);
        let same_float = got == wanted_float || (got.is_nan() && wanted_float.is_nan());
        return bits == wanted as u32 || (is_float && same_float);
    }
    // The bounds are f32s written with 16 digits.
    let bound = |v: &Value| v.as_f64().map_or_else(|| v.as_str().unwrap().parse().unwrap(), |b| b as f32);
    let interval = accept["interval"].as_array().unwrap();
    let (low, high) = (bound(&interval[0]), bound(&interval[1]));
    let anything = low.is_nan() || high.is_nan() || (low == f32::NEG_INFINITY && high == f32::INFINITY);
    anything || (low <= got && got <= high)
}

#[test]
fn published_expression_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/wgsl-cts/expressions.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("SKIPPED: {path} is not there");
        return;
    };
    let (mut operations, mut cases) = (0, 0);
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let name = row["name"].as_str().unwrap();
        let source = HandlerSource {
            name,
            text: &handler(&row),
            input: PARAMETERS,
            output: RESULT,
            state: None,
            outputs: &[],
            tables: &[],
            loop_budget: 1,
        };
        let mut bench = Bench::new(&source).unwrap();
        for case in row["cases"].as_array().unwrap() {
            let mut message = [0u32; 3];
            for (to, from) in message.iter_mut().zip(case[0].as_array().unwrap()) {
                *to = from.as_u64().unwrap() as u32;
            }
            assert_eq!(bench.run(bytemuck::cast_slice(&message)), Outcome::Done);
            let bits = crate::compile::tests::words(&bench.reply)[0];
            assert!(
                is_accepted(&case[1], bits, row["ret"] == "f32"),
                "{name}: {message:x?} gave {bits:#x} ({}), accepted: {}",
                f32::from_bits(bits),
                case[1]
            );
            cases += 1;
        }
        operations += 1;
    }
    println!("{operations} operations, {cases} cases");
    assert!(operations >= 40 && cases > 10_000);
}
