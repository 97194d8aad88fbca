//! 100,000 instances of one kernel with a state of 16 bytes each: the host chains the messages of each instance in
//! their order, and one invocation for each instance that has messages walks its chain.

use crate::chains::Chains;
use crate::gpu::{Gpu, Wait};
use crate::harness::Case;
use crate::job;
use crate::lane::{Lane, Way};
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wgpu::BufferUsages as Usage;

pub const INSTANCES: usize = 100_000;
/// Messages of a round.
pub const MESSAGES: usize = 65_536;

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
pub struct Order {
    to: u32,
    amount: u32,
    memo: u32,
    stamp: u32,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
pub struct Receipt {
    balance: u32,
    count: u32,
    hash: u32,
    stamp: u32,
}

#[derive(Clone, Copy, Default)]
struct Account {
    balance: u32,
    count: u32,
    hash: u32,
    largest: u32,
}

pub const HANDLER: &str = "
struct Order { to: u32, amount: u32, memo: u32, stamp: u32 }
struct Receipt { balance: u32, count: u32, hash: u32, stamp: u32 }
struct Account { balance: u32, count: u32, hash: u32, largest: u32 }
fn on_message(m: Order, s: ptr<function, Account>) -> Receipt {
    (*s).balance += m.amount;
    (*s).count += 1u;
    (*s).hash = ((*s).hash ^ m.memo) * 0x9E3779B1u + m.stamp;
    (*s).largest = max((*s).largest, m.amount);
    return Receipt((*s).balance, (*s).count, (*s).hash ^ (*s).largest, m.stamp);
}
";

/// [`HANDLER`] in Rust.
fn on_message(m: &Order, s: &mut Account) -> Receipt {
    s.balance = s.balance.wrapping_add(m.amount);
    s.count += 1;
    s.hash = (s.hash ^ m.memo).wrapping_mul(0x9E37_79B1).wrapping_add(m.stamp);
    s.largest = s.largest.max(m.amount);
    Receipt { balance: s.balance, count: s.count, hash: s.hash ^ s.largest, stamp: m.stamp }
}

/// What has a variable length comes last, so that all parts of a round lie one behind the other. `PART` is declared in
/// front.
const DRIVER: &str = "
struct Round { chains: vec4<u32>, orders: array<Order, PART>, next: array<u32, PART>, heads: array<u32> }
@group(0) @binding(0) var<storage, read> round: Round;
@group(0) @binding(1) var<storage, read_write> receipts: array<Receipt, PART>;
@group(0) @binding(2) var<storage, read_write> accounts: array<Account>;
@compute @workgroup_size(64)
fn walk(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= round.chains.x) { return; }
    var i = round.heads[id.x];
    let instance = round.orders[i].to;
    var state = accounts[instance];
    while (i != 0xffffffffu) {
        receipts[i] = on_message(round.orders[i], &state);
        i = round.next[i];
    }
    accounts[instance] = state;
}
";
const WORKGROUP: usize = 64;
const HEADER: usize = 16;

struct Slot {
    lane: Lane,
    group: wgpu::BindGroup,
    flying: Option<(wgpu::SubmissionIndex, std::ops::Range<usize>)>,
}

struct Instances {
    name: String,
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    /// As many as can be in flight.
    slots: Vec<Slot>,
    /// Messages of a submission.
    part: usize,
    chains: Chains,
    /// Chains of about one length beside each other, or in the order of their first messages.
    sorted: bool,
    orders: Orders,
}

pub fn cases(gpu: &Arc<Gpu>) -> Vec<Box<dyn Case>> {
    let best = Way::of(gpu);
    let mut all: Vec<Box<dyn Case>> = vec![Box::new(Instances::new(gpu, best, 1, false))];
    all.extend(Way::all(gpu).iter().map(|&way| Box::new(Instances::new(gpu, way, 1, true)) as Box<dyn Case>));
    all.extend([2, 4].map(|parts| Box::new(Instances::new(gpu, best, parts, true)) as Box<dyn Case>));
    all
}

impl Instances {
    fn new(gpu: &Arc<Gpu>, way: Way, parts: usize, sorted: bool) -> Self {
        let part = MESSAGES / parts;
        let source = [&format!("const PART = {part}u;"), HANDLER, DRIVER].concat();
        let pipeline = gpu.pipeline(source, "walk");
        let states = gpu.buffer((INSTANCES * size_of::<Account>()) as u64, Usage::STORAGE, false);
        let slot = |_| {
            let input = HEADER + part * (size_of::<Order>() + 2 * size_of::<u32>());
            let lane = Lane::new(gpu, way, input, part * size_of::<Receipt>());
            let group = gpu.group(&pipeline, &[&lane.input, &lane.output, &states]);
            Slot { lane, group, flying: None }
        };
        let slots = (0..parts.min(2)).map(slot).collect();
        let order = if sorted { "longest chains first" } else { "chains as they come" };
        let parts = if parts == 1 { "at once".into() } else { format!("in {parts} parts") };
        Self {
            name: format!("{order}, {parts}, {way}"),
            gpu: gpu.clone(),
            pipeline,
            slots,
            part,
            chains: Chains::new(INSTANCES, part),
            sorted,
            orders: Orders::new(),
        }
    }

    /// Chains the orders of a part while the device walks the part before, and puts the receipts in their places.
    fn run(&mut self, orders: &[Order], receipts: &mut [Receipt]) {
        let depth = self.slots.len();
        let parts = orders.len() / self.part;
        for turn in 0..parts + depth {
            let range = turn * self.part..(turn + 1) * self.part;
            if turn < parts {
                self.chains.build(orders[range.clone()].iter().map(|order| order.to), self.sorted);
            }
            let slot = &mut self.slots[turn % depth];
            if let Some((submission, range)) = slot.flying.take() {
                self.gpu.wait(submission, Wait::Sleep);
                slot.lane.receive(bytemuck::cast_slice_mut(&mut receipts[range]));
            }
            if turn < parts {
                self.submit(turn % depth, &orders[range.clone()], range);
            }
        }
    }

    fn submit(&mut self, slot: usize, orders: &[Order], range: std::ops::Range<usize>) {
        let Self { gpu, chains, .. } = self;
        let slot = &mut self.slots[slot];
        let count = chains.heads.len();
        let header = [count as u32, 0, 0, 0];
        let parts: [&[u8]; 4] = [
            bytemuck::bytes_of(&header),
            bytemuck::cast_slice(orders),
            bytemuck::cast_slice(&chains.next),
            bytemuck::cast_slice(&chains.heads),
        ];
        slot.lane.send(gpu, &parts);
        let mut encoder = gpu.encoder();
        slot.lane.bring(&mut encoder, parts.iter().map(|part| part.len()).sum());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &slot.group, &[]);
            pass.dispatch_workgroups(count.div_ceil(WORKGROUP) as u32, 1, 1);
        }
        slot.lane.fetch(&mut encoder, range.len() * size_of::<Receipt>());
        slot.flying = Some((gpu.queue.submit([encoder.finish()]), range));
    }
}

impl Case for Instances {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&mut self, messages: usize) -> Result<Duration, String> {
        assert_eq!(messages % self.part, 0, "only whole parts are sent");
        let orders = self.orders.next(messages);
        let mut receipts = vec![Receipt::default(); messages];
        let start = Instant::now();
        self.run(&orders, &mut receipts);
        let time = start.elapsed();
        job::check(&receipts, self.orders.wanted(&orders).into_iter())?;
        Ok(time)
    }
}

/// Orders at random, and what the accounts have been told of them.
pub struct Orders {
    accounts: Vec<Account>,
    random: u64,
}

impl Orders {
    pub fn new() -> Self {
        Self { accounts: vec![Account::default(); INSTANCES], random: 0x9E37_79B9_7F4A_7C15 }
    }

    pub fn next(&mut self, count: usize) -> Vec<Order> {
        let order = |_| {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let (high, low) = ((self.random >> 32) as u32, self.random as u32);
            let to = ((high as u64 * INSTANCES as u64) >> 32) as u32;
            Order { to, amount: low >> 20, memo: low, stamp: high }
        };
        (0..count).map(order).collect()
    }

    /// The receipts of orders that have just been made.
    pub fn wanted(&mut self, orders: &[Order]) -> Vec<Receipt> {
        let accounts = &mut self.accounts;
        orders.iter().map(|order| on_message(order, &mut accounts[order.to as usize])).collect()
    }
}
