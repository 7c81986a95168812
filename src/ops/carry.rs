//! labimg itself as an input: which programs a lock carries, and how they come into the store.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{Read, Seek};
use std::path::Path;

use super::profile::OnDisk;
use super::{Ctx, OpsError};
use crate::base::digest::hash_reader;
use crate::base::exe::{self, Program};
use crate::base::shell;
use crate::model::lock::{Lock, LockedProgram};
use crate::model::platform::Platform;
use crate::store::{Access, Store};

/// Stands in every labimg, so that a program of another architecture, which can not be asked, says its version. Its start
/// up to the colon is what is looked for.
static MARK: &str = concat!("labimg-is-version:", env!("CARGO_PKG_VERSION"), "\n");
/// Longest version in a mark.
const LONGEST: usize = 64;
/// How a static labimg is made.
const MAKE_STATIC: &str = "cargo rustc --release --bin labimg -- -C target-feature=+crt-static";

/// The programs that a lock has after `old`. What is pinned stays, unless `moving` says otherwise or a `--carry` replaces it;
/// a new lock, or a moving one, gets the running program, too, where that is static.
///
/// # Errors
/// A `--carry` that is no static labimg, two versions in one lock, a store that can not be written.
pub(super) fn pin(ctx: &Ctx, old: Option<&Lock>, moving: bool) -> Result<Vec<LockedProgram>, OpsError> {
    let pinned = old.map(|lock| lock.carried.clone()).unwrap_or_default();
    let mut found: BTreeMap<Platform, Found> = BTreeMap::new();
    for path in &ctx.means.carry {
        let carried = look(path).map_err(|why| refused(path, &why))?;
        // The strongest setting comes first.
        found.entry(carried.program.platform).or_insert(carried);
    }
    if old.is_none() || moving {
        match look(&ctx.means.program) {
            Ok(own) => drop(found.entry(own.program.platform).or_insert(own)),
            Err(why) if found.is_empty() => ctx.reporter.note(&match pinned.is_empty() {
                true => format!("labimg itself is not carried: this program {why} (static ones: {MAKE_STATIC})"),
                false => format!("labimg itself does not move: this program {why}"),
            }),
            Err(_) => {}
        }
    }
    if found.is_empty() {
        return Ok(pinned);
    }
    let version = one_version(&found)?;
    let store = ctx.open_store(Access::Shared)?;
    for Found { program, path } in found.values() {
        let file = fs_err::File::open(path)?;
        store.put_reader(file, Some(&program.digest), &path.display().to_string())?;
    }
    let mut all: BTreeMap<Platform, LockedProgram> = BTreeMap::new();
    for old in pinned {
        match old.version == version {
            true => drop(all.insert(old.platform, old)),
            false if found.contains_key(&old.platform) => {}
            false => ctx.reporter.note(&format!(
                "labimg {} for {} is no longer carried, the lock moves to {version}: give that one by --carry FILE",
                old.version, old.platform
            )),
        }
    }
    all.extend(found.into_iter().map(|(platform, found)| (platform, found.program)));
    Ok(all.into_values().collect())
}

/// Brings the programs that `lock` carries and `store` lacks: the running one, or one of `--carry`.
///
/// # Errors
/// A program that neither of them is; files that can not be read.
pub(super) fn put(ctx: &Ctx, store: &Store, disk: &OnDisk, lock: &Lock) -> Result<(), OpsError> {
    let lacking = lock.carried.iter().filter(|p| !store.has(&p.digest, p.size));
    for program in lacking {
        let candidates = std::iter::once(&ctx.means.program).chain(&ctx.means.carry);
        let mut same = candidates.filter(|path| is(path, program));
        let Some(path) = same.next() else { return Err(absent(disk, program)) };
        store.put_reader(fs_err::File::open(path)?, Some(&program.digest), &path.display().to_string())?;
    }
    Ok(())
}

/// Whether the file at `path` is this program; one that can not be read is not.
fn is(path: &Path, program: &LockedProgram) -> bool {
    let same_size = fs_err::metadata(path).is_ok_and(|m| m.is_file() && m.len() == program.size);
    same_size && fs_err::File::open(path).and_then(hash_reader).is_ok_and(|(digest, _)| digest == program.digest)
}

fn absent(disk: &OnDisk, program: &LockedProgram) -> OpsError {
    OpsError::hinted(
        format!(
            "the lock carries labimg {} for {} ({}), which is neither in the store nor the program that runs",
            program.version, program.platform, program.digest
        ),
        format!(
            "give that very file: --carry FILE; or carry this program instead: labimg lock {} --update labimg",
            shell::word(&disk.path)
        ),
    )
}

fn refused(path: &Path, why: &str) -> OpsError {
    OpsError::hinted(format!("`{}` can not be carried: it {why}", path.display()), format!("make one: {MAKE_STATIC}"))
}

/// A program that may be carried.
struct Found {
    program: LockedProgram,
    path: std::path::PathBuf,
}

/// The only version of them all.
fn one_version(found: &BTreeMap<Platform, Found>) -> Result<String, OpsError> {
    let mut all = found.values();
    let Some(first) = all.next() else { return Ok(String::new()) };
    match all.find(|f| f.program.version != first.program.version) {
        None => Ok(first.program.version.clone()),
        Some(other) => Err(OpsError::hinted(
            format!(
                "`{}` is labimg {}, `{}` is {}: one lock carries one version",
                first.path.display(),
                first.program.version,
                other.path.display(),
                other.program.version
            ),
            "build them from one commit",
        )),
    }
}

/// What the file at `path` is; or, as the end of a sentence, why it can not be carried.
fn look(path: &Path) -> Result<Found, String> {
    let failed = |e: std::io::Error| format!("can not be read: {e}");
    if !fs_err::metadata(path).map_err(failed)?.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut file = fs_err::File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    file.by_ref().take(exe::HEAD as u64).read_to_end(&mut head).map_err(failed)?;
    let platform = platform(&head)?;
    if !exe::is_static_elf(&head) {
        return Err("is not static".to_owned());
    }
    file.rewind().map_err(failed)?;
    let mut reader = Marked { from: file, end: Vec::new(), version: None };
    let (digest, size) = hash_reader(&mut reader).map_err(failed)?;
    let version = reader.version.ok_or("is no labimg that says its version")?;
    Ok(Found { program: LockedProgram { platform, version, digest, size }, path: path.to_owned() })
}

fn platform(head: &[u8]) -> Result<Platform, String> {
    let program = exe::identify(head);
    if let Program::Binary { os: "linux", archs } = &program {
        let known = archs.iter().find_map(|arch| format!("linux/{arch}").parse::<Platform>().ok());
        if let Some(platform @ (Platform::LinuxAmd64 | Platform::LinuxArm64)) = known {
            return Ok(platform);
        }
    }
    Err(format!("is {program}, not a program for linux/amd64 or linux/arm64"))
}

/// Looks for a mark in what passes.
struct Marked<R> {
    from: R,
    /// The end of what has passed, as long as a mark may be.
    end: Vec<u8>,
    version: Option<String>,
}

impl<R: Read> Read for Marked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buffer)?;
        if self.version.is_none() {
            self.end.extend_from_slice(buffer.get(..n).unwrap_or_default());
            self.version = version_in(&self.end);
            let keep = self.end.len().saturating_sub(LONGEST + MARK.len());
            self.end.drain(..keep);
        }
        Ok(n)
    }
}

/// The version that a whole mark in `bytes` says.
fn version_in(bytes: &[u8]) -> Option<String> {
    let (start, _) = black_box(MARK).split_once(':')?;
    let found = memchr::memmem::find_iter(bytes, start.as_bytes());
    let mut versions = found.filter_map(|at| {
        let rest = bytes.get(at + start.len()..)?.strip_prefix(b":")?;
        let end = rest.iter().take(LONGEST).position(|b| *b == b'\n')?;
        let text = std::str::from_utf8(rest.get(..end)?).ok()?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        (text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(plain)).then(|| text.to_owned())
    });
    versions.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;

    #[test]
    fn a_mark_is_found_wherever_reads_part_it() {
        let text = [&b"..labimg-is-version:\n.."[..], MARK.as_bytes(), b"rest"].concat();
        for step in 1..text.len() {
            let parts = text.chunks(step).map(|c| Box::new(c) as Box<dyn Read>);
            let from = parts.fold(Box::new(std::io::empty()) as Box<dyn Read>, |a, b| Box::new(a.chain(b)));
            let mut marked = Marked { from, end: Vec::new(), version: None };
            let (digest, _) = hash_reader(&mut marked).unwrap();
            assert_eq!(marked.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
            assert_eq!(digest, Digest::of(&text));
        }
        assert_eq!(version_in(b"labimg-is-version:../../x\n"), None);
    }
}
