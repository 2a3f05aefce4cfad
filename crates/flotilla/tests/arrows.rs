//! The arrows of ARCHITECTURE.md: which crate may import which, read from the manifests.

use std::path::Path;

/// Each crate of ours, and what it may import of ours.
const ARROWS: [(&str, &[&str]); 6] = [
    ("reactor", &[]),
    ("torrent", &[]),
    ("sha_lanes", &[]),
    ("ports", &["reactor"]),
    ("engine", &["reactor", "sha_lanes", "torrent"]),
    ("flotilla", &["engine", "reactor", "torrent"]),
];

#[test]
fn no_crate_imports_what_it_should_not_know() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/");
    let mut found: Vec<String> = std::fs::read_dir(crates)
        .expect("a folder of crates")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
        .collect();
    found.sort();
    let mut known: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(found, known, "a new crate needs its arrows in ARCHITECTURE.md and here");

    for (name, may_import) in ARROWS {
        let manifest =
            std::fs::read_to_string(crates.join(name).join("Cargo.toml")).expect("a manifest");
        // A crate may name itself: its tests do, for what is behind a feature.
        for (other, _) in ARROWS.into_iter().filter(|(other, _)| *other != name) {
            let imports = manifest.lines().any(|line| {
                line.strip_prefix(other).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
            });
            assert!(
                !imports || may_import.contains(&other),
                "{name} imports {other}: there is no such arrow in ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn cargo_run_has_one_program_to_choose() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
    let line = manifest.lines().find(|line| line.starts_with("default-members")).expect("a list");
    let programs: Vec<&str> = line
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|member| {
            let sources = root.join(member).join("src");
            sources.join("main.rs").exists() || sources.join("bin").exists()
        })
        .collect();
    assert_eq!(programs, ["crates/flotilla"], "the README's command says only `cargo run`");
}
