//! What a stranger says when it should prove that it belongs: none of it lets it in.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| ports::fuzzing::auth_line(input.1, input.0));
