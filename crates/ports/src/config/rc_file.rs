//! The file with settings and profiles: reading it, changing it, writing it.
//!
//! Perl's tool uses the same file, so what we do not know in it stays as it is. Only comments are lost by a change.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use super::{Change, ConfigError, facts, relaxed};

/// The settings and profiles of a file.
///
/// Changes are made here first and come into the file with [`save`](Self::save).
#[derive(Clone)]
pub struct RcFile {
    /// Empty if there is nowhere to save to.
    path: PathBuf,
    root: Map<String, Json>,
    /// What was changed since the file was read. To save, they are made again on what stands in the file by then,
    /// so that two tools at once lose nothing of each other's.
    changes: Vec<Change>,
}

impl RcFile {
    /// Settings without a file: nothing is set.
    pub fn empty() -> Self {
        Self::at(PathBuf::new())
    }

    /// Reads the file that the environment names: `PERL_ANYEVENT_MP_RC`, else `.perl-anyevent-mp` in `HOME`, else
    /// `perl-anyevent-mp` in `APPDATA`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn of_environment() -> Result<Self, ConfigError> {
        match facts::rc_path(&facts::environment) {
            Some(path) => Self::load(&path),
            None => Ok(Self::empty()),
        }
    }

    /// Reads a file. One that does not exist sets nothing.
    ///
    /// # Errors
    /// If it cannot be read, is not JSON, or not of the form of a settings file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Io { doing: "read", path: path.into(), source };
        let is_file = match fs::metadata(path) {
            Ok(metadata) => metadata.is_file(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::at(path.into()));
            }
            Err(error) => return Err(failed(error)),
        };
        // A pipe would keep us waiting, and a folder says less well what is wrong.
        if !is_file {
            return Err(ConfigError::NotAFile(path.into()));
        }
        let mut bytes = Vec::new();
        let most = FILE_LEN_MAX as u64 + 1;
        File::open(path)
            .and_then(|file| file.take(most).read_to_end(&mut bytes))
            .map_err(failed)?;
        Self::parse(path, &bytes)
    }

    /// Takes the content of a file. The path is for complaints and for saving.
    ///
    /// # Errors
    /// If it is not JSON, or not of the form of a settings file.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > FILE_LEN_MAX {
            return Err(ConfigError::TooLarge { path: path.into(), max: FILE_LEN_MAX });
        }
        let value = relaxed::parse(bytes).map_err(|fault| ConfigError::Syntax {
            path: path.into(),
            line: fault.line,
            column: fault.column,
            problem: fault.problem,
        })?;
        let wrong = |key: &str, expected: &str| ConfigError::Value {
            place: path.display().to_string(),
            key: key.into(),
            expected: expected.into(),
            found: "something else".into(),
        };
        let Json::Object(root) = value else {
            return Err(wrong("(top level)", "a map of settings"));
        };
        match root.get("profile") {
            None => {}
            Some(Json::Object(profiles)) => {
                if let Some((name, _)) = profiles.iter().find(|(_, values)| !values.is_object()) {
                    let key = format!("profile.{}", name.escape_debug());
                    return Err(wrong(&key, "a map of the profile's settings"));
                }
            }
            Some(_) => return Err(wrong("profile", "a map of profiles by name")),
        }
        Ok(Self { root, ..Self::at(path.into()) })
    }

    fn at(path: PathBuf) -> Self {
        let root = Map::from_iter([("version".to_owned(), json!(1))]);
        Self { path, root, changes: Vec::new() }
    }

    /// Where it is. Empty if nowhere.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The global part, which besides settings has the `version` and all profiles, as `profile`.
    pub const fn global(&self) -> &Map<String, Json> {
        &self.root
    }

    /// What a profile itself sets, without its parents.
    pub fn profile(&self, name: &str) -> Option<&Map<String, Json>> {
        self.root.get("profile")?.get(name)?.as_object()
    }

    /// The value of a key in a profile itself, or in the global part.
    pub fn value(&self, profile: Option<&str>, key: &str) -> Option<&Json> {
        match profile {
            None => self.root.get(key),
            Some(name) => self.profile(name)?.get(key),
        }
    }

    /// Makes a change, not yet in the file.
    ///
    /// # Errors
    /// If the key or the value cannot be, or parents would go in a circle. Then nothing is changed.
    pub fn apply(&mut self, change: Change) -> Result<(), ConfigError> {
        self.perform(&change)?;
        self.changes.push(change);
        Ok(())
    }

    fn perform(&mut self, change: &Change) -> Result<(), ConfigError> {
        let mut changed = self.clone();
        change.perform(&mut changed.root, &self.path)?;
        change.check(&changed)?;
        self.root = changed.root;
        Ok(())
    }

    /// Brings all changes into the file, if there are any. What others have changed in the file meanwhile stays.
    ///
    /// The file is only for its owner, replaced at once, and the one before stays as `FILE~`.
    ///
    /// # Errors
    /// If the file cannot be written, or has become unreadable. Then it is as it was, and the changes are still
    /// here.
    pub fn save(&mut self) -> Result<(), ConfigError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        if self.path.as_os_str().is_empty() {
            return Err(ConfigError::NoPath);
        }
        // A link to the file stays one.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_not_there| self.path.clone());
        let lock = lock(&beside(&path, "~lock"))?;
        let mut fresh = Self::load(&path)?;
        let before = fresh.root.clone();
        for change in &self.changes {
            fresh.perform(change)?;
        }
        if fresh.root != before {
            let text = fresh.to_json();
            if text.len() > FILE_LEN_MAX {
                return Err(ConfigError::TooLarge { path, max: FILE_LEN_MAX });
            }
            replace(&path, text.as_bytes())?;
        }
        drop(lock);
        self.root = fresh.root;
        self.changes.clear();
        Ok(())
    }

    /// The content of the file, indented.
    pub fn to_json(&self) -> String {
        format!("{:#}\n", Json::Object(self.root.clone()))
    }
}

/// Without values, since they may be secret.
impl fmt::Debug for RcFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RcFile")
            .field("path", &self.path)
            .field("keys", &self.root.keys().collect::<Vec<_>>())
            .field("changes", &self.changes)
            .finish()
    }
}

/// Waits until nobody else has the lock, which ends with the file that is returned.
fn lock(path: &Path) -> Result<File, ConfigError> {
    let failed = |doing| move |source| ConfigError::Io { doing, path: path.into(), source };
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(OWNER_ONLY).open(path);
    let file = file.map_err(failed("create"))?;
    file.lock().map_err(failed("lock"))?;
    Ok(file)
}

/// Replaces a file at once, and keeps the old one as `FILE~`.
fn replace(path: &Path, content: &[u8]) -> Result<(), ConfigError> {
    let new = beside(path, "~new~");
    write_new(&new, content)?;
    // A backup is worth having but not worth failing for: not every file system has links.
    if let Err(error) = back_up(path) {
        tracing::warn!("{}: no backup is kept: {error}", path.display());
    }
    fs::rename(&new, path).map_err(|source| ConfigError::Io {
        doing: "replace",
        path: path.into(),
        source,
    })?;
    // So that the new name survives a power cut. Without it, the old file does.
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok())
        && let Err(error) = folder.sync_all()
    {
        tracing::debug!("{}: its folder cannot be synchronised: {error}", path.display());
    }
    Ok(())
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), ConfigError> {
    let failed = |doing| move |source| ConfigError::Io { doing, path: path.into(), source };
    // What a crash has left. It must go, for its mode may be any.
    remove_if_there(path).map_err(failed("remove"))?;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(path)
        .map_err(failed("create"))?;
    file.set_permissions(Permissions::from_mode(OWNER_ONLY))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all())
        .map_err(failed("write"))
}

fn back_up(path: &Path) -> io::Result<()> {
    let backup = beside(path, "~");
    if !path.try_exists()? {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(OWNER_ONLY))?;
    remove_if_there(&backup)?;
    fs::hard_link(path, &backup)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The largest file that is read or written, in bytes.
const FILE_LEN_MAX: usize = 4 << 20;
/// The mode of a file with secrets.
const OWNER_ONLY: u32 = 0o600;
