//! A page of an index of Python packages.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::source::fuzzing::wheel_page(data);
});
