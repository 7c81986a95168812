//! One YAML document, as a chart's values or a compose file are.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = labimg::model::manifest::value(text);
    }
});
