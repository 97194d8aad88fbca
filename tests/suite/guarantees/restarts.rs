//! Guarantee 6: what a kernel restarts with, how often, and that only what faulted is touched.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{Handle, KernelState, RestartPolicy, RestartState, RingKernel, Runtime};
use std::time::Duration;

fn policy(state: RestartState) -> RestartPolicy {
    RestartPolicy::OneForOne { max: 100, within: Duration::from_secs(3600), state }
}

const BOTH: [Kind; 2] = [Kind::Wgsl, Kind::Native];

fn launched(runtime: &Runtime, kind: Kind, latch: &Latch, policy: RestartPolicy) -> Handle<Job, Answer> {
    let kernel = counter(kind, "restarts", latch)
        .initial_state(Tally { count: 7, sum: 700, noise: 0 })
        .restart(policy);
    let kernel = if kind == Kind::Wgsl { kernel.loop_budget(1000) } else { kernel };
    let kernel = runtime.launch(kernel).unwrap();
    kernel.activate().unwrap();
    kernel
}

fn counts(kernel: &Handle<Job, Answer>) -> (u32, u32) {
    let tally: Tally = kernel.read_state().unwrap();
    (tally.count, tally.sum)
}

fn fault(kernel: &Handle<Job, Answer>, to: u32) {
    let error = kernel.ask(job(1).action(FAULT).to(to), LONG).unwrap_err();
    assert!(error.is_failed(), "{error}");
}

#[test]
fn restarts_with_the_current_state() {
    bounded(|| {
        for kind in BOTH {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = launched(&runtime, kind, &latch, policy(RestartState::Current));
            assert_eq!(counts(&kernel), (7, 700));
            kernel.ask(job(10), LONG).unwrap();
            kernel.snapshot().unwrap();
            kernel.ask(job(20), LONG).unwrap();
            fault(&kernel, 0);
            assert_eq!(counts(&kernel), (9, 730), "{kind:?}");
            assert_eq!(kernel.ask(job(1), LONG).unwrap().count, 10);
            assert_eq!(kernel.telemetry().restarts, 1);
        }
    });
}

#[test]
fn restarts_with_the_last_snapshot_or_the_initial_state() {
    bounded(|| {
        for kind in BOTH {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = launched(&runtime, kind, &latch, policy(RestartState::Snapshot));
            kernel.ask(job(5), LONG).unwrap();
            fault(&kernel, 0);
            assert_eq!(counts(&kernel), (7, 700), "{kind:?}: no snapshot yet, so the initial state");
            kernel.ask(job(10), LONG).unwrap();
            let snapshot = kernel.snapshot().unwrap();
            assert_eq!((snapshot.instances(), &snapshot.as_bytes()[..4]), (1, &8u32.to_ne_bytes()[..]));
            kernel.ask(job(20), LONG).unwrap();
            assert_eq!(counts(&kernel), (9, 730));
            fault(&kernel, 0);
            assert_eq!(counts(&kernel), (8, 710), "{kind:?}");
            fault(&kernel, 0);
            assert_eq!(counts(&kernel), (8, 710), "{kind:?}: a snapshot can be used again");
        }
    });
}

#[test]
fn restarts_with_the_initial_state() {
    bounded(|| {
        for kind in BOTH {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = launched(&runtime, kind, &latch, policy(RestartState::Initial));
            kernel.ask(job(10), LONG).unwrap();
            kernel.snapshot().unwrap();
            fault(&kernel, 0);
            assert_eq!(counts(&kernel), (7, 700), "{kind:?}");
            assert_eq!(kernel.ask(job(3), LONG).unwrap().sum, 703);
        }
    });
}

#[test]
fn only_the_instance_that_faulted_is_reset() {
    bounded(|| {
        for kind in BOTH {
            for (state, expected) in
                [(RestartState::Current, 102), (RestartState::Snapshot, 101), (RestartState::Initial, 100)]
            {
                let (runtime, latch) = (runtime(), Latch::new());
                let kernel = counter(kind, "instances", &latch)
                    .initial_state(Tally { count: 100, ..Tally::default() })
                    .instances(9)
                    .restart(policy(state));
                let kernel = if kind == Kind::Wgsl { kernel.loop_budget(1000) } else { kernel };
                let kernel = runtime.launch(kernel).unwrap();
                kernel.activate().unwrap();
                let all = || (0..9).map(|to| job(1).to(to));
                kernel.ask_many(all(), LONG).unwrap();
                assert_eq!(kernel.snapshot().unwrap().instances(), 9);
                kernel.ask_many(all(), LONG).unwrap();
                fault(&kernel, 4);
                let counts: Vec<u32> =
                    kernel.read_states::<Tally>().unwrap().iter().map(|tally| tally.count).collect();
                let mut wanted = vec![102; 9];
                wanted[4] = expected;
                assert_eq!(counts, wanted, "{kind:?} {state:?}");
                // In the middle of a large round, too.
                let batch = (0..900).map(|number| {
                    job(number).to(number % 9).action(if number == 450 { FAULT } else { COUNT })
                });
                kernel.send_many(batch).unwrap();
                for number in (0..900).filter(|number| *number != 450) {
                    assert_eq!(kernel.recv_timeout(LONG).unwrap().number, number);
                }
                let others = kernel.read_states::<Tally>().unwrap()[1].count;
                assert_eq!(others, 202, "{kind:?} {state:?}");
            }
        }
    });
}

#[test]
fn too_many_restarts_fail_the_kernel() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let policy = RestartPolicy::OneForOne {
            max: 3,
            within: Duration::from_secs(3600),
            state: RestartState::Current,
        };
        let kernel = counter(kind, "often", &latch).restart(policy);
        let kernel = if kind == Kind::Wgsl { kernel.loop_budget(1000) } else { kernel };
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        for _ in 0..3 {
            fault(&kernel, 0);
            kernel.ask(job(1), LONG).unwrap();
        }
        fault(&kernel, 0);
        eventually("it has failed", || kernel.lifecycle() == KernelState::Failed);
        assert_eq!(settled(&kernel).restarts, 3);
        assert!(kernel.ask(job(1), LONG).is_err_and(|error| error.is_failed()));
    });
}

#[test]
fn restarts_that_are_long_ago_do_not_count() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let within = Duration::from_millis(20);
        let policy = RestartPolicy::OneForOne { max: 1, within, state: RestartState::Current };
        let kernel = counter(kind, "seldom", &latch).restart(policy);
        let kernel = if kind == Kind::Wgsl { kernel.loop_budget(1000) } else { kernel };
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        for _ in 0..4 {
            fault(&kernel, 0);
            std::thread::sleep(within * 2);
            kernel.ask(job(1), LONG).unwrap();
        }
        assert_eq!(settled(&kernel).restarts, 4);
    });
}

#[test]
fn a_host_kernel_restarts_its_function() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime
            .launch(counter(Kind::Host, "again", &latch).restart(policy(RestartState::Current)))
            .unwrap();
        kernel.activate().unwrap();
        assert_eq!(kernel.ask(job(1), LONG).unwrap().count, 1);
        assert_eq!(kernel.ask(job(1), LONG).unwrap().count, 2);
        fault(&kernel, 0);
        assert_eq!(kernel.ask(job(1), LONG).unwrap().count, 1, "the function began again");
        for state in [RestartState::Snapshot, RestartState::Initial] {
            let refused = runtime.launch(counter(Kind::Host, "other", &latch).restart(policy(state)));
            assert!(refused.is_err_and(|error| error.is_invalid()), "it has no state to go back to");
        }
        let stateless = RingKernel::<Job, Answer>::wgsl(
            "stateless",
            "fn on_message(m: Job) -> Answer { while m.action == 2u { } return Answer(0u, m.number, 0u, 0u); }",
        );
        let kernel = runtime.launch(stateless.loop_budget(9).restart(policy(RestartState::Initial))).unwrap();
        kernel.activate().unwrap();
        fault(&kernel, 0);
        assert_eq!(kernel.ask(job(2), LONG).unwrap().number, 2);
    });
}
