//! Losses that a kernel hears of in another way than from a call that fails, and what little memory must not do to one.

use super::limits::To;
use super::{ADD, AGAIN, LONG, Number, Sum, adder, check_books, eventually, everybody_hears_of, runtime};
use crate::backend::BackendKind;
use crate::{KernelState, RestartPolicy, RestartState, RingKernel, RuntimeBuilder, message};
use std::time::{Duration, Instant};

message! { pub struct Wide { pub words: [u32; 64] } }

#[test]
fn a_loss_that_the_driver_answers_a_wait_with_is_told_to_every_caller() {
    let Some(runtime) = runtime() else { return };
    everybody_hears_of(&runtime, |runtime| runtime.device().break_waits());
}

#[test]
fn a_loss_that_the_driver_answers_a_wait_with_is_heard_of_where_nobody_waits() {
    let Some(runtime) = runtime() else { return };
    let kernel = adder(&runtime, AGAIN);
    kernel.ask(Number { value: 1 }, LONG).unwrap();
    runtime.device().break_waits();
    for _ in 0..10 {
        kernel.send(Number { value: 1 }).unwrap();
    }
    eventually("the kernel goes on on another device", || kernel.telemetry().handled == 11);
    assert_eq!(kernel.telemetry().restarts, 1);
    check_books(&kernel);
}

#[test]
fn a_kernel_that_goes_on_on_the_cpu_says_so_and_ends_as_one_there() {
    let Some(runtime) = runtime() else { return };
    let text = "fn on_message(m: Number, s: ptr<function, Sum>) -> Sum {
        loop { if m.value != 7u { break; } }
        (*s).sum += m.value;
        return *s;
    }";
    let kernel = RingKernel::<Number, Sum>::wgsl("endless", text).initial_state(Sum::default());
    let kernel = runtime.launch(kernel.restart(AGAIN).loop_budget(u32::MAX)).unwrap();
    kernel.activate().unwrap();
    assert_eq!(kernel.ask(Number { value: 1 }, LONG).unwrap().sum, 1);
    assert_eq!(kernel.telemetry().engine, "wgpu");
    let device = runtime.device();
    let cpu = RuntimeBuilder::default().backend(BackendKind::Cpu).build().unwrap();
    runtime.put_device(cpu.device());
    device.destroy();
    assert_eq!(kernel.ask(Number { value: 2 }, LONG).unwrap().sum, 2);
    let engine = kernel.telemetry().engine;
    assert!(["jit", "interpreter"].contains(&engine), "{engine}");
    for value in [7, 8, 9] {
        kernel.send(Number { value }).unwrap();
    }
    eventually("the endless one has begun", || kernel.telemetry().depth == 2);
    let end = kernel.terminate(Duration::from_millis(20)).unwrap();
    let numbers: Vec<u32> = end.returned.iter().map(|message| message.value).collect();
    assert_eq!((numbers, end.abandoned.is_some(), end.detached), (vec![8, 9], true, false));
    check_books(&kernel);
}

#[test]
fn a_kernel_without_room_for_replies_hears_that_its_device_is_lost() {
    let Some(runtime) = runtime() else { return };
    let stalled = RingKernel::<Number, Sum>::wgsl("stalled", ADD)
        .initial_state(Sum::default())
        .restart(RestartPolicy::Never)
        .output_capacity(1);
    let stalled = runtime.launch(stalled).unwrap();
    stalled.activate().unwrap();
    let other = adder(&runtime, AGAIN);
    stalled.send(Number { value: 1 }).unwrap();
    eventually("the reply is there", || stalled.telemetry().handled == 1);
    stalled.send(Number { value: 1 }).unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let begun = Instant::now();
            (stalled.ask(Number { value: 1 }, LONG), begun.elapsed())
        });
        eventually("it has been asked", || stalled.telemetry().accepted == 3);
        runtime.device().destroy();
        // Somebody else finds out.
        other.ask(Number { value: 1 }, LONG).unwrap();
        let (answer, took) = asking.join().unwrap();
        let error = answer.unwrap_err();
        assert!(error.is_device_lost() || error.is_failed(), "{error:?}");
        assert!(took < LONG / 2, "{took:?}");
    });
    assert_eq!(stalled.lifecycle(), KernelState::Failed);
}

#[test]
fn that_a_message_faulted_does_not_depend_on_free_memory() {
    let Some(runtime) = runtime() else { return };
    let text = "fn on_message(m: Number) -> Number {
        var n = m.value;
        loop { if n != 7u { break; } }
        return Number(n + 1u);
    }";
    let kernel = RingKernel::<Number, Number>::wgsl("stateless", text).loop_budget(100).restart(AGAIN);
    let kernel = runtime.launch(kernel).unwrap();
    kernel.activate().unwrap();
    assert_eq!(kernel.ask(Number { value: 1 }, LONG).unwrap().value, 2);
    runtime.device().refuse(Some("a copy from the device"));
    for round in 0..3u32 {
        // More than one round at once.
        let values: Vec<_> = (0..200).map(|number| number + round * 1000).collect();
        let asked: Vec<_> =
            values.iter().map(|value| kernel.request(Number { value: *value }).unwrap()).collect();
        for (value, answer) in values.iter().zip(asked) {
            match answer.wait(LONG) {
                Ok(reply) => {
                    assert_eq!(reply.value, value + 1, "another message's reply");
                    assert_ne!(*value, 7, "its loop never ends");
                }
                Err(error) => {
                    assert_eq!(*value, 7, "{error:?}");
                    assert!(!error.is_device_lost(), "{error:?}");
                }
            }
        }
    }
    assert!(!runtime.device().is_lost());
    runtime.device().refuse(None);
}

#[test]
fn a_snapshot_for_which_there_is_no_memory_leaves_the_one_before() {
    let Some(runtime) = runtime() else { return };
    let text = "fn on_message(m: To, s: ptr<function, Wide>) -> Number {
        (*s).words[0] += m.value;
        return Number((*s).words[0]);
    }";
    let policy = RestartPolicy::OneForOne { max: 3, within: LONG, state: RestartState::Snapshot };
    // More than what is written without a buffer to stage it.
    let kernel = RingKernel::<To, Number>::wgsl("wide", text)
        .initial_state(Wide { words: [0; 64] })
        .instances(1000)
        .restart(policy);
    let kernel = runtime.launch(kernel).unwrap();
    kernel.activate().unwrap();
    let add = |value| kernel.ask(To { to: 500, value }, LONG).unwrap().value;
    add(5);
    kernel.snapshot().unwrap();
    assert_eq!(add(10), 15);
    runtime.device().refuse(Some("a write of states"));
    assert!(kernel.snapshot().unwrap_err().is_unavailable());
    runtime.device().refuse(None);
    runtime.device().destroy();
    assert_eq!(add(1), 6, "the snapshot that was taken");
}
