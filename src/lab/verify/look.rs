//! One look at a lab, and looking again until the time is up.

use std::future::Future;
use std::time::{Duration, Instant};

use super::chain::Chain;
use super::report::Open;

/// How long a check is tried where the profile does not say.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// First pause between two looks; it grows by half each time.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// What one look saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// What must be seen.
    Seen(Seen),
    /// Not yet; why, a line each.
    NotYet(Vec<String>),
    /// It can never be seen, however long one waits.
    Never(Vec<String>),
    /// Who answers is not who must answer, or bytes are not what they must be; nothing more is asked there.
    Mismatch(Vec<String>),
    /// Nobody can look from here: this version does not, or what must be known for it is not.
    Unlooked(Vec<String>),
}

/// What a passed check tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// One line.
    pub detail: String,
    /// Pages that show it.
    pub open: Vec<Open>,
}

impl Look {
    /// Seen, with one line on it.
    pub fn seen(detail: impl Into<String>) -> Self {
        Self::Seen(Seen { detail: detail.into(), open: Vec::new() })
    }

    /// Not yet, for one reason.
    pub fn not_yet(why: impl ToString) -> Self {
        Self::NotYet(vec![why.to_string()])
    }

    /// Seen where there is no reason against it.
    pub fn judged(against: Vec<String>, detail: impl FnOnce() -> String) -> Self {
        if against.is_empty() { Self::seen(detail()) } else { Self::NotYet(against) }
    }
}

/// The end of all looking.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What was seen, or the reasons of the last look.
    pub result: Result<Seen, Vec<String>>,
    /// How often it was looked.
    pub attempts: u32,
    /// Where the chain broke; filled in by those who know.
    pub chain: Option<Chain>,
    /// Whether it failed because a key or a digest is not what it must be.
    pub mismatch: bool,
    /// Whether nothing was looked at: the reasons say why not.
    pub unlooked: bool,
}

impl Ended {
    /// After so many looks.
    pub fn new(result: Result<Seen, Vec<String>>, attempts: u32) -> Self {
        Self { result, attempts, chain: None, mismatch: false, unlooked: false }
    }

    /// Without a look.
    pub fn unlooked(why: Vec<String>) -> Self {
        Self { unlooked: true, ..Self::new(Err(why), 0) }
    }
}

/// Looks until something is seen, can never be seen, or the time is up. A look that is under way when the time is up is given
/// up; the first one always gets a second.
pub async fn until<F, L>(timeout: Duration, mut look: L) -> Ended
where
    F: Future<Output = Look>,
    L: FnMut() -> F,
{
    let start = Instant::now();
    let (mut pause, mut attempts, mut last) = (PAUSE, 0, Vec::new());
    loop {
        attempts += 1;
        let left = timeout.saturating_sub(start.elapsed()).max(Duration::from_secs(1));
        match tokio::time::timeout(left, look()).await {
            Ok(Look::Seen(seen)) => return Ended::new(Ok(seen), attempts),
            Ok(Look::Never(why)) => return Ended::new(Err(why), attempts),
            Ok(Look::Mismatch(why)) => return Ended { mismatch: true, ..Ended::new(Err(why), attempts) },
            Ok(Look::Unlooked(why)) => return Ended::unlooked(why),
            Ok(Look::NotYet(why)) => last = why,
            Err(_) if last.is_empty() => last = vec![format!("no answer within {} s", timeout.as_secs())],
            Err(_) => {}
        }
        if start.elapsed() + pause >= timeout {
            return Ended::new(Err(last), attempts);
        }
        tokio::time::sleep(pause).await;
        pause = (pause + pause / 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_looks_again_until_it_sees() {
        let mut count = 0;
        let ended = until(TIMEOUT, || {
            count += 1;
            let look = if count < 3 { Look::not_yet("no") } else { Look::seen("yes") };
            std::future::ready(look)
        })
        .await;
        assert_eq!((ended.attempts, ended.result.unwrap().detail.as_str()), (3, "yes"));
    }

    #[tokio::test]
    async fn the_reasons_of_the_last_look_remain() {
        let ended = until(Duration::from_millis(300), || async { Look::not_yet("empty") }).await;
        assert_eq!(ended.result, Err(vec!["empty".to_owned()]));
        let ended = until(TIMEOUT, || async { Look::Never(vec!["bad".to_owned()]) }).await;
        assert_eq!((ended.attempts, ended.result), (1, Err(vec!["bad".to_owned()])));
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_given_up() {
        let ended = until(Duration::from_millis(100), std::future::pending::<Look>).await;
        assert!(ended.result.unwrap_err()[0].contains("no answer"));
    }
}
