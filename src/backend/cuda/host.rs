//! Host memory that the device sees: the rings of kernels, and what copies go through.
//!
//! It is this process's own memory, which the driver is told of. Memory that the driver allocates goes with the context
//! when a lost device is reset, while ports, kernels and the watch still look into it; this stays for as long as somebody
//! has it.

use super::driver::{self, CUdeviceptr, Refusal};
use super::gpu::{Gpu, Shared};
use crate::sync::{Mutex, lock};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Weak};

/// Whole pages are registered: a page as large as this machine's may be.
pub(super) const PAGE: usize = if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 };

/// Bytes that there are.
#[cfg(test)]
pub(super) static BYTES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Memory of this process's.
struct Pages {
    at: Shared<*mut c_void>,
    layout: Layout,
}

impl Pages {
    /// So many bytes at least, zeroed; `None` if there are not as many.
    fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.max(1), PAGE).ok()?.pad_to_align();
        // SAFETY: the layout has bytes.
        let at = unsafe { alloc_zeroed(layout) };
        let pages = (!at.is_null()).then_some(Self { at: Shared(at.cast()), layout })?;
        pages.keep_from_children(true);
        #[cfg(test)]
        BYTES.fetch_add(pages.layout.size(), std::sync::atomic::Ordering::Relaxed);
        Some(pages)
    }

    /// Of a process that forks the child might get the pages that the device has, and this one copies of them. One that
    /// does not get them at all cannot be in the way, as with memory that the driver allocates.
    #[cfg(target_os = "linux")]
    fn keep_from_children(&self, are_kept: bool) {
        let advice = if are_kept { libc::MADV_DONTFORK } else { libc::MADV_DOFORK };
        // SAFETY: whole pages of this process's own; a child does not use them. Where it is refused, nothing changes.
        _ = unsafe { libc::madvise(self.at.0, self.layout.size(), advice) };
    }

    #[cfg(not(target_os = "linux"))]
    fn keep_from_children(&self, _: bool) {}
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.keep_from_children(false);
        #[cfg(test)]
        BYTES.fetch_sub(self.layout.size(), std::sync::atomic::Ordering::Relaxed);
        // SAFETY: allocated with this layout; whoever has it is the last one.
        unsafe { dealloc(self.at.0.cast(), self.layout) };
    }
}

/// Memory that is registered, which whoever lets go of it has to see to: what a device may still write to is not to be
/// allocated again.
pub(super) struct Mapped {
    pages: Pages,
    device: CUdeviceptr,
}

impl Mapped {
    /// So many bytes at least, zeroed; `None` if there are not as many. May wait for kernels. The context is this thread's
    /// own.
    pub fn new(bytes: usize) -> Result<Option<Self>, Refusal> {
        let Some(pages) = Pages::new(bytes) else { return Ok(None) };
        // SAFETY: memory of this process's, which stays until it is unregistered or the context is reset.
        unsafe { driver::register(pages.at.0, pages.layout.size()) }?;
        match driver::device_address(pages.at.0) {
            Ok(device) => Ok(Some(Self { pages, device })),
            Err(refusal) => {
                // SAFETY: registered above; no kernel knows of it.
                unsafe { Self { pages, device: 0 }.free() };
                Err(refusal)
            }
        }
    }

    pub fn size(&self) -> usize {
        self.pages.layout.size()
    }

    /// Frees it. May wait for kernels. The context is this thread's own.
    ///
    /// # Safety
    ///
    /// No kernel uses it any more.
    pub unsafe fn free(self) {
        // SAFETY: registered in `new`.
        if unsafe { driver::unregister(self.pages.at.0) }.is_err() {
            // The driver has it for whatever reason, and may go on to.
            std::mem::forget(self.pages);
        }
    }

    fn bytes(&self) -> *mut u8 {
        self.pages.at.0.cast()
    }
}

/// Memory of a device that nobody here uses any more, and that a kernel may still write to: the device was lost before it
/// could be asked to leave. Freed when the context has been reset; if it never is, it stays.
#[derive(Default)]
pub(super) struct Remains(Mutex<State>);

#[derive(Default)]
struct State {
    is_reset: bool,
    left: Vec<Mapped>,
}

impl Remains {
    /// Frees memory as soon as it can be. The device is lost, or does not answer.
    pub fn take(&self, memory: Mapped) {
        let mut state = lock(&self.0);
        if !state.is_reset {
            state.left.push(memory);
        }
        // Else the reset has unregistered it.
    }

    /// The device's context has been reset: no kernel is left, and nothing is registered.
    pub fn free(&self) {
        let mut state = lock(&self.0);
        state.is_reset = true;
        state.left.clear();
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        // Leaked on purpose: a kernel may write to it.
        std::mem::take(&mut lock(&self.0).left).into_iter().for_each(std::mem::forget);
    }
}

/// Host memory that the device sees. Goes to the spare memory in the end: whoever has it sees to it that the device does
/// not use it any more.
pub(super) struct HostMemory {
    gpu: Weak<Gpu>,
    remains: Arc<Remains>,
    /// There until it is dropped.
    mapped: Option<Mapped>,
}

impl HostMemory {
    pub fn new(gpu: &Arc<Gpu>, mapped: Mapped) -> Self {
        // SAFETY: so many bytes, which nobody uses.
        unsafe { mapped.bytes().write_bytes(0, mapped.size()) };
        Self { gpu: Arc::downgrade(gpu), remains: gpu.remains.clone(), mapped: Some(mapped) }
    }

    fn mapped(&self) -> &Mapped {
        self.mapped.as_ref().expect("it is there until this is dropped")
    }

    pub fn bytes(&self) -> *mut u8 {
        self.mapped().bytes()
    }

    /// The device's address of this byte.
    pub fn address(&self, offset: usize) -> u64 {
        self.mapped().device + offset as u64
    }

    /// Granules from this byte on.
    pub fn granules(&self, offset: usize, count: usize) -> &[AtomicU64] {
        assert!(
            offset.is_multiple_of(8) && offset + count * 8 <= self.mapped().size(),
            "granules are inside their memory"
        );
        // SAFETY: inside, aligned, and initialised; both sides use atomic accesses only.
        unsafe { std::slice::from_raw_parts(self.bytes().add(offset).cast(), count) }
    }

    /// Words from this byte on.
    pub fn words(&self, offset: usize, count: usize) -> &[AtomicU32] {
        assert!(
            offset.is_multiple_of(4) && offset + count * 4 <= self.mapped().size(),
            "words are inside their memory"
        );
        // SAFETY: as in `granules`.
        unsafe { std::slice::from_raw_parts(self.bytes().add(offset).cast(), count) }
    }

    /// Takes it from what the device itself goes with.
    pub fn into_mapped(mut self) -> Mapped {
        self.mapped.take().expect("it is there until this is dropped")
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        let Some(mapped) = self.mapped.take() else { return };
        match self.gpu.upgrade().filter(|gpu| !gpu.is_lost()) {
            Some(gpu) => gpu.keep(mapped),
            None => self.remains.take(mapped),
        }
    }
}
