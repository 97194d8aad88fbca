//! Calls of the entry for batches.

use super::machine_code::Sizes;
use super::runtime::{BatchRun, Context, Fixed};
use super::{BatchEntry, translate};
use crate::compile::{Batch, BatchEnd, Ending, FaultCode, Limits, Places, StopCheck};
use std::sync::atomic::{AtomicU32, AtomicUsize};

/// Runs a batch by machine code.
///
/// # Panics
///
/// If something is not there that the batch says is there, if its rings or states are not those that the handler was
/// compiled for, or if an instance is out of range.
///
/// # Safety
///
/// The entry was made by this library for the handler whose messages, state, reply, private segment and tables are
/// known to be large enough; `fixed` belongs to it.
pub(super) unsafe fn run(
    entry: BatchEntry,
    needs_replay: bool,
    fixed: &Fixed,
    sizes: &Sizes,
    batch: &mut Batch<'_>,
) -> BatchEnd {
    let most = batch.count().checked_mul(1 + sizes.emits as usize);
    let instances = batch.states.len().checked_div(batch.state_size).unwrap_or(0);
    assert!(
        most.is_some_and(|most| most <= batch.output.free()) && (batch.state_size == 0 || instances > 0),
        "a batch is too large for its rings or states"
    );
    // The slots of the messages are looked at below.
    let (input, output) = (batch.input.filled(), batch.output.vacant());
    assert!(
        input.stride == sizes.input_slot as usize
            && output.stride == sizes.output_slot as usize
            && batch.state_size == sizes.state as usize
            && sizes.instance_at.is_none_or(|at| at + 4 <= sizes.message)
            && (batch.state_size == 0 || batch.instance_at == sizes.instance_at.map(|at| at as usize)),
        "a batch's rings or states are not those that its handler was compiled for"
    );
    let nobody = AtomicUsize::new(0);
    let mut run = BatchRun {
        context: Context { fixed, stop: std::ptr::from_ref(batch.stop).cast(), must_stop: 0 },
        stop_word: batch.stop.word_address(),
        waiting: batch.waiting.unwrap_or(&nobody),
        last_waiting: 0,
        input: input.base,
        input_mask: input.mask.into(),
        input_next: 0,
        input_end: 0,
        states: batch.states.as_mut_ptr(),
        output: output.base,
        output_mask: output.mask.into(),
        output_next: output.first.into(),
        privates: batch.privates.as_mut_ptr(),
        tables: batch.tables.as_ptr(),
        stop_at: batch.stop_at,
        first_instance: batch.first_instance as u32,
        instances: instances as u32,
    };
    let mut checkpoint = needs_replay.then(Checkpoint::default);
    let mut completed = 0;
    let why = loop {
        let (place, count, last) =
            piece(batch, completed, if needs_replay { MOST_REPLAYED } else { usize::MAX });
        if let Some(checkpoint) = &mut checkpoint {
            checkpoint.take(batch, place, count);
        }
        let first = u64::from(input.first) + place as u64;
        (run.input_next, run.input_end) = (first, first + count as u64);
        run.last_waiting = (first + (batch.input.len() - completed) as u64).wrapping_sub(1);
        run.states = batch.states.as_mut_ptr();
        let before = run;
        // SAFETY: the entry fits the handler (the caller). The slots from `place` on are filled and have room for a
        // message; those to fill are free, enough for all that comes out of `count` messages, and exclusively
        // borrowed with their ring, as are the states and the private segment. An instance is compared with how many
        // there are. All pointers are to what `batch` borrows, or to `nobody` and `run` here.
        let mut code = unsafe { entry(&mut run) };
        if let Some(checkpoint) = &checkpoint
            && is_failure(code)
        {
            // SAFETY: as above, with the same run.
            code = unsafe { replay(entry, checkpoint, batch, before, &mut run, code) };
        }
        let handled = (run.input_next - first) as usize;
        completed += handled;
        match code {
            translate::DONE if last && handled == count => break Ending::Last,
            translate::DONE if completed == batch.count() => break Ending::Finished,
            translate::DONE => {}
            translate::INTERRUPTED => break Ending::Interrupted,
            translate::STOPPED => break Ending::Stopped,
            translate::NO_INSTANCE => panic!("a message is for an instance that is not there"),
            code => break Ending::Fault(FaultCode::of(code)),
        }
    };
    batch.output.advance((run.output_next - u64::from(output.first)) as usize);
    BatchEnd { completed, why }
}

/// Did the message in hand perhaps change its state and then not come to its end?
fn is_failure(code: u32) -> bool {
    ![translate::DONE, translate::STOPPED, translate::NO_INSTANCE].contains(&code)
}

/// Most messages that are run again if one behind them fails; those that take long are never among them. Each costs
/// its share of one copy of the state instead of a copy of its own.
const MOST_REPLAYED: usize = 64;

/// The states that some messages are for, as they were before the first of them.
#[derive(Default)]
struct Checkpoint {
    /// Where each is among the states.
    places: Vec<usize>,
    bytes: Vec<u8>,
}

impl Checkpoint {
    fn take(&mut self, batch: &Batch<'_>, place: usize, count: usize) {
        self.places.clear();
        self.bytes.clear();
        let mut add = |at: usize| {
            self.places.push(at);
            self.bytes.extend_from_slice(&batch.states[at..at + batch.state_size]);
        };
        match batch.instance_at {
            None => add(0),
            Some(at) => (place..place + count).for_each(|place| {
                let message = batch.input.get(place).1;
                let number: [u8; 4] = message[at..at + 4].try_into().expect("four bytes");
                add((u32::from_ne_bytes(number) as usize - batch.first_instance) * batch.state_size);
            }),
        }
    }

    fn put_back(&self, batch: &mut Batch<'_>) {
        // A state that is there twice is so with the same bytes.
        for (at, bytes) in self.places.iter().zip(self.bytes.chunks_exact(batch.state_size)) {
            batch.states[*at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// Undoes what a message did that is not handled to its end, with the code `code`: the states are put back, and the
/// messages before it run again. Then `run` says how far, and the result how that ended: as before, unless another
/// kernel changed a table meanwhile and another message fails, or none does.
///
/// # Safety
///
/// The entry may be called with `before`.
unsafe fn replay(
    entry: BatchEntry,
    checkpoint: &Checkpoint,
    batch: &mut Batch<'_>,
    before: BatchRun,
    run: &mut BatchRun,
    mut code: u32,
) -> u32 {
    // It is short, and must not be stopped: that would need a replay.
    static NEVER: AtomicU32 = AtomicU32::new(0);
    let (never, nobody) = (StopCheck::new(&NEVER, &Limits::NONE), AtomicUsize::new(0));
    let mut end = run.input_next;
    loop {
        checkpoint.put_back(batch);
        *run = before;
        run.context.stop = std::ptr::from_ref(&never).cast();
        (run.stop_word, run.waiting) = (&NEVER, &nobody);
        run.states = batch.states.as_mut_ptr();
        run.input_end = end;
        // SAFETY: `before` with fewer messages; the other pointers are to what lives here.
        let again = unsafe { entry(run) };
        let (context, stop_word, waiting) = (before.context, before.stop_word, before.waiting);
        (run.context, run.stop_word, run.waiting) = (context, stop_word, waiting);
        if !is_failure(again) {
            // Fewer than before: those behind them have not begun, as far as anyone can see.
            let is_less = run.input_next < end && code != translate::INTERRUPTED;
            return if is_less { translate::DONE } else { code };
        }
        (code, end) = (again, run.input_next);
    }
}

/// The messages from number `begin` on that lie behind each other in the ring, but not more than `most`: the first
/// one's place, how many, and whether the last of them ends the batch.
fn piece(batch: &Batch<'_>, begin: usize, most: usize) -> (usize, usize, bool) {
    let (place, count) = match batch.places {
        Places::First(count) => (begin, (count - begin).min(most)),
        Places::Listed(places) => {
            let rest = &places[begin..];
            let first = rest.first().map_or(0, |place| *place as usize);
            let neighbours = (first..).zip(rest).take_while(|(next, place)| *next == **place as usize);
            (first, neighbours.take(most).count())
        }
    };
    assert!(place + count <= batch.input.len(), "a batch has more messages than there are");
    // Cheaper here than a question behind each message: most batches have no last one, and those end with it.
    let last = batch.last.and_then(|last| (0..count).find(|i| batch.input.get(place + i).0.token == last));
    (place, last.map_or(count, |last| last + 1), last.is_some())
}
