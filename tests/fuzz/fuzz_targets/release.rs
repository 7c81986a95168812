//! A Release file of Debian.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::source::fuzzing::release(data);
});
