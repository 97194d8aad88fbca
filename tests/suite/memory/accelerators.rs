//! Several accelerators in one runtime.

use super::{BUMP, LOOK, start};
use crate::common::{LONG, runtime};
use crate::errors::{launch_refused_by, refused};
use ringwork::{Accelerator, BackendKind, Error, PoolSettings, RingKernel, Runtime};

/// What Rust can be told to run on here.
fn all() -> Vec<Accelerator> {
    let all = Accelerator::all();
    assert_eq!(all[0].backend, BackendKind::Cpu);
    all
}

#[test]
fn kernels_of_one_runtime_run_on_all_accelerators() {
    let runtime = runtime();
    for (number, accelerator) in (0..).zip(all()) {
        let name = format!("bump {number}");
        let cells = runtime.buffer_on(&accelerator, &[number; 8]).unwrap();
        let bump = RingKernel::wgsl(&name, BUMP).bind("cells", &cells).on(&accelerator);
        let kernel = start(&runtime, bump);
        for _ in 0..3 {
            kernel.ask((), LONG).unwrap();
        }
        assert_eq!(cells.to_vec().unwrap(), [number + 3; 8], "{accelerator}");
        let pool = runtime.memory_pool_on(&accelerator, PoolSettings::new(1 << 16)).unwrap();
        assert_eq!(pool.buffer(&[number; 9]).unwrap().to_vec().unwrap(), [number; 9]);
    }
    // All are there still, at the same time.
    assert_eq!(runtime.kernels().len(), all().len());
}

#[test]
fn a_kernel_that_is_pinned_to_the_runtimes_own_accelerator_shares_its_buffers() {
    let runtime = runtime();
    let cells = runtime.buffer(&[0u32; 4]).unwrap();
    let name = runtime.capabilities().unwrap().name;
    let own: Vec<_> = all().into_iter().filter(|accelerator| accelerator.name == name).collect();
    let pinned = own.iter().find_map(|accelerator| {
        let kernel = RingKernel::<(), ()>::wgsl("bump", BUMP).bind("cells", &cells).on(accelerator);
        runtime.launch(kernel).ok()
    });
    let kernel = pinned.expect("one of them is the runtime's");
    kernel.activate().unwrap();
    kernel.ask((), LONG).unwrap();
    assert_eq!(cells.to_vec().unwrap(), [1; 4]);
}

#[test]
fn a_buffer_of_another_device_is_refused() {
    let own = runtime();
    let place = own.capabilities().unwrap().name;
    let Some(other) = all().into_iter().find(|other| other.name != place) else {
        eprintln!("a_buffer_of_another_device_is_refused: skipped, there is one accelerator");
        return;
    };
    let cells = own.buffer(&[0u32; 4]).unwrap();
    let text = |table: &str, there: &str, here: &str| {
        format!(
            "kernel `k`: table `{table}`: its buffer is in the memory of {there}, as this or another runtime opened \
             it, and the kernel runs on {here}; make the buffer with `buffer_on`, or pin the kernel with `.on`"
        )
    };
    let kernel = |cells| RingKernel::<(), ()>::wgsl("k", LOOK).bind("cells", cells);
    launch_refused_by(
        &own,
        kernel(&cells).on(&other),
        Error::is_invalid,
        &text("cells", &place, &other.name),
    );
    let there = own.buffer_on(&other, &[0u32; 4]).unwrap();
    launch_refused_by(&own, kernel(&there), Error::is_invalid, &text("cells", &other.name, &place));
    start(&own, kernel(&there).on(&other)).ask((), LONG).unwrap();
}

#[test]
fn only_wgsl_handlers_are_pinned() {
    let runtime = runtime();
    let cpu = Accelerator::by_index(BackendKind::Cpu, 0).unwrap();
    let text = "kernel `k`: on: only WGSL handlers run on an accelerator; others are the CPU's";
    let native = RingKernel::<(), ()>::native("k", |(), _: &mut ()| ()).on(&cpu);
    launch_refused_by(&runtime, native, Error::is_invalid, text);
}

#[test]
fn accelerators_are_found_by_what_they_are() {
    for accelerator in all() {
        let Accelerator { backend, index, .. } = accelerator;
        assert_eq!(Accelerator::by_index(backend, index).unwrap(), accelerator);
        if let Some(uuid) = accelerator.uuid {
            assert_eq!(Accelerator::by_uuid(uuid).unwrap(), accelerator);
        }
        if let Some(address) = &accelerator.pci_address {
            let found = Accelerator::by_pci_address(&address.to_uppercase()).unwrap();
            assert_eq!(found.pci_address.as_ref(), Some(address));
        }
        match Accelerator::by_name(&accelerator.name) {
            Ok(found) => assert_eq!(found.name, accelerator.name),
            Err(error) => assert!(error.is_invalid(), "two of one name: {error:?}"),
        }
        let is_cpu = backend == BackendKind::Cpu;
        assert_eq!(accelerator.workgroup.is_none(), is_cpu, "{accelerator:?}");
        assert!(accelerator.compute_units != Some(0) && accelerator.total_memory != Some(0));
        if let Some(subgroup) = &accelerator.subgroup_size {
            assert!(*subgroup.start() > 0 && subgroup.start() <= subgroup.end(), "{accelerator:?}");
        }
        if let (Some(free), Some(total)) = (accelerator.free_memory(), accelerator.total_memory) {
            assert!(free > 0 && free <= total, "{accelerator:?}");
        }
        if let Some(workgroup) = accelerator.workgroup {
            assert!(workgroup.memory > 0 && workgroup.count.iter().all(|count| *count > 0));
        }
    }
    assert!(Accelerator::by_index(BackendKind::Auto, 0).is_err_and(|error| error.is_invalid()));
    refused(
        Accelerator::by_index(BackendKind::Cpu, 7),
        Error::is_unavailable,
        "backend `cpu` has 1 accelerators, and none with index 7",
    );
    refused(
        Accelerator::by_uuid(ringwork::Uuid::nil()),
        Error::is_unavailable,
        "there is no accelerator with the UUID 00000000-0000-0000-0000-000000000000",
    );
    assert!(Accelerator::by_name("no such name").is_err_and(|error| error.is_unavailable()));
    assert!(!Accelerator::best().unwrap().is_software());
}

#[test]
fn what_a_device_says_of_its_memory_changes_with_its_buffers() {
    let cuda = all().into_iter().find(|accelerator| accelerator.backend == BackendKind::Cuda);
    let Some(cuda) = cuda else {
        eprintln!(
            "what_a_device_says_of_its_memory_changes_with_its_buffers: skipped, only CUDA's drivers say it"
        );
        return;
    };
    let runtime = Runtime::builder().backend(BackendKind::Cuda).build().unwrap();
    let small = runtime.buffer(&[0u32; 4]).unwrap();
    let before = cuda.free_memory().expect("it is open");
    let large = runtime.buffer(&vec![0u32; 16 << 20]).unwrap();
    let after = cuda.free_memory().expect("it is open");
    // Other tests of this process allocate and free meanwhile.
    assert!(after < before, "{before} bytes were free, and {after} are");
    drop((small, large));
}
