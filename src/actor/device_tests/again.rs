//! Messages that the device ended in the middle run again, before all that came behind them.

use super::{AGAIN, LONG, runtime};
use crate::{RingKernel, Runtime, message};

message! {
    /// A number of a series, and the iterations that it costs.
    pub struct Costly { pub number: u32, pub iterations: u32 }
    /// How many came, how many of those not in their turn, and something that the iterations make.
    pub struct Turns { pub count: u32, pub wrong: u32, pub mixed: u32 }
}

/// The messages have to come in the order of their numbers.
const IN_TURN: &str = "
    fn on_message(m: Costly, s: ptr<function, Turns>) -> Turns {
        if m.number != (*s).count { (*s).wrong += 1u; }
        (*s).count += 1u;
        for (var i = 0u; i < m.iterations; i++) { (*s).mixed = (*s).mixed * 3u + i; }
        return *s;
    }";

/// Sends from another thread, one by one, what together is far too much for one invocation on a device that ends loops.
fn in_turn(runtime: &Runtime, messages: u32, cost: fn(u32) -> u32) {
    let kernel = RingKernel::<Costly, Turns>::wgsl("in turn", IN_TURN).initial_state(Turns::default());
    let kernel = runtime.launch(kernel.queue_capacity(256).restart(AGAIN)).unwrap();
    kernel.activate().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..messages)
                .for_each(|number| kernel.send(Costly { number, iterations: cost(number) }).unwrap());
        });
        for count in 1..=messages {
            let turns = kernel.recv_timeout(LONG).unwrap();
            assert_eq!((turns.count, turns.wrong), (count, 0));
        }
    });
    assert_eq!(kernel.telemetry().handled, u64::from(messages));
}

#[test]
fn what_runs_again_is_overtaken_by_nobody() {
    let Some(runtime) = runtime() else { return };
    in_turn(&runtime, 3000, |number| if number % 3 == 0 { 0 } else { 9000 });
    assert!(!runtime.device().is_lost());
}

const STATELESS: &str = "
    fn on_message(m: Costly) -> Costly {
        var mixed = 0u;
        for (var i = 0u; i < m.iterations; i++) { mixed = mixed * 3u + i; }
        return Costly(m.number, mixed);
    }";

#[test]
fn two_rounds_at_once_keep_their_order_around_what_runs_again() {
    let Some(runtime) = runtime() else { return };
    let Some(longest) = runtime.capabilities().unwrap().longest_loop else { return };
    let kernel = RingKernel::<Costly, Costly>::wgsl("two rounds", STATELESS).loop_budget(longest * 2);
    let kernel = runtime.launch(kernel.queue_capacity(256).restart(AGAIN)).unwrap();
    kernel.activate().unwrap();
    let messages = 2000;
    // One that the device ends runs again by itself, and is ended again.
    let is_ended = |number| number % 50 == 17;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..messages {
                let iterations = if is_ended(number) { longest + longest / 2 } else { 10 };
                kernel.send(Costly { number, iterations }).unwrap();
            }
        });
        for number in (0..messages).filter(|number| !is_ended(*number)) {
            assert_eq!(kernel.recv_timeout(LONG).unwrap().number, number);
        }
    });
    let books = kernel.telemetry();
    let ended = u64::from(messages / 50);
    assert_eq!((books.handled, books.dead_letters.total()), (u64::from(messages) - ended, ended));
}
