//! Manifests of Kubernetes, and the images they name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for object in labimg::model::manifest::parse(text).unwrap_or_default() {
        let _ = labimg::model::manifest::images(&object);
    }
});
