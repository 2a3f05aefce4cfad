//! Where pieces lie in files.

use std::ops::Range;

use super::{MetainfoError, RelativePath};
use crate::{BLOCK_LEN, Block, PieceIndex};

/// The files of a torrent, laid end to end and cut into pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    piece_len: u32,
    piece_count: u32,
    total_len: u64,
    files: Vec<FileEntry>,
    /// Where each file begins, in bytes from the start of the torrent.
    starts: Vec<u64>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Where it goes, below the download folder.
    pub path: RelativePath,
    /// How long it is, in bytes.
    pub len: u64,
    /// It is only padding ([BEP 47]): zeros that are never written.
    ///
    /// [BEP 47]: https://www.bittorrent.org/beps/bep_0047.html
    pub is_pad: bool,
    /// It is a program.
    pub is_executable: bool,
    /// It should not be shown in listings.
    pub is_hidden: bool,
}

/// A run of bytes within one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which file, by its index.
    pub file: usize,
    /// Where in the file.
    pub offset: u64,
    /// How long, in bytes; never 0.
    pub len: u32,
}

impl FileLayout {
    /// Lays files end to end.
    ///
    /// # Errors
    /// If the piece length or the sum of the files' lengths is out of range.
    pub fn new(piece_len: u32, files: Vec<FileEntry>) -> Result<Self, MetainfoError> {
        if piece_len == 0 || piece_len > PIECE_LEN_MAX {
            return Err(MetainfoError::PieceLen(i64::from(piece_len)));
        }
        let mut starts = Vec::with_capacity(files.len());
        let mut total_len = 0_u64;
        for file in &files {
            starts.push(total_len);
            total_len = total_len
                .checked_add(file.len)
                .filter(|len| *len <= TOTAL_LEN_MAX)
                .ok_or(MetainfoError::TooBig)?;
        }
        let piece_count = u32::try_from(total_len.div_ceil(u64::from(piece_len)))
            .ok()
            .ok_or(MetainfoError::TooManyPieces)?;
        Ok(Self { piece_len, piece_count, total_len, files, starts })
    }

    /// How long every piece but the last is, in bytes.
    pub const fn piece_len(&self) -> u32 {
        self.piece_len
    }

    /// How many pieces there are.
    pub const fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// The length of all files, in bytes.
    pub const fn total_len(&self) -> u64 {
        self.total_len
    }

    /// How long a piece is, in bytes; 0 past the end.
    pub fn len_of(&self, piece: PieceIndex) -> u32 {
        let start = u64::from(piece.0) * u64::from(self.piece_len);
        self.total_len.saturating_sub(start).min(u64::from(self.piece_len)) as u32
    }

    /// The files, in order.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The pieces that hold bytes of a file; none if it has none.
    pub fn file_pieces(&self, file: usize) -> Range<u32> {
        let (Some(&start), Some(entry)) = (self.starts.get(file), self.files.get(file)) else {
            return 0..0;
        };
        if entry.len == 0 {
            return 0..0;
        }
        let piece_len = u64::from(self.piece_len);
        (start / piece_len) as u32..(start + entry.len).div_ceil(piece_len) as u32
    }

    /// The runs of files that `len` bytes from `offset` of a piece lie in, in order. What lies past the
    /// end of the torrent is left out.
    pub fn spans(
        &self,
        piece: PieceIndex,
        offset: u32,
        len: u32,
    ) -> impl Iterator<Item = Span> + '_ {
        let start = u64::from(piece.0) * u64::from(self.piece_len) + u64::from(offset);
        let end = (start + u64::from(len)).min(self.total_len);
        // The last file that begins at or before `start`.
        let first =
            self.starts.partition_point(|file_start| *file_start <= start).saturating_sub(1);
        (first..self.files.len()).take_while(move |&file| self.starts[file] < end).filter_map(
            move |file| {
                let file_start = self.starts[file];
                let from = start.max(file_start);
                let to = end.min(file_start + self.files[file].len);
                (from < to).then(|| Span {
                    file,
                    offset: from - file_start,
                    len: (to - from) as u32,
                })
            },
        )
    }

    /// How many blocks a piece is asked for in.
    pub fn block_count(&self, piece: PieceIndex) -> u32 {
        self.len_of(piece).div_ceil(BLOCK_LEN)
    }

    /// The block of a piece that is `index` blocks from its start; the last may be shorter.
    pub fn block(&self, piece: PieceIndex, index: u32) -> Block {
        let offset = index.saturating_mul(BLOCK_LEN);
        Block { piece, offset, len: self.len_of(piece).saturating_sub(offset).min(BLOCK_LEN) }
    }

    /// Whether a block lies within its piece, and is not empty.
    pub fn contains(&self, block: Block) -> bool {
        let end = block.offset.checked_add(block.len);
        block.len > 0 && end.is_some_and(|end| end <= self.len_of(block.piece))
    }
}

const PIECE_LEN_MAX: u32 = 512 * 1024 * 1024;
/// A petabyte.
const TOTAL_LEN_MAX: u64 = 1 << 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn layout(piece_len: u32, lens: &[u64]) -> FileLayout {
        let files = lens.iter().enumerate().map(|(index, &len)| FileEntry {
            path: RelativePath::from_components(vec![format!("file {index}").into_bytes()])
                .expect("safe"),
            len,
            is_pad: false,
            is_executable: false,
            is_hidden: false,
        });
        FileLayout::new(piece_len, files.collect()).expect("in range")
    }

    #[test]
    fn a_piece_across_three_files_and_an_empty_one() {
        let layout = layout(10, &[4, 0, 3, 8]);
        let spans: Vec<Span> = layout.spans(PieceIndex(0), 0, 10).collect();
        assert_eq!(
            spans,
            [
                Span { file: 0, offset: 0, len: 4 },
                Span { file: 2, offset: 0, len: 3 },
                Span { file: 3, offset: 0, len: 3 }
            ]
        );
        assert_eq!(
            (layout.piece_count(), layout.len_of(PieceIndex(1)), layout.len_of(PieceIndex(2))),
            (2, 5, 0)
        );
        assert_eq!([0, 1, 2, 3].map(|file| layout.file_pieces(file)), [0..1, 0..0, 0..1, 0..2]);
    }

    #[test]
    fn an_exact_multiple_has_no_short_piece_and_nothing_has_no_piece() {
        let exact = layout(8, &[16]);
        assert_eq!((exact.piece_count(), exact.len_of(PieceIndex(1))), (2, 8));
        assert_eq!(layout(8, &[0, 0]).piece_count(), 0);
        assert_eq!(layout(8, &[]).spans(PieceIndex(0), 0, 8).count(), 0);
    }

    #[test]
    fn blocks_cover_a_piece() {
        let layout = layout(40_000, &[50_000]);
        assert_eq!(layout.block_count(PieceIndex(0)), 3);
        assert_eq!(
            layout.block(PieceIndex(0), 2),
            Block { piece: PieceIndex(0), offset: 32_768, len: 7232 }
        );
        assert_eq!(layout.block_count(PieceIndex(1)), 1);
        assert!(layout.contains(layout.block(PieceIndex(1), 0)));
        let beyond = Block { piece: PieceIndex(1), offset: 9999, len: 2 };
        assert!(!layout.contains(beyond) && !layout.contains(Block { len: 0, ..beyond }));
        assert!(!layout.contains(Block { offset: u32::MAX, ..beyond }));
    }

    #[test]
    fn spans_agree_with_counting_bytes() {
        for seed in 0..300 {
            let mut rng = Rng::from_seed(seed);
            let lens: Vec<u64> = (0..rng.below(6)).map(|_| rng.below(20) as u64).collect();
            let layout = layout(1 + rng.below(16) as u32, &lens);
            let bytes: Vec<(usize, u64)> = lens
                .iter()
                .enumerate()
                .flat_map(|(file, &len)| (0..len).map(move |at| (file, at)))
                .collect();
            for piece in 0..layout.piece_count() {
                let (offset, len) = (rng.below(8) as u32, rng.below(20) as u32);
                let start = (piece * layout.piece_len() + offset) as usize;
                let expected = bytes.iter().skip(start).take(len as usize);
                let spans = layout.spans(PieceIndex(piece), offset, len);
                let found = spans.flat_map(|span| {
                    (0..u64::from(span.len)).map(move |at| (span.file, span.offset + at))
                });
                assert!(found.eq(expected.copied()), "seed {seed}");
            }
        }
    }

    #[test]
    fn refuses_what_no_disk_holds() {
        let entry = |len| FileEntry { len, ..layout(1, &[1]).files()[0].clone() };
        assert_eq!(FileLayout::new(0, vec![entry(1)]), Err(MetainfoError::PieceLen(0)));
        assert_eq!(
            FileLayout::new(1 << 20, vec![entry(u64::MAX), entry(2)]),
            Err(MetainfoError::TooBig)
        );
        assert_eq!(FileLayout::new(1, vec![entry(1 << 40)]), Err(MetainfoError::TooManyPieces));
    }
}
