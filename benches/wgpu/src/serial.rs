//! 64 serial kernels: each has a state and a ring, whose messages it handles one after the other.

use crate::gpu::{Gpu, Wait};
use crate::harness::Case;
use crate::job::{self, Answer, Job, Tally};
use crate::lane::{Lane, Way};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wgpu::BufferUsages as Usage;

pub const KERNELS: usize = 64;
/// Messages that a kernel's ring takes. A round must stay far below 65,535 of them: there llvmpipe ends a loop without
/// a word, and the kernels of one SIMD group share that budget.
const RING: usize = 1024;
/// Words in front of the messages: where each kernel's begin, and where the last one's end; padded to their alignment.
const STARTS: usize = KERNELS + 4;

/// For all kernels: their messages one kernel after the other in one buffer, found by their kernel's number.
const TOGETHER: &str = "
struct Round { starts: array<u32, 68>, jobs: array<Job> }
@group(0) @binding(0) var<storage, read> round: Round;
@group(0) @binding(1) var<storage, read_write> answers: array<Answer>;
@group(0) @binding(2) var<storage, read_write> states: array<Tally, 64>;
fn serve(kernel: u32) {
    var state = states[kernel];
    let end = round.starts[kernel + 1u];
    for (var i = round.starts[kernel]; i < end; i++) { answers[i] = on_message(round.jobs[i], &state); }
    states[kernel] = state;
}
@compute @workgroup_size(64)
fn lanes(@builtin(local_invocation_index) kernel: u32) { serve(kernel); }
@compute @workgroup_size(1)
fn groups(@builtin(workgroup_id) group: vec3<u32>) { serve(group.x); }
";

/// … and for one kernel, whose number is in a buffer.
const NUMBERED: &str = "
@group(0) @binding(3) var<storage, read> number: u32;
@compute @workgroup_size(1)
fn one() { serve(number); }
";

/// For a kernel that has its buffers to itself.
const ALONE: &str = "
struct Round { count: u32, jobs: array<Job> }
@group(0) @binding(0) var<storage, read> round: Round;
@group(0) @binding(1) var<storage, read_write> answers: array<Answer>;
@group(0) @binding(2) var<storage, read_write> tally: Tally;
@compute @workgroup_size(1)
fn serve() {
    var state = tally;
    for (var i = 0u; i < round.count; i++) { answers[i] = on_message(round.jobs[i], &state); }
    tally = state;
}
";
/// What is in front of the messages of [`ALONE`].
const ALONE_HEADER: usize = 16;

/// One way to run a round of all kernels: from their jobs, kernel by kernel, to the answers in the same places.
trait Plan {
    fn run(&mut self, gpu: &Gpu, each: usize, jobs: &[Job], answers: &mut [Answer]);
}

struct Serial {
    name: String,
    gpu: Arc<Gpu>,
    plan: Box<dyn Plan>,
    states: Vec<Tally>,
    next: u32,
}

impl Case for Serial {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&mut self, messages: usize) -> Result<Duration, String> {
        let each = messages / KERNELS;
        assert!(each * KERNELS == messages && each <= RING, "{messages} messages for {KERNELS} rings");
        let jobs = job::jobs(self.next, messages);
        self.next = self.next.wrapping_add(messages as u32);
        let mut answers = vec![Answer::default(); messages];
        let start = Instant::now();
        self.plan.run(&self.gpu, each, &jobs, &mut answers);
        let time = start.elapsed();
        let states = &mut self.states;
        let wanted = jobs.iter().enumerate().map(|(i, job)| job::tally(job, &mut states[i / each]));
        job::check(&answers, wanted)?;
        Ok(time)
    }
}

pub fn cases(gpu: &Arc<Gpu>) -> Vec<Box<dyn Case>> {
    let mut all: Vec<Box<dyn Case>> = vec![];
    let mut add = |name: String, plan: Box<dyn Plan>| {
        let states = vec![Tally::default(); KERNELS];
        all.push(Box::new(Serial { name, gpu: gpu.clone(), plan, states, next: 0 }));
    };
    for wait in [Wait::Sleep, Wait::Spin] {
        add(format!("one dispatch, a lane each, {wait}"), Box::new(Together::new(gpu, wait, "lanes")));
    }
    let wait = Wait::Sleep;
    add(format!("one dispatch, a workgroup each, {wait}"), Box::new(Together::new(gpu, wait, "groups")));
    add(format!("a dispatch each, common buffers, {wait}"), Box::new(Together::new(gpu, wait, "one")));
    add(format!("a dispatch each, own buffers, {wait}"), Box::new(Apart::new(gpu, wait, false)));
    add(format!("a submission each, {wait}"), Box::new(Apart::new(gpu, wait, true)));
    all
}

/// All kernels' messages in one pair of buffers.
struct Together {
    lane: Lane,
    /// What to dispatch, and how many workgroups of it.
    dispatches: Vec<(wgpu::ComputePipeline, wgpu::BindGroup, u32)>,
    wait: Wait,
}

impl Together {
    fn new(gpu: &Gpu, wait: Wait, entry: &str) -> Self {
        let bytes = KERNELS * RING * size_of::<Job>();
        let lane = Lane::new(gpu, Way::of(gpu), STARTS * size_of::<u32>() + bytes, bytes);
        let states = gpu.buffer((KERNELS * size_of::<Tally>()) as u64, Usage::STORAGE, false);
        let source = [job::TYPES, job::STATEFUL, TOGETHER].concat();
        let common = [&lane.input, &lane.output, &states];
        let dispatch = |pipeline: wgpu::ComputePipeline, buffers: &[&wgpu::Buffer], workgroups| {
            let group = gpu.group(&pipeline, buffers);
            (pipeline, group, workgroups)
        };
        let dispatches = match entry {
            "lanes" => vec![dispatch(gpu.pipeline(source, entry), &common, 1)],
            "groups" => vec![dispatch(gpu.pipeline(source, entry), &common, KERNELS as u32)],
            _ => {
                let source = [&source, NUMBERED].concat();
                let numbered = |kernel: usize| {
                    let number = gpu.buffer(4, Usage::STORAGE | Usage::COPY_DST, false);
                    gpu.queue.write_buffer(&number, 0, &(kernel as u32).to_ne_bytes());
                    // A pipeline each, as kernels with different handlers would have.
                    let pipeline = gpu.pipeline(source.clone(), entry);
                    dispatch(pipeline, &[common[0], common[1], common[2], &number], 1)
                };
                (0..KERNELS).map(numbered).collect()
            }
        };
        Self { lane, dispatches, wait }
    }
}

impl Plan for Together {
    fn run(&mut self, gpu: &Gpu, each: usize, jobs: &[Job], answers: &mut [Answer]) {
        let starts: [u32; STARTS] = std::array::from_fn(|kernel| (kernel * each) as u32);
        let mut encoder = gpu.encoder();
        self.lane.send(gpu, &[bytemuck::cast_slice(&starts), bytemuck::cast_slice(jobs)]);
        self.lane.bring(&mut encoder, size_of_val(&starts) + size_of_val(jobs));
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (pipeline, group, workgroups) in &self.dispatches {
                pass.set_pipeline(pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(*workgroups, 1, 1);
            }
        }
        self.lane.fetch(&mut encoder, size_of_val(answers));
        let submission = gpu.queue.submit([encoder.finish()]);
        gpu.wait(submission, self.wait);
        self.lane.receive(bytemuck::cast_slice_mut(answers));
    }
}

/// Each kernel with buffers of its own.
struct Apart {
    kernels: Vec<(Lane, wgpu::ComputePipeline, wgpu::BindGroup)>,
    /// One submission for each kernel, or for all of them.
    submissions: bool,
    wait: Wait,
}

impl Apart {
    fn new(gpu: &Gpu, wait: Wait, submissions: bool) -> Self {
        let bytes = RING * size_of::<Job>();
        let kernel = |_| {
            let pipeline = gpu.pipeline([job::TYPES, job::STATEFUL, ALONE].concat(), "serve");
            let lane = Lane::new(gpu, Way::of(gpu), ALONE_HEADER + bytes, bytes);
            let state = gpu.buffer(size_of::<Tally>() as u64, Usage::STORAGE, false);
            let group = gpu.group(&pipeline, &[&lane.input, &lane.output, &state]);
            (lane, pipeline, group)
        };
        Self { kernels: (0..KERNELS).map(kernel).collect(), submissions, wait }
    }
}

impl Plan for Apart {
    fn run(&mut self, gpu: &Gpu, each: usize, jobs: &[Job], answers: &mut [Answer]) {
        let header = [each as u32, 0, 0, 0];
        let mut submission = None;
        // A group of kernels is what goes into one submission.
        let step = if self.submissions { 1 } else { KERNELS };
        for (kernels, jobs) in self.kernels.chunks(step).zip(jobs.chunks(step * each)) {
            let mut encoder = gpu.encoder();
            for ((lane, ..), jobs) in kernels.iter().zip(jobs.chunks(each)) {
                lane.send(gpu, &[bytemuck::bytes_of(&header), bytemuck::cast_slice(jobs)]);
                lane.bring(&mut encoder, ALONE_HEADER + size_of_val(jobs));
            }
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for (_, pipeline, group) in kernels {
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, group, &[]);
                    pass.dispatch_workgroups(1, 1, 1);
                }
            }
            for (lane, ..) in kernels {
                lane.fetch(&mut encoder, each * size_of::<Answer>());
            }
            submission = Some(gpu.queue.submit([encoder.finish()]));
        }
        gpu.wait(submission.expect("at least one kernel"), self.wait);
        for ((lane, ..), answers) in self.kernels.iter().zip(answers.chunks_mut(each)) {
            lane.receive(bytemuck::cast_slice_mut(answers));
        }
    }
}
