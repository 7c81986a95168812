//! A disk image of VMware.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::build::fuzzing::vmdk(data);
});
