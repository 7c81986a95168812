//! Reading archives from the network with suspicion: every stream is capped, every name is only compared, nothing is
//! unpacked to a path of the archive's choosing.

use std::io::{self, Read};
use std::path::Component;

use crate::base::codec::{self, Capped};
use crate::base::digest::Digest;
use crate::base::untar::{Entry, Untar};
use crate::base::{bounds, shown};
use crate::source::SourceError;
use crate::store::{BlobSource, Store};

/// The most bytes an archive may unpack to while we look for a member.
const UNPACKED_LIMIT: u64 = 4 << 30;

/// How many names an error lists.
const SIMILAR: usize = 10;

/// The path of a tar entry without `./`, as text; `None` where it is absolute, climbs, or is no UTF-8: it then is nobody's.
pub fn entry_name(path: &std::path::Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/")).filter(|name| !name.is_empty())
}

/// Puts the archive's member `wanted` into the store; gives its digest and size. tar, plain or with gzip, xz or zstd.
///
/// # Errors
/// No such member (similar names are listed), a link, a damaged or monstrous archive, or one of another kind.
pub fn extract_member(store: &Store, archive: &Digest, what: &str, wanted: &str) -> Result<(Digest, u64), SourceError> {
    let bad = |why: String| SourceError::Archive { what: what.to_owned(), why };
    let damaged = |e: io::Error| bad(format!("damaged archive: {e}"));
    no_zip(store, archive, what)?;
    let name = entry_name(wanted.as_ref()).ok_or_else(|| bad(format!("`{wanted}` is no path inside an archive")))?;
    let stream = codec::decoder(store.open_blob(archive)?).map_err(damaged)?;
    let mut tar = Untar::new(Capped::new(stream, UNPACKED_LIMIT));
    let mut near = Similar::new(&name);
    for entry in tar.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let Some(found) = entry.path().ok().and_then(|path| entry_name(&path)) else { continue };
        if found != name {
            near.take(found, entry.header().entry_type().is_file());
            continue;
        }
        if !entry.header().entry_type().is_file() {
            let target = entry.link_name_bytes().map(|t| format!(" to `{}`", shown::bytes(&t)));
            return Err(bad(format!("`{wanted}` is no regular file but a {}", kind(&entry, target))));
        }
        return Ok(store.put_reader(entry, None, what)?);
    }
    Err(bad(near.error(wanted)))
}

fn kind<R: Read>(entry: &Entry<'_, R>, target: Option<String>) -> String {
    let kind = entry.header().entry_type();
    let name = if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() || kind.is_hard_link() {
        "link"
    } else {
        "special file"
    };
    format!("{name}{}", target.unwrap_or_default())
}

fn no_zip(store: &Store, archive: &Digest, what: &str) -> Result<(), SourceError> {
    let mut head = Vec::new();
    let failed = |e| SourceError::Archive { what: what.to_owned(), why: format!("can not be read: {e}") };
    store.open_blob(archive)?.take(4).read_to_end(&mut head).map_err(failed)?;
    match head.as_slice() {
        b"PK\x03\x04" | b"PK\x05\x06" => Err(SourceError::Unsupported {
            what: format!("zip archive `{what}`"),
            why: "its index stands at its end, so it can not be read as a stream; take a tar.gz if there is one"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The names most like the one that was not found.
struct Similar<'a> {
    wanted: &'a str,
    best: Vec<(f64, String)>,
    seen: usize,
}

impl<'a> Similar<'a> {
    fn new(wanted: &'a str) -> Self {
        Self { wanted, best: Vec::new(), seen: 0 }
    }

    fn take(&mut self, name: String, file: bool) {
        if !file {
            return;
        }
        self.seen += 1;
        if name.len() > bounds::LIKE_CHARS {
            return;
        }
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let same_file = if last(&name) == last(self.wanted) { 1.0 } else { 0.0 };
        self.best.push((same_file + shown::alike(&name, self.wanted), name));
        self.best.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        self.best.truncate(SIMILAR);
    }

    fn error(self, wanted: &str) -> String {
        if self.seen == 0 {
            return format!("no member `{wanted}`: it is no tar archive, or an empty one");
        }
        let names: Vec<String> = self.best.iter().map(|(_, name)| format!("`{}`", shown::name(name))).collect();
        if names.is_empty() {
            return format!("no member `{wanted}`; it holds {} files with names too long to show", self.seen);
        }
        let more = if self.seen > names.len() { format!(" ({} files in all)", self.seen) } else { String::new() };
        format!("no member `{wanted}`; it holds {}{more}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;

    fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o755);
            // Written by hand: the tar crate refuses to write names that climb.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn extract(bytes: &[u8], member: &str) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let archive = store.put(bytes).unwrap();
        let (digest, size) = extract_member(&store, &archive, "x.tar", member).map_err(|e| e.to_string())?;
        let found = store.read_blob(&digest, size).unwrap();
        assert_eq!(found.len() as u64, size);
        Ok(found)
    }

    #[test]
    fn a_member_is_found_with_or_without_a_dot() {
        let tar = tar_of(&[("./linux-amd64/README", b"r"), ("./linux-amd64/helm", b"binary")]);
        assert_eq!(extract(&tar, "linux-amd64/helm").unwrap(), b"binary");
        let zstd = zstd::encode_all(&tar[..], 1).unwrap();
        assert_eq!(extract(&zstd, "./linux-amd64/helm").unwrap(), b"binary");
    }

    #[test]
    fn a_missing_member_lists_what_is_like_it() {
        let tar = tar_of(&[("linux-arm64/helm", b"x"), ("LICENSE", b"y")]);
        let error = extract(&tar, "linux-amd64/helm").unwrap_err();
        assert!(error.contains("it holds `linux-arm64/helm`, `LICENSE`"), "{error}");
    }

    #[test]
    fn long_and_odd_names_are_not_repeated() {
        let long = format!("{}/tool", "d".repeat(60_000));
        let mut builder = tar::Builder::new(Vec::new());
        for name in [&long, "a\u{202e}b\u{1b}[2J"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            builder.append_data(&mut header, name, &[][..]).unwrap();
        }
        let error = extract(&builder.into_inner().unwrap(), "tool").unwrap_err();
        assert!(error.contains("it holds `a\\u{202e}b\\u{1b}[2J` (2 files in all)"), "{error}");
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, &long, &[][..]).unwrap();
        let error = extract(&builder.into_inner().unwrap(), "tool").unwrap_err();
        assert!(error.len() < 200 && error.contains("1 files with names too long"), "{error}");
    }

    #[test]
    fn climbing_names_are_nobodys() {
        let tar = tar_of(&[("../helm", b"x"), ("/helm", b"y"), ("a/../helm", b"z")]);
        for member in ["helm", "../helm", "/helm", "a/../helm"] {
            assert!(extract(&tar, member).is_err(), "{member}");
        }
    }

    #[test]
    fn what_is_no_tar_says_so() {
        assert!(extract(b"PK\x03\x04rest", "x").unwrap_err().contains("zip"));
        assert!(extract(&[7; 2000], "x").is_err());
        assert!(extract(&tar_of(&[("a", b"x")])[..700], "b").is_err());
    }
}
