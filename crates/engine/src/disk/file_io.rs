//! Reading and writing at a place in a file, to the last byte.

use std::fs::File;
use std::io::IoSlice;
#[cfg(not(target_vendor = "apple"))]
use std::num::NonZeroU64;
use std::path::Path;

use bytes::Bytes;
#[cfg(not(target_vendor = "apple"))]
use rustix::fs::Advice;
use rustix::io::{Errno, retry_on_intr};

use super::DiskError;

/// What was wrong, before it is known with which file: its name is only made up when it is needed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file ends too soon.
    End,
    /// What the system said.
    System(Errno),
}

impl Fault {
    pub(super) fn at(self, path: &Path) -> DiskError {
        match self {
            Self::End => DiskError::Shortened { path: path.to_owned() },
            Self::System(errno) => DiskError::from_errno(path, errno),
        }
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Fills `buf` from `offset` of `file`.
pub(super) fn read_exact_at(file: &File, buf: &mut [u8], offset: u64) -> Result<(), Fault> {
    let mut done = 0;
    while done < buf.len() {
        match rustix::io::pread(file, &mut buf[done..], offset + done as u64) {
            Ok(0) => return Err(Fault::End),
            Ok(len) => done += len,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Fills as much of `buf` from `offset` of `file` as is in memory, without a wait for the disk. Returns
/// how much that is.
#[cfg(target_os = "linux")]
pub(super) fn read_cached_at(file: &File, buf: &mut [u8], offset: u64) -> usize {
    use std::io::IoSliceMut;

    let at_once = rustix::io::ReadWriteFlags::NOWAIT;
    // Whatever is wrong, a read that waits says it better.
    rustix::io::preadv2(file, &mut [IoSliceMut::new(buf)], offset, at_once).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read_cached_at(_: &File, _: &mut [u8], _: u64) -> usize {
    0
}

/// Whether the byte at `offset` of `file`, and so probably those behind it, would have to come from the disk.
pub(super) fn is_cold(file: &File, offset: u64) -> bool {
    read_cached_at(file, &mut [0], offset) == 0
}

/// Whether `file` is where files are in memory and nowhere else. Nothing of it has to come from a disk, and a
/// read that does not wait is not to be had there.
#[cfg(target_os = "linux")]
pub(super) fn is_in_memory(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|about| IN_MEMORY.contains(&(about.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_in_memory(_: &File) -> bool {
    false
}

/// Has the system read these bytes of `file` from the disk, without a wait for them.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn read_ahead(file: &File, offset: u64, len: u32) {
    for at in (0..len).step_by(AHEAD_LEN as usize) {
        let len = NonZeroU64::new(u64::from(AHEAD_LEN.min(len - at)));
        // It is advice: a system that does not take it reads all the same, later.
        rustix::fs::fadvise(file, offset + u64::from(at), len, Advice::WillNeed).ok();
    }
}

#[cfg(target_vendor = "apple")]
pub(super) fn read_ahead(_: &File, _: u64, _: u32) {}

/// The `len` bytes at `offset` of `file`, in a buffer that is filled once.
pub(super) fn read_bytes_at(file: &File, len: u32, offset: u64) -> Result<Bytes, Fault> {
    let len = len as usize;
    let mut buf = Vec::with_capacity(len);
    while buf.len() < len {
        let at = offset + buf.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buf), at) {
            Ok(0) => return Err(Fault::End),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // A vector may have more room than it was asked for, and a file more bytes than its torrent.
    buf.truncate(len);
    Ok(buf.into())
}

/// Writes all of `slices`, one after another, at `offset` of `file`.
pub(super) fn write_all_at(
    file: &File,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
) -> Result<(), Fault> {
    while !slices.is_empty() {
        let batch = &slices[..slices.len().min(SLICES_MAX)];
        let len = retry_on_intr(|| rustix::io::pwritev(file, batch, offset))?;
        if len == 0 && batch.iter().any(|slice| !slice.is_empty()) {
            // Never seen on a regular file, and not to be tried for ever.
            return Err(Errno::IO.into());
        }
        offset += len as u64;
        IoSlice::advance_slices(&mut slices, len);
    }
    Ok(())
}

/// Gives `file` disk space for `len` bytes; only the length where the file system cannot do more.
pub(super) fn allocate(file: &File, len: u64) -> Result<(), Fault> {
    match allocate_space(file, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            Ok(retry_on_intr(|| rustix::fs::ftruncate(file, len))?)
        }
        allocated => Ok(allocated?),
    }
}

#[cfg(target_os = "linux")]
fn allocate_space(file: &File, len: u64) -> rustix::io::Result<()> {
    let whole = rustix::fs::FallocateFlags::empty();
    retry_on_intr(|| rustix::fs::fallocate(file, whole, 0, len))
}

#[cfg(not(target_os = "linux"))]
fn allocate_space(_: &File, _: u64) -> rustix::io::Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// Whether nothing was ever written to these bytes of `file`, which are there. Where the system does
/// not say, `false`.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
pub(super) fn is_hole(file: &File, offset: u64, len: u32) -> bool {
    let end = offset + u64::from(len);
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(data_at) => data_at >= end,
        // No data from here to the end of the file, if it goes that far.
        Err(Errno::NXIO) => file.metadata().is_ok_and(|metadata| metadata.len() >= end),
        Err(_) => false,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub(super) fn is_hole(_: &File, _: u64, _: u32) -> bool {
    false
}

/// Hands out a list of buffers as slices of given lengths.
#[derive(Debug)]
pub(super) struct Gather<'a> {
    buffers: &'a [Bytes],
    /// How much of the first buffer has been handed out.
    skipped: usize,
}

impl<'a> Gather<'a> {
    pub(super) fn new(buffers: &'a [Bytes]) -> Self {
        Self { buffers, skipped: 0 }
    }

    /// The next `len` bytes, which must be there.
    pub(super) fn take(&mut self, mut len: usize) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(self.buffers.len().min(SLICES_MAX));
        while len > 0 {
            let (first, others) = self.buffers.split_first().expect("the spans cover the buffers");
            let rest = &first[self.skipped..];
            let taken = rest.len().min(len);
            if taken > 0 {
                slices.push(IoSlice::new(&rest[..taken]));
            }
            len -= taken;
            self.skipped += taken;
            if self.skipped == first.len() {
                (self.buffers, self.skipped) = (others, 0);
            }
        }
        slices
    }
}

/// How many buffers are written in one call. More gain nothing, and each system has its own maximum.
const SLICES_MAX: usize = 64;

/// What Linux calls file systems that are nothing but memory: tmpfs, ramfs.
#[cfg(target_os = "linux")]
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// How much is asked for at once: of more, Linux forgets the rest if its read-ahead is set to that.
#[cfg(not(target_vendor = "apple"))]
const AHEAD_LEN: u32 = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_more_buffers_than_one_call_takes() {
        let file = tempfile::tempfile().unwrap();
        let buffers: Vec<_> =
            (0..300_u32).map(|n| Bytes::from(vec![n as u8; n as usize])).collect();
        let whole = buffers.concat();
        let mut slices = Gather::new(&buffers).take(whole.len());
        write_all_at(&file, &mut slices, 7).unwrap();
        let found = read_bytes_at(&file, whole.len() as u32, 7).unwrap();
        assert!(found == whole);
    }

    #[test]
    fn gathers_across_buffers_and_over_empty_ones() {
        let buffers = ["ab", "", "cde", "", "f"].map(|text| Bytes::from_static(text.as_bytes()));
        let mut gather = Gather::new(&buffers);
        let mut take =
            |len| gather.take(len).iter().map(|slice| slice.to_vec()).collect::<Vec<_>>().concat();
        assert_eq!([take(1), take(3), take(2)], [b"a".to_vec(), b"bcd".to_vec(), b"ef".to_vec()]);
    }

    #[test]
    fn says_that_a_file_is_too_short() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        let error = read_bytes_at(&file, 11, 0).unwrap_err();
        assert!(matches!(error.at(Path::new("f")), DiskError::Shortened { .. }));
        let error = read_exact_at(&file, &mut [0; 2], 9).unwrap_err();
        assert!(matches!(error.at(Path::new("f")), DiskError::Shortened { .. }));
    }

    #[test]
    fn a_device_without_space_is_full() {
        // The one place where every Linux gives ENOSPC to anyone who asks.
        let Ok(file) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
        let error = write_all_at(&file, &mut [IoSlice::new(b"x")], 0).unwrap_err();
        assert!(matches!(error.at(Path::new("f")), DiskError::Full { .. }));
    }
}
