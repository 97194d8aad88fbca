//! What a series of messages does, as data that two engines can be compared by.

use super::handler::GeneratedHandler;
use super::shapes::Shape;
use crate::compile::tests::words;
use crate::compile::{Executable, Frame, Limits, Outcome, Program, StopCheck, TableView};
use std::sync::atomic::AtomicU32;

/// What one message did. Numbers are in the order of the type's scalars, every NaN with the same bits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub outcome: Outcome,
    /// Nothing unless the handler is done.
    pub reply: Vec<u32>,
    /// For each output, its values one after the other.
    pub emits: Vec<Vec<u32>>,
    /// After the message: as before it unless the handler is done.
    pub state: Vec<u32>,
    pub tables: Vec<Vec<u32>>,
}

/// What a series of messages did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trace(pub Vec<Step>);

impl Trace {
    /// Where another trace differs first.
    pub fn difference(&self, other: &Self) -> Option<String> {
        for (number, (a, b)) in self.0.iter().zip(&other.0).enumerate() {
            let at = |part: &str, a: &[u32], b: &[u32]| {
                let word = (0..a.len().max(b.len())).find(|i| a.get(*i) != b.get(*i))?;
                let show = |words: &[u32]| {
                    words
                        .get(word)
                        .map_or("nothing".to_string(), |w| format!("{w:#x} ({})", f32::from_bits(*w)))
                };
                Some(format!("message {number}: number {word} of {part} is {} or {}", show(a), show(b)))
            };
            if a.outcome != b.outcome {
                return Some(format!("message {number} ends with {:?} or {:?}", a.outcome, b.outcome));
            }
            let lists = a.emits.iter().zip(&b.emits).map(|(a, b)| ("an output", a, b));
            let tables = a.tables.iter().zip(&b.tables).map(|(a, b)| ("a table", a, b));
            let all = [("the reply", &a.reply, &b.reply), ("the state", &a.state, &b.state)];
            if let Some(found) = all.into_iter().chain(lists).chain(tables).find_map(|(p, a, b)| at(p, a, b))
            {
                return Some(found);
            }
        }
        (self.0.len() != other.0.len()).then(|| "one series is longer".to_string())
    }
}

/// What a handler's messages work on.
pub(super) struct Scene<'h> {
    handler: &'h GeneratedHandler,
    pub reply: Shape,
    pub emits: Vec<Shape>,
    pub state: Vec<u32>,
    pub privates: Vec<u32>,
    tables: Vec<Vec<u32>>,
}

impl<'h> Scene<'h> {
    pub fn new(program: &Program, handler: &'h GeneratedHandler) -> Self {
        let table_of = |name: &str| handler.tables.iter().find(|(own, _)| own == name);
        let tables = program.tables.iter();
        Self {
            handler,
            reply: handler.shapes.shape("Out"),
            emits: handler.outputs.iter().map(|(_, ty, _)| handler.shapes.shape(ty)).collect(),
            state: handler.state.clone(),
            privates: vec![0xaaaa_aaaa; program.privates_size as usize / 4],
            tables: tables.map(|used| table_of(&used.name).map_or(Vec::new(), |t| t.1.clone())).collect(),
        }
    }

    pub fn views(&mut self) -> Vec<TableView> {
        let tables = self.tables.iter_mut();
        tables.map(|table| TableView { data: table.as_mut_ptr().cast(), bytes: 4 * table.len() }).collect()
    }

    pub fn state_numbers(&self) -> Vec<u32> {
        self.instance_numbers(0)
    }

    /// … of one instance, where there are several.
    pub fn instance_numbers(&self, instance: usize) -> Vec<u32> {
        let words = self.handler.state.len();
        let numbers = || {
            let state = &self.state[instance * words..][..words];
            self.handler.shapes.shape("State").numbers(state)
        };
        if words == 0 { Vec::new() } else { numbers() }
    }

    pub fn table_numbers(&self, views: &[TableView]) -> Vec<Vec<u32>> {
        let tables = views.iter().zip(&self.handler.shapes.tables);
        tables.map(|(view, shape)| contents(view, &shape.element)).collect()
    }
}

/// Sends the messages of a handler through an engine, as a serial kernel would.
pub(crate) fn run_series(engine: &dyn Executable, program: &Program, handler: &GeneratedHandler) -> Trace {
    let mut scene = Scene::new(program, handler);
    let views = scene.views();
    let stop_word = AtomicU32::new(0);
    let mut steps = Vec::new();
    for message in &handler.messages {
        let mut copy = scene.state.clone();
        let mut reply = vec![0u32; scene.reply.words as usize];
        let stop = StopCheck::new(&stop_word, &Limits::NONE);
        let outcome = engine.run(Frame {
            message: bytemuck::cast_slice(message),
            state: bytemuck::cast_slice_mut(&mut copy),
            reply: bytemuck::cast_slice_mut(&mut reply),
            privates: bytemuck::cast_slice_mut(&mut scene.privates),
            tables: &views,
            stop: &stop,
        });
        let is_done = outcome == Outcome::Done;
        if is_done {
            scene.state = copy;
        }
        let emits = program.emits.iter().zip(&scene.emits).map(|(slot, shape)| {
            let count = scene.privates[slot.count_offset as usize / 4];
            let item = |i| &scene.privates[((slot.items_offset + slot.stride * i) / 4) as usize..];
            (0..count).flat_map(|i| shape.numbers(item(i))).collect()
        });
        steps.push(Step {
            outcome,
            reply: if is_done { scene.reply.numbers(&reply) } else { Vec::new() },
            emits: if is_done { emits.collect() } else { Vec::new() },
            state: scene.state_numbers(),
            tables: scene.table_numbers(&views),
        });
    }
    Trace(steps)
}

/// … as a kernel with so many instances would: the messages of each to a state of its own.
pub(crate) fn run_instances(
    engine: &dyn Executable,
    program: &Program,
    handler: &GeneratedHandler,
    count: usize,
    instance: impl Fn(&[u32]) -> usize,
) -> Trace {
    let mut steps: Vec<_> = handler.messages.iter().map(|_| None).collect();
    for number in 0..count {
        let mut own = handler.clone();
        own.messages.retain(|message| instance(message) == number);
        let mut series = run_series(engine, program, &own).0.into_iter();
        for (step, message) in steps.iter_mut().zip(&handler.messages) {
            if instance(message) == number {
                *step = series.next();
            }
        }
    }
    Trace(steps.into_iter().map(|step| step.expect("every message has an instance")).collect())
}

/// The numbers of a table's elements.
fn contents(view: &TableView, element: &Shape) -> Vec<u32> {
    // SAFETY: the view is of a vector that outlives the run, and no engine runs now.
    let bytes = unsafe { std::slice::from_raw_parts(view.data, view.bytes) };
    words(bytes).chunks_exact(element.words as usize).flat_map(|words| element.numbers(words)).collect()
}
