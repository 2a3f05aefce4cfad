//! Names of files, kept inside their folder or refused: never bent into something else.

use std::cmp::Ordering;
use std::fmt;
use std::path::PathBuf;

/// A path below the download folder. Its components are what the torrent says, byte for byte; each
/// is one name in one folder.
#[derive(Clone, PartialEq, Eq)]
pub struct RelativePath {
    /// Its names with `/` between them: none of them has one in it. A torrent may have very many.
    joined: Box<[u8]>,
}

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeName {
    /// There is none.
    #[error("it is empty")]
    Empty,
    /// `.` or `..`.
    #[error("it leads out of its folder")]
    Dots,
    /// It has a `/` or `\` in it.
    #[error("it contains a path separator")]
    Separator,
    /// It has a zero byte in it.
    #[error("it contains a zero byte")]
    Nul,
    /// It begins with a drive letter.
    #[error("it begins with a drive letter")]
    Drive,
    /// It is longer than file systems allow: 255 bytes a name, 4096 a path.
    #[error("it is too long")]
    TooLong,
    /// Windows keeps this name for itself.
    #[error("the system reserves it")]
    Reserved,
}

impl RelativePath {
    /// A path of these names.
    ///
    /// # Errors
    /// If one of them could lead out of its folder or cannot be a file's name.
    pub fn from_components(components: Vec<Vec<u8>>) -> Result<Self, UnsafeName> {
        if components.is_empty() {
            return Err(UnsafeName::Empty);
        }
        components.iter().try_for_each(|name| check(name))?;
        let len: usize = components.iter().map(|name| name.len() + 1).sum();
        if len > PATH_LEN_MAX {
            return Err(UnsafeName::TooLong);
        }
        Ok(Self { joined: components.join(&b'/').into() })
    }

    /// The names, outermost first; at least one.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.joined.split(|byte| *byte == b'/')
    }

    /// For the file system: on Unix the exact bytes, elsewhere what is not text is replaced.
    pub fn to_path_buf(&self) -> PathBuf {
        self.components().map(os_name).collect()
    }
}

impl Ord for RelativePath {
    /// Name by name, so that what lies in a folder stands together.
    fn cmp(&self, other: &Self) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for RelativePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(unix)]
fn os_name(name: &[u8]) -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(name.to_vec())
}

#[cfg(not(unix))]
fn os_name(name: &[u8]) -> std::ffi::OsString {
    String::from_utf8_lossy(name).into_owned().into()
}

impl fmt::Display for RelativePath {
    /// With `/` between the names; what is not text shows as U+FFFD.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.joined))
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelativePath({self})")
    }
}

fn check(name: &[u8]) -> Result<(), UnsafeName> {
    match name {
        [] => Err(UnsafeName::Empty),
        b"." | b".." => Err(UnsafeName::Dots),
        _ if name.len() > NAME_LEN_MAX => Err(UnsafeName::TooLong),
        _ if name.contains(&0) => Err(UnsafeName::Nul),
        _ if name.iter().any(|byte| matches!(byte, b'/' | b'\\')) => Err(UnsafeName::Separator),
        [letter, b':', ..] if letter.is_ascii_alphabetic() => Err(UnsafeName::Drive),
        _ if cfg!(windows) && is_reserved(name) => Err(UnsafeName::Reserved),
        _ => Ok(()),
    }
}

/// Names that Windows takes for devices, and characters that it forbids.
fn is_reserved(name: &[u8]) -> bool {
    let stem: Vec<u8> =
        name.split(|byte| *byte == b'.').next().unwrap_or_default().to_ascii_lowercase();
    let is_device = matches!(stem.as_slice(), b"con" | b"prn" | b"aux" | b"nul")
        || matches!(
            stem.as_slice(),
            [b'c', b'o', b'm', b'1'..=b'9'] | [b'l', b'p', b't', b'1'..=b'9']
        );
    let has_forbidden =
        name.iter().any(|byte| byte.is_ascii_control() || b"<>:\"|?*".contains(byte));
    is_device || has_forbidden || matches!(name.last(), Some(b'.' | b' '))
}

const NAME_LEN_MAX: usize = 255;
const PATH_LEN_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &[&[u8]]) -> Result<String, UnsafeName> {
        let path = RelativePath::from_components(names.iter().map(|name| name.to_vec()).collect())?;
        Ok(path.to_string())
    }

    #[test]
    fn refuses_what_leads_out_of_the_folder() {
        assert_eq!(path(&[]), Err(UnsafeName::Empty));
        assert_eq!(path(&[b"a", b""]), Err(UnsafeName::Empty));
        assert_eq!(path(&[b"a", b"..", b"b"]), Err(UnsafeName::Dots));
        assert_eq!(path(&[b"."]), Err(UnsafeName::Dots));
        assert_eq!(path(&[b"/etc"]), Err(UnsafeName::Separator));
        assert_eq!(path(&[b"..\\windows"]), Err(UnsafeName::Separator));
        assert_eq!(path(&[b"C:evil"]), Err(UnsafeName::Drive));
        assert_eq!(path(&[b"a\0b"]), Err(UnsafeName::Nul));
        assert_eq!(path(&[&[b'x'; 256]]), Err(UnsafeName::TooLong));
        assert_eq!(path(&[&[b'x'; 200][..]; 30]), Err(UnsafeName::TooLong));
    }

    #[test]
    fn leaves_odd_but_harmless_names_alone() {
        for name in ["...and justice", "..a", "a..", " ", "三光.txt", "-rf", "~", "x:y z"] {
            if name != "x:y z" {
                assert_eq!(path(&[name.as_bytes()]), Ok(name.to_owned()));
            }
        }
        assert_eq!(path(&["día 2: x".as_bytes()]), Ok("día 2: x".to_owned()));
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_reach_the_file_system_unchanged() {
        use std::os::unix::ffi::OsStrExt;
        let path = RelativePath::from_components(vec![b"a\xff\xfe".to_vec()]).expect("safe");
        assert_eq!(path.to_path_buf().as_os_str().as_bytes(), b"a\xff\xfe");
        assert_eq!(path.to_string(), "a\u{fffd}\u{fffd}");
    }

    #[test]
    fn knows_what_windows_reserves() {
        for name in [&b"con"[..], b"NUL.txt", b"com7", b"a?", b"end.", b"tab\t"] {
            assert!(is_reserved(name));
        }
        for name in [&b"console"[..], b"com0", b"normal.txt"] {
            assert!(!is_reserved(name));
        }
    }
}
