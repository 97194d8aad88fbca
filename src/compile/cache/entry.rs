//! One file on disk: a header that says whose it is and how long, a checksum over all of it, and the artefact.
//!
//! | byte | what |
//! |---:|---|
//! | 0 | `RINGWORK` |
//! | 8 | version of this format, u32, little-endian |
//! | 12 | bytes of the artefact, u64, little-endian |
//! | 20 | the key |
//! | 52 | SHA-256 of bytes 0 to 52 and of the artefact |
//! | 84 | the artefact |
//!
//! The checksum is against damage. Against others it is no help, for they could compute it too: against them there
//! is the owner of the folder and of each file.

use super::folder;
use super::key::Key;
use sha2::{Digest, Sha256};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::SystemTime;

const MAGIC: &[u8; 8] = b"RINGWORK";
const VERSION: u32 = 1;
const LENGTH_AT: usize = 12;
const KEY_AT: usize = 20;
pub(super) const CHECKSUM_AT: usize = KEY_AT + Key::SIZE;
/// Bytes in front of the artefact.
pub(super) const HEADER: usize = CHECKSUM_AT + 32;

pub(super) fn checksum(facts: &[u8], artefact: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(facts).chain_update(artefact).finalize().into()
}

/// The header of an artefact's file.
pub(super) fn header(key: &Key, artefact: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..LENGTH_AT].copy_from_slice(&VERSION.to_le_bytes());
    header[LENGTH_AT..KEY_AT].copy_from_slice(&(artefact.len() as u64).to_le_bytes());
    header[KEY_AT..CHECKSUM_AT].copy_from_slice(key.bytes());
    let checksum = checksum(&header[..CHECKSUM_AT], artefact);
    header[CHECKSUM_AT..].copy_from_slice(&checksum);
    header
}

/// What became of looking for an entry.
#[derive(Debug)]
pub(super) enum Found {
    /// The artefact, whole and right.
    Artefact(Vec<u8>),
    Nothing,
    /// A file that must not be used.
    Rejected,
}

/// Looks for the artefact of a key, which has `most` bytes with its header, and notes that it was used.
///
/// # Errors
///
/// If the file is there and cannot be read.
pub(super) fn read(path: &Path, key: &Key, most: u64) -> io::Result<Found> {
    let mut file = match folder::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        // A link, which is none of the cache's files, or somebody else's file.
        Err(_) if path.symlink_metadata().is_ok_and(|metadata| !is_own(&metadata)) => {
            return Ok(Found::Rejected);
        }
        Err(error) => return Err(error),
    };
    // Of the opened file: whatever happens to the name, this is what is read.
    let metadata = file.metadata()?;
    let size = metadata.len();
    if !is_own(&metadata) || size < HEADER as u64 || size > most {
        return Ok(Found::Rejected);
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // One byte more than it should have: a file that grows is no entry.
    file.by_ref().take(size + 1).read_to_end(&mut bytes)?;
    let Some((head, artefact)) = bytes.split_at_checked(HEADER) else { return Ok(Found::Rejected) };
    // The header that the artefact should have says it all: magic, version, length, key and checksum.
    if bytes.len() as u64 != size || head != header(key, artefact) {
        return Ok(Found::Rejected);
    }
    // In a folder that cannot be written to, nothing is evicted either.
    let _ = file.set_modified(SystemTime::now());
    bytes.drain(..HEADER);
    Ok(Found::Artefact(bytes))
}

/// Can this be a file that the cache wrote?
fn is_own(metadata: &std::fs::Metadata) -> bool {
    metadata.is_file() && folder::owned(metadata).is_ok()
}
