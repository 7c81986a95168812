//! When to try again: exponential pauses with jitter, and what `Retry-After` asks for (RFC 9110, section 10.2.3).

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use url::Url;

use super::date;
use super::send::Trouble;
use crate::source::{Net, SourceError};

/// Longest pause, whatever a peer asks for.
const LONGEST: Duration = Duration::from_secs(60);

/// Bytes of progress after which a failure counts as the first one again: a bad line then only costs time.
const FORGIVEN: u64 = 1 << 20;

/// Counts the tries of one transfer.
pub struct Tries {
    made: u32,
    pauses: backon::ExponentialBackoff,
}

impl Tries {
    /// None made yet.
    pub fn new(net: &Net) -> Self {
        Self { made: 0, pauses: pauses(net) }
    }

    /// Takes in that a try failed after `progress` bytes; waits, or gives up with the error to report.
    ///
    /// # Errors
    /// When all tries are used up.
    pub async fn failed(&mut self, net: &Net, url: &Url, trouble: Trouble, progress: u64) -> Result<(), SourceError> {
        if progress >= FORGIVEN {
            (self.made, self.pauses) = (0, pauses(net));
        }
        self.made += 1;
        if self.made >= net.options().tries.max(1) {
            return Err(trouble.into_error(url, self.made));
        }
        let own = self.pauses.next().unwrap_or(LONGEST);
        let pause = trouble.after.unwrap_or(own).min(LONGEST);
        net.reporter().warn(&format!(
            "{}: {}; trying again in {:.1} s ({} of {})",
            super::send::shown(url),
            trouble.why,
            pause.as_secs_f32(),
            self.made + 1,
            net.options().tries
        ));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn pauses(net: &Net) -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(net.options().pause)
        .with_max_delay(LONGEST / 3)
        .with_jitter()
        .without_max_times()
        .build()
}

/// How long a response asks us to wait. A date is taken relative to the response's own `Date`, so clocks may differ.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let now = date::seconds(headers.get(DATE)?.to_str().ok()?)?;
    let wait = date::seconds(text)?.saturating_sub(now);
    Some(Duration::from_secs(wait.try_into().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_comes_in_two_forms() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect::<HeaderMap>()
        };
        assert_eq!(retry_after(&headers(&[("retry-after", "7")])), Some(Duration::from_secs(7)));
        let now = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let later = ("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT");
        assert_eq!(retry_after(&headers(&[now, later])), Some(Duration::from_secs(10)));
        let past = ("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT");
        assert_eq!(retry_after(&headers(&[now, past])), Some(Duration::ZERO));
        assert_eq!(retry_after(&headers(&[later])), None);
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
    }
}
