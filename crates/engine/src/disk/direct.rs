//! Reading past the system's cache: what a check reads once from a cold disk need not be kept, and a disk gives
//! it faster when no memory has to be found for it first.

use std::fs::File;
use std::ops::Range;

/// Reads `len` bytes from `offset` of `file`, which is open for direct reading, into `buf`. Returns where in `buf`
/// they are; `None` if that cannot be had directly, for whatever reason.
///
/// `buf` has to be [`DIRECT_SLACK`] longer than `len`: a disk gives whole blocks, to aligned places.
pub(super) fn read_direct(
    file: &File,
    offset: u64,
    len: usize,
    buf: &mut [u8],
) -> Option<Range<usize>> {
    let pad = buf.as_ptr().align_offset(ALIGN);
    let skip = (offset % ALIGN as u64) as usize;
    let whole = (skip + len).next_multiple_of(ALIGN);
    let buf = buf.get_mut(pad..pad.checked_add(whole)?)?;
    let begin = offset - skip as u64;
    let mut done = 0;
    while done < skip + len {
        let count = rustix::io::pread(file, &mut buf[done..], begin + done as u64).ok()?;
        // Fewer bytes than a block, and the next read would not be aligned: the file may end here.
        if count == 0 || (!count.is_multiple_of(ALIGN) && done + count < skip + len) {
            return None;
        }
        done += count;
    }
    Some(pad + skip..pad + skip + len)
}

/// What every disk is content with.
const ALIGN: usize = 4096;

/// How much longer than what is wanted a buffer has to be.
pub(super) const DIRECT_SLACK: usize = 3 * ALIGN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_file_comes_whole_and_nothing_past_its_end() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..20_000_u32).map(|at| (at / 7) as u8).collect();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        let mut buf = vec![0; 20_000 + DIRECT_SLACK];
        for (offset, len) in [(0, 20_000), (1, 19_999), (4095, 2), (4096, 4096), (19_999, 1)] {
            let found = read_direct(&file, offset as u64, len, &mut buf).unwrap();
            assert!(buf[found] == bytes[offset..offset + len]);
        }
        assert_eq!(read_direct(&file, 19_999, 2, &mut buf), None);
        assert_eq!(read_direct(&file, 0, 20_000, &mut [0; 20_000]), None, "too small a buffer");
    }
}
