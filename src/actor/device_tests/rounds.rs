//! Rounds of a kernel with a state that are under way together, as none of their messages can fault.

use super::limits::To;
use super::{LONG, Number, Sum, adder, check_books, eventually, runtime};
use crate::{RestartPolicy, RingKernel, SendError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn what_is_sent_together_goes_to_the_device_also_if_nobody_waits_for_it() {
    let Some(runtime) = runtime() else { return };
    let text = "fn on_message(m: To, s: ptr<function, Sum>) { (*s).sum += m.value; }";
    let kernel = RingKernel::<To, ()>::wgsl("instances", text).initial_state(Sum::default()).instances(100);
    let kernel = runtime.launch(kernel.queue_capacity(1000)).unwrap();
    kernel.activate().unwrap();
    let depths = (1..=20u64).map(|turn| {
        for _ in 0..2 {
            kernel.send_many((0..100).map(|to| To { to, value: 1 })).unwrap();
        }
        let depth = kernel.telemetry().depth;
        eventually("all are handled", || kernel.telemetry().handled == turn * 200);
        depth
    });
    // On a busy machine somebody else is at the pump now and then.
    let depths: Vec<_> = depths.collect();
    assert!(depths.contains(&0), "some wait for a round to be over: {depths:?}");
}

#[test]
fn whoever_looks_at_the_state_finds_what_the_books_have() {
    let Some(runtime) = runtime() else { return };
    let kernel = adder(&runtime, RestartPolicy::Never);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(300));
                kernel.deactivate().unwrap();
                let (books, state) = (kernel.telemetry(), kernel.read_state::<Sum>().unwrap());
                assert_eq!(books.handled, u64::from(state.count));
                kernel.activate().unwrap();
            }
        });
        for turn in 0..100u32 {
            let mut left: Vec<_> = (0..300).map(|value| Number { value }).collect();
            while !left.is_empty() {
                match kernel.send_many(std::mem::take(&mut left)) {
                    Ok(_) => {}
                    Err(error) => {
                        assert!(matches!(error.error, SendError::NotActive(_)), "{}", error.error);
                        left = error.error.into_message().into_iter().chain(error.unsent).collect();
                        std::thread::yield_now();
                    }
                }
            }
            for count in turn * 300 + 1..=(turn + 1) * 300 {
                assert_eq!(kernel.recv_timeout(LONG).unwrap().count, count, "in order");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    check_books(&kernel);
    assert_eq!(kernel.read_state::<Sum>().unwrap(), Sum { sum: 100 * 300 * 299 / 2, count: 30_000 });
}
