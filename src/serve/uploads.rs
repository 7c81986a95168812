//! Uploads under way. One that nobody goes on with is forgotten after an hour, and before that when others want its place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::RETRY_AFTER;

use super::guests::network;
use super::pushed::Pushed;
use super::reply::{Code, Refusal};
use super::upload::Upload;

/// How many uploads there are at a time. They hold no memory to speak of, and no open files.
const AT_A_TIME: usize = 512;
/// How long an upload waits for its next chunk.
const IDLE: Duration = Duration::from_secs(3600);
/// For how long an upload must have waited for its next chunk to be taken for abandoned, where others need its place.
const ABANDONED: Duration = Duration::from_secs(60);

/// All uploads.
pub(super) struct Uploads {
    pushed: Arc<Pushed>,
    open: Mutex<HashMap<String, Waiting>>,
}

struct Waiting {
    upload: Arc<tokio::sync::Mutex<Upload>>,
    network: IpAddr,
    since: Instant,
}

/// An upload that nobody works on at this moment.
struct Resting<'a> {
    id: &'a str,
    network: IpAddr,
    /// Nothing is lost with it: it holds no bytes, or failed.
    empty: bool,
    idle: Duration,
}

impl Uploads {
    pub(super) fn new(pushed: Arc<Pushed>) -> Self {
        Self { pushed, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An upload that has no name yet.
    pub(super) fn fresh(&self) -> Upload {
        Upload::new(self.pushed.clone())
    }

    /// Names an upload, so that later requests can go on with it. Where all places are taken, another one is forgotten.
    ///
    /// # Errors
    /// When all others are at work, or were a moment ago.
    pub(super) fn register(&self, upload: Upload, client: IpAddr) -> Result<String, Refusal> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| Refusal::internal(e.to_string()))?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let network = network(client);
        let mut open = self.open();
        open.retain(|_, waiting| waiting.since.elapsed() < IDLE || waiting.is_used());
        if open.len() >= AT_A_TIME {
            let victim = gives_way(&resting(&open), &shares(&open), network).map(str::to_owned);
            let Some(victim) = victim else {
                let message = format!("there are {AT_A_TIME} uploads already, and somebody works on each");
                let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, Code::Toomanyrequests, message);
                return Err(refusal.with(RETRY_AFTER, ABANDONED.as_secs().to_string()));
            };
            open.remove(&victim);
        }
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        open.insert(id.clone(), Waiting { upload, network, since: Instant::now() });
        Ok(id)
    }

    /// An upload by its name.
    pub(super) fn get(&self, id: &str) -> Result<Arc<tokio::sync::Mutex<Upload>>, Refusal> {
        let mut open = self.open();
        let waiting = open.get_mut(id).ok_or_else(unknown)?;
        waiting.since = Instant::now();
        Ok(waiting.upload.clone())
    }

    /// From now on it waits for its next chunk.
    pub(super) fn rests(&self, id: &str) {
        if let Some(waiting) = self.open().get_mut(id) {
            waiting.since = Instant::now();
        }
    }

    /// Forgets an upload.
    pub(super) fn forget(&self, id: &str) -> Result<(), Refusal> {
        self.open().remove(id).map(drop).ok_or_else(unknown)
    }

    /// Takes so many bytes of what the folder may hold. Where they do not fit, uploads that were abandoned are forgotten: they
    /// hold bytes that nobody will ever ask for.
    ///
    /// # Errors
    /// When they do not fit all the same.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), Refusal> {
        self.pushed.reserve(bytes).or_else(|_| {
            self.forget_abandoned();
            self.pushed.reserve(bytes)
        })
    }

    /// Forgets all uploads that were abandoned.
    pub(super) fn forget_abandoned(&self) {
        self.open().retain(|_, waiting| waiting.since.elapsed() < ABANDONED || waiting.is_used());
    }
}

impl Waiting {
    /// Whether a request is at work on it.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.upload) > 1
    }
}

fn resting(open: &HashMap<String, Waiting>) -> Vec<Resting<'_>> {
    let resting = open.iter().filter(|(_, waiting)| !waiting.is_used()).filter_map(|(id, waiting)| {
        let upload = waiting.upload.try_lock().ok()?;
        let empty = upload.size == 0 || !upload.is_sound();
        Some(Resting { id, network: waiting.network, empty, idle: waiting.since.elapsed() })
    });
    resting.collect()
}

fn shares(open: &HashMap<String, Waiting>) -> HashMap<IpAddr, usize> {
    let mut shares = HashMap::new();
    for waiting in open.values() {
        *shares.entry(waiting.network).or_insert(0) += 1;
    }
    shares
}

/// Which upload is forgotten for a new one of `newcomer`: one with which nothing is lost, else one that was abandoned, else one
/// of another address that has more than half of them all; each time of the address with the most that which rests longest.
fn gives_way<'a>(resting: &[Resting<'a>], shares: &HashMap<IpAddr, usize>, newcomer: IpAddr) -> Option<&'a str> {
    let share = |r: &Resting<'_>| shares.get(&r.network).copied().unwrap_or(0);
    let may = |r: &&Resting<'_>| r.empty || r.idle >= ABANDONED || (r.network != newcomer && share(r) * 2 > AT_A_TIME);
    resting.iter().filter(may).max_by_key(|r| (r.empty, share(r), r.idle)).map(|r| r.id)
}

/// An upload that is not there.
pub(super) fn unknown() -> Refusal {
    let message =
        "there is no such upload: it ended, waited too long for its next chunk, or the server was started anew";
    Refusal::missing(Code::BlobUploadUnknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(id: &str, last: u8, empty: bool, idle: u64) -> Resting<'_> {
        Resting { id, network: address(last), empty, idle: Duration::from_secs(idle) }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn what_is_lost_least_gives_way() {
        let shares = HashMap::from([(address(1), AT_A_TIME - 2), (address(2), 2)]);
        let all = [
            upload("its own, empty", 2, true, 50),
            upload("many, empty, young", 1, true, 1),
            upload("many, empty", 1, true, 9),
            upload("many, with bytes", 1, false, 59),
            upload("many, abandoned", 1, false, 3000),
        ];
        assert_eq!(gives_way(&all, &shares, address(2)), Some("many, empty"));
        assert_eq!(gives_way(&all[3..], &shares, address(2)), Some("many, abandoned"));
        assert_eq!(gives_way(&all[3..4], &shares, address(2)), Some("many, with bytes"), "of who has more than half");
        assert_eq!(gives_way(&all[3..4], &shares, address(1)), None, "but not for himself: that would be a circle");
        let even = HashMap::from([(address(1), AT_A_TIME / 2), (address(2), AT_A_TIME / 2)]);
        assert_eq!(gives_way(&all[3..4], &even, address(2)), None);
    }
}
