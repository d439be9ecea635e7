//! Outgoing bytes that have not been sent yet.
use crate::free_list::FreeList;
use std::{collections::VecDeque, io::IoSlice};

/// The size of the chunks in which small pieces are gathered.
const CHUNK: usize = 64 * 1024;

/// The number of unused buffers that a thread keeps.
const FREE_BUFFERS: usize = 16;

thread_local! {
    static FREE: FreeList<Box<Buffer>> = const { FreeList::new(FREE_BUFFERS) };
}

/// A queue of bytes, in chunks, that is sent with vectored writes.
#[derive(Default)]
pub(super) struct Buffer {
    chunks: VecDeque<Vec<u8>>,
    /// The number of bytes of the first chunk that have been sent.
    sent: usize,
    len: usize,
}

/// The maximum number of chunks in one vectored write.
pub(super) const SLICES: usize = 64;

impl Buffer {
    /// Returns an empty buffer, from the free list if it has one.
    #[expect(clippy::unnecessary_box_returns, reason = "the free list keeps the allocation")]
    pub(super) fn take_free() -> Box<Self> {
        FREE.try_with(FreeList::take).ok().flatten().unwrap_or_default()
    }

    /// Returns the buffer to the free list, with at most one chunk of the usual size.
    pub(super) fn recycle(mut self: Box<Self>) {
        self.chunks.truncate(1);
        self.chunks.retain(|chunk| chunk.capacity() <= CHUNK);
        self.chunks.iter_mut().for_each(Vec::clear);
        (self.sent, self.len) = (0, 0);
        // while the thread's storage is being torn down there is no list
        let _ = FREE.try_with(|free| free.put(self));
    }

    #[inline]
    pub(super) fn push(&mut self, data: &[u8]) {
        self.len += data.len();
        match self.chunks.back_mut() {
            Some(last) if last.len() + data.len() <= CHUNK => last.extend_from_slice(data),
            _ => self.push_chunk(data),
        }
    }

    #[inline(never)]
    fn push_chunk(&mut self, data: &[u8]) {
        if self.chunks.front().is_some_and(Vec::is_empty) {
            self.chunks.clear();
        }
        if !data.is_empty() {
            self.chunks.push_back(data.to_vec());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Fills `slices` with the next bytes to send.
    pub(super) fn peek<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            let from = if count == 0 { self.sent } else { 0 };
            *slice = IoSlice::new(chunk.get(from..).unwrap_or_default());
            count += 1;
        }
        count
    }

    /// Removes the first `sent` bytes, which have been sent.
    pub(super) fn consume(&mut self, mut sent: usize) {
        self.len = self.len.saturating_sub(sent);
        if self.len == 0 {
            // the first chunk is kept, to be filled again
            self.sent = self.chunks.front().map_or(0, Vec::len);
            return;
        }
        while let Some(first) = self.chunks.front() {
            let left = first.len() - self.sent;
            if sent < left {
                self.sent += sent;
                return;
            }
            sent -= left;
            self.sent = 0;
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffer, SLICES};
    use std::io::IoSlice;

    fn peeked(buffer: &Buffer) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = buffer.peek(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn bytes_come_out_in_order_whatever_the_cuts() {
        for step in [1, 7, 1000, 16384, 40000] {
            let mut buffer = Buffer::default();
            let mut expected = Vec::new();
            for n in 0..50u32 {
                let piece = vec![n.to_le_bytes()[0]; (n as usize * 977) % 900];
                buffer.push(&piece);
                expected.extend_from_slice(&piece);
            }
            let mut out = Vec::new();
            while !buffer.is_empty() {
                let mut next = peeked(&buffer);
                next.truncate(step);
                buffer.consume(next.len());
                out.extend(next);
                assert_eq!(buffer.len(), expected.len() - out.len());
            }
            assert_eq!(out, expected);
        }
    }
}
