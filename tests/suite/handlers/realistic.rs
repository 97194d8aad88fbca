//! Handlers as people write them, each against a twin in Rust: integers bit for bit, and floats bit for bit where
//! only + - * / and sqrt are used.

use super::{Random, started};
use crate::common::{LONG, runtime};
use ringwork::{RingKernel, Vec2, message};

message! {
    /// A point to be assigned to a cluster.
    pub struct Sample { pub at: Vec2, pub to: u32, pub weight: f32 }

    /// The nearest cluster.
    pub struct Nearest { pub cluster: u32, pub distance: f32 }

    /// What one cluster's instance keeps.
    pub struct Gathered { pub sum: Vec2, pub weight: f32, pub count: u32 }
}

#[test]
fn k_means_step() {
    // Two kernels linked: one assigns points by a table of centres, one instance per cluster gathers them.
    let assign = "@group(1) @binding(0) var<storage, read> centres: array<vec2<f32>>;
        fn on_message(m: Sample) -> Nearest {
            var best = Nearest(0u, 1e30);
            for (var i = 0u; i < arrayLength(&centres); i++) {
                let dx = m.at.x - centres[i].x;
                let dy = m.at.y - centres[i].y;
                let d = dx * dx + dy * dy;
                if d < best.distance { best = Nearest(i, d); }
            }
            emit_assigned(Sample(m.at, best.cluster, m.weight));
            best.distance = sqrt(best.distance);
            return best;
        }";
    let gather = "fn on_message(m: Sample, s: ptr<function, Gathered>) {
        (*s).sum += m.at * m.weight;
        (*s).weight += m.weight;
        (*s).count += 1u;
    }";
    let runtime = runtime();
    let mut random = Random(41);
    let mut centres: Vec<[f32; 2]> = (0..8).map(|_| [random.float(), random.float()]).collect();
    let table = runtime.buffer(&centres).unwrap();
    let assign = RingKernel::<Sample, Nearest>::wgsl("assign", assign).bind("centres", &table);
    let assign = started(&runtime, assign.output::<Sample>("assigned"));
    let samples: Vec<_> = (0..1000)
        .map(|_| Sample {
            at: Vec2::new(random.float(), random.float()),
            to: 0,
            weight: random.float().abs(),
        })
        .collect();
    for step in 0..2 {
        let gather = RingKernel::<Sample, ()>::wgsl(format!("gather{step}"), gather);
        let gather =
            started(&runtime, gather.initial_state(Gathered::default()).instances(8).queue_capacity(64));
        if step == 0 {
            runtime.link(&assign.output::<Sample>("assigned").unwrap(), &gather).unwrap();
        }
        let replies = assign.ask_many(samples.iter().copied(), LONG).unwrap();
        let mut twin = [Gathered::default(); 8];
        for (sample, reply) in samples.iter().zip(&replies) {
            let (mut cluster, mut distance) = (0, 1e30f32);
            for (i, centre) in centres.iter().enumerate() {
                let (dx, dy) = (sample.at.x - centre[0], sample.at.y - centre[1]);
                let d = dx * dx + dy * dy;
                if d < distance {
                    (cluster, distance) = (i, d);
                }
            }
            assert_eq!(
                (reply.cluster, reply.distance.to_bits()),
                (cluster as u32, distance.sqrt().to_bits())
            );
            let own = &mut twin[cluster];
            own.sum.x += sample.at.x * sample.weight;
            own.sum.y += sample.at.y * sample.weight;
            own.weight += sample.weight;
            own.count += 1;
        }
        if step == 0 {
            let end = std::time::Instant::now() + LONG;
            while gather.telemetry().handled < 1000 {
                assert!(std::time::Instant::now() < end);
                std::thread::yield_now();
            }
            assert_eq!(gather.read_states::<Gathered>().unwrap(), twin);
        }
        // The host moves the centres for the next step.
        for (centre, own) in centres.iter_mut().zip(&twin).filter(|(_, own)| own.count > 0) {
            *centre = [own.sum.x / own.weight, own.sum.y / own.weight];
        }
        table.write(0, &centres).unwrap();
    }
}

message! {
    /// A payment of an account.
    pub struct Payment { pub account: u32, pub amount: f32, pub country: u32, pub time: u32 }

    /// What is kept of an account.
    pub struct History { pub times: [u32; 8], pub next: u32, pub average: f32, pub country: u32 }

    /// A suspicious payment.
    pub struct Alert { pub account: u32, pub score: f32 }
}

#[test]
fn fraud_detector() {
    let text = "const WINDOW = 60u;
        @group(1) @binding(0) var<storage, read> risk: array<f32>;
        @group(1) @binding(1) var<storage, read_write> flagged: array<atomic<u32>>;
        fn recent(h: ptr<function, History>, now: u32) -> u32 {
            var n = 0u;
            for (var i = 0u; i < 8u; i++) {
                if (*h).times[i] != 0u && now - (*h).times[i] < WINDOW { n++; }
            }
            return n;
        }
        fn on_message(p: Payment, h: ptr<function, History>) {
            var score = risk[p.country];
            switch recent(h, p.time) {
                case 0u, 1u, 2u: {}
                case 3u, 4u: { score += 0.25; }
                default: { score += 0.5; }
            }
            if (*h).average > 0.0 && p.amount > 4.0 * (*h).average { score += 0.4; }
            if (*h).country != 0u && (*h).country != p.country { score += 0.2; }
            (*h).times[(*h).next % 8u] = p.time;
            (*h).next += 1u;
            (*h).average = (*h).average * 0.875 + p.amount * 0.125;
            (*h).country = p.country;
            if score >= 0.6 {
                atomicAdd(&flagged[p.country], 1u);
                emit_alerts(Alert(p.account, score));
            }
        }";
    let risk = [0.0f32, 0.05, 0.1, 0.3, 0.15];
    let runtime = runtime();
    let (table, flagged) = (runtime.buffer(&risk).unwrap(), runtime.buffer(&[0u32; 5]).unwrap());
    let accounts = 20u32;
    let kernel = RingKernel::<Payment, ()>::wgsl("fraud", text).initial_state(History::default());
    let kernel = kernel.instances(accounts).instance_field("account").output::<Alert>("alerts");
    let kernel =
        kernel.bind("risk", &table).bind("flagged", &flagged).output_capacity(8192).queue_capacity(4096);
    let kernel = started(&runtime, kernel);

    let (mut random, mut time) = (Random(3), 1000);
    let payments: Vec<_> = (0..6000)
        .map(|_| {
            time += random.below(4);
            let amount = random.float().abs() * if random.below(9) == 0 { 900.0 } else { 60.0 };
            let country = if random.below(4) == 0 { random.below(5) } else { 1 };
            Payment { account: random.below(accounts), amount, country, time }
        })
        .collect();
    kernel.send_many(payments.iter().copied()).unwrap();

    let (mut twin, mut twin_flagged) = (vec![History::default(); accounts as usize], [0u32; 5]);
    let mut alerts = Vec::new();
    for payment in &payments {
        let own = &mut twin[payment.account as usize];
        let mut score = risk[payment.country as usize];
        score += match own.times.iter().filter(|t| **t != 0 && payment.time - **t < 60).count() {
            0..=2 => 0.0,
            3 | 4 => 0.25,
            _ => 0.5,
        };
        if own.average > 0.0 && payment.amount > 4.0 * own.average {
            score += 0.4;
        }
        if own.country != 0 && own.country != payment.country {
            score += 0.2;
        }
        own.times[own.next as usize % 8] = payment.time;
        own.next += 1;
        own.average = own.average * 0.875 + payment.amount * 0.125;
        own.country = payment.country;
        if score >= 0.6 {
            twin_flagged[payment.country as usize] += 1;
            alerts.push(Alert { account: payment.account, score });
        }
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
    assert_eq!(flagged.to_vec().unwrap(), twin_flagged);
}

message! {
    /// A vertex to work on.
    pub struct Vertex { pub id: u32 }

    /// What flows into it.
    pub struct Rank { pub rank: f32, pub degree: u32 }
}

#[test]
fn page_rank_contributions() {
    // Edges in compressed sparse rows, both directions; ranks of one round are read, of the next written.
    let text = "@group(1) @binding(0) var<storage, read> starts: array<u32>;
        @group(1) @binding(1) var<storage, read> sources: array<u32>;
        @group(1) @binding(2) var<storage, read> shares: array<f32>;
        fn on_message(m: Vertex) -> Rank {
            var sum = 0.0;
            let end = starts[m.id + 1u];
            for (var e = starts[m.id]; e < end; e++) { sum += shares[sources[e]]; }
            return Rank(0.15 / f32(arrayLength(&shares)) + 0.85 * sum, end - starts[m.id]);
        }";
    let count = 300usize;
    let mut random = Random(8);
    let edges: Vec<(usize, usize)> =
        (0..count * 4).map(|_| (random.below(300) as usize, random.below(300) as usize)).collect();
    let (mut starts, mut sources, mut out_degree) = (vec![0u32], Vec::new(), vec![0u32; count]);
    edges.iter().for_each(|(from, _)| out_degree[*from] += 1);
    for vertex in 0..count {
        sources.extend(edges.iter().filter(|(_, to)| *to == vertex).map(|(from, _)| *from as u32));
        starts.push(sources.len() as u32);
    }
    let runtime = runtime();
    let share = |ranks: &[f32]| -> Vec<f32> {
        ranks.iter().zip(&out_degree).map(|(rank, degree)| rank / (*degree).max(1) as f32).collect()
    };
    let mut ranks = vec![1.0 / count as f32; count];
    let shares = runtime.buffer(&share(&ranks)).unwrap();
    let kernel = RingKernel::<Vertex, Rank>::wgsl("rank", text)
        .bind("starts", &runtime.buffer(&starts).unwrap())
        .bind("sources", &runtime.buffer(&sources).unwrap())
        .bind("shares", &shares);
    let kernel = started(&runtime, kernel);
    for _ in 0..5 {
        let values = share(&ranks);
        shares.write(0, &values).unwrap();
        let replies = kernel.ask_many((0..count as u32).map(|id| Vertex { id }), LONG).unwrap();
        for (vertex, reply) in replies.iter().enumerate() {
            let own = &sources[starts[vertex] as usize..starts[vertex + 1] as usize];
            let sum = own.iter().fold(0.0f32, |sum, from| sum + values[*from as usize]);
            let rank = 0.15 / count as f32 + 0.85 * sum;
            assert_eq!((reply.rank.to_bits(), reply.degree), (rank.to_bits(), own.len() as u32));
            ranks[vertex] = rank;
        }
    }
    // Dead ends leak a little; the rest is there.
    let total: f32 = ranks.iter().sum();
    assert!((0.5..1.01).contains(&total), "{total}");
}

message! {
    /// An order: side 0 buys, 1 sells.
    pub struct Order { pub id: u32, pub side: u32, pub price: u32, pub quantity: u32 }

    /// Up to 16 resting orders of each side, best first.
    pub struct Book { pub lens: [u32; 2], pub ids: [[u32; 16]; 2], pub prices: [[u32; 16]; 2], pub left: [[u32; 16]; 2] }

    /// Part of an order was filled.
    pub struct Trade { pub taker: u32, pub maker: u32, pub price: u32, pub quantity: u32 }

    /// What became of an order.
    pub struct Placed { pub filled: u32, pub resting: u32, pub trades: u32 }
}

/// The same in Rust.
fn place(book: &mut Book, order: Order, trades: &mut Vec<Trade>) -> Placed {
    let (own, other) = (order.side as usize, 1 - order.side as usize);
    let mut left = order.quantity;
    let before = trades.len();
    while left > 0 && book.lens[other] > 0 && trades.len() - before < 4 {
        let price = book.prices[other][0];
        if (own == 0 && price > order.price) || (own == 1 && price < order.price) {
            break;
        }
        let quantity = left.min(book.left[other][0]);
        trades.push(Trade { taker: order.id, maker: book.ids[other][0], price, quantity });
        left -= quantity;
        book.left[other][0] -= quantity;
        if book.left[other][0] == 0 {
            let len = book.lens[other] as usize;
            for list in [&mut book.ids[other], &mut book.prices[other], &mut book.left[other]] {
                list.copy_within(1..len, 0);
            }
            book.lens[other] -= 1;
        }
    }
    let filled = order.quantity - left;
    let len = book.lens[own] as usize;
    let mut resting = 0;
    if left > 0 && len < 16 && trades.len() - before < 4 {
        let better = |price: u32| if own == 0 { price >= order.price } else { price <= order.price };
        let at = (0..len).find(|i| !better(book.prices[own][*i])).unwrap_or(len);
        for (list, value) in [
            (&mut book.ids[own], order.id),
            (&mut book.prices[own], order.price),
            (&mut book.left[own], left),
        ] {
            list.copy_within(at..len, at + 1);
            list[at] = value;
        }
        book.lens[own] += 1;
        resting = left;
    }
    Placed { filled, resting, trades: (trades.len() - before) as u32 }
}

#[test]
fn order_book_matching() {
    let text = "fn on_message(m: Order, b: ptr<function, Book>) -> Placed {
        let own = m.side;
        let other = 1u - m.side;
        var left = m.quantity;
        var trades = 0u;
        while left > 0u && (*b).lens[other] > 0u && trades < 4u {
            let price = (*b).prices[other][0];
            if (own == 0u && price > m.price) || (own == 1u && price < m.price) { break; }
            let quantity = min(left, (*b).left[other][0]);
            emit_trades(Trade(m.id, (*b).ids[other][0], price, quantity));
            trades += 1u;
            left -= quantity;
            (*b).left[other][0] -= quantity;
            if (*b).left[other][0] == 0u {
                (*b).lens[other] -= 1u;
                for (var i = 0u; i < (*b).lens[other]; i++) {
                    (*b).ids[other][i] = (*b).ids[other][i + 1u];
                    (*b).prices[other][i] = (*b).prices[other][i + 1u];
                    (*b).left[other][i] = (*b).left[other][i + 1u];
                }
            }
        }
        let filled = m.quantity - left;
        let len = (*b).lens[own];
        var resting = 0u;
        if left > 0u && len < 16u && trades < 4u {
            var at = 0u;
            loop {
                if at == len { break; }
                let price = (*b).prices[own][at];
                if (own == 0u && price < m.price) || (own == 1u && price > m.price) { break; }
                at += 1u;
            }
            for (var i = len; i > at; i--) {
                (*b).ids[own][i] = (*b).ids[own][i - 1u];
                (*b).prices[own][i] = (*b).prices[own][i - 1u];
                (*b).left[own][i] = (*b).left[own][i - 1u];
            }
            (*b).ids[own][at] = m.id;
            (*b).prices[own][at] = m.price;
            (*b).left[own][at] = left;
            (*b).lens[own] += 1u;
            resting = left;
        }
        return Placed(filled, resting, trades);
    }";
    let runtime = runtime();
    let kernel = RingKernel::<Order, Placed>::wgsl("book", text).initial_state(Book::default());
    let kernel = started(&runtime, kernel.output_many::<Trade>("trades", 4).output_capacity(16_384));
    let mut random = Random(29);
    let orders: Vec<_> = (0..2500)
        .map(|id| Order {
            id,
            side: random.below(2),
            price: 100 + random.below(20),
            quantity: 1 + random.below(50),
        })
        .collect();
    let replies = kernel.ask_many(orders.iter().copied(), LONG).unwrap();
    let (mut book, mut trades) = (Book::default(), Vec::new());
    for (order, reply) in orders.iter().zip(replies) {
        assert_eq!(reply, place(&mut book, *order, &mut trades), "{order:?}");
    }
    // Beyond the lens the lists keep what was shifted out, which is nobody's business.
    let state = kernel.read_state::<Book>().unwrap();
    assert_eq!(state.lens, book.lens);
    for side in 0..2 {
        let len = book.lens[side] as usize;
        assert_eq!(state.prices[side][..len], book.prices[side][..len]);
        assert_eq!(state.ids[side][..len], book.ids[side][..len]);
        assert_eq!(state.left[side][..len], book.left[side][..len]);
    }
    assert!(trades.len() > 1000, "{} trades: the test should see many", trades.len());
    let out = kernel.output::<Trade>("trades").unwrap();
    assert!(trades.iter().all(|trade| out.recv_timeout(LONG).unwrap() == *trade));
    assert_eq!(out.try_recv().unwrap(), None);
}

message! {
    /// One value of a signal.
    pub struct Value { pub x: f32 }

    /// The filter's memory.
    pub struct Line { pub past: [f32; 16], pub at: u32 }
}

#[test]
fn fir_filter() {
    let text = "const N = 16u;
        @group(1) @binding(0) var<storage, read> taps: array<f32, 16>;
        fn on_message(m: Value, line: ptr<function, Line>) -> Value {
            (*line).past[(*line).at] = m.x;
            var y = 0.0;
            for (var k = 0u; k < N; k++) { y += taps[k] * (*line).past[((*line).at + N - k) % N]; }
            (*line).at = ((*line).at + 1u) % N;
            return Value(y);
        }";
    let runtime = runtime();
    let mut random = Random(11);
    let taps: Vec<f32> = (0..16).map(|_| random.float() * 0.1).collect();
    let table = runtime.buffer(&taps).unwrap();
    let kernel =
        RingKernel::<Value, Value>::wgsl("fir", text).initial_state(Line::default()).bind("taps", &table);
    let kernel = started(&runtime, kernel);
    let signal: Vec<_> = (0..3000).map(|_| Value { x: random.float() }).collect();
    let filtered = kernel.ask_many(signal.iter().copied(), LONG).unwrap();
    let mut past = std::collections::VecDeque::from([0.0f32; 16]);
    for (value, reply) in signal.iter().zip(filtered) {
        past.push_front(value.x);
        past.pop_back();
        let twin = taps.iter().zip(&past).fold(0.0f32, |y, (tap, x)| y + tap * x);
        assert_eq!(reply.x.to_bits(), twin.to_bits());
    }
}

message! {
    /// A seed, and how many points to try.
    pub struct Trial { pub seed: u32, pub points: u32 }

    /// How many were inside, what their distances add up to, and the generator's end.
    pub struct Hits { pub inside: u32, pub distance: f32, pub seed: u32 }
}

#[test]
fn monte_carlo_with_xorshift() {
    let text = "var<private> seed: u32;
        fn next() -> u32 {
            seed ^= seed << 13u;
            seed ^= seed >> 17u;
            seed ^= seed << 5u;
            return seed;
        }
        fn unit() -> f32 { return f32(next() >> 8u) / 8388608.0 - 1.0; }
        fn on_message(m: Trial) -> Hits {
            seed = m.seed;
            var hits: Hits;
            for (var i = 0u; i < m.points; i++) {
                let x = unit();
                let y = unit();
                let d = x * x + y * y;
                if d <= 1.0 { hits.inside++; hits.distance += sqrt(d); }
            }
            hits.seed = seed;
            return hits;
        }";
    let runtime = runtime();
    let kernel = started(&runtime, RingKernel::<Trial, Hits>::wgsl("pi", text));
    let trials: Vec<_> = (1..=80).map(|seed| Trial { seed: seed * 7919, points: 20 * (seed % 11) }).collect();
    let mut totals = (0u64, 0u64);
    for (trial, reply) in trials.iter().zip(kernel.ask_many(trials.iter().copied(), LONG).unwrap()) {
        let (mut random, mut twin) = (Random(trial.seed), Hits::default());
        for _ in 0..trial.points {
            let (x, y) = (random.float(), random.float());
            let d = x * x + y * y;
            if d <= 1.0 {
                twin.inside += 1;
                twin.distance += d.sqrt();
            }
        }
        twin.seed = random.0;
        assert_eq!((reply, reply.distance.to_bits()), (twin, twin.distance.to_bits()));
        totals.0 += u64::from(reply.inside);
        totals.1 += u64::from(trial.points);
    }
    let pi = 4.0 * totals.0 as f64 / totals.1 as f64;
    assert!((pi - std::f64::consts::PI).abs() < 0.1, "{pi}");
}
