//! Torrents made for measuring: small, with real data and real hashes.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::disk::hash_files;
use torrent::Rng;
use torrent::metainfo::create::Builder;

/// Makes `count` torrents below `dir`: their files in `data`, the torrent files in `torrents`. Half of
/// them have one file, the rest 2 to 20; the torrent files are 1 to 5 KiB long, as most in the wild.
pub(crate) fn make(dir: &Path, count: u64, trackers: &[&str]) -> Result<(), Box<dyn Error>> {
    let (data, torrents) = (dir.join("data"), dir.join("torrents"));
    fs::create_dir_all(&data)?;
    fs::create_dir_all(&torrents)?;
    for number in 0..count {
        let mut rng = Rng::from_seed(number);
        let name = format!("A Collection of Small Things, Volume {number:06} (2026) [1080p]");
        let pieces = 40 + rng.below(150) as u64;
        let file_count = if rng.below(2) == 0 { 1 } else { 2 + rng.below(19) as u64 };
        let mut files = Vec::new();
        for file in 0..file_count {
            let len = pieces * PIECE_LEN / file_count;
            let bytes: Vec<u8> = (0..len).map(|_| rng.u32() as u8).collect();
            let path = match file_count {
                1 => Vec::new(),
                _ => vec![
                    format!("disc {}", file % 2).into(),
                    format!("{file:02} track.flac").into(),
                ],
            };
            let names = path.iter().map(|name: &Vec<u8>| String::from_utf8_lossy(name));
            let at = names.fold(data.join(&name), |at, name| at.join(&*name));
            fs::create_dir_all(at.parent().unwrap_or(&data))?;
            fs::write(&at, &bytes)?;
            files.push((path, len));
        }
        let tiers = trackers.iter().map(|&url| vec![url.to_owned()]).collect();
        let builder = Builder {
            name: name.into(),
            files,
            piece_len: Some(PIECE_LEN as u32),
            trackers: tiers,
            comment: Some("Made to be measured; of no use to anyone.".to_owned()),
            created_by: Some("torrents-bench".to_owned()),
            ..Builder::default()
        };
        let layout = Arc::new(builder.layout()?);
        let hashes = hash_files(&layout, &data, 1, &AtomicBool::new(false), |_| {})?;
        fs::write(torrents.join(format!("{number:06}.torrent")), builder.finish(&hashes)?)?;
    }
    Ok(())
}

/// How many torrents were made below `dir`.
pub(crate) fn count(dir: &Path) -> Result<usize, Box<dyn Error>> {
    Ok(fs::read_dir(dir.join("torrents"))?.count())
}

/// Every torrent file, in order.
pub(crate) fn read_all(dir: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let entries = fs::read_dir(dir.join("torrents"))?;
    let mut paths =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    paths.sort();
    Ok(paths.iter().map(fs::read).collect::<Result<_, _>>()?)
}

/// Short pieces, so that little data has as many hashes as a torrent of usual size.
const PIECE_LEN: u64 = 128;
