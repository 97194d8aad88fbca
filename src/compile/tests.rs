//! Shared by the tests of the front, the lowering and the interpreter.

use super::{
    Executable, Frame, HandlerSource, Interpreter, Outcome, OutputDecl, Program, StopCheck, TableDecl,
    TableView, compile,
};
use crate::error::Result;
use crate::message::{Field, FieldKind, Layout, Scalar};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

pub(super) const UNIT: &Layout = &Layout { name: "", size: 0, align: 1, fields: &[] };

pub(super) const fn scalar(name: &'static str, offset: u32, scalar: Scalar) -> Field {
    Field { name, offset, kind: FieldKind::Scalar(scalar) }
}

pub(super) const fn array(name: &'static str, offset: u32, element: &'static FieldKind, len: u32) -> Field {
    Field { name, offset, kind: FieldKind::Array { element, len, stride: 4 } }
}

pub(super) const F32: &FieldKind = &FieldKind::Scalar(Scalar::F32);
pub(super) const U32: &FieldKind = &FieldKind::Scalar(Scalar::U32);

/// `struct In { a: array<u32, 8> }`
pub(super) const IN: &Layout = &Layout { name: "In", size: 32, align: 4, fields: &[array("a", 0, U32, 8)] };
/// `struct Out { r: array<u32, 8> }`
pub(super) const OUT: &Layout = &Layout { name: "Out", size: 32, align: 4, fields: &[array("r", 0, U32, 8)] };
/// `struct State { n: u32, sum: f32 }`
pub(super) const STATE: &Layout = &Layout {
    name: "State",
    size: 8,
    align: 4,
    fields: &[scalar("n", 0, Scalar::U32), scalar("sum", 4, Scalar::F32)],
};
/// `struct Alert { code: u32, level: f32 }`
pub(super) const ALERT: &Layout = &Layout {
    name: "Alert",
    size: 8,
    align: 4,
    fields: &[scalar("code", 0, Scalar::U32), scalar("level", 4, Scalar::F32)],
};

/// A handler over `In` and `Out` without more.
pub(super) fn source(text: &str) -> HandlerSource<'_> {
    HandlerSource {
        name: "test.wgsl",
        text,
        input: IN,
        output: OUT,
        state: None,
        outputs: &[],
        tables: &[],
        loop_budget: 1_000_000,
    }
}

pub(super) fn output(name: &str, max_per_message: u32) -> OutputDecl {
    OutputDecl { name: name.to_string(), layout: ALERT, max_per_message }
}

pub(super) fn table(name: &str, len: usize) -> TableDecl {
    TableDecl { name: name.to_string(), element_size: 4, element_name: "u32", len }
}

/// The refusal of a handler.
pub(super) fn refusal(source: &HandlerSource<'_>) -> String {
    match compile(source) {
        Ok(_) => panic!("accepted: {}", source.text),
        Err(error) => {
            assert!(error.is_rejected());
            error.to_string()
        }
    }
}

/// A handler and all that a run of it needs.
pub(super) struct Bench {
    pub program: Arc<Program>,
    pub interpreter: Interpreter,
    pub state: Vec<u8>,
    pub reply: Vec<u8>,
    pub privates: Vec<u8>,
    pub stop_word: AtomicU32,
}

impl Bench {
    pub fn new(source: &HandlerSource<'_>) -> Result<Self> {
        let program = Arc::new(compile(source)?);
        Ok(Self {
            interpreter: Interpreter::new(program.clone()),
            state: vec![0; program.state_size() as usize],
            reply: vec![0; source.output.size as usize],
            privates: vec![0xaa; program.privates_size as usize],
            stop_word: AtomicU32::new(0),
            program,
        })
    }

    pub fn run_with(&mut self, message: &[u8], tables: &[TableView]) -> Outcome {
        let stop = StopCheck::new(&self.stop_word, None, None);
        self.interpreter.run(&mut Frame {
            message,
            state: &mut self.state,
            reply: &mut self.reply,
            privates: &mut self.privates,
            tables,
            stop: &stop,
        })
    }

    pub fn run(&mut self, message: &[u8]) -> Outcome {
        self.run_with(message, &[])
    }

    /// Runs on words and returns the reply's.
    pub fn words(&mut self, message: &[u32]) -> Vec<u32> {
        assert_eq!(self.run(bytemuck::cast_slice(message)), Outcome::Done);
        words(&self.reply)
    }
}

pub(super) fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|c| u32::from_ne_bytes([c[0], c[1], c[2], c[3]])).collect()
}

/// Runs a handler body that fills `r` from `m`, once, on words.
pub(super) fn evaluate(body: &str, message: [u32; 8]) -> Vec<u32> {
    let text = format!("fn on_message(m: In) -> Out {{ var r: array<u32, 8>; {body} return Out(r); }}");
    match Bench::new(&source(&text)) {
        Ok(mut bench) => bench.words(&message),
        Err(error) => panic!("{error}"),
    }
}
