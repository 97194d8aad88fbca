//! The devices that the driver knows, and which one is meant.

use super::driver::{self, CUdevice, Refusal, unavailable};
use super::gpu::Gpu;
use super::layout::{MOST_WARPS, WARP_SIZE};
use super::nvrtc;
use crate::backend::{
    Accelerator, AcceleratorKind, BackendKind, Capabilities, DeviceOptions, Execution, Problem,
    WorkgroupLimits, select,
};
use crate::error::Result;
use cudarc::driver::sys::CUdevice_attribute as Attribute;

/// Allows devices whose kernels are ended by the system after a while, as those that drive a screen are.
const TIME_LIMIT: &str = "RINGWORK_CUDA_TIME_LIMIT";

/// A device, not opened.
pub(crate) struct Found {
    pub device: CUdevice,
    accelerator: Accelerator,
    /// As `sm_90`.
    pub architecture: String,
    /// The system ends kernels that run for longer than some seconds.
    has_time_limit: bool,
    /// Kernels can be given memory of this process's: rings are in it.
    sees_host_memory: bool,
}

/// All devices; at least one.
///
/// # Errors
///
/// Why there is none.
fn all() -> Result<Vec<Found>, Problem> {
    let use_instead = "or use `wgpu` or `cpu`";
    driver::start().map_err(|reason| {
        Problem::new(
            reason,
            format!("install NVIDIA's driver (580 or newer) for a GPU of this machine, {use_instead}"),
        )
    })?;
    let failed = |refusal: Refusal| {
        let reason = format!("the driver does not say what there is: {refusal}");
        Problem::new(reason, format!("reinstall NVIDIA's driver, {use_instead}"))
    };
    let devices = driver::devices().map_err(failed)?;
    if devices.is_empty() {
        return Err(Problem::new(
            "the driver finds no device",
            format!("check that the GPU is there, {use_instead}"),
        ));
    }
    devices.into_iter().enumerate().map(|(index, device)| describe(index, device).map_err(failed)).collect()
}

fn describe(index: usize, device: CUdevice) -> Result<Found, Refusal> {
    let attribute = |which| driver::attribute(device, which);
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let is_integrated = attribute(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0;
    let has_time_limit = attribute(Attribute::CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT)? != 0;
    let sees_host_memory = attribute(Attribute::CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED)? != 0;
    // What a driver does not say, it says with 0.
    let number = |which| attribute(which).map(|value| u32::try_from(value).unwrap_or(0));
    let warp = number(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE)?;
    let workgroup = WorkgroupLimits {
        invocations: number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        size: [
            number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X)?,
            number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y)?,
            number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z)?,
        ],
        memory: number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK)?,
        count: [
            number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?,
            number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y)?,
            number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z)?,
        ],
    };
    let units = number(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let memory = driver::memory(device)?;
    let architecture = format!("sm_{major}{minor}");
    let accelerator = Accelerator {
        backend: BackendKind::Cuda,
        index,
        name: driver::name(device)?,
        uuid: Some(driver::uuid(device)?),
        vendor: Some("NVIDIA".to_owned()),
        kind: if is_integrated { AcceleratorKind::Integrated } else { AcceleratorKind::Discrete },
        api: "CUDA".to_owned(),
        driver: match nvrtc::version() {
            Some(compiler) => format!("{} with NVRTC {compiler}", driver::version()),
            None => format!("{} without NVRTC", driver::version()),
        },
        pci_address: driver::pci_address(device),
        unified_memory: false,
        parallelism: (WARP_SIZE * MOST_WARPS) as usize,
        compute_units: (units > 0).then_some(units),
        subgroup_size: (warp > 0).then_some(warp..=warp),
        workgroup: Some(workgroup),
        total_memory: Some(memory),
        largest_buffer: memory,
        buffer_alignment: None,
        features: vec![architecture.clone()],
    };
    Ok(Found { device, accelerator, architecture, has_time_limit, sees_host_memory })
}

/// Can handlers be compiled? What is kept on disk runs without.
fn has_compiler() -> Result<(), Problem> {
    nvrtc::start().map_err(|reason| {
        let remedy = format!(
            "{}, or use `wgpu` or `cpu`; a runtime that is asked for `cuda` runs what its cache on disk has",
            nvrtc::remedy()
        );
        Problem::new(reason, remedy)
    })
}

/// Descriptions of all devices; at least one.
///
/// # Errors
///
/// Why there is none that can be used, or why handlers cannot be compiled for them.
pub(crate) fn accelerators() -> Result<Vec<Accelerator>, Problem> {
    let found = all()?;
    found[first_usable(&found)].check()?;
    has_compiler()?;
    Ok(found.iter().map(Found::accelerator).collect())
}

/// Bytes of a device that nobody has; `None` while it is not open here.
pub(crate) fn free_memory(uuid: uuid::Uuid) -> Option<u64> {
    let found = all().ok()?.into_iter().find(|found| found.accelerator.uuid == Some(uuid))?;
    Gpu::free_memory(found.device)
}

/// The device that the options name, or else the first one; `wanted` says that CUDA was asked for, and that one without a
/// compiler will do.
///
/// # Errors
///
/// `Unavailable`, with the reason; `Invalid` for a name that means several.
pub(crate) fn choose(options: &DeviceOptions, wanted: bool) -> Result<Found> {
    let mut found = all().map_err(unavailable)?;
    if !wanted {
        has_compiler().map_err(unavailable)?;
    }
    let there: Vec<_> = found.iter().map(Found::accelerator).collect();
    let position = select::select(options, &there)?;
    let position = position.unwrap_or_else(|| first_usable(&found));
    found[position].check().map_err(unavailable)?;
    Ok(found.swap_remove(position))
}

/// The place of the first device that can be used, or of the first one.
fn first_usable(found: &[Found]) -> usize {
    found.iter().position(|found| found.check().is_ok()).unwrap_or(0)
}

impl Found {
    /// What it is, without opening it.
    pub(crate) fn accelerator(&self) -> Accelerator {
        self.accelerator.clone()
    }

    /// Can resident kernels run on it?
    fn check(&self) -> Result<(), Problem> {
        let refuse = |reason: &str, remedy: &str| {
            Err(Problem::new(format!("{}: {reason}", self.accelerator), remedy.to_owned()))
        };
        if !self.sees_host_memory {
            return refuse(
                "it does not let kernels use memory of this process, which has the rings of messages",
                "use another GPU, `wgpu` or `cpu`",
            );
        }
        if self.has_time_limit && std::env::var_os(TIME_LIMIT).is_none() {
            return refuse(
                "the system ends its kernels after some seconds, as it does where a GPU drives a screen, and a resident \
                 kernel is one",
                &format!("set {TIME_LIMIT} to try it all the same, or use another GPU, `wgpu` or `cpu`"),
            );
        }
        Ok(())
    }

    /// What it can do once it is open.
    pub(super) fn capabilities(&self) -> Capabilities {
        let Accelerator { name, driver, uuid, unified_memory, parallelism, largest_buffer, .. } =
            self.accelerator();
        Capabilities {
            name,
            driver,
            uuid,
            execution: Execution::Persistent,
            software: false,
            unified_memory,
            parallelism,
            largest_buffer,
            longest_loop: None,
        }
    }
}
