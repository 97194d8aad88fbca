//! The reply cell alone.

use super::explore;
use crate::actor::cell::ReplyCell;
use loom::thread;
use std::sync::Arc;

fn deliver(cell: &Arc<ReplyCell<u32>>, token: u64, value: u32) -> thread::JoinHandle<bool> {
    let cell = cell.clone();
    thread::spawn(move || cell.deliver(token, Ok(value)))
}

fn wait(cell: &ReplyCell<u32>, token: u64) -> u32 {
    loop {
        if let Some(reply) = cell.poll(token) {
            return reply.unwrap();
        }
        cell.park(token, None);
    }
}

#[test]
fn loom_a_delivered_reply_wakes_its_waiter() {
    explore("deliver, park", 5, || {
        let cell = Arc::new(ReplyCell::new());
        cell.arm(1);
        let deliverer = deliver(&cell, 1, 7);
        assert_eq!(wait(&cell, 1), 7);
        assert!(deliverer.join().unwrap());
    });
}

#[test]
fn loom_a_cell_used_again_gets_its_new_reply_only() {
    explore("deliver, disarm, deliver to the next", 5, || {
        let cell = Arc::new(ReplyCell::new());
        cell.arm(1);
        let first = deliver(&cell, 1, 7);
        let early = cell.disarm(1);
        if let Some(reply) = &early {
            assert_eq!(*reply.as_ref().unwrap(), 7);
        }
        cell.arm(2);
        let second = deliver(&cell, 2, 8);
        assert_eq!(wait(&cell, 2), 8);
        assert_eq!(first.join().unwrap(), early.is_some());
        assert!(second.join().unwrap());
    });
}

#[test]
fn loom_of_two_deliverers_one_wins() {
    explore("deliver, deliver", 5, || {
        let cell = Arc::new(ReplyCell::new());
        cell.arm(1);
        let (first, second) = (deliver(&cell, 1, 7), deliver(&cell, 1, 8));
        let got = wait(&cell, 1);
        let (first, second) = (first.join().unwrap(), second.join().unwrap());
        assert!(first != second && got == if first { 7 } else { 8 });
    });
}
