//! Faults that the emulation makes on purpose. Each in a process of its own, for the seeds are read once.

use super::kit::{Kernel, LONG, device, devices, lane, run_to};
use super::rings::{INSTANCES, counter, echo, handled, message};
use crate::backend::cuda::host::BYTES;
use crate::backend::cuda::{CudaDevice, choose};
use crate::backend::{Device, DeviceOptions, Progress, Shape};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Set for the child: which of the tests it is.
const CHILD: &str = "RINGWORK_TEST_SEEDED";

/// Runs a test again, with these seeds; here, or in the child. Its name says the module, if it is not this one.
pub fn seeded(name: &str, seeds: &str, body: impl FnOnce()) {
    if let Err(reason) = super::build::emulation() {
        return println!("SKIPPED: {reason}");
    }
    if std::env::var_os(CHILD).is_some_and(|child| child == name) {
        // What waits in the driver for ever would not see that it takes too long.
        std::thread::spawn(|| {
            std::thread::sleep(5 * LONG);
            eprintln!("it hangs");
            std::process::exit(1);
        });
        return body();
    }
    let own = std::env::current_exe().expect("a test is a program");
    let mut child = Command::new(own);
    let module = if name.contains("::") { "" } else { "seeded::" };
    let path = format!("backend::cuda::tests::{module}{name}");
    child.args(["--exact", &path, "--nocapture"]).env(CHILD, name).env("RINGWORK_EMULATION", seeds);
    let output = child.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{seeds}: {text}{errors}");
}

fn many_messages_in_every_shape() {
    devices().for_each(|device| many_messages_on(&device));
}

fn many_messages_on(device: &CudaDevice) {
    let mut echoing = Kernel::launch(device, echo());
    let mut serial = Kernel::launch(device, counter(Shape::Serial));
    let mut instances = Kernel::launch(device, counter(INSTANCES));
    let messages: Vec<_> = (0..2000).map(|number| message(number % 5, 0, number)).collect();
    let ends = echoing.run(&messages);
    assert!(ends.iter().zip(0..).all(|(end, number)| *end == handled(number, 0)));
    let ends = serial.run(&messages);
    assert!(ends.iter().zip(0..).all(|(end, number)| *end == handled(number, number + 1)));
    let ends = instances.run(&messages);
    assert!(ends.iter().zip(0..).all(|(end, number)| *end == handled(number, number / 5 + 1)));
    // A fault's record may be taken before or after its kernel has left.
    let faulty: Vec<_> = (0..500).map(|number| message(0, u32::from(number % 7 == 3), number)).collect();
    let ends = serial.run(&faulty);
    assert!(ends.iter().zip(0..).all(|(end, number)| end.fault.is_some() == (number % 7 == 3)));
}

#[test]
fn granules_that_come_one_by_one_and_late_are_waited_for() {
    let name = "granules_that_come_one_by_one_and_late_are_waited_for";
    seeded(name, "torn,stale,shuffled", many_messages_in_every_shape);
}

#[test]
fn an_error_of_the_device_is_a_loss_and_another_one_can_be_opened() {
    let name = "an_error_of_the_device_is_a_loss_and_another_one_can_be_opened";
    seeded(name, "error=3", || lost("CUDA_ERROR_LAUNCH_FAILED"));
}

#[test]
fn a_reset_that_answers_with_the_old_error_has_helped() {
    let name = "a_reset_that_answers_with_the_old_error_has_helped";
    seeded(name, "error=3,reset-complains", || lost("CUDA_ERROR_LAUNCH_FAILED"));
}

#[test]
fn a_device_that_a_reset_does_not_help_says_what_may() {
    seeded("a_device_that_a_reset_does_not_help_says_what_may", "error=3,reset-fails", || {
        lose("CUDA_ERROR_LAUNCH_FAILED");
        for _ in 0..2 {
            let found = choose(&DeviceOptions::default(), true).expect("the emulation has a device");
            let error = CudaDevice::open_here(&found).map(drop).expect_err("it is not there again");
            let text = "it was lost before, and may be there for another process";
            assert!(error.is_unavailable() && error.to_string().ends_with(text), "{error}");
        }
    });
}

#[test]
fn a_kernel_that_ends_by_itself_is_a_loss() {
    seeded("a_kernel_that_ends_by_itself_is_a_loss", "exit=3", || lost("it came to an end by itself"));
}

#[test]
fn a_kernel_that_never_begins_is_a_loss() {
    seeded("a_kernel_that_never_begins_is_a_loss", "hang=3", || lost("it does not begin"));
}

#[test]
fn a_kernel_that_stops_in_the_middle_is_a_loss() {
    seeded("a_kernel_that_stops_in_the_middle_is_a_loss", "stall=3", || lost("its heartbeat has stopped"));
}

#[test]
fn a_launch_that_sees_no_message_is_done_again() {
    seeded("a_launch_that_sees_no_message_is_done_again", "lost=2,torn", || {
        let device = device().expect("the emulation is there");
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        // In two batches: the second is written while the first has not been seen.
        assert_eq!(kernel.push(&[message(0, 0, 1), message(0, 0, 2)]), 2);
        let limits = crate::backend::Limits {
            deadline: Some(Instant::now() + Duration::from_millis(20)),
            slice: None,
        };
        let until = crate::backend::Until { token: None, limits, patience: Some(&|| false) };
        assert_eq!(kernel.port.progress(&until), Progress::UnderWay, "the doorbell was heard");
        assert_eq!(kernel.push(&[message(0, 0, 3)]), 1);
        // Two of them may come back before the third.
        let (mut ends, begun) = (Vec::new(), Instant::now());
        while ends.len() < 3 {
            assert_ne!(kernel.progress(), Progress::Lost, "{:?}", kernel.port.failure());
            ends.extend(kernel.pop());
            assert!(begun.elapsed() < LONG, "only {} messages of 3 ended", ends.len());
        }
        let expected = [handled(1, 1), handled(2, 2), handled(3, 3)];
        assert_eq!(ends, expected, "nothing is lost, and nothing runs twice");
        assert_eq!(kernel.states(), [3, 6]);
    });
}

#[test]
fn a_stop_word_that_is_not_seen_ends_a_kernel_that_has_nothing_to_do() {
    let name = "a_stop_word_that_is_not_seen_ends_a_kernel_that_has_nothing_to_do";
    seeded(name, "lost=2", || {
        let device = device().expect("the emulation is there");
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        kernel.push(&[message(0, 0, 1)]);
        let until =
            crate::backend::Until { token: None, limits: crate::backend::Limits::NONE, patience: None };
        assert_eq!(kernel.port.progress(&until), Progress::UnderWay);
        assert!(kernel.port.recall(Some(super::kit::deadline())), "it leaves when it is idle");
        assert_eq!(kernel.pop(), []);
        assert_eq!(kernel.states(), [0, 0]);
        assert_eq!(kernel.run(&[]), []);
        assert_eq!(kernel.wait(), [handled(1, 1)]);
    });
}

#[test]
fn a_device_that_never_sees_a_message_is_a_loss() {
    seeded("a_device_that_never_sees_a_message_is_a_loss", "deaf", || {
        let device = device().expect("the emulation is there");
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        kernel.push(&[message(0, 0, 1)]);
        assert_eq!(kernel.progress(), Progress::Lost);
        let failure = kernel.port.failure().expect("there is a reason").to_string();
        assert!(failure.contains("it does not see messages"), "{failure}");
    });
}

fn lost(why: &str) {
    lose(why);
    let device = device().expect("the emulation is there");
    let mut third = Kernel::launch(&device, counter(Shape::Serial));
    assert_eq!(third.run(&[message(0, 0, 1)]), [handled(1, 1)]);
}

/// The third launch is the one with the fault: the first one is to no purpose.
fn lose(why: &str) {
    {
        let device = device().expect("the emulation is there");
        let mut first = Kernel::launch(&device, counter(Shape::Serial));
        assert_eq!(first.run(&[message(0, 0, 1)]), [handled(1, 1)]);
        let mut second = Kernel::launch(&device, counter(Shape::Serial));
        let begun = Instant::now();
        loop {
            second.push(&[message(0, 0, 1)]);
            if second.progress() == Progress::Lost {
                break;
            }
            second.pop();
            assert!(begun.elapsed() < super::kit::LONG, "nothing is lost");
        }
        let failure = second.port.failure().expect("there is a reason").to_string();
        assert!(failure.contains("the device is lost") && failure.contains(why), "{failure}");
        first.push(&[message(0, 0, 1)]);
        assert_eq!(first.progress(), Progress::Lost, "it has the same device");
        assert!(first.port.read_state().expect_err("it is gone").is_device_lost());
    }
}

#[test]
fn what_a_lost_device_had_is_there_for_those_who_have_it() {
    seeded("what_a_lost_device_had_is_there_for_those_who_have_it", "", || {
        let device = device().expect("the emulation is there");
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        assert_eq!(kernel.run(&[message(0, 0, 1)]), [handled(1, 1)]);
        device.destroy();
        // Its context is reset when another one is opened, before anybody has heard that this one is lost.
        let again = super::kit::device().expect("it is there again");
        let mut other = Kernel::launch(&again, counter(Shape::Serial));
        assert_eq!(other.run(&[message(0, 0, 1)]), [handled(1, 1)]);
        kernel.push(&[message(0, 0, 2)]);
        assert_eq!(kernel.progress(), Progress::Lost);
        assert_eq!(kernel.pop(), []);
        drop(kernel);
        assert_eq!(other.run(&[message(0, 0, 2)]), [handled(2, 2)]);
    });
}

#[test]
fn only_what_has_not_come_back_from_a_lost_device_waits() {
    seeded("only_what_has_not_come_back_from_a_lost_device_waits", "", || {
        for device in devices() {
            let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
            // The third one faults, and the kernel leaves.
            kernel.push(&[0, 0, 1, 0, 0].map(|action| message(0, action, 7)));
            run_to(&lane(&*kernel.port), 2);
            assert_eq!(kernel.control.waiting.load(Ordering::Relaxed), 5, "nobody has looked since");
            device.destroy();
            assert_eq!(kernel.pop().len(), 3);
            assert_eq!(kernel.control.waiting.load(Ordering::Relaxed), 2);
        }
    });
}

#[test]
fn memory_of_lost_devices_is_freed_when_they_have_been_reset() {
    seeded("memory_of_lost_devices_is_freed_when_they_have_been_reset", "", || {
        let bytes = || BYTES.load(Ordering::Relaxed);
        let mut first = usize::MAX;
        for _ in 0..5 {
            let device = device().expect("the emulation is there");
            let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
            assert_eq!(kernel.run(&[message(0, 0, 1)]), [handled(1, 1)]);
            // The one before was reset by now, and those that had it let go of it.
            let begun = Instant::now();
            while bytes() > first {
                assert!(begun.elapsed() < LONG, "{} bytes, and {first} for one device", bytes());
                std::thread::sleep(Duration::from_millis(1));
            }
            first = bytes();
            device.destroy();
        }
    });
}

#[test]
fn a_kernel_that_hangs_is_not_waited_for_for_ever() {
    seeded("a_kernel_that_hangs_is_not_waited_for_for_ever", "hang=2", || {
        let device = device().expect("the emulation is there");
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        kernel.push(&[message(0, 0, 1)]);
        let limit = Instant::now() + Duration::from_millis(50);
        let limits = crate::backend::Limits { deadline: Some(limit), slice: None };
        let until = crate::backend::Until { token: None, limits, patience: Some(&|| false) };
        assert_eq!(kernel.port.progress(&until), Progress::UnderWay);
        assert!(!kernel.port.recall(Some(Instant::now() + Duration::from_millis(50))));
        drop(kernel);
        // Others can be launched beside it.
        let mut other = Kernel::launch(&device, counter(Shape::Serial));
        assert_eq!(other.run(&[message(0, 0, 1)]), [handled(1, 1)]);
    });
}
