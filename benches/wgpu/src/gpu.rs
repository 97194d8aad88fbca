//! The adapter that all cases of a run share, and the few calls that they have in common.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Gpu {
    pub info: wgpu::AdapterInfo,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Storage buffers may be mapped (`MAPPABLE_PRIMARY_BUFFERS`).
    pub mappable: bool,
}

/// How a thread waits for a submission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// `poll(Wait)`: the thread sleeps in the driver.
    Sleep,
    /// Asks again and again, and lets others run in between, for at most [`PATIENCE`]; then it sleeps. Asking without
    /// letting others run was up to three times slower on two processors: the driver's own thread waited for one.
    Spin,
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Wait::Sleep => "sleeps",
            Wait::Spin => "spins",
        })
    }
}

/// About what a wake-up costs: who has waited as long in vain loses little by sleeping.
const PATIENCE: Duration = Duration::from_micros(100);

impl Gpu {
    pub fn open() -> Result<Arc<Self>, String> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN;
        // Said here because the default depends on the build: a debug build would measure the validation layer.
        descriptor.flags = wgpu::InstanceFlags::empty();
        let instance = wgpu::Instance::new(descriptor);
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter =
            pollster::block_on(instance.request_adapter(&options)).map_err(|error| error.to_string())?;
        let features = adapter.features() & wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("yardsticks"),
            required_features: features,
            required_limits: adapter.limits(),
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        });
        let (device, queue) = pollster::block_on(request).map_err(|error| error.to_string())?;
        let mappable = features.contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS);
        Ok(Arc::new(Self { info: adapter.get_info(), device, queue, mappable }))
    }

    pub fn buffer(&self, bytes: u64, usage: wgpu::BufferUsages, mapped: bool) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage,
            mapped_at_creation: mapped,
        })
    }

    pub fn pipeline(&self, source: impl Into<Cow<'static, str>>, entry: &str) -> wgpu::ComputePipeline {
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: Default::default(),
            cache: None,
        })
    }

    /// Group 0 of a pipeline, its buffers at bindings 0, 1, …
    pub fn group(&self, pipeline: &wgpu::ComputePipeline, buffers: &[&wgpu::Buffer]) -> wgpu::BindGroup {
        let entries: Vec<_> = buffers
            .iter()
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }

    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&Default::default())
    }

    /// Waits for a submission; what it maps is mapped afterwards.
    pub fn wait(&self, submission: wgpu::SubmissionIndex, wait: Wait) {
        let poll = |timeout| {
            self.device.poll(wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout })
        };
        if wait == Wait::Spin {
            let start = Instant::now();
            while start.elapsed() < PATIENCE {
                match poll(Some(Duration::ZERO)) {
                    Ok(_) => return,
                    Err(wgpu::PollError::Timeout) => std::thread::yield_now(),
                    Err(error) => panic!("the device is lost: {error}"),
                }
            }
        }
        poll(None).expect("a device that is not lost");
    }
}
