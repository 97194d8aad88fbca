//! Kernels that listen to the ingress.

use super::kit::{Kernel, LONG, deadline, device, lane};
use super::rings::{counter, echo, message};
use super::seeded::seeded;
use crate::backend::cuda::CudaDevice;
use crate::backend::cuda::ingress::{ALONE, Ingress};
use crate::backend::cuda::lane::{IDLE, Lane};
use crate::backend::cuda::room::MOST_RESIDENT;
use crate::backend::{Device, Limits, Shape, Until};
use crate::sync::lock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LISTENING: usize = 4;
/// A doze, in microseconds, that nobody waits out.
const FOR_EVER: &str = "doze=60000000";
/// What a bell wakes comes sooner.
const SOON: Duration = Duration::from_secs(20);

/// So many kernels that some have bells.
fn kernels(device: &CudaDevice) -> Vec<Kernel> {
    (0..ALONE + LISTENING).map(|_| Kernel::launch(device, counter(Shape::Serial))).collect()
}

fn is_running(device: &CudaDevice) -> bool {
    ingress(device).is_some_and(|ingress| ingress.is_running(&device.gpu))
}

fn ingress(device: &CudaDevice) -> Option<Arc<Ingress>> {
    lock(&device.gpu.ingress).clone()
}

/// Kernels that are on the device and have bells.
fn listening(kernels: &[Kernel]) -> Vec<Arc<Lane>> {
    let lanes = kernels.iter().map(|kernel| lane(&*kernel.port));
    lanes.filter(|lane| lane.is_running() && lane.listens()).collect()
}

/// Sends a message whose end comes soon.
fn soon(kernel: &mut Kernel) {
    let begun = Instant::now();
    kernel.run(&[message(0, 0, 1)]);
    assert!(begun.elapsed() < SOON, "nobody has woken the kernel");
}

/// Has all kernels on the device at the same time, until the ingress is there, too.
fn until_it_is_there(device: &CudaDevice, kernels: &mut [Kernel]) {
    let by = deadline();
    let mut is_there = false;
    while !is_there {
        assert!(Instant::now() < by, "no ingress");
        for kernel in &mut *kernels {
            kernel.push(&[message(0, 0, 1)]);
            lane(&*kernel.port).want();
            is_there |= is_running(device);
        }
        kernels.iter_mut().for_each(|kernel| drop(kernel.wait()));
    }
}

/// Does something while the ingress is there, and always has something to do.
fn while_it_stays(device: &CudaDevice, kernels: &mut [Kernel], work: impl FnOnce(&mut [Kernel])) {
    let is_over = AtomicBool::new(false);
    until_it_is_there(device, kernels);
    let ingress = ingress(device).expect("it is there");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                ingress.disturb();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(kernels)));
        is_over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Ends the test without waiting for kernels that doze.
fn leave_them(kernels: Vec<Kernel>) {
    std::mem::forget(kernels);
}

#[test]
fn a_bell_wakes_a_kernel_that_does_not_look() {
    seeded("ingress::a_bell_wakes_a_kernel_that_does_not_look", FOR_EVER, || {
        let device = device().expect("the emulation is there");
        let mut kernels = kernels(&device);
        let (by, mut woken) = (deadline(), 0);
        while_it_stays(&device, &mut kernels, |kernels| {
            while woken < 5 {
                assert!(Instant::now() < by, "nobody waits for its bell");
                kernels.iter_mut().for_each(soon);
                std::thread::sleep(IDLE / 5);
                let listening = listening(kernels);
                listening.iter().for_each(|lane| lane.ask_to_stop());
                std::thread::sleep(IDLE / 5);
                // Those that have not seen the stop word do not look.
                woken += listening.iter().filter(|lane| lane.is_running()).count();
                kernels.iter_mut().for_each(soon);
            }
        });
        leave_them(kernels);
    });
}

#[test]
fn kernels_whose_ingress_has_left_look_for_themselves() {
    seeded("ingress::kernels_whose_ingress_has_left_look_for_themselves", FOR_EVER, || {
        let device = device().expect("the emulation is there");
        let mut kernels = kernels(&device);
        while_it_stays(&device, &mut kernels, |kernels| {
            // Nobody starts it again.
            let _gate = device.gpu.gate.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            ingress(&device).expect("there are many kernels").ask_to_stop();
            let by = deadline();
            while is_running(&device) {
                assert!(Instant::now() < by, "it does not leave");
                std::thread::yield_now();
            }
            // It has seen to it that they are awake.
            while !listening(kernels).is_empty() {
                assert!(Instant::now() < by, "they doze, and do not leave when they have nothing to do");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        kernels.iter_mut().for_each(soon);
        leave_them(kernels);
    });
}

#[test]
fn a_bell_that_is_wrong_keeps_no_message_back() {
    seeded("ingress::a_bell_that_is_wrong_keeps_no_message_back", "", || {
        let device = device().expect("the emulation is there");
        let mut kernels = kernels(&device);
        while_it_stays(&device, &mut kernels, |kernels| {
            for round in 0..9 {
                std::thread::sleep(Duration::from_millis(5));
                for kernel in &mut *kernels {
                    let lane = lane(&*kernel.port);
                    // What is said last is that there is nothing behind what it has taken, or something that is not there.
                    let wrong = [lane.tail(), lane.tail() + 100, 0][round % 3];
                    kernel.push(&[message(0, 0, 1)]);
                    lane.mislead(wrong);
                }
                kernels.iter_mut().for_each(|kernel| assert_eq!(kernel.wait().len(), 1));
            }
        });
    });
}

#[test]
fn the_ingress_leaves_for_what_is_done_quietly_and_comes_back() {
    seeded("ingress::the_ingress_leaves_for_what_is_done_quietly_and_comes_back", "", || {
        let device = device().expect("the emulation is there");
        let mut kernels = kernels(&device);
        for _ in 0..3 {
            let (by, mut is_quiet) = (deadline(), false);
            while !is_quiet {
                assert!(Instant::now() < by, "somebody stays");
                until_it_is_there(&device, &mut kernels);
                // A busy machine may take longer than is waited for.
                is_quiet = device.gpu.quietly(|| {
                    !is_running(&device) && kernels.iter().all(|kernel| !lane(&*kernel.port).is_running())
                });
            }
        }
        until_it_is_there(&device, &mut kernels);
    });
}

#[test]
fn the_ingress_leaves_when_it_has_nothing_to_do_and_has_all_its_bells_back() {
    let name = "ingress::the_ingress_leaves_when_it_has_nothing_to_do_and_has_all_its_bells_back";
    seeded(name, "", || {
        let device = device().expect("the emulation is there");
        let few: Vec<_> = (0..ALONE).map(|_| Kernel::launch(&device, echo())).collect();
        assert!(ingress(&device).is_none(), "for a few kernels there is none");
        let mut kernels = kernels(&device);
        let by = deadline();
        loop {
            until_it_is_there(&device, &mut kernels);
            // On a busy machine all may have left again.
            if ingress(&device).is_some_and(|ingress| ingress.free() < MOST_RESIDENT) {
                break;
            }
            assert!(Instant::now() < by, "nobody has a bell");
        }
        while is_running(&device) {
            std::thread::sleep(Duration::from_millis(1));
            assert!(Instant::now() < by, "it stays");
        }
        drop((kernels, few));
        // The watch has them until they have left.
        while is_running(&device) || device.gpu.blocks() > 0 {
            std::thread::sleep(Duration::from_millis(1));
            assert!(Instant::now() < by, "somebody has not given his room back");
        }
        assert_eq!(ingress(&device).expect("the device keeps it").free(), MOST_RESIDENT);
    });
}

#[test]
fn an_ingress_that_does_not_begin_keeps_nobody_waiting() {
    // The first launch is that of the kernels' code to no purpose, the second that of the ingress's.
    seeded("ingress::an_ingress_that_does_not_begin_keeps_nobody_waiting", "hang=2", || {
        let device = device().expect("the emulation is there");
        let mut kernels = kernels(&device);
        for _ in 0..3 {
            for kernel in &mut kernels {
                kernel.push(&[message(0, 0, 1)]);
                lane(&*kernel.port).want();
            }
            kernels.iter_mut().for_each(|kernel| assert_eq!(kernel.wait().len(), 1));
        }
        assert!(is_running(&device) && !device.is_lost());
        drop(kernels);
        // Nobody waits for it for ever.
        let begun = Instant::now();
        drop(device);
        assert!(begun.elapsed() < LONG);
    });
}

#[test]
fn an_ingress_that_ends_by_itself_is_a_loss() {
    seeded("ingress::an_ingress_that_ends_by_itself_is_a_loss", "ingress-exits", || {
        let device = device().expect("the emulation is there");
        let mut kernels = kernels(&device);
        let (by, until) = (deadline(), Until { token: None, limits: Limits::NONE, patience: None });
        // Those that listen notice, which are there only while many are: these stay.
        for kernel in &mut kernels[..ALONE] {
            kernel.push(&[message(0, 2, 1)]);
        }
        while !device.is_lost() {
            assert!(Instant::now() < by, "nobody notices");
            for kernel in &mut kernels[ALONE..] {
                kernel.push(&[message(0, 0, 1)]);
            }
            for kernel in &mut kernels {
                kernel.port.progress(&until);
                kernel.pop();
            }
        }
        let failure = kernels[0].port.failure().expect("there is a reason").to_string();
        assert!(failure.contains("it came to an end by itself"), "{failure}");
    });
}
