//! Machine code as a value, and as bytes that can be kept.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Version of the bytes and of what the code expects of whoever calls it: part of [`host_key`](super::host_key).
pub(super) const VERSION: u32 = 5;
/// The first bytes of every machine code that is kept.
const MAGIC: [u8; 8] = *b"ringjit\0";

/// What a compiled handler is: nothing in it refers to a place in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MachineCode {
    pub(super) code: Vec<u8>,
    /// Where in it the function for batches begins, if there is one.
    pub(super) batch: Option<u32>,
    /// The batch leaves it to whoever runs it to undo what a message did that is not handled to its end.
    pub(super) needs_replay: bool,
    pub(super) alignment: u32,
    pub(super) constants: Vec<u8>,
    pub(super) sizes: Sizes,
}

/// What a caller has to provide, in bytes: of parts and tables at least so many, of a batch just so many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sizes {
    pub message: u32,
    pub state: u32,
    pub reply: u32,
    pub privates: u32,
    /// The most values that one message emits.
    pub emits: u32,
    /// From one slot of a ring to the next.
    pub input_slot: u32,
    pub output_slot: u32,
    /// Where the number of its instance is in a message, if there are instances.
    pub instance_at: Option<u32>,
    pub tables: Vec<u32>,
}

impl MachineCode {
    /// The bytes to keep.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(postcard::to_stdvec(&(VERSION, self)).expect("numbers and lists can always be written"));
        bytes.extend(checksum(&bytes).to_le_bytes());
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    ///
    /// `Invalid` if the bytes are of another version or were damaged.
    ///
    /// # Safety
    ///
    /// The bytes may be run: the caller owes that they come from `to_bytes`, for the very program they are used for,
    /// under the [`host_key`](super::host_key) of this process, and that nobody else could write them since. The
    /// checksum finds accidents and not forgeries.
    pub(crate) unsafe fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let read = || {
            let (body, sum) = bytes.split_last_chunk::<8>()?;
            if checksum(body) != u64::from_le_bytes(*sum) {
                return None;
            }
            let ((version, code), rest): ((u32, Self), &[u8]) =
                postcard::take_from_bytes(body.strip_prefix(&MAGIC)?).ok()?;
            let is_whole = version == VERSION
                && rest.is_empty()
                && code.alignment.is_power_of_two()
                && code.alignment <= 4096
                && code.batch.is_none_or(|batch| (batch as usize) < code.code.len());
            is_whole.then_some(code)
        };
        read().ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the machine code is damaged or of another version".to_owned())
        })
    }
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}
