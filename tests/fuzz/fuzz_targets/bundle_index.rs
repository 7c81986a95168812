//! A bundle's index.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(index) = labimg::base::bounded::from_json::<labimg::store::bundle::Index>(data) else { return };
    let _ = index.validate(3584);
});
