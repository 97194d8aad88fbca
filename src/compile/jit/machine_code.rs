//! Machine code as a value, and as bytes that can be kept.

use crate::error::{Error, ErrorKind, Result};

/// Version of the bytes and of what the code expects of whoever calls it: part of [`host_key`](super::host_key).
pub(super) const VERSION: u32 = 5;
/// The first bytes of every machine code that is kept.
const MAGIC: [u8; 8] = *b"ringjit\0";

/// Stands for no offset, in bytes that are kept.
const NO_INSTANCES: u32 = u32::MAX;

/// What a compiled handler is: nothing in it refers to a place in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
        let Sizes {
            message,
            state,
            reply,
            privates,
            emits,
            input_slot,
            output_slot,
            instance_at,
            ref tables,
        } = self.sizes;
        let mut bytes = MAGIC.to_vec();
        let counts = [tables.len(), self.constants.len(), self.code.len()].map(|count| count as u32);
        let batch = self.batch.unwrap_or(0);
        let head = [
            VERSION,
            self.alignment,
            batch,
            self.needs_replay.into(),
            message,
            state,
            reply,
            privates,
            emits,
            input_slot,
            output_slot,
            instance_at.unwrap_or(NO_INSTANCES),
        ];
        for number in head.iter().chain(&counts).chain(tables) {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&self.constants);
        bytes.extend(&self.code);
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
        let damaged =
            || Error::new(ErrorKind::Invalid, "the machine code is damaged or of another version".to_owned());
        let (body, sum) =
            bytes.split_last_chunk::<8>().map(|(body, sum)| (body, *sum)).ok_or_else(damaged)?;
        if checksum(body) != u64::from_le_bytes(sum) {
            return Err(damaged());
        }
        let mut rest = body.strip_prefix(&MAGIC).ok_or_else(damaged)?;
        let mut number = || -> Result<u32> {
            let (first, others) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
            rest = others;
            Ok(u32::from_le_bytes(*first))
        };
        let mut head = [0; 15];
        for field in &mut head {
            *field = number()?;
        }
        let [
            version,
            alignment,
            batch,
            needs_replay,
            message,
            state,
            reply,
            privates,
            emits,
            input_slot,
            output_slot,
            instance_at,
            tables,
            constants,
            code,
        ] = head;
        if version != VERSION || !alignment.is_power_of_two() || alignment > 4096 {
            return Err(damaged());
        }
        let tables = (0..tables).map(|_| number()).collect::<Result<Vec<u32>>>()?;
        if rest.len() as u64 != u64::from(constants) + u64::from(code) || batch > code {
            return Err(damaged());
        }
        let (constants, code) = rest.split_at(constants as usize);
        Ok(Self {
            code: code.to_vec(),
            // The other function comes first.
            batch: (batch != 0).then_some(batch),
            needs_replay: needs_replay != 0,
            alignment,
            constants: constants.to_vec(),
            sizes: Sizes {
                message,
                state,
                reply,
                privates,
                emits,
                input_slot,
                output_slot,
                instance_at: (instance_at != NO_INSTANCES).then_some(instance_at),
                tables,
            },
        })
    }
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}
