//! The control member of a `.deb` (deb(5), deb-control(5)): the stanza, and the other small files that dpkg keeps.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::stanza::Stanza;
use crate::base::shown;
use crate::base::untar::Untar;
use crate::model::lock::LockedPackage;

/// The largest control archive, decompressed. The largest known (kernels' and TeX's md5sums) have 3 MiB.
const MAX_TOTAL: u64 = 32 << 20;
/// The most files in it.
const MAX_FILES: usize = 256;

/// What a package says of itself.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// Its stanza.
    pub stanza: Stanza,
    /// The other control files by name: `md5sums`, `conffiles`, scripts, `triggers`, …
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Control {
    /// Reads the decompressed control archive.
    ///
    /// # Errors
    /// What is no control archive, told for people; I/O errors of the reader.
    pub fn read(reader: impl Read) -> io::Result<Self> {
        let mut archive = Untar::new(reader.take(MAX_TOTAL));
        let mut control = Self::default();
        let mut text = None;
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = file_name(&entry.path_bytes())?;
            let kind = entry.header().entry_type();
            if kind.is_dir() && name.is_empty() {
                continue;
            }
            if !kind.is_file() || control.files.len() >= MAX_FILES || entry.size() > MAX_TOTAL {
                return Err(bad(format!(
                    "its control archive has `{}`, which is no small file, or too many files",
                    shown::name(&name)
                )));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if bytes.len() as u64 != entry.size() {
                return Err(bad(format!("its control archive has more than {} MiB or is cut off", MAX_TOTAL >> 20)));
            }
            match name.as_str() {
                "control" => text = Some(bytes),
                _ => drop(control.files.insert(name, bytes)),
            }
        }
        let text = text.ok_or_else(|| bad("its control archive has no file `control`".into()))?;
        let text = String::from_utf8(text).map_err(|_| bad("its control file is not UTF-8".into()))?;
        control.stanza = Stanza::parse(&text).map_err(bad)?;
        Ok(control)
    }

    /// A control file as text, anything that is not UTF-8 replaced; empty when it is not there.
    pub fn text(&self, name: &str) -> String {
        self.files.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it is the package that the lock names.
    ///
    /// # Errors
    /// The first difference, told for people.
    pub fn check(&self, expect: &LockedPackage) -> Result<(), String> {
        let wanted = [("Package", &expect.name), ("Version", &expect.version), ("Architecture", &expect.architecture)];
        for (field, want) in wanted {
            let has = self.stanza.text(field);
            if has != want {
                return Err(format!("it has `{field}: {has}`, the lock says `{want}`"));
            }
        }
        Ok(())
    }

    /// Paths of its conffiles, without leading `/`; those it asks dpkg to remove (deb-conffiles(5)) left out.
    pub fn conffiles(&self) -> Vec<String> {
        let text = self.text("conffiles");
        let paths = text.lines().map(str::trim).filter(|l| l.starts_with('/'));
        paths.map(|l| l.trim_start_matches('/').to_owned()).collect()
    }
}

fn bad(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The plain name of a control file; empty for the archive's root.
fn file_name(path: &[u8]) -> io::Result<String> {
    let text = std::str::from_utf8(path).map_err(|_| bad("a control file's name is not UTF-8".into()))?;
    let name = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
    let name = if name == "." { "" } else { name };
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b)) && !name.starts_with('.');
    if plain {
        Ok(name.to_owned())
    } else {
        Err(bad(format!("its control archive has a file called `{}`", shown::name(text))))
    }
}
