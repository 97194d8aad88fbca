//! The expert ring: batches of 64-byte messages for a handler without a state, through buffers that are mapped while
//! the host has them, one or two batches in flight. On llvmpipe a third one gained nothing, and neither did shaders
//! without wgpu's run-time checks.

use crate::gpu::{Gpu, Wait};
use crate::harness::Case;
use crate::job::{self, Answer, Job};
use crate::lane::{Lane, Way};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One invocation a message; the count travels in front of the messages, so that a batch needs no other upload.
const DRIVER: &str = "
struct Batch { count: u32, jobs: array<Job> }
@group(0) @binding(0) var<storage, read> batch: Batch;
@group(0) @binding(1) var<storage, read_write> answers: array<Answer>;
@compute @workgroup_size(64)
fn drive(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < batch.count) { answers[id.x] = on_message(batch.jobs[id.x]); }
}
";
/// On llvmpipe 32 to 256 are as good, and 8 takes a quarter longer.
const WORKGROUP: usize = 64;
/// What is in front of the messages, padded to their alignment.
const HEADER: usize = 16;

struct Slot {
    lane: Lane,
    group: wgpu::BindGroup,
    /// The batch in flight, and which messages it holds.
    flying: Option<(wgpu::SubmissionIndex, std::ops::Range<usize>)>,
}

pub struct Ring {
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    slots: Vec<Slot>,
    batch: usize,
    wait: Wait,
}

impl Ring {
    pub fn new(gpu: &Arc<Gpu>, way: Way, batch: usize, depth: usize, wait: Wait) -> Self {
        let pipeline = gpu.pipeline([job::TYPES, job::STATELESS, DRIVER].concat(), "drive");
        let slot = |_| {
            let lane = Lane::new(gpu, way, HEADER + batch * size_of::<Job>(), batch * size_of::<Answer>());
            let group = gpu.group(&pipeline, &[&lane.input, &lane.output]);
            Slot { lane, group, flying: None }
        };
        let slots = (0..depth).map(slot).collect();
        Self { gpu: gpu.clone(), pipeline, slots, batch, wait }
    }

    /// Sends all jobs, a batch at a time, and puts the answers in their places.
    pub fn run(&mut self, jobs: &[Job], answers: &mut [Answer]) {
        let depth = self.slots.len();
        let batches = jobs.len().div_ceil(self.batch);
        for turn in 0..batches + depth {
            let slot = turn % depth;
            self.collect(slot, answers);
            if turn < batches {
                let first = turn * self.batch;
                self.submit(slot, first..jobs.len().min(first + self.batch), jobs);
            }
        }
    }

    fn submit(&mut self, slot: usize, range: std::ops::Range<usize>, jobs: &[Job]) {
        let slot = &mut self.slots[slot];
        let header = [range.len() as u32, 0, 0, 0];
        let mut encoder = self.gpu.encoder();
        let parts: [&[u8]; 2] = [bytemuck::bytes_of(&header), bytemuck::cast_slice(&jobs[range.clone()])];
        slot.lane.send(&self.gpu, &parts);
        slot.lane.bring(&mut encoder, HEADER + range.len() * size_of::<Job>());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &slot.group, &[]);
            pass.dispatch_workgroups(range.len().div_ceil(WORKGROUP) as u32, 1, 1);
        }
        slot.lane.fetch(&mut encoder, range.len() * size_of::<Answer>());
        slot.flying = Some((self.gpu.queue.submit([encoder.finish()]), range));
    }

    fn collect(&mut self, slot: usize, answers: &mut [Answer]) {
        let slot = &mut self.slots[slot];
        if let Some((submission, range)) = slot.flying.take() {
            self.gpu.wait(submission, self.wait);
            slot.lane.receive(bytemuck::cast_slice_mut(&mut answers[range]));
        }
    }
}

struct Expert {
    name: String,
    ring: Ring,
    next: u32,
}

impl Case for Expert {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&mut self, messages: usize) -> Result<Duration, String> {
        let jobs = job::jobs(self.next, messages);
        self.next = self.next.wrapping_add(messages as u32);
        let mut answers = vec![Answer::default(); messages];
        let start = Instant::now();
        self.ring.run(&jobs, &mut answers);
        let time = start.elapsed();
        job::check(&answers, jobs.iter().map(job::answer))?;
        Ok(time)
    }
}

/// The ring in every way that the adapter allows, for batches of one size.
pub fn cases(gpu: &Arc<Gpu>, batch: usize) -> Vec<Box<dyn Case>> {
    let mut all: Vec<Box<dyn Case>> = vec![];
    for &way in Way::all(gpu) {
        for (depth, wait) in [(1, Wait::Sleep), (2, Wait::Sleep), (2, Wait::Spin)] {
            let name = format!("expert, {way}, {depth} in flight, {wait}");
            all.push(Box::new(Expert { name, ring: Ring::new(gpu, way, batch, depth, wait), next: 0 }));
        }
    }
    all
}
