//! A host kernel's thread against its senders.

use super::port::Log;
use super::{Kernel, NEVER, Number, Plan, World, ask, audit, explore, number, reply_to, send};
use crate::Context;
use crate::actor::any_kernel::AnyKernel;
use crate::actor::links::enter_cycle;
use crate::kernel::{AnyOutlet, Backpressure, DeviceOutlet, Inlet, Outlet};
use crate::sync::lock;
use loom::thread::{self, JoinHandle};
use std::sync::Arc;

fn start(world: &World, log: &Log, output_capacity: usize) -> (Arc<Kernel>, JoinHandle<()>) {
    let mut plan = Plan::new(log);
    plan.host = true;
    plan.capacity = 1;
    plan.output_capacity = output_capacity;
    let kernel = world.kernel(plan);
    let (running, log) = (kernel.clone(), log.clone());
    let function: crate::kernel::HostFunction<Number, Number> =
        Arc::new(move |context: &mut Context<_, _>| {
            while let Some(envelope) = context.receive() {
                log.handle(envelope.payload.value);
                context.reply(Number { value: reply_to(envelope.payload.value) });
            }
        });
    (kernel, thread::spawn(move || running.run_host(&function)))
}

#[test]
fn loom_a_host_kernel_a_sender_and_an_asker() {
    explore("host kernel, send, ask", 2, || {
        let (world, log) = (World::new(), Log::new());
        let (kernel, host) = start(&world, &log, 2);
        let other = kernel.clone();
        let sender = thread::spawn(move || assert!(send(&other, 1)));
        assert_eq!(ask(&kernel, 2).unwrap(), reply_to(2));
        sender.join().unwrap();
        assert!(kernel.terminate(None, None).unwrap().is_clean());
        host.join().unwrap();
        assert_eq!(log.sorted(), [1, 2]);
        assert_eq!(audit(&kernel).handled, 2);
    });
}

#[test]
fn loom_a_host_kernel_is_deactivated_between_two_messages() {
    explore("host kernel, deactivate, send twice", 2, || {
        let (world, log) = (World::new(), Log::new());
        let (kernel, host) = start(&world, &log, 2);
        let other = kernel.clone();
        let sender = thread::spawn(move || u64::from(send(&other, 1)) + u64::from(send(&other, 2)));
        kernel.deactivate(NEVER).unwrap();
        log.forbid(true);
        let before = audit(&kernel).handled;
        assert_eq!(audit(&kernel).handled, before);
        log.forbid(false);
        kernel.activate().unwrap();
        let sent = sender.join().unwrap();
        assert!(kernel.terminate(None, None).unwrap().is_clean());
        host.join().unwrap();
        let books = audit(&kernel);
        assert_eq!((books.accepted, books.handled, log.sorted().len() as u64), (sent, sent, sent));
    });
}

#[test]
fn loom_a_host_kernel_sends_while_its_cycle_is_made() {
    explore("host kernel sends, its link becomes part of a cycle", 3, || {
        let (world, log) = (World::new(), Log::new());
        let target = world.kernel(Plan::new(&log));
        let outlet = Arc::new(Outlet::<Number>::new(1, Backpressure::Block, 1));
        let mut plan = Plan::new(&log);
        plan.host = true;
        plan.capacity = 1;
        plan.outlets = vec![("out".to_owned(), Arc::new(DeviceOutlet(outlet.clone())) as Arc<dyn AnyOutlet>)];
        let source = world.kernel(plan);
        let inlet: Arc<dyn Inlet<Number>> = target.clone();
        assert!(outlet.link(Arc::downgrade(&inlet), target.facts.id));
        let background = world.background();
        let function: crate::kernel::HostFunction<Number, Number> =
            Arc::new(|context: &mut Context<_, _>| context.send("out", number(1)).unwrap());
        let running = source.clone();
        let host = thread::spawn(move || running.run_host(&function));
        let members = [source as Arc<dyn AnyKernel>, target.clone()];
        members.iter().for_each(|member| assert!(member.clone().hold(None)));
        enter_cycle(&members);
        members.iter().for_each(|member| member.clone().let_go());
        host.join().unwrap();
        world.finish(background);
        assert_eq!(log.in_order(), [1]);
        // All of its places are free again: the source's one, the target's two.
        let cycle = lock(&target.mailbox).cycle.clone().unwrap();
        assert!((0..3).all(|_| cycle.try_inject()) && !cycle.try_inject());
    });
}
