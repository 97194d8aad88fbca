//! A kernel's pipeline: its handler joined with the ring driver.

use super::gpu::Gpu;
use crate::backend::Shape;
use crate::compile::{Driver, Handler, Joined, Key, KeyBuilder, Record, Store, join};
use crate::error::{Error, ErrorKind, Result};

/// `shaders/ring.wgsl`, behind every handler.
const DRIVER: &str = include_str!("../../../shaders/ring.wgsl");

/// Messages in one round, at most.
const MOST_MESSAGES: u32 = 1 << 17;
/// Bytes of a round's messages, or of its records, at most.
const MOST_BYTES: u64 = 64 << 20;
/// Buffers that every round has.
const ROUND_BUFFERS: usize = 4;
/// Invocations of a workgroup, unless the adapter has fewer.
const WORKGROUP: u32 = 64;

/// What is left for wgpu to put into a lowered module: neither what keeps indices in range nor what ends loops.
pub(super) const LOWERED: wgpu::ShaderRuntimeChecks = wgpu::ShaderRuntimeChecks {
    bounds_checks: false,
    force_loop_bounding: false,
    ..wgpu::ShaderRuntimeChecks::checked()
};

/// A pipeline and what it takes to feed it.
pub(super) struct Shader {
    pub pipeline: wgpu::ComputePipeline,
    /// Of `@group(0)`: what a round consists of.
    pub round_layout: wgpu::BindGroupLayout,
    /// Of `@group(1)`: the tables; `None` without.
    pub table_layout: Option<wgpu::BindGroupLayout>,
    pub workgroup: u32,
    /// Messages that fit into a round.
    pub most: u32,
    pub message_stride: u32,
    pub state_stride: u32,
    pub record: Record,
    /// A message may end in a fault, or be ended by the device.
    pub may_fault: bool,
}

impl Shader {
    /// Joins, compiles, and lets the driver make machine code, which it otherwise does at the first dispatch.
    pub fn new(gpu: &Gpu, handler: &Handler, shape: Shape, canary: bool) -> Result<Self> {
        let program = &*handler.program;
        let workgroup = WORKGROUP
            .min(gpu.limits.max_compute_workgroup_size_x)
            .min(gpu.limits.max_compute_invocations_per_workgroup);
        let joined = join(program, &Driver { text: DRIVER, shape: shape.code(), workgroup, canary })?;
        // Before anything is made of it: drivers take minutes for variables of megabytes.
        let most = most_messages(gpu, &joined, workgroup)?;
        let (tables, allowed) = (program.tables.len(), gpu.limits.max_storage_buffers_per_shader_stage);
        if tables + ROUND_BUFFERS > allowed as usize {
            let text = format!(
                "wgpu: a handler with {tables} tables needs {} buffers, with those of a round; the device allows {allowed}",
                tables + ROUND_BUFFERS
            );
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        let scope = gpu.scope();
        let device = &gpu.device;
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some("ringwork handler"),
            source: wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(joined.module)),
        };
        // SAFETY: lowering keeps every index of the handler in range, and gives every loop a budget; the layer above has
        // checked that each table is as long as its type. What the driver's text indexes comes from the words of a round,
        // which the host writes for buffers that it made, and the link pass, which keeps wgpu's checks, for records that it
        // looked at; each link of a chain leads to a later message or to none; and a `rt_count_` is at most the declared
        // number, as only `emit_` writes it.
        let module = unsafe { device.create_shader_module_trusted(descriptor, LOWERED) };
        let round_layout = layout(device, [(0, false), (1, false), (2, true), (3, true)].into_iter());
        let tables = program.tables.iter().map(|table| (table.binding, table.writable));
        let table_layout = (!program.tables.is_empty()).then(|| layout(device, tables));
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("ringwork handler"),
            bind_group_layouts: &[Some(&round_layout), table_layout.as_ref()]
                [..1 + usize::from(table_layout.is_some())],
            immediate_size: 0,
        });
        scope.check("the shader of a handler")?;
        let make = |cache: Option<&wgpu::PipelineCache>| {
            let scope = gpu.scope();
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some("ringwork handler"),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("rt_main"),
                compilation_options: Default::default(),
                cache,
            });
            scope.check("the pipeline of a handler").map(|()| pipeline)
        };
        let variant = [shape.code(), workgroup, canary.into()];
        let pipeline = match (&gpu.pipeline_caches, handler.kept()) {
            (Some(adapter), Some((store, key))) => {
                kept_pipeline(gpu, store, &cache_key(adapter, key, variant), make)?
            }
            _ => make(None)?,
        };
        Ok(Self {
            pipeline,
            round_layout,
            table_layout,
            workgroup,
            most,
            message_stride: joined.message_stride,
            state_stride: joined.state_stride,
            record: joined.record,
            may_fault: program.may_fault(),
        })
    }
}

/// Messages that fit into a round; at least one.
///
/// # Errors
///
/// `Unavailable`, if not even one does.
fn most_messages(gpu: &Gpu, joined: &Joined, workgroup: u32) -> Result<u32> {
    // The words of a round are before its messages.
    const WORDS: u64 = 1 << 10;
    let largest = gpu.largest_storage();
    let longest = u64::from(joined.message_stride.max(joined.record.stride).max(20));
    let most = (largest.saturating_sub(WORDS) / 2).min(MOST_BYTES) / longest;
    if most == 0 {
        let text = format!(
            "wgpu: what one message may send takes {longest} bytes; the device allows {largest} in a buffer, and \
             ringwork {MOST_BYTES} in a round"
        );
        return Err(Error::new(ErrorKind::Unavailable, text));
    }
    // A dispatch has 65,535 workgroups in one dimension on every adapter.
    Ok(most.min(MOST_MESSAGES.into()).min(u64::from(workgroup) * 65_535) as u32)
}

/// What a pipeline of a handler is kept under.
pub(super) fn cache_key(adapter: &str, handler: &Key, variant: [u32; 3]) -> Key {
    let key = KeyBuilder::new("pipeline cache").bytes(handler.bytes()).text(adapter).text(DRIVER);
    variant.into_iter().fold(key, |key, part| key.number(part)).finish()
}

/// A pipeline, made with what the driver kept of it the last time; or from nothing, and then that is kept.
fn kept_pipeline(
    gpu: &Gpu,
    store: &Store,
    key: &Key,
    make: impl Fn(Option<&wgpu::PipelineCache>) -> Result<wgpu::ComputePipeline>,
) -> Result<wgpu::ComputePipeline> {
    store.get_or_build(
        key,
        |bytes| {
            // SAFETY: the store only gives what `get_data` gave below, from files that nobody but the user whom the
            // process runs as could write; the key has the adapter and the driver's version in it.
            let cache = unsafe { gpu.pipeline_cache(Some(bytes)) }?;
            make(Some(&cache)).ok()
        },
        || {
            // SAFETY: without data.
            let cache = unsafe { gpu.pipeline_cache(None) };
            let pipeline = make(cache.as_ref())?;
            Ok((pipeline, cache.and_then(|cache| cache.get_data()).unwrap_or_default()))
        },
    )
}

/// Storage buffers at these bindings, by whether the shader writes them.
pub(super) fn layout(
    device: &wgpu::Device,
    bindings: impl Iterator<Item = (u32, bool)>,
) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = bindings
        .map(|(binding, writable)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: !writable },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("ringwork"),
        entries: &entries,
    })
}
