//! kameo on tokio's multi-threaded runtime, unbounded mailboxes and no tracing: its faster settings.

use crate::actors::{self, CountedAgent, runtime};
use crate::harness::Board;
use crate::workload::{self, INSTANCES, Numbers};
use kameo::prelude::*;

pub fn cases(board: &mut Board) {
    board.add("ask", "kameo", "`ask`, `blocking_send`", |scale| {
        let actor = start(Adder { total: 0.0 });
        workload::ask(scale, |i| actor.ask(Ask(Numbers::new(i))).blocking_send().expect("the actor runs"))
    });
    board.add("in-flight", "kameo", "`ask`, `blocking_enqueue`, `recv` of the oldest", |scale| {
        let actor = start(Adder { total: 0.0 });
        workload::in_flight(
            scale.count(100_000),
            |i| actor.ask(Ask(Numbers::new(i))).blocking_enqueue().expect("the actor runs"),
            |reply| reply.recv().expect("the actor answers"),
        )
    });
    board.add("one-way", "kameo", "`tell`, `try_send`", |scale| {
        let actor = start(Adder { total: 0.0 });
        workload::one_way(
            scale.count(300_000),
            |i| actor.tell(Tell(Numbers::new(i))).try_send().expect("the mailbox is unbounded"),
            || assert!(actor.ask(Ask(Numbers::new(0))).blocking_send().is_ok()),
        )
    });
    board.add("instances", "kameo", "`tell`, `try_send`", |_| {
        actors::instances(
            || (0..INSTANCES).map(|_| start(AgentActor(CountedAgent::new()))).collect(),
            |actor, message| actor.tell(Tell(message)).try_send().expect("the mailbox is unbounded"),
            drop,
        )
    });
}

#[derive(Actor)]
struct Adder {
    total: f32,
}

#[derive(Actor)]
struct AgentActor(CountedAgent);

struct Ask(Numbers);

struct Tell(Numbers);

impl Message<Ask> for Adder {
    type Reply = f32;

    async fn handle(&mut self, Ask(message): Ask, _: &mut Context<Self, f32>) -> f32 {
        message.sum()
    }
}

impl Message<Tell> for Adder {
    type Reply = ();

    async fn handle(&mut self, Tell(message): Tell, _: &mut Context<Self, ()>) {
        self.total += message.sum();
    }
}

impl Message<Tell> for AgentActor {
    type Reply = ();

    async fn handle(&mut self, Tell(message): Tell, _: &mut Context<Self, ()>) {
        self.0.take(&message);
    }
}

fn start<A: Actor<Args = A>>(actor: A) -> ActorRef<A> {
    let _entered = runtime().enter();
    A::spawn_with_mailbox(actor, mailbox::unbounded())
}
