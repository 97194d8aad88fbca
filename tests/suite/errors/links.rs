//! Links and outputs that do not fit.

use super::{ECHO, Reply, SUM, Total, active, refused};
use crate::common::{LONG, runtime};
use ringwork::{Context, Error, Handle, RingKernel, Runtime};
use std::sync::mpsc::channel;

const EMIT: &str = "fn on_message(m: Reply) { emit_out(m); }";

fn source(runtime: &Runtime, name: &str) -> Handle<Reply, ()> {
    runtime.launch(RingKernel::<Reply, ()>::wgsl(name, EMIT).output::<Reply>("out")).unwrap()
}

#[test]
fn an_output_is_declared_with_its_type() {
    let runtime = runtime();
    let kernel = source(&runtime, "k");
    refused(
        kernel.output::<Reply>("alerts"),
        Error::is_invalid,
        "kernel `k` has no output `alerts`; declare it with `.output`",
    );
    let error = kernel.output::<Total>("out").unwrap_err();
    assert!(error.is_invalid());
    let type_name = std::any::type_name::<Total>();
    assert_eq!(error.to_string(), format!("output `out` of kernel `k` is not declared as `{type_name}`"));
    let out = kernel.output::<Reply>("out").unwrap();
    assert_eq!(out.name(), "out");
    assert_eq!(format!("{out:?}"), "Output(`out` of `k`)");
}

#[test]
fn links_that_cannot_be() {
    let runtime = runtime();
    let (from, to) =
        (source(&runtime, "from"), runtime.launch(RingKernel::<Reply, Total>::wgsl("to", SUM)).unwrap());
    let out = from.output::<Reply>("out").unwrap();
    runtime.link(&out, &to).unwrap();
    refused(
        runtime.link(&out, &to),
        Error::is_invalid,
        "link from output `out` of `from` to `to` is there already",
    );
    let other = crate::common::runtime();
    let elsewhere = other.launch(RingKernel::<Reply, Reply>::wgsl("echo", ECHO)).unwrap();
    let wanted = "link from output `out` of `from` to `echo`: both kernels must be running in this runtime";
    refused(runtime.link(&out, &elsewhere), Error::is_invalid, wanted);
    refused(other.link(&out, &elsewhere), Error::is_invalid, wanted);
    // One of the same name in this runtime is not the one meant.
    runtime.launch(RingKernel::<Reply, Reply>::wgsl("echo", ECHO)).unwrap();
    refused(runtime.link(&out, &elsewhere), Error::is_invalid, wanted);
    let gone = runtime.launch(RingKernel::<Reply, Reply>::wgsl("gone", ECHO)).unwrap();
    gone.terminate(LONG).unwrap();
    refused(
        runtime.link(&out, &gone),
        Error::is_invalid,
        "link from output `out` of `from` to `gone`: both kernels must be running in this runtime",
    );
    from.terminate(LONG).unwrap();
    let another = runtime.launch(RingKernel::<Reply, Reply>::wgsl("another", ECHO)).unwrap();
    refused(
        runtime.link(&out, &another),
        Error::is_invalid,
        "link from output `out` of `from` to `another`: both kernels must be running in this runtime",
    );
    refused(out.recv(), Error::is_terminated, "kernel `from` is terminated");
    refused(out.try_recv(), Error::is_terminated, "kernel `from` is terminated");
    refused(
        another.ask(Reply { r: 1 }, LONG),
        Error::is_not_active,
        "kernel `another` is not active: it is Launched",
    );
}

#[test]
fn a_host_kernel_sends_to_what_it_declared() {
    let runtime = runtime();
    let (errors, error) = channel();
    let kernel = RingKernel::<Reply, ()>::host("host", move |context: &mut Context<Reply, ()>| {
        while let Some(message) = context.receive() {
            let _ = errors.send(context.send("words", message.r.to_string()));
            let _ = errors.send(context.send("word", message.r));
            let _ = errors.send(context.send("word", message.r.to_string()));
        }
    });
    let kernel = active(&runtime, kernel.host_output::<String>("word"));
    kernel.send(Reply { r: 5 }).unwrap();
    let next = || error.recv_timeout(LONG).unwrap();
    refused(next(), Error::is_invalid, "kernel `host` has no output `words`; declare it with `.host_output`");
    refused(
        next(),
        Error::is_invalid,
        "output `word` of kernel `host` is declared with another type than `u32`",
    );
    next().unwrap();
    assert_eq!(kernel.output::<String>("word").unwrap().recv_timeout(LONG).unwrap(), "5");
}
