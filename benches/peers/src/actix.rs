//! actix: actors live in arbiters, one thread each, one per processor here.

use crate::actors::{self, CountedAgent};
use crate::harness::Board;
use crate::machine::processors;
use crate::workload::{self, IN_FLIGHT, INSTANCES, Numbers};
use actix::prelude::*;
use futures::executor::block_on;
use std::sync::OnceLock;

pub fn cases(board: &mut Board) {
    board.add("ask", "actix", "`send`, blocked on", |scale| {
        let actor = adder();
        workload::ask(scale, |i| block_on(actor.send(Ask(Numbers::new(i)))).expect("the actor runs"))
    });
    board.add("in-flight", "actix", "`send`, the oldest blocked on, mailbox wide enough for all", |scale| {
        let actor = adder();
        workload::in_flight(
            scale.count(300_000),
            |i| actor.send(Ask(Numbers::new(i))),
            |reply| block_on(reply).expect("the actor runs"),
        )
    });
    board.add("one-way", "actix", "`do_send`", |scale| {
        let actor = adder();
        workload::one_way(
            scale.count(500_000),
            |i| actor.do_send(Tell(Numbers::new(i))),
            || assert!(block_on(actor.send(Ask(Numbers::new(0)))).is_ok()),
        )
    });
    board.add("instances", "actix", "`do_send`, the actors in as many arbiters as processors", |_| {
        actors::instances(
            || (0..INSTANCES).map(|i| start(i, |_| CountedAgent::new())).collect::<Vec<Addr<CountedAgent>>>(),
            |actor, message| actor.do_send(Tell(message)),
            drop,
        )
    });
}

struct Adder {
    total: f32,
}

struct Ask(Numbers);

struct Tell(Numbers);

impl Message for Ask {
    type Result = f32;
}

impl Message for Tell {
    type Result = ();
}

impl Actor for Adder {
    type Context = Context<Self>;
}

impl Handler<Ask> for Adder {
    type Result = f32;

    fn handle(&mut self, Ask(message): Ask, _: &mut Context<Self>) -> f32 {
        message.sum()
    }
}

impl Handler<Tell> for Adder {
    type Result = ();

    fn handle(&mut self, Tell(message): Tell, _: &mut Context<Self>) {
        self.total += message.sum();
    }
}

impl Actor for CountedAgent {
    type Context = Context<Self>;
}

impl Handler<Tell> for CountedAgent {
    type Result = ();

    fn handle(&mut self, Tell(message): Tell, _: &mut Context<Self>) {
        self.take(&message);
    }
}

fn adder() -> Addr<Adder> {
    start(0, |context| {
        // The default of 16 would refuse most of those in flight.
        context.set_mailbox_capacity(2 * IN_FLIGHT);
        Adder { total: 0.0 }
    })
}

/// Starts an actor in arbiter `i`, modulo how many there are.
fn start<A: Actor<Context = Context<A>>>(
    i: usize,
    make: impl FnOnce(&mut Context<A>) -> A + Send + 'static,
) -> Addr<A> {
    let arbiters = arbiters();
    A::start_in_arbiter(&arbiters[i % arbiters.len()], make)
}

/// Kept for the whole run, on a system of their own.
fn arbiters() -> &'static [ArbiterHandle] {
    static ARBITERS: OnceLock<Vec<ArbiterHandle>> = OnceLock::new();
    ARBITERS.get_or_init(|| {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let system = System::new();
            let arbiters: Vec<Arbiter> =
                system.block_on(async { (0..processors()).map(|_| Arbiter::new()).collect() });
            sender.send(arbiters.iter().map(Arbiter::handle).collect()).expect("the cases wait for it");
            system.run().expect("the system runs until the process ends");
        });
        receiver.recv().expect("the system starts")
    })
}
