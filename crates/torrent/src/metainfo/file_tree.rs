//! What a torrent of version 2 says of its files ([BEP 52]), held against what a hybrid says of them twice.
//!
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::Arc;

use bytes::Bytes;

use super::merkle::Hash;
use super::parse::{FILES_MAX, file, text};
use super::{FileEntry, FileLayout, MetainfoError, PieceLayers};
use crate::bencode::{Dict, Value};

/// The files as the tree has them, in its order: sorted, folder by folder.
#[derive(Debug, Default)]
pub(super) struct FileTree {
    pub(super) files: Vec<FileEntry>,
    /// For each, what its blocks must be; `None` if it is empty.
    roots: Vec<Option<Hash>>,
    /// How long all paths together are.
    paths_len: usize,
}

impl FileTree {
    /// Reads `file tree` of an info dictionary. `name` is the folder that all lies in; a file that is alone lies in
    /// none, unless there is a list of files, too.
    pub(super) fn read(info: &Dict<'_>, name: &[u8]) -> Result<Self, MetainfoError> {
        let tree = info.get(b"file tree").and_then(Value::as_dict);
        let tree = tree.ok_or(MetainfoError::Field("file tree"))?;
        let mut found = Self::default();
        let is_alone = tree.iter().count() == 1 && tree.iter().all(|(_, entry)| is_file(entry));
        let mut path = Vec::new();
        if !is_alone || info.get(b"files").is_some() {
            path.push(name);
        }
        found.walk(tree, &mut path)?;
        if found.files.is_empty() {
            return Err(MetainfoError::NoFiles);
        }
        Ok(found)
    }

    /// As deep as bencode may nest.
    fn walk<'a>(
        &mut self,
        folder: &Dict<'a>,
        path: &mut Vec<&'a [u8]>,
    ) -> Result<(), MetainfoError> {
        for (name, entry) in folder.iter() {
            let inner = entry.as_dict().ok_or(MetainfoError::Field("file tree"))?;
            path.push(name);
            match inner.get(b"") {
                None => self.walk(inner, path)?,
                Some(about) if is_file(entry) => self.add(about, path)?,
                // A file and a folder in one.
                Some(_) => return Err(MetainfoError::DuplicatePath(text(&path.join(&b'/')))),
            }
            path.pop();
        }
        Ok(())
    }

    fn add(&mut self, about: &Value<'_>, path: &[&[u8]]) -> Result<(), MetainfoError> {
        let about = about.as_dict().ok_or(MetainfoError::Field("file tree"))?;
        let path_len: usize = path.iter().map(|name| name.len()).sum();
        self.paths_len = self.paths_len.saturating_add(path_len);
        if self.files.len() >= FILES_MAX || self.paths_len > PATHS_LEN_MAX {
            return Err(MetainfoError::TooManyFiles);
        }
        let entry = file(about, path.iter().map(|name| name.to_vec()).collect())?;
        // Where each file begins with a piece nothing is padded.
        let entry = FileEntry { is_pad: false, ..entry };
        let root = about.get(b"pieces root").and_then(Value::as_bytes).map(TryInto::try_into);
        self.roots.push(match (entry.len, root) {
            (0, _) => None,
            (_, Some(Ok(root))) => Some(root),
            (_, Some(Err(_)) | None) => return Err(MetainfoError::Field("pieces root")),
        });
        self.files.push(entry);
        Ok(())
    }

    /// The layout and hashes of a torrent that has nothing else.
    pub(super) fn alone(self, piece_len: u32) -> Result<PieceLayers, MetainfoError> {
        let layout = FileLayout::aligned(piece_len, self.files)?;
        Ok(PieceLayers::new(Arc::new(layout), self.roots))
    }

    /// The hashes of a torrent that has a list of files, too. Both must say the same: the same files in the same
    /// order, and each begins at the same piece, because of the padding that the list has before it.
    pub(super) fn beside(self, v1: Arc<FileLayout>) -> Result<PieceLayers, MetainfoError> {
        let v2 = FileLayout::aligned(v1.piece_len(), self.files)?;
        let mut theirs = v2.files().iter().zip(self.roots).enumerate();
        let mut roots = Vec::with_capacity(v1.files().len());
        for (index, ours) in v1.files().iter().enumerate() {
            if ours.is_pad {
                roots.push(None);
                continue;
            }
            let wrong = || MetainfoError::Inconsistent(ours.path.to_string());
            let (at, (other, root)) = theirs.next().ok_or_else(wrong)?;
            let is_same = other.path == ours.path
                && other.len == ours.len
                && (ours.len == 0 || v1.file_range(index).start == v2.file_range(at).start);
            if !is_same {
                return Err(wrong());
            }
            roots.push(root);
        }
        if let Some((_, (other, _))) = theirs.next() {
            return Err(MetainfoError::Inconsistent(other.path.to_string()));
        }
        if v1.piece_count() != v2.piece_count() {
            return Err(MetainfoError::PieceCount {
                hashes: v1.piece_count() as usize,
                pieces: v2.piece_count(),
            });
        }
        Ok(PieceLayers::new(v1, roots))
    }
}

/// Reads `piece layers` of a torrent file, as far as they are there. What is there must be right.
pub(super) fn read_layers(
    layers: &PieceLayers,
    layout: &FileLayout,
    root: &Dict<'_>,
    slice: impl Fn(&[u8]) -> Bytes,
) -> Result<(), MetainfoError> {
    let Some(known) = root.get(b"piece layers") else { return Ok(()) };
    let known = known.as_dict().ok_or(MetainfoError::Field("piece layers"))?;
    for file in layers.missing() {
        let layer = layers.root(file).and_then(|root| known.get(&root));
        let Some(layer) = layer else { continue };
        let is_right = layer.as_bytes().is_some_and(|layer| layers.put(file, slice(layer)));
        if !is_right {
            let path = layout.files().get(file).map(|file| file.path.to_string());
            return Err(MetainfoError::PieceLayer(path.unwrap_or_default()));
        }
    }
    Ok(())
}

/// Whether an entry of the tree is a file: a dictionary with the empty name as its only key.
fn is_file(entry: &Value<'_>) -> bool {
    entry.as_dict().is_some_and(|inner| inner.iter().map(|(name, _)| name).eq([&b""[..]]))
}

/// Names of folders stand in the tree once, however many files they have; in memory they do not.
const PATHS_LEN_MAX: usize = 64 * 1024 * 1024;
