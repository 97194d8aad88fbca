//! Kernels that talk to kernels from inside their handlers.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{Context, Handle, RingKernel, SendError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

fn answer(number: u32) -> Answer {
    Answer { number, ..Answer::default() }
}

#[test]
fn native_handlers_ask_other_kernels() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let inner = runtime.launch(counter(kind, "inner", &latch)).unwrap();
        inner.activate().unwrap();
        let asked = inner.clone();
        let outer = RingKernel::native("outer", move |job: Job, _: &mut ()| {
            let inner = asked.ask(job, LONG).expect("the other kernel answers");
            assert_eq!((inner.sender, inner.number), (job.sender, job.number));
            answer(inner.number + 1000)
        });
        let outer = runtime.launch(outer).unwrap();
        outer.activate().unwrap();
        crate::threads::scope(|scope| {
            for sender in 0..4 {
                let outer = &outer;
                scope.spawn(move || {
                    for number in 0..100 {
                        assert_eq!(outer.ask(Job::of(sender, number), LONG).unwrap().number, number + 1000);
                    }
                });
            }
        });
        assert_eq!((settled(&outer).handled, settled(&inner).handled), (400, 400));
    });
}

#[test]
fn a_chain_of_kernels_of_all_kinds() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        let last = runtime.launch(counter(Kind::Wgsl, "wgsl", &latch)).unwrap();
        last.activate().unwrap();
        let to = last.clone();
        let native = runtime
            .launch(RingKernel::native("native", move |job: Job, _: &mut ()| {
                answer(to.ask(job, LONG).unwrap().number + 1)
            }))
            .unwrap();
        native.activate().unwrap();
        let to = native.clone();
        let host = runtime
            .launch(RingKernel::host("host", move |context: &mut Context<Job, Answer>| {
                while let Some(job) = context.receive() {
                    // Both ways a host kernel may wait.
                    let request = to.request(job.payload).unwrap();
                    let asked = to.ask(job.payload, LONG).unwrap();
                    let requested = request.wait(LONG).unwrap();
                    assert_eq!(asked, requested);
                    context.reply(answer(asked.number + 1));
                }
            }))
            .unwrap();
        host.activate().unwrap();
        for number in 0..200 {
            assert_eq!(host.ask(job(number), LONG).unwrap().number, number + 2);
        }
        assert_eq!(settled(&last).handled, 400);
        drop(runtime);
        assert!(host.ask(job(1), LONG).is_err_and(|error| error.is_terminated()));
    });
}

/// A kernel's handle, for its own handler.
type Own = Arc<OnceLock<Handle<Job, Answer>>>;

/// A kernel whose handler does this with its own handle; `true` is answered as 1.
fn introspective(
    kind: Kind,
    body: impl Fn(&Handle<Job, Answer>, Job) -> bool + Send + Sync + 'static,
) -> (RingKernel<Job, Answer>, Own) {
    let own = Own::default();
    let seen = own.clone();
    let run = move |job| answer(u32::from(body(seen.get().expect("set before the first message"), job)));
    let kernel = if kind == Kind::Native {
        RingKernel::native("own", move |job: Job, _: &mut ()| run(job))
    } else {
        RingKernel::host("own", move |context: &mut Context<Job, Answer>| {
            while let Some(job) = context.receive() {
                let answer = run(job.into_inner());
                context.reply(answer);
            }
        })
    };
    (kernel, own)
}

/// Asks such a kernel often enough that its handler runs in the background and on this thread.
#[track_caller]
fn all_true(kind: Kind, body: impl Fn(&Handle<Job, Answer>, Job) -> bool + Send + Sync + 'static) {
    let runtime = runtime();
    let (kernel, own) = introspective(kind, body);
    let kernel = runtime.launch(kernel.queue_capacity(2)).unwrap();
    own.set(kernel.clone()).unwrap();
    kernel.activate().unwrap();
    for number in 0..50 {
        assert_eq!(kernel.ask(job(number), LONG).unwrap().number, 1, "{kind:?}");
    }
}

const OWN: [Kind; 2] = [Kind::Native, Kind::Host];

#[test]
fn asking_oneself_is_an_error() {
    bounded(|| {
        for kind in OWN {
            all_true(kind, |own, job| {
                let error = own.ask(job, PATIENCE).unwrap_err();
                error.is_deadlock() && error.to_string().contains("`own`")
            });
        }
    });
}

#[test]
fn terminating_oneself_is_an_error() {
    bounded(|| {
        for kind in OWN {
            all_true(kind, |own, _| own.terminate(PATIENCE).is_err_and(|error| error.is_deadlock()));
        }
    });
}

#[test]
fn sending_to_oneself_works_until_it_is_full() {
    bounded(|| {
        for kind in OWN {
            let runtime = runtime();
            let (kernel, own) = introspective(kind, |own, job| {
                if job.action == 0 {
                    return true;
                }
                // Room for two; the third would wait for this very handler.
                let fits = own.send(Job::default()).is_ok() && own.send(Job::default()).is_ok();
                fits && matches!(own.send(Job::default()), Err(SendError::Refused(_, error)) if error.is_deadlock())
                    && matches!(own.try_send(Job::default()), Err(SendError::Full(_)))
            });
            let kernel = runtime.launch(kernel.queue_capacity(2)).unwrap();
            own.set(kernel.clone()).unwrap();
            kernel.activate().unwrap();
            for _ in 0..20 {
                assert_eq!(kernel.ask(job(0).action(1), LONG).unwrap().number, 1, "{kind:?}");
                assert_eq!(kernel.recv_timeout(LONG).unwrap().number, 1);
                assert_eq!(kernel.recv_timeout(LONG).unwrap().number, 1);
            }
            assert_eq!(settled(&kernel).handled, 60);
        }
    });
}

#[test]
fn a_request_to_oneself_waited_for_is_bounded() {
    bounded(|| {
        for kind in OWN {
            let runtime = runtime();
            let (kernel, own) = introspective(kind, |own, job| {
                job.action == 0
                    || own
                        .request(Job::default())
                        .unwrap()
                        .wait(Duration::from_millis(20))
                        .is_err_and(|error| error.is_timed_out() || error.is_deadlock())
            });
            let kernel = runtime.launch(kernel).unwrap();
            own.set(kernel.clone()).unwrap();
            kernel.activate().unwrap();
            for _ in 0..3 {
                assert_eq!(kernel.ask(job(0).action(1), LONG).unwrap().number, 1, "{kind:?}");
            }
            assert_eq!(settled(&kernel).handled, 6, "what it sent itself is handled");
        }
    });
}

#[test]
fn a_cycle_of_asks_ends_by_its_deadlines() {
    bounded(|| {
        for kind in OWN {
            let runtime = runtime();
            let (first, own) = introspective(kind, |second, job| {
                // It comes back here, and finds the handler busy.
                second.ask(job, Duration::from_millis(60)).is_err_and(|error| error.is_timed_out())
                    || job.action == 9
            });
            let first = runtime.launch(first).unwrap();
            let to = first.clone();
            let second = RingKernel::native("second", move |job: Job, _: &mut ()| {
                let error = to.ask(job.action(9), Duration::from_millis(20)).unwrap_err();
                assert!(error.is_timed_out() || error.is_deadlock(), "{error:?}");
                std::thread::sleep(Duration::from_millis(100));
                answer(7)
            });
            let second = runtime.launch(second).unwrap();
            own.set(second.clone()).unwrap();
            first.activate().unwrap();
            second.activate().unwrap();
            assert_eq!(first.ask(job(0), LONG).unwrap().number, 1, "{kind:?}");
            second.deactivate_timeout(LONG).unwrap();
        }
    });
}

#[test]
fn a_handler_deactivates_its_own_kernel() {
    bounded(|| {
        for kind in OWN {
            let runtime = runtime();
            let (kernel, own) = introspective(kind, |own, job| job.action == 0 || own.deactivate().is_ok());
            let kernel = runtime.launch(kernel.queue_capacity(16)).unwrap();
            own.set(kernel.clone()).unwrap();
            kernel.activate().unwrap();
            assert_eq!(kernel.ask(job(0).action(1), LONG).unwrap().number, 1);
            assert!(matches!(kernel.send(job(1)), Err(SendError::NotActive(_))));
            kernel.activate().unwrap();
            assert_eq!(kernel.ask(job(2), LONG).unwrap().number, 1);
        }
    });
}
