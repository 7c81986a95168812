//! A package of Debian.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::build::fuzzing::deb(data, labimg_fuzz::scratch());
});
