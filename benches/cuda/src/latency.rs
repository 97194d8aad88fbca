//! One job at a time: through the library, by hand with a resident kernel, and with a launch for each.

use crate::gpu::{Gpu, Mapped, Once, checked};
use crate::report::Report;
use crate::{Job, PATIENCE, active};
use cudarc::driver::sys as cuda;
use ringwork::{Handle, RingKernel, Runtime};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// One way to have a job of sixteen words done.
trait Way {
    fn name(&self) -> &'static str;
    fn begin(&mut self) -> Result<(), String>;
    fn job(&mut self, job: &Job) -> Result<Job, String>;
    fn end(&mut self) -> Result<(), String>;
}

struct Ask(Handle<Job, Job>);

impl Way for Ask {
    fn name(&self) -> &'static str {
        "Ringwork `ask`"
    }

    fn begin(&mut self) -> Result<(), String> {
        self.0.activate().map_err(|error| error.to_string())
    }

    fn job(&mut self, job: &Job) -> Result<Job, String> {
        self.0.ask(*job, PATIENCE).map_err(|error| error.to_string())
    }

    fn end(&mut self) -> Result<(), String> {
        self.0.deactivate().map_err(|error| error.to_string())
    }
}

#[repr(C)]
struct PingPongParameter {
    input: u64,
    output: u64,
    stop: u64,
    words: u32,
    first: u32,
}

struct PingPong<'a> {
    gpu: &'a Gpu,
    name: &'static str,
    function: cuda::CUfunction,
    input: Mapped,
    output: Mapped,
    stop: Mapped,
    words: usize,
    stamp: u32,
}

impl<'a> PingPong<'a> {
    fn new(gpu: &'a Gpu, name: &'static str, words: usize) -> Result<Self, String> {
        let (input, output, stop) = (Mapped::new()?, Mapped::new()?, Mapped::new()?);
        Ok(Self { gpu, name, function: gpu.function(c"ping_pong")?, input, output, stop, words, stamp: 1 })
    }
}

impl Way for PingPong<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn begin(&mut self) -> Result<(), String> {
        self.stop.words()[0].store(0, Ordering::Relaxed);
        let mut parameter = PingPongParameter {
            input: self.input.device,
            output: self.output.device,
            stop: self.stop.device,
            words: self.words as u32,
            first: self.stamp,
        };
        // SAFETY: the kernel takes this parameter, and mapped memory is never freed.
        unsafe { self.gpu.launch(self.function, &mut parameter) }
    }

    fn job(&mut self, job: &Job) -> Result<Job, String> {
        let stamp = u64::from(self.stamp) << 32;
        for (granule, word) in self.input.granules().iter().zip(&job.words[..self.words]) {
            granule.store(stamp | u64::from(*word), Ordering::Relaxed);
        }
        let mut answer = *job;
        let begun = Instant::now();
        for (granule, word) in self.output.granules().iter().zip(&mut answer.words[..self.words]) {
            let mut spins = 0u32;
            *word = loop {
                // Acquire, as in the library: the next job is written behind this load.
                let granule = granule.load(Ordering::Acquire);
                if granule & !0xffff_ffff == stamp {
                    break granule as u32;
                }
                std::hint::spin_loop();
                spins = spins.wrapping_add(1);
                if spins.is_multiple_of(1 << 12) && begun.elapsed() > Duration::from_micros(200) {
                    // The emulation may need this processor.
                    std::thread::yield_now();
                    if begun.elapsed() > PATIENCE {
                        return Err(format!("{}: no answer", self.name));
                    }
                }
            };
        }
        // A single word stands for all of them.
        let is_part = self.words < answer.words.len();
        let rest = answer.words.iter_mut().skip(self.words).filter(|_| is_part);
        rest.for_each(|word| *word = word.wrapping_add(1));
        self.stamp += 1;
        Ok(answer)
    }

    fn end(&mut self) -> Result<(), String> {
        self.stop.words()[0].store(1, Ordering::Relaxed);
        self.gpu.wait()
    }
}

/// A launch for each job; of the kernel itself, or of a graph that has it.
struct Launch<'a> {
    gpu: &'a Gpu,
    function: cuda::CUfunction,
    input: Mapped,
    output: Mapped,
    graph: Option<cuda::CUgraphExec>,
}

impl<'a> Launch<'a> {
    fn new(gpu: &'a Gpu, with_graph: bool) -> Result<Self, String> {
        let (input, output) = (Mapped::new()?, Mapped::new()?);
        let mut own = Self { gpu, function: gpu.function(c"once")?, input, output, graph: None };
        if with_graph {
            let (mut graph, mut ready) = (null_mut(), null_mut());
            let mode = cuda::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            // SAFETY: the stream exists, and each call writes one handle.
            unsafe {
                checked(cuda::cuStreamBeginCapture_v2(gpu.stream, mode), "cuStreamBeginCapture")?;
                own.launch()?;
                checked(cuda::cuStreamEndCapture(gpu.stream, &mut graph), "cuStreamEndCapture")?;
                checked(cuda::cuGraphInstantiateWithFlags(&mut ready, graph, 0), "cuGraphInstantiate")?;
            }
            own.graph = Some(ready);
        }
        Ok(own)
    }

    fn launch(&self) -> Result<(), String> {
        let (input, output) = (self.input.device, self.output.device);
        let mut parameter = Once { input, output, words: 16, unused: 0 };
        // SAFETY: the kernel takes this parameter, and mapped memory is never freed.
        unsafe { self.gpu.launch(self.function, &mut parameter) }
    }
}

impl Way for Launch<'_> {
    fn name(&self) -> &'static str {
        if self.graph.is_some() { "graph launch + synchronise" } else { "launch + synchronise" }
    }

    fn begin(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn job(&mut self, job: &Job) -> Result<Job, String> {
        for (place, word) in self.input.words().iter().zip(&job.words) {
            place.store(*word, Ordering::Relaxed);
        }
        match self.graph {
            // SAFETY: instantiated above, on a stream that exists.
            Some(graph) => checked(unsafe { cuda::cuGraphLaunch(graph, self.gpu.stream) }, "cuGraphLaunch")?,
            None => self.launch()?,
        }
        self.gpu.wait()?;
        let mut answer = *job;
        for (place, word) in self.output.words().iter().zip(&mut answer.words) {
            *word = place.load(Ordering::Relaxed);
        }
        Ok(answer)
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// All ways, round by round, so that what disturbs one disturbs the others too.
pub fn measure(runtime: &Runtime, gpu: &Gpu, quick: bool, report: &mut Report) -> Result<(), String> {
    let (rounds, jobs, warm) = if quick { (2, 100, 10) } else { (20, 5_000, 500) };
    let kernel = runtime.launch(RingKernel::<Job, Job>::wgsl("ask", crate::HANDLER));
    let mut ways: Vec<Box<dyn Way + '_>> = vec![
        Box::new(PingPong::new(gpu, "by hand, one word of 8 bytes", 1)?),
        Box::new(PingPong::new(gpu, "by hand, 64 bytes", 16)?),
        Box::new(Launch::new(gpu, false)?),
        Box::new(Launch::new(gpu, true)?),
        Box::new(Ask(kernel.map_err(|error| error.to_string())?)),
    ];
    let mut samples = vec![Vec::new(); ways.len()];
    for round in 0..rounds {
        for (way, samples) in ways.iter_mut().zip(&mut samples) {
            way.begin()?;
            for number in 0..warm + jobs {
                let job = Job { words: std::array::from_fn(|word| (number ^ (round << 20)) + word as u32) };
                let begun = Instant::now();
                let answer = way.job(&job)?;
                let time = begun.elapsed();
                if answer.words != job.words.map(|word| word.wrapping_add(1)) {
                    return Err(format!("{}: a wrong answer to {job:?}: {answer:?}", way.name()));
                }
                if number >= warm {
                    samples.push(time);
                }
            }
            way.end()?;
        }
    }
    report.heading(
        "One job of 64 bytes there and back",
        &["way", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "most µs", "jobs"],
    );
    let ends: Vec<_> =
        ways.iter().zip(&mut samples).map(|(way, samples)| report.times(way.name(), samples)).collect();
    let (by_hand, launched, asked) = (ends[1].0, ends[2].0, ends[4].0);
    report.line("");
    let times = asked / by_hand;
    report.goal("p50 of `ask` at most 1.2 times that of the same by hand", times, times <= 1.2);
    report.goal("p50 of `ask` at most 2.5 µs", asked, asked <= 2.5);
    report.goal(
        "p50 of `ask` at least 3 times below launch + synchronise",
        launched / asked,
        launched / asked >= 3.0,
    );
    drop(ways);
    terminate(runtime, "ask")
}

fn terminate(runtime: &Runtime, name: &str) -> Result<(), String> {
    let kernel = runtime.handle::<Job, Job>(name).map_err(|error| error.to_string())?;
    kernel.terminate(PATIENCE).map(drop).map_err(|error| error.to_string())
}

/// Kernels that look into their rings themselves, of those that are there at the same time; the others have the ingress look.
const ALONE: usize = 16;

/// Many kernels, asked in turn: how long one takes that has had nothing to do, while all others have nothing to do either.
pub fn in_turn(runtime: &Runtime, quick: bool, report: &mut Report) -> Result<(), String> {
    let rounds = if quick { 5 } else { 500 };
    report.heading(
        "`ask` to kernels in turn, while all others have nothing to do",
        &["kernels", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "most µs", "jobs"],
    );
    for number in [1, ALONE, ALONE + 1, 32, 64, 92] {
        let launch =
            |index| active(runtime, RingKernel::<Job, Job>::wgsl(format!("turn {index}"), crate::HANDLER));
        let kernels: Vec<_> = (0..number).map(launch).collect::<Result<_, _>>()?;
        let mut samples = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for (index, kernel) in kernels.iter().enumerate() {
                let job = Job { words: [round * 1000 + index as u32; 16] };
                let begun = Instant::now();
                let answer = kernel.ask(job, PATIENCE).map_err(|error| error.to_string())?;
                let time = begun.elapsed();
                if answer.words != job.words.map(|word| word + 1) {
                    return Err(format!("a wrong answer to {job:?}: {answer:?}"));
                }
                // In the first round they are started.
                if round > 0 {
                    samples[usize::from(index >= ALONE)].push(time);
                }
            }
        }
        let [own, listening] = &mut samples;
        report.times(&format!("{number}"), own);
        if !listening.is_empty() {
            report.times(&format!("{number}: those beyond {ALONE}, which listen to the ingress"), listening);
        }
        for kernel in kernels {
            kernel.terminate(PATIENCE).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// From kernel to kernel over a link: a message through a chain of so many, against one through one.
pub fn hop(runtime: &Runtime, quick: bool, report: &mut Report) -> Result<(), String> {
    const LINKS: usize = 8;
    let jobs = if quick { 50 } else { 20_000 };
    let text = "fn on_message(m: Job) { var next = m; next.words[0] += 1u; emit_next(next); }";
    let failed = |error: ringwork::Error| error.to_string();
    let mut chain = Vec::new();
    for number in 0..=LINKS {
        let kernel = RingKernel::<Job, ()>::wgsl(format!("hop {number}"), text).output::<Job>("next");
        chain.push(active(runtime, kernel)?);
    }
    for pair in chain[..LINKS].windows(2) {
        runtime.link(&pair[0].output::<Job>("next").map_err(failed)?, &pair[1]).map_err(failed)?;
    }
    let time = |first: usize, last: usize| {
        let output = chain[last].output::<Job>("next").map_err(failed)?;
        let mut samples = Vec::new();
        for number in 0..jobs {
            let begun = Instant::now();
            chain[first].send(Job { words: [number; 16] }).map_err(|error| error.to_string())?;
            let answer = output.recv_timeout(PATIENCE).map_err(failed)?;
            samples.push(begun.elapsed());
            let hops = (last - first + 1) as u32;
            if answer.words[0] != number + hops || answer.words[15] != number {
                return Err(format!("a wrong answer to {number} after {hops} hops: {answer:?}"));
            }
        }
        Ok(samples)
    };
    let (mut one, mut many) = (time(LINKS, LINKS)?, time(0, LINKS - 1)?);
    report.heading(
        "From kernel to kernel (messages go from ring to ring; the answer is seen when all before are in the books)",
        &["way", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "most µs", "jobs"],
    );
    let one = report.times("one kernel, `send` to `recv`", &mut one).0;
    let many = report.times(&format!("a chain of {LINKS} kernels"), &mut many).0;
    if !report.is_emulated {
        report.line(format!("\nOne hop: {:.2} µs (p50).", (many - one) / (LINKS - 1) as f64));
    }
    chain.iter().try_for_each(|kernel| kernel.terminate(PATIENCE).map(drop).map_err(failed))
}
