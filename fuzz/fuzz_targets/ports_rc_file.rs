//! The settings file of ports: what can be read is written back as the same, and comes to settings or an error.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ports::config::{Config, Endpoint, Facts, RcFile, Role};

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = RcFile::parse(Path::new("/rc"), bytes) else { return };
    let again = RcFile::parse(Path::new("/rc"), file.to_json().as_bytes()).expect("our own text");
    assert_eq!(again.global().keys().collect::<Vec<_>>(), file.global().keys().collect::<Vec<_>>());

    let facts = Facts {
        nodename: "here".into(),
        random: [7; 16],
        trace: false,
        port_of_service: |_name| None,
    };
    let profiles = file.global().get("profile").and_then(|profiles| profiles.as_object());
    for name in profiles.into_iter().flat_map(|profiles| profiles.keys()) {
        let config = Config::new().profile(name);
        let effective = config.effective(&file, &facts);
        let Ok(settings) = config.resolve(&file, &facts) else { continue };
        effective.expect("if values are right, so is where they come from");
        for endpoint in settings.binds.into_iter().chain(settings.seeds) {
            let read = Endpoint::parse_list(&endpoint.to_string(), Role::Bind, &facts);
            assert_eq!(read, Ok(vec![endpoint]));
        }
    }
});
