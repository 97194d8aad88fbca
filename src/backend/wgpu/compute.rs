//! Entry points through wgpu: a pipeline with the user's own bindings, and a buffer that tells of faults.

use super::gpu::Gpu;
use super::storage;
use crate::backend::DeviceStorage;
use crate::backend::compute::{DeviceEntryPoint, DispatchClock, DispatchTime, budget_error};
use crate::compile::CompiledCompute;
use crate::compile::compute::Access;
use crate::compile::compute::device::{CANARY, CUT_SHORT, ENTRY, EntryModule, entry_module};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Bytes of what comes back: two timestamps and a fault.
const REPORT: u64 = 24;
/// Offset of the fault in it.
const FAULT_AT: u64 = 16;

/// An entry point on a device.
pub(super) struct WgpuEntryPoint {
    compiled: Arc<CompiledCompute>,
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    layouts: Vec<wgpu::BindGroupLayout>,
    /// The binding of the buffer that tells of faults, and the buffer.
    trouble: Option<(u32, wgpu::Buffer)>,
    /// Where timestamps go, and where they are numbers.
    timestamps: Option<(wgpu::QuerySet, wgpu::Buffer)>,
    /// What comes back, if anything does.
    report: Option<wgpu::Buffer>,
    /// One dispatch at a time.
    one_at_a_time: Mutex<()>,
    /// What the last dispatch had bound.
    bindings: Arc<Bindings>,
}

/// The bind groups of the last dispatch, while its buffers are there.
#[derive(Default)]
pub(super) struct Bindings(Mutex<Option<Bound>>);

/// Bind groups, and the buffers that they are of.
struct Bound {
    buffers: Vec<Weak<dyn DeviceStorage>>,
    groups: Arc<[wgpu::BindGroup]>,
}

impl Bindings {
    /// Those for these buffers, if they were the last.
    fn of(&self, buffers: &[Arc<dyn DeviceStorage>]) -> Option<Arc<[wgpu::BindGroup]>> {
        let bound = lock(&self.0);
        let bound = bound.as_ref()?;
        let mut pairs = bound.buffers.iter().zip(buffers);
        // An address that is watched is not given to anybody else.
        pairs
            .all(|(old, new)| std::ptr::addr_eq(old.as_ptr(), Arc::as_ptr(new)))
            .then(|| bound.groups.clone())
    }

    /// Lets go of the bind groups if a buffer of theirs is gone: nobody can ask for them again.
    pub fn forget_dropped(&self) {
        let mut bound = lock(&self.0);
        if bound.as_ref().is_some_and(|bound| bound.buffers.iter().any(|buffer| buffer.strong_count() == 0)) {
            *bound = None;
        }
    }
}

impl WgpuEntryPoint {
    /// Compiles; the driver makes machine code at the first dispatch.
    pub(super) fn new(gpu: Arc<Gpu>, compiled: Arc<CompiledCompute>, canary: bool) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        if gpu.is_lost() {
            return Err(gpu.lost_error());
        }
        let program = &compiled.program;
        let EntryModule { module, trouble } = entry_module(program, canary);
        let needed = program.bindings.len() + usize::from(trouble.is_some());
        let allowed = gpu.limits.max_storage_buffers_per_shader_stage;
        if needed > allowed as usize {
            let text = format!("wgpu: the entry point needs {needed} buffers; the device allows {allowed}");
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        let scope = gpu.scope();
        let device = &gpu.device;
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some("ringwork compute"),
            source: wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(module)),
        };
        // SAFETY: lowering keeps every index in range, and gives every loop a budget, so that it ends; the layer above has
        // checked that each buffer is as long as its type, and a buffer is cleared as a whole when it is made.
        let module = unsafe { device.create_shader_module_trusted(descriptor, super::shader::LOWERED) };
        let groups = program.bindings.iter().map(|binding| binding.group + 1).max().unwrap_or(0);
        let groups = groups.max(u32::from(trouble.is_some()));
        let layouts: Vec<_> = (0..groups)
            .map(|group| {
                let own = program.bindings.iter().filter(|binding| binding.group == group);
                let own = own.map(|binding| (binding.binding, binding.access == Access::ReadWrite));
                let trouble = trouble.filter(|_| group == 0).map(|binding| (binding, true));
                super::shader::layout(device, own.chain(trouble))
            })
            .collect();
        let with_all: Vec<_> = layouts.iter().map(Some).collect();
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("ringwork compute"),
            bind_group_layouts: &with_all,
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("ringwork compute"),
            layout: Some(&layout),
            module: &module,
            entry_point: Some(ENTRY),
            compilation_options: Default::default(),
            cache: None,
        });
        let timestamps = gpu.has_timestamps().then(|| {
            device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("ringwork compute"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            })
        });
        scope.check("the pipeline of an entry point")?;
        let timestamps = match timestamps {
            Some(set) => {
                let usage = Usage::QUERY_RESOLVE | Usage::COPY_SRC;
                Some((set, gpu.buffer("timestamps", FAULT_AT, usage, false)?))
            }
            None => None,
        };
        let trouble = match trouble {
            Some(binding) => {
                let usage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
                let buffer = gpu.buffer("faults", 8, usage, false)?;
                gpu.write("faults", &buffer, 0, bytemuck::cast_slice(&[0, CANARY]))?;
                Some((binding, buffer))
            }
            None => None,
        };
        let report = (timestamps.is_some() || trouble.is_some())
            .then(|| gpu.buffer("a report", REPORT, Usage::MAP_READ | Usage::COPY_DST, false));
        Ok(Self {
            compiled,
            pipeline,
            layouts,
            trouble,
            timestamps,
            report: report.transpose()?,
            gpu,
            one_at_a_time: Mutex::default(),
            bindings: Arc::default(),
        })
    }

    /// The bind groups for these buffers: those of the last dispatch, if it had the same.
    fn bind(&self, buffers: &[Arc<dyn DeviceStorage>]) -> Result<Arc<[wgpu::BindGroup]>> {
        if let Some(groups) = self.bindings.of(buffers) {
            return Ok(groups);
        }
        let scope = self.gpu.scope();
        let groups = self.layouts.iter().zip(0..).map(|(layout, group)| {
            let pairs = self.compiled.program.bindings.iter().zip(buffers);
            let own = pairs.filter(|(binding, _)| binding.group == group).map(|(binding, buffer)| {
                wgpu::BindGroupEntry { binding: binding.binding, resource: storage(buffer).binding() }
            });
            let trouble = self.trouble.iter().filter(|_| group == 0).map(|(binding, buffer)| {
                wgpu::BindGroupEntry { binding: *binding, resource: buffer.as_entire_binding() }
            });
            let entries: Vec<_> = own.chain(trouble).collect();
            self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("ringwork compute"),
                layout,
                entries: &entries,
            })
        });
        let groups: Arc<[_]> = groups.collect();
        scope.check("the buffers of an entry point")?;
        buffers.iter().for_each(|buffer| storage(buffer).enter(&self.bindings));
        let buffers = buffers.iter().map(Arc::downgrade).collect();
        let old = lock(&self.bindings.0).replace(Bound { buffers, groups: groups.clone() });
        drop(old);
        Ok(groups)
    }

    /// What came back of a dispatch, as words.
    fn read(&self, report: &wgpu::Buffer, submission: &wgpu::SubmissionIndex) -> Result<[u32; 6]> {
        let bytes = self.gpu.read(report, submission)?;
        let mut words = [0; 6];
        bytemuck::cast_slice_mut(&mut words).copy_from_slice(&bytes);
        Ok(words)
    }
}

impl DeviceEntryPoint for WgpuEntryPoint {
    fn engine(&self) -> &'static str {
        "wgpu"
    }

    fn dispatch(&self, buffers: &[Arc<dyn DeviceStorage>], [x, y, z]: [u32; 3]) -> Result<DispatchTime> {
        let gpu = &self.gpu;
        if gpu.is_lost() {
            return Err(gpu.lost_error());
        }
        let _turn = lock(&self.one_at_a_time);
        let groups = self.bind(buffers)?;
        let begun = Instant::now();
        let scope = gpu.scope();
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let writes = self.timestamps.as_ref().map(|(query_set, _)| wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        });
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: writes };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        pass.set_pipeline(&self.pipeline);
        for (group, index) in groups.iter().zip(0..) {
            pass.set_bind_group(index, group, &[]);
        }
        pass.dispatch_workgroups(x, y, z);
        drop(pass);
        if let (Some((set, numbers)), Some(report)) = (&self.timestamps, &self.report) {
            encoder.resolve_query_set(set, 0..2, numbers, 0);
            encoder.copy_buffer_to_buffer(numbers, 0, report, 0, FAULT_AT);
        }
        if let (Some((_, trouble)), Some(report)) = (&self.trouble, &self.report) {
            encoder.copy_buffer_to_buffer(trouble, 0, report, FAULT_AT, 4);
        }
        let submission = gpu.submit(encoder.finish());
        scope.check("a dispatch")?;
        let mut words = [0; 6];
        match &self.report {
            Some(report) => words = self.read(report, &submission)?,
            None => gpu.wait(&submission, None)?,
        }
        let host = DispatchTime { duration: begun.elapsed(), clock: DispatchClock::Host };
        if let (Some((_, trouble)), fault @ 1..) = (&self.trouble, words[4]) {
            gpu.write("faults", trouble, 0, bytemuck::cast_slice(&[0, CANARY]))?;
            if fault == CUT_SHORT {
                let text = "the entry point has more loop iterations than the device runs (`Capabilities::longest_loop`)";
                return Err(Error::new(ErrorKind::Failed, text));
            }
            return Err(budget_error(&self.compiled.program));
        }
        let ticks = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let (begin, end) = (ticks(words[0], words[1]), ticks(words[2], words[3]));
        // A driver that gives nonsense is not believed.
        if self.timestamps.is_none() || end <= begin {
            return Ok(host);
        }
        let nanoseconds = (end - begin) as f64 * f64::from(gpu.queue.get_timestamp_period());
        Ok(DispatchTime { duration: Duration::from_nanos(nanoseconds as u64), clock: DispatchClock::Device })
    }
}
