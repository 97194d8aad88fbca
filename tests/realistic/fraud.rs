//! A fraud detector: an instance for each account remembers its last payments and scores the next one.

use super::{Random, Realistic, Table, at};
use ringwork::message;
use std::sync::atomic::{AtomicU32, Ordering};

message! {
    /// A payment of an account.
    pub struct Payment { pub account: u32, pub amount: f32, pub country: u32, pub time: u32 }

    /// What is kept of an account.
    pub struct History { pub times: [u32; 8], pub next: u32, pub average: f32, pub country: u32 }

    /// A suspicious payment.
    pub struct Alert { pub account: u32, pub score: f32 }
}

/// Scores payments by their number, size and country.
pub struct Fraud;

/// The risk of each country, and how often it was flagged.
pub struct Countries {
    pub risk: [f32; 5],
    pub flagged: [AtomicU32; 5],
}

impl Realistic for Fraud {
    const NAME: &'static str = "fraud";
    const TEXT: &'static str = "const WINDOW = 60u;
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
    const OUTPUT: Option<(&'static str, u32)> = Some(("alerts", 1));
    const INSTANCES: Option<(u32, &'static str)> = Some((20, "account"));

    type In = Payment;
    type Out = ();
    type State = History;
    type Emitted = Alert;
    type Tables = Countries;

    fn messages(count: usize) -> Vec<Payment> {
        let (mut random, mut time) = (Random(3), 1000);
        let mut payment = || {
            time += random.below(4);
            let amount = random.float().abs() * if random.below(9) == 0 { 900.0 } else { 60.0 };
            // Countries 5 and 6 are not in the tables: the last one's risk is theirs.
            let country = if random.below(4) == 0 { random.below(7) } else { 1 };
            Payment { account: random.below(20), amount, country, time }
        };
        (0..count).map(|_| payment()).collect()
    }

    fn tables() -> Countries {
        Countries { risk: [0.0, 0.05, 0.1, 0.3, 0.15], flagged: [0; 5].map(AtomicU32::new) }
    }

    fn bound(tables: &Countries) -> Vec<Table> {
        let flagged = tables.flagged.each_ref().map(|count| count.load(Ordering::Relaxed));
        vec![Table::new("risk", &tables.risk), Table::new("flagged", &flagged)]
    }

    fn instance(payment: &Payment) -> usize {
        payment.account as usize
    }

    fn twin(p: Payment, h: &mut History, tables: &Countries, emitted: &mut Vec<Alert>) {
        let mut score = at(&tables.risk, p.country);
        score += match h.times.iter().filter(|t| **t != 0 && p.time.wrapping_sub(**t) < 60).count() {
            0..=2 => 0.0,
            3 | 4 => 0.25,
            _ => 0.5,
        };
        if h.average > 0.0 && p.amount > 4.0 * h.average {
            score += 0.4;
        }
        if h.country != 0 && h.country != p.country {
            score += 0.2;
        }
        h.times[h.next as usize % 8] = p.time;
        h.next = h.next.wrapping_add(1);
        h.average = h.average * 0.875 + p.amount * 0.125;
        h.country = p.country;
        if score >= 0.6 {
            let last = tables.flagged.len() - 1;
            tables.flagged[(p.country as usize).min(last)].fetch_add(1, Ordering::Relaxed);
            emitted.push(Alert { account: p.account, score });
        }
    }
}
