//! The CPU backend's slots, and the rings made of them.
//!
//! A slot is a 16-byte header and the message's bytes, padded to 16. A ring is a power-of-two array of slots with
//! free-running u32 indices; here it is host memory owned by one port, so both indices are plain integers.

use crate::message::Token;

/// The first 16 bytes of every slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct SlotHeader {
    /// Names the message this slot holds, or the one it came from.
    pub token: Token,
    /// One of the `KIND_` constants.
    pub kind: u32,
    /// Bytes of payload; for [`KIND_FAULT`], the fault's code.
    pub len: u32,
}

const _: () = assert!(size_of::<SlotHeader>() == 16 && align_of::<SlotHeader>() <= 16);

/// A message on its way in.
pub(crate) const KIND_MESSAGE: u32 = 0;
/// A message was handled; the payload is its reply (none for a handler that does not reply).
pub(crate) const KIND_REPLY: u32 = 1;
/// A message faulted; `len` is the code.
pub(crate) const KIND_FAULT: u32 = 2;
/// A value for output `kind - KIND_EMIT`; comes before the message's own slot.
pub(crate) const KIND_EMIT: u32 = 16;

/// Bytes of a slot for payloads of up to `payload` bytes.
pub(crate) fn slot_size(payload: u32) -> u32 {
    size_of::<SlotHeader>() as u32 + payload.next_multiple_of(16)
}

/// A ring of slots in host memory.
pub(crate) struct SlotRing {
    /// 16-byte units, so that every payload is aligned for any message type; allocated by the first push, since
    /// many kernels never need their rings.
    storage: Box<[u128]>,
    /// Units per slot, header included.
    units: usize,
    mask: u32,
    /// Free-running index of the next slot to take.
    head: u32,
    /// Free-running index of the next slot to fill.
    tail: u32,
}

impl SlotRing {
    /// A ring for at least `capacity` slots of up to `payload` bytes.
    pub(crate) fn new(capacity: u32, payload: u32) -> Self {
        let slots = capacity.max(1).next_power_of_two();
        let units = slot_size(payload) as usize / 16;
        Self { storage: Box::default(), units, mask: slots - 1, head: 0, tail: 0 }
    }

    /// … whose indices begin at this one.
    #[cfg(all(test, feature = "jit"))]
    pub(crate) fn beginning_at(index: u32, capacity: u32, payload: u32) -> Self {
        Self { head: index, tail: index, ..Self::new(capacity, payload) }
    }

    /// Slots filled and not yet taken.
    pub(crate) fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head) as usize
    }

    /// Slots that can be filled now.
    pub(crate) fn free(&self) -> usize {
        self.mask as usize + 1 - self.len()
    }

    #[inline]
    fn at(&self, index: u32) -> usize {
        (index & self.mask) as usize * self.units
    }

    /// Fills the next slot.
    ///
    /// # Panics
    ///
    /// If the ring is full or the payload longer than the ring's slots.
    #[inline]
    pub(crate) fn push(&mut self, token: Token, kind: u32, payload: &[u8]) {
        self.push_with(token, kind, payload.len(), |slot| slot.copy_from_slice(payload));
    }

    /// Fills the next slot's payload in place.
    ///
    /// # Panics
    ///
    /// As [`push`](Self::push).
    #[inline]
    pub(crate) fn push_with(&mut self, token: Token, kind: u32, len: usize, fill: impl FnOnce(&mut [u8])) {
        self.push_if(token, kind, len, |payload| {
            fill(payload);
            true
        });
    }

    /// Fills the next slot's payload in place; the slot stays free if `fill` says `false`.
    ///
    /// # Panics
    ///
    /// As [`push`](Self::push).
    #[inline]
    pub(crate) fn push_if(
        &mut self,
        token: Token,
        kind: u32,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) {
        assert!(self.free() > 0, "a full slot ring was pushed to");
        if self.storage.is_empty() {
            self.allocate();
        }
        let at = self.at(self.tail);
        let slot: &mut [u8] = bytemuck::cast_slice_mut(&mut self.storage[at..at + self.units]);
        let (header, payload) = slot.split_at_mut(16);
        header.copy_from_slice(bytemuck::bytes_of(&SlotHeader { token, kind, len: len as u32 }));
        if fill(&mut payload[..len]) {
            self.tail = self.tail.wrapping_add(1);
        }
    }

    #[cold]
    fn allocate(&mut self) {
        self.storage = vec![0; (self.mask as usize + 1) * self.units].into();
    }

    /// Fills the next slot with a fault.
    ///
    /// # Panics
    ///
    /// If the ring is full.
    pub(crate) fn push_fault(&mut self, token: Token, code: u32) {
        self.push_with(token, KIND_FAULT, 0, |_| ());
        let at = self.at(self.tail.wrapping_sub(1));
        let header = SlotHeader { token, kind: KIND_FAULT, len: code };
        bytemuck::cast_slice_mut::<u128, u8>(&mut self.storage[at..=at])
            .copy_from_slice(bytemuck::bytes_of(&header));
    }

    /// The slot `offset` behind the head: header and whole payload area.
    ///
    /// # Panics
    ///
    /// If fewer slots are filled.
    #[inline]
    pub(crate) fn get(&self, offset: usize) -> (SlotHeader, &[u8]) {
        assert!(offset < self.len(), "an empty slot was read");
        let at = self.at(self.head.wrapping_add(offset as u32));
        let slot: &[u8] = bytemuck::cast_slice(&self.storage[at..at + self.units]);
        (*bytemuck::from_bytes(&slot[..16]), &slot[16..])
    }

    /// Gives `count` slots at the head back.
    ///
    /// # Panics
    ///
    /// If fewer slots are filled.
    #[inline]
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "more slots were consumed than are filled");
        self.head = self.head.wrapping_add(count as u32);
    }

    /// Drops everything in the ring.
    pub(crate) fn clear(&mut self) {
        self.head = self.tail;
    }
}

/// Slots of a ring as memory: slot `i` is `stride` bytes from `base + ((first + i) & mask) * stride` on.
#[cfg(any(feature = "jit", test))]
pub(crate) struct Slots {
    pub base: *mut u8,
    pub stride: usize,
    pub mask: u32,
    pub first: u32,
}

/// For machine code, which takes many slots at once.
#[cfg(any(feature = "jit", test))]
impl SlotRing {
    /// Where the filled slots are, for whoever reads many of them at once.
    pub(crate) fn filled(&self) -> Slots {
        let base = self.storage.as_ptr().cast_mut().cast();
        Slots { base, stride: self.units * 16, mask: self.mask, first: self.head }
    }

    /// Where the free slots are, for whoever fills many of them at once and [says so](Self::advance) then.
    pub(crate) fn vacant(&mut self) -> Slots {
        if self.storage.is_empty() {
            self.allocate();
        }
        let base = self.storage.as_mut_ptr().cast();
        Slots { base, stride: self.units * 16, mask: self.mask, first: self.tail }
    }

    /// Bytes of payload that a slot has room for.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        (self.units - 1) * 16
    }

    /// Counts `count` slots at the tail as filled: whoever calls this has written their headers and payloads.
    ///
    /// # Panics
    ///
    /// If fewer slots are free.
    pub(crate) fn advance(&mut self, count: usize) {
        assert!(count <= self.free(), "more slots were filled than are free");
        self.tail = self.tail.wrapping_add(count as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_offsets_are_the_ones_documented() {
        assert_eq!(std::mem::offset_of!(SlotHeader, token), 0);
        assert_eq!(std::mem::offset_of!(SlotHeader, kind), 8);
        assert_eq!(std::mem::offset_of!(SlotHeader, len), 12);
    }

    #[test]
    fn indices_run_freely_over_the_end_of_u32() {
        let mut ring = SlotRing::new(3, 4);
        assert_eq!(ring.free(), 4);
        (ring.head, ring.tail) = (u32::MAX - 1, u32::MAX - 1);
        for round in 0..5u32 {
            for i in 0..4u32 {
                ring.push(u64::from(round), i, &(round * 4 + i).to_le_bytes());
            }
            assert_eq!(ring.free(), 0);
            for i in 0..4u32 {
                let (header, payload) = ring.get(0);
                assert_eq!(header, SlotHeader { token: u64::from(round), kind: i, len: 4 });
                assert_eq!(payload[..4], (round * 4 + i).to_le_bytes());
                ring.consume(1);
            }
        }
        ring.push_fault(7, 9);
        assert_eq!(ring.get(0).0, SlotHeader { token: 7, kind: KIND_FAULT, len: 9 });
        ring.clear();
        assert_eq!(ring.len(), 0);
    }
}
