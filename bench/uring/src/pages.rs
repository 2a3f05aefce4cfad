//! Memory of its own pages. It never moves and is never a `&mut` of ours while the kernel may write to
//! it, which a `Vec` would promise; O_DIRECT wants it aligned besides.

use std::ffi::c_void;
use std::io;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// A private mapping, zeroed, unmapped at drop. Whoever shares it with the kernel has to keep it until
/// the kernel is done.
#[derive(Debug)]
pub struct Pages {
    base: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// Touches each page, so that no fault is measured later.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new(len: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a mapping at an address that the kernel chooses replaces no other.
        let base = unsafe {
            mmap_anonymous(null_mut(), len, access, MapFlags::PRIVATE | MapFlags::POPULATE)
        }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// The address of byte `offset`.
    ///
    /// # Panics
    /// If it is not within.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len, "an offset is within its pages");
        // SAFETY: within the mapping, as just checked.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// All of it, for one who shares it with nobody.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped, initialized to zero, and `&mut self` says that no other reference exists.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nobody has a reference any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
        debug_assert!(unmapped.is_ok(), "what was mapped can be unmapped");
    }
}
