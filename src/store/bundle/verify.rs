//! Accounts for every byte of a bundle: members against their digests, headers and padding against what the format says, the
//! index against what it was made from.

use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::index::{Index, Member};
use super::plan::index_header;
use super::{Bundle, BundleError, INDEX_PATH};
use crate::base::digest::hash_reader;
use crate::base::report::{Reporter, Task};
use crate::base::tarfmt::{self, BLOCK, END};

/// A member that is not what the index says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damaged {
    /// The member's path; `the end of the archive` for what follows the last one.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

impl Bundle {
    /// Hashes every member with `jobs` threads and checks all bytes between them; when these are as the index says, sees that the
    /// index says what follows from the lock and the profile. Empty when all is well; sorted by place.
    ///
    /// # Errors
    /// When the file can not be read. (Damage is no error here: all of it is listed.)
    pub fn verify(&self, jobs: usize, reporter: &dyn Reporter) -> Result<Vec<Damaged>, BundleError> {
        let members = &self.index().members;
        reporter.phase("verify", Some(self.index().size));
        let task = Task::begin(reporter, &self.path().display().to_string(), Some(self.index().size));
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::new());
        let failed = Mutex::new(None);
        let run = || {
            while let Some((i, member)) = next_of(&next, members) {
                match self.check_member(i) {
                    Ok(None) => {}
                    Ok(Some(why)) => found.lock().unwrap_or_else(PoisonError::into_inner).push((i, why)),
                    Err(e) => *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e),
                }
                task.advance(member.size);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs.clamp(1, 64) {
                scope.spawn(run);
            }
            run();
        });
        if let Some(e) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(e);
        }
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(i, _)| *i);
        let named = |(i, why): (usize, String)| Damaged { path: members[i].path.clone(), why };
        let found: Vec<Damaged> =
            self.check_index()?.into_iter().chain(found.into_iter().map(named)).chain(self.check_end()?).collect();
        // What was made from something damaged says nothing.
        if found.is_empty() { self.underived() } else { Ok(found) }
    }

    /// The headers before member `i`, its data, the padding behind it.
    fn check_member(&self, i: usize) -> Result<Option<String>, BundleError> {
        let members = &self.index().members;
        let member = &members[i];
        let at = match i.checked_sub(1).map(|i| &members[i]) {
            Some(before) => end_of(before),
            None => Index::start(self.index_len()),
        };
        let headers = match tarfmt::headers(&member.path, member.size, self.index().epoch, at) {
            Ok(headers) if at + headers.len() as u64 == member.offset => headers,
            Ok(_) => return Ok(Some("its data does not start where the format puts it".to_owned())),
            Err(e) => return Ok(Some(e.to_string())),
        };
        if !self.holds(at, &headers)? {
            return Ok(Some("its tar header is not what it must be".to_owned()));
        }
        let (digest, _) = hash_reader(self.reader(member)).map_err(|e| BundleError::io(self.path(), "read", e))?;
        if digest != member.digest {
            return Ok(Some(format!("its digest is {digest}, not {}", member.digest)));
        }
        let end = member.offset + member.size;
        let zeros = self.holds(end, &vec![0; (end_of(member) - end) as usize])?;
        Ok((!zeros).then(|| "the padding behind it is not zero".to_owned()))
    }

    /// The index's header, and that its text is the canonical one.
    fn check_index(&self) -> Result<Option<Damaged>, BundleError> {
        let damaged = |why: &str| Some(Damaged { path: INDEX_PATH.to_owned(), why: why.to_owned() });
        match index_header(self.index_len(), self.index().epoch) {
            Ok(header) if self.holds(0, &header)? => {}
            _ => return Ok(damaged("its tar header is not what it must be")),
        }
        let mut text = self.index().to_text();
        let len = self.index_len() as usize;
        if text.len() >= len {
            return Ok(damaged("it is not in canonical form"));
        }
        text.resize(len - 1, b' ');
        text.push(b'\n');
        Ok(if self.holds(BLOCK, &text)? { None } else { damaged("it is not in canonical form") })
    }

    /// Two zero blocks and the end of the file, or signatures, which are not ours to judge here.
    fn check_end(&self) -> Result<Option<Damaged>, BundleError> {
        if self.is_signed() {
            return Ok(None);
        }
        let size = self.index().size;
        let why = match self.file_size() == size {
            true if self.holds(size - END, &[0; END as usize])? => return Ok(None),
            true => "it is not two zero blocks".to_owned(),
            false => format!("{} bytes follow it that are no signature", self.file_size() - size),
        };
        Ok(Some(Damaged { path: "the end of the archive".to_owned(), why }))
    }

    /// Whether exactly these bytes stand at `at`.
    fn holds(&self, at: u64, expected: &[u8]) -> Result<bool, BundleError> {
        let mut found = vec![0; expected.len()];
        match self.file().read_exact_at(&mut found, at) {
            Ok(()) => Ok(found == expected),
            Err(e) => Err(BundleError::io(self.path(), "read", e)),
        }
    }
}

fn next_of<'a>(next: &AtomicUsize, members: &'a [Member]) -> Option<(usize, &'a Member)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    members.get(i).map(|m| (i, m))
}

/// Where the next member's headers start. The index was validated, so this can not overflow.
fn end_of(member: &Member) -> u64 {
    member.offset + member.size.next_multiple_of(BLOCK)
}
