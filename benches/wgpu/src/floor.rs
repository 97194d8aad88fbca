//! The floor under every latency: one 64-byte message in, one dispatch of one invocation, one 64-byte answer out, with
//! all that can be made beforehand made beforehand. On llvmpipe one mapped buffer for both ways took as long as two.

use crate::gpu::{Gpu, Wait};
use crate::harness::Case;
use crate::job::{self, Answer, Job};
use crate::lane::{Lane, Way};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DRIVER: &str = "
@group(0) @binding(0) var<storage, read> job: Job;
@group(0) @binding(1) var<storage, read_write> answer: Answer;
@compute @workgroup_size(1)
fn drive() { answer = on_message(job); }
";

struct Floor {
    name: String,
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    lane: Lane,
    group: wgpu::BindGroup,
    wait: Wait,
    /// The commands of a message are encoded while the device has the message before.
    ahead: bool,
    encoded: Option<wgpu::CommandBuffer>,
    next: u32,
}

pub fn cases(gpu: &Arc<Gpu>) -> Vec<Box<dyn Case>> {
    let mut all: Vec<Box<dyn Case>> = vec![];
    for &way in Way::all(gpu) {
        for (wait, ahead) in
            [(Wait::Sleep, false), (Wait::Sleep, true), (Wait::Spin, false), (Wait::Spin, true)]
        {
            let pipeline = gpu.pipeline([job::TYPES, job::STATELESS, DRIVER].concat(), "drive");
            let lane = Lane::new(gpu, way, size_of::<Job>(), size_of::<Answer>());
            let group = gpu.group(&pipeline, &[&lane.input, &lane.output]);
            let name = format!("floor, {way}, {wait}{}", if ahead { ", encoded ahead" } else { "" });
            let gpu = gpu.clone();
            all.push(Box::new(Floor {
                name,
                gpu,
                pipeline,
                lane,
                group,
                wait,
                ahead,
                encoded: None,
                next: 0,
            }));
        }
    }
    all
}

impl Floor {
    fn encode(&self) -> wgpu::CommandBuffer {
        let mut encoder = self.gpu.encoder();
        self.lane.bring(&mut encoder, size_of::<Job>());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
        self.lane.fetch(&mut encoder, size_of::<Answer>());
        encoder.finish()
    }

    fn ask(&mut self, job: &Job) -> Answer {
        self.lane.send(&self.gpu, &[bytemuck::bytes_of(job)]);
        let commands = self.encoded.take().unwrap_or_else(|| self.encode());
        let submission = self.gpu.queue.submit([commands]);
        self.encoded = self.ahead.then(|| self.encode());
        self.gpu.wait(submission, self.wait);
        let mut answer = Answer::default();
        self.lane.receive(bytemuck::bytes_of_mut(&mut answer));
        answer
    }
}

impl Case for Floor {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&mut self, messages: usize) -> Result<Duration, String> {
        let jobs = job::jobs(self.next, messages);
        self.next = self.next.wrapping_add(messages as u32);
        let start = Instant::now();
        let answers: Vec<Answer> = jobs.iter().map(|job| self.ask(job)).collect();
        let time = start.elapsed();
        job::check(&answers, jobs.iter().map(job::answer))?;
        Ok(time)
    }
}
