//! The 32 bytes behind a saved snapshot: the SHA-256 of the database before them.

use crate::error::BboltError;
use crate::source::ReadAt;
use sha2::{Digest as _, Sha256};
use std::io;

const SHA256_BYTES: u64 = 32;

/// A database is a multiple of this long, whatever its page size: what is left over is a checksum.
const BLOCK_BYTES: u64 = 512;

/// Read at a time for the checksum.
const PIECE_BYTES: usize = 1 << 20;

/// What is known about a file's wholeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// The checksum is there, and is right.
    Checked,
    /// The checksum is there, and was not looked at.
    Skipped,
    /// There is none.
    Absent,
}

/// A file without the checksum behind it.
#[derive(Debug)]
pub struct Trailed<R> {
    source: R,
    len: u64,
}

impl<R: ReadAt> ReadAt for Trailed<R> {
    fn bytes_len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.saturating_add(buffer.len() as u64) > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.source.read_exact_at(buffer, offset)
    }
}

/// Looks for the checksum behind a file, and unless told to `skip` it, compares it. `progress` hears how many bytes
/// were read so far.
pub fn check_trailer<R: ReadAt>(
    source: R,
    skip: bool,
    mut progress: impl FnMut(u64),
) -> Result<(Trailed<R>, Integrity), BboltError> {
    let action = "read the file for its checksum";
    let len = source.bytes_len().map_err(BboltError::io(action))?;
    if len % BLOCK_BYTES != SHA256_BYTES {
        return Ok((Trailed { source, len }, Integrity::Absent));
    }
    let len = len - SHA256_BYTES;
    if skip {
        return Ok((Trailed { source, len }, Integrity::Skipped));
    }
    let mut expected = [0; SHA256_BYTES as usize];
    source
        .read_exact_at(&mut expected, len)
        .map_err(BboltError::io(action))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < len {
        let wanted = usize::try_from(len - at).unwrap_or(PIECE_BYTES);
        let piece = buffer
            .get_mut(..wanted.min(PIECE_BYTES))
            .unwrap_or_default();
        source
            .read_exact_at(piece, at)
            .map_err(BboltError::io(action))?;
        hash.update(&*piece);
        at += piece.len() as u64;
        progress(at);
    }
    let found = hash.finalize();
    if found[..] != expected {
        return Err(BboltError::Sha256 {
            expected: hex(&expected),
            found: hex(&found),
        });
    }
    Ok((Trailed { source, len }, Integrity::Checked))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
