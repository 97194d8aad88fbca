//! Ringwork: native, WGSL and host kernels from one blocking thread, as any user would write it.

use crate::harness::{Board, Scale};
use crate::workload::{self, INSTANCES, value, wait_until};
use ringwork::{Context, Handle, RingKernel, Runtime, message};
use std::sync::OnceLock;
use std::time::Duration;

/// Longer than anything here takes; a wait that reaches it stops the run.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Messages in a batch.
pub const BATCH: u64 = 32;

message! {
    /// [`workload::Numbers`] as a message: up to eight numbers to add, 64 bytes.
    pub struct Addends {
        /// The instance that gets them, where there are several.
        pub to: u32,
        /// How many of `values` count.
        pub len: u32,
        pub values: [f32; 8],
        _pad: [u32; 6],
    }

    /// The reply.
    pub struct Sum {
        pub value: f32,
    }

    /// What a kernel keeps: how many messages it had, or all their sums.
    pub struct Total {
        pub value: f32,
        pub count: u32,
    }

    /// What one of many instances keeps: [`workload::Agent`].
    pub struct Held {
        pub totals: [f32; 8],
        pub count: u32,
    }
}

/// Adds the numbers of a message, in order.
const SUM: &str = "
fn sum(m: Addends) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < min(m.len, 8u); i++) { sum += m.values[i]; }
    return sum;
}
";

pub fn cases(board: &mut Board) {
    board.add("ask", "ringwork native", "`ask` of an idle native kernel", |scale| {
        with_kernel(answering(), |kernel| workload::ask(scale, |i| ask(kernel, i)))
    });
    board.add("ask", "ringwork wgsl", "`ask` of an idle kernel with a WGSL handler", |scale| {
        with_kernel(answering_wgsl(), |kernel| workload::ask(scale, |i| ask(kernel, i)))
    });
    board.add("ask", "ringwork host", "`ask` of a host kernel, which has a thread of its own", |scale| {
        let host = RingKernel::host("host", |context: &mut Context<Addends, Sum>| {
            while let Some(message) = context.receive() {
                let value = sum(&message.payload);
                context.reply(Sum { value });
            }
        });
        with_kernel(host, |kernel| workload::ask(scale, |i| ask(kernel, i)))
    });
    board.add("in-flight", "ringwork native", "`request`, `wait` for the oldest", |scale| {
        with_kernel(answering(), |kernel| in_flight(scale, kernel))
    });
    board.add("in-flight", "ringwork wgsl", "the same with a WGSL handler", |scale| {
        with_kernel(answering_wgsl(), |kernel| in_flight(scale, kernel))
    });
    board.add("one-way", "ringwork send", "`send`, native kernel with no reply", |scale| {
        with_kernel(adding(), |kernel| one_by_one(scale, kernel))
    });
    board.add("one-way", "ringwork wgsl send", "the same with a WGSL handler", |scale| {
        with_kernel(adding_wgsl(), |kernel| one_by_one(scale, kernel))
    });
    board.add("one-way", "ringwork send_many", "`send_many` of 32, native kernel with no reply", |scale| {
        with_kernel(adding(), |kernel| in_batches(scale, kernel))
    });
    board.add("one-way", "ringwork wgsl send_many", "the same with a WGSL handler", |scale| {
        with_kernel(adding_wgsl(), |kernel| in_batches(scale, kernel))
    });
    board.add("instances", "ringwork", "`send_many`, native kernel with 100,000 instances", |_| {
        with_kernel(instances(), to_each_instance)
    });
    board.add("instances", "ringwork wgsl", "the same with a WGSL handler", |_| {
        with_kernel(instances_wgsl(), to_each_instance)
    });
}

fn in_flight(scale: Scale, kernel: &Handle<Addends, Sum>) -> Vec<f64> {
    workload::in_flight(
        scale.count(2_000_000),
        |i| kernel.request(addends(i)).expect("the kernel takes messages"),
        |reply| reply.wait(TIMEOUT).expect("the kernel answers").value,
    )
}

fn one_by_one(scale: Scale, kernel: &Handle<Addends, ()>) -> Vec<f64> {
    workload::one_way(
        scale.count(2_000_000),
        |i| kernel.send(addends(i)).expect("the kernel takes messages"),
        || flush(kernel),
    )
}

fn in_batches(scale: Scale, kernel: &Handle<Addends, ()>) -> Vec<f64> {
    let batches = scale.count(10_000_000) / BATCH;
    let rate = workload::one_way(batches, |batch| send_batch(kernel, batch), || flush(kernel));
    rate.iter().map(|batches| batches * BATCH as f64).collect()
}

fn to_each_instance(kernel: &Handle<Addends, ()>) -> Vec<f64> {
    let order = workload::destinations();
    let mut sent = 0;
    workload::passes(|| {
        let messages = order.iter().zip(0..).map(|(&to, i)| Addends { to, ..addends(i) });
        kernel.send_many(messages).expect("the kernel takes messages");
        // One instance's answer says nothing about the others, but who waits for it helps them all.
        flush(kernel);
        sent += INSTANCES as u64 + 1;
        wait_until("the handling of all messages", || kernel.telemetry().handled == sent);
    })
}

/// One runtime for all samples.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime starts"))
}

/// Launches a kernel, measures it, and ends it, so that its name is free again.
pub fn with_kernel<Out: ringwork::Message>(
    kernel: RingKernel<Addends, Out>,
    measure: impl FnOnce(&Handle<Addends, Out>) -> Vec<f64>,
) -> Vec<f64> {
    let handle = runtime().launch(kernel).expect("the kernel is well formed");
    handle.activate().expect("a launched kernel can be activated");
    let values = measure(&handle);
    handle.terminate(TIMEOUT).expect("an active kernel can be terminated");
    values
}

/// The message number `i`.
#[inline]
pub fn addends(i: u64) -> Addends {
    Addends { len: 8, values: [value(i); 8], ..Addends::default() }
}

#[inline]
fn sum(message: &Addends) -> f32 {
    workload::sum(message.len, &message.values)
}

/// Answers with the sum and counts.
pub fn answering() -> RingKernel<Addends, Sum> {
    RingKernel::native("answering", |message: Addends, total: &mut Total| {
        total.count += 1;
        Sum { value: sum(&message) }
    })
}

/// Adds up, and answers nobody.
pub fn adding() -> RingKernel<Addends, ()> {
    RingKernel::native("adding", |message: Addends, total: &mut Total| total.value += sum(&message))
}

/// Adds up in 100,000 places.
fn instances() -> RingKernel<Addends, ()> {
    RingKernel::native("instances", |message: Addends, held: &mut Held| {
        for (total, value) in held.totals.iter_mut().zip(&message.values) {
            *total += value;
        }
        held.count += 1;
    })
    .instances(INSTANCES as u32)
    .queue_capacity(INSTANCES + 1)
}

/// [`answering`] in WGSL.
fn answering_wgsl() -> RingKernel<Addends, Sum> {
    let handler =
        "fn on_message(m: Addends, s: ptr<function, Total>) -> Sum { s.count += 1u; return Sum(sum(m)); }";
    RingKernel::wgsl("answering", format!("{SUM}{handler}")).initial_state(Total::default())
}

/// [`adding`] in WGSL.
fn adding_wgsl() -> RingKernel<Addends, ()> {
    let handler = "fn on_message(m: Addends, s: ptr<function, Total>) { s.value += sum(m); }";
    RingKernel::wgsl("adding", format!("{SUM}{handler}")).initial_state(Total::default())
}

/// [`instances`] in WGSL.
fn instances_wgsl() -> RingKernel<Addends, ()> {
    let handler = "fn on_message(m: Addends, s: ptr<function, Held>) {
        for (var i = 0u; i < 8u; i++) { s.totals[i] += m.values[i]; }
        s.count += 1u;
    }";
    RingKernel::wgsl("instances", handler)
        .initial_state(Held::default())
        .instances(INSTANCES as u32)
        .queue_capacity(INSTANCES + 1)
}

#[inline]
pub fn ask(kernel: &Handle<Addends, Sum>, i: u64) -> f32 {
    kernel.ask(addends(i), TIMEOUT).expect("the kernel answers").value
}

#[inline]
pub fn send_batch(kernel: &Handle<Addends, ()>, batch: u64) {
    let first = batch * BATCH;
    kernel.send_many((first..first + BATCH).map(addends)).expect("the kernel takes messages");
}

/// Returns when all that this thread has sent is handled: an ask of a kernel with no reply returns when its
/// message is, and a serial kernel handles one sender's messages in order.
pub fn flush(kernel: &Handle<Addends, ()>) {
    kernel.ask(addends(0), TIMEOUT).expect("the kernel handles what it has");
}
