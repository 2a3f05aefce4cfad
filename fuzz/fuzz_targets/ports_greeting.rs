//! The greeting of a node: any line is read or refused, and what was read is written the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| ports::fuzzing::greeting(line));
