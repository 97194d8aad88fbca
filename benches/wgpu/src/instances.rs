//! 100,000 instances of one kernel with a state of 16 bytes each: the host chains the messages of each instance in
//! their order, and one invocation for each instance that has messages walks its chain.

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
const NONE: u32 = u32::MAX;

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
struct Order {
    to: u32,
    amount: u32,
    memo: u32,
    stamp: u32,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
struct Receipt {
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

const HANDLER: &str = "
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

/// What has a variable length comes last, so that all parts of a round lie one behind the other.
const DRIVER: &str = "
struct Round { touched: vec4<u32>, orders: array<Order, 65536>, next: array<u32, 65536>, heads: array<u32> }
@group(0) @binding(0) var<storage, read> round: Round;
@group(0) @binding(1) var<storage, read_write> receipts: array<Receipt, 65536>;
@group(0) @binding(2) var<storage, read_write> accounts: array<Account, 100000>;
@compute @workgroup_size(64)
fn walk(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= round.touched.x) { return; }
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
const HEADER: usize = 16;

/// The chains of a round, built from a table of each instance's last message.
struct Chains {
    /// By instance: `base` plus the number of its last message; less than `base` if it has none in this round, so that
    /// nothing has to be cleared between rounds.
    last: Vec<u32>,
    base: u32,
    /// By message: the next one for the same instance, or [`NONE`].
    next: Vec<u32>,
    /// The first message of each instance that has any.
    heads: Vec<u32>,
}

impl Chains {
    fn new() -> Self {
        Self { last: vec![0; INSTANCES], base: 1, next: vec![NONE; MESSAGES], heads: vec![0; MESSAGES] }
    }

    /// Chains the orders; returns how many instances have any.
    fn build(&mut self, orders: &[Order]) -> usize {
        if self.base > u32::MAX - MESSAGES as u32 {
            self.last.fill(0);
            self.base = 1;
        }
        let mut touched = 0;
        for (i, order) in orders.iter().enumerate() {
            let last = &mut self.last[order.to as usize];
            let before = last.wrapping_sub(self.base) as usize;
            *last = self.base + i as u32;
            self.next[i] = NONE;
            if before < i {
                self.next[before] = i as u32;
            } else {
                self.heads[touched] = i as u32;
                touched += 1;
            }
        }
        self.base += orders.len() as u32;
        touched
    }
}

struct Instances {
    name: String,
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    lane: Lane,
    wait: Wait,
    chains: Chains,
    accounts: Vec<Account>,
    random: u64,
}

pub fn cases(gpu: &Arc<Gpu>) -> Vec<Box<dyn Case>> {
    let mut all: Vec<Box<dyn Case>> = vec![];
    for &way in Way::all(gpu) {
        for wait in [Wait::Sleep, Wait::Spin] {
            let pipeline = gpu.pipeline([HANDLER, DRIVER].concat(), "walk");
            let input = HEADER + MESSAGES * (size_of::<Order>() + 2 * size_of::<u32>());
            let lane = Lane::new(gpu, way, input, MESSAGES * size_of::<Receipt>());
            let states = gpu.buffer((INSTANCES * size_of::<Account>()) as u64, Usage::STORAGE, false);
            let group = gpu.group(&pipeline, &[&lane.input, &lane.output, &states]);
            all.push(Box::new(Instances {
                name: format!("chains {way:?}, {wait:?}"),
                gpu: gpu.clone(),
                pipeline,
                group,
                lane,
                wait,
                chains: Chains::new(),
                accounts: vec![Account::default(); INSTANCES],
                random: 0x9E37_79B9_7F4A_7C15,
            }));
        }
    }
    all
}

impl Instances {
    fn orders(&mut self, count: usize) -> Vec<Order> {
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
}

impl Case for Instances {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&mut self, messages: usize) -> Result<Duration, String> {
        assert_eq!(messages, MESSAGES, "the buffers are made for a full round");
        let orders = self.orders(messages);
        let mut receipts = vec![Receipt::default(); messages];
        let start = Instant::now();
        let touched = self.chains.build(&orders);
        let mut encoder = self.gpu.encoder();
        let header = [touched as u32, 0, 0, 0];
        let parts: [&[u8]; 4] = [
            bytemuck::bytes_of(&header),
            bytemuck::cast_slice(&orders),
            bytemuck::cast_slice(&self.chains.next),
            bytemuck::cast_slice(&self.chains.heads[..touched]),
        ];
        self.lane.send(&self.gpu, &mut encoder, &parts);
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.group, &[]);
            pass.dispatch_workgroups(touched.div_ceil(64) as u32, 1, 1);
        }
        self.lane.fetch(&mut encoder, size_of_val(&receipts[..]));
        let submission = self.gpu.queue.submit([encoder.finish()]);
        self.gpu.wait(submission, self.wait);
        self.lane.receive(bytemuck::cast_slice_mut(&mut receipts));
        let time = start.elapsed();
        let accounts = &mut self.accounts;
        job::check(
            &receipts,
            orders.iter().map(|order| on_message(order, &mut accounts[order.to as usize])),
        )?;
        Ok(time)
    }
}
