//! Reading, changing and writing the file.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::*;

#[test]
fn a_missing_file_sets_nothing_and_is_made_by_the_first_change() {
    let (folder, path) = place();
    let mut file = RcFile::load(&path).expect("nothing");
    assert_eq!(file.to_json(), "{\n  \"version\": 1\n}\n");
    file.save().expect("nothing to do");
    assert!(!path.exists());
    file.apply(set(None, "secret", json!("s"))).expect("a change");
    file.save().expect("saved");
    assert_eq!(read(&path), json!({ "version": 1, "secret": "s" }));
    assert_eq!(names(&folder), ["rc", "rc~lock"]);
}

#[test]
fn the_file_and_its_backup_are_for_the_owner_only() {
    let (folder, path) = place();
    let old = "{ # mine\n\"secret\":\"old\", \"other\":{\"a\":[1,2.5,null]},}";
    fs::write(&path, old).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("made readable");
    fs::write(folder.path().join("rc~new~"), "left by a crash").expect("written");
    for secret in ["second", "third"] {
        let mut file = RcFile::load(&path).expect("settings");
        file.apply(set(None, "secret", json!(secret))).expect("a change");
        file.save().expect("saved");
    }
    assert_eq!(read(&path), json!({ "secret": "third", "other": { "a": [1, 2.5, null] } }));
    assert_eq!(read(&folder.path().join("rc~"))["secret"], "second");
    assert_eq!(names(&folder), ["rc", "rc~", "rc~lock"]);
    for name in ["rc", "rc~", "rc~lock"] {
        let mode = fs::metadata(folder.path().join(name)).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_change_that_changes_nothing_writes_nothing() {
    let (folder, path) = place();
    fs::write(&path, "{\"secret\":\"s\"} # as it was").expect("written");
    let mut file = RcFile::load(&path).expect("settings");
    file.apply(set(None, "secret", json!("s"))).expect("a change");
    file.apply(Change::DeleteProfile("nobody".into())).expect("a change");
    file.save().expect("saved");
    assert!(fs::read_to_string(&path).expect("text").ends_with("# as it was"));
    assert_eq!(names(&folder), ["rc", "rc~lock"]);
}

#[test]
fn a_link_to_the_file_stays_one() {
    let (folder, path) = place();
    let real = folder.path().join("real");
    fs::write(&real, "{}").expect("written");
    symlink(&real, &path).expect("linked");
    let mut file = RcFile::load(&path).expect("settings");
    file.apply(set(None, "secret", json!("s"))).expect("a change");
    file.save().expect("saved");
    assert!(path.is_symlink());
    assert_eq!(read(&real), json!({ "secret": "s" }));
}

#[test]
fn a_broken_file_is_an_error_with_its_place_and_is_never_overwritten() {
    let (folder, path) = place();
    for (content, place) in [
        (&b"{\n \"secret\" \"s\"\n}"[..], ":2:11: "),
        (b"", ":1:0: "),
        (b"{\"a\":\"\xff\xfe\"}", ":1:"),
        (b"[]", ": key '(top level)'"),
        (b"{\"profile\":[]}", ": key 'profile'"),
        (b"{\"profile\":{\"a\":null}}", ": key 'profile.a'"),
    ] {
        fs::write(&path, content).expect("written");
        let error = RcFile::load(&path).expect_err("broken").to_string();
        assert!(error.starts_with(&format!("{}{place}", path.display())), "{error}");

        // It has become broken after it was read.
        fs::write(&path, "{}").expect("written");
        let mut file = RcFile::load(&path).expect("settings");
        file.apply(set(None, "secret", json!("s"))).expect("a change");
        fs::write(&path, content).expect("written");
        assert!(file.save().is_err());
        assert_eq!(fs::read(&path).expect("still there"), content);
        assert_eq!(names(&folder), ["rc", "rc~lock"]);
        // Once it is mended the change is still to be had.
        fs::write(&path, "{}").expect("written");
        file.save().expect("saved");
        assert_eq!(read(&path), json!({ "secret": "s" }));
        fs::remove_file(folder.path().join("rc~")).expect("a backup");
    }
}

#[test]
fn what_cannot_be_a_settings_file_is_named() {
    let (folder, path) = place();
    for other in [folder.path(), Path::new("/dev/zero")] {
        let error = RcFile::load(other).expect_err("no file").to_string();
        assert!(error.starts_with(&format!("{} is no plain file", other.display())), "{error}");
    }
    fs::write(&path, vec![b' '; (4 << 20) + 1]).expect("written");
    assert!(
        matches!(RcFile::load(&path), Err(ConfigError::TooLarge { max, .. }) if max == 4 << 20)
    );
    let below = path.join("rc");
    let error = RcFile::load(&below).expect_err("below a file").to_string();
    assert!(error.starts_with(&format!("cannot read {}: ", below.display())), "{error}");
}

#[test]
fn a_folder_where_nothing_can_be_written_is_named() {
    let (folder, _) = place();
    // Also root can make nothing in the second one.
    for path in [folder.path().join("missing/rc"), "/proc/self/rc".into()] {
        let mut file = RcFile::load(&path).expect("nothing");
        file.apply(set(None, "secret", json!("s"))).expect("a change");
        let error = file.save().expect_err("unwritable").to_string();
        assert!(error.starts_with(&format!("cannot create {}", path.display())), "{error}");
    }
    let mut nowhere = RcFile::empty();
    nowhere.apply(Change::MakeProfile("a".into())).expect("a change");
    assert!(matches!(nowhere.save(), Err(ConfigError::NoPath)));
}

#[test]
fn tools_at_the_same_time_lose_nothing_of_each_other() {
    let (_folder, path) = place();
    let stale = RcFile::load(&path).expect("nothing");
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let mut file = stale.clone();
            scope.spawn(move || {
                for step in 0..10 {
                    let seed = json!(format!("s{writer}:{}", step + 1));
                    file.apply(add(None, "seeds", seed)).expect("a change");
                    file.save().expect("saved");
                }
            });
        }
    });
    let seeds = read(&path)["seeds"].as_array().expect("a list").len();
    assert_eq!(seeds, 80);
}

#[test]
fn lists_grow_and_shrink_as_the_tool_has_it() {
    for (key, old, change, new) in [
        ("seeds", json!(["a", "b"]), "+a", json!(["b", "a"])),
        ("binds", json!(["1", 1, "2"]), "+1", json!(["2", "1"])),
        ("services", json!(["a", "b"]), "+a", json!(["a", "b", "a"])),
        ("seeds", json!(["a", "b", "a"]), "-a", json!(["b"])),
        ("services", json!(["a", "b", "a"]), "-a", json!(["b", "a"])),
        ("seeds", json!(["a"]), "-x", json!(["a"])),
        ("services", json!(["a"]), "-a", json!([])),
        ("seeds", json!(null), "+a", json!(["a"])),
    ] {
        for profile in [None, Some("p")] {
            let section = json!({ key: old });
            let content =
                if profile.is_some() { json!({ "profile": { "p": section } }) } else { section };
            let mut file = rc(content);
            let element = json!(change[1..]);
            let adds = change.starts_with('+');
            let change =
                if adds { add(profile, key, element) } else { remove(profile, key, element) };
            file.apply(change).expect("a change");
            assert_eq!(file.value(profile, key), Some(&new), "{key} {profile:?}");
        }
    }
    let mut file = rc(json!({}));
    file.apply(remove(Some("p"), "seeds", json!("a"))).expect("nothing to do");
    assert_eq!(file.to_json(), "{}\n");
    file.apply(add(Some("p"), "services", json!(["f", 1]))).expect("a change");
    assert_eq!(file.profile("p").expect("made")["services"], json!([["f", 1]]));
}

#[test]
fn keys_are_set_and_deleted_in_their_part() {
    let mut file = rc(json!({ "mine": 1, "profile": { "p": { "yours": 2, "secret": "s" } } }));
    for change in [
        set(None, "seeds", json!("a,b,")),
        set(Some("p"), "autocork", json!("1")),
        set(Some("new"), "services", json!(["f,g"])),
        delete(Some("p"), "secret"),
        delete(Some("nobody"), "secret"),
        delete(None, "mine"),
        Change::MakeProfile("p".into()),
        Change::MakeProfile("made".into()),
    ] {
        file.apply(change).expect("a change");
    }
    let profiles =
        json!({ "p": { "yours": 2, "autocork": "1" }, "new": { "services": ["f,g"] }, "made": {} });
    let expected = json!({ "seeds": ["a", "b"], "profile": profiles });
    assert_eq!(file.to_json(), format!("{expected:#}\n"));
    file.apply(Change::DeleteProfile("p".into())).expect("a change");
    assert!(file.profile("p").is_none());
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut file = rc(json!({ "seeds": 7, "profile": { "a": {}, "b": { "parent": "a" } } }));
    let before = file.to_json();
    for change in [
        set(None, "profile", json!({})),
        set(None, "version", json!(2)),
        set(None, "parent", json!("a")),
        set(None, "no_such_key", json!(1)),
        set(None, "monitor_timeout", json!("0")),
        set(None, "binds", json!(["a:b:c"])),
        set(None, "nodeid", json!("a#b")),
        set(Some("a"), "parent", json!("a")),
        set(Some("a"), "parent", json!("b")),
        set(Some("a"), "parent", json!([])),
        set(Some("new"), "secret", json!("")),
        delete(None, "profile"),
        delete(None, "version"),
        add(None, "seeds", json!("a")),
        add(Some("a"), "seeds", json!("a:b:c")),
        add(Some("a"), "secret", json!("a")),
        remove(None, "seeds", json!("a")),
        remove(None, "profile", json!("a")),
    ] {
        assert!(file.apply(change.clone()).is_err(), "{change:?}");
    }
    assert_eq!(file.to_json(), before);
    file.apply(delete(None, "seeds")).expect("what is wrong can be taken away");
}

#[test]
fn a_circle_that_two_tools_make_together_is_refused_to_the_second() {
    let (_folder, path) = place();
    let mut one = RcFile::load(&path).expect("nothing");
    let mut two = one.clone();
    one.apply(set(Some("a"), "parent", json!("b"))).expect("a change");
    two.apply(set(Some("b"), "parent", json!("a"))).expect("a change");
    one.save().expect("saved");
    assert!(matches!(two.save(), Err(ConfigError::ParentCircle { .. })));
    assert_eq!(read(&path)["profile"], json!({ "a": { "parent": "b" } }));
}

#[test]
fn noise_is_refused_or_written_back_as_it_was() {
    let valid = concat!(
        "{ # all\n\"version\":1, \"secret\":\"s\\u00e9\\n\", \"seeds\":[\"a:1\",\"[::1]:2\",], \"x\":-1.5e3,\n",
        "\"profile\":{\"p\":{\"parent\":\"q\",\"binds\":[\"*\"],\"services\":[\"a::\",[\"f\",1]]},\"q\":{}}}",
    );
    for seed in 1..4_000_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).expect("31 bits") % below
        };
        let bytes: Vec<u8> = if seed % 2 == 0 {
            (0..next(64)).map(|_| b"{}[]\",:#\\ \n\tu01.e-\xff"[next(19)]).collect()
        } else {
            let mut bytes = valid.as_bytes().to_vec();
            for _ in 0..=next(4) {
                let at = next(bytes.len().max(1));
                match next(3) {
                    _ if bytes.is_empty() => {}
                    0 => bytes[at] = b"{}[]\",:#\\ \n\t7\0\xff"[next(15)],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at),
                }
            }
            bytes
        };
        let Ok(file) = RcFile::parse(Path::new("/rc"), &bytes) else { continue };
        let again =
            RcFile::parse(Path::new("/rc"), file.to_json().as_bytes()).expect("our own text");
        assert_eq!(again.to_json(), file.to_json(), "seed {seed}");
        for profile in ["p", "q", "nobody"] {
            // Either will do, as long as it ends.
            if let Ok(settings) = Config::new().profile(profile).resolve(&file, &Facts::for_tests())
            {
                assert!(!settings.node_id.as_str().is_empty());
            }
        }
    }
}

fn place() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rc");
    (folder, path)
}

fn names(folder: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    names
}

fn read(path: &Path) -> Json {
    serde_json::from_str(&fs::read_to_string(path).expect("text")).expect("strict JSON")
}

fn rc(content: Json) -> RcFile {
    RcFile::parse(Path::new("/rc"), content.to_string().as_bytes()).expect("a settings file")
}

fn set(profile: Option<&str>, key: &str, value: Json) -> Change {
    Change::Set { profile: profile.map(Into::into), key: key.into(), value }
}

fn delete(profile: Option<&str>, key: &str) -> Change {
    Change::Delete { profile: profile.map(Into::into), key: key.into() }
}

fn add(profile: Option<&str>, key: &str, element: Json) -> Change {
    Change::Add { profile: profile.map(Into::into), key: key.into(), element }
}

fn remove(profile: Option<&str>, key: &str, element: Json) -> Change {
    Change::Remove { profile: profile.map(Into::into), key: key.into(), element }
}
