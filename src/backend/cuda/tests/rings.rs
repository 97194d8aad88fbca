//! Messages in, records out: every shape, faults, interruptions, coming and going.

use super::kit::{End, Kernel, Launch, deadline, devices, lane, table};
use crate::backend::cuda::lane::Lane;
use crate::backend::cuda::link::open_way;
use crate::backend::{
    Completion, Device, DeviceInlet, Fault, Limits, Onward, PortControl, Progress, STOP_AFTER_MESSAGE,
    STOP_NOW, Shape, Until,
};
use crate::compile::EmitSlot;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What every text begins with.
pub const HEAD: &str = "
    struct RtTable { void* data; unsigned long long bytes; };
    #define RT_HAS_MESSAGE 1
    struct alignas(4) RtMessage { unsigned to, action, number; };
    struct alignas(4) RtReply { unsigned number, count; };
    ";

/// Adds numbers up; action 1 uses up its budget after having changed the state, 2 never ends, 3 emits two values, 4 takes
/// 100 ms.
const COUNTER: &str = "
    struct alignas(4) RtState { unsigned count, sum; };
    struct alignas(16) RtPrivates { unsigned emitted; unsigned values[3]; };
    static __device__ unsigned rt_run(const RtMessage& message, RtState& state, RtReply& reply,
                                      RtPrivates& privates, const RtTable* tables,
                                      volatile const unsigned* stop) {
        privates.emitted = 0;
        state.count += 1;
        state.sum += message.number;
        if (message.action == 1) { return 1; }
        while (message.action == 2) { if (rt_load_word((const unsigned*)stop) >= 2) return 3; }
        const unsigned long long begun = message.action == 4 ? rt_now() : 0;
        while (message.action == 4 && rt_now() - begun < 100000000ull) {}
        if (message.action == 3) {
            privates.emitted = 2;
            privates.values[0] = message.number;
            privates.values[1] = state.count;
        }
        reply.number = message.number;
        reply.count = state.count;
        return 0;
    }";

/// Without a state; writes its number into a table if there is one.
const ECHO: &str = "
    typedef unsigned RtState;
    struct alignas(16) RtPrivates { unsigned unused; };
    static __device__ unsigned rt_run(const RtMessage& message, RtState& state, RtReply& reply,
                                      RtPrivates& privates, const RtTable* tables,
                                      volatile const unsigned* stop) {
        if (message.action == 1) return 2;
        while (message.action == 2) { if (rt_load_word((const unsigned*)stop) >= 2) return 3; }
        unsigned found = 0;
        if (tables[0].bytes > 0) {
            unsigned* words = (unsigned*)tables[0].data;
            found = words[message.to];
            words[message.to] = message.number;
        }
        reply.number = message.number;
        reply.count = found;
        return 0;
    }";

const OUTPUT: EmitSlot = EmitSlot { count_offset: 0, items_offset: 4, stride: 4, size: 4, max: 3 };

pub fn counter(shape: Shape) -> Launch<'static> {
    let text = Box::leak(format!("{HEAD}{COUNTER}").into_boxed_str());
    let outputs = std::slice::from_ref(&OUTPUT);
    Launch {
        text,
        shape,
        message_words: 3,
        reply_words: 2,
        state: &[0, 0],
        outputs,
        tables: Vec::new(),
        round: 256,
    }
}

pub fn echo() -> Launch<'static> {
    let text = Box::leak(format!("{HEAD}{ECHO}").into_boxed_str());
    Launch { text, outputs: &[], state: &[], ..counter(Shape::Stateless) }
}

pub const INSTANCES: Shape = Shape::Instances { count: 5, field_offset: 0 };

pub fn message(to: u32, action: u32, number: u32) -> Vec<u32> {
    vec![to, action, number]
}

pub fn handled(number: u32, count: u32) -> End {
    End { reply: vec![number, count], ..End::default() }
}

fn faulted(fault: Fault) -> End {
    End { fault: Some(fault), ..End::default() }
}

#[test]
fn one_message_goes_in_and_one_reply_comes_out() {
    for device in devices() {
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        assert_eq!(kernel.run(&[message(0, 0, 7)]), [handled(7, 1)]);
        assert_eq!(kernel.states(), [1, 7]);
    }
}

/// Leads nowhere: all that is emitted goes through the host. Counts how often it is asked.
#[derive(Default)]
struct Nowhere(AtomicUsize);

impl Onward for Nowhere {
    fn open(&self, _: &Arc<dyn DeviceInlet>, _: usize) -> Option<Arc<dyn DeviceInlet>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[test]
fn nothing_passes_by_on_the_device_before_what_goes_through_the_host_is_out() {
    for device in devices() {
        let (launch, nowhere) = (counter(Shape::Serial), Arc::new(Nowhere::default()));
        let mut spec = launch.spec(Arc::new(PortControl::default()));
        spec.onward = vec![nowhere.clone()];
        let mut port = device.launch_text(&spec, launch.text, launch.outputs).expect("a good kernel");
        let lane: Arc<dyn Any + Send + Sync> = port.inlet().expect("it has one");
        let Ok(lane) = lane.downcast::<Lane>() else { panic!("it is the kernel itself") };
        let message = message(0, 3, 7);
        port.push(&mut std::iter::once((1, bytemuck::cast_slice(&message))));
        let limits = Limits { deadline: Some(deadline()), slice: None };
        let until = Until { token: None, limits, patience: Some(&|| false) };
        let (mut emitted, mut is_over) = (0, false);
        while !is_over {
            assert_ne!(port.progress(&until), Progress::Lost);
            port.pop(&mut |completion| match completion {
                Completion::Emit { .. } => emitted += 1,
                Completion::Handled { .. } => is_over = true,
                _ => {}
            });
        }
        assert_eq!((emitted, nowhere.0.load(Ordering::Relaxed)), (2, 1));
        // Its values are the caller's to put where they go, and are not there yet. A kernel before this one looks on.
        port.pass_on(&mut |_| ());
        open_way(&lane, 0);
        assert_eq!(nowhere.0.load(Ordering::Relaxed), 1, "what comes next would be before them");
        port.all_is_out();
        open_way(&lane, 0);
        assert_eq!(nowhere.0.load(Ordering::Relaxed), 2);
    }
}

#[test]
fn a_serial_kernel_keeps_order_and_state_over_many_laps() {
    for device in devices() {
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        let messages: Vec<_> = (0..1000).map(|number| message(0, 0, number)).collect();
        let expected: Vec<_> = (0..1000).map(|number| handled(number, number + 1)).collect();
        assert_eq!(kernel.run(&messages), expected);
        assert_eq!(kernel.states(), [1000, 499_500]);
        // It has left meanwhile, and comes back.
        assert_eq!(kernel.run(&messages[..3]), [handled(0, 1001), handled(1, 1002), handled(2, 1003)]);
        assert_eq!(kernel.states(), [1003, 499_503]);
    }
}

#[test]
fn lanes_take_messages_without_state_and_records_keep_their_order() {
    for device in devices() {
        let mut kernel = Kernel::launch(&device, echo());
        let messages: Vec<_> =
            (0..1000).map(|number| message(0, u32::from(number % 97 == 5), number)).collect();
        let expected: Vec<_> = (0..1000)
            .map(|number| if number % 97 == 5 { faulted(Fault::EmitOverflow) } else { handled(number, 0) })
            .collect();
        assert_eq!(kernel.run(&messages), expected);
    }
}

#[test]
fn every_instance_has_its_own_state_and_order() {
    for device in devices() {
        let mut kernel = Kernel::launch(&device, counter(INSTANCES));
        let mut counts = [0; 5];
        let mut sums = [0; 5];
        let (mut messages, mut expected) = (Vec::new(), Vec::new());
        for number in 0..1000u32 {
            let to = number.wrapping_mul(2_654_435_761) >> 7 & 3;
            let faults = number % 61 == 7;
            messages.push(message(to, u32::from(faults), number));
            if faults {
                expected.push(faulted(Fault::LoopBudget));
            } else {
                counts[to as usize] += 1;
                sums[to as usize] += number;
                expected.push(handled(number, counts[to as usize]));
            }
        }
        assert_eq!(kernel.run(&messages), expected);
        let states: Vec<_> = counts.into_iter().zip(sums).flat_map(|(count, sum)| [count, sum]).collect();
        assert_eq!(kernel.states(), states);
    }
}

#[test]
fn what_is_pushed_as_a_run_comes_back_as_runs_up_to_faults() {
    for device in devices() {
        let messages: Vec<_> =
            (0..1000).map(|number| message(0, u32::from(number % 97 == 5), number)).collect();
        let expected: Vec<_> = (0..1000)
            .map(|number| if number % 97 == 5 { faulted(Fault::EmitOverflow) } else { handled(number, 0) })
            .collect();
        let mut kernel = Kernel::launch(&device, echo());
        // Runs of all lengths, with single ones between them.
        let mut turn = 0;
        let ends = kernel.run_by(&messages, |kernel, rest| {
            turn += 1;
            let length = rest.len().min(turn * 7 % 50 + 1);
            if turn % 3 == 0 {
                kernel.push(&rest[..rest.len().min(1)])
            } else {
                kernel.push_run(&rest[..length])
            }
        });
        assert_eq!(ends, expected);
        assert!(kernel.together > 500, "only {} came together", kernel.together);
        // What has outputs hands its results out one by one, with what was emitted.
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        let ends = kernel.run_by(&[message(0, 3, 6), message(0, 0, 7)], Kernel::push_run);
        assert_eq!(ends, [End { emits: vec![(0, vec![6]), (0, vec![1])], ..handled(6, 1) }, handled(7, 2)]);
        assert_eq!(kernel.together, 0);
    }
}

#[test]
fn emitted_values_come_before_their_messages_reply() {
    for device in devices() {
        for shape in [Shape::Serial, INSTANCES] {
            let mut kernel = Kernel::launch(&device, counter(shape));
            let ends = kernel.run(&[message(0, 0, 5), message(0, 3, 6), message(0, 0, 7)]);
            let emits = vec![(0, vec![6]), (0, vec![2])];
            assert_eq!(ends, [handled(5, 1), End { emits, ..handled(6, 2) }, handled(7, 3)]);
        }
    }
}

#[test]
fn a_fault_leaves_the_state_and_nothing_behind_it_begins_by_itself() {
    for device in devices() {
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        kernel.push(&[message(0, 0, 1), message(0, 1, 2), message(0, 0, 3)]);
        let mut ends = Vec::new();
        while ends.len() < 2 {
            assert_ne!(kernel.progress(), Progress::Lost);
            ends.extend(kernel.pop());
        }
        assert_eq!(ends, [handled(1, 1), faulted(Fault::LoopBudget)]);
        assert!(kernel.port.recall(Some(deadline())));
        assert_eq!(kernel.control.waiting.load(Ordering::Relaxed), 1);
        assert_eq!(kernel.states(), [1, 1]);
        assert_eq!(kernel.run(&[]), []);
        assert_eq!(kernel.wait(), [handled(3, 2)]);
        let other = std::sync::Arc::from(bytemuck::cast_slice::<u32, u8>(&[70, 80]).to_vec());
        kernel.port.reset_on_fault(Some(other)).unwrap();
        assert_eq!(
            kernel.run(&[message(0, 1, 2), message(0, 0, 3)]),
            [faulted(Fault::LoopBudget), handled(3, 71)]
        );
        assert_eq!(kernel.states(), [71, 83]);
    }
}

#[test]
fn what_begins_before_the_port_has_counted_it_does_not_count_as_waiting() {
    for device in devices() {
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        let lane = lane(&*kernel.port);
        assert_eq!(kernel.run(&[message(0, 0, 7)]), [handled(7, 1)]);
        // As a port that has written a message, and is about to say so. Its fault ends the kernel.
        let fault = message(0, 1, 8);
        lane.layout.write(lane.input(), lane.tail(), bytemuck::cast_slice(&fault), 0);
        let begun = Instant::now();
        while lane.is_running() {
            assert!(begun.elapsed() < super::kit::LONG);
            std::thread::yield_now();
        }
        lane.count_waiting();
        assert_eq!(kernel.control.waiting.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn what_ends_after_a_stop_was_given_up_on_is_told() {
    for device in devices() {
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        let (told, tells) = std::sync::mpsc::channel();
        kernel.control.on_ready(Box::new(move |_| _ = told.send(())));
        let until = Until { token: None, limits: Limits::NONE, patience: None };
        let mut given_up = 0;
        for number in 0..50 {
            kernel.push(&[message(0, 4, number)]);
            assert_eq!(kernel.port.progress(&until), Progress::UnderWay);
            // The first thing that is told is that it has begun, after which nobody is told anything unless he asks.
            tells.recv_timeout(super::kit::LONG).expect("it begins");
            kernel.control.stop.store(STOP_AFTER_MESSAGE, Ordering::Relaxed);
            // On a busy machine it may be through by now.
            given_up += u32::from(!kernel.port.recall(Some(Instant::now())));
            let mut ends = kernel.pop();
            while ends.is_empty() {
                tells.recv_timeout(super::kit::LONG).expect("its end is told");
                ends = kernel.pop();
            }
            assert_eq!(ends.len(), 1);
            kernel.control.stop.store(0, Ordering::Relaxed);
            if given_up == 5 {
                break;
            }
        }
        assert!(given_up > 0, "its handler runs for a while");
    }
}

#[test]
fn a_handler_that_does_not_end_is_left_and_its_message_runs_again() {
    for device in devices() {
        for shape in [Shape::Serial, INSTANCES] {
            let mut kernel = Kernel::launch(&device, counter(shape));
            kernel.push(&[message(0, 0, 1), message(1, 2, 2), message(2, 0, 3)]);
            while kernel.end() == 0 {
                // A slow machine may say first that there is room for others.
                assert_ne!(kernel.progress(), Progress::Lost);
                let ends = kernel.pop();
                assert!(ends.first().is_none_or(|first| *first == handled(1, 1)), "{ends:?}");
            }
            // … and until the one that does not end has begun.
            let until = Until { token: None, limits: Limits::NONE, patience: None };
            while kernel.control.waiting.load(Ordering::Relaxed) > 1 {
                assert_eq!(kernel.port.progress(&until), Progress::UnderWay);
                std::thread::yield_now();
            }
            let soon = Instant::now() + Duration::from_millis(20);
            assert!(!kernel.port.recall(Some(soon)), "it never ends");
            kernel.control.stop.store(STOP_NOW, Ordering::Relaxed);
            assert!(kernel.port.recall(Some(deadline())));
            assert!(kernel.port.is_cut_short());
            assert_eq!(kernel.pop(), []);
            // Nothing of the message took effect; the one behind it may have, where it has another state.
            let states = kernel.states();
            assert_eq!(states[..2], [1, 1]);
        }
    }
}

#[test]
fn tables_are_the_hosts_while_it_uses_them() {
    for device in devices() {
        let words: Vec<u32> = (100..200).collect();
        let storage = table(&device, &words);
        let mut kernel = Kernel::launch(&device, Launch { tables: vec![storage.clone()], ..echo() });
        for round in 0..5 {
            assert_eq!(
                kernel.run(&[message(3, 0, round)]),
                [handled(round, if round == 0 { 103 } else { round + 49 })]
            );
            storage.write(12, bytemuck::bytes_of(&(round + 50)), deadline()).unwrap();
            let mut found = [0u32; 100];
            storage.read(0, bytemuck::cast_slice_mut(&mut found), deadline()).unwrap();
            assert_eq!((found[3], found[4]), (round + 50, 104));
        }
    }
}

#[test]
fn many_threads_launch_and_drop_kernels_while_others_run() {
    for device in devices() {
        let device = &device;
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for round in 0..10 {
                        let mut kernel = Kernel::launch(device, counter(Shape::Serial));
                        let messages: Vec<_> = (0..50).map(|number| message(0, 0, number)).collect();
                        let ends = kernel.run(&messages);
                        assert_eq!(ends[49], handled(49, 50), "thread {thread}, round {round}");
                        let storage = device.allocate(4096 * (round + 1)).unwrap();
                        drop(storage);
                    }
                });
            }
        });
    }
}
