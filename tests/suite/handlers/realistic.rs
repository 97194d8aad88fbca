//! Handlers as people write them, each against its twin in Rust: integers bit for bit, and floats bit for bit where
//! only + - * / and sqrt are used.

use super::started;
use crate::common::{LONG, runtime};
use crate::realistic::{
    Alert, Book, Fir, Fraud, GATHER, Gathered, Graph, History, KMeans, Line, MonteCarlo, Nearest, OrderBook,
    PageRank, Realistic, Sample, Trade, gather,
};
use ringwork::{RingKernel, Runtime, UnifiedBuffer};

/// The buffers of a handler's tables, in their order.
fn buffers<R: Realistic>(runtime: &Runtime, tables: &R::Tables) -> Vec<UnifiedBuffer<u32>> {
    let bound = R::bound(tables);
    bound.iter().map(|table| runtime.buffer(&table.words).unwrap()).collect()
}

/// The handler, with tables of single words bound.
fn kernel<R: Realistic>(buffers: &[UnifiedBuffer<u32>], tables: &R::Tables) -> RingKernel<R::In, R::Out> {
    let kernel = RingKernel::wgsl(R::NAME, R::TEXT);
    R::bound(tables)
        .iter()
        .zip(buffers)
        .fold(kernel, |kernel, (table, buffer)| kernel.bind(table.name, buffer))
}

#[test]
fn k_means_step() {
    // Two kernels linked: one assigns points by a table of centres, one instance per cluster gathers them.
    let runtime = runtime();
    let mut centres = KMeans::tables();
    let table = runtime.buffer(&centres).unwrap();
    let assign = RingKernel::<Sample, Nearest>::wgsl("assign", KMeans::TEXT).bind("centres", &table);
    let assign = started(&runtime, assign.output::<Sample>("assigned"));
    let samples = KMeans::messages(1000);
    for step in 0..2 {
        let second = RingKernel::<Sample, ()>::wgsl(format!("gather{step}"), GATHER);
        let second =
            started(&runtime, second.initial_state(Gathered::default()).instances(8).queue_capacity(64));
        if step == 0 {
            runtime.link(&assign.output::<Sample>("assigned").unwrap(), &second).unwrap();
        }
        let replies = assign.ask_many(samples.iter().copied(), LONG).unwrap();
        let (mut twin, mut assigned) = ([Gathered::default(); 8], Vec::new());
        for (sample, reply) in samples.iter().zip(&replies) {
            let nearest = KMeans::twin(*sample, &mut (), &centres, &mut assigned);
            assert_eq!(
                (reply.cluster, reply.distance.to_bits()),
                (nearest.cluster, nearest.distance.to_bits())
            );
        }
        assigned.iter().for_each(|sample| gather(*sample, &mut twin[sample.to as usize]));
        if step == 0 {
            let end = std::time::Instant::now() + LONG;
            while second.telemetry().handled < 1000 {
                assert!(std::time::Instant::now() < end);
                std::thread::yield_now();
            }
            assert_eq!(second.read_states::<Gathered>().unwrap(), twin);
        }
        // The host moves the centres for the next step.
        for (centre, own) in centres.iter_mut().zip(&twin).filter(|(_, own)| own.weight > 0.0) {
            *centre = [own.sum.x / own.weight, own.sum.y / own.weight];
        }
        table.write(0, &centres).unwrap();
    }
}

#[test]
fn fraud_detector() {
    let runtime = runtime();
    let tables = Fraud::tables();
    let buffers = buffers::<Fraud>(&runtime, &tables);
    let (accounts, field) = Fraud::INSTANCES.unwrap();
    let kernel = kernel::<Fraud>(&buffers, &tables).initial_state(History::default());
    let kernel = kernel.instances(accounts).instance_field(field).output::<Alert>("alerts");
    let kernel = started(&runtime, kernel.output_capacity(8192).queue_capacity(4096));
    let payments = Fraud::messages(6000);
    kernel.send_many(payments.iter().copied()).unwrap();

    let (mut twin, mut alerts) = (vec![History::default(); accounts as usize], Vec::new());
    for payment in &payments {
        Fraud::twin(*payment, &mut twin[Fraud::instance(payment)], &tables, &mut alerts);
    }
    assert!((100..5900).contains(&alerts.len()), "{} alerts: the test should see both cases", alerts.len());
    let out = kernel.output::<Alert>("alerts").unwrap();
    for alert in &alerts {
        assert_eq!(out.recv_timeout(LONG).unwrap(), *alert, "in the order of the payments");
    }
    let end = std::time::Instant::now() + LONG;
    while kernel.telemetry().pending > 0 {
        assert!(std::time::Instant::now() < end);
        std::thread::yield_now();
    }
    assert_eq!(out.try_recv().unwrap(), None);
    assert_eq!(kernel.read_states::<History>().unwrap(), twin);
    let after = Fraud::bound(&tables);
    assert_eq!(buffers[1].to_vec().unwrap(), after[1].words);
}

#[test]
fn page_rank_contributions() {
    let runtime = runtime();
    let mut graph = PageRank::tables();
    let buffers = buffers::<PageRank>(&runtime, &graph);
    let kernel = started(&runtime, kernel::<PageRank>(&buffers, &graph));
    let vertices = PageRank::messages(Graph::VERTICES);
    let mut ranks = vec![1.0 / Graph::VERTICES as f32; Graph::VERTICES];
    for _ in 0..5 {
        graph.share(&ranks);
        buffers[2].write(0, bytemuck::cast_slice(&graph.shares)).unwrap();
        let replies = kernel.ask_many(vertices.iter().copied(), LONG).unwrap();
        for (vertex, reply) in vertices.iter().zip(&replies) {
            let twin = PageRank::twin(*vertex, &mut (), &graph, &mut Vec::new());
            assert_eq!((reply.rank.to_bits(), reply.degree), (twin.rank.to_bits(), twin.degree));
            ranks[vertex.id as usize] = twin.rank;
        }
    }
    // Dead ends leak a little; the rest is there.
    let total: f32 = ranks.iter().sum();
    assert!((0.5..1.01).contains(&total), "{total}");
}

#[test]
fn order_book_matching() {
    let runtime = runtime();
    let kernel = kernel::<OrderBook>(&[], &()).initial_state(Book::default());
    let (output, most) = OrderBook::OUTPUT.unwrap();
    let kernel = started(&runtime, kernel.output_many::<Trade>(output, most).output_capacity(16_384));
    let orders = OrderBook::messages(2500);
    let replies = kernel.ask_many(orders.iter().copied(), LONG).unwrap();
    let (mut book, mut trades) = (Book::default(), Vec::new());
    for (order, reply) in orders.iter().zip(replies) {
        assert_eq!(reply, OrderBook::twin(*order, &mut book, &(), &mut trades), "{order:?}");
    }
    assert_eq!(kernel.read_state::<Book>().unwrap(), book);
    assert!(trades.len() > 1000, "{} trades: the test should see many", trades.len());
    let out = kernel.output::<Trade>(output).unwrap();
    assert!(trades.iter().all(|trade| out.recv_timeout(LONG).unwrap() == *trade));
    assert_eq!(out.try_recv().unwrap(), None);
}

#[test]
fn fir_filter() {
    let runtime = runtime();
    let taps = Fir::tables();
    let kernel = kernel::<Fir>(&buffers::<Fir>(&runtime, &taps), &taps).initial_state(Line::default());
    let kernel = started(&runtime, kernel);
    let signal = Fir::messages(3000);
    let filtered = kernel.ask_many(signal.iter().copied(), LONG).unwrap();
    let mut line = Line::default();
    for (value, reply) in signal.iter().zip(filtered) {
        let twin = Fir::twin(*value, &mut line, &taps, &mut Vec::new());
        assert_eq!(reply.x.to_bits(), twin.x.to_bits());
    }
}

#[test]
fn monte_carlo_with_xorshift() {
    let runtime = runtime();
    let kernel = started(&runtime, kernel::<MonteCarlo>(&[], &()));
    let trials = MonteCarlo::messages(80);
    let mut totals = (0u64, 0u64);
    for (trial, reply) in trials.iter().zip(kernel.ask_many(trials.iter().copied(), LONG).unwrap()) {
        let twin = MonteCarlo::twin(*trial, &mut (), &(), &mut Vec::new());
        assert_eq!((reply, reply.distance.to_bits()), (twin, twin.distance.to_bits()));
        totals.0 += u64::from(reply.inside);
        totals.1 += u64::from(trial.points);
    }
    let pi = 4.0 * totals.0 as f64 / totals.1 as f64;
    assert!((pi - std::f64::consts::PI).abs() < 0.1, "{pi}");
}
