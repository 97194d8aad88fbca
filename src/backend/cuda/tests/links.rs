//! From port to port on the device, with the host's part of it at chosen moments.

use super::kit::{Launch, deadline, device, words};
use super::rings::{HEAD, echo, message};
use crate::backend::cuda::CudaDevice;
use crate::backend::cuda::lane::Lane;
use crate::backend::{Completion, Entry, Limits, Onward, Port, PortControl, Progress, Shape, Until};
use crate::compile::EmitSlot;
use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Emits as many values as `action` says, of [`MOST`]; uses up its budget if that is more.
const SPREAD: &str = "
    typedef unsigned RtState;
    struct alignas(16) RtPrivates { unsigned emitted; unsigned values[3][3]; };
    static __device__ unsigned rt_run(const RtMessage& message, RtState& state, RtReply& reply,
                                      RtPrivates& privates, const RtTable* tables,
                                      volatile const unsigned* stop) {
        if (message.action > 3) return 1;
        privates.emitted = message.action;
        for (unsigned i = 0; i < message.action; i++) {
            privates.values[i][0] = message.to;
            privates.values[i][1] = 0;
            privates.values[i][2] = message.number + i;
        }
        reply.number = message.number;
        reply.count = message.action;
        return 0;
    }";
const MOST: u32 = 3;
const OUTPUT: EmitSlot = EmitSlot { count_offset: 0, items_offset: 4, stride: 12, size: 12, max: MOST };

/// To this kernel, as soon as there is one.
#[derive(Default)]
struct Link {
    end: OnceLock<Arc<dyn Entry>>,
    /// Behind the next way that opens, the source's kernel is seen to have left.
    leaves: AtomicBool,
}

impl Onward for Link {
    fn open(&self, source: &Arc<dyn Entry>, messages: usize) -> Option<Arc<dyn Entry>> {
        let end = self.end.get().filter(|end| end.open(source, messages * MOST as usize))?;
        if self.leaves.swap(false, Ordering::Relaxed) {
            let (source, by): (Arc<dyn Any + Send + Sync>, _) = (source.clone(), deadline());
            let source = source.downcast::<Lane>().unwrap_or_else(|_| panic!("it is a kernel"));
            while source.is_running() {
                assert!(Instant::now() < by);
            }
        }
        Some(end.clone())
    }
}

fn lane(port: &dyn Port) -> Arc<Lane> {
    let lane: Arc<dyn Any + Send + Sync> = port.entry().expect("it has one");
    lane.downcast().unwrap_or_else(|_| panic!("it is the kernel itself"))
}

/// Has a message wait for [`begin`](Port::begin).
fn stage(port: &mut dyn Port, token: u64, [action, number]: [u32; 2]) {
    let message = message(0, action, number);
    port.push(&mut std::iter::once((token, bytemuck::cast_slice(&message))));
}

fn push(port: &mut dyn Port, token: u64, message: [u32; 2]) {
    stage(port, token, message);
    port.begin();
}

/// Waits until there is something to pop.
fn progress(port: &mut dyn Port) {
    let limits = Limits { deadline: Some(deadline()), slice: None };
    let until = Until { token: None, limits, patience: Some(&|| false) };
    assert_eq!(port.progress(&until), Progress::Done);
}

/// Enters what is over, whatever it is, and passes it on.
fn enter(port: &mut dyn Port) {
    progress(port);
    port.pop(&mut |_| ());
    port.pass_on(&mut |_| ());
    port.all_is_out();
}

/// A kernel with this shape, and another one at the end of its link.
struct Pair {
    link: Arc<Link>,
    source: Box<dyn Port>,
    end: Box<dyn Port>,
    from: Arc<Lane>,
    to: Arc<Lane>,
    _device: CudaDevice,
}

impl Pair {
    fn new(shape: Shape) -> Option<Self> {
        let device = device()?;
        let link = Arc::new(Link::default());
        let text = format!("{HEAD}{SPREAD}");
        let launch = Launch { text: &text, outputs: &[OUTPUT], shape, ..echo() };
        let mut spec = launch.spec(Arc::new(PortControl::default()));
        spec.onward = vec![link.clone()];
        let mut source = device.launch_text(&spec, launch.text, launch.outputs).expect("a good kernel");
        let launch = Launch { shape: Shape::Serial, ..echo() };
        let spec = launch.spec(Arc::new(PortControl::default()));
        let mut end = device.launch_text(&spec, launch.text, launch.outputs).expect("a good kernel");
        let (from, to) = (lane(&*source), lane(&*end));
        assert!(link.end.set(to.clone()).is_ok());
        // The link does not open before the end, asked for it, has a ring for it.
        push(&mut *source, 1, [0, 0]);
        enter(&mut *source);
        for token in [1, 2] {
            push(&mut *end, token, [0, 0]);
            enter(&mut *end);
        }
        Some(Self { link, source, end, from, to, _device: device })
    }
}

#[test]
fn places_that_turn_out_empty_while_the_end_looks_are_told_of() {
    let Some(Pair { mut source, mut end, to, .. }) = Pair::new(Shape::Stateless) else { return };
    let first = to.tail();
    for token in [2, 3] {
        push(&mut *source, token, [0, 0]);
        progress(&mut *source);
        source.pop(&mut |_| ());
        if token == 2 {
            source.pass_on(&mut |_| ());
        }
    }
    assert_eq!(to.tail(), first + 2 * u64::from(MOST), "both went over the link");
    let by = deadline();
    while !to.has_record(to.tail() - 1) {
        assert!(Instant::now() < by);
        to.tend();
        std::thread::yield_now();
    }
    let mut over = 0;
    end.pop(&mut |completion| {
        if let Completion::LinkOver { most } = completion {
            over += most;
            source.pass_on(&mut |_| ());
        }
    });
    end.pop(&mut |completion| {
        if let Completion::LinkOver { most } = completion {
            over += most;
        }
    });
    assert_eq!((over, to.pending()), (2 * MOST as usize, 0));
}

#[test]
fn nothing_overtakes_what_a_fault_sends_through_the_host() {
    let Some(Pair { link, mut source, mut end, from, to, _device }) = Pair::new(Shape::Serial) else {
        return;
    };
    let (first, fault) = (to.tail(), from.tail());
    push(&mut *source, 2, [MOST + 1, 0]);
    push(&mut *source, 3, [1, 1]);
    assert_eq!(to.tail(), first + 2 * u64::from(MOST), "both would go over the link");
    stage(&mut *source, 4, [1, 2]);
    assert!(from.want());
    let by = deadline();
    while !from.has_record(fault) {
        assert!(Instant::now() < by);
    }
    // That the kernel has left, with the second message not begun, shows while the way of the third one opens.
    link.leaves.store(true, Ordering::Relaxed);
    source.begin();
    assert!(!link.leaves.load(Ordering::Relaxed));
    let (mut over, mut emitted) = (0, Vec::new());
    while over < 3 {
        progress(&mut *source);
        source.pop(&mut |completion| match completion {
            Completion::Emit { value, .. } => emitted.push(words(value)[2]),
            Completion::Handled { .. } | Completion::Faulted { .. } => over += 1,
            _ => {}
        });
        source.pass_on(&mut |_| ());
        source.all_is_out();
    }
    assert_eq!(emitted, [1, 2]);
    let mut over = 0;
    while to.pending() > 0 {
        to.tend();
        assert!(Instant::now() < by);
        end.pop(&mut |completion| {
            if let Completion::LinkOver { most } = completion {
                over += most;
            }
        });
    }
    assert_eq!(over as u64, to.tail() - first);
}
