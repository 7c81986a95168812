//! Stand-in files: programs with the header of their platform, archives with the member wanted, manifests.

use std::io;

use labimg::model::lock::FileKind;
use labimg::model::platform::Platform;
use labimg::model::profile::RemoteInput;

use crate::Failure;
use crate::archive::{Entry, gzip, tar};
use crate::bytes::Bytes;

/// One input that a URL answers.
pub struct Wanted<'a> {
    /// What it is for.
    pub kind: FileKind,
    /// Its name.
    pub name: &'a str,
    /// Its platform, where that matters.
    pub platform: Option<Platform>,
    /// The input.
    pub input: &'a RemoteInput,
}

/// What a URL serves, given every input that asks for it (several members of one archive, say).
pub fn contents(url: &str, wanted: &[Wanted<'_>], scale: u64) -> Result<Vec<u8>, Failure> {
    let members: Vec<&Wanted<'_>> = wanted.iter().filter(|w| w.input.member.is_some()).collect();
    match wanted.first() {
        _ if !members.is_empty() || url.ends_with(".tar.gz") || url.ends_with(".tgz") => archive(url, &members, scale),
        Some(one) => Ok(plain(one, scale)),
        None => Ok(Vec::new()),
    }
}

fn archive(url: &str, members: &[&Wanted<'_>], scale: u64) -> Result<Vec<u8>, Failure> {
    let mut entries = vec![Entry::File("README.md".into(), 0o644, Bytes::of(url).prose(2_000))];
    for wanted in members {
        let path = wanted.input.member.clone().unwrap_or_default();
        entries.push(Entry::File(path, 0o755, plain(wanted, scale)));
    }
    let raw = tar(entries)?;
    let path = url.split('?').next().unwrap_or(url);
    match path {
        _ if path.ends_with(".tar.gz") || path.ends_with(".tgz") => Ok(gzip(&raw)?),
        _ if path.ends_with(".tar.zst") => Ok(zstd::encode_all(raw.as_slice(), 1)?),
        _ if path.ends_with(".tar.xz") => Ok(xz(&raw)?),
        _ if path.ends_with(".tar") => Ok(raw),
        _ => Err(format!("{url}: no stand-in for this kind of archive").into()),
    }
}

fn xz(data: &[u8]) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut out = Vec::new();
    liblzma::read::XzEncoder::new(data, 1).read_to_end(&mut out)?;
    Ok(out)
}

fn plain(wanted: &Wanted<'_>, scale: u64) -> Vec<u8> {
    let name = wanted.name;
    let path = wanted.input.member.as_deref().unwrap_or(&wanted.input.url);
    if wanted.input.executable {
        return program(name, wanted.platform.unwrap_or(Platform::LinuxAmd64), scale);
    }
    let end = path.split('?').next().unwrap_or(path).rsplit('.').next().unwrap_or_default();
    match end {
        _ if wanted.kind == FileKind::Manifest => objects(name),
        "yaml" | "yml" => objects(name),
        "json" => format!("{{\"stand-in\": \"{name}\"}}\n").into_bytes(),
        "md" | "txt" | "sh" => Bytes::of(name).prose(3_000),
        _ => Bytes::of(&format!("file {name}")).noise(100_000 * scale),
    }
}

fn objects(name: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(&Bytes::of(name).prose(800)).replace('\n', " ");
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: stand-in\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: stand-in\ndata:\n  text: \"{text}\"\n"
    )
    .into_bytes()
}

/// A header that says the platform, then noise: enough for whoever looks at what a file claims to be.
fn program(name: &str, platform: Platform, scale: u64) -> Vec<u8> {
    let arm = platform.arch() == "arm64";
    let mut out = match platform.os() {
        "darwin" => mach_o(arm),
        "windows" => portable_executable(),
        _ => elf(arm),
    };
    let mut bytes = Bytes::of(&format!("{name} {platform}"));
    let len = bytes.between(200_000, 700_000) * scale;
    out.extend(bytes.noise(len));
    out
}

/// ELF64 header (System V ABI, "ELF Header"): little endian, `ET_EXEC`.
fn elf(arm: bool) -> Vec<u8> {
    let mut header = vec![0u8; 64];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    header[16] = 2;
    header[18] = if arm { 183 } else { 62 };
    header[20] = 1;
    header[52] = 64;
    header
}

/// `mach_header_64` (mach-o/loader.h): magic, CPU type, sub-type, `MH_EXECUTE`.
fn mach_o(arm: bool) -> Vec<u8> {
    let cpu: u32 = if arm { 0x0100_000c } else { 0x0100_0007 };
    let words: [u32; 8] = [0xfeed_facf, cpu, if arm { 0 } else { 3 }, 2, 0, 0, 0, 0];
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// DOS stub and COFF header (PE format, "COFF File Header"), x86-64, executable image.
fn portable_executable() -> Vec<u8> {
    let mut header = vec![0u8; 0x80 + 24];
    header[..2].copy_from_slice(b"MZ");
    header[0x3c] = 0x80;
    header[0x80..0x86].copy_from_slice(&[b'P', b'E', 0, 0, 0x64, 0x86]);
    header[0x80 + 22] = 0x22;
    header
}
