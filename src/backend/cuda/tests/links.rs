//! From port to port on the device, with the host's part of it at chosen moments.

use super::kit::{Launch, deadline, device, lane, run_to, words};
use super::rings::{HEAD, echo, message};
use crate::backend::cuda::CudaDevice;
use crate::backend::cuda::lane::Lane;
use crate::backend::{
    Completion, DeviceInlet, Limits, Onward, Port, PortControl, Progress, STOP_AFTER_MESSAGE, Shape, Until,
};
use crate::compile::EmitSlot;
use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Emits as many values as `action` says, with `to` as their action, of [`MOST`]; uses up its budget if that is more.
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
            privates.values[i][1] = message.to;
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
    end: OnceLock<Arc<dyn DeviceInlet>>,
    /// Behind the next way that opens, the source's kernel is seen to have left.
    leaves: AtomicBool,
    /// … and what the source has then goes through the host.
    detours: AtomicBool,
}

/// Waits until a kernel is seen to have left.
fn wait_until_it_left(lane: &Lane) {
    let by = deadline();
    while lane.is_running() {
        assert!(Instant::now() < by);
    }
}

impl Onward for Link {
    fn open(&self, source: &Arc<dyn DeviceInlet>, messages: usize) -> Option<Arc<dyn DeviceInlet>> {
        let end = self.end.get().filter(|end| end.open(source, messages * MOST as usize))?;
        if self.leaves.swap(false, Ordering::Relaxed) {
            let source: Arc<dyn Any + Send + Sync> = source.clone();
            wait_until_it_left(&source.downcast::<Lane>().unwrap_or_else(|_| panic!("it is a kernel")));
        }
        if self.detours.swap(false, Ordering::Relaxed) {
            let source: Arc<dyn Any + Send + Sync> = source.clone();
            source.downcast::<Lane>().unwrap_or_else(|_| panic!("it is a kernel")).detour();
        }
        Some(end.clone())
    }
}

/// Has a message wait for [`begin`](Port::begin).
fn stage(port: &mut dyn Port, token: u64, [action, number]: [u32; 2]) {
    stage_with(port, token, message(0, action, number));
}

fn stage_with(port: &mut dyn Port, token: u64, message: Vec<u32>) {
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
    let by = deadline();
    // Somebody may be told of room in the meantime.
    while port.progress(&until) != Progress::Done {
        assert!(Instant::now() < by);
    }
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
    /// The source's, and the end's.
    own: Arc<PortControl>,
    control: Arc<PortControl>,
    _device: CudaDevice,
}

impl Pair {
    fn new(shape: Shape) -> Option<Self> {
        let device = device()?;
        let link = Arc::new(Link::default());
        let text = format!("{HEAD}{SPREAD}");
        let launch = Launch { text: &text, outputs: &[OUTPUT], shape, ..echo() };
        let [own, control] = [(); 2].map(|()| Arc::new(PortControl::default()));
        let mut spec = launch.spec(own.clone());
        spec.onward = vec![link.clone()];
        let mut source = device.launch_text(&spec, launch.text, launch.outputs).expect("a good kernel");
        let launch = Launch { shape: Shape::Serial, ..echo() };
        let spec = launch.spec(control.clone());
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
        Some(Self { link, source, end, from, to, own, control, _device: device })
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

/// What the source's next messages emit through the host, until so many messages are over.
fn emitted(source: &mut dyn Port, messages: usize) -> Vec<u32> {
    let (mut over, mut emitted) = (0, Vec::new());
    while over < messages {
        progress(source);
        source.pop(&mut |completion| match completion {
            Completion::Emit { value, .. } => emitted.push(words(value)[2]),
            Completion::Handled { .. } | Completion::Faulted { .. } => over += 1,
            _ => {}
        });
        source.pass_on(&mut |_| ());
        source.all_is_out();
    }
    emitted
}

/// Places of the end that are over, when nothing is in it any more.
fn over(end: &mut dyn Port, to: &Lane) -> u64 {
    let (mut over, by) = (0, deadline());
    while to.pending() > 0 {
        to.tend();
        assert!(Instant::now() < by, "{} places are awaited", to.pending());
        end.pop(&mut |completion| {
            if let Completion::LinkOver { most } = completion {
                over += most as u64;
            }
        });
    }
    over
}

/// Gives the source a message that faults and one that does not, and another one when the first has faulted; that its
/// kernel has left shows when `leaves` says so, unless others on the device have seen it before: `false`, then.
fn fault(pair: &mut Pair, leaves: &AtomicBool) -> (u64, bool) {
    let (first, fault) = (pair.to.tail(), pair.from.tail());
    push(&mut *pair.source, 2, [MOST + 1, 0]);
    push(&mut *pair.source, 3, [1, 1]);
    assert_eq!(pair.to.tail(), first + 2 * u64::from(MOST), "both would go over the link");
    stage(&mut *pair.source, 4, [1, 2]);
    run_to(&pair.from, fault);
    leaves.store(true, Ordering::Relaxed);
    pair.source.begin();
    (first, !leaves.swap(false, Ordering::Relaxed))
}

/// Does something until it was what it is meant to be, which takes a device that others leave alone for a moment.
fn until_met(mut attempt: impl FnMut() -> bool) {
    assert!((0..100).any(|_| attempt()), "others saw the kernel leave, each time");
}

#[test]
fn nothing_overtakes_what_a_fault_sends_through_the_host() {
    until_met(|| {
        let Some(mut pair) = Pair::new(Shape::Serial) else { return true };
        // The second message, which was not begun, is called off while the way of the third one opens.
        let link = pair.link.clone();
        let (first, is_met) = fault(&mut pair, &link.leaves);
        assert_eq!(emitted(&mut *pair.source, 3), [1, 2]);
        assert_eq!(over(&mut *pair.end, &pair.to), pair.to.tail() - first);
        is_met
    });
}

#[test]
fn what_has_a_way_but_no_place_yet_is_called_off_too() {
    until_met(|| {
        let Some(mut pair) = Pair::new(Shape::Serial) else { return true };
        // The end's kernel is not wanted, so its port is told of the way that has opened: before the message is written.
        assert!(pair.end.recall(Some(deadline())));
        let (leaves, from) = (Arc::new(AtomicBool::new(false)), Arc::downgrade(&pair.from));
        let told = leaves.clone();
        pair.control.on_ready(Box::new(move |_| {
            if told.swap(false, Ordering::Relaxed) {
                wait_until_it_left(&from.upgrade().expect("it is there"));
            }
        }));
        let (first, is_met) = fault(&mut pair, &leaves);
        assert_eq!(emitted(&mut *pair.source, 3), [1, 2]);
        assert!(pair.to.want());
        assert_eq!(over(&mut *pair.end, &pair.to), pair.to.tail() - first);
        is_met
    });
}

#[test]
fn a_source_that_fails_leaves_nobody_waiting() {
    let Some(mut pair) = Pair::new(Shape::Serial) else { return };
    let (first, position) = (pair.to.tail(), pair.from.tail());
    push(&mut *pair.source, 2, [MOST + 1, 0]);
    run_to(&pair.from, position);
    // It is given another message after it was seen to have left, and begins none any more.
    wait_until_it_left(&pair.from);
    push(&mut *pair.source, 3, [1, 1]);
    assert_eq!(pair.to.tail(), first + 2 * u64::from(MOST), "both would go over the link");
    for _ in 0..2 {
        pair.source.pop(&mut |_| ());
        pair.source.pass_on(&mut |_| ());
        pair.own.stop.store(STOP_AFTER_MESSAGE, Ordering::Relaxed);
    }
    assert_eq!(over(&mut *pair.end, &pair.to), pair.to.tail() - first);
}

#[test]
fn a_fault_is_taken_before_what_is_behind_it_begins_also_if_nobody_has_heard_of_it() {
    let Some(mut pair) = Pair::new(Shape::Serial) else { return };
    let first = pair.to.tail();
    push(&mut *pair.source, 2, [1, 0]);
    progress(&mut *pair.source);
    pair.source.pop(&mut |_| ());
    // Of these nobody hears for now: the first value faults.
    stage_with(&mut *pair.source, 3, message(1, 1, 0));
    stage(&mut *pair.source, 4, [1, 0]);
    pair.source.begin();
    progress(&mut *pair.source);
    let [fault, behind] = [u64::from(MOST), u64::from(2 * MOST)].map(|places| first + places);
    assert_eq!(pair.to.tail(), behind + u64::from(MOST), "all went over the link");
    let by = deadline();
    while !pair.to.has_record(fault) {
        pair.to.tend();
        assert!(Instant::now() < by);
    }
    wait_until_it_left(&pair.to);
    pair.source.pass_on(&mut |_| ());
    pair.end.pop(&mut |_| ());
    assert_eq!(pair.to.next_position(), fault);
    // It is driven, as ever.
    let limits = Limits { deadline: Some(deadline()), slice: None };
    for _ in 0..100 {
        pair.end.progress(&Until { token: None, limits, patience: None });
        assert!(!pair.to.is_running() && !pair.to.has_record(behind));
    }
    let mut faults = 0;
    while pair.to.pending() > 0 {
        assert!(Instant::now() < by);
        // It may have had to leave between its two messages.
        pair.source.progress(&Until { token: None, limits, patience: None });
        pair.source.pop(&mut |_| ());
        pair.source.pass_on(&mut |_| ());
        pair.end.progress(&Until { token: None, limits, patience: None });
        pair.end.pop(&mut |completion| faults += u32::from(matches!(completion, Completion::Faulted { .. })));
    }
    assert_eq!(faults, 1);
}

#[test]
fn an_end_that_is_gone_is_forgotten() {
    let Some(mut pair) = Pair::new(Shape::Serial) else { return };
    // What has a way is not begun before there is no end any more.
    assert!(pair.source.recall(Some(deadline())));
    push(&mut *pair.source, 2, [1, 0]);
    let Pair { link, mut source, end, from, to, own, .. } = pair;
    let (kept, by) = (Arc::downgrade(&to), deadline());
    drop((end, link, to));
    own.stop.store(STOP_AFTER_MESSAGE, Ordering::Relaxed);
    source.pop(&mut |_| ());
    assert!(!from.links.are_open(), "all was called off");
    drop((source, from));
    while kept.strong_count() > 0 {
        assert!(Instant::now() < by, "somebody keeps the end");
        std::thread::yield_now();
    }
}

#[test]
fn a_place_that_is_given_out_while_the_end_looks_is_not_taken_for_a_message_of_its_own() {
    let Some(Pair { mut source, mut end, from, to, .. }) = Pair::new(Shape::Serial) else { return };
    let first = to.tail();
    // The way opens, and a message goes through both kernels, between two looks at the end's next record.
    let (place, by) = (to.clone(), deadline());
    let passes = Box::new(move || {
        push(&mut *source, 2, [1, 7]);
        let position = from.tail() - 1;
        while !(from.has_record(position) && place.has_record(first)) {
            assert!(Instant::now() < by);
            from.want();
            place.tend();
            std::thread::yield_now();
        }
        source.pop(&mut |_| ());
        source.pass_on(&mut |_| ());
        source.all_is_out();
    });
    *crate::sync::lock(&to.links.between) = Some(passes);
    let (mut handled, mut told) = (0, 0);
    end.pop(&mut |_| told += 1);
    assert_eq!((told, to.pending()), (0, 0), "nothing was there");
    // Nobody has looked any further: now it goes through.
    to.links.looked();
    while to.pending() > 0 {
        assert!(Instant::now() < by);
        to.tend();
        end.pop(&mut |completion| handled += u32::from(matches!(completion, Completion::Handled { .. })));
    }
    assert_eq!((handled, to.tail()), (1, first + u64::from(MOST)));
}

#[test]
fn a_way_that_opens_while_the_kernel_on_it_is_sent_through_the_host_is_none() {
    let Some(pair) = Pair::new(Shape::Serial) else { return };
    let Pair { link, mut source, end: _end, from, to, _device: device, .. } = pair;
    let before = Arc::new(Link::default());
    let text = format!("{HEAD}{SPREAD}");
    let launch = Launch { text: &text, outputs: &[OUTPUT], ..echo() };
    let mut spec = launch.spec(Arc::new(PortControl::default()));
    spec.onward = vec![before.clone()];
    let mut first = device.launch_text(&spec, launch.text, launch.outputs).expect("a good kernel");
    assert!(before.end.set(from.clone()).is_ok());
    push(&mut *first, 1, [0, 0]);
    enter(&mut *first);
    for token in [2, 3] {
        push(&mut *source, token, [0, 0]);
        enter(&mut *source);
    }
    // The kernel in the middle is held; somebody changes its links between the look at them and what is then entered.
    assert!(source.recall(Some(deadline())));
    let [middle, end] = [from.tail(), to.tail()];
    link.detours.store(true, Ordering::Relaxed);
    push(&mut *first, 4, [1, 5]);
    assert!(!link.detours.load(Ordering::Relaxed), "the way opened");
    assert_eq!(from.tail(), middle + u64::from(MOST));
    enter(&mut *first);
    let (mut emitted, by) = (Vec::new(), deadline());
    while from.pending() > 0 {
        assert!(Instant::now() < by);
        from.want();
        source.pop(&mut |completion| {
            if let Completion::Emit { value, .. } = completion {
                emitted.push(words(value)[2]);
            }
        });
        source.pass_on(&mut |_| ());
        source.all_is_out();
        std::thread::yield_now();
    }
    // What it might have emitted there is skipped, and nobody waits for it.
    assert_eq!((emitted, to.tail() - end), (Vec::new(), u64::from(MOST * MOST)));
    assert!(!from.links.are_open(), "it took the host's way");
}
