//! An ext4 file system.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::build::fuzzing::ext4(data);
});
