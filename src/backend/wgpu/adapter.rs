//! Which adapters there are, what they are, and which one to take.

use crate::backend::{Capabilities, Execution};
use crate::error::{Error, ErrorKind, Result};
use std::sync::OnceLock;
use uuid::Uuid;

/// The process's way to its drivers: loaded once, which takes milliseconds.
fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        // Set here, because debug builds would turn the driver's own validation on otherwise, where it is installed;
        // and without the validation of indirect dispatches, which costs a dispatch of its own.
        descriptor.flags = wgpu::InstanceFlags::empty().with_env();
        wgpu::Instance::new(descriptor)
    })
}

/// An adapter that was found.
pub(super) struct Found {
    pub adapter: wgpu::Adapter,
    pub info: wgpu::AdapterInfo,
    /// Among those of this kind, in the order in which the drivers name them.
    pub index: usize,
}

/// All adapters, in the order in which the drivers name them.
pub(super) fn all() -> Vec<Found> {
    let adapters = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()));
    let found = |(index, adapter): (usize, wgpu::Adapter)| {
        let info = adapter.get_info();
        Found { adapter, info, index }
    };
    adapters.into_iter().enumerate().map(found).collect()
}

impl Found {
    /// A processor that pretends to be a GPU.
    pub fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// The faster kinds first.
    fn rank(&self) -> usize {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        }
    }

    /// A name for this adapter that stays the same from run to run on one machine. wgpu does not pass on the drivers' own
    /// UUIDs, so it is made of what tells adapters apart: backend, vendor, device, PCI address and name.
    pub fn uuid(&self) -> Uuid {
        let info = &self.info;
        let text = format!(
            "{}/{:x}/{:x}/{}/{}",
            info.backend, info.vendor, info.device, info.device_pci_bus_id, info.name
        );
        let mut halves = [0xcbf2_9ce4_8422_2325_u64, 0x8422_2325_cbf2_9ce4];
        for (half, value) in halves.iter_mut().enumerate() {
            // FNV-1a, from two different beginnings.
            for byte in text.bytes().chain([half as u8]) {
                *value = (*value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        Uuid::new_v8(bytemuck::cast([halves[0].to_be_bytes(), halves[1].to_be_bytes()]))
    }

    /// What it is, for people.
    pub fn describe(&self) -> String {
        let wgpu::AdapterInfo { name, driver, driver_info, backend, .. } = &self.info;
        let driver = [driver.as_str(), driver_info.as_str()].join(" ");
        format!("{name} ({backend}, {})", driver.trim())
    }

    fn is_meant(&self, wanted: &str) -> bool {
        if let Ok(index) = wanted.parse::<usize>() {
            return self.index == index;
        }
        if let Ok(uuid) = wanted.parse::<Uuid>() {
            return self.uuid() == uuid;
        }
        self.info.name.to_lowercase().contains(&wanted.to_lowercase())
    }

    /// What a device opened on it can do.
    pub fn capabilities(&self, mapped: bool, longest_loop: Option<u32>) -> Capabilities {
        let limits = self.adapter.limits();
        Capabilities {
            name: self.info.name.clone(),
            driver: format!("{} {}", self.info.driver, self.info.driver_info).trim().to_owned(),
            uuid: Some(self.uuid()),
            execution: Execution::Dispatched,
            software: self.is_software(),
            unified_memory: mapped,
            // What runs at once is nowhere said; this is what one workgroup may have.
            parallelism: limits.max_compute_invocations_per_workgroup as usize,
            largest_buffer: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            longest_loop,
        }
    }
}

/// The best adapter, or the one that was asked for by index, UUID, or a part of its name.
///
/// # Errors
///
/// `Unavailable`, with what there is instead, or how to get a driver.
pub(super) fn choose(wanted: Option<&str>) -> Result<Found> {
    let mut found = all();
    let unavailable = |text: String| Error::new(ErrorKind::Unavailable, text);
    if found.is_empty() {
        return Err(unavailable(format!("wgpu: no adapter was found; {}", remedy())));
    }
    let Some(wanted) = wanted else {
        let best = (0..found.len()).min_by_key(|index| found[*index].rank()).unwrap_or(0);
        return Ok(found.swap_remove(best));
    };
    match found.iter().position(|adapter| adapter.is_meant(wanted)) {
        Some(index) => Ok(found.swap_remove(index)),
        None => {
            let names: Vec<_> =
                found.iter().map(|adapter| format!("{} `{}`", adapter.index, adapter.info.name)).collect();
            Err(unavailable(format!("wgpu: no adapter is `{wanted}`; there are {}", names.join(", "))))
        }
    }
}

/// What to do where there is no adapter.
pub(super) fn remedy() -> &'static str {
    if cfg!(target_os = "linux") {
        "install the GPU vendor's Vulkan driver, or, to test without a GPU, Mesa's software one \
         (Debian, Ubuntu: apt install mesa-vulkan-drivers libvulkan1)"
    } else if cfg!(target_os = "windows") {
        "install the GPU vendor's driver"
    } else {
        "this system has no driver that wgpu can use"
    }
}
