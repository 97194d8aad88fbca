//! Every engine on six realistic handlers: that they do what their twins in Rust do, and how long they take.
//!
//! ```text
//! cargo test --release --lib -- --ignored --nocapture engine_speed
//! ```
//!
//! An engine is timed as a port runs it: one call for a batch of messages that are in a ring, and all that comes out
//! goes into another ring, each reply and value with its header. The twin is inlined into a loop over a vector of the
//! same messages, and what it returns and emits is handed on and forgotten: so the engine does more. The twin between
//! rings does as much as the engine.

#[path = "../../tests/realistic/mod.rs"]
pub(super) mod realistic;

use super::generate::engines;
use super::tests::words;
use super::{
    Batch, BatchEnd, Ending, Executable, Frame, HandlerSource, Limits, Outcome, OutputDecl, Places, Program,
    STOP_AFTER_MESSAGE, StopCheck, TableDecl, TableView, compile,
};
use crate::message::DeviceMessage;
use crate::wire::{KIND_EMIT, KIND_MESSAGE, KIND_REPLY, SlotHeader, SlotRing, Slots};
use realistic::{Fir, Fraud, KMeans, MonteCarlo, OrderBook, PageRank, Realistic, Table};
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What an engine needs to run one of the handlers.
struct Scene<R: Realistic> {
    program: Arc<Program>,
    messages: Vec<R::In>,
    tables: Vec<Table>,
    /// Of each instance.
    states: Vec<R::State>,
    privates: Vec<u32>,
    /// The messages again, as a port has them, and what takes all that comes out of them.
    input: SlotRing,
    output: SlotRing,
    handler: PhantomData<R>,
}

fn instance_at<R: Realistic>() -> Option<u32> {
    R::INSTANCES.map(|(_, field)| {
        let field = R::In::LAYOUT.fields.iter().find(|f| f.name == field).expect("it is a field");
        field.offset
    })
}

pub(super) fn program<R: Realistic>() -> Program {
    let state = (size_of::<R::State>() > 0).then_some(R::State::LAYOUT);
    let output = R::OUTPUT.map(|(name, most)| OutputDecl {
        name: name.to_string(),
        layout: R::Emitted::LAYOUT,
        max_per_message: most,
    });
    let tables: Vec<_> = R::bound(&R::tables())
        .iter()
        .map(|table| TableDecl {
            name: table.name.to_string(),
            element_size: 4 * table.width as u32,
            element_name: "Element",
            len: table.words.len() / table.width,
        })
        .collect();
    let source = HandlerSource {
        name: R::NAME,
        text: R::TEXT,
        input: R::In::LAYOUT,
        output: R::Out::LAYOUT,
        state,
        outputs: output.as_slice(),
        tables: &tables,
        loop_budget: 1 << 20,
        instance_at: instance_at::<R>(),
    };
    compile(&source).unwrap_or_else(|error| panic!("{error}"))
}

impl<R: Realistic> Scene<R> {
    fn new(messages: usize) -> Self {
        let program = Arc::new(program::<R>());
        let list = R::messages(messages);
        let mut input = SlotRing::new(messages as u32, size_of::<R::In>() as u32);
        for (token, message) in (0..).zip(&list) {
            input.push(token, KIND_MESSAGE, bytemuck::bytes_of(message));
        }
        let most = 1 + R::OUTPUT.map_or(0, |(_, most)| most as usize);
        Self {
            input,
            output: SlotRing::new((messages * most) as u32, program.longest_output()),
            messages: list,
            tables: R::bound(&R::tables()),
            states: vec![R::State::default(); R::INSTANCES.map_or(1, |(count, _)| count as usize)],
            privates: vec![0; program.privates_size as usize / 4],
            program,
            handler: PhantomData,
        }
    }

    /// The tables in the order that the program wants, which is the order of their bindings.
    fn views(&mut self) -> Vec<TableView> {
        let view = |table: &mut Table| TableView {
            data: table.words.as_mut_ptr().cast(),
            bytes: 4 * table.words.len(),
        };
        let tables = &mut self.tables;
        let find = |name: &str, tables: &mut Vec<Table>| {
            tables.iter_mut().find(|table| table.name == name).map(view).expect("every table is bound")
        };
        self.program.tables.iter().map(|used| find(&used.name, tables)).collect()
    }

    /// Runs every message once; the state is written in place, as no message faults.
    fn run(&mut self, engine: &dyn Executable, mut seen: impl FnMut(&R::Out, &[u32])) {
        let views = self.views();
        let word = AtomicU32::new(0);
        let stop = StopCheck::new(&word, &Limits::NONE);
        let mut reply = <R::Out as bytemuck::Zeroable>::zeroed();
        for message in &self.messages {
            let outcome = engine.run(Frame {
                message: bytemuck::bytes_of(message),
                state: bytemuck::bytes_of_mut(&mut self.states[R::instance(message)]),
                reply: bytemuck::bytes_of_mut(&mut reply),
                privates: bytemuck::cast_slice_mut(&mut self.privates),
                tables: &views,
                stop: &stop,
            });
            assert_eq!(outcome, Outcome::Done);
            seen(&reply, &self.privates);
        }
    }
}

impl<R: Realistic> Scene<R> {
    /// Runs every message once as a port does: from one ring into another, which is emptied before.
    fn run_batch(&mut self, engine: &dyn Executable) {
        let views = self.views();
        let word = AtomicU32::new(0);
        let waiting = AtomicUsize::new(0);
        let count = self.messages.len();
        self.output.clear();
        let end = engine.run_batch(&mut Batch {
            input: &self.input,
            places: Places::First(count),
            message_size: size_of::<R::In>(),
            state_size: size_of::<R::State>(),
            states: bytemuck::cast_slice_mut(&mut self.states),
            first_instance: 0,
            instance_at: instance_at::<R>().map(|at| at as usize),
            reply_size: size_of::<R::Out>(),
            emits: &self.program.emits,
            output: &mut self.output,
            privates: bytemuck::cast_slice_mut(&mut self.privates),
            tables: &views,
            stop: &StopCheck::new(&word, &Limits::NONE),
            stop_at: STOP_AFTER_MESSAGE,
            waiting: Some(&waiting),
            last: None,
        });
        assert_eq!(end, BatchEnd { completed: count, why: Ending::Finished });
        black_box(&self.output);
    }
}

/// Runs every message through the twin.
fn run_twin<R: Realistic>(
    messages: &[R::In],
    states: &mut [R::State],
    tables: &R::Tables,
    mut seen: impl FnMut(&R::Out, &[R::Emitted]),
) {
    let mut emitted = Vec::with_capacity(8);
    for message in messages {
        emitted.clear();
        let reply = R::twin(black_box(*message), &mut states[R::instance(message)], tables, &mut emitted);
        seen(&reply, &emitted);
    }
}

/// Runs every message through the twin as machine code does: from one ring into another, through pointers that were
/// compared with the rings' sizes once, and after each message a word about how many wait and a look whether to stop.
fn run_twin_between_rings<R: Realistic>(
    scene: &mut Scene<R>,
    tables: &R::Tables,
    emitted: &mut Vec<R::Emitted>,
) {
    let Scene { input, output, states, .. } = scene;
    let (word, waiting) = (AtomicU32::new(0), AtomicUsize::new(0));
    let (word, waiting) = (black_box(&word), black_box(&waiting));
    output.clear();
    let count = input.len();
    let most = 1 + R::OUTPUT.map_or(0, |(_, most)| most as usize);
    assert!(output.free() >= count * most && input.room() >= size_of::<R::In>());
    assert!(output.room() >= size_of::<R::Out>().max(size_of::<R::Emitted>()));
    let (from, to) = (input.filled(), output.vacant());
    let slot = |ring: &Slots, number: u32| -> *mut u8 {
        ring.base.wrapping_add((ring.first.wrapping_add(number) & ring.mask) as usize * ring.stride)
    };
    let mut filled = 0;
    for place in 0..count as u32 {
        let at = slot(&from, place);
        waiting.store(count - 1 - place as usize, Ordering::Release);
        // SAFETY: the slot is filled, and has room for a header and a message, as compared above.
        let (header, message) =
            unsafe { (at.cast::<SlotHeader>().read(), at.add(16).cast::<R::In>().read_unaligned()) };
        emitted.clear();
        let reply = R::twin(message, &mut states[R::instance(&message)], tables, emitted);
        let mut put = |kind: u32, bytes: &[u8]| {
            let at = slot(&to, filled);
            filled += 1;
            let header = SlotHeader { token: header.token, kind, len: bytes.len() as u32 };
            // SAFETY: the ring is borrowed, the slot is free, as there are not more than `most` of a message, and it has
            // room for what was compared above.
            unsafe {
                at.cast::<SlotHeader>().write(header);
                at.add(16).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        };
        emitted.iter().take(most - 1).for_each(|value| put(KIND_EMIT, bytemuck::bytes_of(value)));
        put(KIND_REPLY, bytemuck::bytes_of(&reply));
        if word.load(Ordering::Relaxed) != 0 {
            break;
        }
    }
    output.advance(filled as usize);
    black_box(&output);
}

fn matches_twin<R: Realistic>() {
    for (name, engine) in engines() {
        let mut scene = Scene::<R>::new(2000);
        let Some(engine) = engine(scene.program.clone()) else { continue };
        let mut batch = Scene::<R>::new(2000);
        batch.run_batch(&*engine);
        let (mut twins, mut emitted) = (Vec::new(), Vec::new());
        let (tables, mut states) = (R::tables(), scene.states.clone());
        run_twin::<R>(&scene.messages, &mut states, &tables, |reply, values| {
            twins.push(*reply);
            emitted.push(bytemuck::cast_slice::<_, u8>(values).to_vec());
        });
        let emits = scene.program.emits.clone();
        let mut number = 0;
        scene.run(&*engine, |reply, privates| {
            let bytes = |value: &R::Out| words(bytemuck::bytes_of(value));
            assert_eq!(bytes(reply), bytes(&twins[number]), "{name}, {}: message {number}", R::NAME);
            if let Some(slot) = emits.first() {
                let count = privates[slot.count_offset as usize / 4];
                let end = slot.items_offset + count * slot.stride;
                let values =
                    &bytemuck::cast_slice::<_, u8>(privates)[slot.items_offset as usize..end as usize];
                assert_eq!(values, emitted[number], "{name}, {}: emitted by {number}", R::NAME);
            }
            number += 1;
        });
        let mut values = vec![Vec::<u8>::new(); twins.len()];
        let mut replies = 0;
        for slot in 0..batch.output.len() {
            let (header, payload) = batch.output.get(slot);
            let (number, payload) = (header.token as usize, &payload[..header.len as usize]);
            if header.kind == KIND_REPLY {
                replies += 1;
                let twin = words(bytemuck::bytes_of(&twins[number]));
                assert_eq!(words(payload), twin, "{name}, {}: message {number} of a batch", R::NAME);
            } else {
                values[number].extend(payload);
            }
        }
        assert_eq!(replies, twins.len(), "{name}, {}", R::NAME);
        assert_eq!(values, emitted, "{name}, {}: emitted in a batch", R::NAME);
        for scene in [scene, batch] {
            assert_eq!(scene.states, states, "{name}, {}", R::NAME);
            assert_eq!(scene.tables, R::bound(&tables), "{name}, {}", R::NAME);
        }
    }
}

#[test]
fn engines_do_what_the_twins_do() {
    matches_twin::<KMeans>();
    matches_twin::<Fraud>();
    matches_twin::<PageRank>();
    matches_twin::<OrderBook>();
    matches_twin::<Fir>();
    matches_twin::<MonteCarlo>();
}

/// The middle one of several measurements.
fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Nanoseconds per message of what runs so many.
fn per_message(messages: usize, mut run: impl FnMut()) -> f64 {
    let (begin, mut runs) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_millis(20) {
        run();
        runs += 1;
    }
    begin.elapsed().as_nanos() as f64 / f64::from(runs) / messages as f64
}

fn milliseconds(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e3
}

/// Of each engine: how many times as long as the twin it takes, and as the twin between rings.
type Ratios = Vec<[f64; 2]>;

/// A line of the table.
fn measure<R: Realistic>() -> Ratios {
    const ROUNDS: usize = 9;
    const MESSAGES: usize = 1024;
    let mut scene = Scene::<R>::new(MESSAGES);
    let engines = engines();
    let executables: Vec<_> =
        engines.iter().map(|(_, engine)| engine(scene.program.clone()).expect("an engine here")).collect();
    let (tables, mut states, messages) = (R::tables(), scene.states.clone(), scene.messages.clone());
    let mut emitted = Vec::with_capacity(8);
    // Interleaved, so that whatever else the machine does falls on all.
    let (mut twins, mut times) = ([Vec::new(), Vec::new()], vec![Vec::new(); engines.len()]);
    for _ in 0..ROUNDS {
        twins[0].push(per_message(messages.len(), || {
            run_twin::<R>(&messages, &mut states, &tables, |reply, values| _ = black_box((reply, values)));
        }));
        twins[1].push(per_message(messages.len(), || {
            run_twin_between_rings::<R>(&mut scene, &tables, &mut emitted);
        }));
        for (executable, times) in executables.iter().zip(&mut times) {
            times.push(per_message(messages.len(), || {
                scene.run_batch(&**executable);
            }));
        }
    }
    let twins = twins.map(median);
    let times: Vec<f64> = times.into_iter().map(median).collect();
    let ratios: Ratios = times.iter().map(|time| twins.map(|twin| time / twin)).collect();
    let front = median((0..ROUNDS).map(|_| milliseconds(|| _ = black_box(program::<R>()))).collect());
    let mut line = format!("| {} | {:.1} | {:.1} |", R::NAME, twins[0], twins[1]);
    for ((time, [bare, rings]), (_, engine)) in times.iter().zip(&ratios).zip(&engines) {
        let make = || milliseconds(|| _ = black_box(engine(scene.program.clone())));
        let make = median((0..ROUNDS).map(|_| make()).collect());
        line += &format!(" {time:.1} | {bare:.2} | {rings:.2} | {make:.2} |");
    }
    println!("{line} {front:.2} |");
    ratios
}

#[test]
#[ignore = "a measurement; run it alone, optimised"]
fn engine_speed() {
    let engines = engines();
    let columns =
        |text: &dyn Fn(&str) -> String| -> String { engines.iter().map(|(name, _)| text(name)).collect() };
    println!(
        "Nanoseconds per message, medians; making an engine, and parsing and lowering before, in milliseconds.\n"
    );
    let heads = columns(&|name| format!(" {name} | to the twin | … between rings | {name} ms |"));
    println!("| handler | twin | … between rings |{heads} front ms |");
    println!("|---|---:|---:|{}---:|", columns(&|_| "---:|---:|---:|---:|".to_string()));
    let ratios = [
        measure::<KMeans>(),
        measure::<Fraud>(),
        measure::<PageRank>(),
        measure::<OrderBook>(),
        measure::<Fir>(),
        measure::<MonteCarlo>(),
    ];
    for (index, (name, _)) in engines.iter().enumerate() {
        let [bare, rings] = [0, 1].map(|twin| {
            let logarithms: f64 = ratios.iter().map(|ratios| ratios[index][twin].ln()).sum();
            (logarithms / ratios.len() as f64).exp()
        });
        println!(
            "\n{name}: {bare:.2} times the twins' time (geometric mean), {rings:.2} times that between rings"
        );
    }
}
