//! A pair of buffers through which bytes go to a dispatch and come back, in one of three ways.

use crate::gpu::Gpu;
use wgpu::BufferUsages as Usage;
use wgpu::MapMode;

/// How bytes travel between host memory and what a shader reads and writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// `Queue::write_buffer` there (wgpu's own staging), a copy into a mappable buffer back.
    WriteBuffer,
    /// A staging buffer that stays mapped while the host has it, and a copy; the same way back.
    Staged,
    /// The storage buffers themselves are mapped: no copy on the device. Needs `MAPPABLE_PRIMARY_BUFFERS`.
    Mapped,
}

impl Way {
    /// The better way for an adapter: a discrete GPU reads mapped storage over its bus, every other one in place.
    pub fn of(gpu: &Gpu) -> Self {
        let shared = gpu.info.device_type != wgpu::DeviceType::DiscreteGpu;
        if gpu.mappable && shared { Way::Mapped } else { Way::Staged }
    }

    /// All that an adapter allows.
    pub fn all(gpu: &Gpu) -> &'static [Self] {
        if gpu.mappable {
            &[Way::WriteBuffer, Way::Staged, Way::Mapped]
        } else {
            &[Way::WriteBuffer, Way::Staged]
        }
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Way::WriteBuffer => "write_buffer",
            Way::Staged => "staged",
            Way::Mapped => "mapped",
        })
    }
}

pub struct Lane {
    way: Way,
    /// What the shader reads.
    pub input: wgpu::Buffer,
    /// What the shader writes.
    pub output: wgpu::Buffer,
    staging: Option<wgpu::Buffer>,
    readback: Option<wgpu::Buffer>,
}

impl Lane {
    pub fn new(gpu: &Gpu, way: Way, input: usize, output: usize) -> Self {
        let (input, output) = (input as u64, output as u64);
        let staging = Usage::MAP_WRITE | Usage::COPY_SRC;
        let readback = Usage::MAP_READ | Usage::COPY_DST;
        let there = Usage::STORAGE | Usage::COPY_DST;
        let back = Usage::STORAGE | Usage::COPY_SRC;
        Self {
            way,
            input: match way {
                Way::Mapped => gpu.buffer(input, Usage::STORAGE | Usage::MAP_WRITE, true),
                _ => gpu.buffer(input, there, false),
            },
            output: match way {
                Way::Mapped => gpu.buffer(output, Usage::STORAGE | Usage::MAP_READ, false),
                _ => gpu.buffer(output, back, false),
            },
            staging: (way == Way::Staged).then(|| gpu.buffer(input, staging, true)),
            readback: (way != Way::Mapped).then(|| gpu.buffer(output, readback, false)),
        }
    }

    /// Puts parts one behind the other and hands them to the device; comes before the submission.
    pub fn send(&self, gpu: &Gpu, parts: &[&[u8]]) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let fill = |view: &mut dyn FnMut(std::ops::Range<usize>, &[u8])| {
            let mut at = 0;
            for part in parts {
                view(at..at + part.len(), part);
                at += part.len();
            }
        };
        match self.way {
            Way::WriteBuffer => {
                let size = wgpu::BufferSize::new(bytes as u64).expect("something to send");
                let mut view = gpu.queue.write_buffer_with(&self.input, 0, size).expect("room to write");
                fill(&mut |range, part| view.slice(range).copy_from_slice(part));
            }
            Way::Staged | Way::Mapped => {
                let host = self.staging.as_ref().unwrap_or(&self.input);
                let mut view = host.get_mapped_range_mut(..bytes as u64).expect("mapped for the host");
                fill(&mut |range, part| view.slice(range).copy_from_slice(part));
                drop(view);
                host.unmap();
            }
        }
    }

    /// Takes the first bytes that were sent to where the shader reads them; comes before the dispatch.
    pub fn bring(&self, encoder: &mut wgpu::CommandEncoder, bytes: usize) {
        if let Some(staging) = &self.staging {
            encoder.copy_buffer_to_buffer(staging, 0, &self.input, 0, bytes as u64);
        }
    }

    /// Asks for the first bytes of the output, and for the input again; comes behind the dispatch.
    pub fn fetch(&self, encoder: &mut wgpu::CommandEncoder, bytes: usize) {
        let bytes = bytes as u64;
        if let Some(readback) = &self.readback {
            encoder.copy_buffer_to_buffer(&self.output, 0, readback, 0, bytes);
        }
        // A mapping that fails shows when the range is asked for.
        encoder.map_buffer_on_submit(self.result(), MapMode::Read, ..bytes, drop);
        match self.way {
            Way::WriteBuffer => {}
            Way::Staged | Way::Mapped => {
                let host = self.staging.as_ref().unwrap_or(&self.input);
                encoder.map_buffer_on_submit(host, MapMode::Write, .., drop);
            }
        }
    }

    /// Reads what [`Self::fetch`] asked for, after the wait for its submission.
    pub fn receive(&self, into: &mut [u8]) {
        let result = self.result();
        into.copy_from_slice(&result.get_mapped_range(..into.len() as u64).expect("mapped for the host"));
        result.unmap();
    }

    fn result(&self) -> &wgpu::Buffer {
        self.readback.as_ref().unwrap_or(&self.output)
    }
}
