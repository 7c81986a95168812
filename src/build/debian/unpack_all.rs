//! Many packages at once, on a few threads.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::unpack::{Unpacked, unpack_into};
use crate::base::report::{Reporter, Task};
use crate::build::BuildError;
use crate::build::spool::Spool;
use crate::model::lock::LockedPackage;
use crate::store::Store;

/// Takes packages of the store apart, the largest first; the results stand in the order of `packages`. Contents go to one
/// spool per thread in `scratch`, so many packages need few open files.
///
/// # Errors
/// The first failure in the order of `packages` among those that happened; packages not begun by then are not begun.
pub fn unpack_all(
    store: &Store,
    packages: &[LockedPackage],
    scratch: &Path,
    threads: usize,
    reporter: &dyn Reporter,
) -> Result<Vec<Unpacked>, BuildError> {
    let mut queue: Vec<(usize, &LockedPackage)> = packages.iter().enumerate().collect();
    queue.sort_by_key(|(at, package)| (std::cmp::Reverse(package.size), *at));
    let task = Task::begin(reporter, "unpack packages", Some(packages.iter().map(|p| p.size).sum()));
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (send, results) = mpsc::channel();
    let work = || {
        let send = send.clone();
        let mut spool = None;
        while !failed.load(Ordering::Relaxed) {
            let Some((at, package)) = queue.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let result = one(store, package, scratch, &mut spool, &task);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            if send.send((*at, result)).is_err() {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, queue.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    drop(send);
    in_order(packages.len(), results)
}

/// One package into this thread's spool, which is made when it is first needed.
fn one(
    store: &Store,
    package: &LockedPackage,
    scratch: &Path,
    spool: &mut Option<Spool>,
    task: &Task<'_>,
) -> Result<Unpacked, BuildError> {
    if spool.is_none() {
        *spool = Some(Spool::new(scratch)?);
    }
    let Some(spool) = spool else { return Err(BuildError::Internal("no spool".into())) };
    let file = store.blob_file(&package.digest)?;
    let mut reader = io::BufReader::with_capacity(128 * 1024, Progress { inner: file, task });
    unpack_into(&mut reader, package, spool)
}

/// Puts results in their order.
fn in_order(
    count: usize,
    results: mpsc::Receiver<(usize, Result<Unpacked, BuildError>)>,
) -> Result<Vec<Unpacked>, BuildError> {
    let mut results: Vec<_> = results.into_iter().collect();
    results.sort_by_key(|(at, _)| *at);
    let done = results.into_iter().map(|(_, result)| result).collect::<Result<Vec<_>, _>>()?;
    if done.len() == count { Ok(done) } else { Err(BuildError::Internal("a package was not unpacked".into())) }
}

/// Tells the task of every read.
struct Progress<'a, R> {
    inner: R,
    task: &'a Task<'a>,
}

impl<R: Read> Read for Progress<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.task.advance(got as u64);
        Ok(got)
    }
}
