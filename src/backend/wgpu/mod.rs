//! GPUs through wgpu: rounds over messages in storage buffers, states that stay on the device.
//!
//! A kernel's [port](port) stages messages in its [lane](lane); the device's one [pump](pump) gathers what is staged in
//! all lanes into a submission, a [round](group) for each group of kernels that share a pipeline, and hands the records
//! that come back to the lanes. The driver in `shaders/ring.wgsl` runs the handlers. What one emits goes over a
//! [link](link) into the next kernel's round of the same submission where it can.

mod adapter;
mod arena;
mod chains;
mod compute;
mod ends;
mod gpu;
mod group;
mod lane;
mod link;
mod port;
mod probe;
mod pump;
mod round;
mod shader;
mod storage;
#[cfg(test)]
mod tests;

use super::{Capabilities, Code, Device, DeviceStorage, LaunchSpec, Port};
use crate::compile::{Handler, Program};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};
pub(crate) use adapter::{Found, accelerators, choose};
use gpu::Gpu;
use group::Group;
use pump::Pump;
use shader::Shader;
use std::sync::{Arc, Weak};
use storage::WgpuStorage;

/// Overrides how messages get to a device: `mapped` or `staged`.
const TRANSFER: &str = "RINGWORK_WGPU_TRANSFER";

/// Iterations that the ring driver makes for a message besides those that copy what it emits, at most: the canary's
/// and the chain's; `shaders/ring.wgsl`.
const DRIVER_LOOPS: u32 = 8;

/// An opened adapter.
pub(crate) struct WgpuDevice {
    capabilities: Capabilities,
    gpu: Arc<Gpu>,
    pump: Arc<Pump>,
    /// Those whose kernels run.
    groups: Mutex<Vec<(GroupKey, Weak<Group>)>>,
}

/// Kernels with equal keys share a group. Weak, so that a group whose kernels are gone keeps nothing alive until somebody
/// looks; and an address that is watched is not given to anybody else meanwhile.
#[derive(Clone)]
struct GroupKey {
    handler: Weak<Handler>,
    shape: u32,
    tables: Vec<Weak<dyn DeviceStorage>>,
}

impl GroupKey {
    fn new(handler: &Arc<Handler>, spec: &LaunchSpec) -> Self {
        let tables = spec.tables.iter().map(Arc::downgrade).collect();
        Self { handler: Arc::downgrade(handler), shape: spec.shape.code(), tables }
    }

    fn is(&self, other: &Self) -> bool {
        Weak::ptr_eq(&self.handler, &other.handler)
            && self.shape == other.shape
            && self.tables.len() == other.tables.len()
            && self.tables.iter().zip(&other.tables).all(|(a, b)| Weak::ptr_eq(a, b))
    }
}

/// This backend's own type behind a storage that it allocated.
fn storage(table: &Arc<dyn DeviceStorage>) -> &WgpuStorage {
    table.as_any().downcast_ref().expect("the layer above binds storage of the kernel's own device")
}

/// Messages of a handler that may be in one round, if it matters, on a device that ends loops after so many iterations.
///
/// A message whose loops were ended runs again by itself, because others may have used the iterations up. What it had
/// written to tables by then would be written twice. So of a handler that writes tables a round gets no more messages
/// than can use up their budgets, and none of another kernel: a message that is ended all the same is one too long for
/// the device, and faults without running again.
fn at_once(program: &Program, longest: u32) -> Option<u32> {
    if !program.tables.iter().any(|table| table.writable) {
        return None;
    }
    let own = if program.has_loops { program.signature.loop_budget } else { 0 };
    let emits = program.signature.outputs.iter().map(|output| output.max_per_message);
    let all = emits.fold(own.saturating_add(DRIVER_LOOPS), u32::saturating_add);
    Some((longest / all).max(1))
}

impl WgpuDevice {
    /// Opens an adapter.
    ///
    /// # Errors
    ///
    /// `Unavailable`, with the reason and what to do about it; `Invalid` if [`TRANSFER`] says what it may not.
    pub(crate) fn open(found: &Found) -> Result<Arc<dyn Device>> {
        Self::open_within(found, found.adapter.limits())
    }

    /// Opens an adapter as if these were its limits.
    fn open_within(found: &Found, limits: wgpu::Limits) -> Result<Arc<dyn Device>> {
        let mapped = match std::env::var_os(TRANSFER) {
            None => None,
            Some(way) if way == "mapped" => Some(true),
            Some(way) if way == "staged" => Some(false),
            Some(other) => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("{TRANSFER} is `{}`; it may be `mapped` or `staged`", other.to_string_lossy()),
                ));
            }
        };
        let gpu = Arc::new(Gpu::open(found, mapped, limits)?);
        let mut capabilities = found.capabilities(gpu.mapped, probe::longest_loop(&gpu)?);
        capabilities.largest_buffer = gpu.largest_storage();
        let pump = Arc::new(Pump::new(gpu.clone(), capabilities.longest_loop));
        Ok(Arc::new(Self { capabilities, gpu, pump, groups: Mutex::default() }))
    }

    /// The group of a kernel: the one that runs its handler already, or a new one.
    fn group(&self, handler: &Arc<Handler>, spec: &LaunchSpec) -> Result<Arc<Group>> {
        let key = GroupKey::new(handler, spec);
        let find = |groups: &mut Vec<(GroupKey, Weak<Group>)>| {
            groups.retain(|(_, group)| group.strong_count() > 0);
            groups.iter().find(|(other, _)| other.is(&key)).and_then(|(_, group)| group.upgrade())
        };
        if let Some(group) = find(&mut lock(&self.groups)) {
            return Ok(group);
        }
        // Outside of the lock: other kernels are launched meanwhile.
        // Without loops nothing can be ended: no chain is too long for the device.
        let longest = self.capabilities.longest_loop;
        let canary = longest.is_some() && handler.program.may_fault();
        let shader = Shader::new(&self.gpu, handler, spec.shape, canary)?;
        let tables = self.tables(&shader, handler, &spec.tables)?;
        let at_once = longest.and_then(|longest| at_once(&handler.program, longest));
        let longest_chain = longest.map_or(u32::MAX, |longest| longest.saturating_sub(DRIVER_LOOPS).max(1));
        let group = Group::new(self.gpu.clone(), shader, spec.shape, tables, at_once, longest_chain)?;
        let group = Arc::new(group);
        group.warm_up()?;
        let mut groups = lock(&self.groups);
        if let Some(other) = find(&mut groups) {
            // The one of its own goes outside of the lock.
            drop(groups);
            return Ok(other);
        }
        groups.push((key, Arc::downgrade(&group)));
        Ok(group)
    }

    fn tables(
        &self,
        shader: &Shader,
        handler: &Handler,
        tables: &[Arc<dyn DeviceStorage>],
    ) -> Result<Option<wgpu::BindGroup>> {
        let Some(layout) = &shader.table_layout else { return Ok(None) };
        let entries: Vec<_> = handler
            .program
            .tables
            .iter()
            .zip(tables)
            .map(|(table, bound)| wgpu::BindGroupEntry {
                binding: table.binding,
                resource: storage(bound).binding(),
            })
            .collect();
        let scope = self.gpu.scope();
        let group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("ringwork tables"),
            layout,
            entries: &entries,
        });
        scope.check("the tables of a handler")?;
        Ok(Some(group))
    }
}

impl Device for WgpuDevice {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceStorage>> {
        Ok(Arc::new(WgpuStorage::new(self.gpu.clone(), bytes)?))
    }

    fn prefix(&self, storage: &dyn DeviceStorage, bytes: usize) -> Arc<dyn DeviceStorage> {
        let own = storage.as_any().downcast_ref::<WgpuStorage>().expect("memory of this backend");
        Arc::new(own.prefix(bytes))
    }

    fn owns(&self, storage: &dyn DeviceStorage) -> bool {
        let own = storage.as_any().downcast_ref::<WgpuStorage>();
        own.is_some_and(|storage| storage.is_of(&self.gpu))
    }

    fn compute(
        &self,
        compiled: &Arc<crate::compile::CompiledCompute>,
    ) -> Result<Arc<dyn super::compute::DeviceEntryPoint>> {
        let canary = self.capabilities.longest_loop.is_some();
        Ok(Arc::new(compute::WgpuEntryPoint::new(self.gpu.clone(), compiled.clone(), canary)?))
    }

    fn launch(&self, spec: LaunchSpec) -> Result<Box<dyn Port>> {
        if self.gpu.is_lost() {
            return Err(self.gpu.lost_error());
        }
        let Code::Handler(handler) = &spec.code else {
            unreachable!("native handlers are launched on the CPU")
        };
        let group = self.group(&handler.clone(), &spec)?;
        Ok(Box::new(port::WgpuPort::new(self.pump.clone(), group, spec)?))
    }

    fn is_lost(&self) -> bool {
        self.gpu.is_lost()
    }

    #[cfg(test)]
    fn destroy(&self) {
        self.gpu.device.destroy();
    }

    #[cfg(test)]
    fn break_waits(&self) {
        self.gpu.break_waits();
    }

    #[cfg(test)]
    fn refuse(&self, part: Option<&'static str>) {
        self.gpu.refuse(part);
    }

    #[cfg(test)]
    fn submissions(&self) -> u32 {
        self.gpu.submissions.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[cfg(test)]
    fn keeps_pipelines(&self) -> bool {
        self.gpu.pipeline_caches.is_some()
    }

    #[cfg(test)]
    fn holdings(&self) -> Vec<(&'static str, isize)> {
        let mut holdings = self.gpu.holdings();
        let groups: Vec<_> = lock(&self.groups).iter().filter_map(|(_, group)| group.upgrade()).collect();
        holdings.push(("groups", groups.len() as isize));
        holdings.push(("states", groups.iter().map(|group| group.places_taken() as isize).sum()));
        holdings
    }
}

/// A device whose buffers may have so many bytes, and its shaders so many buffers; `None` where there is no adapter.
#[cfg(test)]
pub(crate) fn small(largest_buffer: u64, buffers: u32) -> Option<Arc<dyn Device>> {
    let found = choose(&super::DeviceOptions::default(), false).ok()?;
    let mut limits = found.adapter.limits();
    limits.max_buffer_size = largest_buffer;
    limits.max_storage_buffer_binding_size = largest_buffer;
    limits.max_storage_buffers_per_shader_stage = buffers;
    Some(WgpuDevice::open_within(&found, limits).expect("the adapter allows more"))
}

impl Drop for WgpuDevice {
    fn drop(&mut self) {
        self.pump.close();
    }
}
