//! What a first attempt does: one dispatch and one blocking read per message.

use crate::gpu::{Gpu, Wait};
use crate::harness::Case;
use crate::job::{self, Answer, Job};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wgpu::BufferUsages as Usage;

const DRIVER: &str = "
@group(0) @binding(0) var<storage, read> jobs: array<Job>;
@group(0) @binding(1) var<storage, read_write> answers: array<Answer>;
@compute @workgroup_size(64)
fn drive(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < arrayLength(&jobs)) { answers[id.x] = on_message(jobs[id.x]); }
}
";

struct Buffers {
    input: wgpu::Buffer,
    output: wgpu::Buffer,
    readback: wgpu::Buffer,
    group: wgpu::BindGroup,
}

struct Naive {
    name: &'static str,
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    /// Made once, or anew for each message.
    kept: Option<Buffers>,
    next: u32,
}

pub fn cases(gpu: &Arc<Gpu>) -> Vec<Box<dyn Case>> {
    let mut all: Vec<Box<dyn Case>> = vec![];
    for (name, keep) in [("naive", true), ("naive, new buffers for each message", false)] {
        let pipeline = gpu.pipeline([job::TYPES, job::STATELESS, DRIVER].concat(), "drive");
        let kept = keep.then(|| buffers(gpu, &pipeline));
        all.push(Box::new(Naive { name, gpu: gpu.clone(), pipeline, kept, next: 0 }));
    }
    all
}

fn buffers(gpu: &Gpu, pipeline: &wgpu::ComputePipeline) -> Buffers {
    let input = gpu.buffer(size_of::<Job>() as u64, Usage::STORAGE | Usage::COPY_DST, false);
    let output = gpu.buffer(size_of::<Answer>() as u64, Usage::STORAGE | Usage::COPY_SRC, false);
    let readback = gpu.buffer(size_of::<Answer>() as u64, Usage::MAP_READ | Usage::COPY_DST, false);
    let group = gpu.group(pipeline, &[&input, &output]);
    Buffers { input, output, readback, group }
}

impl Naive {
    fn ask(&self, job: &Job) -> Answer {
        let made;
        let buffers = match &self.kept {
            Some(kept) => kept,
            None => {
                made = buffers(&self.gpu, &self.pipeline);
                &made
            }
        };
        self.gpu.queue.write_buffer(&buffers.input, 0, bytemuck::bytes_of(job));
        let mut encoder = self.gpu.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &buffers.group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
        let bytes = size_of::<Answer>() as u64;
        encoder.copy_buffer_to_buffer(&buffers.output, 0, &buffers.readback, 0, bytes);
        let submission = self.gpu.queue.submit([encoder.finish()]);
        buffers.readback.map_async(wgpu::MapMode::Read, .., drop);
        self.gpu.wait(submission, Wait::Sleep);
        let answer =
            *bytemuck::from_bytes(&buffers.readback.get_mapped_range(..).expect("mapped for the host"));
        buffers.readback.unmap();
        answer
    }
}

impl Case for Naive {
    fn name(&self) -> &str {
        self.name
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
