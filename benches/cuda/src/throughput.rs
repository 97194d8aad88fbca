//! Many messages of 64 bytes, in batches: in every shape, and over more and more kernels.

use crate::report::Report;
use crate::{HANDLER, Job, PATIENCE, active};
use ringwork::{Handle, RingKernel, Runtime, message};
use std::time::{Duration, Instant};

message! {
    /// A job for an instance.
    pub struct Order { pub to: u32, pub words: [u32; 15] }
}
message! {
    /// What a serial kernel or an instance keeps.
    pub struct Tally { pub count: u32, pub sum: u32 }
}

const SERIAL: &str = "fn on_message(m: Job, s: ptr<function, Tally>) -> Job {
    var r: Job;
    for (var i = 0u; i < 16u; i++) { r.words[i] = m.words[i] + 1u; }
    (*s).count += 1u;
    (*s).sum += m.words[0];
    return r;
}";
const ORDERS: &str = "fn on_message(m: Order, s: ptr<function, Tally>) -> Order {
    var r = m;
    for (var i = 0u; i < 15u; i++) { r.words[i] = m.words[i] + 1u; }
    (*s).count += 1u;
    (*s).sum += m.words[0];
    return r;
}";
const INSTANCES: u32 = 100_000;

fn word(number: u32, at: usize) -> u32 {
    number.wrapping_mul(2_654_435_761).wrapping_add(at as u32)
}

fn job(number: u32) -> Job {
    Job { words: std::array::from_fn(|at| word(number, at)) }
}

fn order(number: u32) -> Order {
    Order { to: number.wrapping_mul(7919) % INSTANCES, words: std::array::from_fn(|at| word(number, at)) }
}

fn after_job(job: Job) -> Job {
    Job { words: job.words.map(|word| word.wrapping_add(1)) }
}

fn after_order(order: Order) -> Order {
    Order { words: order.words.map(|word| word.wrapping_add(1)), ..order }
}

/// Sends messages to all kernels in batches, one while the one before it is on its way, and checks the answers.
fn round<M: ringwork::DeviceMessage + PartialEq>(
    kernels: &[Handle<M, M>],
    messages: &[M],
    batch: usize,
    after: fn(M) -> M,
) -> Result<Duration, String> {
    let mut answers = vec![Vec::with_capacity(messages.len()); kernels.len()];
    let mut batches: Vec<_> =
        messages.chunks(batch).map(|batch| vec![batch.to_vec(); kernels.len()]).collect();
    batches.reverse();
    let begun = Instant::now();
    let mut under_way = 0;
    while under_way > 0 || !batches.is_empty() {
        let due = answers[0].len() + under_way;
        under_way = 0;
        if let Some(batches) = batches.pop() {
            under_way = batches[0].len();
            for (kernel, batch) in kernels.iter().zip(batches) {
                kernel.send_many(batch).map_err(|error| error.to_string())?;
            }
        }
        for (kernel, answers) in kernels.iter().zip(&mut answers) {
            while answers.len() < due {
                let more = kernel.recv_many(due - answers.len(), PATIENCE);
                answers.extend(more.map_err(|error| error.to_string())?);
            }
        }
    }
    let time = begun.elapsed();
    let is_right = |answers: &Vec<M>| {
        answers.len() == messages.len()
            && messages.iter().zip(answers).all(|(m, answer)| after(*m) == *answer)
    };
    if answers.iter().all(is_right) { Ok(time) } else { Err("wrong answers".to_owned()) }
}

fn sized<M: ringwork::DeviceMessage>(name: String, text: &str, batch: usize) -> RingKernel<M, M> {
    RingKernel::wgsl(name, text).queue_capacity((2 * batch).max(64)).output_capacity((4 * batch).max(64))
}

/// Rounds over kernels that end behind it.
fn rounds<M: ringwork::DeviceMessage + PartialEq>(
    runtime: &Runtime,
    kernels: Vec<RingKernel<M, M>>,
    (rounds, batch): (usize, usize),
    messages: &[M],
    after: fn(M) -> M,
) -> Result<Vec<Duration>, String> {
    let kernels: Result<Vec<_>, _> = kernels.into_iter().map(|kernel| active(runtime, kernel)).collect();
    let kernels = kernels?;
    let times = (0..=rounds).map(|_| round(&kernels, messages, batch, after)).skip(1).collect();
    for kernel in kernels {
        kernel.terminate(PATIENCE).map_err(|error| error.to_string())?;
    }
    times
}

/// In every shape.
pub fn measure(runtime: &Runtime, quick: bool, report: &mut Report) -> Result<(), String> {
    let (count, messages) = if quick { (2, 2_000) } else { (7, 1 << 20) };
    report.heading(
        "Messages of 64 bytes, each with a reply of 64 bytes",
        &["shape", "median M/s", "least M/s", "most M/s", "rounds × messages"],
    );
    let jobs: Vec<_> = (0..messages).map(job).collect();
    let orders: Vec<_> = (0..messages).map(order).collect();
    let tally = Tally { count: 0, sum: 0 };
    for batch in [64, 1024, 16384] {
        let name = |shape: &str| format!("{shape}, batches of {batch}");
        let kernel = sized("stateless".to_owned(), HANDLER, batch);
        let mut times = rounds(runtime, vec![kernel], (count, batch), &jobs, after_job)?;
        report.rate(&name("stateless"), jobs.len(), &mut times);
        let kernel = sized("serial".to_owned(), SERIAL, batch).initial_state(tally);
        let mut times = rounds(runtime, vec![kernel], (count, batch), &jobs, after_job)?;
        report.rate(&name("serial"), jobs.len(), &mut times);
        let kernel = sized("instances".to_owned(), ORDERS, batch).initial_state(tally).instances(INSTANCES);
        let mut times = rounds(runtime, vec![kernel], (count, batch), &orders, after_order)?;
        report.rate(&name("100,000 instances"), orders.len(), &mut times);
    }
    Ok(())
}

/// Over more and more serial kernels.
pub fn kernels(runtime: &Runtime, quick: bool, report: &mut Report) -> Result<(), String> {
    let (count, messages, batch) = if quick { (1, 50, 50) } else { (5, 20_000, 1_000) };
    report.heading(
        "Serial kernels side by side, messages as above in batches of 1,000 for each",
        &["kernels", "median M/s", "least M/s", "most M/s", "rounds × messages"],
    );
    let jobs: Vec<_> = (0..messages).map(job).collect();
    for number in [1, 2, 4, 8, 16, 32, 64, 128] {
        let kernel =
            |index| sized(format!("serial {index}"), SERIAL, batch).initial_state(Tally { count: 0, sum: 0 });
        let kernels = (0..number).map(kernel).collect();
        let mut times = rounds(runtime, kernels, (count, batch), &jobs, after_job)?;
        report.rate(&number.to_string(), jobs.len() * number, &mut times);
    }
    Ok(())
}
