//! A profile, without its imports.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let mut none = |_: &str| Err("none".to_owned());
        if let Err(wrong) = labimg::model::profile::parse("lab.toml", text, &mut none) {
            let _ = wrong.to_string();
        }
    }
});
