//! ractor on tokio's multi-threaded runtime; its tracing of message spans is off, which is the faster setting.

use crate::actors::{self, CountedAgent, runtime};
use crate::harness::Board;
use crate::workload::{self, INSTANCES, Numbers};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::oneshot;

pub fn cases(board: &mut Board) {
    board.add("ask", "ractor", "`cast` with a reply port, `blocking_recv`", |scale| {
        let actor = adder();
        let values = workload::ask(scale, |i| receive(request(&actor, i)));
        actor.stop(None);
        values
    });
    board.add("in-flight", "ractor", "`cast` with a reply port, `blocking_recv` of the oldest", |scale| {
        let actor = adder();
        let values = workload::in_flight(scale.count(100_000), |i| request(&actor, i), receive);
        actor.stop(None);
        values
    });
    board.add("one-way", "ractor", "`cast`", |scale| {
        let actor = adder();
        let values = workload::one_way(
            scale.count(300_000),
            |i| actor.cast(Request::Tell(Numbers::new(i))).expect("the actor runs"),
            || workload::check(0, receive(request(&actor, 0))),
        );
        actor.stop(None);
        values
    });
    board.add("instances", "ractor", "`cast`", |_| {
        actors::instances(
            || {
                let start =
                    |_| runtime().block_on(Actor::spawn(None, AgentActor, ())).expect("the actor starts").0;
                (0..INSTANCES).map(start).collect()
            },
            |actor: &ActorRef<Numbers>, message| actor.cast(message).expect("the actor runs"),
            |all| all.iter().for_each(|actor| actor.stop(None)),
        )
    });
}

enum Request {
    Ask(Numbers, RpcReplyPort<f32>),
    Tell(Numbers),
}

struct Adder;

impl Actor for Adder {
    type Msg = Request;
    type State = f32;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Request>, (): ()) -> Result<f32, ActorProcessingErr> {
        Ok(0.0)
    }

    async fn handle(
        &self,
        _: ActorRef<Request>,
        request: Request,
        total: &mut f32,
    ) -> Result<(), ActorProcessingErr> {
        match request {
            Request::Ask(message, port) => port.send(message.sum())?,
            Request::Tell(message) => *total += message.sum(),
        }
        Ok(())
    }
}

struct AgentActor;

impl Actor for AgentActor {
    type Msg = Numbers;
    type State = CountedAgent;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Numbers>, (): ()) -> Result<CountedAgent, ActorProcessingErr> {
        Ok(CountedAgent::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Numbers>,
        message: Numbers,
        agent: &mut CountedAgent,
    ) -> Result<(), ActorProcessingErr> {
        agent.take(&message);
        Ok(())
    }
}

fn adder() -> ActorRef<Request> {
    runtime().block_on(Actor::spawn(None, Adder, ())).expect("the actor starts").0
}

/// A blocking thread's way to ask: faster than to enter the runtime for `call`.
fn request(actor: &ActorRef<Request>, i: u64) -> oneshot::Receiver<f32> {
    let (sender, receiver) = oneshot::channel();
    actor.cast(Request::Ask(Numbers::new(i), sender.into())).expect("the actor runs");
    receiver
}

fn receive(reply: oneshot::Receiver<f32>) -> f32 {
    reply.blocking_recv().expect("the actor answers")
}
