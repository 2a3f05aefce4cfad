//! Which disk a path is on, so that one that hangs holds up nobody on another.
//!
//! The system's list of mounts is read, never the paths themselves: to touch a file system that hangs is
//! to hang with it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// The file systems that are mounted, as [`/proc/self/mountinfo`] has them. On systems without that file
/// everything is on one common disk. Of mounts past the first 4,096 nothing is known: what is there is on the
/// disk around them.
///
/// [`/proc/self/mountinfo`]: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
#[derive(Clone, Debug, Default)]
pub struct Disks {
    mounts: Vec<Mount>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    disk: Disk,
    point: PathBuf,
}

/// One file system, wherever it is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Disk {
    major: u16,
    minor: u32,
}

impl Disks {
    /// What is mounted now.
    pub fn now() -> Self {
        // Names of mount points need not be text.
        fs::read("/proc/self/mountinfo").map_or_else(|_| Self::default(), |list| Self::parse(&list))
    }

    fn parse(mountinfo: &[u8]) -> Self {
        let lines = mountinfo.split(|&byte| byte == b'\n');
        Self { mounts: lines.filter_map(Mount::parse).take(MOUNTS_MAX).collect() }
    }

    /// The disk that `path` is on, going by its name: links on the way are not followed. A relative path
    /// is so to the working directory.
    pub fn disk_of(&self, path: &Path) -> Disk {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let above = self.mounts.iter().filter(|mount| path.starts_with(&mount.point));
        // Of two at one place the later one hides the other.
        let nearest = above.max_by_key(|mount| mount.point.components().count());
        nearest.map_or_else(Disk::default, |mount| mount.disk)
    }
}

impl Disk {
    /// A number that no other file system has now; less than 2^48.
    pub fn number(self) -> u64 {
        u64::from(self.major) << 32 | u64::from(self.minor)
    }

    /// Whether it has a head that moves, so that two who read at once hinder each other. `false` if the system
    /// does not say.
    pub fn is_rotational(self) -> bool {
        self.is_rotational_by(Path::new("/sys/dev/block"))
    }

    fn is_rotational_by(self, devices: &Path) -> bool {
        let device = devices.join(format!("{}:{}", self.major, self.minor));
        // A partition leaves that to the disk that it is part of, in whose folder it is.
        let of_disk = device.join("queue/rotational");
        let of_partition = device.join("../queue/rotational");
        let said = fs::read(of_disk).or_else(|_| fs::read(of_partition));
        said.is_ok_and(|said| said.starts_with(b"1"))
    }
}

impl Mount {
    /// `36 35 98:0 /root /mount/point options …`
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ').skip(2);
        let device = str::from_utf8(fields.next()?).ok()?;
        let (major, minor) = device.split_once(':')?;
        let disk = Disk { major: major.parse().ok()?, minor: minor.parse().ok()? };
        Some(Self { disk, point: unescape(fields.nth(1)?) })
    }
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut name = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, others)) = rest.split_first() {
        let digits = others.first_chunk::<3>().filter(|_| first == b'\\');
        let byte =
            digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        name.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &others[3..] } else { others };
    }
    PathBuf::from(OsString::from_vec(name))
}

/// Mounts that are looked at.
const MOUNTS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use torrent::Rng;

    use super::*;

    const MOUNTS: &[u8] = b"\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
30 22 0:25 / /proc rw - proc proc rw
41 22 8:17 / /mnt/films rw,noatime - xfs /dev/sdb1 rw
42 22 0:44 / /mnt/my\\040share\\134x rw - nfs4 host:/x rw
43 22 0:45 / /mnt/films/new rw - fuse fuse rw
44 22 0:46 / /mnt/films/new rw - tmpfs tmpfs rw
45 22 8:17 /kept /srv rw - xfs /dev/sdb1 rw
";

    fn number(path: &str) -> (u16, u32) {
        let disk = Disks::parse(MOUNTS).disk_of(Path::new(path));
        (disk.major, disk.minor)
    }

    #[test]
    fn the_nearest_mount_above_a_path_says_its_disk() {
        assert_eq!(number("/home/me/x"), (8, 2));
        assert_eq!(number("/mnt/films"), (8, 17));
        assert_eq!(number("/mnt/films2/a"), (8, 2), "a name is not a folder");
        assert_eq!(number("/mnt/my share\\x/a"), (0, 44));
        assert_eq!(number("/mnt/films/new/a"), (0, 46), "the later mount hides the one before");
    }

    #[test]
    fn a_disk_that_is_mounted_twice_is_one() {
        assert_eq!(number("/srv/a"), number("/mnt/films/a"));
    }

    #[test]
    fn without_a_list_all_is_on_one_disk() {
        let disks = Disks::default();
        assert_eq!(disks.disk_of(Path::new("/a")), disks.disk_of(Path::new("b")));
        assert_eq!(disks.disk_of(Path::new("/a")).number(), 0);
    }

    #[test]
    fn noise_is_no_list() {
        for seed in 0..2000 {
            let mut rng = Rng::from_seed(seed);
            let mut list = MOUNTS.to_vec();
            for _ in 0..1 + rng.below(40) {
                let at = rng.below(list.len());
                list[at] = b"0123456789:/\\ \n\xff"[rng.below(16)];
            }
            assert!(Disks::parse(&list).disk_of(Path::new("/mnt/films/a")).number() < 1 << 48);
        }
        assert_eq!(unescape(b"\\\\04\\999\\777\\0"), Path::new("\\\\04\\999\\777\\0"));
        assert_eq!(unescape(b"\\377"), Path::new(OsStr::from_bytes(b"\xff")));
    }

    #[test]
    fn a_partition_turns_as_its_disk_does() {
        let sys = tempfile::tempdir().unwrap();
        let devices = sys.path().join("dev");
        fs::create_dir_all(sys.path().join("sda/sda2")).unwrap();
        fs::create_dir_all(sys.path().join("sda/queue")).unwrap();
        fs::create_dir(&devices).unwrap();
        fs::write(sys.path().join("sda/queue/rotational"), "1\n").unwrap();
        symlink("../sda", devices.join("8:0")).unwrap();
        symlink("../sda/sda2", devices.join("8:2")).unwrap();
        let turns = |minor| Disk { major: 8, minor }.is_rotational_by(&devices);
        assert_eq!([0, 2, 3].map(turns), [true, true, false]);
    }
}
