//! What a request to the server asks for.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::serve::fuzzing::request(data);
});
