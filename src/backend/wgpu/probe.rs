//! Does a device run loops to their end?
//!
//! llvmpipe ends all loops of an invocation, silently, after 65,535 iterations. Other drivers may do the same elsewhere;
//! so every device is asked when it is opened, and no name of a driver is looked at.

use super::gpu::Gpu;
use crate::error::Result;
use std::sync::Arc;

/// Iterations to try: more than any limit that is known, few enough for the slowest adapter.
const TRIPS: u32 = 1 << 18;

const TEXT: &str = "
@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(1) fn main() {
    var sum = 0u;
    for (var i = 0u; i < words[0]; i += 1u) { sum = (sum ^ i) + 1u; words[1] += 1u; }
    words[2] = sum;
}";

/// How many iterations a loop may have, if fewer than asked for were made.
pub(super) fn longest_loop(gpu: &Arc<Gpu>) -> Result<Option<u32>> {
    use wgpu::BufferUsages as Usage;
    let scope = gpu.scope();
    let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("ringwork probe"),
        source: wgpu::ShaderSource::Wgsl(TEXT.into()),
    });
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("ringwork probe"),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: Default::default(),
        cache: None,
    });
    let words =
        gpu.buffer("the probe of loops", 16, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC, false)?;
    gpu.queue.write_buffer(&words, 0, bytemuck::cast_slice(&[TRIPS, 0, 0, 0]));
    let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: words.as_entire_binding() }],
    });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(1, 1, 1);
    drop(pass);
    let copy = gpu.start_download(encoder, &words, 0, 16)?;
    scope.check("the probe of loops")?;
    let bytes = copy.finish(None)?;
    let made: &[u32] = bytemuck::cast_slice(&bytes);
    Ok((made[1] < TRIPS).then_some(made[1]))
}
