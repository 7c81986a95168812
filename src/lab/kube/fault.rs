//! What the API server's errors mean: whether to try again, and how to say it.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use kube::Error;
use tokio::time::Instant;

/// How long one request may take: longer than the longest timeout a webhook can have (30 s).
const REQUEST: Duration = Duration::from_secs(45);
/// How long "not found" may be an answer that time mends: a namespace or kind that another deploy brings at this moment.
const NOT_YET: Duration = Duration::from_secs(10);
/// First and longest wait between attempts.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// Whether a request may succeed when it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It will not.
    No,
    /// It may within a few seconds, or never.
    Soon,
    /// It may.
    Yes,
}

/// Whether a request that failed so may succeed when it is sent again.
pub fn again(error: &Error) -> Again {
    match error {
        Error::Api(status) => of_status(status.code, &status.reason, &status.message),
        Error::HyperError(_) | Error::ReadEvents(_) => Again::Yes,
        Error::Service(_) => {
            let text = describe(error).to_lowercase();
            // A wrong authority or a certificate that is not valid yet will not mend itself.
            if text.contains("certificate") { Again::No } else { Again::Yes }
        }
        _ => Again::No,
    }
}

fn of_status(code: u16, reason: &str, message: &str) -> Again {
    match code {
        429 | 502..=504 => Again::Yes,
        // Webhooks that do not answer, etcd that changes its leader, an API server that starts.
        500 => Again::Yes,
        409 => Again::Yes,
        // An API server that starts does not know tokens and roles yet; a namespace that goes has to be gone first.
        401 => Again::Soon,
        403 if message.contains("being terminated") || message.contains("not yet ready") => Again::Yes,
        403 if message.contains("error looking up service account") => Again::Yes,
        404 => Again::Soon,
        400 if reason == "Expired" => Again::Yes,
        _ => Again::No,
    }
}

/// The error in one line, with what caused it.
pub fn describe(error: &Error) -> String {
    if let Error::Api(status) = error {
        let text = if status.message.is_empty() { &status.reason } else { &status.message };
        return format!("{} (HTTP {})", text.trim(), status.code);
    }
    match error {
        // Its own text is that of its source.
        Error::Service(_) | Error::HyperError(_) => error.source().map_or_else(|| error.to_string(), chain),
        other => chain(other),
    }
}

/// An error and what caused it, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Sends a request again and again while that may help, until `deadline`.
///
/// # Errors
/// The last answer, in words.
pub async fn patiently<T, F>(deadline: Instant, mut request: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let start = Instant::now();
    let mut wait = WAITS.0;
    loop {
        let error = match tokio::time::timeout(REQUEST, request()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => Error::Service(format!("no answer within {REQUEST:?}").into()),
        };
        let now = Instant::now();
        let hope = match again(&error) {
            Again::No => false,
            Again::Soon => now - start < NOT_YET,
            Again::Yes => true,
        };
        if !hope || now + wait >= deadline {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Error {
        let mut status = kube::core::Status::failure(message, "");
        status.code = code;
        Error::Api(Box::new(status))
    }

    #[test]
    fn what_time_mends_is_tried_again() {
        let webhook = "failed calling webhook \"x.y\": connection refused";
        for (error, want) in [
            (status(500, webhook), Again::Yes),
            (status(503, ""), Again::Yes),
            (status(409, "the object has been modified"), Again::Yes),
            (status(403, "unable to create new content in namespace a because it is being terminated"), Again::Yes),
            (status(404, "namespaces \"a\" not found"), Again::Soon),
            (status(403, "no"), Again::No),
            (status(422, "spec.replicas: Invalid value"), Again::No),
            (Error::Service("connection refused".into()), Again::Yes),
            (Error::Service("invalid peer certificate: UnknownIssuer".into()), Again::No),
        ] {
            assert_eq!(again(&error), want, "{error}");
        }
        assert_eq!(describe(&status(500, webhook)), format!("{webhook} (HTTP 500)"));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_has_an_end() {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(60);
        let failed: Result<(), _> = patiently(deadline, || async { Err(status(503, "")) }).await;
        assert!(failed.is_err());
        assert!((50..=60).contains(&start.elapsed().as_secs()));
        let start = Instant::now();
        let refused: Result<(), _> =
            patiently(start + Duration::from_secs(60), || async { Err(status(422, "")) }).await;
        assert!(refused.is_err());
        assert_eq!(start.elapsed().as_secs(), 0);
    }
}
