//! The slot protocol under load: messages of many sizes in batches of any length, in every shape at once, each answer
//! compared with what the host computes. A torn, stale, lost, doubled or reordered slot shows as a wrong answer.

use crate::report::Report;
use crate::{PATIENCE, Random, active};
use ringwork::{DeviceMessage, Handle, RingKernel, Runtime, message};
use std::time::Instant;

message! {
    /// The smallest message.
    pub struct Word { pub value: u32 }
}
message! {
    /// 64 bytes.
    pub struct Line { pub to: u32, pub words: [u32; 15] }
}
message! {
    /// 4 KiB.
    pub struct Page { pub words: [u32; 1024] }
}
message! {
    /// A running hash, and of how many messages.
    pub struct Hash { pub hash: u32, pub count: u32 }
}

const STEP: &str = "fn step(h: u32, w: u32) -> u32 { return (h ^ w) * 16777619u; }\n";
const WORD: &str = "fn on_message(m: Word) -> Word { return Word(step(7u, m.value)); }";
const PAGE: &str = "fn on_message(m: Page) -> Page {
    var r: Page;
    var h = 7u;
    for (var i = 0u; i < 1024u; i++) { h = step(h, m.words[i]); r.words[i] = h; }
    return r;
}";
const LINE: &str = "fn on_message(m: Line, s: ptr<function, Hash>) -> Hash {
    var h = step((*s).hash, m.to);
    for (var i = 0u; i < 15u; i++) { h = step(h, m.words[i]); }
    (*s).hash = h;
    (*s).count += 1u;
    return *s;
}";

fn step(hash: u32, word: u32) -> u32 {
    (hash ^ word).wrapping_mul(16_777_619)
}

fn line(number: u64, instances: u32) -> Line {
    let mut random = Random::new(number);
    Line { to: random.word() % instances, words: std::array::from_fn(|_| random.word()) }
}

fn page(number: u64) -> Page {
    let mut random = Random::new(number);
    Page { words: std::array::from_fn(|_| random.word()) }
}

/// What a line does to a state.
fn take(state: &mut Hash, line: &Line) -> Hash {
    state.hash = line.words.iter().fold(step(state.hash, line.to), |hash, word| step(hash, *word));
    state.count += 1;
    *state
}

/// Sends `count` messages in batches of any length up to `most`, and compares the answers; now and then the kernel rests.
fn drive<In: DeviceMessage, Out: DeviceMessage + PartialEq + std::fmt::Debug>(
    kernel: &Handle<In, Out>,
    (count, most): (u64, u32),
    make: impl Fn(u64) -> In,
    mut expect: impl FnMut(u64, &In) -> Out,
) -> Result<(), String> {
    let failed = |error: ringwork::Error| format!("{}: {error}", kernel.name());
    let mut random = Random::new(count);
    let mut next = 0;
    while next < count {
        // Mostly short ones: they end in the middle of laps.
        let length = match random.word() % 4 {
            0 => 1,
            1 | 2 => 1 + random.word() % 40,
            _ => 1 + random.word() % most,
        };
        let end = count.min(next + u64::from(length));
        let messages: Vec<_> = (next..end).map(&make).collect();
        let answers = kernel.ask_many(messages.iter().copied(), PATIENCE).map_err(failed)?;
        for ((number, message), answer) in (next..).zip(&messages).zip(&answers) {
            let wanted = expect(number, message);
            if wanted != *answer {
                return Err(format!(
                    "{}: message {number} is answered with {answer:?}, not {wanted:?}",
                    kernel.name()
                ));
            }
        }
        if answers.len() as u64 != end - next {
            return Err(format!("{}: {} answers to {} messages", kernel.name(), answers.len(), end - next));
        }
        next = end;
        if random.word().is_multiple_of(500) {
            kernel.deactivate().map_err(failed)?;
            kernel.activate().map_err(failed)?;
        }
    }
    let books = kernel.telemetry();
    if (books.accepted, books.handled, books.pending) != (count, count, 0) {
        return Err(format!("{}: the books do not hold: {books:?}", kernel.name()));
    }
    kernel.terminate(PATIENCE).map(drop).map_err(failed)
}

pub fn run(runtime: &Runtime, messages: u64, report: &mut Report) -> Result<(), String> {
    const INSTANCES: u32 = 1000;
    let zero = Hash { hash: 0, count: 0 };
    let text = |handler: &str| format!("{STEP}{handler}");
    let capacity = 1 << 13;
    let word = active(runtime, RingKernel::<Word, Word>::wgsl("word", text(WORD)).queue_capacity(capacity))?;
    let page_kernel = active(runtime, RingKernel::<Page, Page>::wgsl("page", text(PAGE)).queue_capacity(64))?;
    let serial = RingKernel::<Line, Hash>::wgsl("serial", text(LINE)).initial_state(zero);
    let serial = active(runtime, serial.queue_capacity(capacity))?;
    let many =
        RingKernel::<Line, Hash>::wgsl("instances", text(LINE)).initial_state(zero).instances(INSTANCES);
    let many = active(runtime, many.queue_capacity(capacity))?;
    let pages = messages / 100;
    let each = (messages - pages) / 3;
    let words = messages - pages - 2 * each;
    let begun = Instant::now();
    let ends = std::thread::scope(|scope| {
        let tasks = [
            scope.spawn(move || {
                let make = |number: u64| Word { value: Random::new(number).word() };
                drive(&word, (words, 5000), make, |_, m| Word { value: step(7, m.value) })
            }),
            scope.spawn(move || {
                drive(&page_kernel, (pages, 100), page, |_, m| {
                    let mut hash = 7;
                    Page {
                        words: m.words.map(|word| {
                            hash = step(hash, word);
                            hash
                        }),
                    }
                })
            }),
            scope.spawn(move || {
                let mut state = zero;
                drive(&serial, (each, 5000), |number| line(number, 7), move |_, m| take(&mut state, m))
            }),
            scope.spawn(move || {
                let mut states = vec![zero; INSTANCES as usize];
                let expect = move |_, m: &Line| take(&mut states[m.to as usize], m);
                drive(&many, (each, 5000), |number| line(number, INSTANCES), expect)
            }),
        ];
        tasks.map(|task| task.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
    });
    let wrong: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
    report.heading("Torture of the slot protocol", &[]);
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    let seconds = begun.elapsed().as_secs();
    report.line(format!(
        "* {messages} messages of 4, 64 and 4,096 bytes, stateless, serial and to {INSTANCES} instances, in {seconds} s: \
         none torn, lost, doubled, reordered or wrong"
    ));
    Ok(())
}
