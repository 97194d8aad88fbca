//! Blocks of several warps: who runs what, and that nobody can tell from what comes back.

use super::kit::{End, Kernel, LONG, Launch, deadline, device_of, devices};
use super::rings::{counter, handled, message};
use crate::backend::{Fault, Limits, Progress, STOP_NOW, Shape, Until};
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Counts its messages; action 1 uses up its budget, 4 takes 100 ms and 6 takes a second unless
/// they have to stop, 5 says which thread runs it.
const TEXT: &str = "
    struct RtTable { void* data; unsigned long long bytes; };
    #define RT_HAS_MESSAGE 1
    struct alignas(4) RtMessage { unsigned to, action, number; };
    struct alignas(4) RtReply { unsigned number, count; };
    struct alignas(4) RtState { unsigned count, sum; };
    struct alignas(16) RtPrivates { unsigned unused; };
    static __device__ unsigned rt_run(const RtMessage& message, RtState& state, RtReply& reply,
                                      RtPrivates& privates, const RtTable* tables,
                                      volatile const unsigned* stop) {
        state.count = state.count * (RT_STATE_WORDS > 0) + 1;
        state.sum = state.sum * 31 + message.number;
        if (message.action == 1) { return 1; }
        const unsigned long long takes = message.action == 4 ? 100000000ull : message.action == 6 ? 1000000000ull : 0;
        const unsigned long long begun = takes > 0 ? rt_now() : 0;
        while (takes > 0 && rt_now() - begun < takes) {
            if (rt_load_word((const unsigned*)stop) >= 2) return 3;
        }
        reply.number = message.number;
        reply.count = message.action == 5 ? threadIdx.x : state.count;
        return 0;
    }";

fn launch(shape: Shape) -> Launch<'static> {
    let state: &[u32] = if shape == Shape::Stateless { &[] } else { &[0, 0] };
    Launch { text: TEXT, outputs: &[], state, ..counter(shape) }
}

fn instances(count: u32) -> Shape {
    Shape::Instances { count, field_offset: 0 }
}

/// The threads that ran so many messages, which were all there before the first one began.
fn threads(kernel: &mut Kernel, count: u32) -> Vec<u32> {
    let messages: Vec<_> = (0..count).map(|number| message(number, 5, number)).collect();
    assert!(kernel.port.recall(Some(deadline())));
    let ends = kernel.run(&messages);
    ends.iter().map(|end| end.reply[1]).collect()
}

#[test]
fn many_messages_are_for_all_warps_and_few_for_the_first() {
    for warps in [1, 3, 8] {
        let Some(device) = device_of(warps) else { return };
        for shape in [Shape::Stateless, instances(256)] {
            let mut kernel = Kernel::launch(&device, launch(shape));
            // One by one, they are all the first lane's.
            for _ in 0..3 {
                assert_eq!(threads(&mut kernel, 1), [0]);
            }
            // All at once: more and more, as far as there are threads.
            let mut expected = Vec::new();
            let mut round = 1;
            while expected.len() < 256 {
                expected.extend(0..round.min(256 - expected.len() as u32));
                round = (round * 2).min(warps * 32);
            }
            assert_eq!(threads(&mut kernel, 256), expected, "{warps} warps, {shape:?}");
        }
        let mut serial = Kernel::launch(&device, launch(Shape::Serial));
        assert!(threads(&mut serial, 256).into_iter().all(|thread| thread == 0));
    }
}

#[test]
fn a_kernel_has_as_many_warps_as_its_shape_and_its_ring_have_work_for() {
    use crate::backend::cuda::layout::Layout;
    let warps = |shape: Shape, message_words: u32, round: u32| {
        let launch = Launch { message_words, round, ..launch(shape) };
        let layout = Layout::new(&launch.spec(Default::default()), &[]);
        let warps = layout.warps();
        assert!(layout.batch(warps) <= 32 * warps && layout.shared(warps) <= 20 << 10);
        assert!(layout.batch(warps) > 32 * (warps - 1), "all warps have lanes with work");
        warps
    };
    assert_eq!(warps(Shape::Serial, 3, 1 << 16), 1);
    assert_eq!(warps(Shape::Stateless, 3, 1 << 16), 8);
    // One half of the ring's places.
    assert_eq!(warps(Shape::Stateless, 3, 256), 4);
    assert_eq!(warps(Shape::Stateless, 3, 32), 1);
    assert_eq!(warps(instances(100_000), 3, 1 << 16), 8);
    assert_eq!(warps(instances(65), 3, 1 << 16), 3);
    assert_eq!(warps(instances(2), 3, 1 << 16), 1);
    // As many messages as fit into shared memory.
    assert_eq!(warps(Shape::Stateless, 16, 1 << 16), 8);
    assert_eq!(warps(Shape::Stateless, 32, 1 << 16), 4);
    assert_eq!(warps(Shape::Stateless, 200, 1 << 16), 1);
    assert_eq!(warps(Shape::Stateless, 1024, 1 << 16), 1);
}

/// Has the kernel begin all its messages but so many; what ended meanwhile.
fn wait_until_waiting(kernel: &mut Kernel, most: usize) -> Vec<End> {
    let until = Until { token: None, limits: Limits::NONE, patience: None };
    let (mut ends, begun) = (Vec::new(), Instant::now());
    while kernel.control.waiting.load(Ordering::Relaxed) > most {
        assert_ne!(kernel.port.progress(&until), Progress::Lost);
        ends.extend(kernel.pop());
        assert!(begun.elapsed() < LONG);
        std::thread::yield_now();
    }
    ends
}

#[test]
fn what_ran_beside_a_message_that_was_interrupted_never_runs_again() {
    for device in devices() {
        let mut kernel = Kernel::launch(&device, launch(instances(256)));
        // In the round of the last ones there is one that takes long, among others that do not.
        let count = 191;
        let messages: Vec<_> =
            (0..count).map(|number| message(number, if number == 180 { 6 } else { 0 }, number)).collect();
        assert_eq!(kernel.push(&messages), messages.len());
        let mut ends = wait_until_waiting(&mut kernel, 0);
        std::thread::sleep(Duration::from_millis(10));
        kernel.control.stop.store(STOP_NOW, Ordering::Relaxed);
        assert!(kernel.port.recall(Some(deadline())));
        assert!(kernel.port.is_cut_short());
        ends.extend(kernel.pop());
        assert_eq!(ends.len(), 180);
        kernel.control.stop.store(0, Ordering::Relaxed);
        // It is begun alone, and the kernel has to leave before it comes to the others.
        let (until, begun) = (Until { token: None, limits: Limits::NONE, patience: None }, Instant::now());
        while kernel.port.is_cut_short() {
            // Not on the device yet, where another test may be about something that keeps kernels from starting.
            assert_ne!(kernel.port.progress(&until), Progress::Lost);
            assert!(begun.elapsed() < LONG);
            std::thread::yield_now();
        }
        ends.extend(wait_until_waiting(&mut kernel, count as usize - 181));
        assert!(kernel.port.recall(Some(deadline())));
        assert!(!kernel.port.is_cut_short());
        ends.extend(kernel.pop());
        assert_eq!(ends.len(), messages.len(), "the others were over before");
        assert!(ends.iter().zip(0..).all(|(end, number)| *end == handled(number, 1)), "{ends:?}");
        // What is over is not begun again by what comes behind it, which lies in its slots.
        let more: Vec<_> = (0..300).map(|_| message(255, 0, 7)).collect();
        let ends = kernel.run(&more);
        assert!(ends.iter().zip(1..).all(|(end, number)| *end == handled(7, number)), "{ends:?}");
        assert_eq!(kernel.control.waiting.load(Ordering::Relaxed), 0);
        let states = kernel.states();
        let counts: Vec<_> = states.chunks(2).map(|state| state[0]).take(count as usize).collect();
        assert_eq!(counts, vec![1; count as usize], "each has run once");
    }
}

/// What an instance's messages leave and reply, one after the other.
#[derive(Clone, Copy, Default)]
struct Plain {
    count: u32,
    sum: u32,
}

impl Plain {
    fn run(&mut self, action: u32, number: u32, keeps: bool) -> End {
        let old = *self;
        self.count = if keeps { self.count + 1 } else { 1 };
        self.sum = self.sum.wrapping_mul(31).wrapping_add(number);
        if action == 1 {
            *self = old;
            return End { fault: Some(Fault::LoopBudget), ..Default::default() };
        }
        handled(number, self.count)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Messages pushed in parts of any size, to instances that are few or many, with faults among them, on blocks of any
    /// width, end as they would one after the other.
    #[test]
    fn every_width_does_what_the_plain_order_does(
        warps in 1..9u32,
        count in prop_oneof![Just(0u32), 1..4u32, Just(300u32)],
        messages in proptest::collection::vec((0..300u32, 0..20u32), 0..1500),
        part in 1..300usize,
        recalls in proptest::bool::weighted(0.3),
    ) {
        let Some(device) = device_of(warps) else { return Ok(()) };
        let shape = if count == 0 { Shape::Stateless } else { instances(count) };
        let mut plain = vec![Plain::default(); count.max(1) as usize];
        let messages: Vec<_> = messages.iter().zip(0..).map(|((to, action), number)| {
            message(to % count.max(1), u32::from(*action == 0), number)
        }).collect();
        let expected: Vec<_> = messages.iter().map(|message| {
            plain[message[0] as usize].run(message[1], message[2], count > 0)
        }).collect();
        let mut kernel = Kernel::launch(&device, launch(shape));
        let ends = kernel.run_by(&messages, |kernel, rest| {
            if recalls {
                assert!(kernel.port.recall(Some(deadline())));
            }
            kernel.push(&rest[..rest.len().min(part)])
        });
        prop_assert_eq!(ends, expected);
        if count > 0 {
            let states: Vec<_> = plain.iter().flat_map(|plain| [plain.count, plain.sum]).collect();
            prop_assert_eq!(kernel.states(), states);
        }
    }
}

#[test]
fn an_instance_that_has_a_whole_batch_for_itself_is_no_hang() {
    let Some(device) = device_of(8) else { return };
    let mut kernel = Kernel::launch(&device, launch(instances(256)));
    // Those before them are for batches that grow: the last one has 64 messages, which take longer than a kernel may be
    // silent.
    let messages = (0..127).map(|number| message(7, if number < 63 { 0 } else { 4 }, number));
    let messages: Vec<_> = messages.collect();
    assert!(kernel.port.recall(Some(deadline())));
    let ends = kernel.run(&messages);
    assert!(ends.iter().zip(1..).all(|(end, count)| end.fault.is_none() && end.reply[1] == count));
}
