//! The same messages in batches: from ring to ring, in which they lie across the end, and on behind those that fault.

use super::handler::GeneratedHandler;
use super::trace::{Scene, Trace};
use crate::compile::{
    Batch, BatchEnd, Ending, Executable, Limits, Outcome, Places, Program, STOP_AFTER_MESSAGE, StopCheck,
};
use crate::message::Token;
use crate::wire::{KIND_EMIT, KIND_MESSAGE, KIND_REPLY, SlotRing};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Sizes of batches, again and again.
const SIZES: [usize; 4] = [4, 1, 3, 2];

/// The token of a message.
fn token(number: usize) -> Token {
    0x1234_5678_0000_0000 + number as Token * 3
}

/// Instances of a kernel that has some, and the number that the first of them is given.
pub(crate) const INSTANCES: usize = 3;
const FIRST_INSTANCE: usize = 5;

/// The handler with messages for several instances, and the byte where their numbers are; `None` if it has no state, or
/// no place for a number, or tables by which an instance sees what another one does.
pub(crate) fn with_instances(
    program: &Program,
    handler: &GeneratedHandler,
) -> Option<(GeneratedHandler, u32)> {
    let is_free = program.tables.iter().all(|table| !table.writable);
    if !is_free || !program.has_state() || handler.state.is_empty() {
        return None;
    }
    let leaf = handler.shapes.shape("In").leaves.into_iter().find(|leaf| !leaf.is_float)?;
    let mut handler = handler.clone();
    for message in &mut handler.messages {
        let number = &mut message[leaf.word as usize];
        *number = (FIRST_INSTANCE + *number as usize % INSTANCES) as u32;
    }
    Some((handler, 4 * leaf.word))
}

/// Which instance a message is for.
pub(crate) fn instance(program: &Program, message: &[u32]) -> usize {
    program.instance_at.map_or(0, |at| message[at as usize / 4] as usize - FIRST_INSTANCE)
}

/// Sends the messages of a handler through an engine in batches, and says where that is not what they did one by one.
pub(crate) fn batch_difference(
    engine: &dyn Executable,
    program: &Program,
    handler: &GeneratedHandler,
    expected: &Trace,
) -> Option<String> {
    let mut scene = Scene::new(program, handler);
    let instance_at = program.instance_at.map(|at| at as usize);
    if instance_at.is_some() {
        scene.state = handler.state.repeat(INSTANCES);
    }
    let views = scene.views();
    let slots = 1 + program.emits.iter().map(|emit| emit.max).sum::<u32>();
    let longest = program.emits.iter().map(|emit| emit.size).max().unwrap_or(0).max(4 * scene.reply.words);
    let message_size = 4 * handler.messages.first()?.len();
    let mut input = SlotRing::new(4, message_size as u32);
    let mut output = SlotRing::new(4 * slots, longest);
    // So that neither begins at its first slot.
    for _ in 0..3 {
        input.push(0, KIND_MESSAGE, &[]);
        input.consume(1);
        output.push(0, KIND_MESSAGE, &[]);
        output.consume(1);
    }
    let (word, waiting) = (AtomicU32::new(0), AtomicUsize::new(0));
    let (mut pushed, mut done, mut sizes) = (0, 0, SIZES.iter().cycle());
    while done < handler.messages.len() {
        while input.free() > 0 && pushed < handler.messages.len() {
            input.push(token(pushed), KIND_MESSAGE, bytemuck::cast_slice(&handler.messages[pushed]));
            pushed += 1;
        }
        let count = input.len().min(*sizes.next()?);
        let end = engine.run_batch(&mut Batch {
            input: &input,
            places: Places::First(count),
            message_size,
            state_size: program.state_size() as usize,
            states: bytemuck::cast_slice_mut(&mut scene.state),
            first_instance: if instance_at.is_some() { FIRST_INSTANCE } else { 0 },
            instance_at,
            reply_size: 4 * scene.reply.words as usize,
            emits: &program.emits,
            output: &mut output,
            privates: bytemuck::cast_slice_mut(&mut scene.privates),
            tables: &views,
            stop: &StopCheck::new(&word, &Limits::NONE),
            stop_at: STOP_AFTER_MESSAGE,
            waiting: Some(&waiting),
            last: None,
        });
        let first = done;
        let at = |what: String| Some(format!("messages {first} to {}, in a batch: {what}", first + count));
        let steps = &expected.0[done..done + count];
        let good = steps.iter().take_while(|step| step.outcome == Outcome::Done).count();
        let why = match steps.get(good).map(|step| step.outcome) {
            Some(Outcome::Fault(code)) => Ending::Fault(code),
            _ => Ending::Finished,
        };
        if end != (BatchEnd { completed: good, why }) {
            return at(format!("ended as {end:?} and not as {good}, {why:?}"));
        }
        let begun = good + usize::from(good < count);
        let left = waiting.load(Ordering::Relaxed);
        if left != input.len() - begun {
            return at(format!("{left} are said to wait, but {} do", input.len() - begun));
        }
        for (number, step) in steps[..good].iter().enumerate() {
            let mut wanted: Vec<(u32, Vec<u32>)> = Vec::new();
            for ((kind, shape), values) in (KIND_EMIT..).zip(&scene.emits).zip(&step.emits) {
                wanted.extend(values.chunks(shape.leaves.len()).map(|value| (kind, value.to_vec())));
            }
            wanted.push((KIND_REPLY, step.reply.clone()));
            for (kind, numbers) in wanted {
                if output.len() == 0 {
                    return at("slots are missing".to_string());
                }
                let (header, payload) = output.get(0);
                let shape = match kind {
                    KIND_REPLY => &scene.reply,
                    kind => &scene.emits[(kind - KIND_EMIT) as usize],
                };
                let words = crate::compile::tests::words(payload);
                let is_same = header.token == token(done + number)
                    && header.kind == kind
                    && header.len == 4 * shape.words
                    && shape.numbers(&words) == numbers;
                if !is_same {
                    let given = format!("{header:?} with {words:x?}");
                    return at(format!("message {number} gave {given}, wanted {kind} with {numbers:x?}"));
                }
                output.consume(1);
            }
        }
        if output.len() > 0 {
            return at("there are too many slots".to_string());
        }
        done += begun;
        input.consume(begun);
        let last = &expected.0[done - 1];
        for number in 0..instance_at.map_or(1, |_| INSTANCES) {
            let own = |n: &usize| instance(program, &handler.messages[*n]) == number;
            let Some(last) = (0..done).rev().find(own) else { continue };
            let (state, wanted) = (scene.instance_numbers(number), &expected.0[last].state);
            if state != *wanted {
                return at(format!("the state of instance {number} is {state:x?}, wanted {wanted:x?}"));
            }
        }
        if scene.table_numbers(&views) != last.tables {
            return at("the tables differ".to_string());
        }
    }
    None
}
