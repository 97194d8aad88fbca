//! Batches by machine code: everything that generated handlers do not come to, as the interpreter does it too.

use crate::compile::jit::{MachineCode, load, translate};
use crate::compile::tests::*;
use crate::compile::{
    Batch, BatchEnd, Ending, Executable, FaultCode, HandlerSource, Interpreter, Limits, Places, Program,
    STOP_AFTER_MESSAGE, StopCheck, TableView, compile,
};
use crate::error::panic_text;
use crate::message::{Layout, Scalar, Token};
use crate::wire::{KIND_MESSAGE, SlotRing};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

/// `struct Kept { n: u32, list: array<u32, 8> }`
const KEPT: &Layout = &Layout {
    name: "Kept",
    size: 36,
    align: 4,
    fields: &[scalar("n", 0, Scalar::U32), array("list", 4, U32, 8)],
};

/// Changes its state in memory, then runs `a[1]` iterations, which may be too many.
const CHANGING: &str = "fn on_message(m: In, s: ptr<function, Kept>) -> Out {
    (*s).n += 1u;
    (*s).list[m.a[0] % 8u] += (*s).n;
    var r: array<u32, 8>;
    for (var i = 0u; i < m.a[1]; i++) { r[i % 8u] += i; }
    (*s).list[(m.a[0] + 1u) % 8u] += r[3];
    r[7] = (*s).list[0];
    return Out(r);
}";

/// What a batch did.
#[derive(Debug, PartialEq)]
struct Done {
    end: BatchEnd,
    states: Vec<u32>,
    /// Tokens and payloads.
    slots: Vec<(Token, Vec<u32>)>,
    waiting: usize,
}

struct Case<'a> {
    messages: &'a [[u32; 8]],
    places: Option<&'a [u32]>,
    instances: usize,
    last: Option<Token>,
    deadline: Option<Instant>,
    /// Slots of the ring for what comes out, for each message.
    room: usize,
}

fn case(messages: &[[u32; 8]]) -> Case<'_> {
    Case { messages, places: None, instances: 0, last: None, deadline: None, room: 1 }
}

fn changing() -> Arc<Program> {
    changing_instances(None)
}

fn changing_instances(instance_at: Option<u32>) -> Arc<Program> {
    let source = HandlerSource { state: Some(KEPT), loop_budget: 100_000, instance_at, ..source(CHANGING) };
    Arc::new(compile(&source).unwrap_or_else(|error| panic!("{error}")))
}

fn run(engine: &dyn Executable, program: &Program, case: &Case<'_>) -> Done {
    // Both wrap, and so do their indices.
    let ring = |slots: usize, payload| SlotRing::beginning_at(u32::MAX - 1, slots as u32, payload);
    let mut input = ring(case.messages.len(), 32);
    let mut output = ring(case.messages.len() * case.room, program.longest_output());
    for (token, message) in (100..).zip(case.messages) {
        input.push(token, KIND_MESSAGE, bytemuck::cast_slice(message));
    }
    let size = program.state_size() as usize;
    let mut states = vec![7u32; size / 4 * case.instances.max(1)];
    let (word, waiting) = (AtomicU32::new(0), AtomicUsize::new(99));
    let mut privates = vec![0u128; program.privates_size as usize / 16];
    let end = engine.run_batch(&mut Batch {
        input: &input,
        places: case.places.map_or(Places::First(case.messages.len()), Places::Listed),
        message_size: 32,
        state_size: size,
        states: bytemuck::cast_slice_mut(&mut states),
        // The field's numbers begin there.
        first_instance: if case.instances > 0 { 10 } else { 0 },
        instance_at: (case.instances > 0).then_some(8),
        reply_size: program.signature.reply.size as usize,
        emits: &program.emits,
        output: &mut output,
        privates: bytemuck::cast_slice_mut(&mut privates),
        tables: &[],
        stop: &StopCheck::new(&word, &Limits { deadline: case.deadline, slice: None }),
        stop_at: STOP_AFTER_MESSAGE,
        waiting: Some(&waiting),
        last: case.last,
    });
    let slots = (0..output.len()).map(|slot| {
        let (header, payload) = output.get(slot);
        (header.token, words(&payload[..header.len as usize]))
    });
    Done { end, states, slots: slots.collect(), waiting: waiting.load(Ordering::Relaxed) }
}

/// What both engines do.
fn both(program: &Arc<Program>, case: &Case<'_>) -> Done {
    let code = translate(program).unwrap();
    // SAFETY: the bytes were made by this very process for this very program.
    assert_eq!(unsafe { MachineCode::from_bytes(&code.to_bytes()) }.unwrap(), code);
    assert!(code.batch.is_some(), "an ordinary handler has an entry for batches");
    let jit = run(&load(&code).unwrap(), program, case);
    let interpreter = run(&Interpreter::new(program.clone()), program, case);
    assert_eq!(jit, interpreter);
    jit
}

/// The states after the first messages of a case, when there is nothing wrong with them.
fn states_after(program: &Arc<Program>, case: &Case<'_>, count: usize) -> Vec<u32> {
    both(program, &Case { messages: &case.messages[..count], deadline: None, last: None, ..*case }).states
}

#[test]
fn a_fault_leaves_what_the_messages_before_it_did() {
    let program = changing();
    assert!(translate(&program).unwrap().needs_replay);
    // Behind many, behind few, and behind some that take long.
    for faulty in [0, 1, 63, 64, 65, 130] {
        for long in [None, Some(faulty / 2)] {
            let messages: Vec<[u32; 8]> = (0..150)
                .map(|i| {
                    let iterations = if i == faulty {
                        200_000
                    } else if Some(i) == long {
                        9_000
                    } else {
                        i % 20
                    };
                    [i * 3, iterations, 0, 0, 0, 0, 0, 0]
                })
                .collect();
            let case = case(&messages);
            let done = both(&program, &case);
            let completed = faulty as usize;
            assert_eq!(done.end, BatchEnd { completed, why: Ending::Fault(FaultCode::LoopBudget) });
            assert_eq!(done.slots.len(), completed);
            assert_eq!(done.waiting, 149 - completed);
            if completed > 0 {
                assert_eq!(done.states, states_after(&program, &case, completed));
            }
        }
    }
}

#[test]
fn an_interruption_leaves_what_the_messages_before_it_did() {
    let program = changing();
    let messages: Vec<[u32; 8]> =
        (0..40).map(|i| [i, if i == 30 { 9_000 } else { 2 }, 0, 0, 0, 0, 0, 0]).collect();
    let stopped = Case { deadline: Some(Instant::now()), ..case(&messages) };
    let done = both(&program, &stopped);
    assert_eq!(done.end, BatchEnd { completed: 30, why: Ending::Interrupted });
    assert_eq!((done.slots.len(), done.waiting), (30, 9));
    assert_eq!(done.states, states_after(&program, &stopped, 30));
}

#[test]
fn instances_have_a_state_each() {
    let program = changing_instances(Some(8));
    let messages: Vec<[u32; 8]> =
        (0..100).map(|i| [i, if i == 77 { 200_000 } else { i % 5 }, 10 + i * 7 % 4, 0, 0, 0, 0, 0]).collect();
    let done = both(&program, &Case { instances: 4, ..case(&messages) });
    assert_eq!(done.end, BatchEnd { completed: 77, why: Ending::Fault(FaultCode::LoopBudget) });
    assert_ne!(done.states[..9], done.states[9..18]);
    // Every second one, and neighbours.
    let places: Vec<u32> = (0..20).map(|i| i * 2).chain(50..70).collect();
    let listed = Case { instances: 4, places: Some(&places), ..case(&messages) };
    let done = both(&program, &listed);
    assert_eq!(done.end, BatchEnd { completed: 40, why: Ending::Finished });
    let tokens: Vec<_> = done.slots.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, places.iter().map(|place| 100 + Token::from(*place)).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "an instance that is not there")]
fn an_instance_that_is_not_there_is_noticed() {
    let text = "fn on_message(m: In, s: ptr<function, Kept>) { (*s).n += m.a[0]; }";
    let kept = HandlerSource { state: Some(KEPT), output: UNIT, instance_at: Some(8), ..source(text) };
    let program = compile(&kept).unwrap();
    let handler = load(&translate(&program).unwrap()).unwrap();
    run(&handler, &program, &Case { instances: 2, ..case(&[[0, 0, 12, 0, 0, 0, 0, 0]]) });
}

#[test]
fn the_last_message_ends_a_batch() {
    let program = changing();
    let messages: Vec<[u32; 8]> = (0..100).map(|i| [i, 1, 0, 0, 0, 0, 0, 0]).collect();
    for (last, completed, why) in [
        (100, 1, Ending::Last),
        (163, 64, Ending::Last),
        (164, 65, Ending::Last),
        (199, 100, Ending::Last),
        (200, 100, Ending::Finished),
    ] {
        let done = both(&program, &Case { last: Some(last), ..case(&messages) });
        assert_eq!(done.end, BatchEnd { completed, why });
    }
}

#[test]
fn the_stop_word_ends_a_batch_between_two_messages() {
    // The table is the stop word.
    let text = "@group(1) @binding(0) var<storage, read_write> stop: array<u32>;
        fn on_message(m: In) -> Out { if m.a[0] == 5u { stop[0] = 1u; } return Out(m.a); }";
    let tables = [table("stop", 1)];
    let program = Arc::new(compile(&HandlerSource { tables: &tables, ..source(text) }).unwrap());
    let engines: [&dyn Executable; 2] =
        [&Interpreter::new(program.clone()), &load(&translate(&program).unwrap()).unwrap()];
    for engine in engines {
        let (mut input, mut output) = (SlotRing::new(16, 32), SlotRing::new(16, 32));
        for i in 0..10u32 {
            input.push(i.into(), KIND_MESSAGE, bytemuck::cast_slice(&[i; 8]));
        }
        let word = AtomicU32::new(0);
        let views = [TableView { data: word.as_ptr().cast(), bytes: 4 }];
        let mut run = |stop_at| {
            let end = engine.run_batch(&mut Batch {
                input: &input,
                places: Places::First(10),
                message_size: 32,
                state_size: 0,
                states: &mut [],
                first_instance: 0,
                instance_at: None,
                reply_size: 32,
                emits: &[],
                output: &mut output,
                privates: bytemuck::cast_slice_mut(&mut vec![0u128; program.privates_size as usize / 16]),
                tables: &views,
                stop: &StopCheck::new(&word, &Limits::NONE),
                stop_at,
                waiting: None,
                last: None,
            });
            (end, std::mem::replace(&mut output, SlotRing::new(16, 32)).len())
        };
        assert_eq!(run(1), (BatchEnd { completed: 6, why: Ending::Stopped }, 6));
        assert_eq!(run(1), (BatchEnd { completed: 0, why: Ending::Stopped }, 0));
        assert_eq!(run(2), (BatchEnd { completed: 10, why: Ending::Finished }, 10));
    }
}

#[test]
#[should_panic(expected = "too large for its rings")]
fn a_batch_needs_room_for_all_that_may_come_out() {
    let text = "fn on_message(m: In) { emit_alerts(Alert(m.a[0], 1.0)); }";
    let outputs = [output("alerts", 2)];
    let program = compile(&HandlerSource { outputs: &outputs, output: UNIT, ..source(text) }).unwrap();
    let handler = load(&translate(&program).unwrap()).unwrap();
    run(&handler, &program, &case(&[[0; 8]; 2]));
}

#[test]
fn a_batch_needs_the_rings_and_states_that_its_handler_was_compiled_for() {
    let text = "fn on_message(m: In, s: ptr<function, Kept>) -> Out { (*s).n += m.a[0]; return Out(m.a); }";
    let source = HandlerSource { state: Some(KEPT), instance_at: Some(8), ..source(text) };
    let program = compile(&source).unwrap();
    let handler = load(&translate(&program).unwrap()).unwrap();
    let run = |message, reply, state_words, instance_at| {
        let (mut input, mut output) = (SlotRing::new(1, message), SlotRing::new(1, reply));
        input.push(0, KIND_MESSAGE, &[0; 32]);
        let word = AtomicU32::new(0);
        catch_unwind(AssertUnwindSafe(|| {
            handler.run_batch(&mut Batch {
                input: &input,
                places: Places::First(1),
                message_size: 32,
                state_size: 4 * state_words,
                states: bytemuck::cast_slice_mut(&mut vec![0u32; state_words]),
                first_instance: 0,
                instance_at,
                reply_size: 32,
                emits: &[],
                output: &mut output,
                privates: bytemuck::cast_slice_mut(&mut vec![0u128; program.privates_size as usize / 16]),
                tables: &[],
                stop: &StopCheck::new(&word, &Limits::NONE),
                stop_at: STOP_AFTER_MESSAGE,
                waiting: None,
                last: None,
            })
        }))
    };
    assert_eq!(run(32, 32, 9, Some(8)).unwrap(), BatchEnd { completed: 1, why: Ending::Finished });
    for (message, reply, state_words, instance_at) in [
        (48, 32, 9, Some(8)),
        (32, 48, 9, Some(8)),
        (32, 32, 10, Some(8)),
        (32, 32, 9, Some(4)),
        (32, 32, 9, None),
    ] {
        let panic = run(message, reply, state_words, instance_at).unwrap_err();
        let text = panic_text(&*panic);
        assert!(text.contains("not those that its handler was compiled for"), "{text}");
    }
}

#[test]
fn what_several_outputs_get_is_in_front_of_the_reply() {
    // Of few values of an output, each is sent by itself; many are, by a loop.
    let text = "fn on_message(m: In) -> Out {
        for (var i = 0u; i < m.a[0]; i++) { emit_trail(Alert(m.a[1] + i, f32(i))); }
        if m.a[2] > 0u { emit_alerts(Alert(m.a[2], 0.5)); }
        return Out(m.a);
    }";
    let outputs = [output("alerts", 2), output("trail", 9)];
    let program = Arc::new(compile(&HandlerSource { outputs: &outputs, ..source(text) }).unwrap());
    let messages: Vec<[u32; 8]> = (0..40).map(|n| [n % 10, n * 100, n % 3, n, 0, 0, 0, 0]).collect();
    let done = both(&program, &Case { room: 12, ..case(&messages) });
    let mut expected = Vec::new();
    for (message, token) in messages.iter().zip(100..) {
        expected.extend((message[2] > 0).then(|| (token, vec![message[2], 0.5f32.to_bits()])));
        let trail = (0..message[0]).map(|i| (token, vec![message[1] + i, (i as f32).to_bits()]));
        expected.extend(trail.chain([(token, message.to_vec())]));
    }
    assert_eq!(done.slots, expected);
}

#[test]
fn an_index_kept_in_range_by_a_condition_is_not_read_before_it() {
    // What does not change is computed before a loop, but not an access that only a condition in it makes valid.
    let text = "fn on_message(m: In) -> Out { var r: array<u32, 8>;
        let k = m.a[0];
        for (var i = 0u; i < m.a[1]; i++) { if k < 8u { r[0] += m.a[k]; } r[1] += 1u; } return Out(r); }";
    let mut bench = Bench::new(&source(text)).unwrap();
    assert_eq!(bench.words(&[0x7fff_ffff, 30, 0, 0, 0, 0, 0, 0])[..2], [0, 30]);
    assert_eq!(bench.words(&[2, 30, 5, 0, 0, 0, 0, 0])[..2], [150, 30]);
    let text = "@group(1) @binding(0) var<storage, read> t: array<u32, 8>;
        fn on_message(m: In) -> Out { var r: array<u32, 8>;
        let k = m.a[0];
        for (var i = 0u; i < m.a[1]; i++) { if k < 8u { r[0] += t[k]; } r[1] += 1u; } return Out(r); }";
    let mut bench = Bench::new(&HandlerSource { tables: &[table("t", 8)], ..source(text) }).unwrap();
    let mut words = [3u32; 8];
    let views = [TableView { data: words.as_mut_ptr().cast(), bytes: 32 }];
    for first in [0x7fff_ffffu32, 2] {
        let message = [first, 30, 0, 0, 0, 0, 0, 0];
        bench.run_with(bytemuck::cast_slice(&message), &views);
    }
}

#[test]
fn a_table_under_two_names_is_read_after_it_is_written() {
    // Two names go together if both are declared `read_write`, and the buffer is written by atomics only.
    let text = "@group(1) @binding(0) var<storage, read_write> a: array<u32, 4>;
        @group(1) @binding(1) var<storage, read_write> b: array<atomic<u32>, 4>;
        fn on_message(m: In) -> Out { var r: array<u32, 8>; r[0] = a[1]; atomicStore(&b[1], m.a[0]); r[1] = a[1];
        return Out(r); }";
    let program =
        compile(&HandlerSource { tables: &[table("a", 4), table("b", 4)], ..source(text) }).unwrap();
    let handler = load(&translate(&program).unwrap()).unwrap();
    let mut words = [9u32; 4];
    let view = TableView { data: words.as_mut_ptr().cast(), bytes: 16 };
    assert_eq!(super::run_on(&handler, &[5, 0, 0, 0, 0, 0, 0, 0], &[view, view])[..2], [9, 5]);
}
