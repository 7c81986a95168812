//! An image's definition.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Err(wrong) = labimg::model::image_def_load::parse("image.toml", text)
    {
        let _ = wrong.to_string();
    }
});
