//! Frames of messages: where the reads end changes nothing, and what was understood survives being sent again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ports::wire::fuzzing::{Frame, Splitter};
use ports::wire::{Framing, from_list, to_json, to_list};
use ports::{List, Value};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, stream)) = input.split_first() else { return };
    let framing = if choice & 1 == 0 { Framing::Cbor } else { Framing::Json };
    // A stranger's bytes reach no frame without a splitter, but must not need one.
    if let Ok(frame) = Frame::open(framing, stream) {
        frame.list().ok();
    }
    let at_once = split(framing, stream, stream.len().max(1));
    assert_eq!(at_once, split(framing, stream, usize::from(choice >> 1).max(1)));
    for bytes in at_once {
        let Ok(frame) = Frame::open(framing, bytes) else { continue };
        let Ok(list) = frame.list() else { continue };
        to_json(&Value::List(list.clone()));
        let again = to_list(&list).expect("values are a message");
        let again: List = from_list(again).expect("a list is the message that it was");
        // Not by `==`, to which NaN is not itself.
        assert_eq!(format!("{again:?}"), format!("{list:?}"));
    }
});

/// The frames found when fed `step` bytes at a time.
fn split(framing: Framing, stream: &[u8], step: usize) -> Vec<&[u8]> {
    let mut splitter = Splitter::new(framing);
    let (mut frames, mut start) = (Vec::new(), 0);
    for end in (step..stream.len()).step_by(step).chain([stream.len()]) {
        loop {
            match splitter.next(&stream[start..end]) {
                Ok(Some(len)) => {
                    frames.push(&stream[start..start + len]);
                    start += len;
                }
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}
