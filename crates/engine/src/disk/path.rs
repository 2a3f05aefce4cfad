//! Opening files below the download folder, and nowhere else.
//!
//! A torrent's paths are made safe when it is parsed; what that cannot see is what already lies on the
//! disk. A symbolic link in the download folder would lead a harmless path out of it, so each folder on
//! the way is opened from the one before it, without following links: by the kernel in one call where it
//! can, else by us. The download folder itself may be reached through as many links as its owner likes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::DiskError;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// To be read; it must be there.
    Read,
    /// To be read past the system's cache, where the system and the file system can do that.
    #[cfg(target_os = "linux")]
    ReadDirect,
    /// To be read and written; it must be there.
    Write,
    /// To be read and written; made, with the folders on the way, if it is not there.
    Create {
        /// Whether a new file may be run as a program.
        is_executable: bool,
    },
}

impl Access {
    fn creates(self) -> bool {
        matches!(self, Self::Create { .. })
    }
}

/// Opens `root`/`below`. Links are followed in `root` only.
///
/// # Errors
/// [`DiskError::UnsafePath`] names the link that was in the way.
pub(super) fn open_below(root: &Path, below: &Path, access: Access) -> Result<File, DiskError> {
    let at_once = if access == Access::Read { open_at_once(root, below) } else { None };
    let file = match at_once {
        Some(file) => file,
        None => open_step_by_step(root, below, access)?,
    };
    let path = || root.join(below);
    let stat = rustix::fs::fstat(&file).map_err(|errno| DiskError::from_errno(&path(), errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(DiskError::InTheWay { path: path(), wanted: "file" }),
    }
}

fn open_step_by_step(root: &Path, below: &Path, access: Access) -> Result<OwnedFd, DiskError> {
    let (parent, name) = open_parent(root, below, access.creates())?;
    let (flags, mode) = match access {
        Access::Read => (OFlags::RDONLY, Mode::empty()),
        #[cfg(target_os = "linux")]
        Access::ReadDirect => (OFlags::RDONLY | OFlags::DIRECT, Mode::empty()),
        Access::Write => (OFlags::RDWR, Mode::empty()),
        Access::Create { is_executable } => {
            let mode = if is_executable { 0o777 } else { 0o666 };
            (OFlags::RDWR | OFlags::CREATE, Mode::from_raw_mode(mode))
        }
    };
    let flags = flags | FILE_FLAGS;
    rustix::io::retry_on_intr(|| rustix::fs::openat(&parent, name, flags, mode))
        .map_err(|errno| not_opened(&parent, name, &root.join(below), errno, "file"))
}

/// Opens a file to be read in one call, if the system can look after links by itself and all is well.
/// What is wrong is found out step by step.
#[cfg(target_os = "linux")]
fn open_at_once(root: &Path, below: &Path) -> Option<OwnedFd> {
    use rustix::fs::ResolveFlags;

    if !below.components().all(|component| matches!(component, Component::Normal(_))) {
        return None;
    }
    let folder = open_root(root, false).ok()?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | FILE_FLAGS;
    rustix::fs::openat2(&folder, below, flags, Mode::empty(), resolve).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_at_once(_: &Path, _: &Path) -> Option<OwnedFd> {
    None
}

/// What lies at `root`/`below`: its length and time of last change; `None` if nothing does.
pub(super) fn stat_below(root: &Path, below: &Path) -> Result<Option<rustix::fs::Stat>, DiskError> {
    let (parent, name) = match open_parent(root, below, false) {
        Ok(found) => found,
        Err(DiskError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(DiskError::from_errno(&root.join(below), errno)),
    }
}

/// Removes the file at `root`/`below`, if it is there.
pub(super) fn remove_below(root: &Path, below: &Path) -> Result<(), DiskError> {
    let (parent, name) = open_parent(root, below, false)?;
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(DiskError::from_errno(&root.join(below), errno)),
    }
}

/// Opens the folder in which the last component of `below` lies, and says what that component is.
fn open_parent<'a>(
    root: &Path,
    below: &'a Path,
    creates: bool,
) -> Result<(OwnedFd, &'a OsStr), DiskError> {
    let mut folder = open_root(root, creates)?;
    let mut path = root.to_owned();
    let mut components = below.components().peekable();
    while let Some(component) = components.next() {
        path.push(component);
        let Component::Normal(name) = component else { return Err(DiskError::UnsafePath { path }) };
        if components.peek().is_none() {
            return Ok((folder, name));
        }
        folder = open_folder(&folder, name, &path, creates)?;
    }
    Err(DiskError::InTheWay { path, wanted: "file" })
}

fn open_root(root: &Path, creates: bool) -> Result<OwnedFd, DiskError> {
    // The empty path is how a relative file name without a folder spells its parent.
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    let open =
        || rustix::io::retry_on_intr(|| rustix::fs::openat(CWD, root, FOLDER_FLAGS, Mode::empty()));
    let opened = match open() {
        Err(Errno::NOENT) if creates => {
            fs::create_dir_all(root).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => {
                    DiskError::InTheWay { path: root.to_owned(), wanted: "folder" }
                }
                _ => DiskError::from_io(root, source),
            })?;
            open()
        }
        opened => opened,
    };
    opened.map_err(|errno| DiskError::from_errno(root, errno))
}

fn open_folder(
    parent: &OwnedFd,
    name: &OsStr,
    path: &Path,
    creates: bool,
) -> Result<OwnedFd, DiskError> {
    let open = || {
        let flags = FOLDER_FLAGS.union(OFlags::NOFOLLOW);
        rustix::io::retry_on_intr(|| rustix::fs::openat(parent, name, flags, Mode::empty()))
    };
    let opened = match open() {
        Err(Errno::NOENT) if creates => {
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
                // Another thread was quicker.
                Ok(()) | Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            }
        }
        opened => opened,
    };
    opened.map_err(|errno| not_opened(parent, name, path, errno, "folder"))
}

/// Tells a link in the way from a file in the way: systems differ in what they answer for a link.
fn not_opened(
    parent: &OwnedFd,
    name: &OsStr,
    path: &Path,
    errno: Errno,
    wanted: &'static str,
) -> DiskError {
    let path = path.to_owned();
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .map(|stat| FileType::from_raw_mode(stat.st_mode));
    match (found, wanted) {
        (Ok(FileType::Symlink), _) => DiskError::UnsafePath { path },
        (Ok(FileType::Directory), "folder") | (Ok(FileType::RegularFile), "file") | (Err(_), _) => {
            DiskError::from_errno(&path, errno)
        }
        (Ok(_), _) => DiskError::InTheWay { path, wanted },
    }
}

/// Where `path` lies, as the folder it is in and its name there: how the part file, whose place the
/// caller chose, is opened by the same rules.
pub(super) fn split(path: &Path) -> (PathBuf, PathBuf) {
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    (folder, path.file_name().map(PathBuf::from).unwrap_or_default())
}

/// Without NONBLOCK, opening a named pipe that someone put here would wait for its other end.
const FILE_FLAGS: OFlags =
    OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A folder is opened only to open what is in it, for which Linux asks no permission to list it.
#[cfg(target_os = "linux")]
const FOLDER_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const CREATE: Access = Access::Create { is_executable: false };

    #[test]
    fn makes_the_folders_on_the_way_and_the_download_folder_itself() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("not/yet");
        open_below(&root, Path::new("a/b/c"), CREATE).unwrap();
        assert!(root.join("a/b/c").is_file());
    }

    #[test]
    fn reading_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let error = open_below(dir.path(), Path::new("a/b"), Access::Read).unwrap_err();
        assert!(matches!(error, DiskError::Missing { path } if path.ends_with("a")));
        assert!(stat_below(dir.path(), Path::new("a/b")).unwrap().is_none());
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn refuses_links_below_the_root_wherever_they_lead() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("f"), "theirs").unwrap();
        symlink(&outside, root.join("folder")).unwrap();
        symlink(outside.join("f"), root.join("file")).unwrap();
        symlink(outside.join("new"), root.join("dangling")).unwrap();
        for access in [Access::Read, Access::Write, CREATE] {
            for below in ["folder/f", "folder/sub/f", "file", "dangling"] {
                let error = open_below(&root, Path::new(below), access).unwrap_err();
                assert!(matches!(error, DiskError::UnsafePath { .. }), "{below}: {error}");
            }
        }
        assert_eq!(fs::read(outside.join("f")).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn refuses_to_climb() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        for below in ["../f", "a/../../f", "/etc/passwd", "a/..", "a/../f"] {
            for access in [CREATE, Access::Read] {
                let error = open_below(dir.path(), Path::new(below), access).unwrap_err();
                assert!(matches!(error, DiskError::UnsafePath { .. }), "{below}: {error}");
            }
        }
    }

    #[test]
    fn the_download_folder_may_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        open_below(&dir.path().join("link"), Path::new("f"), CREATE).unwrap();
        assert!(dir.path().join("real/f").is_file());
    }

    #[test]
    fn says_what_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        rustix::fs::mknodat(
            CWD,
            dir.path().join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let wanted = |below: &str| match open_below(dir.path(), Path::new(below), CREATE) {
            Err(DiskError::InTheWay { wanted, .. }) => wanted,
            other => panic!("{below}: {other:?}"),
        };
        assert_eq!(wanted("a/b"), "folder");
        assert_eq!(wanted("d"), "file");
        assert_eq!(wanted("pipe"), "file");
        let inside_a_file = dir.path().join("a");
        let error = open_below(&inside_a_file, Path::new("f"), CREATE).unwrap_err();
        assert!(matches!(error, DiskError::InTheWay { wanted: "folder", .. }), "{error:?}");
        let under_a_file = inside_a_file.join("sub");
        let error = open_below(&under_a_file, Path::new("f"), CREATE).unwrap_err();
        assert!(matches!(error, DiskError::InTheWay { wanted: "folder", .. }), "{error:?}");
    }

    #[test]
    fn a_new_program_may_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |is_executable| {
            let name = format!("{is_executable}");
            let file =
                open_below(dir.path(), Path::new(&name), Access::Create { is_executable }).unwrap();
            file.metadata().unwrap().permissions().mode()
        };
        assert_eq!(mode(true) & 0o100, 0o100);
        assert_eq!(mode(false) & 0o111, 0);
    }
}
