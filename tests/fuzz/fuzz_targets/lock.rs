//! A lock; what is read comes back when it is written and read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(lock) = labimg::model::lock::wire::parse(text) else { return };
    let written = labimg::model::lock::wire::to_text(&lock).expect("a lock can be written");
    assert_eq!(labimg::model::lock::wire::parse(&written).expect("a written lock can be read"), lock);
});
