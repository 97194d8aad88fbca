//! Which adapters there are, what they are, and which one to take.

use crate::backend::{
    Accelerator, AcceleratorKind, BackendKind, Capabilities, DeviceOptions, Execution, Problem,
    WorkgroupLimits, select,
};
use crate::error::{Error, ErrorKind, Result, panic_text};
use std::panic::{AssertUnwindSafe, catch_unwind};
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
pub(crate) struct Found {
    pub(super) adapter: wgpu::Adapter,
    pub(super) info: wgpu::AdapterInfo,
    /// Its place, in the order in which the drivers name them.
    index: usize,
    /// How many before it have the same [`identity`].
    twins: usize,
}

/// What tells adapters apart, as far as their drivers say something that stays the same from run to run.
fn identity(info: &wgpu::AdapterInfo) -> String {
    let wgpu::AdapterInfo { backend, vendor, device, device_pci_bus_id, name, .. } = info;
    format!("{backend}/{vendor:x}/{device:x}/{device_pci_bus_id}/{name}")
}

/// A UUID of this library's, for an identity that so many others have before it.
pub(super) fn uuid(identity: &str, twins: usize) -> Uuid {
    let text = if twins == 0 { identity.to_owned() } else { format!("{identity}/{twins}") };
    let mut halves = [0xcbf2_9ce4_8422_2325_u64, 0x8422_2325_cbf2_9ce4];
    for (half, value) in halves.iter_mut().enumerate() {
        // FNV-1a, from two different beginnings.
        for byte in text.bytes().chain([half as u8]) {
            *value = (*value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Uuid::new_v8(bytemuck::cast([halves[0].to_be_bytes(), halves[1].to_be_bytes()]))
}

/// All adapters, in the order in which the drivers name them; at least one.
///
/// # Errors
///
/// Why there is none.
fn all() -> Result<Vec<Found>, Problem> {
    let adapters = guarded(|| pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all())))?;
    if adapters.is_empty() {
        return Err(Problem::new("no adapter was found", remedy()));
    }
    let mut found: Vec<Found> = Vec::with_capacity(adapters.len());
    for (index, adapter) in adapters.into_iter().enumerate() {
        let info = adapter.get_info();
        let twins = found.iter().filter(|other| identity(&other.info) == identity(&info)).count();
        found.push(Found { adapter, info, index, twins });
    }
    Ok(found)
}

/// What drivers answer, or that they panicked.
///
/// Nothing of ours is left half done by that: an instance whose making panics is made anew by the next one to ask.
pub(super) fn guarded<T>(ask: impl FnOnce() -> T) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(ask)).map_err(|payload| {
        let panic = panic_text(&*payload);
        let reason = format!("there was a panic while drivers were asked for their adapters: {panic}");
        Problem::new(reason, "update or reinstall the GPU's driver, or use `cpu`")
    })
}

/// Descriptions of all adapters; at least one.
///
/// # Errors
///
/// Why there is none.
pub(crate) fn accelerators() -> Result<Vec<Accelerator>, Problem> {
    Ok(all()?.iter().map(Found::accelerator).collect())
}

impl Found {
    /// A processor that pretends to be a GPU.
    pub(super) fn is_software(&self) -> bool {
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
    /// UUIDs, so it is made of what tells adapters apart.
    fn uuid(&self) -> Uuid {
        uuid(&identity(&self.info), self.twins)
    }

    /// Its memory is the host's, and buffers that handlers use can be mapped.
    pub(super) fn is_unified(&self) -> bool {
        let mappable = self.adapter.features().contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS);
        let unified =
            matches!(self.info.device_type, wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::Cpu);
        mappable && unified
    }

    /// What it is, without opening it.
    pub(crate) fn accelerator(&self) -> Accelerator {
        let info = &self.info;
        let limits = self.adapter.limits();
        Accelerator {
            backend: BackendKind::Wgpu,
            index: self.index,
            name: info.name.clone(),
            uuid: Some(self.uuid()),
            vendor: vendor(info.vendor),
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => AcceleratorKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => AcceleratorKind::Integrated,
                wgpu::DeviceType::VirtualGpu => AcceleratorKind::Virtual,
                wgpu::DeviceType::Cpu => AcceleratorKind::Software,
                wgpu::DeviceType::Other => AcceleratorKind::Other,
            },
            api: match info.backend {
                wgpu::Backend::Vulkan => "Vulkan".to_owned(),
                wgpu::Backend::Metal => "Metal".to_owned(),
                wgpu::Backend::Dx12 => "Direct3D 12".to_owned(),
                other => other.to_string(),
            },
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            pci_address: Some(info.device_pci_bus_id.clone()).filter(|address| !address.is_empty()),
            unified_memory: self.is_unified(),
            // What runs at once is nowhere said; this is what one workgroup may have.
            parallelism: limits.max_compute_invocations_per_workgroup as usize,
            compute_units: None,
            // Without the feature wgpu says what any device may have.
            subgroup_size: (self.adapter.features().contains(wgpu::Features::SUBGROUP))
                .then_some(info.subgroup_min_size..=info.subgroup_max_size),
            workgroup: Some(WorkgroupLimits {
                invocations: limits.max_compute_invocations_per_workgroup,
                size: [
                    limits.max_compute_workgroup_size_x,
                    limits.max_compute_workgroup_size_y,
                    limits.max_compute_workgroup_size_z,
                ],
                memory: limits.max_compute_workgroup_storage_size,
                count: [limits.max_compute_workgroups_per_dimension; 3],
            }),
            total_memory: None,
            largest_buffer: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            buffer_alignment: Some(limits.min_storage_buffer_offset_alignment),
            features: features(self.adapter.features()),
        }
    }

    /// What a device opened on it can do.
    pub(super) fn capabilities(&self, mapped: bool, longest_loop: Option<u32>) -> Capabilities {
        let Accelerator { name, driver, uuid, parallelism, largest_buffer, .. } = self.accelerator();
        Capabilities {
            name,
            driver,
            uuid,
            execution: Execution::Dispatched,
            software: self.is_software(),
            unified_memory: mapped,
            parallelism,
            largest_buffer,
            longest_loop,
        }
    }
}

/// The adapter that the options name, or else the best one. `hardware` refuses software rasterisers.
///
/// # Errors
///
/// `Unavailable`, with what there is instead, or how to get a driver; `Invalid` for a name that means several.
pub(crate) fn choose(options: &DeviceOptions, hardware: bool) -> Result<Found> {
    let unavailable = |text: String| Error::new(ErrorKind::Unavailable, format!("wgpu: {text}"));
    let mut found = all().map_err(|problem| unavailable(problem.to_string()))?;
    let there: Vec<_> = found.iter().map(Found::accelerator).collect();
    let best = || (0..found.len()).min_by_key(|position| found[*position].rank()).unwrap_or(0);
    let position = select::select(options, &there)?.unwrap_or_else(best);
    if hardware && found[position].is_software() {
        return Err(unavailable(format!(
            "{} is a software rasteriser, which is only taken when `wgpu` or an adapter is asked for; \
             a GPU needs its vendor's driver",
            there[position]
        )));
    }
    Ok(found.swap_remove(position))
}

/// Who has this PCI vendor number; drivers without one have numbers that Khronos gave them.
fn vendor(number: u32) -> Option<String> {
    let name = match number {
        0 => return None,
        0x1002 => "AMD",
        0x1010 => "Imagination",
        0x106b => "Apple",
        0x10de => "NVIDIA",
        0x13b5 => "Arm",
        0x1414 => "Microsoft",
        0x5143 => "Qualcomm",
        0x8086 => "Intel",
        0x1_0005 => "Mesa",
        other => return Some(format!("PCI vendor {other:#06x}")),
    };
    Some(name.to_owned())
}

/// Their names, in alphabetical order.
fn features(features: wgpu::Features) -> Vec<String> {
    let mut names: Vec<_> = features.iter_names().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    names
}

/// What to do where there is no adapter.
fn remedy() -> String {
    // The Vulkan loader takes these literally: a list of drivers that names none of those installed hides them all.
    let hiding = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_LOADER_DRIVERS_DISABLE"]
        .into_iter()
        .filter_map(|name| Some(format!("{name} is `{}`", std::env::var_os(name)?.to_string_lossy())));
    let hiding: Vec<_> = hiding.collect();
    let install = if cfg!(target_os = "linux") {
        "install the GPU vendor's Vulkan driver, or, to test without a GPU, Mesa's software one \
         (Debian, Ubuntu: apt install mesa-vulkan-drivers libvulkan1)"
    } else if cfg!(target_os = "windows") {
        "install the GPU vendor's driver"
    } else {
        "this system has no driver that wgpu can use; use `cpu`"
    };
    if hiding.is_empty() {
        return install.to_owned();
    }
    format!("unset what may hide the drivers there are ({}), or else {install}", hiding.join(", "))
}
