//! Kernels with a state that depends on the order of all that they have seen, and plain loops that say what they say.

use super::Item;

/// A kernel with instances, or a serial one: what it has seen depends on the order. Faults at some numbers.
pub(super) const KEEP: &str = "
    fn on_message(m: Item, s: ptr<function, Seen>) {
        if m.number % 11u == 10u { emit_out(m); emit_out(m); emit_out(m); }
        (*s).count += 1u;
        (*s).sum = (*s).sum * 31u + m.number * 7u + m.hops + m.seen;
        emit_out(Item(m.number, m.hops + 1u, (m.to + 1u) % 6u, (*s).sum));
    }";
/// The same at the end of a chain.
pub(super) const LAST: &str = "
    fn on_message(m: Item, s: ptr<function, Seen>) -> Item {
        (*s).count += 1u;
        (*s).sum = (*s).sum * 31u + m.number * 7u + m.hops + m.seen;
        return Item(m.number, m.hops, m.to, (*s).sum);
    }";

/// What [`KEEP`] makes of these, if it has so many instances, or is serial; a fault puts a state back.
pub(super) fn kept(items: Vec<Item>, instances: Option<u32>) -> Vec<Item> {
    let mut states = vec![0u32; instances.unwrap_or(1) as usize];
    let step = |m: Item| {
        let sum = states.get_mut(if instances.is_some() { m.to as usize } else { 0 })?;
        if m.number % 11 == 10 {
            *sum = 0;
            return None;
        }
        *sum = folded(*sum, m);
        Some(Item { number: m.number, hops: m.hops + 1, to: (m.to + 1) % 6, seen: *sum })
    };
    items.into_iter().filter_map(step).collect()
}

/// … and [`LAST`].
pub(super) fn at_the_end(items: Vec<Item>, instances: u32) -> Vec<Item> {
    let mut states = vec![0u32; instances as usize];
    let step = |m: Item| {
        let sum = states.get_mut(m.to as usize)?;
        *sum = folded(*sum, m);
        Some(Item { seen: *sum, ..m })
    };
    items.into_iter().filter_map(step).collect()
}

fn folded(sum: u32, m: Item) -> u32 {
    sum.wrapping_mul(31).wrapping_add(m.number.wrapping_mul(7)).wrapping_add(m.hops).wrapping_add(m.seen)
}
