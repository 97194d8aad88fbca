//! One-shot compute against the same work written by hand: with wgpu alone, and with rayon.
//!
//! ```text
//! cargo bench --bench compute -- [--rounds N] [--small]
//! ```
//!
//! All is from interleaved rounds of one run, in each of which a case has some turns in a row, of which the last five
//! count. A time is the median of all turns. What it is beside the first case's is the median of the rounds' ratios, as a
//! shared machine's memory is a third faster in some seconds than in others. What Ringwork's kernels have made is checked,
//! of the prefix sum by one more run from the beginning; of the last case, whose floats a GPU may round otherwise, on the
//! CPU. `direct wgpu` are pipelines made from the same text, with bind groups that are kept; each dispatch is submitted and
//! waited for, as the orchestrator's. `rayon` is a parallel loop over the same elements on as many threads as there are
//! cores. Where no wgpu adapter is found, the CPU's figures are alone.

use rayon::prelude::*;
use ringwork::{BackendKind, ComputeKernel, Runtime, UnifiedBuffer};
use std::time::{Duration, Instant};

const ADD: &str = "
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(256)
fn add(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&out) { out[id.x] = a[id.x] + b[id.x]; }
}";

/// Inclusive prefix sums in place: the sums of parts and of blocks, then the sums before each block by one workgroup, then each
/// part from what is before it. An invocation has a part of 32 elements, so that workgroups have little to say to each other.
const SCAN: &str = "
@group(0) @binding(0) var<storage, read_write> values: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> parts: array<u32>;
@group(0) @binding(2) var<storage, read_write> blocks: array<u32>;
var<workgroup> total: atomic<u32>;
var<workgroup> tile: array<u32, 64>;
@compute @workgroup_size(64)
fn reduce(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32,
          @builtin(workgroup_id) group: vec3<u32>) {
    var sums = vec4(0u);
    for (var i = 0u; i < 8u; i++) { sums += values[id.x * 8u + i]; }
    let sum = sums.x + sums.y + sums.z + sums.w;
    parts[id.x] = sum;
    atomicAdd(&total, sum);
    workgroupBarrier();
    if local == 0u { blocks[group.x] = atomicLoad(&total); }
}
/// What the invocations before this one have, added to what is before all of them.
fn sum_before(local: u32, own: u32, before: u32) -> u32 {
    tile[local] = own;
    workgroupBarrier();
    if local == 0u {
        var sum = before;
        for (var i = 0u; i < 64u; i++) {
            let next = sum + tile[i];
            tile[i] = sum;
            sum = next;
        }
    }
    workgroupBarrier();
    return tile[local];
}
@compute @workgroup_size(64)
fn scan_blocks(@builtin(local_invocation_index) local: u32) {
    let count = (arrayLength(&blocks) + 63u) / 64u;
    let begin = local * count;
    let end = min(begin + count, arrayLength(&blocks));
    var own = 0u;
    for (var at = begin; at < end; at++) { own += blocks[at]; }
    var sum = sum_before(local, own, 0u);
    for (var at = begin; at < end; at++) {
        let next = sum + blocks[at];
        blocks[at] = sum;
        sum = next;
    }
}
@compute @workgroup_size(64)
fn scan(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32,
        @builtin(workgroup_id) group: vec3<u32>) {
    var sum = sum_before(local, parts[id.x], blocks[group.x]);
    for (var i = 0u; i < 8u; i++) {
        var v = values[id.x * 8u + i];
        v.x += sum;
        v.y += v.x;
        v.z += v.y;
        v.w += v.z;
        values[id.x * 8u + i] = v;
        sum = v.w;
    }
}";
/// Elements of a block, and of a part of one.
const BLOCK: usize = 64 * PART;
const PART: usize = 32;

const MANDELBROT: &str = "
@group(0) @binding(0) var<storage, read_write> image: array<u32>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= arrayLength(&image) { return; }
    let c = vec2(f32(id.x % 1024u), f32(id.x / 1024u)) * 0.0029296875 - vec2(2.0, 1.5);
    var z = vec2(0.0, 0.0);
    var rounds = 0u;
    for (; rounds < 100u && dot(z, z) <= 4.0; rounds++) { z = vec2(z.x * z.x - z.y * z.y, 2.0 * z.x * z.y) + c; }
    image[id.x] = rounds;
}";

type Work<'a> = Box<dyn FnMut() -> Duration + 'a>;

struct Case<'a> {
    name: &'static str,
    work: Work<'a>,
}

fn case<'a>(name: &'static str, mut work: impl FnMut() + 'a) -> Case<'a> {
    let timed = move || {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    Case { name, work: Box::new(timed) }
}

/// How long a case runs before its turns count: Linux decides by the load of some tens of milliseconds before whether it
/// looks for a free processor for a thread that it wakes, so the first turns depend on the case before.
const UNCOUNTED: Duration = Duration::from_millis(60);
/// Turns in a row that count.
const COUNTED: usize = 5;

/// Runs the cases in turn; prints medians, and how fast each is beside the first.
fn compare(title: &str, rounds: usize, mut cases: Vec<Case<'_>>) {
    let mut times = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (case, times) in cases.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            while begun.elapsed() < UNCOUNTED {
                (case.work)();
            }
            times.push((0..COUNTED).map(|_| (case.work)().as_secs_f64()).collect::<Vec<_>>());
        }
    }
    println!("\n{title}");
    for (case, own) in cases.iter().zip(&times) {
        let ratios = times[0].iter().zip(own).map(|(first, own)| median(first) / median(own));
        let (time, ratio) = (median(&own.concat()), median(&ratios.collect::<Vec<_>>()));
        println!("  {:<28} {:>10.3} ms   {ratio:>7.3} times as fast as the first", case.name, time * 1e3);
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Where the work runs.
struct Settings {
    cpu: Setting,
    wgpu: Option<Setting>,
    #[cfg(feature = "wgpu")]
    gpu: Option<direct::Gpu>,
}

struct Setting {
    runtime: Runtime,
    name: String,
}

fn setting(kind: BackendKind) -> Option<Setting> {
    let runtime = Runtime::builder().backend(kind).build().ok()?;
    let name = runtime.capabilities().ok()?.name;
    Some(Setting { runtime, name })
}

impl Setting {
    fn kernel(&self, text: &str, entry: &str) -> ComputeKernel {
        self.runtime.orchestrator().kernel(text, entry).expect("it compiles")
    }

    fn buffer<T: bytemuck::Pod>(&self, values: &[T]) -> UnifiedBuffer<T> {
        self.runtime.buffer(values).expect("there is memory")
    }
}

struct VectorAdd {
    add: ComputeKernel,
    out: UnifiedBuffer<f32>,
    groups: [u32; 3],
}

impl VectorAdd {
    fn new(setting: &Setting, a: &[f32], b: &[f32]) -> Self {
        let out = setting.buffer(&vec![0.0f32; a.len()]);
        let add = setting.kernel(ADD, "add");
        let add = add.bind("a", &setting.buffer(a)).bind("b", &setting.buffer(b)).bind("out", &out);
        Self { add, out, groups: [a.len().div_ceil(256) as u32, 1, 1] }
    }

    fn run(&self) {
        self.add.dispatch(self.groups).expect("it runs");
    }
}

/// Prefix sums of whole blocks.
struct Scan {
    passes: [(ComputeKernel, [u32; 3]); 3],
    values: UnifiedBuffer<[u32; 4]>,
}

impl Scan {
    fn new(setting: &Setting, values: &[u32]) -> Self {
        let buffer = setting.buffer(bytemuck::cast_slice::<u32, [u32; 4]>(values));
        let parts = setting.buffer(&vec![0u32; values.len() / PART]);
        let blocks = setting.buffer(&vec![0u32; values.len() / BLOCK]);
        let kernel = |entry| setting.kernel(SCAN, entry).bind("blocks", &blocks);
        let bound = |entry| kernel(entry).bind("values", &buffer).bind("parts", &parts);
        let groups = [blocks.len() as u32, 1, 1];
        let passes = [(bound("reduce"), groups), (kernel("scan_blocks"), [1, 1, 1]), (bound("scan"), groups)];
        Self { passes, values: buffer }
    }

    fn run(&self) {
        for (kernel, groups) in &self.passes {
            kernel.dispatch(*groups).expect("it runs");
        }
    }
}

/// Inclusive prefix sums in place, in chunks: their sums first.
fn rayon_scan(values: &mut [u32]) {
    let chunk = values.len().div_ceil(rayon::current_num_threads() * 4).max(1);
    let sums: Vec<u32> = values
        .par_chunks(chunk)
        .map(|chunk| chunk.iter().fold(0u32, |sum, value| sum.wrapping_add(*value)))
        .collect();
    let mut before = 0u32;
    let starts: Vec<u32> = sums
        .iter()
        .map(|sum| {
            let start = before;
            before = before.wrapping_add(*sum);
            start
        })
        .collect();
    values.par_chunks_mut(chunk).zip(starts).for_each(|(chunk, mut sum)| {
        for value in chunk {
            sum = sum.wrapping_add(*value);
            *value = sum;
        }
    });
}

fn mandelbrot(index: usize) -> u32 {
    let c = [(index % 1024) as f32 * 0.002_929_687_5 - 2.0, (index / 1024) as f32 * 0.002_929_687_5 - 1.5];
    let mut z = [0.0f32; 2];
    let mut rounds = 0;
    while rounds < 100 && z[0] * z[0] + z[1] * z[1] <= 4.0 {
        z = [z[0] * z[0] - z[1] * z[1] + c[0], 2.0 * z[0] * z[1] + c[1]];
        rounds += 1;
    }
    rounds
}

/// The same with wgpu alone.
#[cfg(feature = "wgpu")]
mod direct {
    use wgpu::BufferUsages as Usage;
    use wgpu::util::DeviceExt;

    pub struct Gpu {
        device: wgpu::Device,
        queue: wgpu::Queue,
    }

    /// A pipeline with its buffers bound, and the workgroups to run.
    pub struct Pass {
        pub pipeline: wgpu::ComputePipeline,
        pub group: wgpu::BindGroup,
        pub groups: u32,
    }

    impl Gpu {
        pub fn open() -> Option<Self> {
            let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
            descriptor.flags = wgpu::InstanceFlags::empty();
            let instance = wgpu::Instance::new(descriptor);
            let adapter = pollster::block_on(instance.request_adapter(&Default::default())).ok()?;
            let limits = adapter.limits();
            let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
            let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).ok()?;
            Some(Self { device, queue })
        }

        pub fn buffer(&self, bytes: &[u8]) -> wgpu::Buffer {
            self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: None,
                contents: bytes,
                usage: Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC,
            })
        }

        /// `buffers` with their bindings.
        pub fn pass(&self, text: &str, entry: &str, buffers: &[(u32, &wgpu::Buffer)], groups: u32) -> Pass {
            let source = wgpu::ShaderSource::Wgsl(text.into());
            let module =
                self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
            let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some(entry),
                compilation_options: Default::default(),
                cache: None,
            });
            let entries: Vec<_> = buffers
                .iter()
                .map(|(binding, buffer)| wgpu::BindGroupEntry {
                    binding: *binding,
                    resource: buffer.as_entire_binding(),
                })
                .collect();
            let layout = pipeline.get_bind_group_layout(0);
            let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &layout,
                entries: &entries,
            });
            Pass { pipeline, group, groups }
        }

        /// Submits a dispatch, and waits for it.
        pub fn run(&self, pass: &Pass) {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut compute = encoder.begin_compute_pass(&Default::default());
            compute.set_pipeline(&pass.pipeline);
            compute.set_bind_group(0, &pass.group, &[]);
            compute.dispatch_workgroups(pass.groups, 1, 1);
            drop(compute);
            self.queue.submit([encoder.finish()]);
            self.device.poll(wgpu::PollType::wait_indefinitely()).expect("it runs");
        }
    }
}

fn vector_add(settings: &Settings, len: usize, rounds: usize) {
    let a: Vec<f32> = (0..len).map(|index| index as f32 * 0.5).collect();
    let b: Vec<f32> = (0..len).map(|index| (index % 1000) as f32).collect();
    let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    let of_cpu = VectorAdd::new(&settings.cpu, &a, &b);
    let of_wgpu = settings.wgpu.as_ref().map(|setting| VectorAdd::new(setting, &a, &b));
    let mut out = vec![0.0f32; len];
    #[cfg(feature = "wgpu")]
    let pass = settings.gpu.as_ref().map(|gpu| {
        let bytes = |values: &[f32]| gpu.buffer(bytemuck::cast_slice(values));
        let buffers = [bytes(&a), bytes(&b), bytes(&vec![0.0; len])];
        let [a, b, out] = &buffers;
        (gpu, gpu.pass(ADD, "add", &[(0, a), (1, b), (2, out)], len.div_ceil(256) as u32))
    });
    let mut cases = vec![case("rayon", || {
        out.par_iter_mut().zip(&a).zip(&b).for_each(|((out, a), b)| *out = a + b);
    })];
    cases.push(case("ringwork, cpu", || of_cpu.run()));
    #[cfg(feature = "wgpu")]
    if let Some((gpu, pass)) = &pass {
        cases.push(case("direct wgpu", || gpu.run(pass)));
    }
    if let Some(of_wgpu) = &of_wgpu {
        cases.push(case("ringwork, wgpu", || of_wgpu.run()));
    }
    compare(&format!("vector add, {len} elements"), rounds, cases);
    for found in [Some(&of_cpu), of_wgpu.as_ref()].into_iter().flatten() {
        assert_eq!(found.out.to_vec().expect("it can be read"), expected);
    }
}

fn prefix_sum(settings: &Settings, len: usize, rounds: usize) {
    let values: Vec<u32> = (0..len as u32).map(|index| index % 3).collect();
    let of_cpu = Scan::new(&settings.cpu, &values);
    let of_wgpu = settings.wgpu.as_ref().map(|setting| Scan::new(setting, &values));
    let mut own = values.clone();
    #[cfg(feature = "wgpu")]
    let passes = settings.gpu.as_ref().map(|gpu| {
        let zeros = |len: usize| gpu.buffer(&vec![0; len * 4]);
        let (values, parts) = (gpu.buffer(bytemuck::cast_slice(&values)), zeros(len / PART));
        let (blocks, groups) = (zeros(len / BLOCK), (len / BLOCK) as u32);
        let all = [(0, &values), (1, &parts), (2, &blocks)];
        let passes = [
            gpu.pass(SCAN, "reduce", &all, groups),
            gpu.pass(SCAN, "scan_blocks", &[(2, &blocks)], 1),
            gpu.pass(SCAN, "scan", &all, groups),
        ];
        (gpu, passes)
    });
    let mut cases = vec![case("rayon", || rayon_scan(&mut own)), case("ringwork, cpu", || of_cpu.run())];
    #[cfg(feature = "wgpu")]
    if let Some((gpu, passes)) = &passes {
        cases.push(case("direct wgpu", || passes.iter().for_each(|pass| gpu.run(pass))));
    }
    if let Some(of_wgpu) = &of_wgpu {
        cases.push(case("ringwork, wgpu", || of_wgpu.run()));
    }
    compare(&format!("prefix sum, {len} elements, three dispatches"), rounds, cases);
    // Each run summed up the sums of the one before it: once more from the beginning.
    own.copy_from_slice(&values);
    rayon_scan(&mut own);
    let expected = own;
    for scan in [Some(&of_cpu), of_wgpu.as_ref()].into_iter().flatten() {
        scan.values.write(0, bytemuck::cast_slice(&values)).expect("it can be written");
        scan.run();
        let found = scan.values.to_vec().expect("it can be read");
        assert_eq!(bytemuck::cast_slice::<_, u32>(&found), expected);
    }
}

fn mandelbrot_set(settings: &Settings, pixels: usize, rounds: usize) {
    let build = |setting: &Setting| {
        let image = setting.buffer(&vec![0u32; pixels]);
        (setting.kernel(MANDELBROT, "main").bind("image", &image), image)
    };
    let of_cpu = build(&settings.cpu);
    let of_wgpu = settings.wgpu.as_ref().map(build);
    let mut image = vec![0u32; pixels];
    let groups = [pixels as u32 / 256, 1, 1];
    let mut cases = vec![case("rayon", || {
        image.par_iter_mut().enumerate().for_each(|(index, pixel)| *pixel = mandelbrot(index));
    })];
    cases.push(case("ringwork, cpu", || _ = of_cpu.0.dispatch(groups).expect("it runs")));
    if let Some(of_wgpu) = &of_wgpu {
        cases.push(case("ringwork, wgpu", || _ = of_wgpu.0.dispatch(groups).expect("it runs")));
    }
    compare(&format!("mandelbrot, {pixels} pixels"), rounds, cases);
    assert_eq!(of_cpu.1.to_vec().expect("it can be read"), image);
}

fn arguments() -> Option<(usize, bool)> {
    let (mut rounds, mut small) = (15, false);
    // Cargo's own comes last.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => rounds = words.next()?.parse().ok().filter(|rounds| *rounds > 0)?,
            "--small" => small = true,
            _ => return None,
        }
    }
    Some((rounds, small))
}

fn main() {
    let Some((rounds, small)) = arguments() else {
        eprintln!("usage: [--rounds N] [--small]");
        std::process::exit(2);
    };
    // More than caches hold, and not more workgroups than go along x.
    let len: usize = if small { 1 << 18 } else { 15 << 20 };
    let cpu = setting(BackendKind::Cpu).expect("always there");
    println!("cpu: {}", cpu.name);
    let wgpu = setting(BackendKind::Wgpu);
    println!("wgpu: {}", wgpu.as_ref().map_or("no adapter", |setting| &setting.name));
    #[cfg(feature = "wgpu")]
    let gpu = direct::Gpu::open().filter(|_| wgpu.is_some());
    let settings = Settings {
        cpu,
        wgpu,
        #[cfg(feature = "wgpu")]
        gpu,
    };
    vector_add(&settings, len, rounds);
    prefix_sum(&settings, len, rounds);
    mandelbrot_set(&settings, 1 << 20, rounds);
}
