//! A provided buffer ring: buffers that the kernel picks from when data is there, so that a connection
//! that waits has none. We give a buffer back by writing it to the tail.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::Pages;

/// `count` buffers of `len` bytes each, group 0 of the ring that they are registered with.
#[derive(Debug)]
pub struct BufferRing {
    entries: Pages,
    buffers: Pages,
    count: u16,
    len: usize,
    tail: u16,
}

impl BufferRing {
    /// # Errors
    /// If memory is short.
    ///
    /// # Panics
    /// If `count` is not a power of two.
    pub fn new(count: u16, len: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "a ring has a power of two of entries");
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let buffers = Pages::new(usize::from(count) * len)?;
        let mut ring = Self { entries, buffers, count, len, tail: 0 };
        (0..count).for_each(|id| ring.put(id));
        ring.publish();
        Ok(ring)
    }

    /// Lends the buffers to the kernel.
    ///
    /// # Errors
    /// If the kernel does not know buffer rings.
    ///
    /// # Safety
    /// They have to outlive the io_uring: declare them before it.
    pub unsafe fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let entries = self.entries.at(0) as u64;
        // SAFETY: `entries` has room for `count` of them, is page-aligned, and the caller keeps it.
        unsafe { submitter.register_buf_ring_with_flags(entries, self.count, 0, 0) }
    }

    /// The address of a buffer.
    pub fn at(&self, id: u16) -> *mut u8 {
        self.buffers.at(usize::from(id) * self.len)
    }

    /// Gives a buffer back; the kernel sees it after [`publish`](Self::publish).
    pub fn put(&mut self, id: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        let entry = self.entries.at(index * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        let addr = self.at(id) as u64;
        // SAFETY: aligned, within `entries`, and not the kernel's before the tail passes it. The fields
        // are set one by one, since the tail lies in the unused bytes of the first entry.
        let entry = unsafe { &mut *entry };
        entry.set_addr(addr);
        entry.set_len(self.len as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given back.
    pub fn publish(&mut self) {
        let base = self.entries.at(0).cast::<BufRingEntry>();
        // SAFETY: `base` is the first entry of the ring.
        let tail = unsafe { BufRingEntry::tail(base) }.cast_mut();
        // SAFETY: aligned for a u16, alive as long as `entries`, and the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        tail.store(self.tail, Ordering::Release);
    }
}
