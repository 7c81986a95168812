//! The manifest or index of an image.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::source::fuzzing::image_manifest(data);
});
