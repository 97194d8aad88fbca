//! The same jobs through Ringwork: kernels on its wgpu backend, on the adapter of the yardsticks.

use crate::gpu::Gpu;
use crate::harness::Case;
use crate::{instances, job, serial};
use ringwork::{BackendKind, Handle, RingKernel, Runtime, Vec4, message};
use std::time::{Duration, Instant};

message! {
    /// 64 bytes in.
    pub struct Job { pub seed: Vec4<u32>, pub left: Vec4<u32>, pub right: Vec4<u32>, pub weights: Vec4<f32> }
}
message! {
    /// 64 bytes out.
    pub struct Answer {
        pub seed: Vec4<u32>, pub mixed: Vec4<u32>, pub folded: Vec4<u32>,
        pub hash: u32, pub count: u32, pub sum: f32, pub largest: f32,
    }
}
message! {
    /// What a serial kernel keeps.
    pub struct Tally { pub hash: u32, pub count: u32, pub sum: f32, pub largest: f32 }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime on the adapter that the yardsticks use.
pub fn runtime(gpu: &Gpu) -> Result<Runtime, String> {
    let runtime = Runtime::builder().backend(BackendKind::Wgpu).adapter(gpu.info.name.as_str()).build();
    runtime.map_err(|error| error.to_string())
}

fn send<In: ringwork::Message, Out: ringwork::Message>(
    kernel: &Handle<In, Out>,
    messages: Vec<In>,
) -> Result<(), String> {
    kernel.send_many(messages).map(drop).map_err(|error| format!("{error}"))
}

fn receive<In: ringwork::Message, Out: ringwork::Message>(
    kernel: &Handle<In, Out>,
    mut count: usize,
    into: &mut Vec<Vec<Out>>,
) -> Result<(), String> {
    while count > 0 {
        let some = kernel.recv_many(count, PATIENCE).map_err(|error| error.to_string())?;
        count -= some.len();
        into.push(some);
    }
    Ok(())
}

fn check(answers: &[Answer], wanted: impl ExactSizeIterator<Item = job::Answer>) -> Result<(), String> {
    let got: Vec<job::Answer> =
        answers.iter().map(|answer| bytemuck::pod_read_unaligned(bytemuck::bytes_of(answer))).collect();
    job::check(&got, wanted)
}

fn messages(jobs: &[job::Job]) -> Vec<Job> {
    bytemuck::cast_slice(jobs).to_vec()
}

/// Jobs in batches: one is sent while the one before it is on its way.
struct Batches {
    _runtime: Runtime,
    kernel: Handle<Job, Answer>,
    batch: usize,
    next: u32,
}

impl Case for Batches {
    fn name(&self) -> &str {
        "ringwork"
    }

    fn round(&mut self, count: usize) -> Result<Duration, String> {
        let jobs = job::jobs(self.next, count);
        self.next = self.next.wrapping_add(count as u32);
        let mut batches: Vec<_> = jobs.chunks(self.batch).map(messages).collect();
        batches.reverse();
        let mut answers = Vec::new();
        let start = Instant::now();
        let mut under_way = 0;
        while let Some(batch) = batches.pop() {
            let sent = batch.len();
            send(&self.kernel, batch)?;
            receive(&self.kernel, std::mem::replace(&mut under_way, sent), &mut answers)?;
        }
        receive(&self.kernel, under_way, &mut answers)?;
        let time = start.elapsed();
        check(&answers.concat(), jobs.iter().map(job::answer))?;
        Ok(time)
    }
}

/// One job at a time.
struct Ask {
    _runtime: Runtime,
    kernel: Handle<Job, Answer>,
    next: u32,
}

impl Case for Ask {
    fn name(&self) -> &str {
        "ringwork"
    }

    fn round(&mut self, count: usize) -> Result<Duration, String> {
        let jobs = job::jobs(self.next, count);
        self.next = self.next.wrapping_add(count as u32);
        let messages = messages(&jobs);
        let mut answers = Vec::with_capacity(count);
        let start = Instant::now();
        for message in messages {
            answers.push(self.kernel.ask(message, PATIENCE).map_err(|error| error.to_string())?);
        }
        let time = start.elapsed();
        check(&answers, jobs.iter().map(job::answer))?;
        Ok(time)
    }
}

fn stateless(gpu: &Gpu, batch: usize) -> Result<(Runtime, Handle<Job, Answer>), String> {
    let runtime = runtime(gpu)?;
    let text = [job::TYPES, job::STATELESS].concat();
    let kernel = RingKernel::<Job, Answer>::wgsl("job", text)
        .queue_capacity((2 * batch).max(64))
        .output_capacity((4 * batch).max(64));
    let kernel = runtime.launch(kernel).map_err(|error| error.to_string())?;
    kernel.activate().map_err(|error| error.to_string())?;
    Ok((runtime, kernel))
}

pub fn ask(gpu: &Gpu) -> Result<Box<dyn Case>, String> {
    let (runtime, kernel) = stateless(gpu, 64)?;
    Ok(Box::new(Ask { _runtime: runtime, kernel, next: 0 }))
}

pub fn batches(gpu: &Gpu, batch: usize) -> Result<Box<dyn Case>, String> {
    let (runtime, kernel) = stateless(gpu, batch)?;
    Ok(Box::new(Batches { _runtime: runtime, kernel, batch, next: 0 }))
}

/// 64 serial kernels.
struct Serial {
    _runtime: Runtime,
    name: &'static str,
    kernels: Vec<Handle<Job, Answer>>,
    /// All kernels have their messages before the first answer is waited for.
    together: bool,
    states: Vec<job::Tally>,
    next: u32,
}

impl Case for Serial {
    fn name(&self) -> &str {
        self.name
    }

    fn round(&mut self, count: usize) -> Result<Duration, String> {
        let each = count / serial::KERNELS;
        let jobs = job::jobs(self.next, count);
        self.next = self.next.wrapping_add(count as u32);
        let parts: Vec<_> = jobs.chunks(each).map(messages).collect();
        let mut answers = Vec::new();
        let start = Instant::now();
        if self.together {
            for (kernel, part) in self.kernels.iter().zip(parts) {
                send(kernel, part)?;
            }
            for kernel in &self.kernels {
                receive(kernel, each, &mut answers)?;
            }
        } else {
            for (kernel, part) in self.kernels.iter().zip(parts) {
                send(kernel, part)?;
                receive(kernel, each, &mut answers)?;
            }
        }
        let time = start.elapsed();
        let states = &mut self.states;
        let wanted: Vec<_> = (0..count).map(|i| job::tally(&jobs[i], &mut states[i / each])).collect();
        check(&answers.concat(), wanted.into_iter())?;
        Ok(time)
    }
}

/// The kernels share a handler, or each has its own; they are served together, or each by itself.
pub fn serial_cases(gpu: &Gpu) -> Result<Vec<Box<dyn Case>>, String> {
    let mut all: Vec<Box<dyn Case>> = vec![];
    for (name, shared, together) in [
        ("ringwork, one handler, together", true, true),
        ("ringwork, one handler, one by one", true, false),
        ("ringwork, own handlers, together", false, true),
        ("ringwork, own handlers, one by one", false, false),
    ] {
        let runtime = runtime(gpu)?;
        let kernels = (0..serial::KERNELS).map(|number| {
            let own = if shared { String::new() } else { format!("const NUMBER = {number}u;") };
            let text = [job::TYPES, job::STATEFUL, &own].concat();
            let kernel = RingKernel::<Job, Answer>::wgsl(format!("serial {number}"), text)
                .initial_state(Tally::default())
                .queue_capacity(1024)
                .output_capacity(1024);
            let kernel = runtime.launch(kernel).map_err(|error| error.to_string())?;
            kernel.activate().map_err(|error| error.to_string())?;
            Ok(kernel)
        });
        let kernels = kernels.collect::<Result<Vec<_>, String>>()?;
        let states = vec![job::Tally::default(); serial::KERNELS];
        all.push(Box::new(Serial { _runtime: runtime, name, kernels, together, states, next: 0 }));
    }
    Ok(all)
}

message! {
    /// To an account.
    pub struct Order { pub to: u32, pub amount: u32, pub memo: u32, pub stamp: u32 }
}
message! {
    /// From it.
    pub struct Receipt { pub balance: u32, pub count: u32, pub hash: u32, pub stamp: u32 }
}
message! {
    /// What an account keeps.
    pub struct Account { pub balance: u32, pub count: u32, pub hash: u32, pub largest: u32 }
}

struct Instances {
    _runtime: Runtime,
    kernel: Handle<Order, Receipt>,
    orders: instances::Orders,
}

impl Case for Instances {
    fn name(&self) -> &str {
        "ringwork"
    }

    fn round(&mut self, count: usize) -> Result<Duration, String> {
        let orders = self.orders.next(count);
        let messages: Vec<Order> = bytemuck::cast_slice(&orders).to_vec();
        let mut receipts = Vec::new();
        let start = Instant::now();
        send(&self.kernel, messages)?;
        receive(&self.kernel, count, &mut receipts)?;
        let time = start.elapsed();
        let receipts = receipts.concat();
        let got: &[instances::Receipt] = bytemuck::cast_slice(&receipts);
        job::check(got, self.orders.wanted(&orders).into_iter())?;
        Ok(time)
    }
}

pub fn instances_case(gpu: &Gpu) -> Result<Box<dyn Case>, String> {
    let runtime = runtime(gpu)?;
    let kernel = RingKernel::<Order, Receipt>::wgsl("accounts", instances::HANDLER)
        .initial_state(Account::default())
        .instances(instances::INSTANCES as u32)
        .queue_capacity(2 * instances::MESSAGES)
        .output_capacity(2 * instances::MESSAGES);
    let kernel = runtime.launch(kernel).map_err(|error| error.to_string())?;
    kernel.activate().map_err(|error| error.to_string())?;
    Ok(Box::new(Instances { _runtime: runtime, kernel, orders: instances::Orders::new() }))
}
