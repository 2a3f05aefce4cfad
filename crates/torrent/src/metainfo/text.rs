//! A torrent told to people, in a word or in full.

use std::fmt::{self, Display};

use super::{FileEntry, FileLayout, Metainfo};
use crate::text::{Clean, Date, Size, row, rows};

impl Display for Metainfo {
    /// The name. In the long form (`{:#}`) all that the torrent file says, its files included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Clean(self.name()).fmt(f)?;
        if !f.alternate() {
            return Ok(());
        }
        let layout = self.layout();
        let hashes = self.info_hashes();
        let all = hashes.v1.map(|hash| hash.to_string()).into_iter();
        rows(f, "info hash", all.chain(hashes.v2.map(|hash| hash.to_string())))?;
        row(f, "size", Size(layout.total_len()))?;
        let piece_len = Size(layout.piece_len().into());
        row(f, "pieces", format_args!("{} of {piece_len}", layout.piece_count()))?;
        row(f, "private", if self.is_private() { "yes" } else { "no" })?;
        rows(f, "comment", self.comment().map(Clean))?;
        rows(f, "made by", self.created_by().map(Clean))?;
        rows(f, "made on", self.creation_date().map(Date))?;
        rows(f, "source", self.source().map(Clean))?;
        rows(f, "collections", self.collections().iter().map(|name| Clean(name)))?;
        rows(f, "similar", self.similar())?;
        rows(f, "update from", self.update_url().map(Clean))?;
        let trackers = self.trackers().iter().zip(1..).flat_map(|(tier, number)| {
            tier.iter().map(move |url| format!("tier {number}: {}", Clean(url)))
        });
        rows(f, "trackers", trackers)?;
        let web_seeds = self.web_seeds().iter().chain(self.http_seeds());
        rows(f, "web seeds", web_seeds.map(|url| Clean(url)))?;
        let nodes = self.nodes().iter().map(|(host, port)| format!("{}:{port}", Clean(host)));
        rows(f, "DHT nodes", nodes)?;
        rows(f, "files", layout.files().iter().map(|file| format!("{file:#}")))
    }
}

impl Display for FileLayout {
    /// How much there is. In the long form (`{:#}`) each file, too, and the pieces it lies in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, pieces) = (self.files(), self.piece_count());
        let piece_len = Size(self.piece_len().into());
        write!(
            f,
            "{} in {} files, {pieces} pieces of {piece_len}",
            Size(self.total_len()),
            files.len()
        )?;
        if !f.alternate() {
            return Ok(());
        }
        files.iter().enumerate().try_for_each(|(index, file)| {
            let pieces = self.file_pieces(index);
            if pieces.is_empty() {
                return row(f, &index.to_string(), format_args!("{file:#}"));
            }
            let last = pieces.end - 1;
            row(f, &index.to_string(), format_args!("{file:#}, pieces {} to {last}", pieces.start))
        })
    }
}

impl Display for FileEntry {
    /// The path. In the long form (`{:#}`) the size and what else is said of it, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Clean(&self.path.to_string()))?;
        if !f.alternate() {
            return Ok(());
        }
        write!(f, ", {}", Size(self.len))?;
        let flags = [
            (self.is_pad, "padding"),
            (self.is_executable, "executable"),
            (self.is_hidden, "hidden"),
        ];
        flags.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, name)| write!(f, ", {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::create::Builder;

    fn metainfo(name: &str) -> Metainfo {
        let builder = Builder {
            name: name.as_bytes().to_vec(),
            files: vec![(vec![b"a\x1b[1m".to_vec()], 20_000), (vec!["b".into(), "c".into()], 0)],
            piece_len: Some(16 * 1024),
            trackers: vec![
                vec!["http://a/".to_owned(), "http://b/".to_owned()],
                vec!["udp://c:1".to_owned()],
            ],
            web_seeds: vec!["http://w/".to_owned()],
            comment: Some("two\nlines".to_owned()),
            created_by: Some("us".to_owned()),
            creation_date: Some(0),
            ..Builder::default()
        };
        let bytes = builder.finish(&[[1; 20], [2; 20]]).expect("fits");
        Metainfo::parse(&bytes).expect("readable")
    }

    #[test]
    fn a_torrent_is_its_name_or_all_that_it_says() {
        let metainfo = metainfo("folder");
        assert_eq!(metainfo.to_string(), "folder");
        let expected = [
            "folder",
            &format!("  info hash   {}", metainfo.info_hash()),
            "  size        20000 bytes (19.5 KiB)",
            "  pieces      2 of 16384 bytes (16.0 KiB)",
            "  private     no",
            "  comment     two\u{fffd}lines",
            "  made by     us",
            "  made on     1970-01-01 00:00:00 UTC",
            "  trackers    tier 1: http://a/",
            "              tier 1: http://b/",
            "              tier 2: udp://c:1",
            "  web seeds   http://w/",
            "  files       folder/a\u{fffd}[1m, 20000 bytes (19.5 KiB)",
            "              folder/b/c, 0 bytes",
        ];
        assert_eq!(format!("{metainfo:#}"), expected.join("\n"));
    }

    #[test]
    fn a_layout_tells_where_each_file_lies() {
        let metainfo = metainfo("folder");
        let head = "20000 bytes (19.5 KiB) in 2 files, 2 pieces of 16384 bytes (16.0 KiB)";
        assert_eq!(metainfo.layout().to_string(), head);
        let files = [
            "  0           folder/a\u{fffd}[1m, 20000 bytes (19.5 KiB), pieces 0 to 1",
            "  1           folder/b/c, 0 bytes",
        ];
        assert_eq!(format!("{:#}", metainfo.layout()), [&[head], &files[..]].concat().join("\n"));
    }

    #[test]
    fn a_file_is_its_path_and_its_flags_are_told() {
        let mut file = metainfo("x").layout().files()[1].clone();
        (file.is_executable, file.is_hidden) = (true, true);
        assert_eq!(file.to_string(), "x/b/c");
        assert_eq!(format!("{file:#}"), "x/b/c, 0 bytes, executable, hidden");
    }

    #[test]
    fn no_name_of_a_stranger_reaches_a_terminal_as_it_is() {
        let metainfo = metainfo("\u{202e}\x1b]0;title\x07");
        for shown in
            [metainfo.to_string(), format!("{metainfo:#}"), format!("{:#}", metainfo.layout())]
        {
            let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!shown.contains(bad), "{shown:?}");
        }
    }
}
