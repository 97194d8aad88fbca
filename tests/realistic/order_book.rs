//! A matching engine: orders meet the resting orders of the other side, best price first.

use super::{Random, Realistic, Table};
use ringwork::message;

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

/// Matches orders, at most four trades for each.
pub struct OrderBook;

impl Realistic for OrderBook {
    const NAME: &'static str = "order book";
    const TEXT: &'static str = "fn on_message(m: Order, b: ptr<function, Book>) -> Placed {
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
    const OUTPUT: Option<(&'static str, u32)> = Some(("trades", 4));

    type In = Order;
    type Out = Placed;
    type State = Book;
    type Emitted = Trade;
    type Tables = ();

    fn messages(count: usize) -> Vec<Order> {
        let mut random = Random(29);
        let mut order = |id| Order {
            id,
            side: random.below(2),
            price: 100 + random.below(20),
            quantity: 1 + random.below(50),
        };
        (0..count as u32).map(&mut order).collect()
    }

    fn tables() {}

    fn bound(_: &()) -> Vec<Table> {
        Vec::new()
    }

    fn twin(m: Order, b: &mut Book, _: &(), emitted: &mut Vec<Trade>) -> Placed {
        let (own, other) = (m.side.min(1) as usize, 1u32.wrapping_sub(m.side).min(1) as usize);
        let mut left = m.quantity;
        let mut trades = 0;
        while left > 0 && b.lens[other] > 0 && trades < 4 {
            let price = b.prices[other][0];
            if (own == 0 && price > m.price) || (own == 1 && price < m.price) {
                break;
            }
            let quantity = left.min(b.left[other][0]);
            emitted.push(Trade { taker: m.id, maker: b.ids[other][0], price, quantity });
            trades += 1;
            left -= quantity;
            b.left[other][0] -= quantity;
            if b.left[other][0] == 0 {
                b.lens[other] -= 1;
                let len = b.lens[other] as usize;
                for list in [&mut b.ids[other], &mut b.prices[other], &mut b.left[other]] {
                    list.copy_within(1..len + 1, 0);
                }
            }
        }
        let filled = m.quantity - left;
        let len = b.lens[own] as usize;
        let mut resting = 0;
        if left > 0 && len < 16 && trades < 4 {
            let prices = &b.prices[own][..len];
            let worse = |price: &u32| if own == 0 { *price < m.price } else { *price > m.price };
            let at = prices.iter().position(worse).unwrap_or(len);
            let lists = [&mut b.ids[own], &mut b.prices[own], &mut b.left[own]];
            for (list, value) in lists.into_iter().zip([m.id, m.price, left]) {
                list.copy_within(at..len, at + 1);
                list[at] = value;
            }
            b.lens[own] += 1;
            resting = left;
        }
        Placed { filled, resting, trades }
    }
}
