//! The port by itself: a round on all cores gives what the same round gives one message after the other.

use super::port::CpuPort;
use super::threads::Threads;
use crate::backend::{
    Code, Completion, Fault, LaunchSpec, Limits, NativeHandler, PanicText, Port, PortControl, Progress,
    STOP_AFTER_MESSAGE, STOP_NOW, Shape, Until,
};
use crate::compile::{self, HandlerSource, OutputDecl};
use crate::message;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

message! {
    /// A message for an instance.
    pub struct Input { pub to: u32, pub value: u32 }
}
message! {
    /// What the instance counts, and the reply.
    pub struct Tally { pub count: u32, pub sum: u32 }
}

const STAY: Until<'static> = Until::BACKGROUND;

/// Counts and adds; faults on the value 13.
struct Count;

impl NativeHandler for Count {
    fn run(&self, message: &[u8], state: &mut [u8], reply: &mut [u8]) -> Result<(), Box<PanicText>> {
        let message: &Input = bytemuck::from_bytes(message);
        if message.value == 13 {
            return Err(Box::new(PanicText("thirteen".to_owned())));
        }
        let mut tally = if state.is_empty() { Tally::default() } else { *bytemuck::from_bytes(state) };
        tally.count += 1;
        tally.sum = tally.sum.wrapping_add(message.value);
        if !state.is_empty() {
            state.copy_from_slice(bytemuck::bytes_of(&tally));
        }
        reply.copy_from_slice(bytemuck::bytes_of(&tally));
        Ok(())
    }
}

fn port(code: Code, shape: Shape, round: u32) -> (CpuPort, Arc<PortControl>) {
    let control = Arc::new(PortControl::default());
    let initial_state = if shape == Shape::Stateless { Vec::new() } else { vec![0; 8] };
    let spec = LaunchSpec {
        code,
        twin: None,
        shape,
        message_size: 8,
        reply_size: 8,
        states: None,
        initial_state,
        tables: Vec::new(),
        onward: Vec::new(),
        round,
        control: control.clone(),
        around: Arc::new(|body: &mut dyn FnMut()| body()),
    };
    (CpuPort::new(spec, Arc::new(Threads::new(3))).unwrap(), control)
}

fn push(port: &mut CpuPort, messages: &[Input]) {
    port.push(&mut messages.iter().zip(1..).map(|(message, token)| (token, bytemuck::bytes_of(message))));
}

/// What came out, in words.
fn pop(port: &mut CpuPort) -> Vec<String> {
    let mut out = Vec::new();
    port.pop(&mut |completion| {
        out.push(match completion {
            Completion::Emit { token, output, value } => format!("{token} emits {value:?} to {output}"),
            Completion::Handled { token, reply } => format!("{token} replies {reply:?}"),
            Completion::Faulted { token, fault } => format!("{token} faults: {fault}"),
            Completion::Run { first, .. } => unreachable!("{first} was pushed by itself"),
            _ => unreachable!("the port has no links"),
        });
    });
    out
}

/// Drives the port until its input is empty; a serial round stops at each fault.
fn run(port: &mut CpuPort) -> Vec<String> {
    let mut out = Vec::new();
    loop {
        // Never long enough at a time to be spread.
        port.pretend_cost(0.0);
        port.progress(&STAY);
        out.extend(pop(port));
        if port.free() == 512 {
            return out;
        }
    }
}

fn emitting() -> Code {
    let outputs = [OutputDecl {
        name: "odd".into(),
        layout: <Tally as crate::DeviceMessage>::LAYOUT,
        max_per_message: 2,
    }];
    let program = compile::compile(&HandlerSource {
        name: "emitting",
        text: "fn on_message(m: Input) -> Tally {
                 for (var i = 0u; i < m.value % 4u; i++) { emit_odd(Tally(m.to, i)); }
                 return Tally(m.to, m.value);
               }",
        input: <Input as crate::DeviceMessage>::LAYOUT,
        output: <Tally as crate::DeviceMessage>::LAYOUT,
        state: None,
        outputs: &outputs,
        tables: &[],
        loop_budget: 100,
        instance_at: None,
    });
    Code::Handler(Arc::new(compile::Handler::new(program.unwrap(), None)))
}

/// Counts and adds as [`Count`] does; runs out of its budget on the value 13.
fn counting(shape: Shape) -> Code {
    let has_state = shape != Shape::Stateless;
    let instance_at = match shape {
        Shape::Instances { field_offset, .. } => Some(field_offset),
        Shape::Stateless | Shape::Serial => None,
    };
    let text = "fn on_message(m: Input, s: ptr<function, Tally>) -> Tally {
                  s.count += 1u; s.sum += m.value;
                  while m.value == 13u {}
                  return *s;
                }";
    let stateless = "fn on_message(m: Input) -> Tally { while m.value == 13u {} return Tally(1u, m.value); }";
    let program = compile::compile(&HandlerSource {
        name: "counting",
        text: if has_state { text } else { stateless },
        input: <Input as crate::DeviceMessage>::LAYOUT,
        output: <Tally as crate::DeviceMessage>::LAYOUT,
        state: has_state.then_some(<Tally as crate::DeviceMessage>::LAYOUT),
        outputs: &[],
        tables: &[],
        loop_budget: 100,
        instance_at,
    });
    Code::Handler(Arc::new(compile::Handler::new(program.unwrap(), None)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn a_round_on_all_cores_equals_a_serial_one(
        kind in 0..5,
        instances in 1u32..20,
        reset in any::<bool>(),
        values in prop::collection::vec((any::<u32>(), 0u32..40), 64..300),
    ) {
        let messages: Vec<Input> =
            values.iter().map(|&(to, value)| Input { to: to % instances, value }).collect();
        let make = || match kind {
            0 => port(Code::Native(Arc::new(Count)), Shape::Stateless, 512).0,
            1 => port(emitting(), Shape::Stateless, 512).0,
            2 => port(counting(Shape::Stateless), Shape::Stateless, 512).0,
            kind => {
                let shape = Shape::Instances { count: instances, field_offset: 0 };
                let code = if kind == 3 { counting(shape) } else { Code::Native(Arc::new(Count)) };
                let mut port = port(code, shape, 512).0;
                if reset {
                    port.reset_on_fault(Some(vec![7; 8 * instances as usize].into())).unwrap();
                }
                port
            }
        };
        let (mut serial, mut parallel) = (make(), make());
        // Dear enough to be spread, cheap enough for the round to take all of it.
        parallel.pretend_cost(1e5);
        push(&mut serial, &messages);
        push(&mut parallel, &messages);
        let expected = run(&mut serial);
        prop_assert_eq!(parallel.progress(&STAY), Progress::Done);
        prop_assert_eq!(pop(&mut parallel), expected);
        prop_assert_eq!(parallel.free(), 512, "one round took all");
        prop_assert_eq!(parallel.read_state().unwrap(), serial.read_state().unwrap());
    }
}

#[test]
fn a_few_dear_messages_are_spread_too() {
    for count in 2..=3 {
        let (mut port, _) = port(Code::Native(Arc::new(Count)), Shape::Stateless, 8);
        port.pretend_cost(1e9);
        let messages: Vec<_> = (0..count).map(|value| Input { to: 0, value }).collect();
        push(&mut port, &messages);
        assert_eq!(port.progress(&STAY), Progress::Done);
        let expected: Vec<_> = (0..count)
            .map(|value| {
                format!("{} replies {:?}", value + 1, bytemuck::bytes_of(&Tally { count: 1, sum: value }))
            })
            .collect();
        assert_eq!(pop(&mut port), expected);
    }
}

#[test]
fn a_panic_takes_the_state_back_and_stops_a_serial_round() {
    let (mut port, control) = port(Code::Native(Arc::new(Count)), Shape::Serial, 8);
    push(&mut port, &[1, 13, 2].map(|value| Input { to: 0, value }));
    assert_eq!(control.waiting.load(Ordering::Relaxed), 3);
    assert_eq!(port.progress(&STAY), Progress::Stopped);
    let out = pop(&mut port);
    assert_eq!(out.len(), 2);
    assert!(
        out[1].starts_with("2 faults: the handler panicked: ") && out[1].contains("thirteen"),
        "{}",
        out[1]
    );
    assert_eq!(control.waiting.load(Ordering::Relaxed), 1);
    assert_eq!(port.progress(&STAY), Progress::Done);
    assert_eq!(port.read_state().unwrap(), bytemuck::bytes_of(&Tally { count: 2, sum: 3 }));
}

#[test]
fn a_stop_between_messages_leaves_the_rest_in_the_port() {
    for code in [Code::Native(Arc::new(Count)), counting(Shape::Serial)] {
        let (mut port, control) = port(code, Shape::Serial, 8);
        push(&mut port, &[1, 2].map(|value| Input { to: 0, value }));
        control.stop.store(STOP_AFTER_MESSAGE, Ordering::Relaxed);
        assert_eq!(port.progress(&STAY), Progress::Stopped);
        assert!(pop(&mut port).is_empty());
        assert_eq!(control.waiting.load(Ordering::Relaxed), 2, "neither has begun");
        control.stop.store(0, Ordering::Relaxed);
        assert_eq!(port.progress(&Until { token: Some(1), ..STAY }), Progress::Done);
        assert_eq!(pop(&mut port).len(), 1);
        assert_eq!((port.free(), control.waiting.load(Ordering::Relaxed)), (7, 1));
    }
}

#[test]
fn a_fault_in_a_batch_stops_behind_it_with_the_state_before_it() {
    let (mut port, control) = port(counting(Shape::Serial), Shape::Serial, 8);
    push(&mut port, &[1, 2, 13, 4].map(|value| Input { to: 0, value }));
    port.pretend_cost(1.0);
    assert_eq!(port.progress(&STAY), Progress::Stopped);
    let out = pop(&mut port);
    assert_eq!((out.len(), out[2].as_str()), (3, "3 faults: the handler used up its loop budget"));
    assert_eq!(control.waiting.load(Ordering::Relaxed), 1);
    assert_eq!(port.read_state().unwrap(), bytemuck::bytes_of(&Tally { count: 2, sum: 3 }));
    assert_eq!(port.progress(&Until { token: Some(4), ..STAY }), Progress::Done);
    assert_eq!(port.read_state().unwrap(), bytemuck::bytes_of(&Tally { count: 3, sum: 7 }));
}

#[test]
fn the_port_says_what_runs_its_handler() {
    assert_eq!(port(Code::Native(Arc::new(Count)), Shape::Serial, 8).0.engine(), "native");
    let engine = port(counting(Shape::Serial), Shape::Serial, 8).0.engine();
    assert_eq!(engine, compile::engine());
    assert_eq!(engine == "jit", cfg!(feature = "jit"));
    let device = super::CpuDevice::open();
    assert!(device.capabilities().name.ends_with(&format!(" threads, {engine})")));
}

fn endless(budget: u32) -> Code {
    let program = compile::compile(&HandlerSource {
        name: "endless",
        text: "fn on_message(m: Input, s: ptr<function, Tally>) -> Tally {
                 loop { if (*s).count == 4000000000u { break; } (*s).count += 1u; }
                 return *s;
               }",
        input: <Input as crate::DeviceMessage>::LAYOUT,
        output: <Tally as crate::DeviceMessage>::LAYOUT,
        state: Some(<Tally as crate::DeviceMessage>::LAYOUT),
        outputs: &[],
        tables: &[],
        loop_budget: budget,
        instance_at: None,
    });
    Code::Handler(Arc::new(compile::Handler::new(program.unwrap(), None)))
}

#[test]
fn an_interrupted_message_is_first_in_line_with_the_state_before_it() {
    let (mut port, control) = port(endless(u32::MAX), Shape::Serial, 8);
    push(&mut port, &[Input { to: 0, value: 1 }]);
    let slice = Some(std::time::Duration::from_millis(1));
    assert_eq!(
        port.progress(&Until { limits: Limits { deadline: None, slice }, ..STAY }),
        Progress::Interrupted
    );
    assert_eq!(port.read_state().unwrap(), [0; 8]);
    control.stop.store(STOP_NOW, Ordering::Relaxed);
    // Between two messages a stop is a stop; it has not begun again.
    assert_eq!(port.progress(&STAY), Progress::Stopped);
    assert!(pop(&mut port).is_empty());
}

#[test]
fn exchange_hands_results_straight_out_and_keeps_nothing() {
    let (mut port, _) = port(Code::Native(Arc::new(Count)), Shape::Serial, 8);
    let messages = [1, 2, 13, 4].map(|value| Input { to: 0, value });
    let mut seen = Vec::new();
    let mut batch = messages.iter().zip(1..).map(|(message, token)| (token, bytemuck::bytes_of(message)));
    let taken = port.exchange(&mut batch, &STAY, &mut |completion| match completion {
        Completion::Handled { token, .. } => seen.push((token, true)),
        Completion::Faulted { token, fault: Fault::Panic(_) } => seen.push((token, false)),
        _ => panic!("only replies and panics"),
    });
    assert_eq!((taken, seen), (3, vec![(1, true), (2, true), (3, false)]));

    let (mut port, _) = self::port(endless(u32::MAX), Shape::Serial, 8);
    let slice = Some(std::time::Duration::from_millis(1));
    let until = Until { limits: Limits { deadline: None, slice }, ..STAY };
    let mut one = std::iter::once((9, bytemuck::bytes_of(&messages[0])));
    assert_eq!(port.exchange(&mut one, &until, &mut |_| panic!("it does not end")), 1);
    assert_eq!(port.free(), 8, "what was interrupted is the caller's");
}

/// Messages that are each over before the handler itself looks at the clock.
#[test]
fn a_round_for_a_caller_ends_at_its_deadline_between_messages_too() {
    let sines = "x = sin(x + 0.5); ".repeat(20);
    for emits in [false, true] {
        let outputs = [OutputDecl {
            name: "odd".into(),
            layout: <Tally as crate::DeviceMessage>::LAYOUT,
            max_per_message: 1,
        }];
        let program = compile::compile(&HandlerSource {
            name: "slow",
            text: &format!(
                "fn on_message(m: Input) -> Tally {{ var x = f32(m.value); \
                 for (var i = 0u; i < 2000u; i++) {{ {sines} }} return Tally(m.to, u32(x)); }}"
            ),
            input: <Input as crate::DeviceMessage>::LAYOUT,
            output: <Tally as crate::DeviceMessage>::LAYOUT,
            state: None,
            outputs: &outputs[..usize::from(emits)],
            tables: &[],
            loop_budget: 100_000,
            instance_at: None,
        });
        let code = Code::Handler(Arc::new(compile::Handler::new(program.unwrap(), None)));
        let (mut port, _) = port(code, Shape::Stateless, 512);
        push(&mut port, &[Input { to: 0, value: 1 }; 100]);
        let deadline = Some(std::time::Instant::now() + std::time::Duration::from_millis(2));
        port.progress(&Until { limits: Limits { deadline, slice: None }, ..STAY });
        let handled = pop(&mut port).len();
        assert!(handled < 100, "all {handled} were handled within 2 ms, or the deadline was passed");
    }
}
