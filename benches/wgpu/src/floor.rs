//! The floor under every latency: one 64-byte message in, one dispatch of one invocation, one 64-byte answer out, with
//! all that can be made beforehand made beforehand.

use crate::gpu::{Gpu, Wait};
use crate::harness::Case;
use crate::job::{self, Answer, Job};
use crate::lane::{Lane, Way};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wgpu::BufferUsages as Usage;

const DRIVER: &str = "
@group(0) @binding(0) var<storage, read> job: Job;
@group(0) @binding(1) var<storage, read_write> answer: Answer;
@compute @workgroup_size(1)
fn drive() { answer = on_message(job); }
";

const SHARED: &str = "
struct Exchange { job: Job, answer: Answer }
@group(0) @binding(0) var<storage, read_write> exchange: Exchange;
@compute @workgroup_size(1)
fn drive() { exchange.answer = on_message(exchange.job); }
";

struct Floor {
    name: String,
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    lane: Lane,
    group: wgpu::BindGroup,
    wait: Wait,
    next: u32,
}

pub fn cases(gpu: &Arc<Gpu>) -> Vec<Box<dyn Case>> {
    let mut all: Vec<Box<dyn Case>> = vec![];
    for &way in Way::all(gpu) {
        for wait in [Wait::Sleep, Wait::Spin] {
            let pipeline = gpu.pipeline([job::TYPES, job::STATELESS, DRIVER].concat(), "drive");
            let lane = Lane::new(gpu, way, size_of::<Job>(), size_of::<Answer>());
            let group = gpu.group(&pipeline, &[&lane.input, &lane.output]);
            let name = format!("floor {way:?}, {wait:?}");
            all.push(Box::new(Floor { name, gpu: gpu.clone(), pipeline, lane, group, wait, next: 0 }));
        }
    }
    for wait in [Wait::Sleep, Wait::Spin] {
        let pipeline = gpu.pipeline([job::TYPES, job::STATELESS, SHARED].concat(), "drive");
        let buffer = gpu.buffer(128, Usage::STORAGE | Usage::MAP_READ | Usage::MAP_WRITE, true);
        let group = gpu.group(&pipeline, &[&buffer]);
        let name = format!("floor one buffer, {wait:?}");
        all.push(Box::new(One { name, gpu: gpu.clone(), pipeline, buffer, group, wait, next: 0 }));
    }
    all
}

impl Case for Floor {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&mut self, messages: usize) -> Result<Duration, String> {
        let jobs = job::jobs(self.next, messages);
        self.next = self.next.wrapping_add(messages as u32);
        let mut answers = vec![Answer::default(); messages];
        let start = Instant::now();
        for (job, answer) in jobs.iter().zip(&mut answers) {
            let mut encoder = self.gpu.encoder();
            self.lane.send(&self.gpu, &mut encoder, &[bytemuck::bytes_of(job)]);
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                pass.set_pipeline(&self.pipeline);
                pass.set_bind_group(0, &self.group, &[]);
                pass.dispatch_workgroups(1, 1, 1);
            }
            self.lane.fetch(&mut encoder, size_of::<Answer>());
            let submission = self.gpu.queue.submit([encoder.finish()]);
            self.gpu.wait(submission, self.wait);
            self.lane.receive(bytemuck::bytes_of_mut(answer));
        }
        let time = start.elapsed();
        job::check(&answers, jobs.iter().map(job::answer))?;
        Ok(time)
    }
}

struct One {
    name: String,
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    buffer: wgpu::Buffer,
    group: wgpu::BindGroup,
    wait: Wait,
    next: u32,
}

impl Case for One {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&mut self, messages: usize) -> Result<Duration, String> {
        let jobs = job::jobs(self.next, messages);
        self.next = self.next.wrapping_add(messages as u32);
        let mut answers = vec![Answer::default(); messages];
        let mut parts = [0.0; 5];
        let start = Instant::now();
        for (job, answer) in jobs.iter().zip(&mut answers) {
            let t0 = Instant::now();
            self.buffer.get_mapped_range_mut(..64).unwrap().copy_from_slice(bytemuck::bytes_of(job));
            self.buffer.unmap();
            let t1 = Instant::now();
            let mut encoder = self.gpu.encoder();
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                pass.set_pipeline(&self.pipeline);
                pass.set_bind_group(0, &self.group, &[]);
                pass.dispatch_workgroups(1, 1, 1);
            }
            encoder.map_buffer_on_submit(&self.buffer, wgpu::MapMode::Write, .., drop);
            let commands = encoder.finish();
            let t2 = Instant::now();
            let submission = self.gpu.queue.submit([commands]);
            let t3 = Instant::now();
            self.gpu.wait(submission, self.wait);
            let t4 = Instant::now();
            *answer = *bytemuck::from_bytes(&self.buffer.get_mapped_range(64..).unwrap());
            let t5 = Instant::now();
            for (part, (a, b)) in parts.iter_mut().zip([(t0, t1), (t1, t2), (t2, t3), (t3, t4), (t4, t5)]) {
                *part += (b - a).as_secs_f64() * 1e6 / messages as f64;
            }
        }
        let time = start.elapsed();
        if self.next % 1000 == 0 {
            println!("| {} | {parts:.1?} |", self.name);
        }
        job::check(&answers, jobs.iter().map(job::answer))?;
        Ok(time)
    }
}
