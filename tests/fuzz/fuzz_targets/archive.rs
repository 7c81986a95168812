//! An archive, compressed or not: layers, tools.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::source::fuzzing::archive(data);
});
