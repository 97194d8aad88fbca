//! The published WGSL expression tables on every engine of the CPU.

use crate::compile::tests::{Bench, published, words};
use crate::compile::{HandlerSource, Outcome};
use crate::message::{Field, FieldKind, Layout, Scalar};

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

#[test]
fn published_expression_tables() {
    for operation in published::operations().unwrap_or_default() {
        let name = &operation.name;
        let source = HandlerSource {
            name,
            text: &format!("fn on_message(m: Parameters) -> Result {{\n{}\n}}", operation.body()),
            input: PARAMETERS,
            output: RESULT,
            state: None,
            outputs: &[],
            tables: &[],
            loop_budget: 1,
            instance_at: None,
        };
        let mut bench = Bench::new(&source).unwrap();
        for case in &operation.cases {
            assert_eq!(bench.run(bytemuck::cast_slice(&case.operands)), Outcome::Done);
            let bits = words(&bench.reply)[0];
            assert!(
                operation.accepts(case, bits),
                "{name}: {:x?} gave {bits:#x} ({}), accepted: {}",
                case.operands,
                f32::from_bits(bits),
                case.accepted()
            );
        }
    }
}
