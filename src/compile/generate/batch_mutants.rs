//! Planted bugs in batches: engines that are right message by message and wrong from ring to ring.

use super::batches::batch_difference;
use super::{Floats, check, run_series, strategy};
use crate::compile::{Batch, BatchEnd, Ending, Executable, Frame, Interpreter, Outcome};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    /// A message that faults leaves its state changed.
    KeepsFaultyState,
    /// The messages before one that faults run twice.
    RepeatsBeforeFault,
    /// So do the messages before one that faults, as to the state: it is as before the batch.
    ForgetsBeforeFault,
    /// Every message gives one slot: its reply, or what it emitted first.
    DropsReplies,
    /// Slots have the token of the batch's first message.
    WrongToken,
    /// The message in hand is said to wait.
    CountsBegun,
    /// A fault ends the batch as its end does.
    HidesFault,
    /// The last message is left out.
    OneShort,
}

const BUGS: [Bug; 8] = [
    Bug::KeepsFaultyState,
    Bug::RepeatsBeforeFault,
    Bug::ForgetsBeforeFault,
    Bug::DropsReplies,
    Bug::WrongToken,
    Bug::CountsBegun,
    Bug::HidesFault,
    Bug::OneShort,
];

struct Wrong {
    right: Interpreter,
    bug: Bug,
}

impl Executable for Wrong {
    fn run(&self, frame: Frame<'_>) -> Outcome {
        self.right.run(frame)
    }

    fn run_batch(&self, batch: &mut Batch<'_>) -> BatchEnd {
        let before = batch.states.to_vec();
        let (waiting, free) = (batch.waiting, batch.output.free());
        let first = if batch.input.len() > 0 { batch.input.get(0).0.token } else { 0 };
        if self.bug == Bug::OneShort
            && let crate::compile::Places::First(count) = &mut batch.places
        {
            *count -= 1;
        }
        let mut end = self.right.run_batch(batch);
        let is_fault = matches!(end.why, Ending::Fault(_));
        let filled = free - batch.output.free();
        match self.bug {
            Bug::KeepsFaultyState if is_fault => batch.states.iter_mut().for_each(|byte| *byte ^= 1),
            Bug::RepeatsBeforeFault if is_fault && end.completed > 0 => {
                batch.places = crate::compile::Places::First(end.completed);
                batch.waiting = None;
                if batch.output.free() >= filled {
                    self.right.run_batch(batch);
                }
            }
            Bug::ForgetsBeforeFault if is_fault => batch.states.copy_from_slice(&before),
            Bug::DropsReplies if filled > end.completed => batch.output.consume(filled - end.completed),
            Bug::WrongToken => {
                let slots: Vec<_> = (0..filled)
                    .map(|i| {
                        let (header, payload) = batch.output.get(batch.output.len() - filled + i);
                        (header.kind, payload[..header.len as usize].to_vec())
                    })
                    .collect();
                batch.output.clear();
                slots.iter().for_each(|(kind, payload)| batch.output.push(first, *kind, payload));
            }
            Bug::CountsBegun => {
                if let Some(waiting) = waiting {
                    waiting.fetch_add(1, Ordering::Relaxed);
                }
            }
            Bug::HidesFault if is_fault => end.why = Ending::Finished,
            _ => {}
        }
        end
    }
}

#[test]
fn planted_bugs_of_batches_are_found() {
    const HANDLERS: u32 = 500;
    let missed = RefCell::new(BUGS.to_vec());
    check("batch-mutants", &strategy(Floats::All), HANDLERS, |handler| {
        if missed.borrow().is_empty() {
            return Ok(());
        }
        let program = Arc::new(handler.compile().map_err(|error| error.to_string())?);
        let expected = run_series(&Interpreter::new(program.clone()), &program, handler);
        missed.borrow_mut().retain(|bug| {
            let wrong = Wrong { right: Interpreter::new(program.clone()), bug: *bug };
            batch_difference(&wrong, &program, handler, &expected).is_none()
        });
        Ok(())
    });
    assert!(missed.borrow().is_empty(), "not found in {HANDLERS} handlers: {:?}", missed.borrow());
}
