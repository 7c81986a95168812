//! `.deb` files made in Rust (deb(5)): honest ones, and ones with anything wrong that an archive can hold.
#![allow(dead_code)] // each test file takes its part

use std::io::Write;

/// How a member is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pack {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

/// A package under construction.
#[derive(Debug, Clone)]
pub struct Deb {
    pub control: Vec<(String, Vec<u8>)>,
    pub data: Vec<u8>,
    pub pack: Pack,
    /// First member's text.
    pub version: String,
    /// Further members, after the data.
    pub more: Vec<(String, Vec<u8>)>,
    /// Name of the data member, where it is not what `pack` says.
    pub data_name: Option<String>,
}

impl Deb {
    /// A package without contents.
    pub fn new(name: &str, version: &str, architecture: &str) -> Self {
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: Nobody <nobody@example.org>\n\
             Installed-Size: 1\nDescription: {name}\n longer\n"
        );
        let mut deb = Self {
            control: vec![("control".into(), control.into_bytes())],
            data: Vec::new(),
            pack: Pack::Xz,
            version: "2.0\n".into(),
            more: Vec::new(),
            data_name: None,
        };
        deb.dir("");
        deb
    }

    /// Adds a line to the control stanza.
    pub fn field(&mut self, line: &str) -> &mut Self {
        self.control[0].1.extend_from_slice(format!("{line}\n").as_bytes());
        self
    }

    /// Adds a control file.
    pub fn control(&mut self, name: &str, text: &str) -> &mut Self {
        self.control.push((name.into(), text.into()));
        self
    }

    /// Adds a directory.
    pub fn dir(&mut self, path: &str) -> &mut Self {
        self.entry(&format!("./{path}"), b'5', 0o755, "", &[])
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, text: &str) -> &mut Self {
        self.entry(&format!("./{path}"), b'0', 0o644, "", text.as_bytes())
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(&format!("./{path}"), b'2', 0o777, target, &[])
    }

    /// Adds a hard link.
    pub fn hard(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(&format!("./{path}"), b'1', 0o644, target, &[])
    }

    /// Adds any entry, its name as it is; long names the GNU way.
    pub fn entry(&mut self, name: &str, kind: u8, mode: u32, target: &str, data: &[u8]) -> &mut Self {
        self.raw(name.as_bytes(), kind, mode, target, data)
    }

    /// Adds any entry, even with a name that is no text.
    pub fn raw(&mut self, name: &[u8], kind: u8, mode: u32, target: &str, data: &[u8]) -> &mut Self {
        if name.len() > 100 {
            let long = [name, b"\0"].concat();
            member(&mut self.data, b"././@LongLink", b'L', 0o644, b"", &long);
        }
        if target.len() > 100 {
            let long = [target.as_bytes(), b"\0"].concat();
            member(&mut self.data, b"././@LongLink", b'K', 0o644, b"", &long);
        }
        let cut = |text: &[u8]| text[..text.len().min(100)].to_vec();
        member(&mut self.data, &cut(name), kind, mode, &cut(target.as_bytes()), data);
        self
    }

    /// The package's bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut control = Vec::new();
        member(&mut control, b"./", b'5', 0o755, b"", &[]);
        for (name, bytes) in &self.control {
            member(&mut control, format!("./{name}").as_bytes(), b'0', 0o755, b"", bytes);
        }
        let (suffix, data) = (suffix(self.pack), packed(self.pack, &ended(&self.data)));
        let mut out = b"!<arch>\n".to_vec();
        ar(&mut out, "debian-binary", self.version.as_bytes());
        ar(&mut out, &format!("control.tar{suffix}"), &packed(self.pack, &ended(&control)));
        let name = self.data_name.clone().unwrap_or_else(|| format!("data.tar{suffix}"));
        ar(&mut out, &name, &data);
        for (name, bytes) in &self.more {
            ar(&mut out, name, bytes);
        }
        out
    }
}

/// A package whose one file has `size` zeros, made without ever holding them.
pub fn bomb(name: &str, size: u64) -> Vec<u8> {
    let deb = Deb::new(name, "1", "all");
    let mut data = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_path("./zeros").unwrap();
    header.set_cksum();
    data.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..size >> 20 {
        data.write_all(&zeros).unwrap();
    }
    data.write_all(&[0; 1024]).unwrap();
    let mut out = b"!<arch>\n".to_vec();
    ar(&mut out, "debian-binary", b"2.0\n");
    let mut control = Vec::new();
    member(&mut control, b"./control", b'0', 0o644, b"", &deb.control[0].1);
    ar(&mut out, "control.tar", &ended(&control));
    ar(&mut out, "data.tar.zst", &data.finish().unwrap());
    out
}

fn suffix(pack: Pack) -> &'static str {
    match pack {
        Pack::Plain => "",
        Pack::Gzip => ".gz",
        Pack::Xz => ".xz",
        Pack::Zstd => ".zst",
    }
}

fn packed(pack: Pack, bytes: &[u8]) -> Vec<u8> {
    match pack {
        Pack::Plain => bytes.to_vec(),
        Pack::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Pack::Xz => {
            let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Pack::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

fn ended(tar: &[u8]) -> Vec<u8> {
    [tar, &[0; 1024]].concat()
}

fn ar(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    out.extend_from_slice(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, data.len()).as_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(2), b'\n');
}

fn member(out: &mut Vec<u8>, name: &[u8], kind: u8, mode: u32, target: &[u8], data: &[u8]) {
    let mut header = tar::Header::new_gnu();
    let raw = header.as_old_mut();
    raw.name[..name.len()].copy_from_slice(name);
    raw.linkname[..target.len()].copy_from_slice(target);
    raw.linkflag = [kind];
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(data.len() as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
}
