//! Ringwork's memory. Each case runs in a process of its own, because what the peers leave in this one's heap
//! would hide growth.

use crate::harness::Board;
use crate::machine::resident_bytes;
use crate::ringwork_cases::{
    BATCH, Held, Sum, TIMEOUT, addends, adding, answering, ask, flush, send_batch, with_kernel,
};
use crate::workload;
use ringwork::{RingKernel, Runtime};
use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The system's allocator, which counts its calls while told to. Else it reads one flag that never changes, so that
/// the other cases can run on it too.
pub struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);

fn count() {
    if COUNTING.load(Relaxed) {
        CALLS.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call is the system allocator's, with the caller's arguments and under the caller's promises.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

pub fn cases(board: &mut Board) {
    board.add("resident", "ringwork", "`send_many` of 32, own process", |_| in_child("resident"));
    board.add("idle", "ringwork", "10,000 active kernels with 16 slots each way, own process", |_| {
        in_child("idle")
    });
    board.add("allocations", "ringwork", "all threads', 100,000 calls after as many, own process", |_| {
        in_child("allocations")
    });
}

/// Starts this program again for one case, and reads the values it prints.
fn in_child(case: &str) -> Vec<f64> {
    let program = std::env::current_exe().expect("the program knows where it is");
    let output = Command::new(program).args(["--memory", case]).output().expect("the program starts again");
    assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().map(|value| value.parse().expect("a number")).collect()
}

/// The other side of [`in_child`].
pub fn measure_here(case: &str) {
    let values = match case {
        "resident" => resident(),
        "idle" => idle(),
        "allocations" => allocations(),
        _ => panic!("no memory case `{case}`"),
    };
    println!("{}", values.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
}

/// Growth from 10 to 50 million messages, and both values.
fn resident() -> Vec<f64> {
    with_kernel(adding(), |kernel| {
        let mut batches = 0;
        let mut resident_after = |messages: u64| {
            while batches * BATCH < messages {
                send_batch(kernel, batches);
                batches += 1;
            }
            flush(kernel);
            resident_bytes()
        };
        let (early, late) = (resident_after(10_000_000), resident_after(50_000_000));
        vec![late - early, early, late]
    })
}

/// Resident bytes of a kernel that waits for its first message, without and with the slots it was asked to have.
fn idle() -> Vec<f64> {
    const KERNELS: usize = 10_000;
    const SLOTS: usize = 16;
    /// Token, kind and length.
    const HEADER: usize = 16;
    let slots = SLOTS * (size_of_val(&addends(0)) + HEADER + size_of::<Sum>() + HEADER);
    let runtime = Runtime::new().expect("a runtime starts");
    let start = |i: usize| {
        let kernel = RingKernel::native(format!("kernel {i}"), |_, held: &mut Held| {
            held.count += 1;
            Sum { value: 0.0 }
        });
        let handle = runtime
            .launch(kernel.queue_capacity(SLOTS).output_capacity(SLOTS))
            .expect("the kernel is well formed");
        handle.activate().expect("a launched kernel can be activated");
        handle
    };
    let mut handles = Vec::with_capacity(KERNELS + 1);
    handles.push(start(0)); // what the first one starts for all is not a kernel's
    ask(&handles[0], 0);
    let before = resident_bytes();
    handles.extend((1..=KERNELS).map(start));
    let each = (resident_bytes() - before) / KERNELS as f64;
    runtime.shutdown(TIMEOUT).expect("idle kernels end");
    vec![each - slots as f64, each]
}

/// Calls of the allocator per ask and per send, by any thread.
fn allocations() -> Vec<f64> {
    const CALLS_EACH: u64 = 100_000;
    let counted = |run: &mut dyn FnMut()| {
        run(); // what grows once may grow here
        CALLS.store(0, Relaxed);
        COUNTING.store(true, Relaxed);
        run();
        COUNTING.store(false, Relaxed);
        CALLS.load(Relaxed) as f64 / CALLS_EACH as f64
    };
    let mut values = with_kernel(answering(), |kernel| {
        let mut run = || (0..CALLS_EACH).for_each(|i| workload::check(i, ask(kernel, i)));
        vec![counted(&mut run)]
    });
    values.extend(with_kernel(adding(), |kernel| {
        let mut run = || {
            (0..CALLS_EACH).for_each(|i| kernel.send(addends(i)).expect("the kernel takes messages"));
            flush(kernel);
        };
        vec![counted(&mut run)]
    }));
    values
}
