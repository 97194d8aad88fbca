//! What entry points keep of the device.

use super::kit::own_device;
use crate::backend::compute::DeviceEntryPoint;
use crate::backend::{Device, DeviceStorage};
use crate::compile::compute::{ComputeSource, compile};
use crate::compile::{CompiledCompute, KeyBuilder, Store};
use std::sync::Arc;

const SET: &str = "@group(0) @binding(0) var<storage, read_write> cells: array<u32>;
    @compute @workgroup_size(1) fn main() { cells[0] = 1u; }";

fn kernel(device: &Arc<dyn Device>) -> Arc<dyn DeviceEntryPoint> {
    let (constants, loop_budget) = (&[], 1);
    let source =
        ComputeSource { name: "set.wgsl", text: SET, entry: "main", constants, loop_budget, draft: false };
    let program = compile(&source).unwrap().expect("not a draft");
    let key = KeyBuilder::new("an entry point of this test").finish();
    let compiled = CompiledCompute::new(program, key, Arc::new(Store::new(Err("a test".into()), 0)));
    device.compute(&Arc::new(compiled)).unwrap()
}

#[test]
fn an_entry_point_does_not_keep_the_buffers_that_it_ran_on() {
    const LARGE: usize = 64 << 20;
    // One of its own: what it holds is compared.
    let Some(device) = own_device() else { return };
    let held = || {
        let all = device.holdings();
        all.iter().find(|(what, _)| *what == "bytes in buffers").expect("it is counted").1
    };
    let (one, other) = (kernel(&device), kernel(&device));
    let small: [Arc<dyn DeviceStorage>; 1] = [device.allocate(256).unwrap()];
    one.dispatch(&small, [1, 1, 1]).unwrap();
    let before = held();
    let large = device.allocate(LARGE).unwrap();
    // A part of it, as a pool gives one out.
    let part = [device.prefix(&*large, LARGE / 2)];
    let whole = [large];
    for (kernel, buffers) in [(&one, &whole), (&other, &part), (&one, &part), (&other, &part)] {
        kernel.dispatch(buffers, [1, 1, 1]).unwrap();
    }
    assert!(held() >= before + LARGE as isize, "it is there while somebody has it");
    drop(whole);
    assert!(held() >= before + LARGE as isize, "a part of it is enough");
    drop(part);
    assert!(held() < before + LARGE as isize / 2, "{} is much more than {before}", held());
    // They run on.
    for kernel in [one, other] {
        kernel.dispatch(&small, [1, 1, 1]).unwrap();
    }
}
