//! Wheels and a simple index, made by the test.
#![allow(dead_code)] // each test file takes its part

use std::io::{Cursor, Write};

use labimg::base::base64;
use labimg::base::digest::Digest;
use zip::write::SimpleFileOptions;

/// The hash as RECORD writes it: base64 with `-` and `_`, without padding.
pub fn record_hash(bytes: &[u8]) -> String {
    let digest = Digest::of(bytes).hex();
    let raw: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&digest[2 * i..2 * i + 2], 16).unwrap()).collect();
    format!("sha256={}", base64::encode(&raw).trim_end_matches('=').replace('+', "-").replace('/', "_"))
}

/// A zip file of these members, in this order, each with its unix mode.
pub fn zip_of(members: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, mode) in members {
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated).unix_permissions(*mode);
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A wheel called `file`: its metadata, `requires` as `Requires-Dist`, and one module.
pub fn wheel(file: &str, requires: &[&str]) -> Vec<u8> {
    let module = format!("{}.py", file.split('-').next().unwrap());
    wheel_with(file, requires, &[(&module, b"x = 1\n", 0o644)])
}

/// The same with these files.
pub fn wheel_with(file: &str, requires: &[&str], files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let parts: Vec<&str> = file.trim_end_matches(".whl").split('-').collect();
    let (name, version, tag) = (parts[0], parts[1], parts[2..].join("-"));
    let info = format!("{name}-{version}.dist-info");
    let mut metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
    for requirement in requires {
        metadata += &format!("Requires-Dist: {requirement}\n");
    }
    let wheel = format!("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n");
    let (metadata_path, wheel_path) = (format!("{info}/METADATA"), format!("{info}/WHEEL"));
    let mut members = files.to_vec();
    members.push((&metadata_path, metadata.as_bytes(), 0o644));
    members.push((&wheel_path, wheel.as_bytes(), 0o644));
    let mut record = String::new();
    for (path, bytes, _) in &members {
        record += &format!("{path},{},{}\n", record_hash(bytes), bytes.len());
    }
    let record_path = format!("{info}/RECORD");
    record += &format!("{record_path},,\n");
    members.push((&record_path, record.as_bytes(), 0o644));
    zip_of(&members)
}
