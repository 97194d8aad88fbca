//! What the tests share: an emulated device, and messages through a port.

use super::build;
use crate::backend::cuda::lane::Lane;
use crate::backend::cuda::{CudaDevice, choose};
use crate::backend::{
    Completion, Device, DeviceOptions, DeviceStorage, Fault, LaunchSpec, Limits, NativeHandler, Packed,
    PanicText, Port, PortControl, Progress, Shape, Until,
};
use crate::compile::EmitSlot;
use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

pub fn deadline() -> Instant {
    Instant::now() + LONG
}

/// Loads the emulated driver, so that it is what is found by its name.
fn load() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            let folder = build::emulation()?;
            for library in ["libcuda.so", "libnvrtc.so"] {
                // SAFETY: the emulation's libraries have no initialisers that matter.
                let library = unsafe { libloading::Library::new(folder.join(library)) };
                std::mem::forget(library.map_err(|error| error.to_string())?);
            }
            Ok(())
        })
        .clone()
}

/// An emulated device.
pub fn device() -> Option<CudaDevice> {
    if let Err(reason) = load() {
        println!("SKIPPED: {reason}");
        return None;
    }
    let found = choose(&DeviceOptions::default(), true).expect("the emulation has a device");
    Some(CudaDevice::open_here(&found).expect("it opens"))
}

/// An emulated device whose kernels have so many warps each, if their shape may have more than one.
pub fn device_of(warps: u32) -> Option<CudaDevice> {
    Some(CudaDevice { warps: Some(warps), ..device()? })
}

/// Emulated devices whose kernels have one warp, and several.
pub fn devices() -> impl Iterator<Item = CudaDevice> {
    [1, 3, 8].into_iter().filter_map(device_of)
}

/// What became of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    /// `None` if it was handled.
    pub fault: Option<Fault>,
    pub reply: Vec<u32>,
    /// The output and the value of each emit, in order.
    pub emits: Vec<(usize, Vec<u32>)>,
}

/// What a kernel runs with.
pub struct Launch<'a> {
    pub text: &'a str,
    pub shape: Shape,
    pub message_words: u32,
    pub reply_words: u32,
    pub state: &'a [u32],
    pub outputs: &'a [EmitSlot],
    pub tables: Vec<Arc<dyn DeviceStorage>>,
    pub round: u32,
}

/// A running kernel.
pub struct Kernel {
    pub port: Box<dyn Port>,
    pub control: Arc<PortControl>,
    next: u64,
    /// The number of the next message that ends.
    end: u64,
    emits: Vec<(usize, Vec<u32>)>,
    /// How many results came together with others.
    pub together: usize,
}

/// Messages of a run.
struct Messages(Vec<u8>);

impl Packed for Messages {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Stands where a spec has a handler: the text is given beside it.
struct NoHandler;

impl NativeHandler for NoHandler {
    fn run(&self, _: &[u8], _: &mut [u8], _: &mut [u8]) -> Result<(), Box<PanicText>> {
        unreachable!("it runs on the device")
    }
}

impl Launch<'_> {
    pub fn spec(&self, control: Arc<PortControl>) -> LaunchSpec {
        LaunchSpec {
            code: crate::backend::Code::Native(Arc::new(NoHandler)),
            twin: None,
            shape: self.shape,
            message_size: 4 * self.message_words,
            reply_size: 4 * self.reply_words,
            initial_state: bytemuck::cast_slice(self.state).to_vec(),
            states: None,
            tables: self.tables.clone(),
            onward: Vec::new(),
            round: self.round,
            control,
            around: Arc::new(|body: &mut dyn FnMut()| body()),
        }
    }
}

impl Kernel {
    pub fn launch(device: &CudaDevice, launch: Launch<'_>) -> Self {
        let control = Arc::new(PortControl::default());
        let spec = launch.spec(control.clone());
        let port = device.launch_text(&spec, launch.text, launch.outputs).expect("a good kernel");
        Self { port, control, next: 0, end: 0, emits: Vec::new(), together: 0 }
    }

    /// Puts messages into the ring, as many as there is room for; how many.
    pub fn push(&mut self, messages: &[Vec<u32>]) -> usize {
        let count = self.port.free().min(messages.len());
        let bytes = messages[..count].iter().map(|message| bytemuck::cast_slice(message));
        self.port.push(&mut (self.next..).zip(bytes));
        self.next += count as u64;
        count
    }

    /// As [`push`](Self::push), all at once.
    pub fn push_run(&mut self, messages: &[Vec<u32>]) -> usize {
        let count = self.port.free().min(messages.len());
        // One before them and one behind are no part of the run.
        let bytes: Vec<u8> = [&[0; 12], bytemuck::cast_slice(&messages.concat()), &[0; 12]].concat();
        let messages: Arc<dyn Packed> = Arc::new(Messages(bytes));
        self.port.push_run(self.next, &messages, 1..1 + count, 12);
        self.next += count as u64;
        count
    }

    /// Takes what is over.
    pub fn pop(&mut self) -> Vec<End> {
        let mut taken = Vec::new();
        let (next, emits, together) = (&mut self.end, &mut self.emits, &mut self.together);
        self.port.pop(&mut |completion| {
            let (token, end) = match completion {
                Completion::Emit { token, output, value } => {
                    emits.push((output, words(value)));
                    (token, None)
                }
                Completion::Handled { token, reply } => {
                    (token, Some(End { reply: words(reply), ..End::default() }))
                }
                Completion::Faulted { token, fault } => {
                    (token, Some(End { fault: Some(fault), ..End::default() }))
                }
                Completion::Run { first, replies, .. } => {
                    assert_eq!(first, *next, "messages end in the order in which they came");
                    *next += replies.count as u64;
                    *together += replies.count;
                    let ends = replies.iter().map(|reply| End { reply: words(reply), ..End::default() });
                    return taken.extend(ends);
                }
                _ => unreachable!("the port has no links"),
            };
            assert_eq!(token, *next, "messages end in the order in which they came");
            *next += u64::from(end.is_some());
            taken.extend(end.map(|end| End { emits: std::mem::take(emits), ..end }));
        });
        taken
    }

    /// Waits until something comes back, or for ever so long.
    pub fn progress(&mut self) -> Progress {
        let limits = Limits { deadline: Some(deadline()), slice: None };
        self.port.progress(&Until { token: None, limits, patience: Some(&|| false) })
    }

    /// Waits for what ends next. It is told, too, when there is a place free in the queue.
    pub fn wait(&mut self) -> Vec<End> {
        let by = deadline();
        loop {
            assert_ne!(self.progress(), Progress::Lost, "{:?}", self.port.failure());
            let ends = self.pop();
            if !ends.is_empty() {
                return ends;
            }
            assert!(Instant::now() < by, "nothing ends");
        }
    }

    /// Sends messages and waits for what becomes of them.
    pub fn run(&mut self, messages: &[Vec<u32>]) -> Vec<End> {
        self.run_by(messages, Self::push)
    }

    /// As [`run`](Self::run), with messages pushed like this.
    pub fn run_by(
        &mut self,
        messages: &[Vec<u32>],
        mut push: impl FnMut(&mut Self, &[Vec<u32>]) -> usize,
    ) -> Vec<End> {
        let (mut ends, mut rest, begun) = (Vec::new(), messages, Instant::now());
        while ends.len() < messages.len() {
            let count = push(self, rest);
            rest = &rest[count..];
            assert_ne!(self.progress(), Progress::Lost, "{:?}", self.port.failure());
            ends.extend(self.pop());
            assert!(begun.elapsed() < LONG, "only {} messages of {} ended", ends.len(), messages.len());
        }
        ends
    }

    /// Messages that have ended.
    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn states(&mut self) -> Vec<u32> {
        assert!(self.port.recall(Some(deadline())));
        words(&self.port.read_state().expect("the device is there"))
    }
}

pub fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// A table with this in it.
pub fn table(device: &CudaDevice, contents: &[u32]) -> Arc<dyn DeviceStorage> {
    let storage = device.allocate(4 * contents.len()).expect("there is memory");
    storage.write(0, bytemuck::cast_slice(contents), deadline()).expect("nobody uses it");
    storage
}

/// The kernel behind a port.
pub fn lane(port: &dyn Port) -> Arc<Lane> {
    let lane: Arc<dyn Any + Send + Sync> = port.inlet().expect("it has one");
    lane.downcast().unwrap_or_else(|_| panic!("it is the kernel itself"))
}

/// Starts a kernel, and waits for the record of this message. Whether it has left is not looked at.
pub fn run_to(lane: &Lane, position: u64) {
    let (by, mut wanted) = (deadline(), None::<Instant>);
    while !lane.has_record(position) {
        assert!(Instant::now() < by);
        // Other tests may keep it off the device for a moment.
        if wanted.is_none_or(|wanted| wanted.elapsed() > Duration::from_secs(1)) {
            lane.want();
            wanted = Some(Instant::now());
        }
    }
}
