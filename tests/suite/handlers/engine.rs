//! What runs a handler is visible.

use super::started;
use crate::common::{LONG, runtime};
use ringwork::{Context, Execution, RingKernel, message};
use std::fmt::Write;

message! { pub struct Number { pub value: u32 } }

#[test]
fn a_kernel_says_what_runs_it() {
    let runtime = runtime();
    let plain = "fn on_message(m: Number) -> Number { return Number(m.value + 1u); }";
    let plain = started(&runtime, RingKernel::<Number, Number>::wgsl("plain", plain));
    // Its calls double with every level: too many to inline.
    let mut text = String::from("fn f0(x: u32) -> u32 { return x + 1u; }\n");
    for level in 1..14 {
        let below = level - 1;
        writeln!(text, "fn f{level}(x: u32) -> u32 {{ return f{below}(x) + f{below}(x); }}").unwrap();
    }
    text += "fn on_message(m: Number) -> Number { return Number(f13(m.value)); }";
    let huge = started(&runtime, RingKernel::<Number, Number>::wgsl("huge", text));
    let native = started(&runtime, RingKernel::native("native", |m: Number, _: &mut ()| m));
    let host = RingKernel::host("host", |context: &mut Context<Number, Number>| {
        while let Some(number) = context.receive() {
            context.reply(number.into_inner());
        }
    });
    let host = started(&runtime, host);

    assert_eq!(plain.ask(Number { value: 1 }, LONG).unwrap().value, 2);
    assert_eq!(huge.ask(Number { value: 1 }, LONG).unwrap().value, 2 << 13);
    let engines = [&plain, &huge, &native, &host].map(|kernel| kernel.telemetry().engine);
    assert_eq!(engines[2..], ["native", "host"]);
    let device = match runtime.capabilities().unwrap().execution {
        Execution::Dispatched => Some("wgpu"),
        Execution::Persistent => Some("cuda"),
        _ => None,
    };
    if let Some(device) = device {
        assert_eq!(engines[..2], [device, device]);
        assert!(runtime.why().starts_with(&format!("{device}: ")), "{}", runtime.why());
        return;
    }
    assert!(engines[1].starts_with("interpreter: "), "{}", engines[1]);
    if cfg!(feature = "jit") {
        assert_eq!(engines[0], "jit");
        assert!(engines[1].contains("too many calls"), "{}", engines[1]);
    } else {
        assert!(engines[0].contains("feature `jit`"), "{}", engines[0]);
    }
    assert!(runtime.why().contains(engines[0]), "{}", runtime.why());
    assert!(runtime.capabilities().unwrap().name.contains(engines[0]));
}
