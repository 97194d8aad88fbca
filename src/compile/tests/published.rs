//! The published WGSL expression tables, `../shared/wgsl-cts/` beside the repository, for whatever runs handlers.

use serde_json::Value;

/// An operation of the tables.
pub(crate) struct Operation {
    pub name: String,
    expression: String,
    parameters: Vec<String>,
    result: String,
    pub cases: Vec<Case>,
}

/// Operands of an operation, and what may come of them.
pub(crate) struct Case {
    pub operands: [u32; 3],
    accepted: Value,
}

impl Case {
    pub fn accepted(&self) -> &Value {
        &self.accepted
    }
}

/// All operations, or `None`, said aloud, where the tables are not.
pub(crate) fn operations() -> Option<Vec<Operation>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/wgsl-cts/expressions.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("SKIPPED: {path} is not there");
        return None;
    };
    let operations: Vec<_> = text.lines().map(Operation::read).collect();
    let cases: usize = operations.iter().map(|operation| operation.cases.len()).sum();
    println!("{} operations, {cases} cases", operations.len());
    assert!(operations.len() >= 40 && cases > 10_000);
    Some(operations)
}

impl Operation {
    fn read(line: &str) -> Self {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let case = |case: &Value| {
            let mut operands = [0u32; 3];
            for (to, from) in operands.iter_mut().zip(case[0].as_array().unwrap()) {
                *to = from.as_u64().unwrap() as u32;
            }
            Case { operands, accepted: case[1].clone() }
        };
        Self {
            name: text(&row["name"]),
            expression: text(&row["expr"]),
            parameters: row["params"].as_array().unwrap().iter().map(text).collect(),
            result: text(&row["ret"]),
            cases: row["cases"].as_array().unwrap().iter().map(case).collect(),
        }
    }

    /// Statements that evaluate it on the words `m.a`, `m.b` and `m.c`, and return a `Result` of one word.
    pub fn body(&self) -> String {
        let mut text = String::new();
        for (name, ty) in ["a", "b", "c"].iter().zip(&self.parameters) {
            text += &match ty.as_str() {
                "bool" => format!("let {name} = m.{name} != 0u;\n"),
                ty => format!("let {name} = bitcast<{ty}>(m.{name});\n"),
            };
        }
        text += &format!("let result = {};\n", self.expression);
        text + match self.result.as_str() {
            "bool" => "return Result(u32(result));",
            _ => "return Result(bitcast<u32>(result));",
        }
    }

    /// Is this result one of those that the table has for the case?
    pub fn accepts(&self, case: &Case, bits: u32) -> bool {
        is_accepted(&case.accepted, bits, self.result == "f32")
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
