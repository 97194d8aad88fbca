//! Lifecycle calls against messages on their way.

use super::super::gate::{self, Gate};
use super::port::{FAULTY, Log};
use super::{Kernel, Number, Plan, World, ask, audit, explore, number, past, reply_to};
use crate::actor::Termination;
use crate::actor::receive::receive;
use crate::actor::send::{Options, Wait};
use crate::error::SendError;
use crate::sync::lock;
use crate::{DeadLetterReason, KernelState};
use loom::thread;
use std::sync::Arc;

/// Sends; `false` if the message came back.
fn try_to_send(kernel: &Arc<Kernel>, value: u32) -> bool {
    match kernel.send(number(value), &Options::default().discard_reply(), Wait::Until(None)) {
        Ok(()) => true,
        Err(
            SendError::NotActive(back)
            | SendError::Terminated(back)
            | SendError::Full(back)
            | SendError::Failed(back, _),
        ) => {
            assert_eq!(back.value, value);
            false
        }
        Err(_) => panic!("another error"),
    }
}

fn deactivating(name: &'static str, preemptions: usize, change: fn(&mut Plan)) {
    explore(name, preemptions, move || {
        let (world, log) = (World::new(), Log::new());
        let mut plan = Plan::new(&log);
        change(&mut plan);
        let kernel = world.kernel(plan);
        let background = world.background();
        let other = kernel.clone();
        let sender =
            thread::spawn(move || u64::from(try_to_send(&other, 1)) + u64::from(try_to_send(&other, 2)));
        kernel.deactivate(super::NEVER).unwrap();
        log.forbid(true);
        let before = audit(&kernel).handled;
        assert_eq!(audit(&kernel).handled, before);
        log.forbid(false);
        kernel.activate().unwrap();
        let sent = sender.join().unwrap();
        world.finish(background);
        let books = audit(&kernel);
        assert_eq!((books.accepted, books.handled, log.sorted().len() as u64), (sent, sent, sent));
    });
}

#[test]
fn loom_deactivate_and_a_sender() {
    deactivating("deactivate, send twice", 3, |_| {});
}

#[test]
fn loom_deactivate_and_a_background_kernel() {
    deactivating("deactivate, send twice, on probation", 3, |plan| plan.on_probation = true);
}

#[test]
fn loom_deactivate_and_a_full_mailbox() {
    deactivating("deactivate, send twice, one place", 3, |plan| {
        plan.capacity = 1;
        plan.background_only = true;
    });
}

#[test]
fn loom_deactivate_and_an_asker() {
    explore("deactivate, ask", 4, || {
        let (world, log) = (World::new(), Log::new());
        let kernel = world.kernel(Plan::new(&log));
        let background = world.background();
        let other = kernel.clone();
        let asker = thread::spawn(move || match ask(&other, 1) {
            Ok(reply) => assert_eq!(reply, reply_to(1)),
            Err(error) => assert!(error.is_not_active()),
        });
        kernel.deactivate(super::NEVER).unwrap();
        log.forbid(true);
        log.forbid(false);
        kernel.activate().unwrap();
        asker.join().unwrap();
        world.finish(background);
        assert_eq!(audit(&kernel).handled as usize, log.sorted().len());
    });
}

#[test]
fn loom_a_state_read_between_messages() {
    explore("read the state, send", 3, || {
        let (world, log) = (World::new(), Log::new());
        let kernel = world.kernel(Plan::new(&log));
        let background = world.background();
        let other = kernel.clone();
        let sender = thread::spawn(move || assert!(try_to_send(&other, 1)));
        kernel.read_state().unwrap();
        sender.join().unwrap();
        world.finish(background);
        assert_eq!(log.sorted(), [1]);
    });
}

#[test]
fn loom_two_readers_of_the_state() {
    explore("read the state, read the state, send", 2, || {
        let (world, log) = (World::new(), Log::new());
        let kernel = world.kernel(Plan::new(&log));
        let background = world.background();
        let other = kernel.clone();
        let reader = thread::spawn(move || drop(other.read_state().unwrap()));
        let other = kernel.clone();
        let sender = thread::spawn(move || assert!(try_to_send(&other, 1)));
        kernel.read_state().unwrap();
        reader.join().unwrap();
        sender.join().unwrap();
        world.finish(background);
        assert_eq!(log.sorted(), [1]);
    });
}

#[test]
fn loom_terminate_and_a_receiver() {
    explore("terminate, receive until the end", 2, || {
        let (world, log) = (World::new(), Log::new());
        let mut plan = Plan::new(&log);
        plan.background_only = true;
        let kernel = world.kernel(plan);
        for value in [1, 2] {
            assert!(kernel.send(number(value), &Options::default(), Wait::Until(None)).is_ok());
        }
        let background = world.background();
        let other = kernel.clone();
        let receiver = thread::spawn(move || {
            let next = || receive(&other.replies, &other, None).ok().map(|(_, reply)| reply.value);
            std::iter::from_fn(next).collect::<Vec<u32>>()
        });
        let end = kernel.terminate(None, None).unwrap();
        let mut replies = receiver.join().unwrap();
        world.finish(background);
        assert!(end.is_clean());
        // A receiver is woken when the end begins; what is handled until then can be received all the same.
        replies.extend(std::iter::from_fn(|| kernel.replies.pop()).map(|(_, reply)| reply.value));
        assert_eq!(replies, [1, 2].map(reply_to));
    });
}

/// Every value ended in exactly one way, and the books say so.
fn account(kernel: &Arc<Kernel>, log: &Log, end: &Termination<Number>, sent: &[(u32, bool)]) {
    let books = audit(kernel);
    let handled = log.sorted();
    let mut lost = 0;
    for (value, accepted) in sent {
        let returned = end.returned.iter().filter(|envelope| envelope.payload.value == *value).count();
        let ran = handled.iter().filter(|handled| *handled == value).count();
        assert!(
            ran + returned <= 1,
            "{value} was handled {ran} times and returned {returned} times: {books:?}"
        );
        assert!(*accepted || returned == 0, "{value} came back twice");
        lost += usize::from(*accepted && ran + returned == 0);
    }
    let accepted = sent.iter().filter(|(_, accepted)| *accepted).count() as u64;
    assert_eq!(books.accepted, accepted, "{books:?}");
    assert_eq!(books.returned, end.returned.len() as u64);
    assert_eq!(books.pending, 0);
    assert_eq!(books.dead_letters.total(), books.dead_letters.get(DeadLetterReason::Abandoned));
    // What was begun may have run all the same: then its result was nobody's.
    assert!(lost as u64 <= books.dead_letters.total());
    assert_eq!(books.handled + books.dead_letters.total() + books.returned, accepted);
    assert_eq!(kernel.state(), KernelState::Terminated);
}

fn terminating(name: &'static str, preemptions: usize, expired: bool, change: fn(&mut Plan)) {
    explore(name, preemptions, move || {
        let (world, log) = (World::new(), Log::new());
        let mut plan = Plan::new(&log);
        change(&mut plan);
        let kernel = world.kernel(plan);
        let background = world.background();
        let other = kernel.clone();
        let sender = thread::spawn(move || [1, 2].map(|value| (value, try_to_send(&other, value))));
        let deadline = if expired { past() } else { None };
        let end = kernel.terminate(deadline, deadline).unwrap();
        let sent = sender.join().unwrap();
        world.finish(background);
        account(&kernel, &log, &end, &sent);
        if !expired {
            assert!(end.is_clean() && log.sorted().len() as u64 == audit(&kernel).handled, "{end:?}");
        }
    });
}

#[test]
fn loom_terminate_and_a_sender() {
    terminating("terminate, send twice", 3, false, |_| {});
}

#[test]
fn loom_terminate_and_a_background_kernel() {
    terminating("terminate, send twice, on probation", 3, false, |plan| plan.on_probation = true);
}

#[test]
fn loom_terminate_and_a_full_mailbox() {
    terminating("terminate, send twice, one place", 3, false, |plan| {
        plan.capacity = 1;
        plan.background_only = true;
    });
}

#[test]
fn loom_terminate_and_an_interrupted_message() {
    terminating("terminate, send twice, interrupted once", 3, false, |plan| plan.interruptions = 1);
}

#[test]
fn loom_terminate_out_of_time_and_a_sender() {
    terminating("terminate now, send twice", 4, true, |_| {});
}

#[test]
fn loom_terminate_out_of_time_and_a_background_kernel() {
    terminating("terminate now, send twice, on probation", 3, true, |plan| plan.on_probation = true);
}

#[test]
fn loom_terminate_out_of_time_and_an_interrupted_message() {
    terminating("terminate now, send twice, interrupted once", 3, true, |plan| plan.interruptions = 1);
}

#[test]
fn loom_terminate_and_an_asker() {
    for (name, expired) in [("terminate, ask", false), ("terminate now, ask", true)] {
        explore(name, 4, move || {
            let (world, log) = (World::new(), Log::new());
            let kernel = world.kernel(Plan::new(&log));
            let background = world.background();
            let other = kernel.clone();
            let asker = thread::spawn(move || match ask(&other, 1) {
                Ok(reply) => assert_eq!(reply, reply_to(1)),
                Err(error) => assert!(error.is_terminated()),
            });
            let deadline = if expired { past() } else { None };
            let end = kernel.terminate(deadline, deadline).unwrap();
            asker.join().unwrap();
            world.finish(background);
            let books = audit(&kernel);
            assert_eq!(books.pending, 0);
            assert!(log.sorted().len() + end.returned.len() <= 1);
        });
    }
}

fn faulting(name: &'static str, preemptions: usize, change: fn(&mut Plan)) {
    explore(name, preemptions, move || {
        let (world, log) = (World::new(), Log::new());
        let mut plan = Plan::new(&log);
        change(&mut plan);
        let kernel = world.kernel(plan);
        let background = world.background();
        let other = kernel.clone();
        let asker = thread::spawn(move || match ask(&other, 1) {
            Ok(reply) => assert_eq!(reply, reply_to(1)),
            Err(error) => assert!(error.is_failed(), "{error}"),
        });
        let error = ask(&kernel, FAULTY).unwrap_err();
        assert!(error.is_failed() && error.to_string().contains("loop budget"), "{error}");
        asker.join().unwrap();
        world.finish(background);
        let books = audit(&kernel);
        assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), 1);
        assert_eq!(books.handled as usize, log.sorted().len());
        assert_eq!(lock(&kernel.mailbox).state, KernelState::Failed);
        let end = kernel.terminate(None, None).unwrap();
        assert_eq!(end.returned.len() as u64, books.pending);
        audit(&kernel);
    });
}

#[test]
fn loom_a_fault_and_an_asker() {
    faulting("ask a faulty one, ask", 4, |_| {});
}

#[test]
fn loom_a_fault_in_the_background_and_an_asker() {
    faulting("ask a faulty one, ask, on probation", 2, |plan| plan.on_probation = true);
}

#[test]
fn loom_a_fault_and_a_blocked_sender() {
    explore("send a faulty one, send twice, one place", 3, || {
        let (world, log) = (World::new(), Log::new());
        let mut plan = Plan::new(&log);
        plan.capacity = 1;
        plan.background_only = true;
        let kernel = world.kernel(plan);
        let background = world.background();
        let other = kernel.clone();
        let sender = thread::spawn(move || [1, 2].map(|value| try_to_send(&other, value)));
        assert!(try_to_send(&kernel, FAULTY));
        let sent = sender.join().unwrap();
        world.finish(background);
        let books = audit(&kernel);
        assert_eq!(books.accepted, 1 + sent.iter().filter(|sent| **sent).count() as u64);
        assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), 1);
    });
}

#[test]
fn loom_a_kernel_is_activated_while_somebody_looks_into_its_port() {
    explore("activate, look into an inactive kernel's port", 3, || {
        let gate = Arc::new(Gate::new(gate::QUEUED | gate::BUSY));
        let other = gate.clone();
        let activated = thread::spawn(move || other.activate());
        gate.leave_to_device();
        activated.join().unwrap();
        // Nobody will tell: it has to be driven.
        assert_eq!(gate.load() & (gate::ACTIVE | gate::AWAY), gate::ACTIVE);
    });
}
