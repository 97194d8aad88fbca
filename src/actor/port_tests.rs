//! What becomes of messages whose port does something at just the wrong moment: the real kernel core, on a port that
//! does it.

use super::core::{Core, Engine, Facts, Memory};
use super::dead_letters::DeadLetterLog;
use super::launch::Relaunch;
use super::lifecycle::{Event, KernelState};
use super::mailbox::Mailbox;
use super::pool::Pool;
use super::send::{Options, Wait};
use super::services::Services;
use super::telemetry::DeadLetterReason;
use crate::backend::{Completion, DeviceInlet, Port, PortControl, Progress, Shape, Until};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{Backpressure, Inlet, Plain, Queue, RestartPolicy, RestartState};
use crate::message::{Token, TokenPrefix};
use crate::sync::{deadline_in, lock};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

crate::message! {
    struct Number { value: u32 }
}

type Kernel = Core<Number, Number>;

const LONG: Duration = Duration::from_secs(20);

/// Replies with what it is sent, if it comes to that.
struct Awkward {
    control: Arc<PortControl>,
    input: Vec<Token>,
    /// What happens while the second message that is exchanged runs, which then is left in the middle.
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
    is_lost: Arc<AtomicBool>,
}

impl Port for Awkward {
    fn engine(&self) -> &'static str {
        "awkward"
    }

    fn free(&self) -> usize {
        8 - self.input.len()
    }

    fn push(&mut self, batch: &mut dyn Iterator<Item = (Token, &[u8])>) {
        self.input.extend(batch.map(|(token, _)| token));
        self.control.waiting.store(self.input.len(), Ordering::Release);
    }

    fn exchange<'a>(
        &mut self,
        batch: &mut dyn Iterator<Item = (Token, &'a [u8])>,
        _until: &Until<'_>,
        sink: &mut dyn FnMut(Completion<'_>),
    ) -> usize {
        let (token, reply) = batch.next().expect("a first message");
        sink(Completion::Handled { token, reply });
        batch.next().expect("a second one");
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile();
        }
        2
    }

    fn progress(&mut self, _until: &Until<'_>) -> Progress {
        Progress::UnderWay
    }

    fn pop(&mut self, _sink: &mut dyn FnMut(Completion<'_>)) {}

    fn read_state(&mut self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn reset_on_fault(&mut self, _states: Option<Arc<[u8]>>) -> Result<()> {
        Ok(())
    }

    fn failure(&self) -> Option<Error> {
        self.is_lost
            .load(Ordering::SeqCst)
            .then(|| Error::new(ErrorKind::DeviceLost, "the device is lost on purpose"))
    }
}

fn services() -> Services {
    Services {
        pool: Pool::new(),
        prefix: TokenPrefix::random(),
        dead_letters: DeadLetterLog::new(1),
        registry: Default::default(),
    }
}

/// An active kernel on such a port; `on_device` as a device's is, and with another when that is lost, if it may restart.
fn kernel(
    relaunch: Option<Relaunch>,
    on_device: bool,
    is_lost: &Arc<AtomicBool>,
    meanwhile: impl FnOnce() + Send + 'static,
) -> Arc<Kernel> {
    let facts = Facts {
        id: 1,
        name: "awkward".into(),
        services: Arc::new(services()),
        plain: Some(Plain::new()),
        shape: Shape::Serial,
        has_reply: true,
        backpressure: Backpressure::Block,
        restart: match relaunch {
            None => RestartPolicy::Never,
            Some(_) => RestartPolicy::OneForOne { max: 10, within: LONG, state: RestartState::Initial },
        },
        background_only: false,
        on_probation: false,
        on_device,
        relaunch,
        state: None,
        launched: Instant::now(),
    };
    let control = Arc::new(PortControl::default());
    let port = Awkward {
        control: control.clone(),
        input: Vec::new(),
        meanwhile: Some(Box::new(meanwhile)),
        is_lost: is_lost.clone(),
    };
    let memory = Memory { initial: Vec::new(), instances: 0, snapshot: None };
    let engine = Engine::new(Some(Box::new(port)), memory);
    let mut mailbox = Mailbox::new(8, Backpressure::Block);
    mailbox.state = KernelState::Created.after(Event::Launch, "awkward").unwrap();
    let replies = Queue::new(8, Backpressure::Block);
    let core = Core::new(facts, mailbox, replies, Vec::new(), engine, control);
    core.activate().unwrap();
    core
}

#[test]
fn a_run_that_is_given_up_loses_the_message_in_hand_and_not_the_one_before_it() {
    let kernel_itself = Arc::new(OnceLock::<Arc<Kernel>>::new());
    let terminated = kernel_itself.clone();
    let meanwhile = move || {
        let terminate = move || {
            let kernel = terminated.get().expect("it is there");
            kernel.terminate(Some(Instant::now()), Some(Instant::now())).unwrap()
        };
        let end = std::thread::spawn(terminate).join().unwrap();
        assert!(end.detached, "a message is in hand: {end:?}");
    };
    let kernel = kernel_itself.get_or_init(|| kernel(None, false, &Arc::default(), meanwhile));
    let mut batch: VecDeque<_> = (1..4).map(|value| (Token::from(value), Number { value })).collect();
    assert!(kernel.hot.gate.enter_direct());
    kernel.send_direct_batch(&mut batch, &Options::default());
    let unsent: Vec<u32> = batch.iter().map(|(_, message)| message.value).collect();
    assert_eq!(unsent, [3], "the first is handled, the second was begun");
    let books = kernel.telemetry();
    assert_eq!((books.accepted, books.handled, books.pending), (2, 1, 0));
    assert_eq!(books.dead_letters.get(DeadLetterReason::Abandoned), 1);
    let letters = kernel.facts.services.dead_letters.take();
    assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [kernel.uuid(2)]);
    assert_eq!(kernel.replies.pop().map(|(token, reply)| (token, reply.value)), Some((1, 1)));
}

#[test]
fn nobody_who_waits_for_a_time_waits_for_another_device_to_open() {
    let opens = Duration::from_secs(3);
    let relaunch: Relaunch = Box::new(move |_| {
        std::thread::sleep(opens);
        Err(Error::new(ErrorKind::Unavailable, "there is none"))
    });
    let is_lost = Arc::new(AtomicBool::new(true));
    let kernel = kernel(Some(relaunch), true, &is_lost, || ());
    let begun = Instant::now();
    let error = kernel.ask(Number { value: 1 }, Duration::from_millis(20), &Options::default()).unwrap_err();
    assert!(error.is_timed_out(), "{error:?}");
    let in_time = deadline_in(Duration::from_millis(20));
    let end = kernel.terminate(in_time, deadline_in(Duration::from_millis(120))).unwrap();
    assert!(begun.elapsed() < opens / 2, "{:?}", begun.elapsed());
    // Its time was over, but not begun it was not.
    let numbers: Vec<u32> = end.returned.iter().map(|message| message.value).collect();
    assert_eq!((numbers, end.abandoned), (vec![1], None));
    assert_eq!(kernel.telemetry().pending, 0);
}

#[test]
fn a_device_that_is_lost_while_its_kernel_drains_ends_the_drain_and_every_wait() {
    let is_lost = Arc::new(AtomicBool::new(false));
    let kernel = kernel(None, true, &is_lost, || ());
    for value in 0..3 {
        assert!(kernel.send(Number { value }, &Options::default(), Wait::Until(None)).is_ok());
    }
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| kernel.ask(Number { value: 3 }, LONG, &Options::default()));
        let begun = Instant::now();
        while kernel.telemetry().accepted < 4 {
            assert!(begun.elapsed() < LONG);
            std::thread::yield_now();
        }
        let terminating = scope.spawn(|| {
            let deadline = Some(Instant::now() + LONG);
            kernel.terminate(deadline, deadline).unwrap()
        });
        while kernel.state() != KernelState::Terminating {
            assert!(begun.elapsed() < LONG);
            std::thread::yield_now();
        }
        is_lost.store(true, Ordering::SeqCst);
        kernel.come_back(true);
        let error = asking.join().unwrap().unwrap_err();
        assert!(error.is_device_lost(), "the cause, not that it was terminated: {error:?}");
        let end = terminating.join().unwrap();
        assert!(begun.elapsed() < LONG / 2, "nothing is waited for that cannot come: {:?}", begun.elapsed());
        let numbers: Vec<u32> = end.returned.iter().map(|message| message.value).collect();
        assert_eq!((numbers, end.detached), (vec![0, 1, 2, 3], false));
    });
    assert_eq!(kernel.telemetry().pending, 0);
}

/// A way into a port whose device is lost when it has just been opened.
struct LostBehind {
    kernel: Weak<Kernel>,
    is_lost: Arc<AtomicBool>,
}

impl DeviceInlet for LostBehind {
    fn open(&self, _source: &Arc<dyn DeviceInlet>, _most: usize) -> bool {
        self.is_lost.store(true, Ordering::SeqCst);
        let kernel = self.kernel.upgrade().expect("it is asked");
        kernel.come_back(true);
        // Whoever was told finds the port held, and is through with it: the test has the kernel, its call has, and this.
        let begun = Instant::now();
        while Arc::strong_count(&kernel) > 3 {
            assert!(begun.elapsed() < LONG);
            std::thread::yield_now();
        }
        true
    }

    fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::SeqCst)
    }
}

#[test]
fn a_loss_while_another_kernel_opens_its_way_in_is_not_missed() {
    let is_lost = Arc::new(AtomicBool::new(false));
    let kernel = kernel(None, true, &is_lost, || ());
    let inlet: Arc<dyn DeviceInlet> = Arc::new(LostBehind { kernel: Arc::downgrade(&kernel), is_lost });
    lock(&kernel.mailbox).inlet = Some(inlet.clone());
    // Somebody is in the middle of something with the port, and lets go of it when all is over.
    assert!(kernel.seize(deadline_in(LONG)));
    Inlet::open(kernel.clone(), &inlet, 1).expect("it was there when it was asked");
    kernel.release();
    let begun = Instant::now();
    while kernel.state() != KernelState::Failed {
        assert!(begun.elapsed() < LONG, "nobody looks: {:?}", kernel.telemetry());
        std::thread::yield_now();
    }
    assert_eq!(lock(&kernel.mailbox).awaited, 0);
}

#[test]
fn a_launch_that_panics_keeps_no_name() {
    let services = services();
    let panicking = std::panic::AssertUnwindSafe(|| {
        let _reserved = services.reserve("name").unwrap();
        assert!(services.reserve("name").is_err_and(|error| error.is_invalid()));
        std::panic::resume_unwind(Box::new("in a launch"));
    });
    assert!(std::panic::catch_unwind(panicking).is_err());
    assert!(services.reserve("name").is_ok());
}
