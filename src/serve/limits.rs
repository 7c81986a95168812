//! How much of everything there is at a time. Files are what runs out first: a connection has its socket, and one file that it
//! reads or writes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many connections are served at a time, where the process may open enough files.
const CONNECTIONS: usize = 512;
/// How many more are accepted, and wait for a place.
pub(super) const WAITING: usize = 64;
/// Files of a connection: its socket, the blob it is sent or sends, and a folder while that is written down.
const FILES_EACH: u64 = 3;
/// Files for everything else: the sources, standard streams, the runtime's own.
const FILES_BESIDE: u64 = 128;

/// The limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// How many connections are served at a time.
    pub(super) connections: usize,
}

impl Limits {
    /// What the process may: its own limit of open files is raised first, as far as it has to be and may be.
    pub(super) fn of_process() -> Self {
        let wanted = FILES_BESIDE + WAITING as u64 + FILES_EACH * CONNECTIONS as u64;
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let Some(now) = current.filter(|now| *now < wanted) else { return Self::with_files(u64::MAX) };
        let more = maximum.map_or(wanted, |maximum| maximum.min(wanted));
        match setrlimit(Resource::Nofile, Rlimit { current: Some(more), maximum }) {
            Ok(()) => Self::with_files(more),
            Err(_) => Self::with_files(now),
        }
    }

    /// What so many open files are enough for; a handful of connections in any case.
    fn with_files(files: u64) -> Self {
        let each = files.saturating_sub(FILES_BESIDE + WAITING as u64) / FILES_EACH;
        Self { connections: usize::try_from(each).unwrap_or(CONNECTIONS).clamp(8, CONNECTIONS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_what_the_process_may_open() {
        for (files, connections) in [(u64::MAX, 512), (1728, 512), (1727, 511), (1024, 277), (256, 21), (64, 8)] {
            assert_eq!(Limits::with_files(files), Limits { connections }, "{files}");
        }
    }
}
