//! The index of a chart repository.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::source::fuzzing::index_yaml(data);
});
