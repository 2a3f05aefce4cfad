//! Lists of addresses in every form: what is taken is what the filter says, and can be saved and loaded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::ip_filter::IpFilterBuilder;

fuzz_target!(|list: &[u8]| {
    let mut builder = IpFilterBuilder::default();
    let Ok(loaded) = builder.load(list) else { return };
    assert_eq!(loaded.rule_count, builder.len());
    assert!(loaded.first_faults.len() <= loaded.fault_count.min(100));
    let filter = builder.build();
    for rule in filter.iter() {
        assert!(!rule.text.contains(char::is_control), "{:?}", rule.text);
        assert_eq!(filter.rule_of(rule.first), Some(rule));
        assert_eq!(filter.rule_of(rule.last), Some(rule));
        assert_eq!(filter.is_banned(rule.first), rule.level < 127);
    }
    let mut again = IpFilterBuilder::default();
    let saved = filter.save();
    let loaded = again.load(saved.as_bytes()).expect("what was saved is a list");
    assert_eq!((loaded.rule_count, loaded.fault_count), (filter.len(), 0));
    assert_eq!(again.build(), filter);
});
