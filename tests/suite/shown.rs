//! What public types show of themselves, and the small calls of theirs that nothing else here needs.

use crate::common::{LONG, runtime};
use crate::errors::{ECHO, Reply};
use ringwork::{
    Accelerator, AcceleratorKind, BackendKind, BufferView, CacheSettings, Context, DeadLetterReason,
    Envelope, Error, PoolSettings, Priority, RingKernel, Runtime, SendError, SendManyError, Uuid,
};
use std::ops::Bound;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Some error, whose text is known.
fn cause() -> Error {
    "vulkan".parse::<BackendKind>().unwrap_err()
}

const CAUSE: &str = "backend `vulkan` is not one of auto, cpu, wgpu, cuda";

#[test]
fn an_error_shows_its_text_and_for_programmers_its_kind() {
    assert_eq!(cause().to_string(), CAUSE);
    assert_eq!(format!("{:?}", cause()), format!("Invalid: {CAUSE}"));
}

#[test]
fn kernels_and_what_belongs_to_them_show_their_names() {
    let runtime = runtime();
    let echo = RingKernel::<Reply, Reply>::wgsl("echo", ECHO);
    assert_eq!(format!("{echo:?}"), r#"RingKernel { name: "echo", kind: "wgsl", .. }"#);
    let echo = runtime.launch(echo).unwrap();
    assert_eq!(format!("{:?}", echo.iter()), format!("Replies({echo:?})"));
    echo.activate().unwrap();
    let pending = echo.request(Reply::default()).unwrap();
    let shown = format!("{pending:?}");
    assert!(["Pending(ready)", "Pending(waiting)"].contains(&shown.as_str()), "{shown}");
    pending.wait(LONG).unwrap();
    let host = RingKernel::host("host", |context: &mut Context<(), String>| {
        while context.receive().is_some() {
            let shown = format!("{context:?}");
            context.reply(shown);
        }
    });
    let host = runtime.launch(host).unwrap();
    host.activate().unwrap();
    assert_eq!(host.ask((), LONG).unwrap(), r#"Context { kernel: "host", .. }"#);
}

#[test]
fn a_send_that_failed_gives_the_message_back_and_says_why() {
    type Row = (SendError<u32>, &'static str, &'static str, Option<u32>, fn(&Error) -> bool);
    let failed: [Row; 7] = [
        (SendError::Full(1), "Full", "the mailbox is full", Some(1), Error::is_full),
        (SendError::NotActive(2), "NotActive", "the kernel is not active", Some(2), Error::is_not_active),
        (SendError::Terminated(3), "Terminated", "the kernel is terminated", Some(3), Error::is_terminated),
        (SendError::Failed(4, cause()), "Failed", CAUSE, Some(4), Error::is_invalid),
        (SendError::TimedOut(5, cause()), "TimedOut", CAUSE, Some(5), Error::is_invalid),
        (SendError::Refused(6, cause()), "Refused", CAUSE, Some(6), Error::is_invalid),
        (SendError::Dropped(cause()), "Dropped", CAUSE, None, Error::is_invalid),
    ];
    for (error, name, text, message, is) in failed {
        assert_eq!(error.to_string(), text);
        assert_eq!(format!("{error:?}"), format!("{name}: {text}"));
        let converted = Error::from(error.clone());
        assert!(is(&converted), "{converted:?}");
        assert_eq!(converted.to_string(), text);
        let many = SendManyError { sent: 3, error: error.clone(), unsent: vec![8, 9] };
        assert_eq!(many.to_string(), format!("after 3 messages: {text}"));
        let shown = format!("SendManyError {{ sent: 3, error: {name}: {text}, unsent: 2 messages }}");
        assert_eq!(format!("{many:?}"), shown);
        assert_eq!(Error::from(many).to_string(), text);
        assert_eq!(error.into_message(), message);
    }
}

#[test]
fn reasons_and_kinds_have_names() {
    let reasons = DeadLetterReason::ALL.map(|reason| reason.to_string());
    let wanted = [
        "fault",
        "dropped as the oldest",
        "dropped as the newest",
        "abandoned at termination",
        "instance out of range",
        "kernel ended",
        "undeliverable over a link",
    ];
    assert_eq!(reasons, wanted);
    let kinds = [
        AcceleratorKind::Processor,
        AcceleratorKind::Discrete,
        AcceleratorKind::Integrated,
        AcceleratorKind::Virtual,
        AcceleratorKind::Software,
        AcceleratorKind::Other,
    ];
    let names = ["processor", "discrete", "integrated", "virtual", "software", "other"];
    assert_eq!(kinds.map(|kind| kind.to_string()), names);
}

#[test]
fn the_cache_tells_what_it_holds_and_why_nothing_is_on_disk() {
    let settings = CacheSettings::new().memory_capacity(3).without_disk();
    let runtime = Runtime::builder().backend(BackendKind::Cpu).cache(settings).build().unwrap();
    let text = runtime.cache_statistics().to_string();
    let memory = "memory: 0 of 6 handlers and entry points, 0 hits, 0 misses, 0 evictions; disk: off (";
    assert!(text.starts_with(memory) && text.ends_with(')') && text.len() > memory.len() + 1, "{text}");

    // Under a file there is no folder.
    let folder = std::env::current_exe().unwrap().join("below");
    let off = CacheSettings::new().disk_folder(&folder);
    let refused = off.usable_folder().unwrap_err();
    assert!(refused.is_unavailable() && refused.to_string().contains("below"), "{refused:?}");
    assert!(CacheSettings::new().disk_folder("").usable_folder().unwrap_err().is_invalid());

    let folder = std::env::temp_dir().join(format!("ringwork-shown-{}", Uuid::new_v4()));
    let settings = CacheSettings::new().memory_capacity(3).disk_folder(&folder);
    assert_eq!(settings.usable_folder().unwrap(), folder);
    let runtime = Runtime::builder().backend(BackendKind::Cpu).cache(settings).build().unwrap();
    let text = runtime.cache_statistics().to_string();
    let disk = format!(
        "disk: 0 bytes in {}, 0 hits, 0 misses, 0 writes, 0 unwritten, 0 rejected, 0 evictions",
        folder.display()
    );
    assert!(text.ends_with(&disk), "{text}");
    drop(runtime);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_host_kernel_knows_its_name_and_how_long_it_waited() {
    let runtime = runtime();
    let (tell, told) = channel();
    let kernel = runtime
        .launch(RingKernel::<u32, ()>::host("patient", move |context: &mut Context<u32, ()>| {
            let name = context.name().to_owned();
            // For longer than the test waits, if it is not for the message.
            let first = context.receive_timeout(Duration::from_secs(60)).map(Envelope::into_inner);
            let second = context.receive_timeout(Duration::from_millis(1)).map(Envelope::into_inner);
            tell.send((name, first, second)).unwrap();
            let last = context.receive_timeout(Duration::from_secs(60)).map(Envelope::into_inner);
            tell.send((String::new(), last, Ok(0))).unwrap();
        }))
        .unwrap();
    kernel.activate().unwrap();
    kernel.send(7).unwrap();
    let (name, first, second) = told.recv_timeout(LONG).unwrap();
    assert_eq!(name, "patient");
    assert_eq!(first.unwrap(), 7);
    let error = second.unwrap_err();
    assert!(error.is_timed_out() && error.to_string().contains("`patient`"), "{error:?}");
    kernel.terminate(LONG).unwrap();
    let (_, last, _) = told.recv_timeout(LONG).unwrap();
    let error = last.unwrap_err();
    assert!(error.is_terminated(), "{error:?}");
    assert_eq!(error.to_string(), "kernel `patient` is terminated");
}

#[test]
fn a_handle_of_an_ended_kernel_refuses_many_threads_at_once() {
    let runtime = runtime();
    let kernel = runtime.launch(RingKernel::<Reply, Reply>::wgsl("gone", ECHO)).unwrap();
    kernel.activate().unwrap();
    kernel.terminate(LONG).unwrap();
    crate::threads::scope(|scope| {
        for thread in 0..8u32 {
            let kernel = kernel.clone();
            scope.spawn(move || {
                for number in 0..100 {
                    let message = Reply { r: thread * 100 + number };
                    match kernel.try_send(message).unwrap_err() {
                        SendError::Terminated(back) => assert_eq!(back, message),
                        other => panic!("{other:?}"),
                    }
                    assert!(kernel.ask(message, LONG).unwrap_err().is_terminated());
                    assert!(kernel.recv_timeout(LONG).unwrap_err().is_terminated());
                    assert!(kernel.activate().unwrap_err().is_illegal_state());
                }
            });
        }
    });
}

#[test]
fn a_part_of_a_buffer_is_read_as_the_whole_is() {
    let runtime = runtime();
    let buffer = runtime.buffer(&[1u32, 2, 3, 4, 5]).unwrap();
    let middle = buffer.slice(1..4).unwrap();
    assert_eq!((middle.len(), middle.offset(), middle.is_empty()), (3, 1, false));
    assert_eq!(format!("{middle:?}"), format!("1..4 of {buffer:?}"));
    assert_eq!(middle.view().unwrap(), BufferView { offset: 1, len: 3 });
    let mut elements = middle.iter().unwrap();
    assert_eq!(elements.size_hint(), (3, Some(3)));
    assert_eq!((elements.next(), elements.next_back()), (Some(2), Some(4)));
    assert_eq!(format!("{elements:?}"), "Elements([3])");
    assert_eq!((elements.next(), elements.next()), (Some(3), None));
    drop(elements);
    {
        let host = middle.host().unwrap();
        assert_eq!(format!("{host:?}"), "[2, 3, 4]");
        assert_eq!((&host).into_iter().sum::<u32>(), 9);
    }
    {
        let mut host = middle.host_mut().unwrap();
        host[0] = 20;
        assert_eq!(format!("{host:?}"), "[20, 3, 4]");
    }
    assert_eq!(buffer.to_vec().unwrap(), [1, 20, 3, 4, 5]);
    let error = middle.copy_from(&[1, 2]).unwrap_err();
    assert!(error.is_invalid(), "{error:?}");
    middle.copy_from(&[20, 3, 4]).unwrap();
    let after_the_first = (Bound::Excluded(0), Bound::Unbounded);
    assert_eq!(buffer.slice(after_the_first).unwrap().to_vec().unwrap(), [20, 3, 4, 5]);
    let none = buffer.slice(2..2).unwrap();
    assert!(none.is_empty());
    assert_eq!(none.to_vec().unwrap(), []);
    none.fill(9).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [1, 20, 3, 4, 5]);
}

#[test]
fn what_a_runtime_has_shows_its_names_and_states() {
    let runtime = runtime();
    let echo = runtime.launch(RingKernel::<Reply, Reply>::wgsl("echo", ECHO)).unwrap();
    assert_eq!(format!("{echo:?}"), "Handle { kernel: \"echo\", state: Launched }");
    let shown = format!("{runtime:?}");
    assert!(shown.starts_with("Runtime { kernels: [") && shown.contains("echo"), "{shown}");

    let orchestrator = runtime.orchestrator();
    let text = "@group(0) @binding(0) var<storage, read_write> cells: array<u32>;
        @compute @workgroup_size(1) fn fill() { cells[0] = 7u; }";
    let cells = runtime.buffer(&[1u32]).unwrap();
    let kernel = orchestrator.kernel(text, "fill").unwrap().bind("cells", &cells.clone());
    assert_eq!(format!("{kernel:?}"), "ComputeKernel { entry: \"fill\", bound: [\"cells\"], .. }");
    kernel.dispatch([1, 1, 1]).unwrap();
    assert_eq!(format!("{orchestrator:?}"), "ComputeOrchestrator { history: 1, .. }");
    assert_eq!(cells.to_vec().unwrap(), [7], "a clone is the same buffer");

    let pool = runtime.memory_pool(PoolSettings::new(4096)).unwrap();
    assert_eq!(pool.statistics().reuse_ratio(), None);
    drop(pool.buffer(&[0u32; 64]).unwrap());
    let buffer = pool.buffer(&[0u32; 64]).unwrap();
    assert_eq!(pool.statistics().reuse_ratio(), Some(0.5));
    assert_eq!(format!("{pool:?}"), "MemoryPool(256 bytes used, 0 free, 4096 at most)");
    drop(buffer);
}

#[test]
fn an_envelope_keeps_its_identity_around_another_payload() {
    let (id, correlation_id) = (Uuid::from_u128(1), Some(Uuid::from_u128(2)));
    let mut number = Envelope { id, correlation_id, priority: Priority::HIGH, payload: 42 };
    *number += 1;
    let text = number.map(|number: u32| number.to_string());
    assert_eq!(text, Envelope { id, correlation_id, priority: Priority::HIGH, payload: "43".to_owned() });
}

#[test]
fn an_accelerator_that_is_nowhere_on_the_bus_is_not_found() {
    let error = Accelerator::by_pci_address("ffff:ff:1f.7").unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(error.to_string(), "there is no accelerator at the PCI address `ffff:ff:1f.7`");
}
