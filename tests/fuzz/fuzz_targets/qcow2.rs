//! A disk image of QEMU.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::build::fuzzing::qcow2(data);
});
