//! Two things that are compared, down to the path.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::build::fuzzing::compared(data, labimg_fuzz::scratch());
});
