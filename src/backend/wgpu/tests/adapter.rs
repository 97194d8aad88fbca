//! Which adapters there are, and which one is taken.
//!
//! What needs an adapter says on standard error that it is skipped where there is none; Mesa's software one will do.

use super::super::adapter::{accelerators, choose, guarded, uuid};
use crate::backend::{Accelerator, DeviceOptions};
use crate::{BackendKind, Problem, Runtime};

/// The adapters of this machine, unless there are none.
fn adapters(test: &str) -> Option<Vec<Accelerator>> {
    match accelerators() {
        Ok(accelerators) => Some(accelerators),
        Err(problem) => {
            eprintln!("{test}: skipped, {problem}");
            None
        }
    }
}

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
    let Some(adapters) = adapters("each_adapter_can_be_chosen_by_index_and_by_uuid") else { return };
    for adapter in adapters {
        let uuid = adapter.uuid.expect("adapters of wgpu have one").to_string();
        for wanted in [adapter.index.to_string(), uuid.to_uppercase(), uuid] {
            let options = DeviceOptions { adapter: Some(wanted), ..DeviceOptions::default() };
            assert_eq!(choose(&options, false).expect("it was listed").accelerator(), adapter);
        }
    }
}

#[test]
fn an_adapter_that_is_opened_is_the_one_that_was_described() {
    let Some(adapters) = adapters("an_adapter_that_is_opened_is_the_one_that_was_described") else { return };
    let last = adapters.last().expect("there is one");
    let name = format!(" {} ", last.name.to_uppercase());
    let builder = Runtime::builder().backend(BackendKind::Wgpu).adapter(last.index.to_string());
    let runtime = builder.build().expect("good settings");
    let opened = runtime.capabilities().expect("it opens");
    assert_eq!((opened.uuid, &opened.name, &opened.driver), (last.uuid, &last.name, &last.driver));
    assert_eq!((opened.software, opened.largest_buffer), (last.is_software(), last.largest_buffer));
    assert_eq!(runtime.why(), format!("wgpu: the adapter that was asked for: {last}"));
    // A name that two adapters have is refused; `select` tests that.
    if let Ok(choice) = Runtime::builder().backend(BackendKind::Wgpu).adapter(name).choice() {
        assert_eq!(choice.accelerator.name, last.name);
    }
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let test = "an_adapter_that_is_not_there_is_an_error_that_lists_those_that_are";
    let Some(adapters) = adapters(test) else { return };
    let beyond = adapters.len().to_string();
    for wanted in [beyond.as_str(), "no such adapter", "00000000-0000-8000-8000-000000000000"] {
        for kind in [BackendKind::Auto, BackendKind::Wgpu] {
            // `RINGWORK_BACKEND` does not change what these mean, unless it is `cpu`.
            if kind == BackendKind::Auto && std::env::var_os("RINGWORK_BACKEND").is_some() {
                continue;
            }
            let builder = Runtime::builder().backend(kind).adapter(wanted);
            let runtime = builder.clone().build().expect("devices are opened later");
            let error = runtime.capabilities().expect_err("there is no such adapter");
            assert!(error.is_unavailable(), "{error:?}");
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("adapter is `{wanted}`, but there is none with this ")),
                "{text}"
            );
            for adapter in &adapters {
                assert!(text.contains(&format!("{} `{}`", adapter.index, adapter.name)), "{text}");
            }
            assert_eq!(builder.choice().expect_err("there is no such adapter").to_string(), text);
        }
    }
}

#[test]
fn auto_takes_a_software_rasteriser_only_when_it_is_named() {
    let test = "auto_takes_a_software_rasteriser_only_when_it_is_named";
    let Some(adapters) = adapters(test) else { return };
    if std::env::var_os("RINGWORK_BACKEND").is_some() || std::env::var_os("RINGWORK_ADAPTER").is_some() {
        eprintln!("{test}: skipped, the environment says what to take");
        return;
    }
    let choice = Runtime::builder().choice().expect("there is always the CPU");
    if adapters.iter().any(|adapter| !adapter.is_software()) {
        assert_eq!(choice.accelerator.backend, BackendKind::Wgpu);
        assert!(!choice.accelerator.is_software(), "{choice:?}");
        return;
    }
    assert_eq!(choice.accelerator.backend, BackendKind::Cpu);
    let runtime = Runtime::new().expect("there is always the CPU");
    assert_eq!(runtime.capabilities().expect("there is always the CPU").name, choice.accelerator.name);
    assert_eq!(runtime.why(), choice.why);
    let expected = format!("for there is no GPU: wgpu: {} is a software rasteriser", adapters[0]);
    assert!(choice.why.starts_with("cpu (") && choice.why.contains(&expected), "{}", choice.why);
    let named = Runtime::builder().adapter("0").choice().expect("it is there");
    assert_eq!(named.accelerator, adapters[0]);
}

/// Users write them into their settings: another version must not change them.
#[test]
fn uuids_stay_as_they_are_and_tell_twins_apart() {
    let identity = "vulkan/10de/2684/0000:01:00.0/GPU";
    assert_eq!(uuid(identity, 0).to_string(), "228a1969-92e1-8a47-acaa-4e8afa6cd555");
    assert_eq!(uuid(identity, 1).to_string(), "cd6e7bea-5b2f-89df-8bb5-f42aee3dad6d");
}
