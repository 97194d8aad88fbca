//! Shared by the tests of the front, the lowering and the engines.

pub(crate) mod published;

#[cfg(feature = "jit")]
use super::jit::{self, JitHandler};
use super::{
    Executable, Frame, HandlerSource, Interpreter, Limits, Outcome, OutputDecl, Program, StopCheck,
    TableDecl, TableView, compile,
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
        instance_at: None,
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

/// A handler on every engine there is, and all that a run of it needs.
pub(super) struct Bench {
    pub program: Arc<Program>,
    pub interpreter: Interpreter,
    /// `None` for a handler that is too large for it.
    #[cfg(feature = "jit")]
    pub jit: Option<JitHandler>,
    /// What `g++` made of it, if `RINGWORK_CUDA` asks for that: it takes half a second for each handler.
    #[cfg(feature = "cuda")]
    pub host: Option<super::cuda::HostHandler>,
    /// The state, reply and private segment are the interpreter's; the others have to give the same.
    pub state: Vec<u8>,
    pub reply: Vec<u8>,
    pub privates: Vec<u8>,
    pub stop_word: AtomicU32,
}

impl Bench {
    pub fn new(source: &HandlerSource<'_>) -> Result<Self> {
        let program = Arc::new(compile(source)?);
        #[cfg(feature = "jit")]
        let jit = match jit::translate(&program) {
            Ok(code) => Some(jit::load(&code)?),
            Err(reason) => {
                assert!(source.text.len() > 10_000, "{reason}: {}", source.text);
                None
            }
        };
        Ok(Self {
            interpreter: Interpreter::new(program.clone()),
            #[cfg(feature = "jit")]
            jit,
            #[cfg(feature = "cuda")]
            host: super::cuda::host_handler(&program),
            state: vec![0; program.state_size() as usize],
            reply: vec![0; source.output.size as usize],
            privates: vec![0xaa; program.privates_size as usize],
            stop_word: AtomicU32::new(0),
            program,
        })
    }

    /// Every engine, the interpreter first.
    pub fn engines(&self) -> Vec<&dyn Executable> {
        #[cfg(feature = "jit")]
        if let Some(jit) = &self.jit {
            return vec![&self.interpreter, jit];
        }
        vec![&self.interpreter]
    }

    /// Runs a message on each engine, on copies.
    pub fn on_each<'s>(
        &self,
        message: &[u8],
        stop: &dyn Fn() -> StopCheck<'s>,
        mut check: impl FnMut(Outcome),
    ) {
        for engine in self.engines() {
            let (state, reply, privates) = (self.state.clone(), self.reply.clone(), self.privates.clone());
            check(Run { state, reply, privates, tables: Vec::new() }.on(engine, message, &stop()));
        }
    }

    /// Runs a message on every engine and compares what they give.
    pub fn run_with(&mut self, message: &[u8], tables: &[TableView]) -> Outcome {
        let before = Run {
            state: self.state.clone(),
            reply: self.reply.clone(),
            privates: self.privates.clone(),
            // SAFETY: a test's views are of slices that it does not touch until the run is over.
            tables: tables
                .iter()
                .map(|t| unsafe { std::slice::from_raw_parts(t.data, t.bytes) }.to_vec())
                .collect(),
        };
        let engines = self.engines();
        #[cfg(feature = "cuda")]
        let engines = engines.into_iter().chain(self.host.as_ref().map(|host| host as &dyn Executable));
        let mut results = engines.into_iter().map(|engine| {
            let mut run = before.clone();
            let outcome = run.on(engine, message, &StopCheck::new(&self.stop_word, &Limits::NONE));
            if outcome != Outcome::Done {
                assert_eq!(
                    run.state, before.state,
                    "the state was touched by a run that ended as {outcome:?}"
                );
            }
            (outcome, run)
        });
        let (outcome, run) = results.next().unwrap();
        for (other_outcome, other) in results {
            assert_eq!(other_outcome, outcome, "how the run ended");
            assert_same(&other.state, &run.state, "state");
            for (other, table) in other.tables.iter().zip(&run.tables) {
                assert_same(other, table, "table");
            }
            if outcome == Outcome::Done {
                assert_same(&other.reply, &run.reply, "reply");
                assert_same(&other.emitted(&self.program), &run.emitted(&self.program), "emitted values");
            }
        }
        for (view, table) in tables.iter().zip(&run.tables) {
            // SAFETY: as above.
            unsafe { std::slice::from_raw_parts_mut(view.data, view.bytes) }.copy_from_slice(table);
        }
        (self.state, self.reply, self.privates) = (run.state, run.reply, run.privates);
        outcome
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

/// All that a run changes.
#[derive(Clone)]
struct Run {
    state: Vec<u8>,
    reply: Vec<u8>,
    privates: Vec<u8>,
    tables: Vec<Vec<u8>>,
}

impl Run {
    fn on(&mut self, engine: &dyn Executable, message: &[u8], stop: &StopCheck<'_>) -> Outcome {
        let views = self.tables.iter_mut().map(|t| TableView { data: t.as_mut_ptr(), bytes: t.len() });
        let views: Vec<_> = views.collect();
        engine.run(Frame {
            message,
            state: &mut self.state,
            reply: &mut self.reply,
            privates: &mut self.privates,
            tables: &views,
            stop,
        })
    }

    /// The counts and values of all outputs.
    fn emitted(&self, program: &Program) -> Vec<u8> {
        let mut all = Vec::new();
        for slot in &program.emits {
            let at = slot.count_offset as usize;
            let count = self.privates[at..at + 4].to_vec();
            for item in 0..words(&count)[0] {
                let at = (slot.items_offset + item * slot.stride) as usize;
                all.extend(&self.privates[at..at + slot.size as usize]);
            }
            all.extend(count);
        }
        all
    }
}

/// Compares words; which bits a NaN has is nowhere defined.
fn assert_same(got: &[u8], wanted: &[u8], what: &str) {
    let same = |(got, wanted): (u32, u32)| {
        got == wanted || (f32::from_bits(got).is_nan() && f32::from_bits(wanted).is_nan())
    };
    let (got, wanted) = (words(got), words(wanted));
    assert!(
        got.len() == wanted.len() && got.iter().copied().zip(wanted.iter().copied()).all(same),
        "{what}: got {got:x?}, the interpreter gave {wanted:x?}"
    );
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
