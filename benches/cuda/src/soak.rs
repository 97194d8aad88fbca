//! Kernels at work for hours, others that come and go, and the memory of host and device meanwhile.

use crate::gpu::Gpu;
use crate::report::Report;
use crate::throughput::Tally;
use crate::{HANDLER, Job, PATIENCE, Random, active};
use ringwork::{RingKernel, Runtime};
use std::time::{Duration, Instant};

const COUNT: &str = "fn on_message(m: Job, s: ptr<function, Tally>) -> Tally {
    (*s).count += 1u;
    (*s).sum += m.words[0];
    return *s;
}";

/// MiB of this process, and of the device, in use.
struct Sample {
    host: f64,
    device: f64,
}

fn sample(gpu: &Gpu) -> Result<Sample, String> {
    let text = std::fs::read_to_string("/proc/self/statm").map_err(|error| error.to_string())?;
    let pages: f64 =
        text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).ok_or("no resident size")?;
    let (free, total) = gpu.memory()?;
    Ok(Sample {
        host: pages * 4096.0 / f64::from(1 << 20),
        device: (total - free) as f64 / f64::from(1 << 20),
    })
}

fn median(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub fn run(runtime: &Runtime, gpu: &Gpu, seconds: u64, report: &mut Report) -> Result<(), String> {
    let failed = |error: ringwork::Error| error.to_string();
    let (begun, mut random) = (Instant::now(), Random::new(seconds));
    let serial = RingKernel::<Job, Tally>::wgsl("lasting", COUNT).initial_state(Tally { count: 0, sum: 0 });
    let serial = active(runtime, serial)?;
    let stateless = active(runtime, RingKernel::<Job, Job>::wgsl("lasting too", HANDLER))?;
    let period = Duration::from_millis((seconds * 1000 / 200).clamp(50, 30_000));
    let (mut samples, mut due) = (Vec::new(), begun + period);
    let (mut messages, mut sum, mut launches) = (0u64, 0u32, 0u64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let jobs: Vec<_> =
            (0..1 + random.word() % 1000).map(|_| Job { words: [random.word(); 16] }).collect();
        let tallies = serial.ask_many(jobs.iter().copied(), PATIENCE).map_err(failed)?;
        for (job, tally) in jobs.iter().zip(&tallies) {
            sum = sum.wrapping_add(job.words[0]);
            messages += 1;
            if (tally.count, tally.sum) != (messages as u32, sum) {
                return Err(format!("message {messages} is answered with {tally:?}, and the sum is {sum}"));
            }
        }
        let answers = stateless.ask_many(jobs.iter().copied(), PATIENCE).map_err(failed)?;
        if jobs.iter().zip(&answers).any(|(job, answer)| answer.words[15] != job.words[15].wrapping_add(1)) {
            return Err("a wrong answer of the kernel without state".to_owned());
        }
        let passing =
            RingKernel::<Job, Tally>::wgsl("passing", COUNT).initial_state(Tally { count: 1, sum: 1 });
        let passing = active(runtime, passing)?;
        passing.ask(jobs[0], PATIENCE).map_err(failed)?;
        let table = runtime.buffer(&vec![random.word(); 1 << (random.word() % 18)]).map_err(failed)?;
        drop(table);
        passing.terminate(PATIENCE).map_err(failed)?;
        launches += 1;
        if Instant::now() >= due {
            due += period;
            samples.push(sample(gpu)?);
        }
    }
    report.heading("Soak", &[]);
    report.line(format!(
        "* {seconds} s: {messages} messages to a serial kernel and as many to one without state, each answer right; \
         {launches} kernels and tables came and went"
    ));
    // What is still filling up in the first quarter is no leak.
    let quarter = samples.len() / 4;
    let (early, late) = (&samples[quarter..2 * quarter.max(1)], &samples[samples.len() - quarter.max(1)..]);
    for (whose, of) in
        [("host", (|sample| sample.host) as fn(&Sample) -> f64), ("device", |sample| sample.device)]
    {
        let (before, after) = (median(early, of), median(late, of));
        report.goal(
            &format!("memory of the {whose} is flat: at most 5 % and 8 MiB more in the last quarter than in the second"),
            after - before,
            after <= before * 1.05 + 8.0,
        );
        if !report.is_emulated {
            report.line(format!("    {before:.0} MiB in the second quarter, {after:.0} MiB in the last"));
        }
    }
    serial.terminate(PATIENCE).map_err(failed)?;
    stateless.terminate(PATIENCE).map(drop).map_err(failed)
}
