//! Tar archives, member by member: boxes, layers, anything else in that form.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use tar::EntryType;

use crate::base::shown;
use crate::base::untar::{Entry, Untar};

use super::bytes::{Shared, Stream, Window, damaged};
use super::{Walk, What, causes, unpack};

/// Members an archive may have to be looked into.
const MEMBERS: usize = 1_000_000;
/// Sparse members, which take an open file each.
const SPARSE: u32 = 32;
/// Extended attributes in pax headers, as star and GNU tar write them.
const XATTR: &str = "SCHILY.xattr.";

/// What is known of one member.
struct Member {
    kind: &'static str,
    mode: u32,
    owner: (u64, u64),
    mtime: String,
    link: Option<String>,
    device: Option<(u32, u32)>,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// Its content.
    data: Shared,
    /// Where the archive must reach for it to be whole.
    end: u64,
    /// Its place in the archive.
    place: usize,
}

type Members = BTreeMap<Vec<u8>, Member>;

impl Walk<'_> {
    /// Tells how two archives differ; gives how their outsides do when no member differs.
    pub(super) fn archives(&mut self, a: &Shared, b: &Shared) -> io::Result<String> {
        let (first, second) = (members(a, self.scratch)?, members(b, self.scratch)?);
        let before = self.report.mark();
        let paths: BTreeSet<&Vec<u8>> = first.keys().chain(second.keys()).collect();
        for path in paths {
            let name = String::from_utf8_lossy(path);
            match (first.get(path), second.get(path)) {
                (Some(_), None) => self.tell_at(&name, What::OnlyInFirst, causes::of_path(&name)),
                (None, Some(_)) => self.tell_at(&name, What::OnlyInSecond, causes::of_path(&name)),
                (Some(x), Some(y)) => {
                    self.headers(&name, x, y);
                    if x.kind == y.kind {
                        self.below(&name, &x.data, &y.data)?;
                    }
                }
                (None, None) => {}
            }
        }
        if self.report.mark() == before {
            let moved = first.iter().find(|(path, x)| second.get(*path).is_some_and(|y| x.place != y.place));
            if let Some((path, x)) = moved {
                let place = second.get(path).map_or(0, |y| y.place);
                self.property(&String::from_utf8_lossy(path), "place in the archive", x.place + 1, place + 1);
            }
        }
        Ok("headers or padding of the archive differ".to_owned())
    }

    fn headers(&mut self, name: &str, x: &Member, y: &Member) {
        self.property(name, "type", x.kind, y.kind);
        if x.kind != y.kind {
            return;
        }
        self.property(name, "mode", format!("{:04o}", x.mode), format!("{:04o}", y.mode));
        let owner = |m: &Member| format!("{}:{}", m.owner.0, m.owner.1);
        self.property(name, "owner", owner(x), owner(y));
        self.property(name, "mtime", &x.mtime, &y.mtime);
        let link = |m: &Member| m.link.as_ref().map_or("none".to_owned(), |l| format!("`{l}`"));
        self.property(name, "target", link(x), link(y));
        let device = |m: &Member| m.device.map_or("none".to_owned(), |(major, minor)| format!("{major}:{minor}"));
        self.property(name, "device", device(x), device(y));
        self.xattrs(name, &x.xattrs, &y.xattrs);
    }

    /// Tells of extended attributes that differ.
    pub(super) fn xattrs(&mut self, at: &str, x: &BTreeMap<String, Vec<u8>>, y: &BTreeMap<String, Vec<u8>>) {
        let names: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
        for name in names {
            let value = |of: &BTreeMap<String, Vec<u8>>| of.get(name).map_or("none".to_owned(), |v| shown(v));
            self.property(at, &format!("xattr {name}"), value(x), value(y));
        }
    }
}

/// A value as text where it is such, as hex otherwise.
fn shown(value: &[u8]) -> String {
    const MOST: usize = 64;
    let (head, cut) = (value.get(..MOST).unwrap_or(value), if value.len() > MOST { "…" } else { "" });
    match std::str::from_utf8(head) {
        Ok(text) if !text.chars().any(char::is_control) => format!("`{text}{cut}`"),
        _ => format!("{}{cut}", head.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

fn members(of: &Shared, scratch: &Path) -> io::Result<Members> {
    let mut archive = Untar::new(Stream::new(of));
    let (mut found, mut sparse) = (Members::new(), 0);
    for (place, entry) in archive.entries_with_seek()?.enumerate() {
        if place >= MEMBERS {
            return Err(damaged("too many members"));
        }
        let mut entry = entry?;
        let mut path = entry.path_bytes().into_owned();
        while path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let mut member = member(of, &mut entry, place)?;
        if entry.header().entry_type() == EntryType::GNUSparse {
            sparse += 1;
            if sparse > SPARSE {
                return Err(damaged("too many sparse members"));
            }
            member.data = unpack::spooled(&mut entry, scratch)?;
        } else if member.end > of.size() {
            return Err(damaged(format!("`{}` is cut off", shown::bytes(&path))));
        }
        found.insert(path, member);
    }
    Ok(found)
}

fn member(of: &Shared, entry: &mut Entry<'_, Stream>, place: usize) -> io::Result<Member> {
    let link = entry.link_name_bytes().map(|l| String::from_utf8_lossy(&l).into_owned());
    let (mut fields, mut xattrs) = (BTreeMap::new(), BTreeMap::new());
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let key = String::from_utf8_lossy(extension.key_bytes()).into_owned();
            match key.strip_prefix(XATTR) {
                Some(name) => drop(xattrs.insert(name.to_owned(), extension.value_bytes().to_vec())),
                None => drop(fields.insert(key, String::from_utf8_lossy(extension.value_bytes()).into_owned())),
            }
        }
    }
    let header = entry.header();
    let kind = header.entry_type();
    // A field that is no number shows up when the headers are compared byte by byte.
    let number = |key: &str, field: io::Result<u64>| match fields.get(key).and_then(|v| v.parse().ok()) {
        Some(n) => n,
        None => field.unwrap_or(0),
    };
    let device = match kind {
        EntryType::Char | EntryType::Block => {
            header.device_major().ok().flatten().zip(header.device_minor().ok().flatten())
        }
        _ => None,
    };
    let content = matches!(kind, EntryType::Regular | EntryType::Continuous);
    let (start, size) = (entry.raw_file_position(), if content { entry.size() } else { 0 });
    Ok(Member {
        kind: word(kind),
        mode: header.mode().unwrap_or(0),
        owner: (number("uid", header.uid()), number("gid", header.gid())),
        mtime: fields.get("mtime").cloned().unwrap_or_else(|| header.mtime().unwrap_or(0).to_string()),
        link,
        device,
        xattrs,
        data: Window::of(of, start, size),
        end: start.saturating_add(size),
        place,
    })
}

fn word(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => "a file",
        EntryType::Directory => "a directory",
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Char => "a character device",
        EntryType::Block => "a block device",
        EntryType::Fifo => "a pipe",
        _ => "something else",
    }
}
