//! What is to be written: a tail of small frames, and blocks that are shared with their owners instead of copied.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::limits::IDLE_BUFFER_BYTES;

/// Bytes for the socket, in order.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Chunk>,
    tail: Vec<u8>,
    /// Bytes of the first piece that are written already.
    written: usize,
    /// Bytes of all pieces before the tail.
    chunk_bytes: usize,
}

#[derive(Debug)]
enum Chunk {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Own(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}

impl Output {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunk_bytes + self.tail.len() - self.written
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `slices` with what comes first; answers how many were used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.chunks.iter().map(Chunk::bytes);
        let mut skip = self.written;
        let mut used = 0;
        for (piece, slice) in pieces.chain([&self.tail[..]]).zip(slices) {
            *slice = IoSlice::new(piece.get(skip..).unwrap_or_default());
            skip = 0;
            used += 1;
        }
        used
    }

    /// The first piece.
    #[must_use]
    pub fn first(&self) -> &[u8] {
        let piece = self.chunks.front().map_or(&self.tail[..], Chunk::bytes);
        piece.get(self.written..).unwrap_or_default()
    }

    /// So many bytes were written.
    pub fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let left = self.first().len();
            if count < left {
                self.written += count;
                return;
            }
            count -= left;
            self.written = 0;
            match self.chunks.pop_front() {
                Some(chunk) => self.chunk_bytes -= chunk.bytes().len(),
                None => return self.tail.clear(),
            }
        }
    }

    /// Everything at once, for tests and for shells that want one block.
    pub fn take(&mut self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        while !self.is_empty() {
            let first = self.first();
            all.extend_from_slice(first);
            let len = first.len();
            self.advance(len);
        }
        all
    }

    /// Gives a buffer to fill, if there is none: shells let many connections share a few.
    pub fn lend(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        if self.tail.capacity() > 0 {
            return Some(buffer);
        }
        self.tail = buffer;
        None
    }

    /// Takes the buffer, if nothing is in it.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.tail.capacity() > 0).then(|| std::mem::take(&mut self.tail))
    }

    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    pub(crate) fn share(&mut self, bytes: Bytes) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.chunk_bytes += tail.len();
            self.chunks.push_back(Chunk::Own(tail));
        }
        self.chunk_bytes += bytes.len();
        self.chunks.push_back(Chunk::Shared(bytes));
    }

    pub(crate) fn release(&mut self) {
        if self.is_empty() && self.tail.capacity() > IDLE_BUFFER_BYTES {
            self.tail = Vec::new();
        }
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.chunk_bytes + self.tail.capacity() + self.chunks.capacity() * size_of::<Chunk>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_go_out_in_order_however_they_are_taken() {
        for step in 1..12 {
            let mut output = Output::default();
            output.tail().extend_from_slice(b"abc");
            output.share(Bytes::from_static(b"defg"));
            output.share(Bytes::from_static(b"h"));
            output.tail().extend_from_slice(b"ijk");
            assert_eq!(output.len(), 11);
            let mut all = Vec::new();
            while !output.is_empty() {
                let mut slices = [IoSlice::new(&[]); 8];
                let used = output.slices(&mut slices);
                let next: Vec<u8> = slices
                    .iter()
                    .take(used)
                    .flat_map(|slice| slice.iter().copied())
                    .collect();
                assert_eq!(next.len(), output.len());
                let taken = step.min(next.len());
                all.extend_from_slice(next.get(..taken).unwrap());
                output.advance(taken);
            }
            assert_eq!(all, b"abcdefghijk");
        }
    }

    #[test]
    fn a_tail_written_in_part_can_be_added_to() {
        let mut output = Output::default();
        output.tail().extend_from_slice(b"abc");
        output.advance(2);
        output.tail().extend_from_slice(b"de");
        output.share(Bytes::from_static(b"f"));
        assert_eq!(output.take(), b"cdef");
        assert!(output.is_empty());
    }
}
