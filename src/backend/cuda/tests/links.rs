//! From port to port on the device, with the host's part of it at chosen moments.

use super::kit::{Launch, deadline, device};
use super::rings::{HEAD, echo, message};
use crate::backend::cuda::lane::Lane;
use crate::backend::{Completion, Entry, Limits, Onward, Port, PortControl, Progress, Shape, Until};
use crate::compile::EmitSlot;
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// Emits as many values as `action` says, of [`MOST`].
const SPREAD: &str = "
    typedef unsigned RtState;
    struct alignas(16) RtPrivates { unsigned emitted; unsigned values[3][3]; };
    static __device__ unsigned rt_run(const RtMessage& message, RtState& state, RtReply& reply,
                                      RtPrivates& privates, const RtTable* tables,
                                      volatile const unsigned* stop) {
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
struct Link(OnceLock<Arc<dyn Entry>>);

impl Onward for Link {
    fn open(&self, source: &Arc<dyn Entry>, messages: usize) -> Option<Arc<dyn Entry>> {
        self.0.get().filter(|end| end.open(source, messages * MOST as usize)).cloned()
    }
}

fn lane(port: &dyn Port) -> Arc<Lane> {
    let lane: Arc<dyn Any + Send + Sync> = port.entry().expect("it has one");
    lane.downcast().unwrap_or_else(|_| panic!("it is the kernel itself"))
}

fn push(port: &mut dyn Port, token: u64, [action, number]: [u32; 2]) {
    let message = message(0, action, number);
    port.push(&mut std::iter::once((token, bytemuck::cast_slice(&message))));
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

#[test]
fn places_that_turn_out_empty_while_the_end_looks_are_told_of() {
    let Some(device) = device() else { return };
    let link = Arc::new(Link::default());
    let text = format!("{HEAD}{SPREAD}");
    let launch = Launch { text: &text, outputs: &[OUTPUT], ..echo() };
    let mut spec = launch.spec(Arc::new(PortControl::default()));
    spec.onward = vec![link.clone()];
    let mut source = device.launch_text(&spec, launch.text, launch.outputs).expect("a good kernel");
    let launch = Launch { shape: Shape::Serial, ..echo() };
    let spec = launch.spec(Arc::new(PortControl::default()));
    let mut end = device.launch_text(&spec, launch.text, launch.outputs).expect("a good kernel");
    let to = lane(&*end);
    assert!(link.0.set(to.clone()).is_ok());
    // The link does not open before the end, asked for it, has a ring for it.
    push(&mut *source, 1, [0, 0]);
    enter(&mut *source);
    push(&mut *end, 1, [0, 0]);
    enter(&mut *end);
    push(&mut *end, 2, [0, 0]);
    enter(&mut *end);
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
        assert!(std::time::Instant::now() < by);
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
