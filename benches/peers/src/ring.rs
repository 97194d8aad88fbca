//! The yardsticks' ring: one producer, one consumer, free-running indices, each side with a copy of the other's
//! index that it refreshes only when the ring looks full (or empty). It spins and never parks.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};

/// A word with a pair of cache lines to itself: processors fetch lines in pairs.
#[repr(align(128))]
struct Alone(AtomicU32);

struct Shared<T> {
    /// Slots freed so far; the consumer's.
    head: Alone,
    /// Slots filled so far; the producer's.
    tail: Alone,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is touched by the producer while free and by the consumer while filled; the indices, stored with
// Release and loaded with Acquire, hand it over. `T: Copy` has nothing to drop.
unsafe impl<T: Copy + Send> Sync for Shared<T> {}

/// The one producer.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: u32,
    /// As last seen; the true one is never behind it.
    head: u32,
}

/// The one consumer.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: u32,
    /// As last seen; the true one is never behind it.
    tail: u32,
}

/// A ring of `capacity` slots, a power of two.
pub fn ring<T: Copy + Send>(capacity: u32) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two());
    let shared = Arc::new(Shared {
        head: Alone(AtomicU32::new(0)),
        tail: Alone(AtomicU32::new(0)),
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    (Producer { shared: shared.clone(), tail: 0, head: 0 }, Consumer { shared, head: 0, tail: 0 })
}

impl<T: Copy + Send> Shared<T> {
    #[inline]
    fn slot(&self, index: u32) -> *mut MaybeUninit<T> {
        self.slots[index as usize & (self.slots.len() - 1)].get()
    }
}

impl<T: Copy + Send> Producer<T> {
    /// Puts a value in, or says that the ring is full.
    #[inline]
    pub fn push(&mut self, value: T) -> bool {
        let capacity = self.shared.slots.len() as u32;
        if self.tail.wrapping_sub(self.head) == capacity {
            // Pairs with the consumer's Release: its reads of the slots it freed came before.
            self.head = self.shared.head.0.load(Acquire);
            if self.tail.wrapping_sub(self.head) == capacity {
                return false;
            }
        }
        // SAFETY: the slot is free, so the consumer leaves it alone, and there is no other producer.
        unsafe { (*self.shared.slot(self.tail)).write(value) };
        self.tail = self.tail.wrapping_add(1);
        // Pairs with the consumer's Acquire: the slot is written before it shows.
        self.shared.tail.0.store(self.tail, Release);
        true
    }

    /// Puts a value in, spinning while the ring is full.
    #[inline]
    pub fn push_spinning(&mut self, value: T) {
        while !self.push(value) {
            std::hint::spin_loop();
        }
    }
}

impl<T: Copy + Send> Consumer<T> {
    /// Takes the oldest value, if there is one.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail {
            // Pairs with the producer's Release: the slots it filled are written.
            self.tail = self.shared.tail.0.load(Acquire);
            if self.head == self.tail {
                return None;
            }
        }
        // SAFETY: the slot is filled, so the producer leaves it alone, and there is no other consumer.
        let value = unsafe { (*self.shared.slot(self.head)).assume_init_read() };
        self.head = self.head.wrapping_add(1);
        // Pairs with the producer's Acquire: the slot is read before it is free.
        self.shared.head.0.store(self.head, Release);
        Some(value)
    }

    /// Takes the oldest value, spinning until there is one.
    #[inline]
    pub fn pop_spinning(&mut self) -> T {
        loop {
            if let Some(value) = self.pop() {
                return value;
            }
            std::hint::spin_loop();
        }
    }
}
