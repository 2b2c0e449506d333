//! Where bytes are read from: a file, or memory.

use bytes::Bytes;
use std::fs::File;
use std::io;

/// Something that can be read at any place.
pub trait ReadAt {
    /// How many bytes there are.
    fn bytes_len(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on; an error when there are not so many bytes.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn bytes_len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for Bytes {
    fn bytes_len(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = start
            .checked_add(buffer.len())
            .and_then(|end| self.get(start..end));
        let found = found.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn bytes_len(&self) -> io::Result<u64> {
        (**self).bytes_len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}
