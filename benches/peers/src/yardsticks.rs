//! What a machine can do at best, or with a bare channel: the measure for everything else. Both threads are pinned,
//! each to its own core, because the scheduler sometimes starts two threads on one core and then a spinning pair
//! measures time slices.

use crate::harness::{Board, Scale};
use crate::machine::{pair, pin};
use crate::ring::{Consumer, Producer, ring};
use crate::workload::{self, Agent, IN_FLIGHT, INSTANCES, Numbers};
use std::thread;

const CAPACITY: u32 = 1024;
/// `len` of the message that ends a server thread.
const STOP: u32 = u32::MAX;

pub fn cases(board: &mut Board) {
    board.add("ask", "ring ping-pong", "yardstick: two spinning threads, a ring each way, pinned", ping_pong);
    board.add("in-flight", "ring pair", "yardstick: the same two threads and rings", ring_pair);
    board.add(
        "one-way",
        "flume bounded",
        "yardstick: flume alone, 1,024 slots, two pinned threads",
        |scale| flume(scale.count(1_000_000), flume::bounded(CAPACITY as usize)),
    );
    board.add(
        "one-way",
        "flume unbounded",
        "yardstick: flume alone, unbounded, two pinned threads",
        |scale| flume(scale.count(1_000_000), flume::unbounded()),
    );
    let mut sort = CountingSort::new();
    board.add(
        "instances",
        "counting sort",
        "yardstick: one thread sorts the messages into inboxes by counting, then a plain loop",
        move |_| workload::passes(|| sort.pass()),
    );
}

/// Runs `client` on one core, with the rings to and from a summing server that spins on the other.
fn with_server(
    client: impl FnOnce(&mut Producer<Numbers>, &mut Consumer<f32>) -> Vec<f64> + Send,
) -> Vec<f64> {
    let (near, far) = pair();
    let (mut requests, mut inbox) = ring::<Numbers>(CAPACITY);
    let (mut outbox, mut replies) = ring::<f32>(CAPACITY);
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(far);
            loop {
                let message = inbox.pop_spinning();
                if message.len == STOP {
                    return;
                }
                outbox.push_spinning(message.sum());
            }
        });
        let client = scope.spawn(move || {
            pin(near);
            let values = client(&mut requests, &mut replies);
            requests.push_spinning(Numbers { len: STOP, ..Numbers::new(0) });
            values
        });
        client.join().expect("the client does not panic")
    })
}

fn ping_pong(scale: Scale) -> Vec<f64> {
    with_server(|requests, replies| {
        workload::ask(scale, |i| {
            requests.push_spinning(Numbers::new(i));
            replies.pop_spinning()
        })
    })
}

fn ring_pair(scale: Scale) -> Vec<f64> {
    let count = scale.count(2_000_000);
    with_server(|requests, replies| {
        let mut run = |count: u64| {
            let (mut sent, mut received) = (0, 0);
            while received < count {
                while sent < count && sent - received < IN_FLIGHT as u64 {
                    requests.push_spinning(Numbers::new(sent));
                    sent += 1;
                }
                while let Some(reply) = replies.pop() {
                    workload::check(received, reply);
                    received += 1;
                }
            }
        };
        run(count / 10);
        workload::rate(count, || run(count))
    })
}

/// One message at a time through a channel, the receiver adding: messages per second.
fn flume(count: u64, (sender, receiver): (flume::Sender<Numbers>, flume::Receiver<Numbers>)) -> Vec<f64> {
    let (near, far) = pair();
    let (done, all_done) = flume::bounded::<f32>(1);
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(far);
            let mut total = 0.0;
            for message in receiver {
                if message.len == STOP {
                    done.send(total).expect("the sender waits for it");
                } else {
                    total += message.sum();
                }
            }
        });
        let client = scope.spawn(move || {
            pin(near);
            let send = |message| sender.send(message).expect("the receiver lives as long as the sender");
            workload::one_way(
                count,
                |i| send(Numbers::new(i)),
                || {
                    send(Numbers { len: STOP, ..Numbers::new(0) });
                    all_done.recv().expect("the receiver answers a stop");
                },
            )
        });
        client.join().expect("the client does not panic")
    })
}

/// All instances as plain data on one thread.
struct CountingSort {
    destinations: Vec<u32>,
    agents: Vec<Agent>,
    outbox: Vec<Numbers>,
    inboxes: Vec<Numbers>,
    /// Where each instance's inbox begins; one more, for the end.
    begins: Vec<u32>,
    /// Where each instance's next message goes.
    next: Vec<u32>,
}

impl CountingSort {
    fn new() -> Self {
        Self {
            destinations: workload::destinations(),
            agents: vec![Agent::default(); INSTANCES],
            outbox: Vec::with_capacity(INSTANCES),
            inboxes: vec![Numbers::new(0); INSTANCES],
            begins: vec![0; INSTANCES + 1],
            next: Vec::with_capacity(INSTANCES),
        }
    }

    fn pass(&mut self) {
        self.outbox.clear();
        let messages = self.destinations.iter().zip(0..).map(|(&to, i)| Numbers { to, ..Numbers::new(i) });
        self.outbox.extend(messages);

        self.begins.fill(0);
        for message in &self.outbox {
            self.begins[message.to as usize + 1] += 1;
        }
        let mut begin = 0;
        for entry in &mut self.begins {
            begin += *entry;
            *entry = begin;
        }
        self.next.clear();
        self.next.extend_from_slice(&self.begins[..INSTANCES]);
        for message in &self.outbox {
            let place = &mut self.next[message.to as usize];
            self.inboxes[*place as usize] = *message;
            *place += 1;
        }

        for (agent, range) in self.agents.iter_mut().zip(self.begins.windows(2)) {
            for message in &self.inboxes[range[0] as usize..range[1] as usize] {
                agent.take(message);
            }
        }
    }
}
