//! Which adapters there are, and which one is taken.
//!
//! What needs an adapter says on standard error that it is skipped where there is none; Mesa's software one will do.

use super::super::adapter::{accelerators, choose, guarded, uuid};
use crate::backend::{DeviceOptions, Problem};

#[test]
fn a_panic_in_a_driver_is_a_problem_with_a_remedy() {
    let problem: Problem = guarded(|| panic!("the driver has {} heads", 3)).expect_err("it panicked");
    assert_eq!(
        problem.reason,
        "there was a panic while drivers were asked for their adapters: the driver has 3 heads"
    );
    assert!(problem.remedy.contains("update or reinstall"), "{}", problem.remedy);
    assert_eq!(guarded(|| 7), Ok(7));
}

#[test]
fn each_adapter_can_be_chosen_by_index_and_by_uuid() {
    let adapters = match accelerators() {
        Ok(adapters) => adapters,
        Err(problem) => {
            eprintln!("each_adapter_can_be_chosen_by_index_and_by_uuid: skipped, {problem}");
            return;
        }
    };
    for adapter in adapters {
        let uuid = adapter.uuid.expect("adapters of wgpu have one").to_string();
        for wanted in [adapter.index.to_string(), uuid.to_uppercase(), uuid] {
            let options = DeviceOptions { adapter: Some(wanted), ..DeviceOptions::default() };
            assert_eq!(choose(&options, false).expect("it was listed").accelerator(), adapter);
        }
    }
}

/// Users write them into their settings: another version must not change them.
#[test]
fn uuids_stay_as_they_are_and_tell_twins_apart() {
    let identity = "vulkan/10de/2684/0000:01:00.0/GPU";
    assert_eq!(uuid(identity, 0).to_string(), "228a1969-92e1-8a47-acaa-4e8afa6cd555");
    assert_eq!(uuid(identity, 1).to_string(), "cd6e7bea-5b2f-89df-8bb5-f42aee3dad6d");
}
