//! Messages on their way: nothing lost, nothing twice, everybody woken.

use super::port::Log;
use super::{Kernel, Number, Plan, World, ask, audit, explore, number, reply_to, send};
use crate::actor::receive::receive;
use crate::actor::send::{Options, Wait};
use crate::actor::services::Source;
use crate::kernel::{AnyOutlet, Backpressure, DeviceOutlet, Inlet, Outlet};
use loom::thread;
use std::sync::{Arc, Weak};

fn sends(name: &'static str, preemptions: usize, change: fn(&mut Plan)) {
    explore(name, preemptions, move || {
        let (world, log) = (World::new(), Log::new());
        let mut plan = Plan::new(&log);
        change(&mut plan);
        let kernel = world.kernel(plan);
        let background = world.background();
        let other = kernel.clone();
        let sender = thread::spawn(move || assert!(send(&other, 1)));
        assert!(send(&kernel, 2));
        sender.join().unwrap();
        world.finish(background);
        assert_eq!(log.sorted(), [1, 2]);
        let books = audit(&kernel);
        assert_eq!((books.accepted, books.handled), (2, 2));
    });
}

#[test]
fn loom_two_senders_on_an_idle_kernel() {
    sends("send, send", 4, |_| {});
}

#[test]
fn loom_two_senders_and_the_background_driver() {
    sends("send, send, background only", 3, |plan| plan.background_only = true);
}

#[test]
fn loom_two_senders_and_a_driver_that_stops_being_needed() {
    sends("send, send, on probation", 3, |plan| plan.on_probation = true);
}

#[test]
fn loom_two_senders_for_one_place() {
    sends("send, send, one place", 3, |plan| {
        plan.capacity = 1;
        plan.background_only = true;
    });
}

#[test]
fn loom_a_message_interrupted_on_its_senders_thread() {
    sends("send, send, interrupted once", 3, |plan| plan.interruptions = 1);
}

#[test]
fn loom_capacity_is_exact_and_blocked_senders_wake() {
    explore("send twice, send, one place", 2, || {
        let (world, log) = (World::new(), Log::new());
        let mut plan = Plan::new(&log);
        plan.capacity = 1;
        plan.on_probation = true;
        let kernel = world.kernel(plan);
        let background = world.background();
        let other = kernel.clone();
        let sender = thread::spawn(move || {
            assert!(send(&other, 1));
            assert!(audit(&other).depth <= 1);
        });
        assert!(send(&kernel, 2) && send(&kernel, 3));
        assert!(audit(&kernel).depth <= 1);
        sender.join().unwrap();
        world.finish(background);
        assert_eq!(log.sorted(), [1, 2, 3]);
        let order = log.in_order();
        assert!(order.iter().position(|value| *value == 2) < order.iter().position(|value| *value == 3));
        assert_eq!(audit(&kernel).handled, 3);
    });
}

fn asks(name: &'static str, preemptions: usize, change: fn(&mut Plan)) {
    explore(name, preemptions, move || {
        let (world, log) = (World::new(), Log::new());
        let mut plan = Plan::new(&log);
        change(&mut plan);
        let kernel = world.kernel(plan);
        let background = world.background();
        let other = kernel.clone();
        let asker = thread::spawn(move || assert_eq!(ask(&other, 1).unwrap(), reply_to(1)));
        assert_eq!(ask(&kernel, 2).unwrap(), reply_to(2));
        asker.join().unwrap();
        world.finish(background);
        assert_eq!(log.sorted(), [1, 2]);
        assert_eq!(audit(&kernel).handled, 2);
    });
}

#[test]
fn loom_two_askers() {
    asks("ask, ask", 4, |_| {});
}

#[test]
fn loom_two_askers_of_a_background_kernel() {
    asks("ask, ask, on probation", 2, |plan| plan.on_probation = true);
}

#[test]
fn loom_two_askers_for_one_place() {
    asks("ask, ask, one place", 4, |plan| plan.capacity = 1);
}

#[test]
fn loom_an_asker_whose_message_is_interrupted() {
    asks("ask, ask, interrupted once", 2, |plan| plan.interruptions = 1);
}

#[test]
fn loom_an_asker_and_a_sender() {
    explore("ask, send", 4, || {
        let (world, log) = (World::new(), Log::new());
        let kernel = world.kernel(Plan::new(&log));
        let background = world.background();
        let other = kernel.clone();
        let sender = thread::spawn(move || assert!(send(&other, 1)));
        assert_eq!(ask(&kernel, 2).unwrap(), reply_to(2));
        sender.join().unwrap();
        world.finish(background);
        assert_eq!(log.sorted(), [1, 2]);
    });
}

#[test]
fn loom_an_asker_and_two_senders_for_one_place() {
    explore("ask, send, send, one place", 3, || {
        let (world, log) = (World::new(), Log::new());
        let mut plan = Plan::new(&log);
        plan.capacity = 1;
        let kernel = world.kernel(plan);
        let background = world.background();
        let senders = [1, 2].map(|value| {
            let kernel = kernel.clone();
            thread::spawn(move || assert!(send(&kernel, value)))
        });
        assert_eq!(ask(&kernel, 3).unwrap(), reply_to(3));
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        world.finish(background);
        assert_eq!(log.sorted(), [1, 2, 3]);
    });
}

#[test]
fn loom_a_request_waited_for_and_one_given_up() {
    explore("request, request dropped", 4, || {
        let (world, log) = (World::new(), Log::new());
        let kernel = world.kernel(Plan::new(&log));
        let background = world.background();
        let other = kernel.clone();
        let asker = thread::spawn(move || {
            let Ok(pending) = other.request(number(1), &Options::default(), None) else { panic!() };
            drop(pending);
        });
        let Ok(pending) = kernel.request(number(2), &Options::default(), None) else { panic!() };
        assert_eq!(pending.wait(super::NEVER).unwrap().value, reply_to(2));
        asker.join().unwrap();
        world.finish(background);
        assert_eq!(log.sorted(), [1, 2]);
    });
}

#[test]
fn loom_books_balance_whenever_they_are_read() {
    explore("ask, send, telemetry", 3, || {
        let (world, log) = (World::new(), Log::new());
        let kernel = world.kernel(Plan::new(&log));
        let background = world.background();
        let (asking, sending) = (kernel.clone(), kernel.clone());
        let asker = thread::spawn(move || assert_eq!(ask(&asking, 1).unwrap(), reply_to(1)));
        let sender = thread::spawn(move || assert!(send(&sending, 2)));
        audit(&kernel);
        audit(&kernel);
        asker.join().unwrap();
        sender.join().unwrap();
        world.finish(background);
        let books = audit(&kernel);
        assert_eq!((books.accepted, books.handled, books.pending), (2, 2, 0));
    });
}

fn send_for_the_queue(kernel: &Arc<Kernel>, value: u32) {
    assert!(kernel.send(number(value), &Options::default(), Wait::Until(None)).is_ok());
}

fn receiving(name: &'static str, preemptions: usize, change: fn(&mut Plan)) {
    explore(name, preemptions, move || {
        let (world, log) = (World::new(), Log::new());
        let mut plan = Plan::new(&log);
        plan.output_capacity = 1;
        change(&mut plan);
        let kernel = world.kernel(plan);
        let background = world.background();
        let other = kernel.clone();
        let sender = thread::spawn(move || {
            send_for_the_queue(&other, 1);
            send_for_the_queue(&other, 2);
        });
        let values = [(); 2].map(|()| receive(&kernel.replies, &kernel, None).unwrap().1.value);
        assert_eq!(values, [reply_to(1), reply_to(2)]);
        sender.join().unwrap();
        world.finish(background);
        assert_eq!(log.in_order(), [1, 2]);
        assert_eq!(audit(&kernel).handled, 2);
    });
}

#[test]
fn loom_a_receiver_and_a_kernel_that_waits_for_it() {
    receiving("send twice, receive twice, one place for replies", 3, |_| {});
}

#[test]
fn loom_a_receiver_and_a_background_kernel_that_waits_for_it() {
    receiving("send twice, receive twice, background only", 3, |plan| plan.background_only = true);
}

/// Two kernels, the first one's output linked to the second, whose mailbox has one place.
fn linked(world: &World, first: &Log, second: &Log) -> (Arc<Kernel>, Arc<Kernel>) {
    let mut plan = Plan::new(second);
    plan.capacity = 1;
    plan.output_capacity = 4;
    let target = world.kernel(plan);
    let outlet = Arc::new(Outlet::<Number>::new(1, Backpressure::Block, 1));
    let mut plan = Plan::new(first);
    plan.outlets = vec![("out".to_owned(), Arc::new(DeviceOutlet(outlet.clone())) as Arc<dyn AnyOutlet>)];
    let source = world.kernel(plan);
    let inlet: Arc<dyn Inlet<Number>> = target.clone();
    assert!(outlet.link(Arc::downgrade(&inlet), target.facts.id));
    let upstream: Weak<Kernel> = Arc::downgrade(&source);
    let upstream: Weak<dyn Source> = upstream;
    crate::sync::lock(&target.upstream).push(upstream);
    target.has_upstream.store(true, crate::sync::Ordering::Release);
    (source, target)
}

#[test]
fn loom_a_link_into_one_place_and_a_sender_beside_it() {
    explore("send to the source, send to the target", 3, || {
        let (world, first, second) = (World::new(), Log::new(), Log::new());
        let (source, target) = linked(&world, &first, &second);
        let background = world.background();
        let other = target.clone();
        let sender = thread::spawn(move || assert!(send(&other, 50)));
        assert!(send(&source, 1));
        sender.join().unwrap();
        world.finish(background);
        assert_eq!(first.in_order(), [1]);
        assert_eq!(second.sorted(), [50, reply_to(1)]);
        assert_eq!(audit(&target).accepted, 2);
    });
}

#[test]
fn loom_a_link_that_stalls_its_source() {
    explore("send twice to the source of a link", 3, || {
        let (world, first, second) = (World::new(), Log::new(), Log::new());
        let (source, target) = linked(&world, &first, &second);
        let background = world.background();
        let other = source.clone();
        let sender = thread::spawn(move || assert!(send(&other, 1)));
        assert!(send(&source, 2));
        sender.join().unwrap();
        world.finish(background);
        assert_eq!(first.sorted(), [1, 2]);
        assert_eq!(second.sorted(), [reply_to(1), reply_to(2)]);
        assert_eq!((audit(&source).handled, audit(&target).handled), (2, 2));
    });
}

#[test]
fn loom_a_link_whose_target_ends() {
    explore("send twice to the source, terminate the target", 3, || {
        let (world, first, second) = (World::new(), Log::new(), Log::new());
        let (source, target) = linked(&world, &first, &second);
        let background = world.background();
        let other = target.clone();
        let ending = thread::spawn(move || other.terminate(None, None).unwrap().is_clean());
        assert!(send(&source, 1) && send(&source, 2));
        assert!(ending.join().unwrap());
        world.finish(background);
        assert_eq!(first.in_order(), [1, 2]);
        let (from, to) = (audit(&source), audit(&target));
        assert_eq!((from.emitted, from.emitted), (2, to.accepted + from.undeliverable));
        assert_eq!(second.in_order().len() as u64, to.accepted);
    });
}

#[test]
fn loom_a_link_driven_by_two() {
    explore("send to the source, two background drivers", 2, || {
        let (world, first, second) = (World::new(), Log::new(), Log::new());
        let (source, target) = linked(&world, &first, &second);
        let drivers = [world.background(), world.background()];
        assert!(send(&source, 1) && send(&source, 2) && send(&source, 3));
        world.services.pool.close();
        drivers.into_iter().for_each(|driver| driver.join().unwrap());
        assert_eq!(first.in_order(), [1, 2, 3]);
        assert_eq!(second.in_order(), [1, 2, 3].map(reply_to));
        assert_eq!(audit(&target).handled, 3);
    });
}
