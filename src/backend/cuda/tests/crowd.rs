//! More kernels than a device has room for.

use super::kit::{Kernel, LONG, device, device_of};
use super::rings::{counter, echo, handled, message};
use super::seeded::seeded;
use crate::backend::compute::DeviceEntryPoint;
use crate::backend::cuda::gpu::Gpu;
use crate::backend::cuda::lane::Lane;
use crate::backend::cuda::layout::Layout;
use crate::backend::cuda::room::Part;
use crate::backend::cuda::{CudaDevice, nvrtc};
use crate::backend::{Device, Limits, Progress, STOP_NOW, Shape, Until};
use crate::compile::{Cache, CacheSettings, ComputeSource};
use crate::sync::lock;
use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Looks once whether something of a kernel's has come back; how many messages ended.
fn step(kernel: &mut Kernel) -> usize {
    let until = Until { token: None, limits: Limits::NONE, patience: None };
    assert_ne!(kernel.port.progress(&until), Progress::Lost, "{:?}", kernel.port.failure());
    kernel.pop().len()
}

/// Sends each kernel so many messages, to all of them at the same time, from some threads, and waits for their ends.
fn all_at_once(kernels: &mut [Kernel], each: u32) {
    let begun = Instant::now();
    let share = kernels.len().div_ceil(3);
    std::thread::scope(|scope| {
        for kernels in kernels.chunks_mut(share) {
            scope.spawn(move || {
                let messages: Vec<_> = (0..each).map(|number| message(0, 0, number)).collect();
                let mut open: Vec<_> = kernels.iter_mut().map(|kernel| (kernel, 0, 0)).collect();
                while !open.is_empty() {
                    open.retain_mut(|(kernel, pushed, ended)| {
                        *pushed += kernel.push(&messages[*pushed..]);
                        *ended += step(kernel);
                        *ended < messages.len()
                    });
                    assert!(begun.elapsed() < LONG, "{} kernels are not through", open.len());
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
            });
        }
    });
}

#[test]
fn more_kernels_than_fit_take_turns() {
    let Some(device) = device() else { return };
    let mut kernels: Vec<_> = (0..300).map(|_| Kernel::launch(&device, counter(Shape::Serial))).collect();
    for round in 1..=2 {
        for kernel in &mut kernels {
            assert_eq!(kernel.run(&[message(0, 0, 1)]), [handled(1, round)]);
        }
    }
    all_at_once(&mut kernels, 10);
    for kernel in &mut kernels[..5] {
        assert_eq!(kernel.states()[0], 12);
    }
}

/// A kernel has its turn beside others that would fill the device for ever.
fn one_beside_busy_ones(device: &CudaDevice, busy: usize) {
    let mut others: Vec<_> = (0..busy).map(|_| Kernel::launch(device, echo())).collect();
    let mut kernel = Kernel::launch(device, counter(Shape::Serial));
    let is_over = AtomicBool::new(false);
    let share = busy.div_ceil(2);
    std::thread::scope(|scope| {
        for others in others.chunks_mut(share) {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    for other in &mut *others {
                        other.push(&[message(0, 0, 1)]);
                        step(other);
                    }
                    std::thread::yield_now();
                }
            });
        }
        for round in 1..=5 {
            assert_eq!(kernel.run(&[message(0, 0, 1)]), [handled(1, round)]);
            assert!(kernel.port.recall(Some(super::kit::deadline())), "it gives its room back");
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_small_device_has_room_for_fewer_and_loses_none() {
    seeded("crowd::a_small_device_has_room_for_fewer_and_loses_none", "units=1", || {
        let device = device_of(8).expect("the emulation is there");
        // Eight of them fill it. A sanitizer makes each turn ten times as long, and more turns than these are not needed.
        let (each, messages) = if cfg!(tsan) { (6, 60) } else { (20, 300) };
        let wide = (0..each).map(|_| Kernel::launch(&device, echo()));
        let serial = (0..each).map(|_| Kernel::launch(&device, counter(Shape::Serial)));
        let mut kernels: Vec<_> = wide.chain(serial).collect();
        all_at_once(&mut kernels, messages);
        drop(kernels);
        one_beside_busy_ones(&device, 12);
    });
}

/// An entry point that numbers the elements of its buffer.
fn numbers(device: &CudaDevice) -> Arc<dyn DeviceEntryPoint> {
    let source = ComputeSource {
        name: "fill",
        text: "@group(0) @binding(0) var<storage, read_write> cells: array<u32>;
            @compute @workgroup_size(256)
            fn main(@builtin(global_invocation_id) id: vec3<u32>) { cells[id.x] = id.x + 1u; }",
        entry: "main",
        constants: &[],
        loop_budget: 1,
        draft: false,
    };
    let cache = Cache::new(&CacheSettings::new().without_disk(), None).expect("settings that are good");
    let compiled = cache.compute(&source).expect("it compiles").expect("it is no draft");
    device.compute(&compiled).expect("it is loaded")
}

/// Runs an entry point while messages keep busy as many kernels as fill the device.
fn a_dispatch_beside_busy_ones(device: &CudaDevice, busy: usize) {
    let kernel = numbers(device);
    let cells = device.allocate(4 * 512).expect("there is memory");
    let mut others: Vec<_> = (0..busy).map(|_| Kernel::launch(device, echo())).collect();
    let (told, hears) = mpsc::channel();
    let dispatched = cells.clone();
    // Not waited for, if it never ends.
    std::thread::spawn(move || {
        for _ in 0..5 {
            let done = kernel.dispatch(std::slice::from_ref(&dispatched), [2, 1, 1]);
            told.send(done.map(|_| ())).expect("somebody waits");
        }
    });
    let begun = Instant::now();
    let mut ended = 0;
    while ended < 5 {
        for other in &mut others {
            other.push(&[message(0, 0, 1)]);
            step(other);
        }
        if let Ok(done) = hears.try_recv() {
            done.expect("it runs");
            ended += 1;
        }
        assert!(begun.elapsed() < LONG, "dispatch {ended} does not come to its turn");
    }
    let mut bytes = [0; 4 * 512];
    cells.read(0, &mut bytes, super::kit::deadline()).expect("nobody else has them");
    let values: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
    assert!(values.into_iter().eq(1..=512));
}

#[test]
fn a_dispatch_has_its_turn_on_a_small_device_full_of_kernels() {
    seeded("crowd::a_dispatch_has_its_turn_on_a_small_device_full_of_kernels", "units=1", || {
        let device = device_of(8).expect("the emulation is there");
        // Eight of them fill it; of twelve, some wait as well.
        [8, 12].into_iter().for_each(|busy| a_dispatch_beside_busy_ones(&device, busy));
    });
}

#[test]
fn the_first_dispatch_of_an_entry_point_does_not_wait_for_a_busy_kernel() {
    let name = "crowd::the_first_dispatch_of_an_entry_point_does_not_wait_for_a_busy_kernel";
    // By itself: nothing else has the kernel leave.
    seeded(name, "", || {
        let device = device().expect("the emulation is there");
        let (kernel, cells) = (numbers(&device), device.allocate(4 * 256).expect("there is memory"));
        let mut busy = Kernel::launch(&device, echo());
        busy.run(&[message(0, 0, 1)]);
        let dispatch = std::thread::spawn(move || kernel.dispatch(&[cells], [1, 1, 1]).map(drop));
        busy_until(std::slice::from_mut(&mut busy), || dispatch.is_finished());
        dispatch.join().expect("no panic").expect("it runs");
    });
}

/// Has messages for kernels all the time until something is over. Nobody asks the driver meanwhile.
fn busy_until(busy: &mut [Kernel], is_over: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_over() {
        for kernel in &mut *busy {
            kernel.push(&vec![message(0, 0, 1); 16]);
            kernel.pop();
        }
        assert!(begun.elapsed() < LONG / 6, "something waits for a kernel that does not leave");
    }
}

#[test]
fn a_dispatch_behind_a_kernel_in_a_queue_of_the_drivers_has_it_leave() {
    let name = "crowd::a_dispatch_behind_a_kernel_in_a_queue_of_the_drivers_has_it_leave";
    seeded(name, "one-queue", || {
        let device = device().expect("the emulation is there");
        let (kernel, cells) = (numbers(&device), device.allocate(4 * 256).expect("there is memory"));
        // The first one has kernels leave in any case.
        kernel.dispatch(std::slice::from_ref(&cells), [1, 1, 1]).expect("it runs");
        let mut busy = Kernel::launch(&device, echo());
        let mut calm = Kernel::launch(&device, echo());
        busy.run(&[message(0, 0, 1)]);
        let dispatch = std::thread::spawn(move || kernel.dispatch(&[cells], [1, 1, 1]).map(drop));
        // One that has nothing to do most of the time, and always is the first to leave.
        let is_over = Arc::new(AtomicBool::new(false));
        let ended = is_over.clone();
        let calm = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                assert_eq!(calm.run(&[message(0, 0, 3)]), [handled(3, 0)]);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        busy_until(std::slice::from_mut(&mut busy), || dispatch.is_finished());
        dispatch.join().expect("no panic").expect("it runs");
        is_over.store(true, Ordering::Relaxed);
        calm.join().expect("no panic");
        // It comes back.
        busy.push(&[message(0, 0, 2)]);
        assert_eq!(busy.wait()[0], handled(1, 0));
    });
}

#[test]
fn a_kernel_that_comes_back_does_not_wait_for_another_in_its_queue() {
    let name = "crowd::a_kernel_that_comes_back_does_not_wait_for_another_in_its_queue";
    seeded(name, "one-queue", || {
        let device = device().expect("the emulation is there");
        let mut busy = Kernel::launch(&device, echo());
        let mut other = Kernel::launch(&device, counter(Shape::Serial));
        assert_eq!(other.run(&[message(0, 0, 1)]), [handled(1, 1)]);
        busy.run(&[message(0, 0, 1)]);
        let stays = super::kit::lane(&*busy.port);
        let launches = stays.launches();
        let comes_back = std::thread::spawn(move || {
            for round in 2..=10 {
                assert!(other.port.recall(Some(Instant::now() + LONG)));
                assert_eq!(other.run(&[message(0, 0, 1)]), [handled(1, round)]);
            }
        });
        busy_until(std::slice::from_mut(&mut busy), || comes_back.is_finished());
        comes_back.join().expect("no panic");
        assert!(stays.is_running() && stays.launches() == launches, "the busy one had to leave for it");
    });
}

#[test]
fn a_kernel_for_which_there_is_less_room_than_it_seemed_has_others_leave() {
    let name = "crowd::a_kernel_for_which_there_is_less_room_than_it_seemed_has_others_leave";
    seeded(name, "units=1,claims=2", || {
        let device = device_of(8).expect("the emulation is there");
        // Eight of them fill the device.
        let mut busy: Vec<_> = (0..9).map(|_| Kernel::launch(&device, echo())).collect();
        let mut other = busy.pop().expect("there are nine");
        for kernel in &mut busy {
            kernel.run(&[message(0, 0, 1)]);
        }
        let runs = std::thread::spawn(move || assert_eq!(other.run(&[message(0, 0, 1)]), [handled(1, 0)]));
        busy_until(&mut busy, || runs.is_finished());
        runs.join().expect("no panic");
    });
}

#[test]
fn a_dispatch_that_waits_for_room_hears_that_the_device_is_lost() {
    // By itself: it loses the device.
    seeded("crowd::a_dispatch_that_waits_for_room_hears_that_the_device_is_lost", "units=1", || {
        let device = device().expect("the emulation is there");
        let (kernel, cells) = (numbers(&device), device.allocate(4 * 256).expect("there is memory"));
        let all = Part::of(1);
        device.gpu.take_room_for(all);
        let (told, hears) = mpsc::channel();
        std::thread::spawn(move || {
            let done = kernel.dispatch(&[cells], [1, 1, 1]);
            told.send(done.map(|_| ())).expect("somebody waits");
        });
        assert!(hears.recv_timeout(Duration::from_millis(50)).is_err(), "it waits");
        device.destroy();
        // As kernels do that have left.
        device.gpu.give_room_of(all);
        let error = hears.recv_timeout(LONG).expect("it ends").expect_err("the device is lost");
        assert!(error.is_device_lost(), "{error:?}");
    });
}

#[test]
fn code_that_somebody_else_has_loaded_meanwhile_is_let_go_beside_busy_kernels() {
    let name = "crowd::code_that_somebody_else_has_loaded_meanwhile_is_let_go_beside_busy_kernels";
    // By itself: nothing else has kernels leave.
    seeded(name, "", || {
        let device = device().expect("the emulation is there");
        let mut busy = Kernel::launch(&device, echo());
        let (gpu, launch) = (device.gpu.clone(), counter(Shape::Serial));
        let layout = Layout::new(&launch.spec(Arc::default()), launch.outputs);
        let text = layout.text(launch.text);
        let (told, hears) = mpsc::channel();
        let lane: Arc<dyn Any + Send + Sync> = busy.port.inlet().expect("it has one");
        let lane = lane.downcast::<Lane>().unwrap_or_else(|_| panic!("it is the kernel itself"));
        std::thread::spawn(move || {
            let load = |gpu: &Arc<Gpu>, text: &str| {
                let image = |text: &str| nvrtc::compile(text, "test", &gpu.architecture);
                gpu.code(text.to_owned(), "test", c"rt_resident", image, "refused").expect("it is good code")
            };
            let (other, same) = (gpu.clone(), text.clone());
            *lock(&gpu.loaded) = Some(Box::new(move || {
                load(&other, &same);
                // The busy kernel had to leave for that, and is back.
                while !lane.is_running() {
                    std::thread::yield_now();
                }
            }));
            load(&gpu, &text);
            told.send(()).expect("somebody waits");
        });
        let begun = Instant::now();
        while hears.try_recv().is_err() {
            busy.push(&[message(0, 0, 1)]);
            step(&mut busy);
            assert!(begun.elapsed() < Duration::from_secs(60), "it waits for a kernel that does not leave");
        }
    });
}

#[test]
fn a_handler_that_does_not_end_hears_of_its_end_while_code_is_loaded() {
    let name = "crowd::a_handler_that_does_not_end_hears_of_its_end_while_code_is_loaded";
    seeded(name, "", || {
        let device = device().expect("the emulation is there");
        let mut endless = Kernel::launch(&device, counter(Shape::Serial));
        endless.push(&[message(0, 2, 1)]);
        while endless.control.waiting.load(Ordering::Relaxed) > 0 {
            step(&mut endless);
        }
        let (gpu, launch) = (device.gpu.clone(), echo());
        let text = Layout::new(&launch.spec(Arc::default()), launch.outputs).text(launch.text);
        let image =
            nvrtc::compile(&text, "test", &gpu.architecture).unwrap_or_else(|_| panic!("it is good code"));
        let loading = std::thread::spawn(move || {
            gpu.code(text, "test", c"rt_resident", |_| Ok(image), "refused").expect("it is good code");
        });
        // Somebody looks after the kernel meanwhile, and asks the driver for it, which loads and waits for the kernel.
        let (lane, is_over) = (super::kit::lane(&*endless.port), Arc::new(AtomicBool::new(false)));
        let (tended, ended) = (lane.clone(), is_over.clone());
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                tended.tend();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(!loading.is_finished(), "the driver waits for the kernel");
        let (told, hears) = mpsc::channel();
        std::thread::spawn(move || {
            endless.control.stop.store(STOP_NOW, Ordering::Relaxed);
            told.send(endless.port.recall(Some(Instant::now() + LONG))).expect("somebody waits");
        });
        if hears.recv_timeout(Duration::from_secs(10)) != Ok(true) {
            eprintln!("the kernel, and whoever loads code, wait for ever");
            std::process::exit(1);
        }
        loading.join().expect("it is loaded");
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_device_is_opened_again_only_when_it_has_been_closed() {
    seeded("crowd::a_device_is_opened_again_only_when_it_has_been_closed", "", || {
        let first = device().expect("the emulation is there");
        let (closing, closes) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        *lock(&first.gpu.going) = Some(Box::new(move || {
            closing.send(()).expect("somebody waits");
            // What it gives back waits for all kernels, also for those of whoever opens it.
            goes.recv().expect("somebody says so");
        }));
        std::thread::scope(|scope| {
            scope.spawn(move || drop(first));
            closes.recv().expect("it is being closed");
            let (told, opened) = mpsc::channel();
            scope.spawn(move || told.send(device().is_some()).expect("somebody waits"));
            let early = opened.recv_timeout(Duration::from_millis(100));
            go.send(()).expect("it waits");
            assert!(early.is_err(), "it is opened while it is being closed");
            assert_eq!(opened.recv_timeout(LONG), Ok(true));
        });
    });
}
