//! `/etc/ld.so.cache` written by our own code, for amd64 and arm64 alike: format `glibc-ld.so.cache1.1` (glibc,
//! sysdeps/generic/dl-cache.h), without the optional extensions; directories as ldconfig(8) searches them. Variants for newer
//! processors (`glibc-hwcaps`) are not listed: the loader then takes the libraries every processor runs.

use std::cmp::Ordering;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::read::{ReadCache, ReadRef};

use super::inside;
use crate::build::tree::{Content, Kind, Source, Tree};

/// First bytes: magic and version.
const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
/// Length of the header, and of an entry.
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// `cache_file_new_flags_endian_little` (dl-cache.h).
const LITTLE: u8 = 2;
/// Directories searched after those that are configured.
const SYSTEM: [&str; 2] = ["/lib", "/usr/lib"];
/// How deep `include` lines may go.
const MAX_INCLUDES: usize = 8;

/// A library in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// What programs ask for.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Its kind (`FLAG_*`, glibc's dl-cache.h).
    pub flags: u32,
}

/// The cache for a tree; `None` where nothing in it is a shared library.
pub fn cache(tree: &Tree) -> Option<Vec<u8>> {
    let libraries = libraries(tree);
    (!libraries.is_empty()).then(|| encode(&libraries))
}

/// Every library the loader finds by name, in the cache's order.
pub fn libraries(tree: &Tree) -> Vec<Library> {
    let mut dirs = Vec::new();
    configured(tree, "/etc/ld.so.conf", 0, &mut dirs);
    dirs.extend(SYSTEM.map(str::to_owned));
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for dir in dirs {
        let Some(place) = inside::place(tree, &dir, true).filter(|p| !seen.contains(p)) else { continue };
        seen.push(place);
        directory(tree, &dir, &mut found);
    }
    // Stable: of libraries with one name, those of the directory searched first come first.
    found.sort_by(|a, b| compare(&b.name, &a.name).then(b.flags.cmp(&a.flags)));
    found
}

/// Directories that a configuration file and those it includes name (ldconfig(8), "FILES").
fn configured(tree: &Tree, path: &str, depth: usize, dirs: &mut Vec<String>) {
    let Some(text) = inside::text(tree, path).filter(|_| depth < MAX_INCLUDES) else { return };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include").filter(|r| r.starts_with([' ', '\t'])) {
            for file in matching(tree, pattern.trim(), path) {
                configured(tree, &file, depth + 1, dirs);
            }
        } else if line.starts_with('/') {
            dirs.push(line.trim_end_matches('/').to_owned());
        }
    }
}

/// Files that an `include` names: one `*` in the last part.
fn matching(tree: &Tree, pattern: &str, from: &str) -> Vec<String> {
    let base = from.rsplit_once('/').map_or("", |(dir, _)| dir);
    let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { format!("{base}/{pattern}") };
    let Some((dir, name)) = pattern.rsplit_once('/') else { return Vec::new() };
    let Some((start, end)) = name.split_once('*') else { return vec![pattern] };
    let fits = |n: &String| n.len() >= start.len() + end.len() && n.starts_with(start) && n.ends_with(end);
    inside::list(tree, dir).into_iter().filter(fits).map(|n| format!("{dir}/{n}")).collect()
}

/// Libraries of one directory, each name once.
fn directory(tree: &Tree, dir: &str, found: &mut Vec<Library>) {
    let first = found.len();
    for name in inside::list(tree, dir) {
        if !(name.starts_with("lib") || name.starts_with("ld-")) || !name.contains(".so") {
            continue;
        }
        let path = format!("{dir}/{name}");
        let is_link = inside::place(tree, &path, false)
            .and_then(|p| tree.get(&p))
            .is_some_and(|e| matches!(e.kind, Kind::Symlink(_)));
        let Some(Kind::File(content)) = inside::entry(tree, &path).map(|e| &e.kind) else { continue };
        let Some((flags, soname)) = identify(content) else { continue };
        // Links for the linker (`libz.so`) are listed under their own name.
        let own = is_link && name.ends_with(".so");
        let key = if own { name.clone() } else { soname.unwrap_or_else(|| name.clone()) };
        if found.iter().skip(first).any(|l| l.name == key && l.flags == flags) {
            continue;
        }
        let by_name = format!("{dir}/{key}");
        let path = if inside::entry(tree, &by_name).is_some() { by_name } else { path };
        found.push(Library { name: key, path, flags });
    }
}

/// Kind and soname of a shared library; `None` for anything else.
fn identify(content: &Content) -> Option<(u32, Option<String>)> {
    let mut head = [0; 20];
    content.open().ok()?.read_exact(&mut head).ok()?;
    if &head[..4] != b"\x7fELF" {
        return None;
    }
    let cache = ReadCache::new(Random { content, at: 0, file: open(content).ok()? });
    match elf::FileClass(head[4]) {
        elf::ELFCLASS64 => shared::<FileHeader64<Endianness>, _>(&cache),
        elf::ELFCLASS32 => shared::<FileHeader32<Endianness>, _>(&cache),
        _ => None,
    }
}

fn shared<'d, E, R>(data: R) -> Option<(u32, Option<String>)>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'d>,
{
    let header = E::parse(data).ok()?;
    let endian = header.endian().ok()?;
    if header.e_type(endian) != elf::ET_DYN {
        return None;
    }
    let flags = match (header.e_machine(endian), header.is_type_64()) {
        (elf::EM_X86_64, true) => 0x0303,
        (elf::EM_AARCH64, true) => 0x0a03,
        (elf::EM_386, false) => 0x0003,
        _ => return None,
    };
    let segments = header.program_headers(endian, data).ok()?;
    let dynamic = segments.iter().find_map(|s| s.dynamic(endian, data).ok().flatten())?;
    let value = |tag: elf::DynamicTag| {
        let entry = dynamic.iter().find(|d| d.tag(endian) == tag)?;
        Some(entry.val(endian))
    };
    let table = || -> Option<u64> {
        let address: u64 = value(elf::DT_STRTAB)?;
        segments.iter().find_map(|s| {
            let (start, size): (u64, u64) = (s.p_vaddr(endian).into(), s.p_filesz(endian).into());
            let inside = s.p_type(endian) == elf::PT_LOAD && address >= start && address - start < size;
            let offset: u64 = s.p_offset(endian).into();
            inside.then(|| offset.checked_add(address - start)).flatten()
        })
    };
    let soname = || -> Option<String> {
        let start = table()?.checked_add(value(elf::DT_SONAME)?)?;
        let bytes = data.read_bytes_at_until(start..start.checked_add(256)?, 0).ok()?;
        std::str::from_utf8(bytes).ok().filter(|s| !s.is_empty() && !s.contains('/')).map(str::to_owned)
    };
    Some((flags, soname()))
}

/// The file behind contents that are in none yet opened.
fn open(content: &Content) -> io::Result<Option<std::fs::File>> {
    match &content.source {
        Source::Path(path) => Ok(Some(fs_err::File::open(path.as_ref())?.into_parts().0)),
        _ => Ok(None),
    }
}

/// Contents read from any place.
struct Random<'a> {
    content: &'a Content,
    at: u64,
    file: Option<std::fs::File>,
}

impl Read for Random<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.content.size.saturating_sub(self.at);
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = buffer.get_mut(..want).unwrap_or_default();
        let got = match &self.content.source {
            Source::Bytes(bytes) => {
                let mut rest: &[u8] = bytes.get(self.at as usize..).unwrap_or_default();
                Read::read(&mut rest, buffer)?
            }
            Source::Spool(file, offset) => file.read_at(buffer, offset + self.at)?,
            Source::Path(_) => self.file.as_ref().map_or(Ok(0), |f| f.read_at(buffer, self.at))?,
        };
        self.at += got as u64;
        Ok(got)
    }
}

impl Seek for Random<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.content.size.checked_add_signed(n),
            SeekFrom::Current(n) => self.at.checked_add_signed(n),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// The loader's order of names (glibc, `_dl_cache_libcmp`): digits by their number, and after everything else.
fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let order = number(&mut a).cmp(&number(&mut b));
                if order.is_ne() {
                    return order;
                }
            }
            (Some(x), _) if x.is_ascii_digit() => return Ordering::Greater,
            (_, Some(y)) if y.is_ascii_digit() => return Ordering::Less,
            (Some(x), y) if Some(x) != y => return Some(x).cmp(&y),
            _ => (a, b) = (&a[1..], &b[1..]),
        }
    }
}

fn number(text: &mut &[u8]) -> u64 {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits.iter().fold(0u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')))
}

/// The file: header, entries, strings. Offsets count from its start.
fn encode(libraries: &[Library]) -> Vec<u8> {
    let start = HEADER + ENTRY * libraries.len();
    let mut strings = Vec::new();
    let mut put = |text: &str| {
        let at = (start + strings.len()) as u32;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let mut entries = Vec::with_capacity(ENTRY * libraries.len());
    for library in libraries {
        for word in [library.flags, put(&library.name), put(&library.path), 0, 0, 0] {
            entries.extend_from_slice(&word.to_le_bytes());
        }
    }
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(libraries.len() as u32).to_le_bytes());
    out.extend_from_slice(&(strings.len() as u32).to_le_bytes());
    out.push(LITTLE);
    out.resize(HEADER, 0);
    [out, entries, strings].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_the_loader_searches_them() {
        let sorted = ["", "ld-linux.so.2", "liba.so", "liba.so.2", "liba.so.10", "libb.so.1", "lib2.so"];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn an_empty_tree_has_no_cache() {
        assert_eq!(cache(&Tree::default()), None);
    }
}
