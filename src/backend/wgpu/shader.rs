//! A kernel's pipeline: its handler joined with the ring driver.

use super::gpu::Gpu;
use crate::backend::Shape;
use crate::compile::{Driver, Program, Record, join};
use crate::error::Result;

/// `shaders/ring.wgsl`, behind every handler.
const DRIVER: &str = include_str!("../../../shaders/ring.wgsl");

/// Invocations of a workgroup, unless the adapter has fewer.
const WORKGROUP: u32 = 64;

/// A pipeline and what it takes to feed it.
pub(super) struct Shader {
    pub pipeline: wgpu::ComputePipeline,
    /// Of `@group(0)`: what a round consists of.
    pub round_layout: wgpu::BindGroupLayout,
    /// Of `@group(1)`: the tables; `None` without.
    pub table_layout: Option<wgpu::BindGroupLayout>,
    pub workgroup: u32,
    pub message_stride: u32,
    pub state_stride: u32,
    pub record: Record,
}

impl Shader {
    /// Joins, compiles, and lets the driver make machine code, which it otherwise does at the first dispatch.
    pub fn new(gpu: &Gpu, program: &Program, shape: Shape, canary: bool) -> Result<Self> {
        let workgroup = WORKGROUP
            .min(gpu.limits.max_compute_workgroup_size_x)
            .min(gpu.limits.max_compute_invocations_per_workgroup);
        let joined = join(
            program,
            &Driver {
                text: DRIVER,
                shape: match shape {
                    Shape::Stateless => 0,
                    Shape::Serial => 1,
                    Shape::Instances { .. } => 2,
                },
                workgroup,
                canary,
            },
        )?;
        let scope = gpu.scope();
        let device = &gpu.device;
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("ringwork handler"),
            source: wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(joined.module)),
        });
        let round_layout = layout(device, [(0, false), (1, false), (2, true), (3, true)].into_iter());
        let tables = program.tables.iter().map(|table| (table.binding, table.writable));
        let table_layout = (!program.tables.is_empty()).then(|| layout(device, tables));
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("ringwork handler"),
            bind_group_layouts: &[Some(&round_layout), table_layout.as_ref()]
                [..1 + usize::from(table_layout.is_some())],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("ringwork handler"),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("rt_main"),
            compilation_options: Default::default(),
            cache: None,
        });
        scope.check("the pipeline of a handler")?;
        Ok(Self {
            pipeline,
            round_layout,
            table_layout,
            workgroup,
            message_stride: joined.message_stride,
            state_stride: joined.state_stride,
            record: joined.record,
        })
    }
}

/// Storage buffers at these bindings, by whether the shader writes them.
fn layout(device: &wgpu::Device, bindings: impl Iterator<Item = (u32, bool)>) -> wgpu::BindGroupLayout {
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
