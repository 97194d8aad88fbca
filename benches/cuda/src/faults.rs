//! An error of the device, made on purpose: who is told what, and what goes on afterwards.

use crate::report::Report;
use crate::throughput::Tally;
use crate::{Job, PATIENCE, active};
use ringwork::{KernelState, RestartPolicy, RestartState, RingKernel, Runtime};
use std::time::{Duration, Instant};

/// The message that brings the device down.
const DEADLY: u32 = 666;

const SUM: &str = "fn on_message(m: Job, s: ptr<function, Tally>) -> Tally {
    (*s).count += 1u;
    (*s).sum += m.words[0];
    return *s;
}";

fn job(number: u32) -> Job {
    Job { words: [number; 16] }
}

pub fn run(runtime: &Runtime, report: &mut Report) -> Result<(), String> {
    let failed = |error: ringwork::Error| error.to_string();
    let ensure = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
    let tally = Tally { count: 0, sum: 0 };
    let policy = |state| RestartPolicy::OneForOne { max: 3, within: Duration::from_secs(600), state };
    let twin = format!(
        "__device__ Job on_message(const Job& m, RtContext&) {{ if (m.words[0] == {DEADLY}u) __trap(); return m; }}"
    );
    let text = "fn on_message(m: Job) -> Job { return m; }";
    let victim = active(runtime, RingKernel::<Job, Job>::wgsl("victim", text).cuda_source(twin))?;
    let keeper = RingKernel::<Job, Tally>::wgsl("keeper", SUM).initial_state(tally);
    let keeper = active(runtime, keeper.restart(policy(RestartState::Snapshot)))?;
    let fresh = RingKernel::<Job, Tally>::wgsl("fresh", SUM).initial_state(Tally { count: 100, sum: 0 });
    let fresh = active(runtime, fresh.restart(policy(RestartState::Initial)))?;
    for number in 1..=10 {
        ensure(
            victim.ask(job(number), PATIENCE).map_err(failed)? == job(number),
            "a wrong answer".to_owned(),
        )?;
        keeper.ask(job(number), PATIENCE).map_err(failed)?;
        fresh.ask(job(number), PATIENCE).map_err(failed)?;
    }
    keeper.snapshot().map_err(failed)?;
    let begun = Instant::now();
    let error = match victim.ask(job(DEADLY), PATIENCE) {
        Err(error) => error,
        Ok(answer) => return Err(format!("the device survived: {answer:?}")),
    };
    let told = begun.elapsed();
    ensure(error.is_device_lost(), format!("the cause is not the device's loss: {error}"))?;
    // Kernels without a policy fail, those with one go on, on the device that is opened anew.
    let answered = |kernel: &ringwork::Handle<Job, Tally>| {
        loop {
            match kernel.ask(job(1), PATIENCE) {
                Ok(tally) => return Ok(tally),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error.to_string()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    };
    let kept = answered(&keeper)?;
    ensure((kept.count, kept.sum) == (11, 56), format!("the snapshot was not gone back to: {kept:?}"))?;
    let began = answered(&fresh)?;
    ensure(began.count == 101, format!("the initial state was not gone back to: {began:?}"))?;
    let back = begun.elapsed();
    ensure(victim.lifecycle() == KernelState::Failed, format!("the victim is {:?}", victim.lifecycle()))?;
    let another = active(runtime, RingKernel::<Job, Job>::wgsl("another", text))?;
    ensure(another.ask(job(5), PATIENCE).map_err(failed)? == job(5), "a wrong answer".to_owned())?;
    report.heading("A device that fails", &[]);
    report.line(format!("* the caller is told: {error}"));
    report.line(
        "* kernels with a restart policy go on from snapshot and initial state on the device opened anew",
    );
    if !report.is_emulated {
        report.line(format!("* told after {told:.0?}, all back after {back:.0?}"));
    }
    Ok(())
}
