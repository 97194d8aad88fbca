//! Where each instance's chain ends, of the messages that came to a kernel over a link: kept on the device, whose link pass
//! makes the chains of such a round.

use super::gpu::Gpu;
use crate::backend::Shape;
use crate::error::Result;
use crate::sync::{Mutex, lock};

/// Where the numbers begin; in tests near their end, so that all of them see them begin again.
const FIRST: u32 = if cfg!(test) { u32::MAX - 300 } else { 1 };

/// See the module.
pub(super) struct Ends {
    pub shape: Shape,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Made for the first round that comes over a link.
    buffer: Option<wgpu::Buffer>,
    /// More than all that is in it, so that nothing has to be cleared between rounds.
    top: u32,
}

impl Ends {
    pub fn new(shape: Shape) -> Self {
        Self { shape, inner: Mutex::new(Inner { buffer: None, top: FIRST }) }
    }

    /// Is there the instance that a message is for?
    pub fn have(&self, message: &[u8]) -> bool {
        self.shape.instance_of(message) < self.shape.instances()
    }

    /// What the pass needs for a round of up to so many messages: the buffer, and what it adds to their numbers.
    pub fn next(&self, gpu: &Gpu, most: u32) -> Result<(wgpu::Buffer, u32)> {
        let mut inner = lock(&self.inner);
        if u32::MAX - inner.top < most {
            // A new one is zero.
            *inner = Inner { buffer: None, top: 1 };
        }
        let buffer = match &inner.buffer {
            Some(buffer) => buffer.clone(),
            None => {
                let size = (u64::from(self.shape.instances()) * 4).next_multiple_of(16);
                gpu.buffer("the ends of chains", size, wgpu::BufferUsages::STORAGE, false)?
            }
        };
        inner.buffer = Some(buffer.clone());
        let base = inner.top;
        inner.top += most;
        Ok((buffer, base))
    }
}
