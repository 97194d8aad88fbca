//! Settings out of bounds: setting, value and bound; and settings that do not apply.

use super::{Ask, Deposit, ECHO, Reply, SUM, Total, launch_refused};
use crate::common::runtime;
use ringwork::{BackendKind, Context, Error, RestartPolicy, RestartState, RingKernel, Runtime, message};
use std::time::Duration;

/// Types of the same name as another.
mod wide {
    ringwork::message! {
        /// Another size.
        pub struct Total { pub sum: u32, pub count: u32 }
    }
}
mod real {
    ringwork::message! {
        /// Another field of the same size.
        pub struct Total { pub sum: f32 }
    }
}

fn echo() -> RingKernel<Reply, Reply> {
    RingKernel::wgsl("k", ECHO)
}

fn host() -> RingKernel<Reply, Reply> {
    RingKernel::host("k", |context: &mut Context<Reply, Reply>| while context.receive().is_some() {})
}

fn native() -> RingKernel<Reply, Total> {
    RingKernel::native("k", |m: Reply, total: &mut Total| {
        total.sum += m.r;
        *total
    })
}

#[test]
fn an_output_that_no_message_would_find_room_in() {
    let kernel = echo().output_many::<Total>("totals", 5).output_capacity(4);
    invalid(
        kernel,
        "kernel `k`: output `totals` may get 5 values per message, but output_capacity is 4: no message could ever \
         begin",
    );
}

#[track_caller]
fn invalid(kernel: RingKernel<Reply, Reply>, wanted: &str) {
    launch_refused(kernel, Error::is_invalid, wanted);
}

#[test]
fn capacities_have_bounds() {
    let bounds = "but must be 1 to 1048576";
    for make in [echo as fn() -> RingKernel<Reply, Reply>, host] {
        invalid(make().queue_capacity(0), &format!("kernel `k`: queue_capacity is 0, {bounds}"));
        invalid(
            make().queue_capacity(1_048_577),
            &format!("kernel `k`: queue_capacity is 1048577, {bounds}"),
        );
        invalid(make().output_capacity(0), &format!("kernel `k`: output_capacity is 0, {bounds}"));
        invalid(
            make().output_capacity(1_048_577),
            &format!("kernel `k`: output_capacity is 1048577, {bounds}"),
        );
    }
    for capacity in [1, 1_048_576] {
        let kernel = echo().queue_capacity(capacity).output_capacity(capacity);
        let runtime = runtime();
        let kernel = super::active(&runtime, kernel);
        assert_eq!(kernel.ask(Reply { r: 3 }, crate::common::LONG).unwrap().r, 3);
    }
}

#[test]
fn loop_budget_and_instances_have_bounds() {
    invalid(echo().loop_budget(0), "kernel `k`: loop_budget is 0, but must be 1 to 4294967295");
    invalid(
        echo().instance_field("to"),
        "kernel `k`: instance_field: without instances no message is for one",
    );
    let bank = || {
        RingKernel::<Deposit, Total>::wgsl(
            "bank",
            "fn on_message(m: Deposit, s: ptr<function, Total>) -> Total { (*s).sum += m.amount; return *s; }",
        )
    };
    for (count, bounds) in
        [(0, "0, but must be 1 to 16777216"), (16_777_217, "16777217, but must be 1 to 16777216")]
    {
        launch_refused(
            bank().instances(count),
            Error::is_invalid,
            &format!("kernel `bank`: instances is {bounds}"),
        );
    }
    runtime().launch(bank().instances(1).loop_budget(u32::MAX)).expect("the bounds are allowed");
}

#[test]
fn instances_need_a_state_and_a_field() {
    invalid(
        echo().instances(4),
        "kernel `k`: instances are set, but the handler has no state: without state its messages run in parallel \
         anyway",
    );
    launch_refused(
        RingKernel::<Reply, Total>::wgsl("k", SUM).instances(4),
        Error::is_invalid,
        "kernel `k`: instances need a field `to: u32` in `Reply`, or `.instance_field(..)` to name another",
    );
    launch_refused(
        RingKernel::<Reply, Total>::wgsl("k", SUM).instances(4).instance_field("account"),
        Error::is_invalid,
        "kernel `k`: instances need a field `account: u32` in `Reply`, or `.instance_field(..)` to name another",
    );
    let text = "fn on_message(m: Ask, s: ptr<function, Total>) { (*s).sum += m.a; }";
    launch_refused(
        RingKernel::<Ask, ()>::wgsl("k", text)
            .initial_state(Total::default())
            .instances(4)
            .instance_field("b"),
        Error::is_invalid,
        "kernel `k`: field `b` of `Ask` names the instance and must be u32",
    );
    launch_refused(
        native().instances(2),
        Error::is_invalid,
        "kernel `k`: instances need a field `to: u32` in `Reply`, or `.instance_field(..)` to name another",
    );
    // Any u32 field will do.
    let kernel = RingKernel::<Ask, ()>::wgsl("k", text);
    runtime().launch(kernel.initial_state(Total::default()).instances(4).instance_field("a")).unwrap();
}

#[test]
fn outputs_are_checked() {
    let emit = || RingKernel::<Reply, ()>::wgsl("k", "fn on_message(m: Reply) {}");
    let invalid = |kernel, wanted: &str| launch_refused(kernel, Error::is_invalid, wanted);
    for (name, shown) in [("", ""), ("a-b", "a-b"), ("9a", "9a"), ("a__b", "a__b"), ("größe", "größe")] {
        invalid(
            emit().output::<Reply>(name),
            &format!("kernel `k`: output `{shown}`: a name is a WGSL identifier, such as `alerts`"),
        );
    }
    invalid(emit().output::<Reply>("a").output::<Total>("a"), "kernel `k`: output `a` is declared twice");
    invalid(
        emit().output_many::<Reply>("a", 0),
        "kernel `k`: output `a` per message is 0, but must be 1 to 1024",
    );
    invalid(
        emit().output_many::<Reply>("a", 1025),
        "kernel `k`: output `a` per message is 1025, but must be 1 to 1024",
    );
    invalid(
        emit().host_output::<String>("a"),
        "kernel `k`: output `a` is of a host type; declare it with `.output`",
    );
    let many = (0..17).fold(emit(), |kernel, index| kernel.output::<Reply>(format!("out{index}")));
    invalid(many, "kernel `k`: outputs is 17, but must be 0 to 16");
    launch_refused(
        native().output::<Reply>("a"),
        Error::is_invalid,
        "kernel `k`: output `a`: a native kernel only replies; it has no outputs",
    );
    message! { pub struct Page { pub words: [u32; 1024] } }
    launch_refused(
        emit().output_many::<Page>("a", 512),
        Error::is_rejected,
        "k:1:1: the outputs may emit 2097152 bytes for one message, but at most 1048576 are kept; declare fewer per \
         message",
    );
}

#[test]
fn initial_states_fit_the_handler() {
    launch_refused(
        native().initial_state(Reply { r: 1 }),
        Error::is_invalid,
        "kernel `k`: initial_state is a `Reply`, but the function's state is a `Total`",
    );
    launch_refused(
        echo().initial_state(Total { sum: 1 }),
        Error::is_rejected,
        "k:1:4: there is no parameter for the state `Total` in `fn on_message(m: Reply) -> Reply`; write \
         `fn on_message(m: Reply, s: ptr<function, Total>) -> Reply`",
    );
    launch_refused(
        RingKernel::<Reply, Total>::wgsl("k", SUM).initial_state(Ask::default()),
        Error::is_rejected,
        "k:1:25: the state is not the Rust type `Ask` in \
         `fn on_message(m: Reply, s: ptr<function, Total>) -> Total`; write \
         `fn on_message(m: Reply, s: ptr<function, Ask>) -> Total`",
    );
    let declared =
        format!("struct Total {{ sum: f32 }}\n{}", "fn on_message(m: Reply, s: ptr<function, Total>) {}");
    launch_refused(
        RingKernel::<Reply, ()>::wgsl("k", declared).initial_state(Total::default()),
        Error::is_rejected,
        "k:1:16: `Total.sum` is `f32` in WGSL but `u32` in Rust; declare it as in Rust, or remove the struct and it is \
         generated",
    );
    launch_refused(
        RingKernel::<Reply, ()>::native("k", |_: Reply, _: &mut ()| ()).initial_state(Total::default()),
        Error::is_invalid,
        "kernel `k`: initial_state is a `Total`, but the function has no state",
    );
    for kernel in
        [native().initial_state(wide::Total::default()), native().initial_state(real::Total::default())]
    {
        launch_refused(
            kernel,
            Error::is_invalid,
            "kernel `k`: initial_state is a `Total`, but the function's state is another `Total`, with other fields",
        );
    }
}

#[test]
fn settings_of_wgsl_handlers_do_not_apply_to_other_kernels() {
    let words = runtime().buffer(&[1u32]).unwrap();
    launch_refused(
        native().bind("words", &words),
        Error::is_invalid,
        "kernel `k`: table `words`: only WGSL handlers have tables",
    );
    invalid(host().bind("words", &words), "kernel `k`: table `words`: only WGSL handlers have tables");
    invalid(
        host().initial_state(Total::default()),
        "kernel `k`: initial_state: a host kernel's state is its function's own",
    );
    invalid(host().instances(2), "kernel `k`: instances: a host kernel's state is its function's own");
    invalid(host().background(), "kernel `k`: background: a host kernel has a thread of its own already");
    let counted = "kernel `k`: loop_budget: only the loops of a WGSL handler are counted";
    launch_refused(native().loop_budget(1_000_000), Error::is_invalid, counted);
    invalid(host().loop_budget(1_000_000), counted);
    launch_refused(
        native().unordered_writes(),
        Error::is_invalid,
        "kernel `k`: unordered_writes: only a WGSL handler has tables",
    );
    launch_refused(
        echo().unordered_writes(),
        Error::is_invalid,
        "kernel `k`: unordered_writes: the handler writes no table",
    );
    let text = "fn on_message(m: Ask, s: ptr<function, Total>) -> Total { return *s; }";
    launch_refused(
        RingKernel::<Ask, Total>::wgsl("k", text).initial_state(Total::default()).unordered_writes(),
        Error::is_invalid,
        "kernel `k`: unordered_writes: a handler with a state runs for one message after the other",
    );
}

#[test]
fn restarts_have_bounds() {
    let policy = |max, state| RestartPolicy::OneForOne { max, within: Duration::from_secs(1), state };
    invalid(
        echo().restart(policy(0, RestartState::Current)),
        "kernel `k`: restart.max is 0, but must be 1 to 1024",
    );
    for state in [RestartState::Snapshot, RestartState::Initial] {
        invalid(
            host().restart(policy(1, state)),
            "kernel `k`: restart.state: a host kernel's state is its function's own; only `Current` applies",
        );
    }
}

#[test]
fn names_are_taken_once() {
    launch_refused(RingKernel::<Reply, Reply>::wgsl("", ECHO), Error::is_invalid, "a kernel's name is empty");
    let runtime = runtime();
    let first = super::active(&runtime, echo());
    let taken = "a kernel named `k` is running already; terminate it first, or take another name";
    super::refused(runtime.launch(echo()), Error::is_invalid, taken);
    super::refused(runtime.launch(native()), Error::is_invalid, taken);
    super::refused(runtime.launch(host()), Error::is_invalid, taken);
    assert_eq!(first.ask(Reply { r: 5 }, crate::common::LONG).unwrap().r, 5, "the first one goes on");
    first.terminate(crate::common::LONG).unwrap();
    let second = super::active(&runtime, native());
    assert_eq!(second.ask(Reply { r: 7 }, crate::common::LONG).unwrap().sum, 7);
    super::refused(
        first.ask(Reply { r: 5 }, crate::common::LONG),
        Error::is_terminated,
        "kernel `k` is terminated",
    );
    // A launch that fails takes no name.
    super::refused(
        runtime.launch(RingKernel::<Reply, Reply>::wgsl("other", ECHO).queue_capacity(0)),
        Error::is_invalid,
        "kernel `other`: queue_capacity is 0, but must be 1 to 1048576",
    );
    runtime.launch(RingKernel::<Reply, Reply>::wgsl("other", ECHO)).expect("the name is free");
    // Two runtimes know nothing of each other.
    crate::common::runtime().launch(echo()).expect("another runtime's names are its own");
}

#[test]
fn a_handle_is_found_by_name_and_types() {
    let runtime = runtime();
    let kernel = super::active(&runtime, echo());
    let found = runtime.handle::<Reply, Reply>("k").unwrap();
    assert_eq!(found.ask(Reply { r: 2 }, crate::common::LONG).unwrap().r, 2);
    super::refused(runtime.handle::<Reply, Reply>("j"), Error::is_invalid, "no kernel named `j` is running");
    let error = runtime.handle::<Reply, Total>("k").unwrap_err();
    assert!(error.is_invalid());
    let types = (std::any::type_name::<Reply>(), std::any::type_name::<Total>());
    assert_eq!(error.to_string(), format!("kernel `k` does not take `{}` and reply `{}`", types.0, types.1));
    kernel.terminate(crate::common::LONG).unwrap();
    super::refused(runtime.handle::<Reply, Reply>("k"), Error::is_invalid, "no kernel named `k` is running");
}

#[test]
fn backends_have_names() {
    for kind in [BackendKind::Auto, BackendKind::Cpu, BackendKind::Wgpu, BackendKind::Cuda] {
        assert_eq!(kind.to_string().parse::<BackendKind>().unwrap(), kind);
    }
    for text in ["nonsense", "", "CPU", "cpu "] {
        super::refused(
            text.parse::<BackendKind>(),
            Error::is_invalid,
            &format!("backend `{text}` is not one of auto, cpu, wgpu, cuda"),
        );
    }
}

#[test]
fn a_backend_that_is_not_in_this_build_says_so() {
    let refused = |kind: BackendKind, remedy: &str| {
        let text = format!("backend `{kind}` is not in this build of ringwork; {remedy}");
        let builder = Runtime::builder().backend(kind);
        super::refused(builder.choice(), Error::is_unavailable, &text);
        super::refused(builder.build(), Error::is_unavailable, &text);
    };
    for (kind, is_built) in
        [(BackendKind::Wgpu, cfg!(feature = "wgpu")), (BackendKind::Cuda, cfg!(feature = "cuda"))]
    {
        if is_built {
            // Whether there is a device shows when the first kernel needs it.
            Runtime::builder().backend(kind).build().expect("it is in this build");
        } else {
            refused(kind, &format!("build ringwork with its feature `{kind}`, or use `cpu` or `auto`"));
        }
    }
}

#[test]
fn nothing_is_launched_after_shutdown() {
    let runtime = runtime();
    let kernel = super::active(&runtime, echo());
    runtime.shutdown(crate::common::LONG).unwrap();
    super::refused(runtime.launch(echo()), Error::is_terminated, "the runtime has been shut down");
    super::refused(
        kernel.ask(Reply { r: 1 }, crate::common::LONG),
        Error::is_terminated,
        "kernel `k` is terminated",
    );
    assert!(runtime.kernels().is_empty());
    runtime.shutdown(crate::common::LONG).expect("twice is once");
}

#[test]
fn a_twin_in_cuda_is_of_a_wgsl_handler() {
    let wanted = "kernel `k`: cuda_source: only a WGSL handler has a twin in CUDA C++";
    invalid(host().cuda_source("x"), wanted);
    launch_refused(native().cuda_source("x"), Error::is_invalid, wanted);
    invalid(echo().cuda_source("ab\0c"), "kernel `k`: cuda_source has a null byte, at byte 2");
}
