//! What a program file was built for, read from its first bytes.
//!
//! Formats: ELF (System V gABI, "ELF Header": class at 4, `e_machine` at 18), Mach-O (`mach-o/loader.h`, `fat.h`),
//! PE (Microsoft PE/COFF, "MS-DOS Stub", "COFF File Header"). Systems and architectures are named as Go names them.

/// How many bytes of a file [`identify`] wants to see.
pub const HEAD: usize = 4096;

/// What the first bytes of a file say it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A binary: for this system, on any of these architectures (more than one in a fat Mach-O).
    Binary {
        /// `linux`, `darwin` or `windows`.
        os: &'static str,
        /// `amd64`, `arm64`, or what else the header says.
        archs: Vec<String>,
    },
    /// A script (`#!`): for every machine that has its interpreter.
    Script,
    /// Something else; a few words for people.
    Other(&'static str),
}

/// Reads the header in `head`, the first [`HEAD`] bytes of a file (or all of a shorter one).
pub fn identify(head: &[u8]) -> Program {
    elf(head).or_else(|| mach_o(head)).or_else(|| pe(head)).unwrap_or_else(|| other(head))
}

impl Program {
    /// Whether a machine of `os` and `arch` can run it. A script passes: nobody can tell.
    pub fn runs_on(&self, os: &str, arch: &str) -> bool {
        match self {
            Self::Binary { os: its, archs } => *its == os && archs.iter().any(|a| a == arch),
            Self::Script => true,
            Self::Other(_) => false,
        }
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Binary { os, archs } => write!(f, "a program for {os}/{}", archs.join("+")),
            Self::Script => f.write_str("a script"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Whether the program whose first [`HEAD`] bytes are `head` is a 64-bit little-endian ELF that asks for no interpreter: no
/// dynamic linker, no libraries (gABI, "Program Header": `PT_INTERP` is 3). A table that does not end within `head` says no.
pub fn is_static_elf(head: &[u8]) -> bool {
    const LITTLE_64: &[u8] = b"\x7fELF\x02\x01";
    const PT_LOAD: u32 = 1;
    const PT_INTERP: u32 = 3;
    if !head.starts_with(LITTLE_64) {
        return false;
    }
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?)));
    let table = || {
        let offset = usize::try_from(u64::from_le_bytes(head.get(32..40)?.try_into().ok()?)).ok()?;
        let (size, count) = (half(54)?, half(56)?);
        let kinds = (0..count).map(|i| {
            let at = offset.checked_add(size.checked_mul(i)?)?;
            Some(u32::from_le_bytes(head.get(at..at.checked_add(4)?)?.try_into().ok()?))
        });
        kinds.collect::<Option<Vec<u32>>>()
    };
    table().is_some_and(|kinds| kinds.contains(&PT_LOAD) && !kinds.contains(&PT_INTERP))
}

fn elf(head: &[u8]) -> Option<Program> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let raw: [u8; 2] = head.get(18..20)?.try_into().ok()?;
    let machine = if head[5] == 2 { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) };
    let arch = match (machine, head[4]) {
        (62, 2) => "amd64".to_owned(),
        (183, 2) => "arm64".to_owned(),
        (3, _) => "386".to_owned(),
        (40, _) => "arm".to_owned(),
        (243, _) => "riscv64".to_owned(),
        (21, _) => "ppc64".to_owned(),
        (22, _) => "s390x".to_owned(),
        (other, class) => format!("machine {other} class {class}"),
    };
    Some(Program::Binary { os: "linux", archs: vec![arch] })
}

fn mach_o(head: &[u8]) -> Option<Program> {
    let word = |at: usize| head.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
    let darwin = |archs| Some(Program::Binary { os: "darwin", archs });
    match word(0)? {
        [0xcf | 0xce, 0xfa, 0xed, 0xfe] => darwin(vec![cpu(u32::from_le_bytes(word(4)?))]),
        // A Java class starts the same way; its version number, where the count stands here, is 45 or more.
        [0xca, 0xfe, 0xba, 0xbe] => {
            let count = u32::from_be_bytes(word(4)?) as usize;
            let cpus = (0..count).map(|i| word(8 + 20 * i).map(|w| cpu(u32::from_be_bytes(w))));
            if count < 20 { darwin(cpus.collect::<Option<_>>()?) } else { None }
        }
        _ => None,
    }
}

fn cpu(kind: u32) -> String {
    match kind {
        0x0100_0007 => "amd64".to_owned(),
        0x0100_000c => "arm64".to_owned(),
        7 => "386".to_owned(),
        other => format!("cpu {other:#x}"),
    }
}

fn pe(head: &[u8]) -> Option<Program> {
    if !head.starts_with(b"MZ") {
        return None;
    }
    let at = u32::from_le_bytes(head.get(0x3c..0x40)?.try_into().ok()?) as usize;
    let header = head.get(at..at.checked_add(6)?)?;
    if !header.starts_with(b"PE\0\0") {
        return None;
    }
    let arch = match u16::from_le_bytes([header[4], header[5]]) {
        0x8664 => "amd64".to_owned(),
        0xaa64 => "arm64".to_owned(),
        0x014c => "386".to_owned(),
        other => format!("machine {other:#x}"),
    };
    Some(Program::Binary { os: "windows", archs: vec![arch] })
}

fn other(head: &[u8]) -> Program {
    let text = head.trim_ascii_start();
    let starts = |word: &[u8]| text.len() >= word.len() && text[..word.len()].eq_ignore_ascii_case(word);
    match head {
        [b'#', b'!', ..] => Program::Script,
        [] => Program::Other("an empty file"),
        [b'P', b'K', 3, 4, ..] => Program::Other("a zip archive"),
        [0x1f, 0x8b, ..] => Program::Other("a gzip file"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Program::Other("a zstd file"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Program::Other("an xz file"),
        _ if head.get(257..262) == Some(b"ustar") => Program::Other("a tar archive"),
        _ if starts(b"<!doctype html") || starts(b"<html") => Program::Other("an HTML page"),
        _ => Program::Other("no program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf_of(machine: u16) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head
    }

    #[test]
    fn elf_names_its_machine() {
        assert!(identify(&elf_of(62)).runs_on("linux", "amd64"));
        assert!(!identify(&elf_of(62)).runs_on("linux", "arm64"));
        assert!(identify(&elf_of(183)).runs_on("linux", "arm64"));
        assert_eq!(identify(&elf_of(183)).to_string(), "a program for linux/arm64");
    }

    #[test]
    fn a_static_program_names_no_interpreter() {
        let with = |kinds: &[u32]| {
            let mut head = elf_of(62);
            head[32] = 64;
            head[54] = 56;
            head[56] = kinds.len() as u8;
            for kind in kinds {
                head.extend(kind.to_le_bytes());
                head.extend([0; 52]);
            }
            head
        };
        assert!(is_static_elf(&with(&[1, 2])));
        assert!(!is_static_elf(&with(&[6, 3, 1])));
        assert!(!is_static_elf(&with(&[])) && !is_static_elf(b"\x7fELF\x02\x01") && !is_static_elf(b""));
        let mut far = with(&[1]);
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(!is_static_elf(&far));
    }

    #[test]
    fn mach_o_may_be_fat() {
        let thin = [&[0xcf, 0xfa, 0xed, 0xfe][..], &0x0100_000cu32.to_le_bytes()].concat();
        assert!(identify(&thin).runs_on("darwin", "arm64"));
        let mut fat = vec![0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 2];
        for kind in [0x0100_0007u32, 0x0100_000c] {
            fat.extend(kind.to_be_bytes());
            fat.extend([0; 16]);
        }
        assert!(identify(&fat).runs_on("darwin", "arm64") && identify(&fat).runs_on("darwin", "amd64"));
        assert_eq!(identify(b"\xca\xfe\xba\xbe\0\0\0\x34"), Program::Other("no program"));
    }

    #[test]
    fn pe_follows_its_pointer() {
        let mut head = vec![0; 0x100];
        head[..2].copy_from_slice(b"MZ");
        head[0x3c] = 0x80;
        head[0x80..0x86].copy_from_slice(b"PE\0\0\x64\x86");
        assert!(identify(&head).runs_on("windows", "amd64"));
        head[0x3c..0x40].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(identify(&head), Program::Other("no program"));
    }

    #[test]
    fn what_is_no_binary_is_named() {
        assert_eq!(identify(b"#!/bin/sh\n"), Program::Script);
        for (head, what) in
            [(&b"  <!DOCTYPE html>"[..], "an HTML page"), (b"PK\x03\x04", "a zip archive"), (b"", "an empty file")]
        {
            assert_eq!(identify(head), Program::Other(what));
        }
    }
}
