//! What there is to run on, and which of it is taken.
//!
//! What needs an adapter of wgpu says on standard error that it is skipped where there is none; Mesa's software one
//! will do.

use crate::errors::refused;
use ringwork::{Accelerator, BackendKind, Error, Runtime, backends};

fn set_from_outside(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

/// The adapters of wgpu, unless there are none.
fn adapters(test: &str) -> Option<Vec<Accelerator>> {
    adapters_of(BackendKind::Wgpu, test)
}

fn adapters_of(kind: BackendKind, test: &str) -> Option<Vec<Accelerator>> {
    let found = backends().into_iter().find(|backend| backend.kind == kind);
    let found = found.expect("every backend is in the list");
    if let Some(problem) = found.problem {
        eprintln!("{test}: skipped for {kind}, {problem}");
        return None;
    }
    Some(found.accelerators)
}

#[test]
fn the_adapter_that_is_opened_is_the_one_that_was_described() {
    let test = "the_adapter_that_is_opened_is_the_one_that_was_described";
    for kind in [BackendKind::Wgpu, BackendKind::Cuda] {
        adapters_of(kind, test).into_iter().for_each(|adapters| last_is_opened(kind, &adapters));
    }
}

fn last_is_opened(kind: BackendKind, adapters: &[Accelerator]) {
    let last = adapters.last().expect("a backend without a problem has some");
    let builder = Runtime::builder().backend(kind).adapter(last.index.to_string());
    let runtime = builder.build().expect("good settings");
    let opened = runtime.capabilities().expect("it opens");
    assert_eq!((opened.uuid, &opened.name, &opened.driver), (last.uuid, &last.name, &last.driver));
    assert_eq!((opened.software, opened.largest_buffer), (last.is_software(), last.largest_buffer));
    let what = if kind == BackendKind::Cuda { "device" } else { "adapter" };
    assert_eq!(runtime.why(), format!("{kind}: the {what} that was asked for: {last}"));
    // CUDA's are the driver's own, which no two devices share.
    let names = [last.uuid.map(|uuid| uuid.to_string()), last.pci_address.clone()];
    for name in names.into_iter().flatten().filter(|_| kind == BackendKind::Cuda) {
        let named = Runtime::builder().backend(kind).adapter(&name).choice().expect("it is there");
        assert_eq!(named.accelerator, *last, "{name}");
    }
    // The whole name, in another case. One that two adapters have is refused.
    let name = format!(" {} ", last.name.to_uppercase());
    match Runtime::builder().backend(kind).adapter(name).choice() {
        Ok(choice) => assert_eq!(choice.accelerator.name, last.name),
        Err(error) => assert!(error.is_invalid() && adapters.len() > 1, "{error:?}"),
    }
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let test = "an_adapter_that_is_not_there_is_an_error_that_lists_those_that_are";
    let Some(adapters) = adapters(test) else { return };
    let beyond = adapters.len().to_string();
    let kinds = [BackendKind::Wgpu, BackendKind::Auto];
    // Unless the environment replaces `Auto`: then the CPU may be what is taken, and it has no adapters.
    let kinds = if set_from_outside("RINGWORK_BACKEND") { &kinds[..1] } else { &kinds[..] };
    for wanted in [beyond.as_str(), "no such adapter", "00000000-0000-8000-8000-000000000000"] {
        for kind in kinds {
            let builder = Runtime::builder().backend(*kind).adapter(wanted);
            let runtime = builder.clone().build().expect("devices are opened later");
            let error = runtime.capabilities().expect_err("there is no such adapter");
            assert!(error.is_unavailable(), "{error:?}");
            let text = error.to_string();
            let start = format!("adapter is `{wanted}`, but there is none with this ");
            assert!(text.starts_with(&start), "{text}");
            for adapter in &adapters {
                assert!(text.contains(&format!("{} `{}`", adapter.index, adapter.name)), "{text}");
            }
            assert_eq!(builder.choice().expect_err("there is no such adapter").to_string(), text);
        }
    }
}

#[test]
fn an_adapter_without_a_name_is_refused() {
    for empty in ["", " ", "\t"] {
        for kind in [BackendKind::Auto, BackendKind::Cpu] {
            let builder = Runtime::builder().backend(kind).adapter(empty);
            let text = "adapter is empty, but must be an index, a UUID, a PCI address, or a part of a name";
            refused(builder.choice(), Error::is_invalid, text);
            refused(builder.build(), Error::is_invalid, text);
        }
    }
}

#[test]
fn the_cpu_takes_no_notice_of_adapters() {
    let builder = Runtime::builder().backend(BackendKind::Cpu).adapter("no such adapter");
    let choice = builder.choice().expect("the CPU is always there");
    assert_eq!(choice.accelerator, backends()[0].accelerators[0]);
    let runtime = builder.build().expect("the CPU is always there");
    assert_eq!(runtime.capabilities().expect("it opens").name, choice.accelerator.name);
    assert_eq!(runtime.why(), choice.why);
}

#[test]
fn auto_takes_a_software_rasteriser_only_when_it_is_named() {
    let test = "auto_takes_a_software_rasteriser_only_when_it_is_named";
    if set_from_outside("RINGWORK_BACKEND") || set_from_outside("RINGWORK_ADAPTER") {
        eprintln!("{test}: skipped, the environment says what to take");
        return;
    }
    let choice = Runtime::builder().choice().expect("there is always the CPU");
    let Some(adapters) = adapters(test) else {
        assert_eq!(choice.accelerator.backend, BackendKind::Cpu);
        return;
    };
    if adapters.iter().any(|adapter| !adapter.is_software()) {
        assert_eq!(choice.accelerator.backend, BackendKind::Wgpu);
        assert!(!choice.accelerator.is_software(), "{choice:?}");
        return;
    }
    assert_eq!(choice.accelerator.backend, BackendKind::Cpu);
    let runtime = Runtime::new().expect("there is always the CPU");
    assert_eq!(runtime.capabilities().expect("it opens").name, choice.accelerator.name);
    assert_eq!(runtime.why(), choice.why);
    let expected = format!("for there is no GPU: wgpu: {} is a software rasteriser", adapters[0]);
    assert!(choice.why.starts_with("cpu (") && choice.why.contains(&expected), "{}", choice.why);
    let named = Runtime::builder().adapter("0").choice().expect("it is there");
    assert_eq!(named.accelerator, adapters[0]);
}
