//! A wheel.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::build::fuzzing::wheel(data, labimg_fuzz::scratch());
});
