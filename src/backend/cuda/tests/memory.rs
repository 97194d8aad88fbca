//! Memory of the device that there is not enough of.

use super::kit::{Kernel, deadline, device};
use super::rings::{counter, handled, message};
use super::seeded::seeded;
use crate::backend::cuda::gpu::MOST_SPARE;
use crate::backend::{Device, Shape};
use std::time::Instant;

#[test]
fn what_is_spare_goes_before_an_allocation_fails() {
    seeded("memory::what_is_spare_goes_before_an_allocation_fails", "memory=64", || {
        let device = device().expect("the emulation is there");
        let mut kernel = Kernel::launch(&device, counter(Shape::Serial));
        assert_eq!(kernel.run(&[message(0, 0, 1)]), [handled(1, 1)]);
        drop(device.allocate(30 << 20).expect("there is room"));
        // 30 of 64 MiB are nobody's, and of the wrong size; the kernel, which is on the device, leaves for that.
        let by = deadline();
        let larger = loop {
            match device.allocate(40 << 20) {
                Ok(larger) => break larger,
                // A kernel that does not leave at once is not waited for.
                Err(error) => assert!(Instant::now() < by, "there is room without what is spare: {error}"),
            }
        };
        assert_eq!(kernel.run(&[message(0, 0, 1)]), [handled(1, 2)]);
        let error = device.allocate(40 << 20).err().expect("there is no room");
        assert!(error.is_unavailable(), "{error:?}");
        assert!(error.to_string().contains("41943040 bytes of device memory"), "{error}");
        drop(larger);
        device.allocate(50 << 20).expect("there is room again");
        assert_eq!(kernel.run(&[message(0, 0, 1)]), [handled(1, 3)]);
    });
}

#[test]
fn no_more_than_some_is_kept_to_be_used_again() {
    let Some(device) = device() else { return };
    let gpu = &device.gpu;
    drop([(); 2].map(|()| gpu.host_memory(MOST_SPARE).expect("there is room")));
    drop([(); 2].map(|()| gpu.device_memory(MOST_SPARE).expect("there is room")));
    let by = deadline();
    // Kernels of other tests that do not leave at once are not waited for.
    while gpu.spare_bytes().iter().any(|bytes| *bytes > MOST_SPARE) {
        assert!(Instant::now() < by, "{:?}", gpu.spare_bytes());
        gpu.quietly(|| ());
    }
}
