//! Where pieces lie in files.

use std::ops::Range;

use super::merkle::height_above;
use super::{MetainfoError, RelativePath};
use crate::{BLOCK_LEN, Bitfield, Block, PieceIndex};

/// The files of a torrent, laid one behind the other and cut into pieces.
///
/// In version 1 of the protocol they lie end to end, so that a piece may have bytes of several files. In
/// version 2 each begins with a piece of its own, and the last piece of each may be short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    piece_len: u32,
    piece_count: u32,
    total_len: u64,
    /// Where the last byte ends, from the start of the torrent: more than `total_len` if there are gaps.
    end: u64,
    /// There may be gaps between files, since each begins where a piece does.
    is_aligned: bool,
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
        Self::lay(piece_len, files, false)
    }

    /// Lays files as version 2 has it ([BEP 52]): each at the start of a piece.
    ///
    /// # Errors
    /// If the piece length is no power of two from 16 KiB on, or a sum is out of range.
    ///
    /// [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html
    pub fn aligned(piece_len: u32, files: Vec<FileEntry>) -> Result<Self, MetainfoError> {
        check_piece_len_v2(piece_len)?;
        Self::lay(piece_len, files, true)
    }

    fn lay(piece_len: u32, files: Vec<FileEntry>, is_aligned: bool) -> Result<Self, MetainfoError> {
        let mut starts = Vec::with_capacity(files.len());
        let (mut total_len, mut end) = (0_u64, 0_u64);
        for file in &files {
            let gap = if is_aligned { end.next_multiple_of(piece_len.into()) - end } else { 0 };
            starts.push(end + gap);
            if file.len > 0 {
                end = (end + gap)
                    .checked_add(file.len)
                    .filter(|end| *end <= TOTAL_LEN_MAX)
                    .ok_or(MetainfoError::TooBig)?;
            }
            total_len += file.len;
        }
        let piece_count = u32::try_from(end.div_ceil(u64::from(piece_len)))
            .ok()
            .ok_or(MetainfoError::TooManyPieces)?;
        Ok(Self { piece_len, piece_count, total_len, end, is_aligned, files, starts })
    }

    /// How long every piece is, in bytes, but the last; and if files are [aligned](Self::aligned) the last of each.
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
        let start = self.start_of(piece);
        let end = if self.is_aligned { self.last_file_end(start) } else { self.end };
        end.saturating_sub(start).min(u64::from(self.piece_len)) as u32
    }

    /// How many bytes from the start of a piece one may be asked for. Behind a file that does not fill its last
    /// piece some clients count zeros as if they belonged to it, and ask for them as well.
    pub fn padded_len_of(&self, piece: PieceIndex) -> u32 {
        let len = self.end.saturating_sub(self.start_of(piece));
        len.min(u64::from(self.piece_len)) as u32
    }

    /// The bytes of all pieces in `have`.
    pub fn len_of_all(&self, have: &Bitfield) -> u64 {
        let whole = u64::from(have.count()) * u64::from(self.piece_len);
        let short = |piece: PieceIndex| {
            let is_here = piece.0 < self.piece_count && have.has(piece);
            if is_here { self.piece_len - self.len_of(piece) } else { 0 }
        };
        if self.is_aligned {
            let last = |file| self.file_pieces(file).next_back();
            let lasts = (0..self.files.len()).filter_map(last).map(PieceIndex);
            return whole - lasts.map(|piece| u64::from(short(piece))).sum::<u64>();
        }
        whole - u64::from(short(PieceIndex(self.piece_count.saturating_sub(1))))
    }

    const fn start_of(&self, piece: PieceIndex) -> u64 {
        piece.0 as u64 * self.piece_len as u64
    }

    /// Where the last file that begins at or before `at` ends.
    fn last_file_end(&self, at: u64) -> u64 {
        self.last_file(at).map_or(0, |file| self.starts[file] + self.files[file].len)
    }

    /// The last file that begins at or before `at`.
    fn last_file(&self, at: u64) -> Option<usize> {
        self.starts.partition_point(|start| *start <= at).checked_sub(1)
    }

    /// The one file that has bytes of `piece`, where no piece has bytes of several but for padding: in torrents of
    /// version 2, and hybrid ones. `None` past the end.
    pub fn file_at(&self, piece: PieceIndex) -> Option<usize> {
        self.last_file(self.start_of(piece)).filter(|_| piece.0 < self.piece_count)
    }

    /// How high the tree of a whole piece is above its blocks (BEP 52).
    pub fn piece_height(&self) -> u32 {
        height_above(u64::from(self.piece_len / BLOCK_LEN))
    }

    /// How many bytes of `piece` belong to the file at its start, and how high the tree above their blocks is (BEP
    /// 52): of a file that is no longer than one piece only as high as it has to be.
    pub fn tree_shape(&self, piece: PieceIndex) -> (u32, u32) {
        let start = self.start_of(piece);
        let Some(file) = self.last_file(start) else { return (0, 0) };
        let file_len = self.files[file].len;
        let left = (self.starts[file] + file_len).saturating_sub(start);
        let len = left.min(u64::from(self.piece_len)) as u32;
        if file_len <= u64::from(self.piece_len) {
            return (len, height_above(u64::from(len.div_ceil(BLOCK_LEN))));
        }
        (len, self.piece_height())
    }

    /// The files, in order.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Where a file lies, in bytes from the start of the torrent, gaps between files counted.
    pub fn file_range(&self, file: usize) -> Range<u64> {
        match (self.starts.get(file), self.files.get(file)) {
            (Some(&start), Some(entry)) => start..start + entry.len,
            _ => 0..0,
        }
    }

    /// The pieces that hold bytes of a file; none if it has none.
    pub fn file_pieces(&self, file: usize) -> Range<u32> {
        let (bytes, piece_len) = (self.file_range(file), u64::from(self.piece_len));
        if bytes.is_empty() {
            return 0..0;
        }
        (bytes.start / piece_len) as u32..bytes.end.div_ceil(piece_len) as u32
    }

    /// The runs of files that `len` bytes from `offset` of a piece lie in, in order. What lies past the
    /// end of the torrent is left out.
    pub fn spans(
        &self,
        piece: PieceIndex,
        offset: u32,
        len: u32,
    ) -> impl Iterator<Item = Span> + '_ {
        let start = self.start_of(piece) + u64::from(offset);
        let end = (start + u64::from(len)).min(self.end);
        let first = self.last_file(start).unwrap_or(0);
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

    /// Whether a peer may ask for a block: it lies within its piece, or [begins there](Self::padded_len_of).
    pub fn may_be_asked(&self, block: Block) -> bool {
        let end = block.offset.checked_add(block.len);
        block.len > 0
            && block.offset < self.len_of(block.piece)
            && end.is_some_and(|end| end <= self.padded_len_of(block.piece))
    }
}

/// In version 2 a piece is a power of two of blocks.
pub(super) fn check_piece_len_v2(piece_len: u32) -> Result<(), MetainfoError> {
    let is_right = piece_len.is_power_of_two() && (BLOCK_LEN..=PIECE_LEN_MAX).contains(&piece_len);
    if is_right { Ok(()) } else { Err(MetainfoError::PieceLenV2(piece_len)) }
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
