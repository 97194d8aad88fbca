//! What the tests share: a device, and messages through a port.

use crate::backend::wgpu::WgpuDevice;
use crate::backend::wgpu::adapter::choose;
use crate::backend::{
    Code, Completion, Device, DeviceOptions, DeviceStorage, Fault, LaunchSpec, Limits, Port, PortControl,
    Progress, Shape, Until,
};
use crate::compile::Handler;
use crate::error::Result;
use crate::sync::lock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// The best adapter there is, opened once and again when it is lost; where there is none, the reason is printed.
///
/// # Panics
///
/// If there is none, and `RINGWORK_REQUIRE` has `wgpu`.
pub fn device() -> Option<Arc<dyn Device>> {
    // One that was lost, which allocates nothing, is of no use any more; and what lost it is to be found.
    static DEVICE: Mutex<Option<Arc<dyn Device>>> = Mutex::new(None);
    let mut device = lock(&DEVICE);
    if device.as_ref().is_none_or(|device| device.allocate(4).is_err()) {
        *device = own_device();
    }
    device.clone()
}

/// … opened for the caller alone.
pub fn own_device() -> Option<Arc<dyn Device>> {
    match choose(&DeviceOptions::default(), false).and_then(|found| WgpuDevice::open(&found)) {
        Ok(device) => Some(device),
        Err(error) => {
            let required = std::env::var("RINGWORK_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name.trim() == "wgpu"), "wgpu is required: {error}");
            println!("SKIPPED: {error}");
            None
        }
    }
}

pub fn deadline() -> Instant {
    Instant::now() + LONG
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

/// A running kernel.
pub struct Kernel {
    port: Box<dyn Port>,
    next: u64,
}

/// What a kernel runs with.
pub struct Launch<'a> {
    pub handler: &'a Arc<Handler>,
    pub shape: Shape,
    pub message_words: u32,
    pub reply_words: u32,
    pub state: &'a [u32],
    pub tables: Vec<Arc<dyn DeviceStorage>>,
}

impl Kernel {
    pub fn launch(device: &dyn Device, launch: Launch<'_>) -> Result<Self> {
        let port = device.launch(LaunchSpec {
            code: Code::Handler(launch.handler.clone()),
            twin: None,
            shape: launch.shape,
            message_size: 4 * launch.message_words,
            reply_size: 4 * launch.reply_words,
            initial_state: bytemuck::cast_slice(launch.state).to_vec(),
            states: None,
            tables: launch.tables,
            onward: Vec::new(),
            round: 1 << 16,
            control: Arc::new(PortControl::default()),
            around: Arc::new(|body: &mut dyn FnMut()| body()),
        })?;
        Ok(Self { port, next: 1 })
    }

    /// Sends messages, as many at once as the port takes, and waits for what becomes of them.
    pub fn run(&mut self, messages: &[Vec<u32>]) -> std::result::Result<Vec<End>, String> {
        let (mut ends, mut rest, first) = (Vec::new(), messages, self.next);
        let limits = Limits { deadline: Some(deadline()), slice: None };
        let until = Until { token: None, limits, patience: Some(&|| false) };
        let mut emits = Vec::new();
        let mut disorder = None;
        while ends.len() < messages.len() {
            let (now, later) = rest.split_at(self.port.free().min(rest.len()));
            let tokens = self.next..;
            self.port.push(&mut tokens.zip(now.iter().map(|message| bytemuck::cast_slice(message))));
            (rest, self.next) = (later, self.next + now.len() as u64);
            if self.port.progress(&until) == Progress::Lost {
                return Err(format!("the device is lost: {:?}", self.port.failure()));
            }
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
                    Completion::Run { first, .. } => unreachable!("{first} was pushed by itself"),
                    _ => unreachable!("the port has no links"),
                };
                if token != first + ends.len() as u64 {
                    disorder.get_or_insert(format!(
                        "message {} ends as number {}",
                        token - first,
                        ends.len()
                    ));
                }
                ends.extend(end.map(|end| End { emits: std::mem::take(&mut emits), ..end }));
            });
            if Instant::now() > until.limits.deadline.expect("given above") {
                return Err(format!("only {} messages of {} ended", ends.len(), messages.len()));
            }
        }
        disorder.map_or(Ok(ends), Err)
    }

    pub fn port(&mut self) -> &mut dyn Port {
        &mut *self.port
    }

    pub fn states(&mut self) -> Vec<u32> {
        words(&self.port.read_state().expect("the device is there"))
    }
}

/// A table with this in it.
pub fn table(device: &dyn Device, contents: &[u32]) -> Result<Arc<dyn DeviceStorage>> {
    let storage = device.allocate(4 * contents.len())?;
    storage.write(0, bytemuck::cast_slice(contents), deadline())?;
    Ok(storage)
}

/// What is in a table of so many words.
pub fn contents(storage: &dyn DeviceStorage, words: usize) -> Result<Vec<u32>> {
    let mut found = vec![0u32; words];
    storage.read(0, bytemuck::cast_slice_mut(&mut found), deadline())?;
    Ok(found)
}

pub fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect()
}
