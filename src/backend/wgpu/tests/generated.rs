//! Generated handlers on a device, in every shape they may have, against the interpreter.
//!
//! Only handlers without floats: of those every bit is decided. A float of one driver may differ from another's in its
//! last bits, and a condition then makes anything of it; floats are held against the published tables instead.

use super::kit::{End, Kernel, Launch, contents, device, table};
use crate::backend::{Device, Fault, Shape};
use crate::compile::generate::{
    Floats, GeneratedHandler, Step, Trace, check, count, regressions, run_instances, strategy,
};
use crate::compile::{FaultCode, Handler, Interpreter, Outcome};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Instances of a kernel that has some.
const INSTANCES: u32 = 3;
/// How often a handler's messages are sent: rounds with more than one workgroup, chains that are long.
const REPEATS: usize = 13;

/// A handler, compiled, and a shape that it may have.
struct Case<'a> {
    device: &'a dyn Device,
    handler: Arc<Handler>,
    generated: GeneratedHandler,
    shape: Shape,
}

/// Shapes that give the same results in any order, each with a name.
fn shapes(handler: &GeneratedHandler, compiled: &Handler) -> Vec<(&'static str, Shape)> {
    let program = &compiled.program;
    let is_free = program.tables.iter().all(|table| !table.writable);
    let mut shapes = vec![("serial", Shape::Serial)];
    if is_free && !program.has_state() {
        shapes.push(("stateless", Shape::Stateless));
    }
    let integer = handler.shapes.shape("In").leaves.into_iter().find(|leaf| !leaf.is_float);
    if let (true, true, Some(leaf)) = (is_free, program.has_state(), integer) {
        shapes.push(("instances", Shape::Instances { count: INSTANCES, field_offset: 4 * leaf.word }));
    }
    shapes
}

impl Case<'_> {
    fn instance(&self, message: &[u32]) -> usize {
        match self.shape {
            Shape::Instances { field_offset, .. } => message[field_offset as usize / 4] as usize,
            _ => 0,
        }
    }

    /// What the interpreter makes of the messages: each one's step, in their order, and of each instance the last.
    fn expected(&self) -> (Vec<Step>, Vec<Vec<u32>>) {
        let program = &self.handler.program;
        let count = if let Shape::Instances { count, .. } = self.shape { count as usize } else { 1 };
        let own = |message: &[u32]| self.instance(message);
        let interpreter = Interpreter::new(program.clone());
        let Trace(steps) = run_instances(&interpreter, program, &self.generated, count, own);
        let shape = self.generated.shapes.shape("State");
        let first = || match self.generated.state.as_slice() {
            [] => Vec::new(),
            state => shape.numbers(state),
        };
        let states = (0..count).map(|instance| {
            let mut last = steps.iter().zip(&self.generated.messages).rev();
            last.find(|(_, message)| own(message) == instance)
                .map_or_else(first, |(step, _)| step.state.clone())
        });
        let states = states.collect();
        (steps, states)
    }

    /// A message's end as the interpreter's trace would have it.
    fn step(&self, end: &End, expected: &Step) -> Result<Step, String> {
        let shapes = &self.generated.shapes;
        let outcome = match end.fault {
            None => Outcome::Done,
            Some(Fault::LoopBudget) => Outcome::Fault(FaultCode::LoopBudget),
            Some(Fault::EmitOverflow) => Outcome::Fault(FaultCode::EmitOverflow),
            ref other => return Err(format!("a message ends with {other:?}")),
        };
        let is_done = outcome == Outcome::Done;
        let emits = self.generated.outputs.iter().enumerate().map(|(output, (_, ty, _))| {
            let own = end.emits.iter().filter(|(number, _)| *number == output);
            own.flat_map(|(_, value)| shapes.shape(ty).numbers(value)).collect()
        });
        Ok(Step {
            outcome,
            reply: if is_done { shapes.shape("Out").numbers(&end.reply) } else { Vec::new() },
            emits: if is_done { emits.collect() } else { Vec::new() },
            // Looked at once all messages are through.
            state: expected.state.clone(),
            tables: expected.tables.clone(),
        })
    }

    fn run(&self) -> Result<(), String> {
        let generated = &self.generated;
        let shapes = &generated.shapes;
        let program = &self.handler.program;
        let first =
            |name: &str| generated.tables.iter().find(|(own, _)| own == name).expect("bound").1.clone();
        let tables: Vec<_> = program.tables.iter().map(|used| first(&used.name)).collect();
        let show = |error: crate::error::Error| error.to_string();
        let bound: Vec<_> =
            tables.iter().map(|words| table(self.device, words)).collect::<Result<_, _>>().map_err(show)?;
        let launch = Launch {
            handler: &self.handler,
            shape: self.shape,
            message_words: shapes.shape("In").words,
            reply_words: shapes.shape("Out").words,
            state: &generated.state,
            tables: bound.clone(),
        };
        let mut kernel = Kernel::launch(self.device, launch).map_err(show)?;
        let (expected, states) = self.expected();
        // One message, a few, the rest: a kernel's rounds follow each other.
        let messages = &generated.messages;
        let cuts = [0, 1.min(messages.len()), 7.min(messages.len()), messages.len()];
        let mut got = Vec::new();
        for cut in cuts.windows(2) {
            got.extend(kernel.run(&messages[cut[0]..cut[1]])?);
        }
        let got = got.iter().zip(&expected).map(|(end, expected)| self.step(end, expected));
        let mut got = Trace(got.collect::<Result<_, _>>()?);
        let expected = Trace(expected);
        if let Some(difference) = expected.difference(&got) {
            return Err(difference);
        }
        // What is left: each instance's state, and the tables.
        let Some(last) = got.0.last_mut() else { return Ok(()) };
        for ((bound, words), (shape, own)) in bound.iter().zip(&tables).zip(shapes.tables.iter().zip(0..)) {
            let found = contents(&**bound, words.len()).map_err(show)?;
            let elements = found.chunks_exact(shape.element.words as usize);
            last.tables[own] = elements.flat_map(|words| shape.element.numbers(words)).collect();
        }
        if let Some(difference) = expected.difference(&got) {
            return Err(format!("after all messages: {difference}"));
        }
        let found = kernel.states();
        let shape = shapes.shape("State");
        for (instance, expected) in states.iter().enumerate().filter(|(_, state)| !state.is_empty()) {
            let words = generated.state.len();
            let found = shape.numbers(&found[instance * words..][..words]);
            if found != *expected {
                return Err(format!("the state of instance {instance} is {found:x?}, not {expected:x?}"));
            }
        }
        Ok(())
    }
}

/// Runs a handler in every shape; counts what it ran.
fn compare(
    device: &dyn Device,
    generated: &GeneratedHandler,
    counts: &RefCell<BTreeMap<&'static str, usize>>,
) -> Result<(), String> {
    let program = generated.compile().map_err(|error| format!("it was refused: {error}"))?;
    let handler = Arc::new(Handler::new(program, None));
    for (name, shape) in shapes(generated, &handler) {
        let mut generated = generated.clone();
        let sent = REPEATS * generated.messages.len();
        generated.messages = generated.messages.iter().cycle().take(sent).cloned().collect();
        if let Shape::Instances { field_offset, .. } = shape {
            let messages = (0u32..).zip(&mut generated.messages);
            messages.for_each(|(number, message)| {
                message[field_offset as usize / 4] = number * 7 / 5 % INSTANCES
            });
        }
        let case = Case { device, handler: handler.clone(), generated, shape };
        case.run().map_err(|why| format!("{name}: interpreter and device differ: {why}"))?;
        let mut counts = counts.borrow_mut();
        *counts.entry(name).or_default() += 1;
        *counts.entry("messages").or_default() += sent;
    }
    Ok(())
}

#[test]
fn generated_handlers_agree_with_the_interpreter() {
    if device().is_none() {
        return;
    }
    let counts = RefCell::default();
    let test = |handler: &GeneratedHandler| {
        let device = device().expect("it was there a moment ago");
        compare(&*device, handler, &counts)
    };
    for (name, handler) in regressions().filter(|(_, handler)| !handler.text.contains("f32")) {
        test(&handler).unwrap_or_else(|why| panic!("{name}: {why}\n{handler:?}"));
    }
    let handlers = count(300);
    check("wgpu", &strategy(Floats::None), handlers, test);
    println!("{handlers} handlers: {:?}", counts.borrow());
}
