//! A packaged chart.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    labimg::source::fuzzing::chart_archive(data);
});
