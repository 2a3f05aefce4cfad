//! What comes of arguments, file and defaults.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::*;

#[test]
fn nothing_at_all_gives_the_defaults() {
    let settings = Config::new().resolve(&RcFile::empty(), &Facts::for_tests()).expect("settings");
    assert_eq!(settings.profile, "here");
    assert_eq!(settings.node_id.as_str(), format!("here/{}", settings.unique));
    assert!(settings.node_id_is_unique);
    assert_eq!(shown(&settings.binds), ["*:0"]);
    assert!(settings.seeds.is_empty() && settings.services.is_empty());
    assert!(settings.secret.is_none() && settings.cert.is_none() && settings.eval.is_none());
    assert_eq!(settings.monitor_timeout, Duration::from_secs(30));
    assert_eq!(settings.connect_interval, Duration::from_secs(2));
    assert_eq!(settings.framing_format, ["cbor", "json"]);
    assert_eq!(settings.auth_offer, ["tls_sha3_512", "hmac_sha3_512"]);
    assert_eq!(settings.auth_accept, ["tls_sha3_512", "hmac_sha3_512"]);
    assert!(settings.nodelay && !settings.autocork && !settings.secure && !settings.trace);
}

#[test]
fn the_file_beats_the_program_and_the_nearest_profile_beats_the_others() {
    // Which of the places give a secret, and whose is taken.
    for (given, file_taken, norc_taken, force_taken) in [
        (&["arguments"][..], "arguments", "arguments", "arguments"),
        (&["arguments", "global"], "global", "arguments", "arguments"),
        (&["arguments", "grandparent"], "grandparent", "arguments", "arguments"),
        (&["global", "grandparent", "parent"], "parent", "none", "parent"),
        (&["arguments", "global", "grandparent", "parent", "me"], "me", "arguments", "arguments"),
        (&["global", "me"], "me", "none", "me"),
        (&["global", "grandparent"], "grandparent", "none", "grandparent"),
        (&["global"], "global", "none", "global"),
        (&["other"], "none", "none", "none"),
        (&[], "none", "none", "none"),
    ] {
        let mut file = rc(json!({ "profile": {
            "me": { "parent": "parent" },
            "parent": { "parent": "grandparent" },
            "grandparent": {},
            "other": {},
        } }));
        let mut config = Config::new().profile("me");
        for place in given {
            if *place == "arguments" {
                config = config.secret("arguments");
            } else {
                let profile = (*place != "global").then(|| (*place).to_owned());
                let value = (*place).into();
                file.apply(Change::Set { profile, key: "secret".into(), value }).expect("a change");
            }
        }
        let taken = |config: &Config| {
            let settings = config.resolve(&file, &Facts::for_tests()).expect("settings");
            settings.secret.map_or_else(|| "none".to_owned(), |secret| secret.as_str().to_owned())
        };
        assert_eq!(taken(&config), file_taken, "{given:?}");
        assert_eq!(taken(&config.clone().norc()), norc_taken, "norc {given:?}");
        assert_eq!(taken(&config.force()), force_taken, "force {given:?}");
    }
}

#[test]
fn an_unknown_profile_or_parent_is_empty() {
    let file = rc(json!({ "secret": "s", "profile": { "a": { "parent": "nobody" } } }));
    for profile in ["a", "nobody"] {
        let settings = Config::new().profile(profile).resolve(&file, &Facts::for_tests());
        assert_eq!(settings.expect("settings").secret.expect("a secret").as_str(), "s");
    }
}

#[test]
fn the_profile_called_like_the_machine_is_taken_if_none_is_named() {
    let file = rc(json!({ "profile": { "here": { "nodeid": "seed1" } } }));
    let settings = Config::new().resolve(&file, &Facts::for_tests()).expect("settings");
    assert_eq!((settings.node_id.as_str(), settings.node_id_is_unique), ("seed1", false));
}

#[test]
fn null_asks_for_the_default_again() {
    let file =
        rc(json!({ "connect_interval": 9, "profile": { "a": { "connect_interval": null } } }));
    let settings =
        Config::new().profile("a").resolve(&file, &Facts::for_tests()).expect("settings");
    assert_eq!(settings.connect_interval, Duration::from_secs(2));
}

#[test]
fn parents_in_a_circle_are_an_error_that_names_them() {
    for (profiles, chain) in [
        (json!({ "a": { "parent": "a" } }), "a -> a"),
        (
            json!({ "a": { "parent": "b" }, "b": { "parent": "c" }, "c": { "parent": "b" } }),
            "a -> b -> c -> b",
        ),
    ] {
        let file = rc(json!({ "profile": profiles }));
        let error = resolve_error(&Config::new().profile("a"), &file);
        assert_eq!(error, format!("/rc: the parents of profiles go in a circle: {chain}"));
        assert!(Config::new().profile("a").effective(&file, &Facts::for_tests()).is_err());
        assert!(Config::new().profile("a").norc().resolve(&file, &Facts::for_tests()).is_ok());
    }
}

#[test]
fn long_chains_and_circles_are_followed_without_recursion() {
    let profiles: Map<String, Json> = (0..20_000)
        .map(|n| (n.to_string(), json!({ "parent": ((n + 1) % 20_000).to_string() })))
        .collect();
    let mut file = json!({ "profile": profiles });
    let error = resolve_error(&Config::new().profile("0"), &rc(file.clone()));
    assert!(error.len() < 300 && error.ends_with("-> …"), "{error}");
    file["profile"]["19999"] = json!({ "secret": "oldest" });
    let settings = Config::new().profile("0").resolve(&rc(file), &Facts::for_tests());
    assert_eq!(settings.expect("settings").secret.expect("a secret").as_str(), "oldest");
}

#[test]
fn texts_do_for_numbers_and_flags_as_perls_tool_writes_them() {
    let file = rc(json!({
        "autocork": "1", "nodelay": "0", "secure": "", "monitor_timeout": "30.5", "connect_interval": 0.25,
        "secret": 123, "binds": [4040], "seeds": ["a,b:1", "c#2"],
    }));
    let settings = Config::new().resolve(&file, &Facts::for_tests()).expect("settings");
    assert!(settings.autocork && !settings.nodelay && !settings.secure);
    assert_eq!(settings.monitor_timeout, Duration::from_millis(30_500));
    assert_eq!(settings.connect_interval, Duration::from_millis(250));
    assert_eq!(settings.secret.expect("a secret").as_str(), "123");
    assert_eq!(shown(&settings.binds), ["here:4040"]);
    assert_eq!(shown(&settings.seeds), ["a:4040", "b:1", "c:2"]);
}

#[test]
fn wrong_values_are_errors_that_name_file_profile_and_key() {
    let many: Vec<String> = (0..1001).map(|port| format!("a:{port}")).collect();
    for (key, value) in [
        ("seeds", json!("a,b")),
        ("seeds", json!({})),
        ("seeds", json!([[]])),
        ("seeds", json!(["a:b:c"])),
        ("seeds", json!(many)),
        ("seeds", json!([many.join(",")])),
        ("binds", json!(true)),
        ("services", json!("x::")),
        ("services", json!([7])),
        ("secret", json!("")),
        ("secret", json!(["s"])),
        ("cert", json!({})),
        ("nodeid", json!([])),
        ("eval", json!({})),
        ("monitor_timeout", json!(0)),
        ("monitor_timeout", json!(-1)),
        ("monitor_timeout", json!("NaN")),
        ("monitor_timeout", json!("inf")),
        ("monitor_timeout", json!("soon")),
        ("monitor_timeout", json!(31_536_001)),
        ("connect_interval", json!(1e-30)),
        ("connect_interval", json!(1e300)),
        ("connect_interval", json!(true)),
        ("autocork", json!("perhaps")),
        ("nodelay", json!([])),
        ("framing_format", json!(["xml"])),
        ("framing_format", json!(["storable"])),
        ("framing_format", json!([])),
        ("auth_offer", json!(["md5"])),
        ("auth_accept", json!(["hmac_md6_64_256"])),
        ("auth_accept", json!("cleartext")),
        ("parent", json!(["b"])),
    ] {
        let mut profile = json!({});
        profile[key] = value.clone();
        let file = rc(json!({ "profile": { "a": profile } }));
        let error = resolve_error(&Config::new().profile("a"), &file);
        let place = format!("/rc, profile 'a': key '{key}': ");
        assert!(error.starts_with(&place), "{key} {value}: {error}");
        assert!(error.len() < 300, "{error}");
        if key != "parent" {
            let global = rc(json!({ key: value }));
            let error = resolve_error(&Config::new(), &global);
            assert!(error.starts_with(&format!("/rc, global part: key '{key}': ")), "{error}");
        }
    }
    let error = resolve_error(&Config::new().set("monitor_timeout", 0), &RcFile::empty());
    assert_eq!(
        error,
        "the arguments: key 'monitor_timeout': expected seconds, more than 0 and at most a year (31536000), found 0"
    );
    let year = Config::new().monitor_timeout(Duration::from_secs(31_536_000));
    assert!(year.resolve(&RcFile::empty(), &Facts::for_tests()).is_ok());
}

#[test]
fn names_of_other_versions_are_passed_over() {
    let file = rc(json!({
        "framing_format": ["json", "storable", "cbor", "json"],
        "auth_offer": ["tls_md6_64_256", "hmac_sha3_512"],
        "auth_accept": ["cleartext", "tls_anon", "hmac_md6_64_256"],
    }));
    let settings = Config::new().resolve(&file, &Facts::for_tests()).expect("settings");
    assert_eq!(settings.framing_format, ["json", "cbor"]);
    assert_eq!(settings.auth_offer, ["hmac_sha3_512"]);
    assert_eq!(settings.auth_accept, ["cleartext", "tls_anon"]);
}

#[test]
fn services_are_kept_in_order_with_their_endings() {
    let config = Config::new().service("chat::").service(json!(["f", 1])).service("exec:py 'a b'");
    // Twice, for Perl cuts the ending off when it starts them.
    for _ in 0..2 {
        let settings = config.resolve(&RcFile::empty(), &Facts::for_tests()).expect("settings");
        assert_eq!(
            settings.services,
            [
                Service::Module("chat::".into()),
                Service::Call { function: "f".into(), args: vec![1_i64.into()] },
                Service::Exec { program: "py".into(), args: vec!["a b".into()] },
            ]
        );
    }
}

#[test]
fn arguments_are_pairs_after_an_odd_profile() {
    let args = ["chat", "binds", "4040,4041", "nodeid", "anon/", "norc", "1"];
    let config = Config::from_args(args).expect("arguments");
    let settings =
        config.resolve(&rc(json!({ "secret": "s" })), &Facts::for_tests()).expect("settings");
    assert_eq!(settings.profile, "chat");
    assert_eq!(shown(&settings.binds), ["here:4040", "here:4041"]);
    assert_eq!(settings.node_id.as_str(), format!("anon/{}", settings.unique));
    assert!(settings.secret.is_none());
    let config = Config::from_args([json!("profile"), json!("p"), json!("binds"), json!([])]);
    let settings = config.expect("arguments").resolve(&RcFile::empty(), &Facts::for_tests());
    let settings = settings.expect("settings");
    assert_eq!((settings.profile.as_str(), settings.binds.len()), ("p", 0));
    assert!(Config::from_args([json!(7), json!(8)]).is_err());
    let error = Config::from_args(["monitor_timout", "7"]).expect_err("misspelt").to_string();
    assert_eq!(error, "'monitor_timout' is no setting that can be given here");
}

#[test]
fn what_the_file_says_of_norc_and_force_does_not_count() {
    let file = rc(
        json!({ "norc": true, "force": true, "secret": "file", "profile": { "here": { "norc": 1 } } }),
    );
    let config = Config::new().secret("mine");
    let settings = config.resolve(&file, &Facts::for_tests()).expect("settings");
    assert_eq!(settings.secret.expect("a secret").as_str(), "file");
}

#[test]
fn effective_values_are_shown_as_they_stand_without_profile_and_parent() {
    let file = rc(json!({
        "version": 1, "autocork": "1", "unknown": [1], "secret": "s",
        "profile": { "a": { "parent": "b", "nodeid": "x/%u" }, "b": { "seeds": ["s1"], "secret": null } },
    }));
    let config = Config::new().profile("a").set("connect_interval", 5).force();
    let shown = config.effective(&file, &Facts::for_tests()).expect("values");
    assert_eq!(
        shown,
        json!({
            "autocork": "1", "unknown": [1], "nodeid": "x/%u", "seeds": ["s1"], "connect_interval": 5,
            "binds": ["*"], "monitor_timeout": 30, "framing_format": ["cbor", "json"], "nodelay": true,
            "auth_offer": ["tls_sha3_512", "hmac_sha3_512"], "auth_accept": ["tls_sha3_512", "hmac_sha3_512"],
            "secure": false,
        })
    );
}

#[test]
fn an_argument_in_brackets_is_json_or_an_address() {
    assert_eq!(json_argument("a").expect("text"), json!("a"));
    assert_eq!(json_argument("[1, 2]").expect("a list"), json!([1, 2]));
    assert_eq!(json_argument("\"[::1]:4041\"").expect("quoted"), json!("[::1]:4041"));
    assert_eq!(json_argument("[::1]:4041").expect("an address"), json!("[::1]:4041"));
    let error = json_argument("[1, 2").expect_err("cut off").to_string();
    assert!(error.starts_with("argument '[1, 2': "), "{error}");
}

#[test]
fn secrets_are_not_shown_in_debug_output_or_errors() {
    let file = rc(
        json!({ "secret": "hush", "cert": "hush", "profile": { "hashed": { "secret": "hush" } } }),
    );
    let config = Config::new().secret("hush");
    let settings = config.resolve(&file, &Facts::for_tests()).expect("settings");
    let change = Change::Set { profile: None, key: "secret".into(), value: "hush".into() };
    let wrong = resolve_error(&Config::new().set("autocork", "hush"), &RcFile::empty());
    let all = format!("{file:?} {config:?} {settings:?} {change:?} {wrong}");
    assert!(!all.contains("hush"), "{all}");
}

fn rc(content: Json) -> RcFile {
    RcFile::parse(Path::new("/rc"), content.to_string().as_bytes()).expect("a settings file")
}

fn resolve_error(config: &Config, file: &RcFile) -> String {
    config.resolve(file, &Facts::for_tests()).expect_err("an error").to_string()
}

fn shown(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(ToString::to_string).collect()
}
