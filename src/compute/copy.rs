//! The host's copy of a buffer.

use super::shared::ALIGNMENT;
use crate::error::{Error, ErrorKind, Result};

/// Memory as aligned as any element may be.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

/// The host's copy; empty where it has none.
#[derive(Default)]
pub(super) struct HostCopy(Vec<Line>);

impl HostCopy {
    /// # Errors
    ///
    /// `Unavailable`, if the host has not so much memory.
    pub fn allocate(&mut self, bytes: usize) -> Result<()> {
        if self.0.is_empty() {
            let lines = bytemuck::try_zeroed_vec(bytes.div_ceil(ALIGNMENT));
            self.0 = lines.map_err(|()| no_memory(bytes))?;
        }
        Ok(())
    }

    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// The host has not so much memory.
pub(super) fn no_memory(bytes: usize) -> Error {
    let text = format!("the host has no memory for {bytes} bytes of a buffer; look at a part of it");
    Error::new(ErrorKind::Unavailable, text)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_the_host_does_not_have() {
        let mut copy = HostCopy::default();
        let bytes = isize::MAX as usize - (1 << 20);
        let error = copy.allocate(bytes).expect_err("no machine has it");
        assert!(error.is_unavailable() && error.to_string().contains(&bytes.to_string()), "{error:?}");
        copy.allocate(100).expect("every machine has it");
        assert_eq!(copy.bytes(), [0; 128]);
    }
}
